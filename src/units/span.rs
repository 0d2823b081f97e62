//! A length of time.

use super::text::{UnitError, scaled, split_number, text_unit, write_scaled};
use std::{fmt, str::FromStr, time::Duration};

/// A length of time, in whole nanoseconds. Text: `500ms`, `2s`, `1.5s`, `1m30s`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("µs", 1000),
    ("ns", 1),
];

impl Span {
    /// As the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Seconds, fractions included.
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = tail;
    }
    Some(total)
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| UnitError::new(text, "time", "a time with its unit, such as 500ms, 2s or 1m30s"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        write_scaled(
            f,
            nanos,
            &[("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1)],
        )
    }
}

text_unit!(
    Span,
    "time",
    "a time with its unit, such as 500ms, 2s or 1m30s",
    pattern = r"^\s*(([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(h|min|m|s|ms|us|µs|ns)\s*)+$"
);
