//! A number of bytes.

use super::text::{UnitError, parse_scaled, text_unit, write_scaled};
use std::{fmt, str::FromStr};

/// A number of bytes. Text: `1500`, `1500B`, `256KiB`, `4MiB`, `1GiB` (powers of 1024), `1kB`, `1MB`, `1GB`
/// (powers of 1000), up to `TB` and `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        // A small `b` means bits nearly everywhere: refused rather than guessed at.
        const SUFFIXES: [(&str, u64); 11] = [
            ("", 1),
            ("B", 1),
            ("kB", 1000),
            ("KB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        parse_scaled(text, &SUFFIXES, false).map(Self).ok_or_else(|| {
            UnitError::new(
                text,
                "number of bytes",
                "a whole number of bytes such as 1500, 256KiB or 1MB",
            )
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        // Only whole binary units; a decimal fraction of a KiB reads badly.
        for (name, scale) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0.is_multiple_of(scale) {
                return write!(f, "{}{name}", self.0 / scale);
            }
        }
        write_scaled(f, self.0, &[("B", 1)])
    }
}

text_unit!(
    Bytes,
    "number of bytes",
    "a whole number of bytes such as 1500, 256KiB or 1MB",
    pattern = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*([kKMGT]?B|[KMGT]iB)?\s*$",
    number = |value| Some(Bytes(value))
);
