//! How fast is each path? A bar a path, its interval, its single trials, and the figure from elsewhere.

use super::{
    axes::Plot,
    canvas::{Anchor, Drawing, Ink, Look},
    scale::Scale,
    text,
};
use crate::{
    analysis::CaseSummary,
    report::{Inputs, digits, view::Matrix},
    scenario::Metric,
};
use std::collections::BTreeMap;

/// The cases of a workload by their path's name.
pub(super) fn cases<'a>(inputs: &Inputs<'a>, workload: &str) -> BTreeMap<&'a str, &'a CaseSummary> {
    inputs
        .summary
        .cases
        .iter()
        .filter(|case| case.workload == workload)
        .map(|case| (case.path.as_str(), case))
        .collect()
}

pub(super) fn draw(inputs: &Inputs<'_>, matrix: &Matrix, look: &Look) -> Option<Drawing> {
    if matrix.lines.iter().all(|line| line.throughput.is_none()) {
        return None;
    }
    let cases = cases(inputs, &matrix.key);
    // More rows than these can't be read at the size; a heat map and the matrix have them all.
    let most_rows = if look.fixed { 8 } else { 24 };
    let lines = matrix.lines.get(..most_rows).unwrap_or(&matrix.lines);
    let rows = lines.len();
    let more = text::only(rows, matrix.lines.len());
    let spread = match &matrix.no_interval {
        Some(_) => "whisker: range, for an interval there are too few blocks",
        None => "whisker: 95 % interval",
    };
    let n = text::counts(
        lines
            .iter()
            .filter_map(|line| Some(line.throughput.as_ref()?.count)),
    )?;
    let reference = if matrix.has_reference {
        "; diamond: reference"
    } else {
        ""
    };
    let shown = format!(
        "{}: {}. MB/s (10^6 bytes a second); bar: median of {n} trials; {spread}; dot: one trial{reference}{more}",
        matrix.workload, matrix.what
    );
    let height = look.height_for(rows, look.text * 4.2, look.text * 10.0);
    let (mut drawing, top) = Drawing::new(look, height, "How much does each path carry?", &shown);
    let size = look.text;
    let margin = drawing.margin();
    let label_room = lines
        .iter()
        .map(|line| text::width(&line.path, size))
        .fold(0.0, f64::max)
        .min(look.width * 0.27);
    let value_room = text::width("1000 MB/s", size * 1.1) + size;
    let (left, right) = (margin + label_room + size * 0.7, look.width - margin - value_room);
    let bottom = height - size * 3.4;
    let greatest = lines
        .iter()
        .flat_map(|line| {
            let points = cases
                .get(line.key.as_str())
                .map_or(&[][..], |case| case.points(Metric::Throughput));
            points
                .iter()
                .map(|point| point.value)
                .chain(line.reference.as_ref().map(|reference| reference.value))
        })
        .fold(0.0, f64::max);
    let x = Scale::linear((0.0, greatest * 1.03), (left, right));
    let plot = Plot {
        left,
        right,
        top,
        bottom,
    };
    drawing.bottom_axis(&x, plot, 6, true, "throughput, MB/s");
    let pitch = (bottom - top) / rows as f64;
    let bar = (pitch * 0.62).min(size * 3.2);
    let mut words = Vec::new();
    for (row, line) in lines.iter().enumerate() {
        let middle = top + pitch * (row as f64 + 0.5);
        drawing.row_name(&line.path, label_room, margin + label_room, middle);
        let Some(figure) = &line.throughput else {
            let why = if line.left_out.is_empty() {
                "no trial counts"
            } else {
                &line.left_out
            };
            drawing.text(
                left + size * 0.5,
                middle + size * 0.35,
                why,
                size * 0.9,
                Ink::Muted,
                Anchor::Start,
            );
            words.push(format!("{}: {why}", line.path));
            continue;
        };
        let relative = line
            .relative
            .as_ref()
            .map_or_else(String::new, |relative| format!(" ({} ×)", relative.text));
        let told = format!(
            "{}: {} MB/s{relative}, {}, {} trials, evidence {}",
            line.path,
            figure.text,
            figure.spread_in_words(),
            figure.count,
            line.evidence
        );
        drawing
            .rect(
                left,
                middle - bar / 2.0,
                x.at(figure.value) - left,
                bar,
                Ink::Series(row),
            )
            .opacity(0.8)
            .tip(told.clone());
        words.push(told);
        let case = cases.get(line.key.as_str());
        for point in case.map_or(&[][..], |case| case.points(Metric::Throughput)) {
            // Spread over the bar's height by block, so that they don't hide each other.
            let jitter = f64::from(point.block % 5) / 5.0 - 0.4;
            let (at, y) = (x.at(point.value), middle + jitter * bar * 0.8);
            drawing.dot(at, y, size * 0.26, Ink::Paper);
            drawing
                .dot(at, y, size * 0.19, Ink::Text)
                .opacity(0.75)
                .tip(format!(
                    "{}, block {}: {} MB/s",
                    line.path,
                    point.block,
                    digits::human(Metric::Throughput, point.value)
                ));
        }
        if let Some(row) = case.and_then(|case| {
            inputs
                .summary
                .rows
                .iter()
                .find(|row| row.case == case.case && row.metric == Metric::Throughput)
        }) && let Some(estimate) = &row.estimate
        {
            let (low, high) = estimate.interval.unwrap_or(estimate.range);
            let (low, high, cap) = (x.at(low), x.at(high), bar * 0.32);
            drawing.line(vec![(low, middle), (high, middle)], 2.0, Ink::Text);
            for end in [low, high] {
                drawing.line(vec![(end, middle - cap), (end, middle + cap)], 2.0, Ink::Text);
            }
        }
        if let Some(reference) = &line.reference {
            let (at, y) = (x.at(reference.value), middle - bar / 2.0 - size * 0.1);
            drawing.diamond(at, y, size * 0.62, Ink::Paper);
            drawing
                .diamond(at, y, size * 0.45, Ink::Reference)
                .tip(format!("{}, reference: {} MB/s", line.path, reference.text));
        }
        drawing.text(
            right + size * 0.7,
            middle
                + if relative.is_empty() {
                    size * 0.35
                } else {
                    -size * 0.05
                },
            &format!("{} MB/s", figure.text),
            size * 1.05,
            Ink::Text,
            Anchor::Start,
        );
        if !relative.is_empty() {
            drawing.text(
                right + size * 0.7,
                middle + size * 1.15,
                relative.trim().trim_matches(['(', ')']),
                size * 0.9,
                Ink::Muted,
                Anchor::Start,
            );
        }
    }
    drawing.description = format!("{}.", words.join(". "));
    Some(drawing)
}
