//! A policy file: gates of its own, for a run that was measured already.

use super::{GateRule, Scenario, ScenarioError, parse::parse_as, validate::validate_gates};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A policy file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Rules that the results must keep; at least one.
    pub gates: Vec<GateRule>,
}

/// Reads a policy file's `text`, for a run of `scenario`: its gates may name only paths and workloads that are there.
/// `file_name` is only shown.
///
/// # Errors
/// As [`super::parse`].
pub fn parse_policy(text: &str, file_name: &str, scenario: &Scenario) -> Result<Policy, ScenarioError> {
    parse_as(text, file_name, |policy: &Policy| {
        validate_gates(&Scenario {
            gates: policy.gates.clone(),
            ..scenario.clone()
        })
    })
}
