//! The JSON that iperf3 peers really write: case-insensitive keys, the first of duplicates counts, integers in
//! floating-point forms, `-1` written as 18446744073709551615 (3.12 and 3.13), bytes after the value.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::fmt;

/// A JSON value that keeps the order and the duplicates of object members.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits 128 bits.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object's members in their order.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Parses a document. Invalid UTF-8 is replaced and bytes after the first value are ignored, as stock peers
    /// do.
    ///
    /// # Errors
    /// When it is no JSON, or nested more than 128 deep.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let text = String::from_utf8_lossy(bytes);
        Self::deserialize(&mut serde_json::Deserializer::from_str(&text))
    }

    /// The first member of that name, ignoring case; `None` where this is no object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// A number as an integer: fractions cut off, out of range saturated, and 2^63 and above −1, since 3.12 and
    /// 3.13 print negative integers as unsigned.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) if *value > i128::from(i64::MAX) => Some(-1),
            Self::Integer(value) => Some(i64::try_from(*value).unwrap_or(i64::MIN)),
            Self::Float(value) if *value >= 9_223_372_036_854_775_808.0 => Some(-1),
            Self::Float(value) => Some(*value as i64),
            _ => None,
        }
    }

    /// A number as a float.
    pub const fn float(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A string.
    pub fn string(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// An array's elements.
    pub fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Writes it as compact JSON.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => out.push_str(&value.to_string()),
            Self::Float(value) => write_float(out, *value),
            Self::String(value) => write_string(out, value),
            Self::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_string(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_string(out: &mut String, value: &str) {
    // A string always serialises.
    if let Ok(text) = serde_json::to_string(value) {
        out.push_str(&text);
    }
}

/// Integral floats are written as integers, like cJSON; what is not finite, as 0 (a peer must never see `null`).
fn write_float(out: &mut String, value: f64) {
    use fmt::Write as _;
    let written = if !value.is_finite() {
        write!(out, "0")
    } else if value.fract() == 0.0 && value.abs() < 1e15 {
        write!(out, "{}", value as i64)
    } else if (1e-5..1e16).contains(&value.abs()) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
    // Writing to a `String` can't fail.
    debug_assert!(written.is_ok());
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Json;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Integer(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Integer(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Json::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::String(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = access.next_element()? {
                    values.push(value);
                }
                Ok(Json::Array(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// Builds an object, member by member, in order.
#[derive(Debug, Default)]
pub(crate) struct ObjectBuilder(Vec<(String, Json)>);

impl ObjectBuilder {
    pub(crate) fn put(&mut self, key: &str, value: Json) {
        self.0.push((key.to_owned(), value));
    }

    pub(crate) fn integer(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.put(key, Json::Integer(value.into()));
        }
    }

    pub(crate) fn string(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(key, Json::String(value.to_owned()));
        }
    }

    /// A flag that peers test for presence: written as `value`, or left out.
    pub(crate) fn flag(&mut self, key: &str, set: bool, value: Json) {
        if set {
            self.put(key, value);
        }
    }

    pub(crate) fn build(self) -> Json {
        Json::Object(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn integer(text: &str) -> Option<i64> {
        Json::parse(text.as_bytes()).unwrap().integer()
    }

    #[test]
    fn integers_come_in_every_dialect() {
        assert_eq!(integer("1500"), Some(1500));
        assert_eq!(integer("1500.0"), Some(1500));
        assert_eq!(integer("1.5e3"), Some(1500));
        assert_eq!(integer("1e+15"), Some(1_000_000_000_000_000));
        assert_eq!(integer("-1"), Some(-1));
        assert_eq!(integer("18446744073709551615"), Some(-1));
        assert_eq!(integer("18446744073709551616"), Some(-1));
        assert_eq!(integer("9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer("-1e300"), Some(i64::MIN));
        assert_eq!(integer("\"5\""), None);
        assert_eq!(integer("null"), None);
    }

    #[test]
    fn keys_ignore_case_and_the_first_duplicate_counts() {
        let json = Json::parse(br#"{"Mss":1,"MSS":2} trailing"#).unwrap();
        assert_eq!(json.get("mSS").and_then(Json::integer), Some(1));
        assert!(Json::parse(b"[]").unwrap().get("mss").is_none());
    }

    #[test]
    fn floats_are_written_as_cjson_does() {
        for (value, expected) in [
            (0.0, "0"),
            (2.5, "2.5"),
            (1.000_05, "1.00005"),
            (f64::NAN, "0"),
            (3e-7, "3e-7"),
        ] {
            let mut out = String::new();
            write_float(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(json) = Json::parse(&bytes) {
                let mut out = String::new();
                json.write(&mut out);
            }
        }

        #[test]
        fn finite_floats_survive(value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            let mut out = String::new();
            write_float(&mut out, value);
            let read = Json::parse(out.as_bytes()).unwrap().float().unwrap();
            prop_assert!((read - value).abs() <= value.abs() * 1e-15, "{} became {}", value, read);
        }
    }
}
