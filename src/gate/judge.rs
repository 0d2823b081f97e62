//! A gate's verdict from a run's summary.

use super::{
    GateReport, GateState, GateVerdict,
    baseline::judge_worsening,
    closed,
    sequential::{Decision, Limits, Plan},
};
use crate::{
    analysis::{self, CaseSummary, Estimate, Row, Summary, compare::ComparedRun},
    run::Manifest,
    scenario::{GateRule, Limit, Metric, RequiredEvidence},
};
use std::fmt::Write as _;

/// Judges every gate of a run's scenario, and every path of it that is expected to be unreachable.
///
/// Where the scenario's `blocks` have an `at-most` above `at-least`, the run may have ended by what its gates said, and
/// the sequential test decides ([`super::sequential`]).
pub fn judge(manifest: &Manifest, summary: &Summary) -> GateReport {
    judge_against(manifest, summary, &[])
}

/// Judges every gate of a run's scenario, those with `not-worse-by` against the `baseline` runs. Without a baseline
/// these are skipped.
pub fn judge_against(manifest: &Manifest, summary: &Summary, baseline: &[ComparedRun<'_>]) -> GateReport {
    let judgements = judge_all(manifest, summary, baseline);
    GateReport {
        verdicts: judgements
            .map(|(rule, judgement)| judgement.verdict(rule))
            .chain(closed::judge(manifest, summary))
            .collect(),
    }
}

/// The gates that further blocks of a run may still decide, by name: none where the number of blocks is fixed. A gate
/// that no block can decide, since its path is not proved or its metric doesn't exist, is not among them.
pub fn open_gates<'a>(manifest: &'a Manifest, summary: &Summary) -> Vec<&'a str> {
    judge_all(manifest, summary, &[])
        .filter(|(_, judgement)| judgement.open)
        .map(|(rule, _)| rule.name.as_str())
        .collect()
}

fn judge_all<'a>(
    manifest: &'a Manifest,
    summary: &Summary,
    baseline: &[ComparedRun<'_>],
) -> impl Iterator<Item = (&'a GateRule, Judgement)> {
    let blocks = manifest.scenario.blocks;
    let plan = blocks
        .at_most
        .and_then(|at_most| Plan::new(blocks.at_least, at_most));
    manifest.scenario.gates.iter().map(move |rule| {
        let judgement = match manifest.skipped_gates.get(&rule.name) {
            Some(reason) => Judgement::skipped(reason),
            None => match rule.not_worse_by {
                Some(worsening) => {
                    let run = ComparedRun { manifest, summary };
                    judge_worsening(rule, worsening, &run, baseline)
                }
                None => judge_rule(rule, summary, plan.as_ref()),
            },
        };
        (rule, judgement)
    })
}

/// A verdict, the rule itself left out.
pub(super) struct Judgement {
    pub(super) state: GateState,
    pub(super) estimate: Option<Estimate>,
    /// The sentence, without what was expected.
    pub(super) message: String,
    /// Whether more blocks of this run may decide it.
    pub(super) open: bool,
}

impl Judgement {
    pub(super) fn skipped(reason: &str) -> Self {
        Self {
            state: GateState::Skipped,
            estimate: None,
            message: format!("Not judged: {reason}."),
            open: false,
        }
    }

    pub(super) fn inconclusive(estimate: Option<Estimate>, message: String) -> Self {
        Self {
            state: GateState::Inconclusive,
            estimate,
            message,
            open: false,
        }
    }

    fn verdict(self, rule: &GateRule) -> GateVerdict {
        let expected = expected(rule);
        GateVerdict {
            gate: rule.name.clone(),
            state: self.state,
            path: rule.path.clone(),
            workload: rule.workload.clone(),
            metric: Some(rule.metric),
            relative_to: rule.relative_to.clone(),
            against_baseline: rule.not_worse_by.is_some(),
            message: format!(
                "`{}`, `{}`: {} should be {expected}. {}",
                rule.path, rule.workload, rule.metric, self.message
            ),
            expected,
            seen: self.estimate.map(|estimate| estimate.median),
            interval: self.estimate.and_then(|estimate| estimate.interval),
            trials: self.estimate.map_or(0, |estimate| estimate.count),
        }
    }
}

/// A figure with four significant digits, without needless zeros.
pub(super) fn figure(value: f64) -> String {
    let magnitude = if value == 0.0 {
        0
    } else {
        value.abs().log10().floor() as i32
    };
    let decimals = (3 - magnitude).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A figure with its unit; a ratio has none.
fn with_unit(rule: &GateRule, value: f64) -> String {
    if rule.relative_to.is_some() {
        figure(value)
    } else {
        format!("{} {}", figure(value), rule.metric.unit())
    }
}

/// What a rule promises, in words.
fn expected(rule: &GateRule) -> String {
    if let Some(worsening) = rule.not_worse_by {
        return format!("not worse than in the baseline by {worsening}");
    }
    let limit = |limit: Limit| match limit {
        Limit::Number(number) => with_unit(rule, number),
        Limit::Rate(_) | Limit::Time(_) => limit.to_string(),
    };
    let bounds: Vec<String> = [
        rule.at_least
            .map(|at_least| format!("at least {}", limit(at_least))),
        rule.at_most.map(|at_most| format!("at most {}", limit(at_most))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let bounds = if bounds.is_empty() {
        "measured".to_owned()
    } else {
        bounds.join(" and ")
    };
    match &rule.relative_to {
        Some(base) => format!("{bounds} of `{base}`"),
        None => bounds,
    }
}

/// What was seen, in words.
fn seen(rule: &GateRule, estimate: &Estimate) -> String {
    let of = if rule.relative_to.is_some() {
        "paired blocks"
    } else {
        "trials"
    };
    let spread = match estimate.interval {
        Some((low, high)) => format!(
            "{:.1} % interval {} to {}",
            estimate.coverage * 100.0,
            with_unit(rule, low),
            with_unit(rule, high)
        ),
        None => format!(
            "seen from {} to {}",
            with_unit(rule, estimate.range.0),
            with_unit(rule, estimate.range.1)
        ),
    };
    format!(
        "The median of {} {of} is {}, {spread}",
        estimate.count,
        with_unit(rule, estimate.median)
    )
}

/// Where it is told which way trials took.
const WHY_ANOTHER_WAY: &str =
    "see the evidence in the report; in a lab, `encapbench doctor SCENARIO` looks for the cause";

/// What to look at next, where a figure is not as promised.
pub(super) fn next(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput | Metric::LoadThroughput => {
            "Look at the CPU's share in softirq, the NIC's tunnel offloads and the retransmissions in the report; in a \
             lab, `encapbench doctor SCENARIO` looks for the cause."
        }
        Metric::Retransmits | Metric::LossPercent | Metric::ReorderedPercent => {
            "Look for drops at the devices and in the queues; in a lab, `encapbench doctor SCENARIO` does."
        }
        Metric::Fairness | Metric::SlowestPair => {
            "Look at the pairs in the report: which are slow, and what they share (a node, a rack, an uplink)."
        }
        Metric::CpuSecondsPerGb => {
            "Look at the NIC's tunnel offloads; in a lab, `encapbench doctor SCENARIO` does."
        }
        _ => {
            "Look at the latency's distribution and the send lag in the report, and at other load on the nodes."
        }
    }
}

/// A case that a gate is about; both of a relative one's must carry the verdict.
pub(super) fn unfit(rule: &GateRule, case: &CaseSummary) -> Option<String> {
    if case.valid == 0 {
        let why = match (case.contradicted, case.failed) {
            (0, 0) => "none was measured: go on with `encapbench run --resume`".to_owned(),
            (contradicted, 0) => format!("{contradicted} took another way: {WHY_ANOTHER_WAY}"),
            (0, failed) => format!("{failed} failed: see the run's warnings"),
            (contradicted, failed) => {
                format!("{contradicted} took another way and {failed} failed: see the run's warnings")
            }
        };
        return Some(format!("No trial of `{}` counts; {why}.", case.path));
    }
    if case.unknown > 0 && rule.evidence == RequiredEvidence::Confirmed {
        return Some(format!(
            "The path of {} of the {} trials of `{}` is not proved, so they may be of another encapsulation. See the \
             evidence in the run's warnings, or say `evidence: any` in the gate.",
            case.unknown, case.valid, case.path
        ));
    }
    if let Some(share) = case.short_of_rate {
        return Some(format!(
            "Of `{}` only {:.0} % of the rate that was asked was ever sent: lower the rate, or give the workers more CPU.",
            case.path,
            share * 100.0
        ));
    }
    None
}

/// What a reader of a verdict should know besides; empty, or with a space before it.
pub(super) fn besides(rule: &GateRule, cases: &[&CaseSummary]) -> String {
    let mut sentences = String::new();
    for case in cases {
        if case.contradicted > 0 {
            let trials = if case.contradicted == 1 {
                "1 trial"
            } else {
                &format!("{} trials", case.contradicted)
            };
            let _ = write!(
                sentences,
                " {trials} of `{}` took another way and did not count: {WHY_ANOTHER_WAY}.",
                case.path
            );
        }
        let of_latency = rule.metric.latency_quantile().is_some() || rule.metric == Metric::LatencyMax;
        if case.generator_bound && of_latency {
            let _ = write!(
                sentences,
                " Of `{}` the sender bounds the latency, not the path: lower the rate.",
                case.path
            );
        }
    }
    sentences
}

/// Why there is no figure although trials count.
fn no_figure(rule: &GateRule, case: Option<&CaseSummary>, row: Option<&Row>) -> String {
    let histogram = case.and_then(|case| match rule.metric {
        Metric::SendLagP99 => case.send_lag.as_ref(),
        _ => case.latency.as_ref(),
    });
    if let (Some(needed), Some(_)) = (analysis::samples_needed(rule.metric), histogram) {
        return format!(
            "Single trials are too short for {}: it needs {needed} samples a trial. Raise the workload's duration or \
             rate.",
            rule.metric
        );
    }
    if row.is_some_and(|row| row.estimate.is_some()) {
        return "The path compared to has no such figure above zero in every block, so there is no ratio."
            .to_owned();
    }
    format!("This workload has no {}.", rule.metric)
}

fn judge_rule(rule: &GateRule, summary: &Summary, plan: Option<&Plan>) -> Judgement {
    let mut cases = Vec::new();
    for path in [Some(&rule.path), rule.relative_to.as_ref()]
        .into_iter()
        .flatten()
    {
        let Some(case) = summary.case(path, &rule.workload) else {
            return Judgement::inconclusive(
                None,
                format!("The run has no `{path}` with `{}`.", rule.workload),
            );
        };
        cases.push(case);
    }
    let row = summary.row(&rule.path, &rule.workload, rule.metric);
    let estimate = match cases.as_slice() {
        [of, base] => analysis::relative(base, of, rule.metric),
        _ => row.and_then(|row| row.estimate),
    };
    if let Some(reason) = cases.iter().find_map(|case| unfit(rule, case)) {
        return Judgement {
            // A trial that counts may still come; one without proof stays.
            open: plan.is_some() && cases.iter().any(|case| case.valid == 0),
            ..Judgement::inconclusive(estimate, reason)
        };
    }
    let Some(estimate) = estimate else {
        return Judgement::inconclusive(None, no_figure(rule, cases.first().copied(), row));
    };
    let seen = seen(rule, &estimate);
    let besides = besides(rule, &cases);
    if let Some(plan) = plan {
        let figures = match cases.as_slice() {
            [of, base] => analysis::paired_ratios(base.points(rule.metric), of.points(rule.metric)),
            _ => cases
                .first()
                .map_or(&[][..], |case| case.points(rule.metric))
                .to_vec(),
        };
        let figures: Vec<f64> = figures.iter().map(|point| point.value).collect();
        return judge_sequentially(rule, plan, &figures, estimate, &besides);
    }
    let Some((low, high)) = estimate.interval else {
        let failed: usize = cases.iter().map(|case| case.failed).sum();
        if estimate.count.saturating_add(failed) >= analysis::LEAST_FOR_INTERVAL {
            return Judgement::inconclusive(
                Some(estimate),
                format!(
                    "{seen}: too few for a 95 % interval, since {failed} failed: see the run's warnings, mend the \
                     cause and run again.{besides}"
                ),
            );
        }
        return Judgement::inconclusive(
            Some(estimate),
            format!(
                "{seen}: too few for a 95 % interval. At least {least} blocks are needed: run with `--blocks {least}` \
                 or more.{besides}",
                least = analysis::LEAST_FOR_INTERVAL
            ),
        );
    };
    let floor = rule.at_least.map_or(f64::NEG_INFINITY, Limit::value);
    let ceiling = rule.at_most.map_or(f64::INFINITY, Limit::value);
    let (state, message) = if low >= floor && high <= ceiling {
        (
            GateState::Pass,
            format!("{seen}, all of it as promised.{besides}"),
        )
    } else if high < floor || low > ceiling {
        let side = if high < floor { "below" } else { "above" };
        (
            GateState::Fail,
            format!(
                "{seen}, all of it {side} the limit. {}{besides}",
                next(rule.metric)
            ),
        )
    } else {
        (
            GateState::Inconclusive,
            format!(
                "{seen}, on both sides of the limit. More blocks make the interval narrower: run with `--blocks {}`.{besides}",
                estimate.count.saturating_mul(2)
            ),
        )
    };
    Judgement {
        state,
        estimate: Some(estimate),
        message,
        open: false,
    }
}

/// The verdict of the sequential test; the estimate only describes.
fn judge_sequentially(
    rule: &GateRule,
    plan: &Plan,
    figures: &[f64],
    estimate: Estimate,
    besides: &str,
) -> Judgement {
    let seen = seen(rule, &estimate);
    let limits = Limits {
        at_least: rule.at_least.map(Limit::value),
        at_most: rule.at_most.map(Limit::value),
    };
    let (decision, at) = plan.decide(figures, limits);
    let (first, last) = (plan.first(), plan.last());
    let test =
        format!("the sequential test (looks from {first} to {last} trials, errors at the limit 5 % in all)");
    let (state, message) = match decision {
        Decision::Pass => (
            GateState::Pass,
            format!("{seen}; {test} passed it at trial {at}.{besides}"),
        ),
        Decision::Fail => (
            GateState::Fail,
            format!(
                "{seen}; {test} failed it at trial {at}. {}{besides}",
                next(rule.metric)
            ),
        ),
        Decision::Continue if at < last => (
            GateState::Inconclusive,
            format!(
                "{seen}; {test} has not decided after {at}: the run ended before its last look.{besides}"
            ),
        ),
        Decision::Continue => (
            GateState::Inconclusive,
            format!(
                "{seen}; {test} has not decided: the median is too near to the limit for so many. Raise `at-most` of \
                 the scenario's `blocks`.{besides}"
            ),
        ),
    };
    Judgement {
        state,
        estimate: Some(estimate),
        message,
        open: decision == Decision::Continue && at < last,
    }
}
