//! Latency: each path's percentiles under one workload.

use super::{Figure, Index, describe, digits, no_interval, plain};
use crate::scenario::{Case, Metric, Workload};
use serde::Serialize;

/// A path's percentiles under one workload.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct LatencyLine {
    pub path: String,
    /// The path's name as the scenario has it.
    #[serde(skip)]
    pub key: String,
    /// By [`PERCENTILES`].
    pub percentiles: Vec<Option<Figure>>,
    /// The same of all trials merged.
    pub merged: Vec<Option<String>>,
    pub transactions: Option<Figure>,
    pub load: Option<Figure>,
    pub send_lag: Option<Figure>,
    pub generator_bound: bool,
    pub evidence: String,
    pub left_out: String,
}

/// A latency workload over all paths.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct LatencyTable {
    pub workload: String,
    #[serde(skip)]
    pub key: String,
    pub what: String,
    /// tcp-rr, tcp-crr.
    pub kind: String,
    pub under_load: bool,
    /// Whether requests are sent on a schedule.
    pub scheduled: bool,
    pub lines: Vec<LatencyLine>,
    pub no_interval: Option<String>,
}

/// The percentiles that tables show.
pub(in crate::report) const PERCENTILES: [(Metric, &str); 6] = [
    (Metric::LatencyP50, "p50"),
    (Metric::LatencyP90, "p90"),
    (Metric::LatencyP99, "p99"),
    (Metric::LatencyP99_9, "p99.9"),
    (Metric::LatencyP99_99, "p99.99"),
    (Metric::LatencyMax, "max"),
];

pub(super) fn table<'a>(index: &Index<'a>, workload: &Workload, cases: &[&'a Case]) -> LatencyTable {
    let lines: Vec<LatencyLine> = cases
        .iter()
        .map(|case| LatencyLine {
            path: plain(&case.path.label()),
            key: case.path.name.clone(),
            percentiles: PERCENTILES
                .iter()
                .map(|(metric, _)| index.figure(case, *metric))
                .collect(),
            merged: PERCENTILES
                .iter()
                .map(|(metric, _)| {
                    let merged = index.rows.get(&(case.slug.as_str(), *metric))?.merged?;
                    Some(digits::human(*metric, merged))
                })
                .collect(),
            transactions: index.figure(case, Metric::TransactionsPerSecond),
            load: index.figure(case, Metric::LoadThroughput),
            send_lag: index.figure(case, Metric::SendLagP99),
            generator_bound: index
                .summaries
                .get(case.slug.as_str())
                .is_some_and(|summary| summary.generator_bound),
            evidence: index.evidence(case, Metric::LatencyP50),
            left_out: index.left_out(case),
        })
        .collect();
    LatencyTable {
        workload: plain(&workload.name),
        key: workload.name.clone(),
        what: describe(workload),
        kind: workload
            .latency
            .as_ref()
            .map_or_else(String::new, |latency| latency.kind.to_string()),
        under_load: workload
            .latency
            .as_ref()
            .is_some_and(|latency| latency.during.is_some()),
        scheduled: workload
            .latency
            .as_ref()
            .is_some_and(|latency| latency.rate.is_some()),
        no_interval: no_interval(
            lines
                .iter()
                .flat_map(|line| line.percentiles.iter().flatten().take(1)),
        ),
        lines,
    }
}
