//! A gate's verdict from a run's summary.

use super::{GateReport, GateState, GateVerdict};
use crate::{
    analysis::{self, CaseSummary, Estimate, Row, Summary},
    run::Manifest,
    scenario::{GateRule, Limit, Metric, RequiredEvidence},
};
use std::fmt::Write as _;

/// Judges every gate of a run's scenario.
pub fn judge(manifest: &Manifest, summary: &Summary) -> GateReport {
    GateReport {
        verdicts: manifest
            .scenario
            .gates
            .iter()
            .map(|rule| match manifest.skipped_gates.get(&rule.name) {
                Some(reason) => Judgement::skipped(reason).verdict(rule),
                None => judge_rule(rule, summary).verdict(rule),
            })
            .collect(),
    }
}

/// A verdict, the rule itself left out.
struct Judgement {
    state: GateState,
    estimate: Option<Estimate>,
    /// The sentence, without what was expected.
    message: String,
}

impl Judgement {
    fn skipped(reason: &str) -> Self {
        Self {
            state: GateState::Skipped,
            estimate: None,
            message: format!("Not judged: {reason}."),
        }
    }

    fn inconclusive(estimate: Option<Estimate>, message: String) -> Self {
        Self {
            state: GateState::Inconclusive,
            estimate,
            message,
        }
    }

    fn verdict(self, rule: &GateRule) -> GateVerdict {
        let expected = expected(rule);
        GateVerdict {
            gate: rule.name.clone(),
            state: self.state,
            path: rule.path.clone(),
            workload: rule.workload.clone(),
            metric: rule.metric,
            relative_to: rule.relative_to.clone(),
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
fn figure(value: f64) -> String {
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

/// What to look at next, where a figure is not as promised.
fn next(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput | Metric::LoadThroughput => {
            "Look at the CPU's share in softirq, the NIC's tunnel offloads and the retransmissions in the report, and \
             run `encapbench doctor`."
        }
        Metric::Retransmits | Metric::LossPercent => {
            "Look for drops at the devices and in the queues, and run `encapbench doctor`."
        }
        Metric::CpuSecondsPerGb => "Look at the NIC's tunnel offloads, and run `encapbench doctor`.",
        _ => {
            "Look at the latency's distribution and the send lag in the report, and at other load on the nodes."
        }
    }
}

/// A case that a gate is about; both of a relative one's must carry the verdict.
fn unfit(rule: &GateRule, case: &CaseSummary) -> Option<String> {
    if case.valid == 0 {
        let why = match (case.contradicted, case.failed) {
            (0, 0) => "none was measured: go on with `encapbench run --resume`".to_owned(),
            (contradicted, 0) => format!("{contradicted} took another way: run `encapbench doctor`"),
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
    None
}

/// What a reader of a verdict should know besides; empty, or with a space before it.
fn besides(rule: &GateRule, cases: &[&CaseSummary]) -> String {
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
                " {trials} of `{}` took another way and did not count: run `encapbench doctor`.",
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

fn judge_rule(rule: &GateRule, summary: &Summary) -> Judgement {
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
        return Judgement::inconclusive(estimate, reason);
    }
    let Some(estimate) = estimate else {
        return Judgement::inconclusive(None, no_figure(rule, cases.first().copied(), row));
    };
    let seen = seen(rule, &estimate);
    let besides = besides(rule, &cases);
    let Some((low, high)) = estimate.interval else {
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
    }
}
