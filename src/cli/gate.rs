//! `encapbench gate`: judge a run's gates again, or those of a policy file, or against earlier runs.

use super::{
    Exit, Failure, github,
    publish::{Published, all_distinct},
    text,
};
use crate::{
    analysis::compare::ComparedRun,
    gate, report,
    scenario::{parse_policy, skipped_gates},
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Arguments of `encapbench gate`.
#[derive(Debug, Args)]
#[command(after_help = "\
A policy file has a list of gates, as scenarios have it (`encapbench schema --policy`):
  gates:
    - { name: bare metal is fast, path: node-to-node, workload: tcp, metric: throughput, at-least: 900MB/s }
    - { name: the tail did not grow, path: Always, workload: rr, metric: latency_p99,
        not-worse-by: { more-than: 5%, and-more-than: 20us } }

A gate with `not-worse-by` compares with earlier runs. Runs differ by themselves too: with several baseline runs that
is estimated, with a single one only large differences are told, and else the gate is inconclusive.

Exit codes: 0 every gate passed; 1 one failed; 2 a bad file; 4 the run failed; 5 one is inconclusive.")]
pub(super) struct GateArgs {
    /// The run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Judge the gates of this file instead of the scenario's
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// An earlier run that gates with `not-worse-by` compare with; may be given again
    #[arg(long, value_name = "RUN")]
    baseline: Vec<PathBuf>,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
    /// Make the run folder's report files again with these verdicts: gate.json, junit.xml, report.html and all others
    #[arg(long)]
    write: bool,
}

/// Puts a policy file's gates in the place of the scenario's.
fn use_policy(published: &mut Published, file: &Path) -> Result<(), Failure> {
    let text = text::read("policy", file)?;
    let manifest = &mut published.recorded.manifest;
    manifest.scenario.gates = parse_policy(&text, &file.display().to_string(), &manifest.scenario)
        .map_err(|error| Failure::BadFile(error.to_string()))?
        .gates;
    manifest.skipped_gates = skipped_gates(&manifest.scenario, &manifest.cases);
    Ok(())
}

/// Judges again.
pub(super) fn run(args: &GateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut published = Published::read(&args.run)?;
    if let Some(file) = &args.policy {
        use_policy(&mut published, file)?;
    }
    let gates = &published.recorded.manifest.scenario.gates;
    let compares = gates.iter().find(|rule| rule.not_worse_by.is_some());
    match (compares, args.baseline.is_empty()) {
        (Some(rule), true) if args.policy.is_some() => {
            return Err(Failure::Usage(format!(
                "the gate `{}` compares with an earlier run: name one with --baseline RUN",
                rule.name
            )));
        }
        (None, false) => {
            return Err(Failure::Usage(
                "no gate compares with the baseline: give one `not-worse-by`, in the scenario or in a file for \
                 --policy, or see `encapbench compare`"
                    .to_owned(),
            ));
        }
        _ => {}
    }
    let baseline = args
        .baseline
        .iter()
        .map(|folder| Published::read(folder))
        .collect::<Result<Vec<_>, _>>()?;
    let mut named: Vec<(&Path, &Published)> = vec![(&args.run, &published)];
    named.extend(args.baseline.iter().map(PathBuf::as_path).zip(&baseline));
    all_distinct(&named)?;
    let earlier: Vec<ComparedRun<'_>> = baseline.iter().map(Published::compared).collect();
    published.gates = gate::judge_against(&published.recorded.manifest, &published.summary, &earlier);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &published.gates).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if published.gates.verdicts.is_empty() {
        writeln!(out, "the scenario has no gates; --policy FILE brings some")?;
    } else {
        for verdict in &published.gates.verdicts {
            // One line a gate, whatever its names hold.
            let line = format!("{}: {}: {}", verdict.state, verdict.gate, verdict.message);
            writeln!(out, "{}", report::plain(&line))?;
        }
    }
    if args.write {
        published.write(&args.run)?;
    }
    if !args.json {
        github::annotate(&published.gates, out)?;
    }
    Ok(Exit::of_run(
        &published.recorded.manifest,
        &published.recorded.trials,
        &published.gates,
    ))
}
