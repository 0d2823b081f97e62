//! Gates: rules over cases, with verdicts. Pure.
//!
//! A gate passes when its whole interval is inside the limit, fails when its whole interval is outside, and else is
//! inconclusive: a verdict is never made of a single figure. Where a run may stop early, or go on, by what its gates
//! say (`blocks` with `at-least` below `at-most`), [`sequential`] decides instead.

mod baseline;
mod closed;
mod file;
mod judge;
pub mod sequential;

pub use file::GateFileError;
pub use file::json_schema;
pub use judge::{judge, judge_against, open_gates};

use crate::scenario::Metric;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// The whole interval is inside the limits.
    Pass,
    /// The whole interval is outside.
    Fail,
    /// Neither, or there is no interval, or the evidence does not carry a verdict.
    Inconclusive,
    /// What it judges was left out of the run.
    Skipped,
}

impl fmt::Display for GateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
        })
    }
}

/// A gate's verdict, with all that a person on call needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateVerdict {
    /// The gate's name.
    pub gate: String,
    /// What it says.
    pub state: GateState,
    /// The path judged.
    pub path: String,
    /// The workload judged.
    pub workload: String,
    /// The metric judged; `None`: that nothing gets through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    /// The path compared to; `None`: the figure itself is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_to: Option<String>,
    /// Whether earlier runs' figure is compared to; `seen` is then the ratio to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub against_baseline: bool,
    /// What was promised, in words: `at least 0.9 of node-to-node`.
    pub expected: String,
    /// What was seen: the median; in the metric's unit, or a ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<f64>,
    /// Its interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Trials (or paired blocks) judged.
    pub trials: usize,
    /// The verdict in a sentence: expected, seen, with how many trials, what to look at.
    pub message: String,
}

/// The verdicts of a run. As JSON (`gate.json`) it has a `format` and the `state` over all besides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "file::GateFile", try_from = "file::GateFile")]
pub struct GateReport {
    /// One for each gate, in the scenario's order; then one for each path that is expected to be unreachable.
    pub verdicts: Vec<GateVerdict>,
}

impl GateVerdict {
    /// Whether what was seen is a ratio, and no figure in the metric's unit.
    pub fn is_ratio(&self) -> bool {
        self.against_baseline || self.relative_to.is_some()
    }
}

impl GateReport {
    /// The version of `gate.json` that this encapbench writes.
    pub const FORMAT: u32 = 1;

    /// The verdict over all: fail if any failed, else inconclusive if any is, else pass.
    pub fn state(&self) -> GateState {
        let has = |state| self.verdicts.iter().any(|verdict| verdict.state == state);
        if has(GateState::Fail) {
            GateState::Fail
        } else if has(GateState::Inconclusive) {
            GateState::Inconclusive
        } else {
            GateState::Pass
        }
    }
}

#[cfg(test)]
mod tests;
