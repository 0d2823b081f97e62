//! `gate.json`.

use super::{GateReport, GateState, GateVerdict};
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

/// The file's shape.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct GateFile {
    format: u32,
    /// For those who read the file with a script; read back from the verdicts.
    state: GateState,
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
