//! `encapbench report`: make the report files of runs again.

use super::{Exit, Failure, publish::Published};
use clap::Args;
use std::{io::Write, path::PathBuf};

/// Arguments of `encapbench report`.
#[derive(Debug, Args)]
#[command(after_help = "\
The files are a pure function of the run's manifest.json and trials.jsonl: the same encapbench makes the same bytes.

Exit codes: 0 the files are made; 2 not a run folder, or a bad one; 3 they can't be written.")]
pub(super) struct ReportArgs {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Print no table
    #[arg(long, short)]
    quiet: bool,
    /// Make only the files for programs (CSV, JSON, JUnit, OpenMetrics), which are quick: no pages, no charts
    #[arg(long)]
    tables: bool,
}

/// Makes the report files again.
pub(super) fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    for folder in &args.runs {
        let published = Published::read(folder)?;
        // What is quick to make comes first: of a long run the charts take their time.
        if !args.quiet {
            writeln!(out, "{}", published.terminal())?;
            out.flush()?;
        }
        let names = if args.tables {
            published.write_tables(folder)?
        } else {
            published.write(folder)?
        };
        writeln!(out, "{} files in {}", names.len(), folder.display())?;
    }
    Ok(Exit::Success)
}
