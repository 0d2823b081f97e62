//! A rate in bytes a second: how throughput is reported.

use super::text::{UnitError, parse_scaled, text_unit, write_scaled};
use std::{fmt, str::FromStr};

/// Bytes a second. Text: `950MB/s`, `1GB/s`, `500kB/s`, `12B/s` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(pub u64);

impl ByteRate {
    /// Megabytes (10^6 bytes) a second, the unit of the `throughput` metric.
    pub fn megabytes_per_second(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl FromStr for ByteRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const SUFFIXES: [(&str, u64); 5] = [
            ("B/s", 1),
            ("kB/s", 1000),
            ("KB/s", 1000),
            ("MB/s", 1_000_000),
            ("GB/s", 1_000_000_000),
        ];
        parse_scaled(text, &SUFFIXES, false)
            .map(Self)
            .ok_or_else(|| UnitError::new(text, "byte rate", "a rate such as 950MB/s or 1GB/s"))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Megabytes at most: that is the unit of every table that this stands beside.
        write_scaled(f, self.0, &[("MB/s", 1_000_000), ("kB/s", 1000), ("B/s", 1)])
    }
}

text_unit!(
    ByteRate,
    "byte rate",
    "a rate such as 950MB/s or 1GB/s",
    pattern = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*[kKMG]?B/s\s*$"
);
