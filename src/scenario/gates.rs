//! Blocks, references and gates of a scenario.

use super::{metric::Metric, worse::Worsening};
use crate::units::{ByteRate, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many blocks of trials a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Blocks {
    /// Blocks that are run in any case: 1 to 10000. Fewer than 6 can't give a 95 % interval of a median.
    pub at_least: u32,
    /// The most blocks that are run; `at-least` if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
}

impl Blocks {
    /// The most that a run can have.
    pub const MOST: u32 = 10_000;

    /// The most blocks that are run.
    pub const fn most(self) -> u32 {
        match self.at_most {
            Some(most) => most,
            None => self.at_least,
        }
    }
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            at_least: 6,
            at_most: None,
        }
    }
}

/// A figure from elsewhere, shown beside what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reference {
    /// The path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// The figure.
    pub throughput: ByteRate,
}

/// The limit of a gate: a plain number in the metric's unit, or a rate or time with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A number: the metric's unit, or a ratio where the gate is relative.
    Number(f64),
    /// A throughput.
    Rate(ByteRate),
    /// A latency.
    Time(Span),
}

impl Limit {
    /// The limit as a number in the unit of the metric's column of summary.csv.
    pub fn value(self) -> f64 {
        match self {
            Self::Number(number) => number,
            Self::Rate(rate) => rate.megabytes_per_second(),
            Self::Time(span) => span.as_secs_f64() * 1e6,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Rate(rate) => rate.fmt(f),
            Self::Time(span) => span.fmt(f),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Rate(rate) => serializer.collect_str(rate),
            Self::Time(span) => serializer.collect_str(span),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Limit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a throughput such as 900MB/s, or a time such as 250us")
            }
            fn visit_f64<E>(self, value: f64) -> Result<Limit, E> {
                Ok(Limit::Number(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Limit, E> {
                Ok(Limit::Number(value as f64))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Limit, E> {
                Ok(Limit::Number(value as f64))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit, E> {
                if let Ok(rate) = text.parse() {
                    return Ok(Limit::Rate(rate));
                }
                text.parse()
                    .map(Limit::Time)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a number in the metric's unit, a throughput such as 900MB/s, or a time such as 250us",
            "type": ["number", "string"]
        })
    }
}

/// A rule over a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GateRule {
    /// The gate's name: what it promises.
    pub name: String,
    /// The path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// What is judged.
    pub metric: Metric,
    /// Judge the ratio to this path's figure, paired within blocks, instead of the figure itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_to: Option<String>,
    /// The least that is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Limit>,
    /// The most that is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Limit>,
    /// Compare with earlier runs, given to `encapbench gate` by `--baseline`: how much worse is too much. In place of
    /// limits and of `relative-to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_worse_by: Option<Worsening>,
    /// `any`: judge even where the path is not confirmed.
    #[serde(default)]
    pub evidence: RequiredEvidence,
}

/// What evidence a gate asks of the case it judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequiredEvidence {
    /// Every judged trial's path is confirmed.
    #[default]
    Confirmed,
    /// Unknown is good enough. Contradicted never is.
    Any,
}
