//! How often something happens.

use super::text::{UnitError, text_unit};
use std::{fmt, str::FromStr, time::Duration};

/// Events a second, 1 to 1 000 000. Text: `1000/s`, `2k/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventRate(u32);

impl EventRate {
    /// The rate, or `None` outside 1 to 1 000 000 a second.
    pub const fn new(per_second: u32) -> Option<Self> {
        if per_second == 0 || per_second > 1_000_000 {
            None
        } else {
            Some(Self(per_second))
        }
    }

    /// Events a second.
    pub const fn per_second(self) -> u32 {
        self.0
    }

    /// The time from one event to the next.
    pub fn period(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / u64::from(self.0))
    }
}

impl FromStr for EventRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        text.trim()
            .strip_suffix("/s")
            .map(str::trim)
            // `parse` would take a sign.
            .filter(|count| count.starts_with(|c: char| c.is_ascii_digit()))
            .and_then(|count| match count.strip_suffix(['k', 'K']) {
                Some(thousands) => thousands.parse::<u32>().ok()?.checked_mul(1000),
                None => count.parse().ok(),
            })
            .and_then(Self::new)
            .ok_or_else(|| UnitError::new(text, "event rate", "a rate such as 1000/s, from 1/s to 1000000/s"))
    }
}

impl fmt::Display for EventRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

text_unit!(
    EventRate,
    "event rate",
    "a rate such as 1000/s, from 1/s to 1000000/s",
    pattern = r"^\s*[0-9]+[kK]?\s*/s\s*$"
);
