//! How much worse than earlier runs a figure may be: a gate's `not-worse-by`.

use super::Limit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much worse than in the baseline runs is too much: more than `more-than` and, where given, more than
/// `and-more-than` as well. So a tail of 40 us that grows by 10 % wakes nobody, and neither do 20 us of 10 ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Worsening {
    /// A share such as 5%, or an amount such as 20us, 50MB/s or a number in the metric's unit.
    pub more_than: Amount,
    /// Only if it is also worse by more than this: a share or an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub and_more_than: Option<Amount>,
}

impl Worsening {
    /// The share of `base` (above 0, in the metric's unit) that both parts allow.
    pub fn allowed_share(self, base: f64) -> f64 {
        let share = |amount| match amount {
            Amount::Share(share) => share,
            Amount::Absolute(limit) => limit.value() / base,
        };
        let first = share(self.more_than);
        self.and_more_than
            .map_or(first, |amount| share(amount).max(first))
    }

    /// Its parts.
    pub fn amounts(self) -> impl Iterator<Item = Amount> {
        std::iter::once(self.more_than).chain(self.and_more_than)
    }
}

impl fmt::Display for Worsening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {}", self.more_than)?;
        match self.and_more_than {
            Some(amount) => write!(f, " and more than {amount}"),
            None => Ok(()),
        }
    }
}

/// A part of a difference: a share of the baseline's figure, or an amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// A share of the baseline's figure; 0.05 is 5 %.
    Share(f64),
    /// An amount in the metric's unit.
    Absolute(Limit),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // To a millionth of a percent: 0.07 is not exactly 7 %.
            Self::Share(share) => write!(f, "{}%", (share * 1e8).round() / 1e6),
            Self::Absolute(limit) => limit.fmt(f),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Share(_) => serializer.collect_str(self),
            Self::Absolute(limit) => limit.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a share such as 5%, or an amount such as 20us, 50MB/s or a number in the metric's unit",
                )
            }
            fn visit_f64<E>(self, value: f64) -> Result<Amount, E> {
                Ok(Amount::Absolute(Limit::Number(value)))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Amount, E> {
                Ok(Amount::Absolute(Limit::Number(value as f64)))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount::Absolute(Limit::Number(value as f64)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                if let Some(percent) = text.strip_suffix('%') {
                    return percent
                        .trim_end()
                        .parse()
                        .map(|percent: f64| Amount::Share(percent / 100.0))
                        .map_err(|_| wrong());
                }
                if let Ok(rate) = text.parse() {
                    return Ok(Amount::Absolute(Limit::Rate(rate)));
                }
                text.parse()
                    .map(|span| Amount::Absolute(Limit::Time(span)))
                    .map_err(|_| wrong())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a share such as 5%, or an amount such as 20us, 50MB/s or a number in the metric's unit",
            "type": ["number", "string"]
        })
    }
}
