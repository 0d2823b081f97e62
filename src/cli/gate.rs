//! `encapbench gate`: judge a run's gates again.

use super::{Exit, Failure, publish::Published};
use clap::Args;
use std::{io::Write, path::PathBuf};

/// Arguments of `encapbench gate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every gate passed; 1 one failed; 4 the run failed; 5 one is inconclusive."
)]
pub(super) struct GateArgs {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
}

/// Judges again.
pub(super) fn run(args: &GateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let published = Published::read(&args.run)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &published.gates).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if published.gates.verdicts.is_empty() {
        writeln!(out, "the scenario has no gates")?;
    } else {
        for verdict in &published.gates.verdicts {
            writeln!(out, "{}: {}: {}", verdict.state, verdict.gate, verdict.message)?;
        }
    }
    Ok(Exit::of_run(
        &published.recorded.manifest,
        &published.recorded.trials,
        &published.gates,
    ))
}
