//! How long does a round trip take? Each path's latency over its percentiles, both axes logarithmic, so that the
//! tail has as much room as the body.

use super::{
    SERIES,
    axes::Plot,
    canvas::{Anchor, Drawing, Ink, Look},
    scale::{Scale, tick},
    text,
    throughput::cases,
};
use crate::{
    measure::LatencyHistogram,
    report::{Inputs, digits, view::LatencyTable},
    scenario::Metric,
};

/// The percentiles that the axis names.
const NAMED: [(f64, &str); 6] = [
    (0.0, "0"),
    (0.9, "90"),
    (0.99, "99"),
    (0.999, "99.9"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];
/// Points drawn for each tenth of what is left.
const POINTS_A_DECADE: u32 = 40;

/// Points of the curve: decades of what lies beyond (0 is 0 %, 1 is 90 %, 2 is 99 %) and microseconds, as far as 10
/// samples lie beyond.
fn curve(histogram: &LatencyHistogram) -> Vec<(f64, f64)> {
    let decades = (histogram.count() as f64 / 10.0).max(1.0).log10().min(5.0);
    let last = (decades * f64::from(POINTS_A_DECADE)).floor() as u32;
    (0..=last)
        .filter_map(|point| {
            let decade = f64::from(point) / f64::from(POINTS_A_DECADE);
            let nanos = histogram.quantile(1.0 - 10_f64.powf(-decade))?;
            Some((decade, nanos as f64 / 1e3))
        })
        .collect()
}

pub(super) fn draw(inputs: &Inputs<'_>, table: &LatencyTable, look: &Look) -> Option<Drawing> {
    let cases = cases(inputs, &table.key);
    let mut lines = Vec::new();
    for (series, line) in table.lines.iter().enumerate() {
        let histogram = cases
            .get(line.key.as_str())
            .and_then(|case| case.latency.as_ref())
            .filter(|histogram| histogram.count() > 0);
        if let Some(histogram) = histogram {
            lines.push((series, line, histogram, curve(histogram)));
        }
    }
    let all = lines.len();
    lines.truncate(SERIES);
    let n = text::counts(lines.iter().map(|(_, _, histogram, _)| histogram.count()))?;
    let more = text::only(lines.len(), all);
    let shown = format!(
        "{}: {}. µs, all trials merged, {n} round trips a path{more}",
        table.workload, table.what
    );
    let (mut drawing, top) = Drawing::new(look, look.height, "How long does a round trip take?", &shown);
    let size = look.text;
    let names: Vec<(usize, String)> = lines
        .iter()
        .map(|(series, line, ..)| (*series, line.path.clone()))
        .collect();
    let top = drawing.legend(top, names.iter().map(|(series, name)| (*series, name.as_str()))) + size * 0.4;
    let margin = drawing.margin();
    let (left, right) = (margin + size * 4.0, look.width - margin - size * 2.6);
    let bottom = look.height - size * 3.4;
    let points = || lines.iter().flat_map(|(.., curve)| curve);
    let low = points().map(|(_, us)| *us).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, us)| *us).fold(0.0, f64::max);
    let decades = points().map(|(decade, _)| *decade).fold(1.0, f64::max);
    let x = Scale::linear((0.0, decades), (left, right));
    let y = Scale::log((low * 0.85, high * 1.15), (bottom, top));
    let plot = Plot {
        left,
        right,
        top,
        bottom,
    };
    drawing.left_axis(&y, plot, 6, "latency, µs");
    for (decade, (_, name)) in NAMED.iter().enumerate() {
        if decade as f64 > decades + 1e-9 {
            break;
        }
        let at = x.at(decade as f64);
        drawing.line(vec![(at, top), (at, bottom)], 1.0, Ink::Grid);
        drawing.bottom_tick(at, plot, name);
    }
    let half = x.at(2_f64.log10());
    drawing.line(vec![(half, top), (half, bottom)], 1.0, Ink::Grid);
    drawing.bottom_tick(half, plot, "50");
    drawing.text(
        f64::midpoint(left, right),
        bottom + size * 2.5,
        "percentile (share of round trips that were faster), %",
        size * 0.85,
        Ink::Muted,
        Anchor::Middle,
    );
    let mut words = Vec::new();
    for (series, line, histogram, curve) in &lines {
        drawing.line(
            curve
                .iter()
                .map(|(decade, us)| (x.at(*decade), y.at(*us)))
                .collect(),
            2.2,
            Ink::Series(*series),
        );
        let mut told = Vec::new();
        for (metric, quantile) in [
            (Metric::LatencyP50, 0.5),
            (Metric::LatencyP90, 0.9),
            (Metric::LatencyP99, 0.99),
            (Metric::LatencyP99_9, 0.999),
            (Metric::LatencyP99_99, 0.9999),
        ] {
            let Some(us) = crate::report::trials_csv::quantile_us(histogram, quantile) else {
                continue;
            };
            let figure = digits::human(metric, us);
            let name = tick(quantile * 100.0);
            let decade = -(1.0 - quantile).log10();
            drawing
                .mark(*series, x.at(decade), y.at(us), size * 0.32)
                .tip(format!("{}: {name} % within {figure} µs", line.path));
            told.push(format!("p{name} {figure} µs"));
        }
        words.push(format!("{}: {}", line.path, told.join(", ")));
    }
    end_labels(
        &mut drawing,
        &lines
            .iter()
            .filter_map(|(series, _, _, curve)| {
                let (decade, us) = curve.last()?;
                Some((*series, x.at(*decade), y.at(*us), digits::significant(*us)))
            })
            .collect::<Vec<_>>(),
        size * 0.85,
    );
    drawing.description = format!("{}.", words.join(". "));
    Some(drawing)
}

/// Figures at the ends of lines, moved apart where they would cover each other.
fn end_labels(drawing: &mut Drawing, labels: &[(usize, f64, f64, String)], size: f64) {
    let mut labels: Vec<_> = labels.to_vec();
    labels.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut least = f64::NEG_INFINITY;
    for (series, x, y, label) in labels {
        let at = y.max(least);
        least = at + size * 1.15;
        let room = drawing.width - x - size * 0.5;
        let label = text::shorten(&label, size, room);
        drawing.text(
            x + size * 0.4,
            at + size * 0.35,
            &label,
            size,
            Ink::Series(series),
            Anchor::Start,
        );
    }
}
