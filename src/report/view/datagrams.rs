//! What became of datagrams: lost, out of order, how evenly they came.

use super::{Figure, Index, digits, plain};
use crate::{
    analysis::estimate,
    measure::ThroughputResult,
    run::Trial,
    scenario::{Case, Metric, Workload},
};
use serde::Serialize;
use std::collections::HashMap;

/// What became of a path's datagrams.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct DatagramLine {
    pub path: String,
    pub workload: String,
    pub loss: Option<Figure>,
    pub reordered: Option<Figure>,
    pub jitter: Option<Figure>,
    /// Datagrams of a burst: 1 where they come one by one.
    pub burst: Option<Figure>,
}

/// A line for each case of a workload that sends datagrams.
pub(super) fn lines(
    index: &Index<'_>,
    valid: &HashMap<&str, Vec<&Trial>>,
    workload: &Workload,
    cases: &[&Case],
) -> Vec<DatagramLine> {
    let bursts = |case: &Case| -> Vec<f64> {
        let trials = valid.get(case.slug.as_str()).into_iter().flatten();
        trials
            .filter_map(|trial| trial.throughput.as_ref().and_then(ThroughputResult::mean_burst))
            .collect()
    };
    cases
        .iter()
        .map(|case| DatagramLine {
            path: plain(&case.path.label()),
            workload: plain(&workload.name),
            loss: index.figure(case, Metric::LossPercent),
            reordered: index.figure(case, Metric::ReorderedPercent),
            jitter: index.figure(case, Metric::Jitter),
            burst: estimate(&bursts(case)).map(|of| Figure::new(&of, digits::significant)),
        })
        .collect()
}
