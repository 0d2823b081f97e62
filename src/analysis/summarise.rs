//! From a run's manifest and trial log to its summary.

use super::{
    CaseSummary, Row, Summary,
    figures::{self, points},
    oddities,
    order_statistics::{CONFIDENCE, LEAST_FOR_INTERVAL, estimate},
    pairs::{
        log_moments, log_ratio_interval, paired_differences, paired_ratios, smallest_difference, values,
    },
    warnings,
};
use crate::{
    evidence::EvidenceState,
    measure::{HistogramError, LatencyHistogram},
    run::{Manifest, Outcome, Trial},
    scenario::{Case, Metric, WorkloadKind},
};
use std::collections::{BTreeMap, HashMap};

/// A case's trials, sorted by what became of them.
#[derive(Default)]
pub(super) struct Trials<'a> {
    /// Those that count, in the order of blocks.
    pub(super) valid: Vec<&'a Trial>,
    /// Measured, but on another path than was meant.
    pub(super) contradicted: Vec<&'a Trial>,
    /// Failed.
    pub(super) failed: Vec<&'a Trial>,
    /// Cut off; a resumed run does them again.
    pub(super) interrupted: Vec<&'a Trial>,
}

impl<'a> Trials<'a> {
    /// The trials of a case, whose lines in the log these are. A resumed run may have tried a block's trial again: the
    /// last that was measured stands for the block, or the last of all where none was.
    fn of(log: &[&'a Trial]) -> Self {
        let mut blocks: BTreeMap<u32, &Trial> = BTreeMap::new();
        for &trial in log {
            let measured = Trial::is_whole;
            let known = blocks.entry(trial.block).or_insert(trial);
            if measured(trial) || !measured(known) {
                *known = trial;
            }
        }
        let mut trials = Self::default();
        for trial in blocks.into_values() {
            match trial.outcome {
                Outcome::Measured | Outcome::Unreachable if trial.is_valid() => trials.valid.push(trial),
                Outcome::Measured | Outcome::Unreachable => trials.contradicted.push(trial),
                Outcome::Failed { .. } => trials.failed.push(trial),
                Outcome::Interrupted => trials.interrupted.push(trial),
            }
        }
        trials
    }

    /// The worst evidence over the trials that count; where none does, over all that were measured.
    fn evidence(&self) -> EvidenceState {
        let worst = |trials: &[&Trial]| trials.iter().map(|trial| trial.verdict.state).max();
        worst(&self.valid)
            .or_else(|| worst(&self.contradicted))
            .unwrap_or(EvidenceState::Unknown)
    }
}

/// All of the histograms in one; `None` where there are none.
fn merge<'a>(
    histograms: impl Iterator<Item = &'a LatencyHistogram>,
) -> Result<Option<LatencyHistogram>, HistogramError> {
    let mut merged: Option<LatencyHistogram> = None;
    for histogram in histograms {
        match &mut merged {
            None => merged = Some(histogram.clone()),
            Some(merged) => merged.add(histogram)?,
        }
    }
    // A run has many cases; what was recorded into takes 200 KiB each.
    Ok(merged.map(LatencyHistogram::packed))
}

/// The metric that a case is there for.
pub(super) const fn primary(kind: WorkloadKind<'_>) -> Metric {
    match kind {
        WorkloadKind::Throughput(_) => Metric::Throughput,
        WorkloadKind::Latency(_) => Metric::LatencyP50,
    }
}

/// What the trials of a case amount to, by themselves.
fn summarise_case(
    case: &Case,
    kind: WorkloadKind<'_>,
    trials: &Trials<'_>,
) -> Result<CaseSummary, HistogramError> {
    let latencies = || trials.valid.iter().filter_map(|trial| trial.latency.as_ref());
    let latency = merge(latencies().map(|result| &result.latency))?;
    let send_lag = merge(latencies().filter_map(|result| result.send_lag.as_ref()))?;
    let flags = oddities::flags(
        primary(kind),
        &points(kind, &trials.valid, primary(kind)),
        &trials.valid,
    );
    let of_metrics = Metric::ALL
        .into_iter()
        .map(|metric| (metric, points(kind, &trials.valid, metric)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    Ok(CaseSummary {
        case: case.slug.clone(),
        path: case.path.name.clone(),
        workload: case.workload.name.clone(),
        points: of_metrics,
        generator_bound: figures::generator_bound(latency.as_ref(), send_lag.as_ref()),
        short_of_rate: figures::short_of_rate(kind, &trials.valid),
        latency,
        send_lag,
        valid: trials.valid.len(),
        failed: trials.failed.len(),
        contradicted: trials.contradicted.len(),
        unknown: trials
            .valid
            .iter()
            .filter(|trial| trial.verdict.state == EvidenceState::Unknown)
            .count(),
        flags,
    })
}

/// A case's rows. `base` is the case that it is compared to.
fn rows(
    manifest: &Manifest,
    case: &Case,
    kind: WorkloadKind<'_>,
    summary: &CaseSummary,
    base: Option<&CaseSummary>,
    evidence: EvidenceState,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for metric in Metric::ALL {
        let merged = figures::merged(metric, summary.latency.as_ref(), summary.send_lag.as_ref());
        let estimate = estimate(&values(summary.points(metric)));
        // A case without a figure still has a row, so that nobody takes it for one that was never planned.
        let stands_for_case = summary.valid == 0 && metric == primary(kind);
        if estimate.is_none() && merged.is_none() && !stands_for_case {
            continue;
        }
        let ratios = base.map_or_else(Vec::new, |base| {
            values(&paired_ratios(base.points(metric), summary.points(metric)))
        });
        let differences = base.map_or_else(Vec::new, |base| {
            values(&paired_differences(base.points(metric), summary.points(metric)))
        });
        // Student's interval could be had of two blocks already; too few to know whether its assumption holds.
        let student_ratio = log_moments(&ratios)
            .zip(log_ratio_interval(&ratios, CONFIDENCE))
            .filter(|_| ratios.len() >= LEAST_FOR_INTERVAL)
            .map(|((mean, _), (low, high))| (mean.exp(), low, high));
        let reference = manifest
            .scenario
            .reference
            .iter()
            .filter(|_| metric == Metric::Throughput)
            .find(|reference| reference.path == case.path.name && reference.workload == case.workload.name)
            .map(|reference| reference.throughput.megabytes_per_second());
        rows.push(Row {
            case: case.slug.clone(),
            path: case.path.name.clone(),
            encapsulation: case.path.expected,
            workload: case.workload.name.clone(),
            metric,
            estimate,
            merged,
            relative_to: base.map(|base| base.path.clone()),
            relative: super::estimate(&ratios),
            difference: super::estimate(&differences),
            student_ratio,
            smallest_difference: smallest_difference(&ratios),
            reference,
            evidence,
        });
    }
    rows
}

/// Where each name stands.
fn places<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.enumerate().map(|(place, name)| (name, place)).collect()
}

/// What a run's trials amount to.
///
/// Only trials that were measured and not contradicted count; what was left out becomes a warning. A run without one
/// trial gives a row for each case all the same, without figures.
pub fn summarise(manifest: &Manifest, log: &[Trial]) -> Summary {
    let mut summary = Summary::default();
    let mut cases = Vec::new();
    let mut by_case: HashMap<&str, Vec<&Trial>> = HashMap::new();
    for trial in log {
        by_case.entry(trial.case.as_str()).or_default().push(trial);
    }
    for case in &manifest.cases {
        let Some(kind) = case.workload.kind() else {
            summary.warnings.push(format!(
                "The manifest's workload `{}` is neither throughput nor latency; its cases are left out.",
                case.workload.name
            ));
            continue;
        };
        let trials = Trials::of(by_case.get(case.slug.as_str()).map_or(&[], Vec::as_slice));
        match summarise_case(case, kind, &trials) {
            Ok(of_case) => {
                cases.push((case, kind, trials));
                summary.cases.push(of_case);
            }
            Err(error) => summary.warnings.push(format!(
                "The latencies of `{}` can't be merged, so it is left out: {error}.",
                case.slug
            )),
        }
    }
    for ((case, kind, trials), of_case) in cases.iter().zip(&summary.cases) {
        let base = manifest
            .scenario
            .relative_to
            .as_deref()
            .filter(|base| *base != case.path.name)
            .and_then(|base| summary.case(base, &case.workload.name));
        let rows = rows(manifest, case, *kind, of_case, base, trials.evidence());
        summary.rows.extend(rows);
    }
    let paths = places(manifest.scenario.paths.iter().map(|path| path.name.as_str()));
    let workloads = places(
        manifest
            .scenario
            .workloads
            .iter()
            .map(|workload| workload.name.as_str()),
    );
    summary.rows.sort_by_key(|row| {
        (
            paths.get(row.path.as_str()),
            workloads.get(row.workload.as_str()),
            row.metric,
        )
    });
    let warnings = warnings::all(manifest, log, &cases, &summary);
    summary.warnings.extend(warnings);
    summary
}
