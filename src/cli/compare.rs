//! `encapbench compare`: is one run different from another, where, and how sure is that.

use super::{
    Exit, Failure,
    publish::{Published, all_distinct},
};
use crate::{
    analysis::compare::{ChangeState, ComparedRun, compare},
    report,
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Arguments of `encapbench compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs differ by themselves too. With several runs a side, or with --history, that is estimated and used; with one run a
side and no history only large differences are told.

Exit codes: 0 the same or better; 1 something is worse; 2 not a run folder; 5 can't tell.")]
pub(super) struct CompareArgs {
    /// The run to compare to
    #[arg(value_name = "BASE")]
    base: PathBuf,
    /// The run that may differ
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// A further run of the base; may be given again
    #[arg(long = "base", value_name = "RUN")]
    more_base: Vec<PathBuf>,
    /// A further run of the new side; may be given again
    #[arg(long = "run", value_name = "RUN")]
    more_run: Vec<PathBuf>,
    /// An earlier run of the same scenario, which tells how much runs differ; may be given again
    #[arg(long, value_name = "RUN")]
    history: Vec<PathBuf>,
    /// Figures that differ by less are the same, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = margin)]
    margin: f64,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

fn margin(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(percent),
        _ => Err("expected percent above 0 and below 100, such as 5".to_owned()),
    }
}

/// What of runs is compared.
fn runs(side: &[Published]) -> Vec<ComparedRun<'_>> {
    side.iter().map(Published::compared).collect()
}

/// Compares.
pub(super) fn run(args: &CompareArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let read = |first: Option<&PathBuf>, more: &[PathBuf]| -> Result<Vec<Published>, Failure> {
        first
            .into_iter()
            .chain(more)
            .map(|folder| Published::read(folder))
            .collect()
    };
    let base = read(Some(&args.base), &args.more_base)?;
    let new = read(Some(&args.run), &args.more_run)?;
    let history = read(None, &args.history)?;
    let folders = [&args.base]
        .into_iter()
        .chain(&args.more_base)
        .chain([&args.run])
        .chain(&args.more_run)
        .chain(&args.history);
    let all = base.iter().chain(&new).chain(&history);
    let named: Vec<(&Path, &Published)> = folders.map(PathBuf::as_path).zip(all).collect();
    all_distinct(&named)?;
    let comparison = compare(&runs(&base), &runs(&new), &runs(&history), args.margin / 100.0);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &comparison).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(report::comparison(&comparison, super::width()).as_bytes())?;
    }
    Ok(match comparison.state() {
        ChangeState::Worse => Exit::GateFailed,
        ChangeState::CantTell => Exit::Inconclusive,
        ChangeState::Better | ChangeState::Same => Exit::Success,
    })
}
