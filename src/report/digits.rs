//! How many digits each figure is given, in one place: files are the same byte for byte only because all of them
//! round here.
//!
//! | figure | in CSV, decimals | for people |
//! | --- | --- | --- |
//! | throughput, load throughput (MB/s) | 2 | three significant digits, whole from 100 on |
//! | retransmits (segments) | 1 | whole |
//! | CPU cost (s/GB) | 4 | three significant digits |
//! | latency, send lag, jitter (us) | 2 (a histogram holds three significant digits) | three significant digits, whole from 100 on |
//! | transactions (1/s) | 1 | three significant digits, whole from 100 on |
//! | loss (%) | 4 | three significant digits |
//! | ratios | 4 | 2 decimals, 3 below 0.1 |
//! | shares of bytes | 4 | percent with 1 decimal |
//!
//! In CSV, what is small has decimals enough for three significant digits, and an interval's ends are rounded outwards:
//! what is written covers no less than what was computed.
//!
//! What is not finite is not known: an empty cell in CSV, a dash for people.

use crate::scenario::Metric;
use jiff::Timestamp;

/// What stands for people where a figure is not known.
pub(super) const UNKNOWN: &str = "–";

/// A number with `decimals` decimals; empty where it is not finite. Never a negative zero.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| b == b'0' || b == b'.') => rest.to_owned(),
        _ => text,
    }
}

/// Three significant digits are enough: a histogram holds no more.
const SIGNIFICANT: i32 = 3;
/// More decimals than this are noise of the arithmetic.
const MOST_DECIMALS: i32 = 12;

/// Decimals of a metric's figures in CSV, at the least.
const fn decimals_of(metric: Metric) -> usize {
    match metric {
        Metric::Retransmits | Metric::TransactionsPerSecond => 1,
        Metric::CpuSecondsPerGb | Metric::LossPercent | Metric::ReorderedPercent | Metric::Fairness => 4,
        _ => 2,
    }
}

/// Decimals of ratios and shares in CSV, at the least.
const RATIO_DECIMALS: usize = 4;

/// So many decimals, or more where a small value needs them.
fn enough(value: f64, least: usize) -> usize {
    if value == 0.0 || !value.is_finite() {
        return least;
    }
    let needed = SIGNIFICANT - 1 - value.abs().log10().floor() as i32;
    least.max(needed.clamp(0, MOST_DECIMALS) as usize)
}

/// Ends of an interval, the low one rounded down and the high one up.
fn outwards((low, high): (f64, f64), least: usize) -> (String, String) {
    let end = |value: f64, round: fn(f64) -> f64| {
        let decimals = enough(value, least);
        let scale = 10_f64.powi(decimals as i32);
        let scaled = value * scale;
        // What is a number of so many decimals but for binary fractions stays what it is.
        let near = (scaled - scaled.round()).abs() < 1e-6;
        fixed(if near { value } else { round(scaled) / scale }, decimals)
    };
    (end(low, f64::floor), end(high, f64::ceil))
}

/// A figure of a metric as CSV has it.
pub(super) fn csv(metric: Metric, value: f64) -> String {
    fixed(value, enough(value, decimals_of(metric)))
}

/// The ends of a figure's interval as CSV has them.
pub(super) fn csv_interval(metric: Metric, ends: (f64, f64)) -> (String, String) {
    outwards(ends, decimals_of(metric))
}

/// A ratio or a share as CSV has it.
pub(super) fn csv_ratio(value: f64) -> String {
    fixed(value, enough(value, RATIO_DECIMALS))
}

/// The ends of a ratio's interval as CSV has them.
pub(super) fn csv_ratio_interval(ends: (f64, f64)) -> (String, String) {
    outwards(ends, RATIO_DECIMALS)
}

/// Three significant digits at least, whole from 100 on.
pub(super) fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if size >= 99.95 || size == 0.0 {
        fixed(value, 0)
    } else if size >= 9.995 {
        fixed(value, 1)
    } else if size >= 0.9995 {
        fixed(value, 2)
    } else {
        fixed(value, 3)
    }
}

/// A figure of a metric for people.
pub(super) fn human(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Retransmits if value.is_finite() => fixed(value, 0),
        _ => significant(value),
    }
}

/// A ratio for people.
pub(super) fn human_ratio(value: f64) -> String {
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if value.abs() < 0.0995 {
        fixed(value, 3)
    } else {
        fixed(value, 2)
    }
}

/// A share in percent for people.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{} %", fixed(share * 100.0, 1))
    } else {
        UNKNOWN.to_owned()
    }
}

/// The smallest difference that could have been shown, for people: `± 3.1 %`.
pub(super) fn visible(share: f64) -> String {
    let percent = share * 100.0;
    format!("± {} %", fixed(percent, usize::from(percent < 10.0)))
}

/// A difference for people, with its sign.
pub(super) fn signed(text: &str) -> String {
    match text.strip_prefix('-') {
        Some(below) => format!("\u{2212}{below}"),
        None if text == UNKNOWN || text.bytes().all(|b| b == b'0' || b == b'.') => text.to_owned(),
        None => format!("+{text}"),
    }
}

/// A moment for people: UTC, to the second.
pub(super) fn moment(of: Timestamp) -> String {
    of.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A metric in words, with its unit.
pub(super) fn named(metric: Metric) -> String {
    let name = match metric {
        Metric::Throughput => "throughput",
        Metric::CpuSecondsPerGb => "CPU for a GB",
        Metric::LatencyP50 => "latency p50",
        Metric::LatencyP90 => "latency p90",
        Metric::LatencyP99 => "latency p99",
        Metric::LatencyP99_9 => "latency p99.9",
        Metric::LatencyP99_99 => "latency p99.99",
        Metric::LatencyMax => "latency max",
        Metric::LoadThroughput => "load's throughput",
        other => return format!("{other}, {}", other.unit()),
    };
    let unit = metric.unit().replace("us", "µs").replace("s/GB", "s");
    format!("{name}, {unit}")
}

/// Bytes for people, in powers of 1000.
pub(super) fn bytes(count: f64) -> String {
    for (name, scale) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if count >= scale {
            return format!("{} {name}", significant(count / scale));
        }
    }
    format!("{} B", fixed(count, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_is_empty_and_never_nan() {
        for unknown in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for metric in Metric::ALL {
                assert_eq!(csv(metric, unknown), "");
                assert_eq!(human(metric, unknown), UNKNOWN);
            }
            assert_eq!(csv_ratio(unknown), "");
            assert_eq!(human_ratio(unknown), UNKNOWN);
        }
    }

    #[test]
    fn rounds_to_the_stated_digits() {
        assert_eq!(csv(Metric::Throughput, 989.126), "989.13");
        assert_eq!(csv(Metric::CpuSecondsPerGb, 1.234_56), "1.2346");
        assert_eq!(csv(Metric::Retransmits, -0.01), "-0.0100");
        assert_eq!(csv_ratio(-1e-15), "0.000000000000");
        assert_eq!(csv(Metric::Throughput, 0.012_345), "0.0123");
        assert_eq!(csv_ratio(0.000_123_45), "0.000123");
        assert_eq!(human(Metric::LatencyP99, 1203.6), "1204");
        assert_eq!(human(Metric::LatencyP50, 31.26), "31.3");
        assert_eq!(human(Metric::LatencyP50, 99.96), "100");
        assert_eq!(human_ratio(0.238), "0.24");
        assert_eq!(human_ratio(0.0238), "0.024");
        assert_eq!(bytes(2.5e9), "2.50 GB");
        assert_eq!(bytes(999.0), "999 B");
    }

    proptest! {
        /// For all intervals: what is written covers what was computed, and not much more.
        #[test]
        fn intervals_are_rounded_outwards(low in -1e6..1e6_f64, width in 0.0..1e3_f64, shift in -9..0_i32) {
            let (low, high) = (low * 10_f64.powi(shift), (low + width) * 10_f64.powi(shift));
            for (a, b) in [csv_ratio_interval((low, high)), csv_interval(Metric::Throughput, (low, high))] {
                let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
                prop_assert!(a <= low + 1e-9 && high <= b + 1e-9, "{a} {low} {high} {b}");
                prop_assert!(low - a <= 0.01 + 0.01 * low.abs() && b - high <= 0.01 + 0.01 * high.abs());
            }
        }

        #[test]
        fn csv_reads_back_within_its_rounding(value in 0.0..1e9_f64) {
            for metric in Metric::ALL {
                let back: f64 = csv(metric, value).parse().unwrap();
                prop_assert!((back - value).abs() <= 0.05 + 1e-9);
            }
        }
    }
}
