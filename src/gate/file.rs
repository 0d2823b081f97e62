//! `gate.json`.

use super::{GateReport, GateState, GateVerdict};
use crate::run;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a `gate.json` could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateFileError {
    /// Of a format that this version does not know.
    #[error(
        "the gates' verdicts have format {0}, this encapbench reads up to {known}: use a newer one",
        known = GateReport::FORMAT
    )]
    Newer(u32),
}

/// The JSON Schema (draft 2020-12) of `gate.json`, as indented text with a line break at its end.
pub fn json_schema() -> String {
    run::json_schema_of::<GateFile>(
        "encapbench gate.json",
        &format!("urn:encapbench:run:{}:gate", GateReport::FORMAT),
    )
}

/// The verdicts of a run's gates.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(super) struct GateFile {
    /// The file's format: 1.
    format: u32,
    /// For those who read the file with a script; read back from the verdicts.
    state: GateState,
    /// One for each gate, in the scenario's order.
    verdicts: Vec<GateVerdict>,
}

impl From<GateReport> for GateFile {
    fn from(report: GateReport) -> Self {
        Self {
            format: GateReport::FORMAT,
            state: report.state(),
            verdicts: report.verdicts,
        }
    }
}

impl TryFrom<GateFile> for GateReport {
    type Error = GateFileError;
    fn try_from(file: GateFile) -> Result<Self, GateFileError> {
        if file.format > Self::FORMAT {
            return Err(GateFileError::Newer(file.format));
        }
        Ok(Self {
            verdicts: file.verdicts,
        })
    }
}
