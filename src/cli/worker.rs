//! `encapbench worker`: the process inside a place.

use super::{Exit, Failure};
use crate::units::Span;
use clap::Args;
use std::io;

/// Arguments of `encapbench worker`.
#[derive(Debug, Clone, Args)]
pub(super) struct WorkerArgs {
    /// Only wait, as a pod's first process, while workers are started beside it
    #[arg(long)]
    standby: bool,
    /// With --standby: end after T
    #[arg(long, value_name = "T", default_value = "24h", requires = "standby")]
    at_most: Span,
    /// With --standby: end when no worker has run beside it for T
    #[arg(long, value_name = "T", default_value = "5m", requires = "standby")]
    alone: Span,
}

/// Runs a worker over stdin and stdout, or waits.
///
/// # Errors
/// Where its coordinator is of another version, says what is no request, or falls silent.
pub(super) fn run(args: &WorkerArgs) -> Result<Exit, Failure> {
    super::run::log_to_stderr();
    if args.standby {
        return crate::worker::stand_by(args.at_most.get(), args.alone.get())
            .map(|()| Exit::Success)
            .map_err(|error| Failure::Machine(format!("can't wait for workers: {error}")));
    }
    match crate::worker::run(io::stdin(), io::stdout()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::Usage(error.to_string())),
    }
}
