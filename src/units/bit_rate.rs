//! A rate in bits a second.

use super::text::{UnitError, parse_scaled, text_unit, write_scaled};
use std::{fmt, str::FromStr};

/// Bits a second. Text as `tc` writes it: `8.5gbit`, `100mbit`, `64kbit`, `9600bit`; also `10Gbit/s` and `1Gb/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(pub u64);

impl BitRate {
    /// Bits a second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// Bytes a second, rounded down.
    pub const fn bytes_per_second(self) -> u64 {
        self.0 / 8
    }
}

impl FromStr for BitRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        const SUFFIXES: [(&str, u64); 10] = [
            ("bit", 1),
            ("kbit", 1000),
            ("mbit", 1_000_000),
            ("gbit", 1_000_000_000),
            ("tbit", 1_000_000_000_000),
            ("b", 1),
            ("kb", 1000),
            ("mb", 1_000_000),
            ("gb", 1_000_000_000),
            ("tb", 1_000_000_000_000),
        ];
        let trimmed = text.trim();
        let (body, per_second) = trimmed
            .strip_suffix("/s")
            .map_or((trimmed, false), |body| (body, true));
        // `100MB` without `/s` would be taken for megabytes by most readers: refuse all short forms without `/s`.
        let short = !body.to_ascii_lowercase().ends_with("bit");
        // `MB/s` is a rate of bytes; `Mb/s` is one of bits.
        let bytes = body.ends_with('B');
        Some(body)
            .filter(|_| !bytes && (per_second || !short))
            .and_then(|body| parse_scaled(body, &SUFFIXES, true))
            .filter(|rate| *rate > 0)
            .map(Self)
            .ok_or_else(|| {
                UnitError::new(
                    text,
                    "bit rate",
                    "a rate such as 8.5gbit, 100mbit or 10Gb/s, above zero",
                )
            })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(
            f,
            self.0,
            &[
                ("gbit", 1_000_000_000),
                ("mbit", 1_000_000),
                ("kbit", 1000),
                ("bit", 1),
            ],
        )
    }
}

text_unit!(
    BitRate,
    "bit rate",
    "a rate such as 8.5gbit, 100mbit or 10Gb/s, above zero",
    pattern = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*([kKmMgGtT]?[bB][iI][tT]\s*(/s)?|[kKmMgGtT]?b\s*/s)\s*$"
);
