//! Whether runs differ from others: better, worse, the same within a margin, or can't tell.
//!
//! Two runs of one thing differ too, by more than the scatter within each: the lab is built anew, the machine is
//! warmer, the neighbours are others. So a run counts as one observation of each case, the logarithm of its median, and
//! what is compared to is the scatter *between* runs: pooled over the runs of both sides and of a history, by Student's
//! t. With a single run a side and no history nothing is known of that scatter; then a generous one is assumed, which
//! shows large differences only, and never sameness.
//!
//! A difference is tested against none; sameness by two one-sided tests against the margin (Schuirmann 1987). All tests
//! of a comparison together err with a probability of at most 5 %, by Holm's procedure (1979) with Shaffer's count
//! (1986): of one case's two hypotheses, no difference and a difference of at least the margin, only one can be true.

mod unlike;

use super::{
    Summary,
    pairs::{log_moments, values},
};
use crate::{
    run::Manifest,
    scenario::{Metric, WorkloadKind},
};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};
use std::fmt;
pub use unlike::Unlike;

/// The probability of any wrong verdict over all cases and metrics.
const ERROR: f64 = 0.05;
/// How often a difference of `smallest_difference` would be shown.
const POWER: f64 = 0.8;
/// The deviation between runs (of the logarithm, so about 10 %) that is assumed where nothing is known of it.
const ASSUMED_SCATTER: f64 = 0.1;
/// Logarithms nearer than this are the same but for rounding.
const LEAST_SCATTER: f64 = 1e-6;
/// What a median's deviation is of a mean's, for normal values: the root of pi / 2.
const MEDIAN_DEVIATION: f64 = 1.253_314_1;
/// The metrics that are judged: those that say how good a path is, and have a meaningful ratio.
const JUDGED: [Metric; 6] = [
    Metric::Throughput,
    Metric::CpuSecondsPerGb,
    Metric::LatencyP50,
    Metric::LatencyP99,
    Metric::TransactionsPerSecond,
    Metric::LoadThroughput,
];

/// A run to compare.
#[derive(Debug, Clone, Copy)]
pub struct ComparedRun<'a> {
    /// What it measured, and where.
    pub manifest: &'a Manifest,
    /// What came out.
    pub summary: &'a Summary,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeState {
    /// It is better.
    Better,
    /// It is worse.
    Worse,
    /// It differs by less than the margin.
    Same,
    /// The runs don't show which.
    CantTell,
}

impl fmt::Display for ChangeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::CantTell => "can't tell",
        })
    }
}

/// A figure of a case on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// What is compared.
    pub metric: Metric,
    /// The base runs' figure: the geometric mean of their medians, in the metric's unit.
    pub base: f64,
    /// The new runs' figure.
    pub new: f64,
    /// `new` over `base`.
    pub ratio: f64,
    /// The ratio's 95 % interval, for this figure by itself; `None` where it can't be had.
    pub interval: Option<(f64, f64)>,
    /// How many degrees of freedom the scatter between runs is known with; 0: it is assumed.
    pub degrees: usize,
    /// The smallest difference, as a share of the base, that runs of this scatter would have shown four times in five
    /// had this been the only figure compared.
    pub smallest_difference: Option<f64>,
    /// The probability of such a difference without a true one, adjusted for all that is compared.
    pub p_different: f64,
    /// The probability of such likeness at a true difference of the margin, adjusted for all that is compared.
    pub p_same: f64,
    /// The verdict.
    pub state: ChangeState,
}

/// What comparing runs gave.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Where the runs' conditions differ.
    pub unlike: Vec<Unlike>,
    /// Cases that were not compared, each with the reason in a sentence.
    pub left_out: Vec<String>,
    /// Each figure of each case that both sides have, in the order of the base's rows.
    pub changes: Vec<Change>,
    /// The margin within which figures are the same, as a share.
    pub margin: f64,
}

impl Comparison {
    /// The verdict over all: worse if anything is, else can't tell if anything can't be told or nothing was compared,
    /// else better if anything is, else the same.
    pub fn state(&self) -> ChangeState {
        let has = |state| self.changes.iter().any(|change| change.state == state);
        if has(ChangeState::Worse) {
            ChangeState::Worse
        } else if self.changes.is_empty() || has(ChangeState::CantTell) {
            ChangeState::CantTell
        } else if has(ChangeState::Better) {
            ChangeState::Better
        } else {
            ChangeState::Same
        }
    }
}

/// One run's figure as a logarithm, with the variance that it has by the scatter within the run, where that is known.
#[derive(Clone, Copy)]
struct Observation {
    log: f64,
    variance: Option<f64>,
    trials: usize,
}

fn observe(run: &ComparedRun<'_>, path: &str, workload: &str, metric: Metric) -> Option<Observation> {
    let row = run.summary.row(path, workload, metric)?;
    let median = row.estimate?.median;
    let figures = values(run.summary.case(path, workload)?.points(metric));
    let variance = log_moments(&figures)
        .map(|(_, deviation)| (MEDIAN_DEVIATION * deviation).powi(2) / figures.len() as f64);
    (median > 0.0).then(|| Observation {
        log: median.ln(),
        variance,
        trials: figures.len(),
    })
}

fn mean(side: &[Observation]) -> f64 {
    side.iter().map(|run| run.log).sum::<f64>() / side.len() as f64
}

/// The difference of logarithms with its standard error and degrees of freedom.
struct Difference {
    log: f64,
    error: f64,
    student: StudentsT,
    /// Whether the scatter between runs is known.
    degrees: usize,
}

fn difference(base: &[Observation], new: &[Observation], history: &[Observation]) -> Option<Difference> {
    let log = mean(new) - mean(base);
    let sides = 1.0 / base.len() as f64 + 1.0 / new.len() as f64;
    let groups = [base, new, history];
    let degrees: usize = groups.iter().map(|group| group.len().saturating_sub(1)).sum();
    let (variance, freedom) = if degrees > 0 {
        let squares: f64 = groups
            .iter()
            .filter(|group| !group.is_empty())
            .map(|group| {
                let centre = mean(group);
                group.iter().map(|run| (run.log - centre).powi(2)).sum::<f64>()
            })
            .sum();
        // Of few runs the scatter may look smaller than that of the trials within them, which it can't be.
        let within = |side: &[Observation]| {
            let sum: f64 = side.iter().filter_map(|run| run.variance).sum();
            sum / (side.len() * side.len()) as f64
        };
        let between = sides * squares / degrees as f64;
        (between.max(within(base) + within(new)), degrees as f64)
    } else {
        let within: Option<f64> = base.iter().chain(new).map(|run| run.variance).sum();
        let trials = base.iter().chain(new).map(|run| run.trials).min()?;
        (within? + sides * ASSUMED_SCATTER.powi(2), trials as f64 - 1.0)
    };
    Some(Difference {
        log,
        error: variance.sqrt().max(LEAST_SCATTER),
        student: StudentsT::new(0.0, 1.0, freedom).ok()?,
        degrees,
    })
}

impl Difference {
    /// The probability of such a difference without a true one.
    fn p_different(&self) -> f64 {
        (2.0 * self.student.sf(self.log.abs() / self.error)).min(1.0)
    }

    /// The probability of such likeness at a difference of `margin` (a logarithm); nothing where the scatter between
    /// runs is only assumed.
    fn p_same(&self, margin: f64) -> f64 {
        if self.degrees == 0 {
            return 1.0;
        }
        self.student.sf((margin - self.log.abs()) / self.error)
    }

    fn reach(&self) -> f64 {
        self.student.inverse_cdf(1.0 - ERROR / 2.0) * self.error
    }

    fn smallest(&self) -> f64 {
        (self.reach() + self.student.inverse_cdf(POWER) * self.error).exp_m1()
    }
}

/// Holm's adjustment of two hypotheses for each of `count` figures, of which at most one can be true: a step's factor is
/// how many can still be true when all before it are false.
fn adjust(probabilities: &[f64], count: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let probability = |index: usize| probabilities.get(index).copied().unwrap_or(1.0);
    order.sort_by(|&a, &b| probability(a).total_cmp(&probability(b)));
    let mut adjusted = vec![1.0; probabilities.len()];
    let mut least: f64 = 0.0;
    for (step, &index) in order.iter().enumerate() {
        let may_be_true = count.min(probabilities.len() - step);
        least = least.max((probability(index) * may_be_true as f64).min(1.0));
        if let Some(slot) = adjusted.get_mut(index) {
            *slot = least;
        }
    }
    adjusted
}

/// Whether a metric of a case can say anything: the transactions a second of a rate that was asked for can't.
fn judged(run: &ComparedRun<'_>, path: &str, workload: &str, metric: Metric) -> bool {
    let open_loop = run.manifest.cases.iter().any(|case| {
        case.path.name == path
            && case.workload.name == workload
            && matches!(case.workload.kind(), Some(WorkloadKind::Latency(latency)) if latency.rate.is_some())
    });
    JUDGED.contains(&metric) && !(metric == Metric::TransactionsPerSecond && open_loop)
}

fn change(
    row: (&str, &str, Metric),
    base: &[Observation],
    new: &[Observation],
    difference: Option<&Difference>,
) -> Change {
    Change {
        path: row.0.to_owned(),
        workload: row.1.to_owned(),
        metric: row.2,
        base: mean(base).exp(),
        new: mean(new).exp(),
        ratio: (mean(new) - mean(base)).exp(),
        interval: difference.map(|of| ((of.log - of.reach()).exp(), (of.log + of.reach()).exp())),
        degrees: difference.map_or(0, |of| of.degrees),
        smallest_difference: difference.map(Difference::smallest),
        p_different: 1.0,
        p_same: 1.0,
        state: ChangeState::CantTell,
    }
}

/// One figure of one run against `base` runs, by itself: its probability is not adjusted for others, and no verdict is
/// made of it.
///
/// # Errors
/// A sentence that says why the two can't be compared.
pub fn compare_figure(
    base: &[ComparedRun<'_>],
    new: &ComparedRun<'_>,
    path: &str,
    workload: &str,
    metric: Metric,
) -> Result<Change, String> {
    let new = std::slice::from_ref(new);
    if let Some(reason) = unlike::cases(base, new).get(&(path.to_owned(), workload.to_owned())) {
        return Err(reason.clone());
    }
    let observe = |run: &ComparedRun<'_>| observe(run, path, workload, metric);
    let sides: (Option<Vec<_>>, Option<Vec<_>>) = (
        base.iter().map(observe).collect(),
        new.iter().map(observe).collect(),
    );
    let (Some(base), Some(new)) = sides else {
        return Err(format!("Not every run has a {metric} above zero."));
    };
    if base.is_empty() {
        return Err("There is no baseline.".to_owned());
    }
    let difference = difference(&base, &new, &[]);
    let mut change = change((path, workload, metric), &base, &new, difference.as_ref());
    if let Some(of) = difference {
        change.p_different = of.p_different();
    }
    Ok(change)
}

/// Names of the conditions that `new` and `base` runs were not measured under alike.
pub fn unlike_conditions(base: &[ComparedRun<'_>], new: &ComparedRun<'_>) -> Vec<Unlike> {
    unlike::conditions(base, std::slice::from_ref(new))
}

/// Compares `new` runs to `base` runs, over all cases and metrics that every run has.
///
/// `history` are further runs of the same scenario, which tell how much runs differ; `margin` is the share (above 0;
/// 0.05: 5 %) within which two figures are the same. Cases that were measured in unlike ways are left out, and said to
/// be; other unlike conditions are listed for the reader to judge, since a new kernel may be the very question.
pub fn compare(
    base: &[ComparedRun<'_>],
    new: &[ComparedRun<'_>],
    history: &[ComparedRun<'_>],
    margin: f64,
) -> Comparison {
    let mut comparison = Comparison {
        unlike: unlike::conditions(base, new),
        margin,
        ..Comparison::default()
    };
    let Some(first) = base.first().filter(|_| !new.is_empty()) else {
        return comparison;
    };
    let refused = unlike::cases(base, new);
    comparison.left_out = refused.values().cloned().collect();
    let mut differences = Vec::new();
    for row in &first.summary.rows {
        let case = (row.path.clone(), row.workload.clone());
        if refused.contains_key(&case) || !judged(first, &row.path, &row.workload, row.metric) {
            continue;
        }
        let observe = |run: &ComparedRun<'_>| observe(run, &row.path, &row.workload, row.metric);
        let sides: (Option<Vec<_>>, Option<Vec<_>>) = (
            base.iter().map(observe).collect(),
            new.iter().map(observe).collect(),
        );
        let (Some(base), Some(new)) = sides else {
            comparison.left_out.push(format!(
                "`{}`, `{}`: not every run has a {} above zero.",
                row.path, row.workload, row.metric
            ));
            continue;
        };
        let history: Vec<_> = history.iter().filter_map(observe).collect();
        let difference = difference(&base, &new, &history);
        comparison.changes.push(change(
            (&row.path, &row.workload, row.metric),
            &base,
            &new,
            difference.as_ref(),
        ));
        differences.push(difference);
    }
    let limit = margin.ln_1p();
    let probabilities: Vec<f64> = differences
        .iter()
        .flat_map(|difference| {
            let of = difference.as_ref();
            [
                of.map_or(1.0, Difference::p_different),
                of.map_or(1.0, |of| of.p_same(limit)),
            ]
        })
        .collect();
    let adjusted = adjust(&probabilities, differences.len());
    for (change, of) in comparison.changes.iter_mut().zip(adjusted.chunks_exact(2)) {
        if let [different, same] = *of {
            (change.p_different, change.p_same) = (different, same);
            let more = change.ratio > 1.0;
            change.state = match (same < ERROR, different < ERROR) {
                (true, _) => ChangeState::Same,
                (false, false) => ChangeState::CantTell,
                (false, true) if more == change.metric.more_is_better() => ChangeState::Better,
                (false, true) => ChangeState::Worse,
            };
        }
    }
    comparison
}

#[cfg(test)]
mod tests;
