//! A run as people read it: the matrix, latency, cost, evidence and environment, already rounded and in words. The
//! terminal, Markdown and HTML show the same view, so that they can't disagree.

mod environment;
mod evidence;
mod legs;
mod pairs;

pub(super) use environment::Fact;
pub(super) use evidence::PathEvidence;
pub(super) use legs::{LegLine, SourceLine};
pub(super) use pairs::PairTable;

use super::{Inputs, digits, labels::plain};
use crate::{
    analysis::{self, CaseSummary, Estimate, Row},
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

    /// The spread, saying so where it is no interval.
    pub(super) fn spread_in_words(&self) -> String {
        if self.interval {
            self.spread.clone()
        } else {
            format!("range {}", self.spread)
        }
    }
}

/// A line of the matrix.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MatrixLine {
    pub path: String,
    /// The path's name as the scenario has it.
    #[serde(skip)]
    pub key: String,
    pub encapsulation: String,
    pub throughput: Option<Figure>,
    /// Whether others are compared to this one.
    pub base: bool,
    pub relative: Option<Figure>,
    /// The smallest difference from the base that the run could have shown.
    pub visible: Option<String>,
    pub reference: Option<Reference>,
    pub evidence: String,
    /// Trials that don't count, in words; empty where there are none.
    pub left_out: String,
}

/// A figure from elsewhere.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reference {
    pub value: f64,
    pub text: String,
    /// Over the reference of the path that others are compared to.
    pub relative: Option<String>,
}

/// The matrix of one throughput workload.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Matrix {
    pub workload: String,
    #[serde(skip)]
    pub key: String,
    pub what: String,
    pub relative_to: Option<String>,
    pub lines: Vec<MatrixLine>,
    /// Why there is no interval, where there is none.
    pub no_interval: Option<String>,
    pub has_reference: bool,
}

/// A path's percentiles under one workload.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LatencyLine {
    pub path: String,
    /// The path's name as the scenario has it.
    #[serde(skip)]
    pub key: String,
    /// By [`PERCENTILES`].
    pub percentiles: Vec<Option<Figure>>,
    /// The same of all trials merged.
    pub merged: Vec<Option<String>>,
    pub transactions: Option<Figure>,
    pub load: Option<Figure>,
    pub send_lag: Option<Figure>,
    pub generator_bound: bool,
    pub evidence: String,
    pub left_out: String,
}

/// A latency workload over all paths.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LatencyTable {
    pub workload: String,
    #[serde(skip)]
    pub key: String,
    pub what: String,
    /// tcp-rr, tcp-crr.
    pub kind: String,
    pub under_load: bool,
    /// Whether requests are sent on a schedule.
    pub scheduled: bool,
    pub lines: Vec<LatencyLine>,
    pub no_interval: Option<String>,
}

/// A figure of a case beside that of the path which others are compared to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ComparisonLine {
    pub path: String,
    pub workload: String,
    pub metric: String,
    pub base: Option<Figure>,
    pub figure: Option<Figure>,
    pub ratio: Option<Figure>,
    pub difference: Option<Figure>,
    pub visible: Option<String>,
}

/// What goes with a slower path.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ExplanationLine {
    pub path: String,
    pub workload: String,
    pub base: String,
    pub ratio: Figure,
    pub facts: Vec<String>,
}

/// What a path costs besides time.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CostLine {
    pub path: String,
    pub workload: String,
    pub cpu: Option<Figure>,
    pub retransmits: Option<Figure>,
}

/// What became of a path's datagrams.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DatagramLine {
    pub path: String,
    pub workload: String,
    pub loss: Option<Figure>,
    pub reordered: Option<Figure>,
    pub jitter: Option<Figure>,
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

/// The percentiles that tables show.
pub(super) const PERCENTILES: [(Metric, &str); 6] = [
    (Metric::LatencyP50, "p50"),
    (Metric::LatencyP90, "p90"),
    (Metric::LatencyP99, "p99"),
    (Metric::LatencyP99_9, "p99.9"),
    (Metric::LatencyP99_99, "p99.99"),
    (Metric::LatencyMax, "max"),
];

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
        let (mut matrices, mut latency, mut cost) = (Vec::new(), Vec::new(), Vec::new());
        let mut datagrams = Vec::new();
        for workload in &scenario.workloads {
            let Some(cases) = by_workload.get(workload.name.as_str()) else {
                continue;
            };
            match workload.kind() {
                Some(WorkloadKind::Throughput(throughput)) => {
                    if throughput.protocol == Protocol::Udp {
                        datagrams.extend(cases.iter().map(|case| DatagramLine {
                            path: plain(&case.path.label()),
                            workload: plain(&workload.name),
                            loss: index.figure(case, Metric::LossPercent),
                            reordered: index.figure(case, Metric::ReorderedPercent),
                            jitter: index.figure(case, Metric::Jitter),
                        }));
                    }
                    matrices.push(matrix(&index, workload, cases));
                    cost.extend(cases.iter().map(|case| CostLine {
                        path: plain(&case.path.label()),
                        workload: plain(&workload.name),
                        cpu: index.figure(case, Metric::CpuSecondsPerGb),
                        retransmits: index.figure(case, Metric::Retransmits),
                    }));
                }
                Some(WorkloadKind::Latency(_)) => latency.push(latency_table(&index, workload, cases)),
                None => {}
            }
        }
        let blocks: BTreeSet<u32> = inputs.trials.iter().map(|trial| trial.block).collect();
        let counted = inputs.trials.iter().filter(|trial| trial.is_valid()).count();
        Self {
            title: plain(scenario.question.as_deref().unwrap_or(&scenario.name)),
            scenario: plain(&scenario.name),
            started: manifest.started.to_string(),
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
            comparisons: comparisons(inputs),
            explanations: explanations(inputs),
            cost,
            datagrams,
            pairs: pairs::tables(inputs, &index),
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
            evidence: evidence::by_path(inputs),
            legs,
            sources,
            environment: environment::facts(inputs),
            command: environment::command(manifest),
            seed: manifest.seed.to_string(),
        }
    }
}

fn explanations(inputs: &Inputs<'_>) -> Vec<ExplanationLine> {
    analysis::explain(inputs.manifest, inputs.trials, inputs.summary)
        .into_iter()
        .map(|explanation| ExplanationLine {
            path: plain(&explanation.path),
            workload: plain(&explanation.workload),
            base: plain(&explanation.base),
            ratio: Figure::new(&explanation.ratio, digits::human_ratio),
            facts: explanation.facts.iter().map(|fact| plain(&fact.text)).collect(),
        })
        .collect()
}

/// Metrics that are compared in words; `comparisons.csv` has them all.
const COMPARED: [Metric; 6] = [
    Metric::Throughput,
    Metric::CpuSecondsPerGb,
    Metric::LatencyP50,
    Metric::LatencyP99,
    Metric::LatencyP99_9,
    Metric::LoadThroughput,
];

fn comparisons(inputs: &Inputs<'_>) -> Vec<ComparisonLine> {
    let summary = inputs.summary;
    let estimates: BTreeMap<(&str, &str, Metric), &Estimate> = summary
        .rows
        .iter()
        .filter_map(|row| {
            let key = (row.path.as_str(), row.workload.as_str(), row.metric);
            Some((key, row.estimate.as_ref()?))
        })
        .collect();
    summary
        .rows
        .iter()
        .filter(|row| COMPARED.contains(&row.metric))
        .filter_map(|row| {
            let base = row.relative_to.as_deref()?;
            let difference = row.difference.as_ref()?;
            let digits = |value: f64| digits::human(row.metric, value);
            Some(ComparisonLine {
                path: plain(&row.path),
                workload: plain(&row.workload),
                metric: format!("{} in {}", row.metric, row.metric.unit()),
                base: estimates
                    .get(&(base, row.workload.as_str(), row.metric))
                    .map(|of| Figure::new(of, digits)),
                figure: row.estimate.as_ref().map(|of| Figure::new(of, digits)),
                ratio: row
                    .relative
                    .as_ref()
                    .map(|of| Figure::new(of, digits::human_ratio)),
                difference: Some(Figure::new(difference, |value| digits::signed(&digits(value)))),
                visible: row.smallest_difference.map(digits::visible),
            })
        })
        .collect()
}

fn matrix<'a>(index: &Index<'a>, workload: &Workload, cases: &[&'a Case]) -> Matrix {
    let row = |case: &'a Case| index.rows.get(&(case.slug.as_str(), Metric::Throughput)).copied();
    let base = cases
        .iter()
        .find_map(|case| row(case).and_then(|row| row.relative_to.as_deref()));
    let base_reference = base.and_then(|base| {
        cases
            .iter()
            .find(|case| case.path.name == base)
            .and_then(|case| row(case)?.reference)
    });
    let lines: Vec<MatrixLine> = cases
        .iter()
        .map(|case| MatrixLine {
            path: plain(&case.path.label()),
            key: case.path.name.clone(),
            encapsulation: case.path.encapsulation(),
            throughput: index.figure(case, Metric::Throughput),
            base: base == Some(case.path.name.as_str()),
            relative: row(case)
                .and_then(|row| row.relative.as_ref())
                .map(|relative| Figure::new(relative, digits::human_ratio)),
            visible: row(case)
                .and_then(|row| row.smallest_difference)
                .map(digits::visible),
            reference: row(case).and_then(|row| row.reference).map(|value| Reference {
                value,
                text: digits::human(Metric::Throughput, value),
                relative: base_reference
                    .filter(|base| *base > 0.0)
                    .map(|base| digits::human_ratio(value / base)),
            }),
            evidence: index.evidence(case, Metric::Throughput),
            left_out: index.left_out(case),
        })
        .collect();
    Matrix {
        workload: plain(&workload.name),
        key: workload.name.clone(),
        what: describe(workload),
        relative_to: base.map(plain),
        no_interval: no_interval(
            lines
                .iter()
                .flat_map(|line| line.throughput.iter().chain(&line.relative)),
        ),
        has_reference: lines.iter().any(|line| line.reference.is_some()),
        lines,
    }
}

fn latency_table<'a>(index: &Index<'a>, workload: &Workload, cases: &[&'a Case]) -> LatencyTable {
    let lines: Vec<LatencyLine> = cases
        .iter()
        .map(|case| LatencyLine {
            path: plain(&case.path.label()),
            key: case.path.name.clone(),
            percentiles: PERCENTILES
                .iter()
                .map(|(metric, _)| index.figure(case, *metric))
                .collect(),
            merged: PERCENTILES
                .iter()
                .map(|(metric, _)| {
                    let merged = index.rows.get(&(case.slug.as_str(), *metric))?.merged?;
                    Some(digits::human(*metric, merged))
                })
                .collect(),
            transactions: index.figure(case, Metric::TransactionsPerSecond),
            load: index.figure(case, Metric::LoadThroughput),
            send_lag: index.figure(case, Metric::SendLagP99),
            generator_bound: index
                .summaries
                .get(case.slug.as_str())
                .is_some_and(|summary| summary.generator_bound),
            evidence: index.evidence(case, Metric::LatencyP50),
            left_out: index.left_out(case),
        })
        .collect();
    LatencyTable {
        workload: plain(&workload.name),
        key: workload.name.clone(),
        what: describe(workload),
        kind: workload
            .latency
            .as_ref()
            .map_or_else(String::new, |latency| latency.kind.to_string()),
        under_load: workload
            .latency
            .as_ref()
            .is_some_and(|latency| latency.during.is_some()),
        scheduled: workload
            .latency
            .as_ref()
            .is_some_and(|latency| latency.rate.is_some()),
        no_interval: no_interval(
            lines
                .iter()
                .flat_map(|line| line.percentiles.iter().flatten().take(1)),
        ),
        lines,
    }
}
