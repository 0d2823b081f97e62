//! `comparisons.csv`: one line for each case and metric that is compared to the path of `relative-to`, paired within
//! blocks: the ratio, the difference, and the smallest difference that the run could have shown.

use super::{Inputs, ReportError, digits, labels::cell, summary_csv::table};

/// The columns.
pub(super) const COLUMNS: [&str; 18] = [
    "case",
    "path",
    "workload",
    "metric",
    "unit",
    "relative_to",
    "blocks",
    "ratio",
    "ratio_low",
    "ratio_high",
    "difference",
    "difference_low",
    "difference_high",
    "coverage",
    "t_ratio",
    "t_ratio_low",
    "t_ratio_high",
    "smallest_difference",
];

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    table("comparisons.csv", |out| {
        out.write_record(COLUMNS)?;
        for row in &inputs.summary.rows {
            let Some(base) = &row.relative_to else { continue };
            let Some(estimate) = row.difference.or(row.relative) else {
                continue;
            };
            let ratio = |value: Option<f64>| value.map_or_else(String::new, digits::csv_ratio);
            let figure =
                |value: Option<f64>| value.map_or_else(String::new, |value| digits::csv(row.metric, value));
            let low = |interval: Option<(f64, f64)>| interval.map(|(low, _)| low);
            let high = |interval: Option<(f64, f64)>| interval.map(|(_, high)| high);
            let relative = row.relative.and_then(|of| of.interval);
            let difference = row.difference.and_then(|of| of.interval);
            let student = row.student_ratio;
            out.write_record([
                cell(&row.case),
                cell(&row.path),
                cell(&row.workload),
                row.metric.name().to_owned(),
                row.metric.unit().to_owned(),
                cell(base),
                estimate.count.to_string(),
                ratio(row.relative.map(|of| of.median)),
                ratio(low(relative)),
                ratio(high(relative)),
                figure(row.difference.map(|of| of.median)),
                figure(low(difference)),
                figure(high(difference)),
                if estimate.interval.is_some() {
                    digits::csv_ratio(estimate.coverage)
                } else {
                    String::new()
                },
                ratio(student.map(|(middle, _, _)| middle)),
                ratio(student.map(|(_, low, _)| low)),
                ratio(student.map(|(_, _, high)| high)),
                ratio(row.smallest_difference),
            ])?;
        }
        Ok(())
    })
}
