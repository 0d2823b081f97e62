//! Pairs that were loaded at once: what each got, and how fairly.

use super::{Figure, Index, plain};
use crate::{
    analysis::estimate,
    report::{Inputs, digits},
    run::Trial,
    scenario::{Case, Metric, WorkloadKind},
};
use serde::Serialize;
use std::collections::HashMap;

/// A pair, over the trials that count.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PairLine {
    pub from: String,
    pub to: String,
    pub throughput: Option<Figure>,
    /// Its part of an even share, in words: `0.98`.
    pub of_even: Option<String>,
}

/// The pairs of a case, the slowest first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PairTable {
    pub path: String,
    pub workload: String,
    pub together: Option<Figure>,
    pub fairness: Option<Figure>,
    pub slowest: Option<Figure>,
    /// The longest time between the first and the last pair's beginning, in words.
    pub apart: String,
    pub lines: Vec<PairLine>,
}

pub(super) fn tables(
    inputs: &Inputs<'_>,
    valid: &HashMap<&str, Vec<&Trial>>,
    index: &Index<'_>,
) -> Vec<PairTable> {
    let cases = inputs.manifest.cases.iter();
    cases
        .filter(|case| {
            !case.path.together_with.is_empty()
                && matches!(case.workload.kind(), Some(WorkloadKind::Throughput(_)))
        })
        .filter_map(|case| table(valid.get(case.slug.as_str())?, index, case))
        .collect()
}

fn table(trials: &[&Trial], index: &Index<'_>, case: &Case) -> Option<PairTable> {
    let count = case.path.pairs().count();
    let trials: Vec<&Trial> = trials
        .iter()
        .copied()
        .filter(|trial| trial.pairs.len() == count)
        .collect();
    let began = trials
        .iter()
        .flat_map(|trial| &trial.pairs)
        .map(|pair| pair.began);
    let apart = began.reduce(f64::max)?;
    let rates = |pair: usize| -> Vec<f64> {
        trials
            .iter()
            .filter_map(|trial| trial.pairs.get(pair)?.bytes_per_second)
            .map(|rate| rate / 1e6)
            .collect()
    };
    let estimates: Vec<_> = (0..count).map(|pair| estimate(&rates(pair))).collect();
    let even = estimates.iter().flatten().map(|of| of.median).sum::<f64>() / count as f64;
    let mut lines: Vec<PairLine> = case
        .path
        .pairs()
        .zip(&estimates)
        .map(|(pair, of)| PairLine {
            from: pair.from.to_string(),
            to: pair.to.to_string(),
            throughput: of
                .as_ref()
                .map(|of| Figure::new(of, |value| digits::human(Metric::Throughput, value))),
            of_even: of
                .as_ref()
                .filter(|_| even > 0.0)
                .map(|of| digits::human_ratio(of.median / even)),
        })
        .collect();
    let value = |line: &PairLine| line.throughput.as_ref().map_or(-1.0, |figure| figure.value);
    lines.sort_by(|a, b| value(a).total_cmp(&value(b)));
    Some(PairTable {
        path: plain(&case.path.name),
        workload: plain(&case.workload.name),
        together: index.figure(case, Metric::Throughput),
        fairness: index.figure(case, Metric::Fairness),
        slowest: index.figure(case, Metric::SlowestPair),
        apart: format!("{} ms", digits::significant(apart * 1e3)),
        lines,
    })
}
