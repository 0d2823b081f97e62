//! `gate.json`: the verdicts, for machines.

use super::{Inputs, ReportError};

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    let mut bytes = serde_json::to_vec_pretty(inputs.gates)?;
    bytes.push(b'\n');
    Ok(bytes)
}
