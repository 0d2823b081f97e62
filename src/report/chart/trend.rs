//! Did a figure change, and when? A figure over the runs of a scenario, with its gates and the runs where it changed.

use super::{
    axes::Plot,
    canvas::{Anchor, Drawing, Ink, Look},
    scale::Scale,
};
use crate::{
    analysis::history::Series,
    report::{digits, history::Runs},
};

/// Runs whose times are written below the chart.
const TIMES: usize = 6;

/// The figures' unit, or that they are ratios.
pub(in crate::report) fn unit(series: &Series) -> String {
    series.relative_to.as_ref().map_or_else(
        || series.metric.unit().replace("us", "µs"),
        |base| format!("× {base}"),
    )
}

/// A figure of a series for people.
pub(in crate::report) fn figure(series: &Series, value: f64) -> String {
    if series.relative_to.is_some() {
        digits::human_ratio(value)
    } else {
        digits::human(series.metric, value)
    }
}

/// The least and the most that must be seen, with room around it; from 0 where that costs little of the height.
fn range(series: &Series) -> (f64, f64) {
    let values = || {
        series
            .points
            .iter()
            .flat_map(|point| {
                let (low, high) = point.interval.unwrap_or((point.value, point.value));
                [low, high, point.value]
            })
            .chain(series.limits.iter().map(|limit| limit.value))
            .filter(|value| value.is_finite())
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let room = ((high - low) * 0.15).max(high.abs() * 0.02);
    if low >= 0.0 && low < high * 0.6 {
        (0.0, high + room)
    } else {
        (low - room, high + room)
    }
}

pub(super) fn draw(runs: &Runs, series: &Series, look: &Look) -> Option<Drawing> {
    let (first, last) = (series.points.first()?, series.points.last()?);
    let title = format!(
        "{}: {} over {} runs",
        series.path,
        series.metric,
        series.points.len()
    );
    let shown = format!(
        "{}, {}. Dot: median of a run; whisker: its 95 % interval; dashes: limit of a gate; upright line: a change began; \
         thick: mean between changes",
        series.workload,
        unit(series)
    );
    let (mut drawing, top) = Drawing::new(look, look.height, &title, &shown);
    let size = look.text;
    let margin = drawing.margin();
    let plot = Plot {
        left: margin + size * 4.2,
        right: look.width - margin - size,
        top: top + size * 1.6,
        bottom: look.height - size * 3.4,
    };
    let span = (last.run.max(first.run + 1)) as f64;
    let x = Scale::linear((first.run as f64 - 0.5, span + 0.5), (plot.left, plot.right));
    let y = Scale::linear(range(series), (plot.bottom, plot.top));
    drawing.left_axis(&y, plot, 6, &unit(series));
    // Times of day would not fit: the day says enough.
    let every = series.points.len().div_ceil(TIMES).max(1);
    for point in series.points.iter().step_by(every) {
        drawing.bottom_tick(x.at(point.run as f64), plot, &runs.day(point.run));
    }
    drawing.text(
        f64::midpoint(plot.left, plot.right),
        plot.bottom + size * 2.5,
        "run, by the day it began",
        size * 0.85,
        Ink::Muted,
        Anchor::Middle,
    );
    limits(&mut drawing, series, plot, &y);
    let mut words = changes(&mut drawing, runs, series, plot, (&x, &y));
    let line = series
        .points
        .iter()
        .map(|point| (x.at(point.run as f64), y.at(point.value)))
        .collect();
    drawing.line(line, 1.2, Ink::Series(0)).opacity(0.5);
    for point in &series.points {
        let (at, height) = (x.at(point.run as f64), y.at(point.value));
        if let Some((low, high)) = point.interval {
            drawing.line(vec![(at, y.at(low)), (at, y.at(high))], 1.6, Ink::Series(0));
        }
        drawing.dot(at, height, size * 0.34, Ink::Series(0)).tip(format!(
            "{}: {} {}",
            runs.name(point.run),
            figure(series, point.value),
            unit(series)
        ));
    }
    words.insert(
        0,
        format!(
            "from {} to {} {} over {} runs",
            figure(series, first.value),
            figure(series, last.value),
            unit(series),
            series.points.len()
        ),
    );
    drawing.description = format!("{}: {}.", series.path, words.join("; "));
    Some(drawing)
}

fn limits(drawing: &mut Drawing, series: &Series, plot: Plot, y: &Scale) {
    let size = drawing.text;
    for limit in &series.limits {
        let at = y.at(limit.value);
        let mut from = plot.left;
        while from < plot.right {
            let to = (from + size * 0.6).min(plot.right);
            drawing.line(vec![(from, at), (to, at)], 1.6, Ink::Series(3));
            from += size;
        }
        let words = format!(
            "{} {} {}",
            if limit.at_least { "at least" } else { "at most" },
            figure(series, limit.value),
            unit(series)
        );
        // On the good side of the limit there is room: the figures are meant to be there.
        let below = if limit.at_least { size } else { -size * 0.4 };
        drawing
            .text(
                plot.right,
                at + below,
                &words,
                size * 0.8,
                Ink::Muted,
                Anchor::End,
            )
            .tip(format!("{}: {words}", limit.gate));
    }
}

fn changes(
    drawing: &mut Drawing,
    runs: &Runs,
    series: &Series,
    plot: Plot,
    (x, y): (&Scale, &Scale),
) -> Vec<String> {
    let size = drawing.text;
    let mut words = Vec::new();
    for (index, change) in series.changes.iter().enumerate() {
        let at = x.at(change.run as f64 - 0.5);
        let told = format!(
            "{} since {}",
            super::super::history::percent(change.after / change.before),
            runs.day(change.run)
        );
        let ink = if series.is_better(change) {
            Ink::Series(2)
        } else {
            Ink::Series(3)
        };
        drawing
            .line(vec![(at, plot.top - size * 0.3), (at, plot.bottom)], 2.0, ink)
            .tip(format!("{told} ({})", runs.name(change.run)));
        let (place, anchor) = if at > f64::midpoint(plot.left, plot.right) {
            (at + size * 0.2, Anchor::End)
        } else {
            (at - size * 0.2, Anchor::Start)
        };
        drawing.text(
            place,
            plot.top - size * 0.6,
            &told,
            size * 0.85,
            Ink::Text,
            anchor,
        );
        if index == 0 {
            let from = x.at(series.points.first().map_or(0, |point| point.run) as f64);
            let level = y.at(change.before);
            drawing
                .line(vec![(from, level), (at, level)], 3.0, Ink::Muted)
                .opacity(0.5);
        }
        let until = series.changes.get(index + 1).map_or_else(
            || x.at(series.points.last().map_or(0, |point| point.run) as f64),
            |next| x.at(next.run as f64 - 0.5),
        );
        let level = y.at(change.after);
        drawing
            .line(vec![(at, level), (until, level)], 3.0, Ink::Muted)
            .opacity(0.5);
        words.push(format!("{told}, {}", runs.name(change.run)));
    }
    words
}
