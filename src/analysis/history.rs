//! Figures of one scenario over many runs, and the run at which a figure changed.
//!
//! A run counts as one observation of each figure: the logarithm of its median. A change is a shift of the mean of these
//! that is too large for the scatter within the two parts: the greatest two-sample t over all splits, whose probability
//! without a change is at most that of a single split times the number of splits (Worsley, *On the likelihood ratio test
//! for a shift in location of normal populations*, JASA 74, 1979). So is a stretch of runs found that is unlike what lies
//! before and after it, which no single split shows (circular binary segmentation: Olshen, Venkatraman, Lucito, Wigler,
//! Biostatistics 5, 2004). Each part is then looked through in the same way. The error, 5 %, is shared among all series of a history.
//!
//! A change needs at least two runs on either side: a single odd run is no change yet. Runs that drift slowly break the
//! assumption that they scatter independently; a drift then shows as one or several changes.

use super::compare::{ComparedRun, Unlike, unlike_conditions};
use crate::scenario::{Case, GateRule, Limit, Metric, WorkloadKind};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// The probability of any change shown in a history without one.
const ERROR: f64 = 0.05;
/// Runs on either side of a change.
const LEAST_RUNS: usize = 2;
/// Runs between two changes that are found together: with fewer, one odd run and a neighbour would do.
const LEAST_STRETCH: usize = 4;
/// Runs in all: fewer don't tell how much runs scatter.
const LEAST_ALL: usize = 5;
/// Logarithms nearer than this are the same but for rounding.
const LEAST_SCATTER: f64 = 1e-4;

/// A run's figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// The run's number in the history, from 0.
    pub run: usize,
    /// Its median, in the metric's unit, or a ratio.
    pub value: f64,
    /// The median's interval within the run.
    pub interval: Option<(f64, f64)>,
}

/// A limit of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryLimit {
    /// The gate's name.
    pub gate: String,
    /// The limit, in the series' unit.
    pub value: f64,
    /// Whether figures should be at least this; else at most.
    pub at_least: bool,
}

/// The run where a change began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// The number of the first run after the change.
    pub run: usize,
    /// The geometric mean of the figures from the change before to this one.
    pub before: f64,
    /// The same from this change to the next.
    pub after: f64,
    /// The probability of such a shift without a change, for all splits of this series together.
    pub p: f64,
    /// What differs between the conditions of this run and of the one before.
    pub unlike: Vec<Unlike>,
}

/// One figure over the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// The metric.
    pub metric: Metric,
    /// The path that the figure is a ratio to; `None`: the figure itself.
    pub relative_to: Option<String>,
    /// The figures, in the order of the runs; a run without the figure is left out.
    pub points: Vec<HistoryPoint>,
    /// The gates of the newest run that judge this figure.
    pub limits: Vec<HistoryLimit>,
    /// Where it changed, in the order of the runs.
    pub changes: Vec<ChangePoint>,
}

impl Series {
    /// Whether a change made it better; `None` where it is neither.
    pub fn is_better(&self, change: &ChangePoint) -> bool {
        (change.after > change.before) == self.metric.more_is_better()
    }
}

/// The series of runs of one scenario, which are given from the oldest to the newest: for each case of the newest run
/// its main figures, and each figure that a gate of it judges.
pub fn history(runs: &[ComparedRun<'_>]) -> Vec<Series> {
    let Some(newest) = runs.last() else {
        return Vec::new();
    };
    let gates = &newest.manifest.scenario.gates;
    let mut series: Vec<Series> = Vec::new();
    for case in &newest.manifest.cases {
        for (metric, relative_to) in figures(case, gates) {
            let mut one = Series {
                path: case.path.name.clone(),
                workload: case.workload.name.clone(),
                metric,
                limits: limits(case, metric, relative_to.as_deref(), gates),
                relative_to,
                points: Vec::new(),
                changes: Vec::new(),
            };
            one.points = points(runs, &one);
            if !one.points.is_empty() {
                series.push(one);
            }
        }
    }
    let error = ERROR / series.len().max(1) as f64;
    for one in &mut series {
        one.changes = changes(runs, &one.points, error);
    }
    series
}

/// What is shown of a case: its main figures, and what gates judge.
fn figures(case: &Case, gates: &[GateRule]) -> Vec<(Metric, Option<String>)> {
    let mut figures = match case.workload.kind() {
        Some(WorkloadKind::Throughput(_)) => vec![(Metric::Throughput, None)],
        Some(WorkloadKind::Latency(_)) => vec![(Metric::LatencyP50, None), (Metric::LatencyP99, None)],
        None => Vec::new(),
    };
    for gate in gates {
        let of_case = gate.path == case.path.name && gate.workload == case.workload.name;
        let figure = (gate.metric, gate.relative_to.clone());
        if of_case && !figures.contains(&figure) {
            figures.push(figure);
        }
    }
    figures
}

fn limits(case: &Case, metric: Metric, relative_to: Option<&str>, gates: &[GateRule]) -> Vec<HistoryLimit> {
    gates
        .iter()
        .filter(|gate| {
            gate.path == case.path.name
                && gate.workload == case.workload.name
                && gate.metric == metric
                && gate.relative_to.as_deref() == relative_to
        })
        .flat_map(|gate| {
            let limit = |limit: Option<Limit>, at_least: bool| {
                limit.map(|limit| HistoryLimit {
                    gate: gate.name.clone(),
                    value: limit.value(),
                    at_least,
                })
            };
            [limit(gate.at_least, true), limit(gate.at_most, false)]
        })
        .flatten()
        .collect()
}

fn points(runs: &[ComparedRun<'_>], series: &Series) -> Vec<HistoryPoint> {
    runs.iter()
        .enumerate()
        .filter_map(|(run, of)| {
            let estimate = match &series.relative_to {
                None => {
                    of.summary
                        .row(&series.path, &series.workload, series.metric)?
                        .estimate?
                }
                Some(base) => super::relative(
                    of.summary.case(base, &series.workload)?,
                    of.summary.case(&series.path, &series.workload)?,
                    series.metric,
                )?,
            };
            Some(HistoryPoint {
                run,
                value: estimate.median,
                interval: estimate.interval,
            })
        })
        .collect()
}

fn changes(runs: &[ComparedRun<'_>], points: &[HistoryPoint], error: f64) -> Vec<ChangePoint> {
    // Counts may be 0 (no loss, no retransmission), which has no logarithm: such a series is shown and not judged.
    let logs: Option<Vec<f64>> = points
        .iter()
        .map(|point| (point.value > 0.0).then(|| point.value.ln()))
        .collect();
    let Some(logs) = logs else { return Vec::new() };
    let mut splits = segment(&logs, error);
    splits.sort_by_key(|split| split.at);
    let mut edges: Vec<usize> = splits.iter().map(|split| split.at).collect();
    edges.insert(0, 0);
    edges.push(logs.len());
    let mean = |from: usize, to: usize| {
        let part = logs.get(from..to).unwrap_or_default();
        (part.iter().sum::<f64>() / part.len().max(1) as f64).exp()
    };
    splits
        .iter()
        .zip(edges.windows(3))
        .filter_map(|(split, edges)| {
            let &[from, at, to] = edges else { return None };
            let run = points.get(at)?.run;
            let before = points.get(at.checked_sub(1)?)?.run;
            let unlike = match (runs.get(before), runs.get(run)) {
                (Some(before), Some(now)) => unlike_conditions(std::slice::from_ref(before), now),
                _ => Vec::new(),
            };
            Some(ChangePoint {
                run,
                before: mean(from, at),
                after: mean(at, to),
                p: split.p,
                unlike,
            })
        })
        .collect()
}

/// A place where a series changes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    /// The index of the first figure after the change.
    at: usize,
    p: f64,
}

/// All changes of a series, by segmentation: half of the error goes to a single change, half to a stretch that is unlike
/// what lies before and after it, which no single split shows.
fn segment(logs: &[f64], error: f64) -> Vec<Split> {
    let mut found = Vec::new();
    let mut open = vec![(0, logs.len())];
    while let Some((from, to)) = open.pop() {
        let part = logs.get(from..to).unwrap_or_default();
        let stretch = [split(part), stretch(part)]
            .into_iter()
            .flatten()
            .find(|stretch| stretch.p < error / 2.0);
        let Some(Stretch { begin, end, p }) = stretch else {
            continue;
        };
        let mut before = from;
        for at in [begin, end].into_iter().filter(|at| *at > 0 && *at < part.len()) {
            found.push(Split { at: from + at, p });
            open.push((before, from + at));
            before = from + at;
        }
        open.push((before, to));
    }
    found
}

/// Figures from `begin` to before `end`, unlike the others, and the probability of that without a change.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    begin: usize,
    end: usize,
    p: f64,
}

/// Sums of figures against their mean, to tell any stretch from the rest.
struct Sums {
    /// Of the first 0, 1, 2, ... figures.
    sums: Vec<f64>,
    /// Of all squares.
    total: f64,
}

impl Sums {
    /// `None` where there are too few figures.
    fn new(logs: &[f64]) -> Option<Self> {
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let mut sum = 0.0;
        let sums = logs.iter().map(|log| {
            sum += log - mean;
            sum
        });
        (logs.len() >= LEAST_ALL).then(|| Self {
            sums: std::iter::once(0.0).chain(sums).collect(),
            total: logs.iter().map(|log| (log - mean).powi(2)).sum(),
        })
    }

    /// The stretch with the greatest two-sample t against the rest; its probability for all of them together.
    fn greatest(&self, stretches: impl Iterator<Item = (usize, usize)>) -> Option<Stretch> {
        let count = self.sums.len() - 1;
        let freedom = count as f64 - 2.0;
        let mut best: Option<(usize, usize, f64)> = None;
        let mut tried = 0.0;
        for (begin, end) in stretches {
            let inside = end - begin;
            if inside < LEAST_RUNS || count - inside < LEAST_RUNS {
                continue;
            }
            tried += 1.0;
            let sum = self.sums.get(end)? - self.sums.get(begin)?;
            // The sum of squares between the parts; what is left is within them.
            let between = sum * sum * count as f64 / (inside as f64 * (count - inside) as f64);
            let within = (self.total - between).max(freedom * LEAST_SCATTER.powi(2));
            let t = (between / (within / freedom)).sqrt();
            if best.is_none_or(|(.., known)| t > known) {
                best = Some((begin, end, t));
            }
        }
        let (begin, end, t) = best?;
        let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
        Some(Stretch {
            begin,
            end,
            p: (2.0 * student.sf(t) * tried).min(1.0),
        })
    }
}

/// The most probable single change: what comes after it against what lies before.
fn split(logs: &[f64]) -> Option<Stretch> {
    let count = logs.len();
    Sums::new(logs)?.greatest((1..count).map(|at| (at, count)))
}

/// The most unlike stretch with something before and after it.
fn stretch(logs: &[f64]) -> Option<Stretch> {
    let count = logs.len();
    let inner = (LEAST_RUNS..count)
        .flat_map(|begin| (begin + LEAST_STRETCH..=count - LEAST_RUNS).map(move |end| (begin, end)));
    Sums::new(logs)?.greatest(inner)
}

#[cfg(test)]
mod tests;
