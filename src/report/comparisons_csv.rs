//! `comparisons.csv`: one line for each case and metric that is compared to the path of `relative-to`, paired within
//! blocks: the ratio, the difference, and the smallest difference that the run could have shown.

use super::{
    Inputs, ReportError, digits,
    labels::cell,
    summary_csv::{columns, table},
};

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
            let [middle, low, high] = columns(
                row.relative.as_ref(),
                &digits::csv_ratio,
                &digits::csv_ratio_interval,
            );
            let [difference, difference_low, difference_high] = columns(
                row.difference.as_ref(),
                &|value| digits::csv(row.metric, value),
                &|ends| digits::csv_interval(row.metric, ends),
            );
            let student = row.student_ratio;
            let (student_low, student_high) = student.map_or_else(Default::default, |(_, low, high)| {
                digits::csv_ratio_interval((low, high))
            });
            out.write_record([
                cell(&row.case),
                cell(&row.path),
                cell(&row.workload),
                row.metric.name().to_owned(),
                row.metric.unit().to_owned(),
                cell(base),
                estimate.count.to_string(),
                middle,
                low,
                high,
                difference,
                difference_low,
                difference_high,
                if estimate.interval.is_some() {
                    digits::csv_ratio(estimate.coverage)
                } else {
                    String::new()
                },
                ratio(student.map(|(middle, _, _)| middle)),
                student_low,
                student_high,
                ratio(row.smallest_difference),
            ])?;
        }
        Ok(())
    })
}
