//! Numbers as iperf3 reads them from its command line.

/// The beginning of a text that C's `strtod` would read, and the rest; `None` where there is no number.
fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start();
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let sign = (c == '-' || c == '+') && (at == 0 || text[..at].ends_with(['e', 'E']));
        if c.is_ascii_digit() || c == '.' || sign || (c == 'e' || c == 'E') && at > 0 {
            if text[..=at].parse::<f64>().is_ok() {
                end = at + 1;
            }
        } else {
            break;
        }
    }
    let value = text.get(..end)?.parse().ok()?;
    Some((value, &text[end..]))
}

/// A number with a suffix of powers of `base` (`KMGT`, either case). `None` where it is no number, or the suffix is
/// none of these.
pub(super) fn with_suffix(text: &str, base: f64) -> Option<f64> {
    let (value, rest) = number(text)?;
    let power = match rest.chars().next() {
        None => 0,
        Some('k' | 'K') => 1,
        Some('m' | 'M') => 2,
        Some('g' | 'G') => 3,
        Some('t' | 'T') => 4,
        Some(_) => return None,
    };
    Some(value * base.powi(power))
}

/// A size or count: powers of 1024.
pub(super) fn size(text: &str) -> Option<i64> {
    with_suffix(text, 1024.0).map(|value| value as i64)
}

/// A rate: powers of 1000.
pub(super) fn rate(text: &str) -> Option<i64> {
    with_suffix(text, 1000.0).map(|value| value as i64)
}

/// As C's `atoi`: the integer that a text begins with, 0 where there is none. `600.000000` is 600.
pub(super) fn atoi(text: &str) -> i64 {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    sign * digits[..end].parse().unwrap_or(0)
}

/// As C's `atof`: the number that a text begins with, 0 where there is none.
pub(super) fn atof(text: &str) -> f64 {
    number(text).map_or(0.0, |(value, _)| value)
}

/// As C's `strtol` with base 0, the whole text: decimal, octal (`052`) or hexadecimal (`0x34`).
pub(super) fn any_base(text: &str) -> Option<i64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A DSCP as a number 0 to 63 or a name (RFC 2474, 2597, 3246, 5865), as the TOS byte it makes.
pub(super) fn dscp(text: &str) -> Option<i64> {
    let name = text.to_ascii_lowercase();
    let class = |digits: &str| {
        let mut digits = digits.chars().map(|c| c.to_digit(10));
        match (digits.next()??, digits.next()??, digits.next()) {
            (class @ 1..=4, drop @ 1..=3, None) => Some(i64::from((class * 8 + drop * 2) << 2)),
            _ => None,
        }
    };
    match name.as_str() {
        "ef" => Some(0xb8),
        "va" => Some(0xb0),
        "lowdelay" => Some(0x10),
        "throughput" => Some(0x08),
        "reliability" => Some(0x04),
        name => {
            if let Some(found) = name.strip_prefix("af").and_then(class) {
                return Some(found);
            }
            if let Some(selector) = name.strip_prefix("cs") {
                return selector
                    .parse()
                    .ok()
                    .filter(|n: &i64| (0..8).contains(n))
                    .map(|n| n << 5);
            }
            any_base(name)
                .filter(|value| (0..64).contains(value))
                .map(|value| value << 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_1024_for_sizes_and_1000_for_rates() {
        assert_eq!(size("128K"), Some(131_072));
        assert_eq!(size("1.5m"), Some(1_572_864));
        assert_eq!(rate("10M"), Some(10_000_000));
        assert_eq!(rate("1G"), Some(1_000_000_000));
        assert_eq!(rate("2t"), Some(2_000_000_000_000));
        assert_eq!(rate("12"), Some(12));
        assert_eq!(size("1e3"), Some(1000));
        for bad in ["", "x", "K", "5x", "--5"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn integers_are_read_as_c_does() {
        assert_eq!(
            (atoi("600.000000"), atoi(" -5x"), atoi("x"), atoi("+7")),
            (600, -5, 0, 7)
        );
        assert_eq!(
            (any_base("52"), any_base("064"), any_base("0x34"), any_base("9z")),
            (Some(52), Some(52), Some(52), None)
        );
        assert!((atof("0.5s") - 0.5).abs() < 1e-12);
    }

    #[test]
    fn dscp_names_are_tos_bytes() {
        assert_eq!(
            (dscp("ef"), dscp("AF11"), dscp("af43"), dscp("cs1")),
            (Some(184), Some(40), Some(152), Some(32))
        );
        assert_eq!(
            (dscp("46"), dscp("64"), dscp("af44"), dscp("cs8"), dscp("foo")),
            (Some(184), None, None, None, None)
        );
    }
}
