//! What a reader must know before believing a figure: each a sentence that says what to do.

use super::{CaseSummary, Summary, drift::trend, order_statistics::LEAST_FOR_INTERVAL, summarise::Trials};
use crate::{
    measure::ThroughputResult,
    run::{Manifest, Outcome, Trial},
    scenario::{Case, Metric, WorkloadKind},
};
use std::collections::{BTreeMap, BTreeSet};

type Analysed<'a> = (&'a Case, WorkloadKind<'a>, Trials<'a>);

/// `1 trial`, `2 trials`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// All warnings over a run.
pub(super) fn all(
    manifest: &Manifest,
    log: &[Trial],
    cases: &[Analysed<'_>],
    summary: &Summary,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for ((case, kind, trials), of_case) in cases.iter().zip(&summary.cases) {
        let name = format!("`{}`, `{}`", case.path.name, case.workload.name);
        left_out(&name, trials, &mut warnings);
        if matches!(kind, WorkloadKind::Latency(_)) {
            latency(&name, trials, of_case, &mut warnings);
        }
        if let Some(share) = of_case.short_of_rate {
            warnings.push(format!(
                "{name}: only {:.0} % of the rate that was asked was ever sent, so this says nothing of the path at that \
                 rate; gates over it are inconclusive. Lower the rate, or give the workers more CPU.",
                share * 100.0
            ));
        }
        drift(&name, of_case, &mut warnings);
        odd(&name, of_case, &mut warnings);
    }
    few(summary, &mut warnings);
    congestion(cases, &mut warnings);
    strangers(manifest, log, &mut warnings);
    warnings
}

/// Trials that don't count, and those that count without proof.
fn left_out(name: &str, trials: &Trials<'_>, warnings: &mut Vec<String>) {
    let measured = trials.valid.len() + trials.contradicted.len();
    if let Some(first) = trials.contradicted.first() {
        let why = first.verdict.reasons.first().map_or("", String::as_str);
        warnings.push(format!(
            "{name}: {} of {measured} took another way than the path says and don't count (block {}: {why}). Look at \
             the routes and the address pool; in a lab, `encapbench doctor SCENARIO` does.",
            counted(trials.contradicted.len(), "trial"),
            first.block
        ));
    }
    if let Some(first) = trials.failed.first() {
        let why = match &first.outcome {
            Outcome::Failed { error } => error.as_str(),
            _ => "",
        };
        warnings.push(format!(
            "{name}: {} failed (block {}: {why}). Mend the cause and run again.",
            counted(trials.failed.len(), "trial"),
            first.block
        ));
    }
    if !trials.interrupted.is_empty() {
        warnings.push(format!(
            "{name}: {} cut off. Go on with `encapbench run --resume` and the run's folder.",
            if trials.interrupted.len() == 1 {
                "1 trial was".to_owned()
            } else {
                format!("{} trials were", trials.interrupted.len())
            },
        ));
    }
    if trials.valid.is_empty() {
        warnings.push(format!(
            "{name}: no trial counts, so nothing is known of this case."
        ));
    }
    let unknown = trials
        .valid
        .iter()
        .find(|trial| trial.verdict.state == crate::evidence::EvidenceState::Unknown);
    if let Some(first) = unknown {
        let why = first
            .verdict
            .reasons
            .first()
            .map_or("nothing was seen", String::as_str);
        warnings.push(format!(
            "{name}: the path of {} of {} that count is not proved (block {}: {why}). The figures may be of another \
             encapsulation; gates over them are inconclusive.",
            trials
                .valid
                .iter()
                .filter(|trial| trial.verdict.state == first.verdict.state)
                .count(),
            counted(trials.valid.len(), "trial"),
            first.block
        ));
    }
}

/// What a latency's figures may hide.
fn latency(name: &str, trials: &Trials<'_>, of_case: &CaseSummary, warnings: &mut Vec<String>) {
    if of_case.generator_bound {
        warnings.push(format!(
            "{name}: the sender bounds the latency, not the path: requests went out late by more than half of the \
             latency itself (99th percentiles). Lower the rate, or give the workers more CPU."
        ));
    }
    let results = || trials.valid.iter().filter_map(|trial| trial.latency.as_ref());
    let unanswered: u64 = results().map(|result| result.unanswered).sum();
    if unanswered > 0 {
        let answered: u64 = results().map(|result| result.transactions).sum();
        warnings.push(format!(
            "{name}: {unanswered} of {} requests had no answer in time and are not in the latencies, which look better \
             for it. Look for drops, or lower the rate.",
            answered.saturating_add(unanswered)
        ));
    }
    let saturated: u64 = results().map(|result| result.saturated).sum();
    if saturated > 0 {
        warnings.push(format!(
            "{name}: {saturated} latencies above 60 s are counted as 60 s."
        ));
    }
}

/// Figures that rise or fall over the run.
fn drift(name: &str, of_case: &CaseSummary, warnings: &mut Vec<String>) {
    for metric in [Metric::Throughput, Metric::LatencyP50] {
        if let Some(trend) = trend(of_case.points(metric)) {
            warnings.push(format!(
                "{name}: {metric} {} over the run (Mann-Kendall, tau {:.2}, p {:.4}), so its median and interval have no \
                 fixed true value. Ratios within blocks keep their promise; for absolute figures find what changes, \
                 such as heat or other load, and run again.",
                if trend.tau > 0.0 { "rose" } else { "fell" },
                trend.tau,
                trend.p
            ));
        }
    }
}

/// Trials that look odd: one sentence a case.
fn odd(name: &str, of_case: &CaseSummary, warnings: &mut Vec<String>) {
    if of_case.flags.is_empty() {
        return;
    }
    let blocks: BTreeSet<u32> = of_case.flags.iter().map(|flag| flag.block).collect();
    let messages: Vec<&str> = of_case.flags.iter().map(|flag| flag.message.as_str()).collect();
    warnings.push(format!(
        "{name}: {} odd and {} all the same ({}).",
        if blocks.len() == 1 {
            "1 trial looks".to_owned()
        } else {
            format!("{} trials look", blocks.len())
        },
        if blocks.len() == 1 { "counts" } else { "count" },
        messages.join("; ")
    ));
}

/// Too few trials for an interval: one sentence for all cases.
fn few(summary: &Summary, warnings: &mut Vec<String>) {
    let least = LEAST_FOR_INTERVAL;
    let short: Vec<&CaseSummary> = summary
        .cases
        .iter()
        .filter(|case| case.valid > 0 && case.valid < least)
        .collect();
    if let Some(fewest) = short.iter().map(|case| case.valid).min() {
        let have = match (short.len(), summary.cases.len()) {
            (1, 1) => "The case has".to_owned(),
            (1, all) => format!("1 of {all} cases has"),
            (short, all) => format!("{short} of {all} cases have"),
        };
        warnings.push(format!(
            "{have} fewer than {least} trials that count (the least: {fewest}), which can't give a 95 % interval of a \
             median: only median and range are shown, and gates are inconclusive. Run with `--blocks {least}` or more."
        ));
    }
}

/// The congestion control that a trial's senders used. The receiving end's own counts only where it sends too, or
/// where nothing is known of the other.
fn algorithms<'a>(kind: WorkloadKind<'_>, trial: &'a Trial) -> BTreeSet<&'a str> {
    let both = matches!(kind, WorkloadKind::Throughput(workload) if workload.bidirectional);
    let of = |result: &'a ThroughputResult| result.techniques.congestion.as_deref();
    let sender = trial.sender.as_ref().and_then(of);
    let receiver = trial.throughput.as_ref().and_then(of);
    let receiver = if both {
        receiver
    } else {
        receiver.filter(|_| sender.is_none())
    };
    [sender, receiver, trial.load.as_ref().and_then(of)]
        .into_iter()
        .flatten()
        .collect()
}

/// Trials of one workload under unlike congestion control can't be compared.
fn congestion(cases: &[Analysed<'_>], warnings: &mut Vec<String>) {
    let mut workloads: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for (case, kind, trials) in cases {
        for trial in &trials.valid {
            for algorithm in algorithms(*kind, trial) {
                let paths = workloads
                    .entry(&case.workload.name)
                    .or_default()
                    .entry(algorithm)
                    .or_default();
                paths.insert(&case.path.name);
            }
        }
    }
    for (workload, algorithms) in workloads {
        if algorithms.len() < 2 {
            continue;
        }
        let used: Vec<String> = algorithms
            .iter()
            .map(|(algorithm, paths)| {
                let paths: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
                format!("{algorithm} on {}", paths.join(", "))
            })
            .collect();
        warnings.push(format!(
            "`{workload}`: its trials used unlike congestion control ({}), so these cases can't be compared. Name one \
             that every worker can set with the workload's `congestion`.",
            used.join("; ")
        ));
    }
}

/// Trials of cases that the manifest doesn't know.
fn strangers(manifest: &Manifest, log: &[Trial], warnings: &mut Vec<String>) {
    let known: BTreeSet<&str> = manifest.cases.iter().map(|case| case.slug.as_str()).collect();
    let logged: BTreeSet<&str> = log.iter().map(|trial| trial.case.as_str()).collect();
    let strangers: Vec<&str> = logged.difference(&known).copied().collect();
    if !strangers.is_empty() {
        let slugs: Vec<String> = strangers.iter().map(|slug| format!("`{slug}`")).collect();
        warnings.push(format!(
            "The trial log has trials of {}, which the manifest doesn't have; they are left out. Are the two files of \
             one run?",
            slugs.join(", ")
        ));
    }
}
