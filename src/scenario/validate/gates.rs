//! Blocks, the path to compare to, references and gates.

use super::{Problems, title_fault};
use crate::scenario::{
    Amount, Blocks, GateRule, Limit, Metric, Protocol, Scenario, WorkloadKind, Worsening, problem::Step,
};
use std::collections::BTreeSet;

/// The most blocks of a run.
const MOST_BLOCKS: u64 = Blocks::MOST as u64;

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    let at_least: [Step; 2] = ["blocks".into(), "at-least".into()];
    let at_most: [Step; 2] = ["blocks".into(), "at-most".into()];
    let least = u64::from(scenario.blocks.at_least);
    problems.number(&at_least, "at-least", least, 1..=MOST_BLOCKS);
    if let Some(most) = scenario.blocks.at_most {
        problems.number(&at_most, "at-most", u64::from(most), 1..=MOST_BLOCKS);
        if u64::from(most) < least {
            problems.say(
                &at_most,
                format!("at most {most} blocks are fewer than the {least} that there are at least"),
                format!("raise it to {least} or more, or leave it out"),
            );
        }
    }
    let paths: Vec<&str> = scenario.paths.iter().map(|path| path.name.as_str()).collect();
    if let Some(base) = &scenario.relative_to {
        problems.known(&["relative-to".into()], "path", "paths", base, &paths);
        measured(scenario, base, &["relative-to".into()], problems);
        if is_spread(scenario, base) {
            problems.say(
                &["relative-to".into()],
                format!("`{base}` stands for a path of each pair, and others are compared to one"),
                "name a path of one pair; a gate may compare pair by pair".to_owned(),
            );
        }
    }
    references(scenario, &paths, problems);
    check_gates(scenario, problems);
}

/// Whether a path stands for several, one of each pair.
fn is_spread(scenario: &Scenario, name: &str) -> bool {
    let path = scenario.paths.iter().find(|path| path.name == name);
    path.and_then(|path| path.all_pairs.as_ref())
        .is_some_and(|pairs| !pairs.together)
}

/// The gates alone.
pub(super) fn check_gates(scenario: &Scenario, problems: &mut Problems) {
    let paths: Vec<&str> = scenario.paths.iter().map(|path| path.name.as_str()).collect();
    problems.unique("gates", scenario.gates.iter().map(|gate| gate.name.as_str()));
    for (index, rule) in scenario.gates.iter().enumerate() {
        gate(
            scenario,
            rule,
            &paths,
            |key| ["gates".into(), index.into(), key.into()],
            problems,
        );
    }
}

/// What the named workload measures, where there is one; complains where there is none.
fn kind<'a>(
    scenario: &'a Scenario,
    name: &str,
    at: &[Step],
    problems: &mut Problems,
) -> Option<WorkloadKind<'a>> {
    let workloads: Vec<&str> = scenario
        .workloads
        .iter()
        .map(|workload| workload.name.as_str())
        .collect();
    problems.known(at, "workload", "workloads", name, &workloads);
    scenario
        .workloads
        .iter()
        .find(|workload| workload.name == name)?
        .kind()
}

fn references(scenario: &Scenario, paths: &[&str], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, reference) in scenario.reference.iter().enumerate() {
        let at = |key: &'static str| ["reference".into(), index.into(), key.into()];
        problems.known(&at("path"), "path", "paths", &reference.path, paths);
        if let Some(WorkloadKind::Latency(_)) = kind(scenario, &reference.workload, &at("workload"), problems)
        {
            problems.say(
                &at("workload"),
                format!(
                    "`{}` measures latency, and a reference is a throughput",
                    reference.workload
                ),
                None,
            );
        }
        if reference.throughput.0 == 0 {
            problems.say(&at("throughput"), "a reference is above zero", None);
        }
        if !seen.insert((&reference.path, &reference.workload)) {
            problems.say(
                &at("path"),
                format!(
                    "there is a reference for `{}` with `{}` already",
                    reference.path, reference.workload
                ),
                None,
            );
        }
    }
}

/// What a metric's limit is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rate,
    Time,
    Number,
}

fn unit(metric: Metric) -> Unit {
    match metric.unit() {
        "MB/s" => Unit::Rate,
        "us" => Unit::Time,
        _ => Unit::Number,
    }
}

/// Why a gate can't judge `metric` of what `kind` measures.
fn misfit(metric: Metric, kind: WorkloadKind<'_>) -> Option<&'static str> {
    match (metric, kind) {
        (Metric::Throughput | Metric::Retransmits | Metric::CpuSecondsPerGb, WorkloadKind::Latency(_)) => {
            Some("is measured of throughput workloads, and this one measures latency")
        }
        (Metric::LoadThroughput, WorkloadKind::Latency(latency)) if latency.during.is_none() => {
            Some("is that of a load, and this workload has no `during`")
        }
        (Metric::SendLagP99, WorkloadKind::Latency(latency)) if latency.rate.is_none() => {
            Some("is that of a probe with a `rate`, and this workload has none")
        }
        (
            Metric::LossPercent | Metric::ReorderedPercent | Metric::Jitter,
            WorkloadKind::Throughput(throughput),
        ) => (throughput.protocol != Protocol::Udp).then_some("is measured of datagrams, and this is TCP"),
        (Metric::LossPercent | Metric::ReorderedPercent | Metric::Jitter, WorkloadKind::Latency(_)) => {
            Some("is measured of throughput workloads over UDP, and this one measures latency")
        }
        (Metric::Fairness | Metric::SlowestPair, WorkloadKind::Latency(_)) => {
            Some("is of the throughput of pairs that are loaded at once, and this workload measures latency")
        }
        (Metric::Retransmits, WorkloadKind::Throughput(throughput))
            if throughput.protocol == Protocol::Udp =>
        {
            Some("is measured of TCP, and UDP sends nothing again")
        }
        (
            Metric::Throughput
            | Metric::Retransmits
            | Metric::CpuSecondsPerGb
            | Metric::Fairness
            | Metric::SlowestPair,
            WorkloadKind::Throughput(_),
        )
        | (_, WorkloadKind::Latency(_)) => None,
        (_, WorkloadKind::Throughput(_)) => {
            Some("is measured of latency workloads, and this one measures throughput")
        }
    }
}

/// Complains where a path is named for its figures that has none.
fn measured(scenario: &Scenario, name: &str, at: &[Step], problems: &mut Problems) {
    let is_closed = |path: &&crate::scenario::PathSpec| path.name == name && !path.expect.is_reachable();
    if scenario.paths.iter().any(|path| is_closed(&path)) {
        problems.say(
            at,
            format!("nothing is measured of `{name}`, which is expected to be unreachable"),
            "that nothing gets through is a gate by itself: name another path here".to_owned(),
        );
    }
}

fn gate(
    scenario: &Scenario,
    rule: &GateRule,
    paths: &[&str],
    at: impl Fn(&'static str) -> [Step; 3],
    problems: &mut Problems,
) {
    if let Some(fault) = title_fault(&rule.name) {
        problems.say(&at("name"), format!("a gate's name {fault}"), None);
    }
    problems.known(&at("path"), "path", "paths", &rule.path, paths);
    measured(scenario, &rule.path, &at("path"), problems);
    if let Some(base) = &rule.relative_to {
        problems.known(&at("relative-to"), "path", "paths", base, paths);
        measured(scenario, base, &at("relative-to"), problems);
        if is_spread(scenario, base) && !is_spread(scenario, &rule.path) {
            problems.say(
                &at("relative-to"),
                format!(
                    "`{base}` stands for a path of each pair, and `{}` is one path",
                    rule.path
                ),
                "compare it with one path, or compare two paths of the same pairs".to_owned(),
            );
        }
        if *base == rule.path {
            problems.say(&at("relative-to"), "a path compared to itself is always 1", None);
        }
        if matches!(
            rule.metric,
            Metric::Retransmits | Metric::LossPercent | Metric::ReorderedPercent
        ) {
            problems.say(
                &at("metric"),
                format!("{} may well be 0, which has no ratio", rule.metric),
                "leave `relative-to` out, and judge the number itself".to_owned(),
            );
        }
    }
    if let Some(kind) = kind(scenario, &rule.workload, &at("workload"), problems)
        && let Some(why) = misfit(rule.metric, kind)
    {
        let fitting: Vec<&str> = Metric::ALL
            .into_iter()
            .filter(|m| misfit(*m, kind).is_none())
            .map(Metric::name)
            .collect();
        problems.say(
            &at("metric"),
            format!("{} {why}", rule.metric),
            super::suggest("", &format!("metrics of `{}`", rule.workload), &fitting),
        );
    }
    for (key, limit) in [("at-least", rule.at_least), ("at-most", rule.at_most)] {
        if let Some(limit) = limit {
            check_limit(rule, limit, &at(key), problems);
        }
    }
    if let Some(worsening) = rule.not_worse_by {
        check_worsening(rule, worsening, &at, problems);
        return;
    }
    match (rule.at_least, rule.at_most) {
        (None, None) => problems.say(
            &at("name"),
            format!("the gate `{}` has no limit", rule.name),
            "add `at-least`, `at-most` or both, or `not-worse-by`".to_owned(),
        ),
        (Some(least), Some(most)) if least.value() > most.value() => problems.say(
            &at("at-least"),
            format!("nothing is both at least {least} and at most {most}"),
            None,
        ),
        _ => {}
    }
}

/// How much worse than earlier runs.
fn check_worsening(
    rule: &GateRule,
    worsening: Worsening,
    at: &impl Fn(&'static str) -> [Step; 3],
    problems: &mut Problems,
) {
    let others = [
        ("relative-to", rule.relative_to.is_some()),
        ("at-least", rule.at_least.is_some()),
        ("at-most", rule.at_most.is_some()),
    ];
    for (key, _) in others.into_iter().filter(|(_, given)| *given) {
        problems.say(
            &at(key),
            format!("`{key}` and `not-worse-by` don't go together"),
            "make it a gate of its own".to_owned(),
        );
    }
    if matches!(
        rule.metric,
        Metric::Retransmits | Metric::LossPercent | Metric::ReorderedPercent
    ) {
        problems.say(
            &at("metric"),
            format!(
                "{} may well be 0, which nothing can be compared with",
                rule.metric
            ),
            "judge the number itself, with `at-most`".to_owned(),
        );
    }
    let unit = unit(rule.metric);
    // Of what is there, no more than all can go.
    let most = if rule.metric.more_is_better() { 1.0 } else { 10.0 };
    for amount in worsening.amounts() {
        let fits = match amount {
            Amount::Share(share) => share > 0.0 && share < most,
            Amount::Absolute(Limit::Number(number)) => number.is_finite() && number > 0.0,
            Amount::Absolute(Limit::Rate(rate)) => unit == Unit::Rate && rate.0 > 0,
            Amount::Absolute(Limit::Time(time)) => unit == Unit::Time && !time.get().is_zero(),
        };
        if !fits {
            let example = match unit {
                Unit::Rate => "50MB/s",
                Unit::Time => "20us",
                Unit::Number => "a number",
            };
            problems.say(
                &at("not-worse-by"),
                format!(
                    "{} is worse by a share above 0% and below {}%, or by an amount above zero such as {example}; \
                     `{amount}` is neither",
                    rule.metric,
                    most * 100.0
                ),
                None,
            );
        }
    }
}

fn check_limit(rule: &GateRule, limit: Limit, at: &[Step], problems: &mut Problems) {
    let metric = rule.metric;
    let expected = match unit(metric) {
        _ if rule.relative_to.is_some() => "a ratio such as 0.9, since the gate is relative".to_owned(),
        Unit::Rate => format!("a throughput such as 900MB/s, or a number of {}", metric.unit()),
        Unit::Time => "a time such as 250us, or a number of microseconds".to_owned(),
        Unit::Number => format!("a number ({})", metric.unit()),
    };
    let fits = match limit {
        Limit::Number(number) => number.is_finite() && number >= 0.0,
        Limit::Rate(_) => rule.relative_to.is_none() && unit(metric) == Unit::Rate,
        Limit::Time(_) => rule.relative_to.is_none() && unit(metric) == Unit::Time,
    };
    if !fits {
        problems.say(
            at,
            format!("a limit of {metric} is {expected}; `{limit}` is none"),
            None,
        );
    }
}
