//! What all units share: a number with a suffix as text, and serde and JSON Schema by way of that text.

use std::borrow::Cow;

/// Why a quantity could not be read. The message says what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is no {what}: expected {expected}")]
pub struct UnitError {
    input: String,
    what: &'static str,
    expected: Cow<'static, str>,
}

impl UnitError {
    pub(super) fn new(input: &str, what: &'static str, expected: impl Into<Cow<'static, str>>) -> Self {
        Self {
            input: input.to_owned(),
            what,
            expected: expected.into(),
        }
    }
}

/// A suffix and how many base units one of it is.
pub(super) type Suffix = (&'static str, u64);

/// Splits `"8.5gbit"` into `("8.5", "gbit")`; blanks between them are allowed.
pub(super) fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    (number, suffix.trim())
}

/// Parses a decimal number times `scale` exactly, with integers only, so that `8.5gbit` is 8 500 000 000 and
/// nothing near it. `None` where it is no number, overflows, or has more decimals than the scale can hold.
pub(super) fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(u128::from(scale))?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok()?;
        let denominator = 10_u128.checked_pow(digits)?;
        let numerator = fraction.parse::<u128>().ok()?.checked_mul(u128::from(scale))?;
        if numerator % denominator != 0 {
            return None;
        }
        value = value.checked_add(numerator / denominator)?;
    }
    u64::try_from(value).ok()
}

/// Parses a number with one of `suffixes` (compared without regard to case when `fold` is set).
pub(super) fn parse_scaled(text: &str, suffixes: &[Suffix], fold: bool) -> Option<u64> {
    let (number, suffix) = split_number(text);
    let (_, scale) = suffixes.iter().find(|(name, _)| {
        if fold {
            name.eq_ignore_ascii_case(suffix)
        } else {
            *name == suffix
        }
    })?;
    scaled(number, *scale)
}

/// Writes `value` in the largest unit in which it needs at most three decimals; `units` from large to small,
/// the last of scale 1.
pub(super) fn write_scaled(
    f: &mut std::fmt::Formatter<'_>,
    value: u64,
    units: &[Suffix],
) -> std::fmt::Result {
    for (name, scale) in units {
        let exact = u128::from(value) * 1000 % u128::from(*scale) == 0;
        if value >= *scale && exact || *scale == 1 {
            let thousandths = u128::from(value) * 1000 / u128::from(*scale);
            let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
            if fraction == 0 {
                return write!(f, "{whole}{name}");
            }
            let fraction = format!("{fraction:03}");
            return write!(f, "{whole}.{}{name}", fraction.trim_end_matches('0'));
        }
    }
    write!(f, "{value}")
}

/// Serde and JSON Schema for a unit that has `Display` and `FromStr`. `number` says what a bare number means, or
/// is left out where a bare number is refused.
macro_rules! text_unit {
    ($type:ty, $what:literal, $expected:literal, pattern = $pattern:literal $(, number = $number:expr)?) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($what, ": ", $expected))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    $(
                        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<$type, E> {
                            let make: fn(u64) -> Option<$type> = $number;
                            make(value).ok_or_else(|| {
                                E::custom(crate::units::UnitError::new(&value.to_string(), $what, $expected))
                            })
                        }
                        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<$type, E> {
                            let Ok(value) = u64::try_from(value) else {
                                return Err(E::custom(crate::units::UnitError::new(
                                    &value.to_string(), $what, $expected)));
                            };
                            self.visit_u64(value)
                        }
                    )?
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let bare_number: Option<&str> = [None::<&str> $(, Some(stringify!($number)))?].into_iter().flatten().next();
                schemars::json_schema!({
                    "description": concat!($what, ": ", $expected),
                    "type": if bare_number.is_some() { &["string", "integer"][..] } else { &["string"][..] },
                    "pattern": $pattern
                })
            }
        }
    };
}
pub(super) use text_unit;
