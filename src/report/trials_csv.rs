//! `trials.csv`: one line a trial, also of those that don't count, in the order in which they were run.

use super::{Inputs, ReportError, digits, labels::cell, summary_csv::table};
use crate::{
    measure::{LatencyHistogram, Techniques},
    run::{Outcome, Trial},
    scenario::{Case, Metric},
};
use std::collections::BTreeSet;

/// A percentile with fewer samples than this expected beyond it says nothing and is left empty.
const LEAST_BEYOND: f64 = 10.0;

/// The columns.
const COLUMNS: [&str; 42] = [
    "block",
    "position",
    "case",
    "path",
    "workload",
    "started",
    "seconds",
    "outcome",
    "error",
    "counts",
    "evidence",
    "tunnel_share",
    "underlay_share",
    "evidence_reasons",
    "throughput_mb_s",
    "retransmits",
    "cpu_seconds",
    "cpu_softirq_seconds",
    "cpu_steal_seconds",
    "busiest_core_share",
    "busiest_core_softirq_share",
    "process_cpu_seconds",
    "path_mtu",
    "mss",
    "transactions",
    "transactions_per_second",
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_p99_9_us",
    "latency_p99_99_us",
    "latency_max_us",
    "unanswered",
    "load_mb_s",
    "send_lag_p99_us",
    "loss_percent",
    "reordered_percent",
    "jitter_us",
    "mean_burst",
    "sent_by",
    "received_by",
    "techniques",
];

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    let cases = inputs.cases();
    table("trials.csv", |out| {
        out.write_record(COLUMNS)?;
        for trial in inputs.trials {
            out.write_record(line(trial, cases.get(trial.case.as_str()).copied()))?;
        }
        Ok(())
    })
}

/// A percentile in microseconds, where enough samples are expected beyond it.
pub(super) fn quantile_us(histogram: &LatencyHistogram, quantile: f64) -> Option<f64> {
    // A thousandth of a sample of slack: 1 - 0.99 is a bit below 0.01 in binary.
    let beyond = histogram.count() as f64 * (1.0 - quantile);
    (beyond >= LEAST_BEYOND - 1e-3)
        .then(|| histogram.quantile(quantile))
        .flatten()
        .map(|nanos| nanos as f64 / 1000.0)
}

/// What was in use at any end, and what was refused, marked by `!`.
fn techniques(ends: &[&Techniques]) -> String {
    let used: BTreeSet<&str> = ends
        .iter()
        .flat_map(|end| &end.in_use)
        .map(String::as_str)
        .collect();
    let refused: BTreeSet<String> = ends
        .iter()
        .flat_map(|end| &end.refused)
        .map(|name| format!("!{name}"))
        .collect();
    let all: Vec<&str> = used
        .into_iter()
        .chain(refused.iter().map(String::as_str))
        .collect();
    cell(&all.join(" "))
}

fn line(trial: &Trial, case: Option<&Case>) -> [String; COLUMNS.len()] {
    let (outcome, error) = match &trial.outcome {
        Outcome::Measured => ("measured", ""),
        Outcome::Unreachable => ("unreachable", ""),
        Outcome::Failed { error } => ("failed", error.as_str()),
        Outcome::Interrupted => ("interrupted", ""),
    };
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let figure = |metric: Metric, value: Option<f64>| {
        value.map_or_else(String::new, |value| digits::csv(metric, value))
    };
    let share = |value: Option<f64>| value.map_or_else(String::new, digits::csv_ratio);
    let throughput = trial.throughput.as_ref();
    let latency = trial.latency.as_ref();
    let ends: Vec<&Techniques> = [trial.sender.as_ref(), throughput, trial.load.as_ref()]
        .into_iter()
        .flatten()
        .map(|result| &result.techniques)
        .collect();
    let way = |of: &dyn Fn(&Techniques) -> &String| {
        let named = ends.iter().map(|techniques| of(techniques));
        named
            .clone()
            .find(|name| !name.is_empty())
            .map_or_else(String::new, |name| cell(name))
    };
    let percentile = |quantile: f64| {
        figure(
            Metric::LatencyP50,
            latency.and_then(|latency| quantile_us(&latency.latency, quantile)),
        )
    };
    let cpu = |of: &dyn Fn(&crate::measure::CpuSeconds) -> f64| {
        if trial.cpu.is_empty() {
            String::new()
        } else {
            digits::fixed(trial.cpu.iter().map(|machine| of(&machine.cpu)).sum(), 4)
        }
    };
    let busiest = trial.busiest_core();
    let processes: Vec<(f64, f64)> = [throughput, trial.sender.as_ref(), trial.load.as_ref()]
        .into_iter()
        .flatten()
        .map(|result| (result.process_user_seconds, result.process_system_seconds))
        .chain(latency.map(|result| (result.process_user_seconds, result.process_system_seconds)))
        .collect();
    let process_cpu = if processes.is_empty() {
        String::new()
    } else {
        digits::fixed(processes.iter().map(|(user, system)| user + system).sum(), 4)
    };
    let connection = |of: &dyn Fn(&crate::evidence::ConnectionSeen) -> Option<u32>| {
        number(
            trial
                .evidence
                .connections
                .iter()
                .filter_map(of)
                .min()
                .map(u64::from),
        )
    };
    [
        trial.block.to_string(),
        trial.position.to_string(),
        cell(&trial.case),
        case.map_or_else(String::new, |case| cell(&case.path.name)),
        case.map_or_else(String::new, |case| cell(&case.workload.name)),
        trial.started.to_string(),
        digits::fixed(trial.seconds, 3),
        outcome.to_owned(),
        cell(error),
        if trial.is_valid() { "yes" } else { "no" }.to_owned(),
        trial.verdict.state.to_string(),
        share(trial.verdict.tunnel_share),
        share(trial.verdict.underlay_share),
        cell(&trial.verdict.reasons.join("; ")),
        figure(
            Metric::Throughput,
            throughput
                .and_then(crate::measure::ThroughputResult::bytes_per_second)
                .map(|rate| rate / 1e6),
        ),
        number(throughput.and_then(crate::measure::ThroughputResult::retransmits)),
        cpu(&crate::measure::CpuSeconds::busy),
        cpu(&|cpu| cpu.softirq),
        cpu(&|cpu| cpu.steal),
        share(busiest.map(|core| core.busy_share)),
        share(busiest.map(|core| core.softirq_share)),
        process_cpu,
        connection(&|connection| connection.path_mtu),
        connection(&|connection| connection.mss),
        number(latency.map(|latency| latency.transactions)),
        figure(
            Metric::TransactionsPerSecond,
            latency
                .filter(|latency| latency.seconds > 0.0)
                .map(|latency| latency.transactions as f64 / latency.seconds),
        ),
        percentile(0.5),
        percentile(0.9),
        percentile(0.99),
        percentile(0.999),
        percentile(0.9999),
        figure(
            Metric::LatencyMax,
            latency
                .and_then(|latency| latency.latency.max())
                .map(|nanos| nanos as f64 / 1000.0),
        ),
        number(latency.map(|latency| latency.unanswered)),
        figure(
            Metric::LoadThroughput,
            trial
                .load
                .as_ref()
                .and_then(crate::measure::ThroughputResult::bytes_per_second)
                .map(|rate| rate / 1e6),
        ),
        figure(
            Metric::SendLagP99,
            latency
                .and_then(|latency| latency.send_lag.as_ref())
                .and_then(|lag| quantile_us(lag, 0.99)),
        ),
        figure(
            Metric::LossPercent,
            throughput.and_then(crate::measure::ThroughputResult::loss_percent),
        ),
        figure(
            Metric::ReorderedPercent,
            throughput.and_then(crate::measure::ThroughputResult::reordered_percent),
        ),
        figure(
            Metric::Jitter,
            throughput
                .and_then(crate::measure::ThroughputResult::jitter)
                .map(|seconds| seconds * 1e6),
        ),
        throughput
            .and_then(crate::measure::ThroughputResult::mean_burst)
            .map_or_else(String::new, |burst| digits::fixed(burst, 2)),
        way(&|techniques| &techniques.send),
        way(&|techniques| &techniques.receive),
        techniques(&ends),
    ]
}
