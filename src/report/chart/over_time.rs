//! Is throughput steady? Each path's throughput over a trial's time: the median over trials, and all trials behind
//! it; the warm-up is shaded.

use super::{
    SERIES,
    axes::Plot,
    canvas::{Drawing, Ink, Look},
    scale::{Scale, tick},
    text,
};
use crate::{
    report::{Inputs, view::Matrix},
    run::Trial,
    scenario::Case,
};
use std::collections::BTreeMap;

/// With more trials than this a band is drawn instead of a line each.
const MOST_LINES: usize = 12;

/// A trial's throughput over time: milliseconds since it began to send, and MB/s over all streams.
type Course = BTreeMap<u64, f64>;

fn course(trial: &Trial) -> Course {
    let mut course = Course::new();
    for stream in trial.throughput.iter().flat_map(|result| &result.streams) {
        for sample in stream.samples.iter().filter(|sample| sample.seconds > 0.0) {
            // Streams of one test end their intervals within a millisecond or two of each other.
            let at = (sample.end * 20.0).round() as u64 * 50;
            *course.entry(at).or_default() += sample.bytes as f64 / sample.seconds / 1e6;
        }
    }
    course
}

/// The median; sorts.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle - 1)?, *values.get(middle)?)),
    }
}

pub(super) fn draw(inputs: &Inputs<'_>, matrix: &Matrix, look: &Look) -> Option<Drawing> {
    let cases: BTreeMap<&str, &Case> = inputs
        .manifest
        .cases
        .iter()
        .filter(|case| case.workload.name == matrix.key)
        .map(|case| (case.slug.as_str(), case))
        .collect();
    let mut by_path: BTreeMap<&str, Vec<Course>> = BTreeMap::new();
    for trial in inputs.trials.iter().filter(|trial| trial.is_valid()) {
        if let Some(case) = cases.get(trial.case.as_str()) {
            let course = course(trial);
            if course.len() > 1 {
                by_path.entry(case.path.name.as_str()).or_default().push(course);
            }
        }
    }
    let mut lines: Vec<(usize, &str, Vec<Course>)> = matrix
        .lines
        .iter()
        .enumerate()
        .filter_map(|(series, line)| Some((series, line.path.as_str(), by_path.remove(line.key.as_str())?)))
        .collect();
    let all = lines.len();
    lines.truncate(SERIES);
    let most = lines.iter().map(|(_, _, trials)| trials.len()).max()?;
    let behind = if most > MOST_LINES {
        "band: least to most"
    } else {
        "thin: each trial"
    };
    let more = text::only(lines.len(), all);
    let shown = format!(
        "{}: {}. MB/s as the receiver counted it; thick: median of {most} trials; {behind}; shaded: warm-up, not \
         counted{more}",
        matrix.workload, matrix.what
    );
    let (mut drawing, top) = Drawing::new(look, look.height, "Is throughput steady over time?", &shown);
    let size = look.text;
    let top = drawing.legend(top, lines.iter().map(|(series, name, _)| (*series, *name))) + size * 0.4;
    let margin = drawing.margin();
    let (left, right) = (margin + size * 4.0, look.width - margin);
    let bottom = look.height - size * 3.4;
    let points = || lines.iter().flat_map(|(.., trials)| trials).flatten();
    let end = points().map(|(at, _)| *at).max()? as f64 / 1e3;
    let high = points().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let x = Scale::linear((0.0, end), (left, right));
    let y = Scale::linear((0.0, high * 1.05), (bottom, top));
    let omit = cases
        .values()
        .filter_map(|case| case.workload.throughput.as_ref())
        .map(|throughput| throughput.omit.as_secs_f64())
        .fold(0.0, f64::max);
    if omit > 0.0 {
        drawing
            .rect(left, top, x.at(omit) - left, bottom - top, Ink::Grid)
            .opacity(0.5)
            .tip(format!("warm-up of {} s, not counted", tick(omit)));
    }
    let plot = Plot {
        left,
        right,
        top,
        bottom,
    };
    drawing.left_axis(&y, plot, 6, "throughput, MB/s");
    drawing.bottom_axis(&x, plot, 8, false, "seconds since the trial began to send");
    let mut words = Vec::new();
    for (series, name, trials) in &lines {
        let ink = Ink::Series(*series);
        let place = |at: u64, rate: f64| (x.at(at as f64 / 1e3), y.at(rate));
        let mut ticks: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (at, rate) in trials.iter().flatten() {
            ticks.entry(*at).or_default().push(*rate);
        }
        if trials.len() > MOST_LINES {
            let ends = ticks.iter().map(|(at, rates)| {
                let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
                (*at, low, rates.iter().copied().fold(0.0, f64::max))
            });
            let upper: Vec<(f64, f64)> = ends.clone().map(|(at, _, high)| place(at, high)).collect();
            let lower = ends.map(|(at, low, _)| place(at, low));
            let outline = upper.into_iter().chain(lower.rev()).collect();
            drawing.area(outline, ink).opacity(0.2);
        } else {
            for trial in trials {
                let points = trial.iter().map(|(at, rate)| place(*at, *rate)).collect();
                drawing.line(points, 1.0, ink).opacity(0.35);
            }
        }
        let medians: Vec<(u64, f64)> = ticks
            .iter_mut()
            .filter_map(|(at, rates)| Some((*at, median(rates)?)))
            .collect();
        drawing
            .line(
                medians.iter().map(|(at, rate)| place(*at, *rate)).collect(),
                2.4,
                ink,
            )
            .tip(format!("{name}: median of {} trials", trials.len()));
        let counted = || {
            medians
                .iter()
                .filter(|(at, _)| *at as f64 / 1e3 > omit)
                .map(|(_, rate)| *rate)
        };
        words.push(format!(
            "{name}: the median of {} trials stays between {} and {} MB/s",
            trials.len(),
            crate::report::digits::significant(counted().fold(f64::INFINITY, f64::min)),
            crate::report::digits::significant(counted().fold(0.0, f64::max)),
        ));
    }
    drawing.description = format!("{}.", words.join(". "));
    Some(drawing)
}
