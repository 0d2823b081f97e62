//! `encapbench worker`: the process inside a place.

use super::{Exit, Failure};
use std::io;

/// Runs a worker over stdin and stdout.
///
/// # Errors
/// Where its coordinator is of another version, says what is no request, or falls silent.
pub(super) fn run() -> Result<Exit, Failure> {
    super::run::log_to_stderr();
    match crate::worker::run(io::stdin(), io::stdout()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::Usage(error.to_string())),
    }
}
