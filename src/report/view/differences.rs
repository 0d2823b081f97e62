//! Each path beside the one that others are compared to: ratios and differences, and what goes with a slower one.

use super::{Figure, digits, plain};
use crate::{
    analysis::{self, Estimate},
    report::Inputs,
    scenario::Metric,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// A figure of a case beside that of the path which others are compared to.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct ComparisonLine {
    pub path: String,
    pub workload: String,
    pub metric: String,
    pub base: Option<Figure>,
    pub figure: Option<Figure>,
    pub ratio: Option<Figure>,
    pub difference: Option<Figure>,
    pub visible: Option<String>,
}

/// What goes with a slower path.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct ExplanationLine {
    pub path: String,
    pub workload: String,
    pub base: String,
    pub ratio: Figure,
    pub facts: Vec<String>,
}

pub(super) fn explanations(inputs: &Inputs<'_>) -> Vec<ExplanationLine> {
    analysis::explain(inputs.manifest, inputs.trials, inputs.summary)
        .into_iter()
        .map(|explanation| ExplanationLine {
            path: plain(&explanation.path),
            workload: plain(&explanation.workload),
            base: plain(&explanation.base),
            ratio: Figure::new(&explanation.ratio, digits::human_ratio),
            facts: explanation.facts.iter().map(|fact| plain(&fact.text)).collect(),
        })
        .collect()
}

/// Metrics that are compared in words; `comparisons.csv` has them all.
const COMPARED: [Metric; 6] = [
    Metric::Throughput,
    Metric::CpuSecondsPerGb,
    Metric::LatencyP50,
    Metric::LatencyP99,
    Metric::LatencyP99_9,
    Metric::LoadThroughput,
];

pub(super) fn comparisons(inputs: &Inputs<'_>) -> Vec<ComparisonLine> {
    let summary = inputs.summary;
    let estimates: BTreeMap<(&str, &str, Metric), &Estimate> = summary
        .rows
        .iter()
        .filter_map(|row| {
            let key = (row.path.as_str(), row.workload.as_str(), row.metric);
            Some((key, row.estimate.as_ref()?))
        })
        .collect();
    summary
        .rows
        .iter()
        .filter(|row| COMPARED.contains(&row.metric))
        .filter_map(|row| {
            let base = row.relative_to.as_deref()?;
            let difference = row.difference.as_ref()?;
            let digits = |value: f64| digits::human(row.metric, value);
            Some(ComparisonLine {
                path: plain(&row.path),
                workload: plain(&row.workload),
                metric: digits::named(row.metric),
                base: estimates
                    .get(&(base, row.workload.as_str(), row.metric))
                    .map(|of| Figure::new(of, digits)),
                figure: row.estimate.as_ref().map(|of| Figure::new(of, digits)),
                ratio: row
                    .relative
                    .as_ref()
                    .map(|of| Figure::new(of, digits::human_ratio)),
                difference: Some(Figure::signed(difference, |value| digits::signed(&digits(value)))),
                visible: row.smallest_difference.map(digits::visible),
            })
        })
        .collect()
}
