//! Numbers as C prints them: `%g`, and iperf3's adaptive units.

/// `%.{precision}g` of C (C11, 7.21.6.1).
pub fn general(value: f64, precision: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let precision = precision.max(1);
    let scientific = format!("{:.*e}", precision - 1, value);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let strip = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", strip(digits), exponent.abs());
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    strip(&format!("{value:.decimals$}"))
}

/// The units that `-f` names; the default adapts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateUnit {
    /// Bits a second in the unit that fits, in powers of 1000.
    #[default]
    Adaptive,
    /// 10^(3n) bits a second.
    Bits(u8),
    /// 2^(10n) bytes a second.
    Bytes(u8),
}

impl RateUnit {
    /// The unit of a format letter: one of `kmgtKMGT`.
    pub const fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'k' => Self::Bits(1),
            'm' => Self::Bits(2),
            'g' => Self::Bits(3),
            't' => Self::Bits(4),
            'K' => Self::Bytes(1),
            'M' => Self::Bytes(2),
            'G' => Self::Bytes(3),
            'T' => Self::Bytes(4),
            _ => return None,
        })
    }
}

const PREFIXES: [&str; 5] = ["", "K", "M", "G", "T"];

fn adapt(mut value: f64, base: f64) -> (f64, &'static str) {
    let mut prefix = 0;
    while value >= base && prefix + 1 < PREFIXES.len() {
        value /= base;
        prefix += 1;
    }
    (value, PREFIXES[prefix])
}

/// Three significant digits, at least four columns.
fn digits(value: f64) -> String {
    // A peer may have told a time next to nothing, and a rate without end.
    let value = if value.is_finite() { value } else { 0.0 };
    if value < 9.995 {
        format!("{value:4.2}")
    } else if value < 99.95 {
        format!("{value:4.1}")
    } else {
        format!("{value:4.0}")
    }
}

/// An amount in the unit that fits, in powers of 1024, without the plural's s: `6.00 MByte`.
pub fn amount(bytes: f64) -> String {
    let (value, prefix) = adapt(bytes, 1024.0);
    format!("{} {prefix}Byte", digits(value))
}

/// A rate without the plural's s and the time: `50.3 Mbit`.
pub fn rate(bytes_per_second: f64, unit: RateUnit) -> String {
    match unit {
        RateUnit::Adaptive => {
            let (value, prefix) = adapt(bytes_per_second * 8.0, 1000.0);
            format!("{} {prefix}bit", digits(value))
        }
        RateUnit::Bits(power) => {
            let value = bytes_per_second * 8.0 / 1000_f64.powi(power.into());
            format!("{} {}bit", digits(value), PREFIXES[usize::from(power.min(4))])
        }
        RateUnit::Bytes(power) => {
            let value = bytes_per_second / 1024_f64.powi(power.into());
            format!("{} {}Byte", digits(value), PREFIXES[usize::from(power.min(4))])
        }
    }
}
