//! A share.

use super::text::{UnitError, scaled, split_number, text_unit, write_scaled};
use std::{fmt, str::FromStr};

/// A share in percent, kept in millionths: 0 to 1000 %, with at most four decimals. Text: `0.1%`, `5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// 2 %.
    pub const TWO: Self = Self(20_000);
    /// The largest, 1000 %.
    const MOST: u32 = 10_000_000;

    /// A share of so many millionths, or `None` above 1000 %.
    pub const fn from_millionths(millionths: u32) -> Option<Self> {
        if millionths > Self::MOST {
            None
        } else {
            Some(Self(millionths))
        }
    }

    /// The share, 1 being all.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// In percent, 100 being all.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 1e4
    }
}

impl FromStr for Percent {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, suffix) = split_number(text);
        Some(suffix)
            .filter(|suffix| *suffix == "%")
            .and_then(|_| scaled(number, 10_000))
            .and_then(|millionths| u32::try_from(millionths).ok())
            .and_then(Self::from_millionths)
            .ok_or_else(|| UnitError::new(text, "share", "a share such as 0.1% or 5%, up to 1000%"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            return write_scaled(f, u64::from(whole), &[("%", 1)]);
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{whole}.{}%", fraction.trim_end_matches('0'))
    }
}

text_unit!(
    Percent,
    "share",
    "a share such as 0.1% or 5%, up to 1000%",
    pattern = r"^\s*[0-9]*\.?[0-9]*\s*%\s*$"
);
