//! `encapbench history`: a scenario's figures over many runs, and the run where a change began.

use super::{Exit, Failure, publish::Published};
use crate::{
    analysis::{compare::ComparedRun, history::history},
    gate::GateState,
    report::{HistoryInputs, HistoryRun, Runs, history_files, terminal_history},
    run::{self, MANIFEST},
};
use clap::Args;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Arguments of `encapbench history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs of one scenario make one history; --scenario picks one of several. A change needs two runs on either side, and five
in all. Changes are told beside what else changed with that run: kernel, encapbench, NIC profile.

Exit codes: 0 the history is shown, whatever it says; 2 no run was found; 3 the files can't be written.")]
pub(super) struct HistoryArgs {
    /// Folders of runs, such as results, or run folders
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Only runs of this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Write history.html, history.csv and the charts into this folder; with several scenarios into one folder each
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the series as JSON
    #[arg(long)]
    json: bool,
}

/// Run folders at or right below a folder, in the order of their names.
fn run_folders(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    if folder.join(MANIFEST).exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = fs::read_dir(folder)
        .map_err(|error| Failure::Usage(format!("can't read {}: {error}", folder.display())))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.join(MANIFEST).exists())
        .collect();
    folders.sort();
    Ok(folders)
}

/// What of a run a history needs; its trials, which may be many, are let go.
struct Past {
    name: String,
    published: Published,
}

/// Shows the history.
pub(super) fn run(args: &HistoryArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut folders = Vec::new();
    for folder in &args.folders {
        folders.extend(run_folders(folder)?);
    }
    // A folder that is named twice, or beside the one that it is in, is one run.
    let mut known = BTreeSet::new();
    folders.retain(|folder| known.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())));
    let mut scenarios: BTreeMap<String, Vec<Past>> = BTreeMap::new();
    for folder in &folders {
        let mut published = match Published::read(folder) {
            Ok(published) => published,
            // One bad run is no reason to hide all others.
            Err(failure) => {
                failure.print(&mut std::io::stderr());
                continue;
            }
        };
        published.recorded.trials = Vec::new();
        for case in &mut published.summary.cases {
            (case.latency, case.send_lag) = (None, None);
        }
        let scenario = published.recorded.manifest.scenario.name.clone();
        if args.scenario.as_ref().is_some_and(|wanted| *wanted != scenario) {
            continue;
        }
        let name = folder.file_name().map_or_else(
            || folder.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        scenarios
            .entry(scenario)
            .or_default()
            .push(Past { name, published });
    }
    if scenarios.is_empty() {
        return Err(Failure::Usage(format!(
            "no run{} in {}",
            args.scenario
                .as_ref()
                .map_or_else(String::new, |name| format!(" of scenario {name}")),
            args.folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    let several = scenarios.len() > 1;
    let mut all = BTreeMap::new();
    for (scenario, mut past) in scenarios {
        past.sort_by_key(|run| run.published.recorded.manifest.started);
        let compared: Vec<ComparedRun<'_>> = past.iter().map(|run| run.published.compared()).collect();
        let series = history(&compared);
        let runs = Runs(
            past.iter()
                .map(|run| HistoryRun {
                    name: run.name.clone(),
                    started: run.published.recorded.manifest.started,
                    gates: gates(&run.published),
                })
                .collect(),
        );
        let inputs = HistoryInputs {
            scenario: &scenario,
            runs: &runs,
            series: &series,
        };
        if !args.json {
            writeln!(out, "{}", terminal_history(&inputs, super::width()))?;
        }
        if let Some(folder) = &args.out {
            let folder = if several {
                folder.join(&scenario)
            } else {
                folder.clone()
            };
            write(&folder, &inputs)?;
            if !args.json {
                writeln!(out, "history: {}", folder.join("history.html").display())?;
            }
        }
        all.insert(
            scenario.clone(),
            serde_json::json!({ "runs": runs.0, "series": series }),
        );
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &all).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    Ok(Exit::Success)
}

fn gates(published: &Published) -> Option<GateState> {
    (!published.gates.verdicts.is_empty()).then(|| published.gates.state())
}

fn write(folder: &Path, inputs: &HistoryInputs<'_>) -> Result<(), Failure> {
    fs::create_dir_all(folder)
        .map_err(|error| Failure::Machine(format!("failed to make {}: {error}", folder.display())))?;
    let files = history_files(inputs).map_err(|error| Failure::Report(error.to_string()))?;
    for (name, bytes) in files {
        run::write_whole(folder, &name, &bytes)?;
    }
    Ok(())
}
