//! What analysis makes of a run: the rows of `summary.csv`, and for each case what charts need.

use crate::{
    evidence::EvidenceState,
    measure::LatencyHistogram,
    scenario::{Encapsulation, Metric},
};
use serde::{Deserialize, Serialize};

/// A median with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// The interval's ends at 95 % or more; `None` where there are too few trials for one.
    pub interval: Option<(f64, f64)>,
    /// The least and the most that was seen.
    pub range: (f64, f64),
    /// Over how many trials (or blocks, where it is of ratios).
    pub count: usize,
    /// The probability with which the interval covers the median (order statistics, binomial); 0 without one.
    pub coverage: f64,
}

/// A row of `summary.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The case's slug.
    pub case: String,
    /// The path's name.
    pub path: String,
    /// The path's expected encapsulation.
    pub encapsulation: Encapsulation,
    /// The workload's name.
    pub workload: String,
    /// What the figures are of.
    pub metric: Metric,
    /// Over trials: in the metric's unit. `None` where no trial counts, and for a percentile that single trials have
    /// too few samples for.
    pub estimate: Option<Estimate>,
    /// Of all trials' histograms merged; only of latency, and only where they have samples enough.
    pub merged: Option<f64>,
    /// The path that `relative` compares to; `None` for that path itself too.
    pub relative_to: Option<String>,
    /// The ratio to that path's figure, paired within blocks.
    pub relative: Option<Estimate>,
    /// The difference from that path's figure, paired within blocks, in the metric's unit.
    pub difference: Option<Estimate>,
    /// The geometric mean of the paired ratios with Student's 95 % interval over their logarithms: parametric, and
    /// named as such where it is shown; see [`super::log_ratio_interval`].
    pub student_ratio: Option<(f64, f64, f64)>,
    /// The smallest difference from a ratio of 1 that so many blocks with this scatter would have shown, as a share
    /// (0.03: 3 % up or down); see [`super::smallest_difference`].
    pub smallest_difference: Option<f64>,
    /// A figure from elsewhere, in the metric's unit.
    pub reference: Option<f64>,
    /// The evidence over the trials counted: the worst of them. Where none counts, the worst of all.
    pub evidence: EvidenceState,
}

/// One trial's value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrialPoint {
    /// The trial's block.
    pub block: u32,
    /// In the metric's unit.
    pub value: f64,
}

/// A case, with all that charts and gates need of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseSummary {
    /// The case's slug.
    pub case: String,
    /// The path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// Each metric's value of each valid trial, in the order of blocks.
    pub points: Vec<(Metric, Vec<TrialPoint>)>,
    /// All valid trials' latencies merged.
    pub latency: Option<LatencyHistogram>,
    /// All valid trials' send lags merged.
    pub send_lag: Option<LatencyHistogram>,
    /// Trials that count.
    pub valid: usize,
    /// Trials that failed.
    pub failed: usize,
    /// Trials whose evidence contradicts the path's encapsulation; they don't count.
    pub contradicted: usize,
    /// Trials that count although their evidence is unknown.
    pub unknown: usize,
    /// Whether the generator, not the path, bounds the latency: its send lag's p99 is above half of the latency's.
    pub generator_bound: bool,
    /// What the senders of the median trial sent of the rate that was asked of them, as a share, where it is below 0.95:
    /// the path was then never put to the question. `None`: the rate held, or none was asked, or of TCP.
    pub short_of_rate: Option<f64>,
    /// Trials that look unlike the others or were not steady. They count all the same: nothing is dropped for its
    /// looks.
    pub flags: Vec<Flag>,
}

/// What is odd about a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlagKind {
    /// Its figure lies far from those of the case's other trials.
    Outlier,
    /// It still rose or fell while it was measured.
    Unsteady,
}

/// A trial that deserves a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// The trial's block.
    pub block: u32,
    /// What is odd.
    pub kind: FlagKind,
    /// The same in a sentence, with figures.
    pub message: String,
}

/// What analysis makes of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    /// The rows, by path in the order of the scenario, then workload, then metric.
    pub rows: Vec<Row>,
    /// The cases, in the plan's order.
    pub cases: Vec<CaseSummary>,
    /// What a reader must know before believing a figure, each a sentence.
    pub warnings: Vec<String>,
}

impl CaseSummary {
    /// A metric's value of each valid trial, in the order of blocks; empty where there is none.
    pub fn points(&self, metric: Metric) -> &[TrialPoint] {
        self.points
            .iter()
            .find(|(of, _)| *of == metric)
            .map_or(&[], |(_, points)| points.as_slice())
    }
}

impl Summary {
    /// A case's row of a metric.
    pub fn row(&self, path: &str, workload: &str, metric: Metric) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.path == path && row.workload == workload && row.metric == metric)
    }

    /// A case by its path and workload.
    pub fn case(&self, path: &str, workload: &str) -> Option<&CaseSummary> {
        self.cases
            .iter()
            .find(|case| case.path == path && case.workload == workload)
    }
}
