//! `metrics.prom`: the run's figures as OpenMetrics text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>),
//! for Prometheus' text file collector, which reads its files in Prometheus' own text format: gauges only and no
//! timestamps is what both take. Every sample carries the scenario, so that files of several scenarios can lie in one
//! folder.

use super::{Inputs, labels::plain};
use crate::{
    analysis::{Estimate, Row},
    evidence::EvidenceState,
    gate::GateState,
    run::Outcome,
    scenario::Metric,
};
use std::fmt::Write as _;

/// A metric's name, unit (which ends the name), help, and what its figure is multiplied with to be in that unit.
struct Family {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    factor: f64,
}

const fn family(name: &'static str, unit: &'static str, help: &'static str, factor: f64) -> Family {
    Family {
        name,
        unit,
        help,
        factor,
    }
}

/// In Prometheus' base units: bytes and seconds.
fn of_metric(metric: Metric) -> Family {
    match metric {
        Metric::Throughput => family(
            "encapbench_throughput_bytes_per_second",
            "bytes_per_second",
            "Bytes a second that the receivers read.",
            1e6,
        ),
        Metric::LoadThroughput => family(
            "encapbench_load_throughput_bytes_per_second",
            "bytes_per_second",
            "Bytes a second of the load that ran while latency was probed.",
            1e6,
        ),
        Metric::Retransmits => family(
            "encapbench_retransmits_segments",
            "segments",
            "TCP segments sent again in a trial.",
            1.0,
        ),
        Metric::CpuSecondsPerGb => family(
            "encapbench_cpu_seconds_per_gigabyte",
            "",
            "CPU seconds of all machines involved for 10^9 bytes received.",
            1.0,
        ),
        Metric::LatencyP50
        | Metric::LatencyP90
        | Metric::LatencyP99
        | Metric::LatencyP99_9
        | Metric::LatencyP99_99
        | Metric::LatencyMax => family(
            "encapbench_latency_seconds",
            "seconds",
            "Round trips: a share `quantile` of them took no longer.",
            1e-6,
        ),
        Metric::SendLagP99 => family(
            "encapbench_send_lag_p99_seconds",
            "seconds",
            "99 % of requests were sent less late than this.",
            1e-6,
        ),
        Metric::TransactionsPerSecond => family(
            "encapbench_transactions_per_second",
            "",
            "Transactions completed a second.",
            1.0,
        ),
        Metric::LossPercent => family("encapbench_loss_ratio", "ratio", "Share of datagrams lost.", 0.01),
        Metric::ReorderedPercent => family(
            "encapbench_reordered_ratio",
            "ratio",
            "Share of datagrams that came late or twice.",
            0.01,
        ),
        Metric::Fairness => family(
            "encapbench_fairness_ratio",
            "ratio",
            "Jain's fairness index of pairs that were loaded at once.",
            1.0,
        ),
        Metric::SlowestPair => family(
            "encapbench_slowest_pair_bytes_per_second",
            "bytes_per_second",
            "Bytes a second of the slowest of the pairs that were loaded at once.",
            1e6,
        ),
        Metric::Jitter => family(
            "encapbench_jitter_seconds",
            "seconds",
            "Smoothed variation of the transit time.",
            1e-6,
        ),
    }
}

/// The `quantile` label of a percentile.
fn quantile(metric: Metric) -> Option<String> {
    match metric {
        Metric::LatencyMax => Some("1".to_owned()),
        other => other.latency_quantile().map(|quantile| quantile.to_string()),
    }
}

struct Text {
    out: String,
    scenario: String,
}

impl Text {
    fn begin(&mut self, family: &Family) {
        _ = writeln!(self.out, "# TYPE {} gauge", family.name);
        if !family.unit.is_empty() {
            _ = writeln!(self.out, "# UNIT {} {}", family.name, family.unit);
        }
        _ = writeln!(self.out, "# HELP {} {}", family.name, family.help);
    }

    /// A sample; a figure that is not finite is not known, and none is written.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        if !value.is_finite() {
            return;
        }
        let scenario = self.scenario.clone();
        _ = write!(self.out, "{name}{{scenario=\"{}\"", escape(&scenario));
        for (label, of) in labels {
            _ = write!(self.out, ",{label}=\"{}\"", escape(of));
        }
        _ = writeln!(self.out, "}} {}", number(value));
    }

    fn estimate(&mut self, family: &Family, labels: &[(&str, &str)], estimate: &Estimate) {
        let mut one = |stat: &str, value: f64| {
            let labels: Vec<_> = labels.iter().copied().chain([("stat", stat)]).collect();
            self.sample(family.name, &labels, value * family.factor);
        };
        one("median", estimate.median);
        if let Some((low, high)) = estimate.interval {
            one("ci_low", low);
            one("ci_high", high);
        }
    }

    /// A gauge for each state, 1 for the one that holds: what a StateSet is in Prometheus' text format.
    fn states(&mut self, name: &str, labels: &[(&str, &str)], states: &[&str], holds: &str) {
        for state in states {
            let labels: Vec<_> = labels.iter().copied().chain([("state", *state)]).collect();
            self.sample(name, &labels, f64::from(u8::from(*state == holds)));
        }
    }
}

/// Six significant digits: no figure here has more.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (5 - magnitude).clamp(0, 15) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A label's value: what would end it is escaped.
fn escape(text: &str) -> String {
    plain(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

pub(super) fn write(inputs: &Inputs<'_>) -> String {
    let manifest = inputs.manifest;
    let mut text = Text {
        out: String::new(),
        scenario: manifest.scenario.name.clone(),
    };
    about_run(&mut text, inputs);
    let mut rows: Vec<&Row> = inputs.summary.rows.iter().collect();
    // All samples of a family stand together, the percentiles of latency among them.
    rows.sort_by_key(|row| of_metric(row.metric).name);
    let mut before = "";
    for row in rows {
        let Some(estimate) = &row.estimate else { continue };
        let family = of_metric(row.metric);
        if family.name != before {
            text.begin(&family);
            before = family.name;
        }
        let quantile = quantile(row.metric);
        let encapsulation = row.encapsulation.to_string();
        let mut labels = vec![
            ("path", row.path.as_str()),
            ("encapsulation", encapsulation.as_str()),
            ("workload", row.workload.as_str()),
        ];
        if let Some(quantile) = &quantile {
            labels.push(("quantile", quantile));
        }
        text.estimate(&family, &labels, estimate);
    }
    relative(&mut text, inputs);
    verdicts(&mut text, inputs);
    text.out.push_str("# EOF\n");
    text.out
}

fn about_run(text: &mut Text, inputs: &Inputs<'_>) {
    let manifest = inputs.manifest;
    let info = family(
        "encapbench_build_info",
        "",
        "The encapbench that measured, and the kernel it measured under.",
        1.0,
    );
    text.begin(&info);
    let labels = [
        ("version", manifest.encapbench.as_str()),
        ("kernel", &manifest.host.kernel),
    ];
    text.sample(info.name, &labels, 1.0);
    let start = family(
        "encapbench_run_start_timestamp_seconds",
        "seconds",
        "When the run began, in seconds since 1970: alert on its age where runs stop coming.",
        1.0,
    );
    text.begin(&start);
    // To a second, and in whole: six digits would be a day's worth off.
    _ = writeln!(
        text.out,
        "{}{{scenario=\"{}\"}} {}",
        start.name,
        escape(&manifest.scenario.name),
        manifest.started.as_second()
    );
    let trials = family(
        "encapbench_run_trials",
        "",
        "Trials of the run, by what became of them.",
        1.0,
    );
    text.begin(&trials);
    let count = |is: &dyn Fn(&crate::run::Trial) -> bool| {
        inputs.trials.iter().filter(|trial| is(trial)).count() as f64
    };
    let counts = [
        ("counted", count(&crate::run::Trial::is_valid)),
        (
            "contradicted",
            count(&|trial| {
                trial.outcome == Outcome::Measured && trial.verdict.state == EvidenceState::Contradicted
            }),
        ),
        (
            "failed",
            count(&|trial| matches!(trial.outcome, Outcome::Failed { .. })),
        ),
        (
            "interrupted",
            count(&|trial| trial.outcome == Outcome::Interrupted),
        ),
    ];
    for (state, count) in counts {
        text.sample(trials.name, &[("state", state)], count);
    }
}

fn relative(text: &mut Text, inputs: &Inputs<'_>) {
    let family = family(
        "encapbench_relative_ratio",
        "ratio",
        "A path's figure over that of the path it is compared to, paired within blocks.",
        1.0,
    );
    let rows: Vec<_> = inputs
        .summary
        .rows
        .iter()
        .filter_map(|row| Some((row, row.relative_to.as_deref()?, row.relative.as_ref()?)))
        .collect();
    if rows.is_empty() {
        return;
    }
    text.begin(&family);
    for (row, base, estimate) in rows {
        let labels = [
            ("path", row.path.as_str()),
            ("workload", row.workload.as_str()),
            ("metric", row.metric.name()),
            ("relative_to", base),
        ];
        text.estimate(&family, &labels, estimate);
    }
}

fn verdicts(text: &mut Text, inputs: &Inputs<'_>) {
    let evidence = family(
        "encapbench_evidence_state",
        "",
        "1 for what the evidence says of a case's path: the worst of its trials that count.",
        1.0,
    );
    text.begin(&evidence);
    let mut seen = std::collections::BTreeSet::new();
    for row in &inputs.summary.rows {
        if seen.insert((row.path.as_str(), row.workload.as_str())) {
            text.states(
                evidence.name,
                &[("path", &row.path), ("workload", &row.workload)],
                &["confirmed", "unknown", "contradicted"],
                &row.evidence.to_string(),
            );
        }
    }
    if inputs.gates.verdicts.is_empty() {
        return;
    }
    let states = [
        GateState::Pass,
        GateState::Fail,
        GateState::Inconclusive,
        GateState::Skipped,
    ]
    .map(|state| state.to_string());
    let states: Vec<&str> = states.iter().map(String::as_str).collect();
    let gates = family("encapbench_gate_state", "", "1 for what a gate says.", 1.0);
    text.begin(&gates);
    for verdict in &inputs.gates.verdicts {
        text.states(
            gates.name,
            &[("gate", &verdict.gate)],
            &states,
            &verdict.state.to_string(),
        );
    }
}

#[cfg(test)]
mod tests;
