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
//! What is not finite is not known: an empty cell in CSV, a dash for people.

use crate::scenario::Metric;

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

/// A figure of a metric as CSV has it.
pub(super) fn csv(metric: Metric, value: f64) -> String {
    let decimals = match metric {
        Metric::Retransmits | Metric::TransactionsPerSecond => 1,
        Metric::CpuSecondsPerGb | Metric::LossPercent | Metric::ReorderedPercent | Metric::Fairness => 4,
        _ => 2,
    };
    fixed(value, decimals)
}

/// A ratio or a share as CSV has it.
pub(super) fn csv_ratio(value: f64) -> String {
    fixed(value, 4)
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
        assert_eq!(csv(Metric::Retransmits, -0.01), "0.0");
        assert_eq!(human(Metric::LatencyP99, 1203.6), "1204");
        assert_eq!(human(Metric::LatencyP50, 31.26), "31.3");
        assert_eq!(human(Metric::LatencyP50, 99.96), "100");
        assert_eq!(human_ratio(0.238), "0.24");
        assert_eq!(human_ratio(0.0238), "0.024");
        assert_eq!(bytes(2.5e9), "2.50 GB");
        assert_eq!(bytes(999.0), "999 B");
    }

    proptest! {
        #[test]
        fn csv_reads_back_within_its_rounding(value in 0.0..1e9_f64) {
            for metric in Metric::ALL {
                let back: f64 = csv(metric, value).parse().unwrap();
                prop_assert!((back - value).abs() <= 0.05 + 1e-9);
            }
        }
    }
}
