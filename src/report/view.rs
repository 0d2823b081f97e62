//! A run as people read it: the matrix, latency, cost, evidence and environment, already rounded and in words. The
//! terminal, Markdown and HTML show the same view, so that they can't disagree.

mod datagrams;
mod differences;
mod environment;
mod evidence;
mod latency;
mod legs;
mod matrix;
mod nodes;
mod pairs;

pub(super) use datagrams::DatagramLine;
pub(super) use differences::{ComparisonLine, ExplanationLine};
pub(super) use environment::Fact;
pub(super) use evidence::PathEvidence;
pub(super) use latency::{LatencyTable, PERCENTILES};
pub(super) use legs::{LegLine, SourceLine};
pub(super) use matrix::Matrix;
pub(super) use nodes::NodeLine;
pub(super) use pairs::PairTable;

use super::{Inputs, digits, labels::plain};
use crate::{
    analysis::{CaseSummary, Estimate, Row},
    gate::GateState,
    scenario::{Case, Metric, Protocol, Workload, WorkloadKind},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Blocks that a 95 % interval of a median needs.
const LEAST_BLOCKS: usize = 6;

/// A median with its interval, in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    /// The median, unrounded, to sort by.
    pub value: f64,
    /// The median.
    pub text: String,
    /// `979–998`, or the range where there is no interval.
    pub spread: String,
    /// Whether `spread` is an interval.
    pub interval: bool,
    /// Over how many trials or blocks.
    pub count: usize,
}

impl Figure {
    fn new(estimate: &Estimate, digits: impl Fn(f64) -> String) -> Self {
        let (low, high) = estimate.interval.unwrap_or(estimate.range);
        Self {
            value: estimate.median,
            text: digits(estimate.median),
            spread: format!("{}–{}", digits(low), digits(high)),
            interval: estimate.interval.is_some(),
            count: estimate.count,
        }
    }

    /// Of a figure whose digits have a sign, which a dash would run into.
    fn signed(estimate: &Estimate, digits: impl Fn(f64) -> String) -> Self {
        let (low, high) = estimate.interval.unwrap_or(estimate.range);
        Self {
            spread: format!("{} to {}", digits(low), digits(high)),
            ..Self::new(estimate, digits)
        }
    }

    /// The spread, saying so where it is no interval.
    pub(super) fn spread_in_words(&self) -> String {
        if self.interval {
            self.spread.clone()
        } else {
            format!("range {}", self.spread)
        }
    }
}

/// What a path costs besides time.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CostLine {
    pub path: String,
    pub workload: String,
    pub cpu: Option<Figure>,
    pub retransmits: Option<Figure>,
}

/// A gate's verdict in words.
#[derive(Debug, Clone, Serialize)]
pub(super) struct GateLine {
    pub name: String,
    pub state: String,
    #[serde(skip)]
    pub verdict: GateState,
    pub expected: String,
    pub message: String,
}

/// A run as people read it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct View {
    pub title: String,
    pub scenario: String,
    pub started: String,
    /// What was run, in one line.
    pub what: String,
    pub matrices: Vec<Matrix>,
    pub latency: Vec<LatencyTable>,
    /// The path that others are compared to.
    pub relative_to: Option<String>,
    pub comparisons: Vec<ComparisonLine>,
    pub explanations: Vec<ExplanationLine>,
    pub cost: Vec<CostLine>,
    pub datagrams: Vec<DatagramLine>,
    /// Cases whose pairs were loaded at once.
    pub pairs: Vec<PairTable>,
    pub gates: Vec<GateLine>,
    pub gate_state: Option<String>,
    pub warnings: Vec<String>,
    pub evidence: Vec<PathEvidence>,
    /// Whether it is known which reverse path filters the devices have.
    pub filters: bool,
    /// What the nodes' CPUs did.
    pub nodes: Vec<NodeLine>,
    /// Of paths between clusters.
    pub legs: Vec<LegLine>,
    pub sources: Vec<SourceLine>,
    pub environment: Vec<Fact>,
    pub command: String,
    /// As text: JavaScript and templates would round it.
    pub seed: String,
}

/// Rows and cases by name: a run may have thousands of either.
struct Index<'a> {
    rows: BTreeMap<(&'a str, Metric), &'a Row>,
    summaries: BTreeMap<&'a str, &'a CaseSummary>,
}

impl<'a> Index<'a> {
    fn figure(&self, case: &'a Case, metric: Metric) -> Option<Figure> {
        let row = self.rows.get(&(case.slug.as_str(), metric))?;
        Some(Figure::new(row.estimate.as_ref()?, |value| {
            digits::human(metric, value)
        }))
    }

    fn evidence(&self, case: &'a Case, metric: Metric) -> String {
        let row = self.rows.get(&(case.slug.as_str(), metric));
        let contradicted = self
            .summaries
            .get(case.slug.as_str())
            .is_some_and(|summary| summary.valid == 0 && summary.contradicted > 0);
        match row {
            Some(row) => row.evidence.to_string(),
            None if contradicted => "contradicted".to_owned(),
            None => digits::UNKNOWN.to_owned(),
        }
    }

    fn left_out(&self, case: &Case) -> String {
        let Some(summary) = self.summaries.get(case.slug.as_str()) else {
            return String::new();
        };
        let mut parts = Vec::new();
        if summary.failed > 0 {
            parts.push(format!("{} failed", summary.failed));
        }
        if summary.contradicted > 0 {
            parts.push(format!("{} contradicted, not counted", summary.contradicted));
        }
        parts.join(", ")
    }
}

/// A workload in words.
pub(super) fn describe(workload: &Workload) -> String {
    match workload.kind() {
        Some(WorkloadKind::Throughput(throughput)) => {
            let mut text = format!(
                "{}, {} stream{}, {}",
                match throughput.protocol {
                    Protocol::Tcp => "TCP",
                    Protocol::Udp => "UDP",
                },
                throughput.streams,
                if throughput.streams == 1 { "" } else { "s" },
                throughput.duration
            );
            if throughput.omit.as_secs_f64() > 0.0 {
                _ = write!(text, " after {} of warm-up", throughput.omit);
            }
            if let Some(rate) = throughput.bitrate {
                _ = write!(text, ", held to {rate} a stream");
            }
            if throughput.bidirectional {
                text.push_str(", both ways at once");
            } else if throughput.reverse {
                text.push_str(", reverse");
            }
            text
        }
        Some(WorkloadKind::Latency(latency)) => {
            let mut text = latency.kind.to_string();
            match latency.rate {
                Some(rate) => _ = write!(text, " at {rate} (open loop)"),
                None => text.push_str(" as fast as answers come (closed loop)"),
            }
            _ = write!(text, ", {}", latency.duration);
            if latency.reverse {
                text.push_str(", reverse");
            }
            match &latency.during {
                Some(load) => _ = write!(text, ", under the load of {}", plain(load)),
                None => text.push_str(", idle"),
            }
            text
        }
        None => String::new(),
    }
}

fn no_interval<'a>(figures: impl Iterator<Item = &'a Figure>) -> Option<String> {
    let without: BTreeSet<usize> = figures
        .filter(|figure| !figure.interval)
        .map(|figure| figure.count)
        .collect();
    let most = without.last()?;
    let least = without.first()?;
    let blocks = if least == most {
        format!("{most} block{}", if *most == 1 { "" } else { "s" })
    } else {
        format!("{least} to {most} blocks")
    };
    Some(format!(
        "No interval: {blocks}; {LEAST_BLOCKS} are needed for one of 95 %. What is shown is the range of what was seen."
    ))
}

impl View {
    pub(super) fn new(inputs: &Inputs<'_>) -> Self {
        let manifest = inputs.manifest;
        let scenario = &manifest.scenario;
        let index = Index {
            rows: inputs
                .summary
                .rows
                .iter()
                .map(|row| ((row.case.as_str(), row.metric), row))
                .collect(),
            summaries: inputs
                .summary
                .cases
                .iter()
                .map(|case| (case.case.as_str(), case))
                .collect(),
        };
        let mut by_workload: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
        for case in &manifest.cases {
            by_workload
                .entry(case.workload.name.as_str())
                .or_default()
                .push(case);
        }
        let (legs, sources) = legs::by_path(inputs);
        let valid = inputs.valid_by_case();
        let (mut matrices, mut latency, mut cost) = (Vec::new(), Vec::new(), Vec::new());
        let mut datagrams = Vec::new();
        for workload in &scenario.workloads {
            let Some(cases) = by_workload.get(workload.name.as_str()) else {
                continue;
            };
            match workload.kind() {
                Some(WorkloadKind::Throughput(throughput)) => {
                    if throughput.protocol == Protocol::Udp {
                        datagrams.extend(datagrams::lines(&index, &valid, workload, cases));
                    }
                    matrices.push(matrix::matrix(&index, workload, cases));
                    cost.extend(cases.iter().map(|case| CostLine {
                        path: plain(&case.path.label()),
                        workload: plain(&workload.name),
                        cpu: index.figure(case, Metric::CpuSecondsPerGb),
                        retransmits: index.figure(case, Metric::Retransmits),
                    }));
                }
                Some(WorkloadKind::Latency(_)) => latency.push(latency::table(&index, workload, cases)),
                None => {}
            }
        }
        let blocks: BTreeSet<u32> = inputs.trials.iter().map(|trial| trial.block).collect();
        let counted = inputs.trials.iter().filter(|trial| trial.is_valid()).count();
        let evidence = evidence::by_path(inputs);
        Self {
            title: plain(scenario.question.as_deref().unwrap_or(&scenario.name)),
            scenario: plain(&scenario.name),
            started: digits::moment(manifest.started),
            what: format!(
                "{} trials of {} cases in {} block{}, {counted} counted; seed {}",
                inputs.trials.len(),
                manifest.cases.len(),
                blocks.len(),
                if blocks.len() == 1 { "" } else { "s" },
                manifest.seed
            ),
            matrices,
            latency,
            relative_to: scenario.relative_to.as_deref().map(plain),
            comparisons: differences::comparisons(inputs),
            explanations: differences::explanations(inputs),
            cost,
            datagrams,
            pairs: pairs::tables(inputs, &valid, &index),
            gates: inputs
                .gates
                .verdicts
                .iter()
                .map(|verdict| GateLine {
                    name: plain(&verdict.gate),
                    state: verdict.state.to_string(),
                    verdict: verdict.state,
                    expected: plain(&verdict.expected),
                    message: plain(&verdict.message),
                })
                .collect(),
            gate_state: (!inputs.gates.verdicts.is_empty()).then(|| inputs.gates.state().to_string()),
            warnings: inputs.summary.warnings.iter().map(|text| plain(text)).collect(),
            filters: evidence
                .iter()
                .flat_map(|path| &path.devices)
                .any(|device| device.rp_filter != digits::UNKNOWN),
            evidence,
            nodes: nodes::by_path(inputs),
            legs,
            sources,
            environment: environment::facts(inputs),
            command: environment::command(manifest),
            seed: manifest.seed.to_string(),
        }
    }
}
