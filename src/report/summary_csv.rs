//! `summary.csv`, the file that people publish: one line a case and metric.

use super::{Inputs, ReportError, digits, labels::cell};
use crate::analysis::Estimate;

/// The columns, in this order for ever: others read them.
pub(super) const COLUMNS: [&str; 17] = [
    "case",
    "path",
    "encapsulation",
    "workload",
    "metric",
    "unit",
    "trials",
    "median",
    "ci_low",
    "ci_high",
    "merged",
    "relative_to",
    "relative",
    "relative_low",
    "relative_high",
    "reference",
    "evidence",
];

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    let cases = inputs.cases();
    table("summary.csv", |out| {
        out.write_record(COLUMNS)?;
        for row in &inputs.summary.rows {
            let figure = |value: f64| digits::csv(row.metric, value);
            let [median, low, high] = columns(row.estimate.as_ref(), &figure, &|ends| {
                digits::csv_interval(row.metric, ends)
            });
            let [relative, relative_low, relative_high] = columns(
                row.relative.as_ref(),
                &digits::csv_ratio,
                &digits::csv_ratio_interval,
            );
            out.write_record([
                cell(&row.case),
                cell(&row.path),
                cases
                    .get(row.case.as_str())
                    .map_or_else(|| row.encapsulation.to_string(), |case| case.path.encapsulation()),
                cell(&row.workload),
                row.metric.name().to_owned(),
                row.metric.unit().to_owned(),
                row.estimate.map_or(0, |estimate| estimate.count).to_string(),
                median,
                low,
                high,
                row.merged.map_or_else(String::new, figure),
                row.relative_to.as_deref().map_or_else(String::new, cell),
                relative,
                relative_low,
                relative_high,
                row.reference.map_or_else(String::new, figure),
                row.evidence.to_string(),
            ])?;
        }
        Ok(())
    })
}

/// The median and the interval's ends; empty where they are not known.
pub(super) fn columns(
    estimate: Option<&Estimate>,
    digits: &dyn Fn(f64) -> String,
    ends: &dyn Fn((f64, f64)) -> (String, String),
) -> [String; 3] {
    let Some(estimate) = estimate else {
        return Default::default();
    };
    let (low, high) = estimate.interval.map_or_else(Default::default, ends);
    [digits(estimate.median), low, high]
}

/// Writes a CSV file (RFC 4180, but lines end in a bare line feed, as Unix tools and git want it).
pub(super) fn table(
    file: &'static str,
    fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> Result<(), csv::Error>,
) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    fill(&mut writer).map_err(|source| ReportError::Csv { file, source })?;
    writer.into_inner().map_err(|error| ReportError::Csv {
        file,
        source: error.into_error().into(),
    })
}
