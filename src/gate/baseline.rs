//! A gate against earlier runs: `not-worse-by`.
//!
//! A run is one observation, and runs differ by themselves: [`crate::analysis::compare`] says by how much. The gate
//! passes when the whole 95 % interval of the ratio to the baseline is within what is allowed, fails when all of it is
//! beyond, and else can't tell, so that either verdict is false in at most 2.5 % of runs at the limit. An amount is
//! taken as a share of the baseline's figure as it was seen.
//!
//! With a single baseline run nothing is known of the scatter between runs and a generous one is assumed. Then a gate
//! fails by a large difference only, and passes only where the run is clearly better, for likeness can't be shown.

use super::{
    GateState,
    judge::{Judgement, besides, figure, next, unfit},
};
use crate::{
    analysis::{
        Estimate,
        compare::{ComparedRun, compare_figure, unlike_conditions},
    },
    scenario::{GateRule, Worsening},
};
use std::fmt::Write as _;

/// How sure an interval of the comparison is.
const COVERAGE: f64 = 0.95;

/// The verdict over one figure of `run` against the runs of `baseline`.
pub(super) fn judge_worsening(
    rule: &GateRule,
    worsening: Worsening,
    run: &ComparedRun<'_>,
    baseline: &[ComparedRun<'_>],
) -> Judgement {
    if baseline.is_empty() {
        return Judgement::skipped(
            "it compares with earlier runs, and none was given; `encapbench gate RUN --baseline RUN` judges it",
        );
    }
    let Some(case) = run.summary.case(&rule.path, &rule.workload) else {
        return Judgement::inconclusive(
            None,
            format!("The run has no `{}` with `{}`.", rule.path, rule.workload),
        );
    };
    if let Some(reason) = unfit(rule, case) {
        return Judgement::inconclusive(None, reason);
    }
    let mut earlier = baseline
        .iter()
        .filter_map(|run| run.summary.case(&rule.path, &rule.workload));
    if let Some(reason) = earlier.find_map(|case| unfit(rule, case)) {
        return Judgement::inconclusive(None, format!("In the baseline: {reason}"));
    }
    let change = match compare_figure(baseline, run, &rule.path, &rule.workload, rule.metric) {
        Ok(change) => change,
        Err(reason) => return Judgement::inconclusive(None, reason),
    };
    let trials = case.points(rule.metric).len();
    let unit = rule.metric.unit();
    let percent = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let runs = match baseline.len() {
        1 => "1 baseline run".to_owned(),
        count => format!("{count} baseline runs"),
    };
    let mut seen = format!(
        "The median of {trials} trials is {} {unit}, against {} {unit} of {runs}: {}",
        figure(change.new),
        figure(change.base),
        percent(change.ratio)
    );
    let estimate = Estimate {
        count: trials,
        median: change.ratio,
        interval: change.interval,
        coverage: COVERAGE,
        range: (change.ratio, change.ratio),
    };
    let mut besides = besides(rule, &[case]);
    let unlike: Vec<String> = unlike_conditions(baseline, run)
        .into_iter()
        .map(|unlike| unlike.what)
        .collect();
    if !unlike.is_empty() {
        // Writing to a String can't fail.
        let _ = write!(
            besides,
            " The runs were measured under unlike conditions ({}): see `encapbench compare`.",
            unlike.join(", ")
        );
    }
    let Some((low, high)) = change.interval else {
        return Judgement::inconclusive(
            Some(estimate),
            format!("{seen}; too few trials for an interval. Run at least 2 blocks.{besides}"),
        );
    };
    let _ = write!(seen, ", 95 % interval {} to {}", percent(low), percent(high));
    // As if less were better: what is beyond the limit is worse.
    let allowed = worsening.allowed_share(change.base);
    let (best, worst) = if rule.metric.more_is_better() {
        (1.0 - high, 1.0 - low)
    } else {
        (low - 1.0, high - 1.0)
    };
    let assumed = change.degrees == 0;
    let pass_below = if assumed { 0.0 } else { allowed };
    let (state, message) = if best > allowed {
        (
            GateState::Fail,
            format!(
                "{seen}, all of it worse than allowed. {} `encapbench compare` shows what else changed.{besides}",
                next(rule.metric)
            ),
        )
    } else if worst <= pass_below {
        (
            GateState::Pass,
            format!("{seen}, all of it as promised.{besides}"),
        )
    } else if assumed {
        (
            GateState::Inconclusive,
            format!(
                "{seen}. How much runs differ by themselves is not known from one baseline run, so only large \
                 differences are told: give --baseline again, with further runs of the same scenario.{besides}"
            ),
        )
    } else {
        (
            GateState::Inconclusive,
            format!(
                "{seen}, on both sides of the limit. Give --baseline more runs of the same scenario, or measure \
                 again.{besides}"
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
