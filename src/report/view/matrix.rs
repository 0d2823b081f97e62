//! The matrix: each path's throughput under one workload, beside the path that others are compared to.

use super::{Figure, Index, describe, digits, no_interval, plain};
use crate::scenario::{Case, Metric, Workload};
use serde::Serialize;

/// A line of the matrix.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct MatrixLine {
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
pub(in crate::report) struct Reference {
    pub value: f64,
    pub text: String,
    /// Over the reference of the path that others are compared to.
    pub relative: Option<String>,
}

/// The matrix of one throughput workload.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct Matrix {
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

pub(super) fn matrix<'a>(index: &Index<'a>, workload: &Workload, cases: &[&'a Case]) -> Matrix {
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
