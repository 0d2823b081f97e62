//! What does a GB cost in CPU? Each trial's cost against its throughput.

use super::{
    SERIES,
    axes::Plot,
    canvas::{Drawing, Look},
    over_time::median,
    scale::Scale,
    text,
    throughput::cases,
};
use crate::{
    report::{Inputs, digits, view::Matrix},
    scenario::Metric,
};
use std::collections::BTreeMap;

/// A trial: its block, MB/s, s/GB.
type Point = (u32, f64, f64);

/// The medians of throughput and of cost.
fn middle(points: &[Point]) -> Option<(f64, f64)> {
    let of = |value: &dyn Fn(&Point) -> f64| {
        let mut values: Vec<f64> = points.iter().map(value).collect();
        median(&mut values)
    };
    Some((of(&|point| point.1)?, of(&|point| point.2)?))
}

pub(super) fn draw(inputs: &Inputs<'_>, matrix: &Matrix, look: &Look) -> Option<Drawing> {
    let cases = cases(inputs, &matrix.key);
    let mut clouds: Vec<(usize, &str, Vec<Point>)> = Vec::new();
    for (series, line) in matrix.lines.iter().enumerate() {
        let Some(case) = cases.get(line.key.as_str()) else {
            continue;
        };
        let costs: BTreeMap<u32, f64> = case
            .points(Metric::CpuSecondsPerGb)
            .iter()
            .map(|point| (point.block, point.value))
            .collect();
        let points: Vec<Point> = case
            .points(Metric::Throughput)
            .iter()
            .filter_map(|point| Some((point.block, point.value, *costs.get(&point.block)?)))
            .collect();
        if !points.is_empty() {
            clouds.push((series, &line.path, points));
        }
    }
    let all = clouds.len();
    clouds.truncate(SERIES);
    let most = clouds.iter().map(|(.., points)| points.len()).max()?;
    let more = text::only(clouds.len(), all);
    let shown = format!(
        "{}: {}. CPU-seconds of all machines involved per GB (10^9 bytes) received; small: one trial of {most}; \
         large: median; right and low is good{more}",
        matrix.workload, matrix.what
    );
    let (mut drawing, top) = Drawing::new(look, look.height, "What does a gigabyte cost in CPU?", &shown);
    let size = look.text;
    let names: Vec<(usize, String)> = clouds
        .iter()
        .map(|(series, name, points)| {
            let cost = middle(points).map_or_else(String::new, |(_, cost)| {
                format!(": {} s/GB", digits::human(Metric::CpuSecondsPerGb, cost))
            });
            (*series, format!("{name}{cost}"))
        })
        .collect();
    let top = drawing.legend(top, names.iter().map(|(series, name)| (*series, name.as_str()))) + size * 0.4;
    let margin = drawing.margin();
    let (left, right) = (margin + size * 3.6, look.width - margin);
    let bottom = look.height - size * 3.4;
    let points = || clouds.iter().flat_map(|(.., points)| points);
    let fast = points().map(|(_, x, _)| *x).fold(0.0, f64::max);
    let dear = points().map(|(.., y)| *y).fold(0.0, f64::max);
    let x = Scale::linear((0.0, fast * 1.08), (left, right));
    let y = Scale::linear((0.0, dear * 1.12), (bottom, top));
    let plot = Plot {
        left,
        right,
        top,
        bottom,
    };
    drawing.left_axis(&y, plot, 6, "CPU cost, s/GB");
    drawing.bottom_axis(&x, plot, 8, true, "throughput, MB/s");
    let mut words = Vec::new();
    for (series, name, points) in &clouds {
        for (block, rate, cost) in points {
            drawing
                .mark(*series, x.at(*rate), y.at(*cost), size * 0.24)
                .opacity(0.55)
                .tip(format!(
                    "{name}, block {block}: {} MB/s at {} s/GB",
                    digits::human(Metric::Throughput, *rate),
                    digits::human(Metric::CpuSecondsPerGb, *cost)
                ));
        }
        let Some((rate, cost)) = middle(points) else {
            continue;
        };
        let told = format!(
            "{name}: {} s/GB at {} MB/s",
            digits::human(Metric::CpuSecondsPerGb, cost),
            digits::human(Metric::Throughput, rate)
        );
        drawing
            .mark(*series, x.at(rate), y.at(cost), size * 0.5)
            .tip(told.clone());
        words.push(told);
    }
    drawing.description = format!("{}.", words.join(". "));
    Some(drawing)
}
