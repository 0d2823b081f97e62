//! What does load do to latency? For each path the median and the 99th percentile, idle and under load.

use super::{
    axes::Plot,
    canvas::{Anchor, Drawing, Ink, Look},
    scale::Scale,
    text,
};
use crate::report::{
    Inputs, digits,
    view::{Figure, LatencyTable, PERCENTILES, View},
};

/// Paths that a page has room for.
const MOST: usize = 12;
/// Paths that a slide has room for.
const MOST_ON_A_SLIDE: usize = 6;

/// An idle and a loaded workload of the same kind.
fn pair(view: &View) -> Option<(&LatencyTable, &LatencyTable)> {
    view.latency
        .iter()
        .filter(|table| table.under_load)
        .find_map(|loaded| {
            let idle = view
                .latency
                .iter()
                .filter(|table| !table.under_load && table.kind == loaded.kind)
                // Best of all one with the same schedule.
                .max_by_key(|table| table.scheduled == loaded.scheduled)?;
            Some((idle, loaded))
        })
}

pub(super) fn draw(_: &Inputs<'_>, view: &View, look: &Look) -> Option<Drawing> {
    let (idle, loaded) = pair(view)?;
    let wanted = ["p50", "p99"].map(|name| PERCENTILES.iter().position(|(_, of)| *of == name));
    let mut rows: Vec<(&str, &str, &Figure, &Figure)> = Vec::new();
    let most = if look.fixed { MOST_ON_A_SLIDE } else { MOST };
    let (mut paths, mut shown) = (0, 0);
    for line in &idle.lines {
        let Some(other) = loaded.lines.iter().find(|other| other.key == line.key) else {
            continue;
        };
        let before = rows.len();
        for index in wanted.iter().flatten() {
            if let (Some(Some(calm)), Some(Some(busy))) =
                (line.percentiles.get(*index), other.percentiles.get(*index))
            {
                rows.push((&line.path, PERCENTILES.get(*index)?.1, calm, busy));
            }
        }
        paths += usize::from(rows.len() > before);
        if paths > most {
            rows.truncate(before);
        } else {
            shown = paths;
        }
    }
    if rows.is_empty() {
        return None;
    }
    let n = text::counts(rows.iter().map(|(_, _, calm, busy)| calm.count.min(busy.count)))?;
    let more = text::only(shown, paths);
    let shown = format!(
        "Round trip in µs, median of {n} trials. Hollow: {} ({}). Filled: {} ({}){more}",
        idle.workload, idle.what, loaded.workload, loaded.what
    );
    let height = look.height_for(rows.len(), look.text * 2.2, look.text * 11.0);
    let (mut drawing, top) = Drawing::new(look, height, "What does load do to latency?", &shown);
    let size = look.text;
    let margin = drawing.margin();
    let label_room = rows
        .iter()
        .map(|(path, ..)| text::width(path, size))
        .fold(0.0, f64::max)
        .min(look.width * 0.27);
    let left = margin + label_room + size * 4.2;
    let right = look.width - margin - size * 4.5;
    let (top, bottom) = (top + size * 0.3, height - size * 3.4);
    let values = || {
        rows.iter()
            .flat_map(|(_, _, calm, busy)| [calm.value, busy.value])
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    // The figure of the leftmost dot stands to its left.
    let x = Scale::log((low * 0.9, high * 1.3), (left + size * 3.0, right));
    let plot = Plot {
        left,
        right,
        top,
        bottom,
    };
    drawing.bottom_axis(&x, plot, 6, true, "latency, µs");
    let pitch = (bottom - top) / rows.len() as f64;
    let mut words = Vec::new();
    let mut series = 0;
    for (row, (path, percentile, calm, busy)) in rows.iter().enumerate() {
        let middle = top + pitch * (row as f64 + 0.5);
        let first = row == 0 || rows.get(row - 1).is_some_and(|(before, ..)| before != path);
        if first {
            series = if row == 0 { 0 } else { series + 1 };
            let both = rows.get(row + 1).is_some_and(|(next, ..)| next == path);
            let centre = if both { middle + pitch / 2.0 } else { middle };
            drawing.row_name(path, label_room, margin + label_room, centre);
            if row > 0 {
                let y = middle - pitch / 2.0;
                drawing.line(vec![(margin, y), (right + size * 4.0, y)], 1.0, Ink::Grid);
            }
        }
        let baseline = middle + size * 0.3;
        drawing.text(
            left - size * 0.6,
            baseline,
            percentile,
            size * 0.85,
            Ink::Muted,
            Anchor::End,
        );
        let ink = Ink::Series(series);
        let (from, to) = (x.at(calm.value), x.at(busy.value));
        let factor = digits::significant(busy.value / calm.value);
        let told = format!(
            "{path}, {percentile}: {} µs idle, {} µs under load, {factor} times",
            calm.text, busy.text
        );
        drawing
            .line(vec![(from, middle), (to, middle)], 3.0, ink)
            .opacity(0.6)
            .tip(told.clone());
        drawing.dot(from, middle, size * 0.42, ink).tip(told.clone());
        drawing.dot(from, middle, size * 0.24, Ink::Paper);
        drawing.dot(to, middle, size * 0.42, ink).tip(told.clone());
        let (near, far) = if to >= from {
            ((from - size * 0.7, Anchor::End), (to + size * 0.7, Anchor::Start))
        } else {
            ((from + size * 0.7, Anchor::Start), (to - size * 0.7, Anchor::End))
        };
        drawing.text(near.0, baseline, &calm.text, size * 0.85, Ink::Muted, near.1);
        drawing.text(far.0, baseline, &busy.text, size * 0.85, Ink::Text, far.1);
        words.push(told);
    }
    drawing.description = format!("{}.", words.join(". "));
    Some(drawing)
}
