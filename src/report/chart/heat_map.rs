//! Which pairs are slow? A field for each pair of places, for runs of many paths.

use super::{
    canvas::{Anchor, Drawing, Ink, Look},
    text,
};
use crate::report::{
    Inputs,
    view::{Figure, Matrix, PairTable},
};
use std::collections::BTreeMap;

/// A bar chart tells fewer paths apart better.
const LEAST_PATHS: usize = 9;
/// Places in a row or column that can be told apart.
const MOST_PLACES: usize = 64;

/// A field: a pair of places with its figure.
struct Field<'a> {
    from: String,
    to: String,
    /// What its name is in words.
    name: &'a str,
    figure: &'a Figure,
}

/// Over all paths of a workload.
pub(super) fn draw(inputs: &Inputs<'_>, matrix: &Matrix, look: &Look) -> Option<Drawing> {
    if matrix.lines.len() < LEAST_PATHS {
        return None;
    }
    let ends: BTreeMap<&str, (String, String)> = inputs
        .manifest
        .cases
        .iter()
        .filter(|case| case.workload.name == matrix.key)
        .map(|case| {
            (
                case.path.name.as_str(),
                (case.path.from.to_string(), case.path.to.to_string()),
            )
        })
        .collect();
    let fields: Vec<Field<'_>> = matrix
        .lines
        .iter()
        .filter_map(|line| {
            let (from, to) = ends.get(line.key.as_str())?;
            Some(Field {
                from: from.clone(),
                to: to.clone(),
                name: &line.path,
                figure: line.throughput.as_ref()?,
            })
        })
        .collect();
    draw_fields(&fields, &format!("{}: {}", matrix.workload, matrix.what), look)
}

/// Over the pairs of a path that were loaded at once.
pub(super) fn draw_pairs(table: &PairTable, look: &Look) -> Option<Drawing> {
    if table.lines.len() < 2 {
        return None;
    }
    let names: Vec<String> = table
        .lines
        .iter()
        .map(|line| format!("{} to {}", line.from, line.to))
        .collect();
    let fields: Vec<Field<'_>> = table
        .lines
        .iter()
        .zip(&names)
        .filter_map(|(line, name)| {
            Some(Field {
                from: line.from.clone(),
                to: line.to.clone(),
                name,
                figure: line.throughput.as_ref()?,
            })
        })
        .collect();
    draw_fields(
        &fields,
        &format!("{}: {}, all at once", table.path, table.workload),
        look,
    )
}

fn draw_fields(all: &[Field<'_>], what: &str, look: &Look) -> Option<Drawing> {
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    let mut fields: BTreeMap<(&str, &str), &Field<'_>> = BTreeMap::new();
    for field in all {
        if fields.insert((&field.from, &field.to), field).is_none() {
            rows.push(field.from.clone());
            columns.push(field.to.clone());
        }
    }
    // Pods of one pool stand together.
    for names in [&mut rows, &mut columns] {
        names.sort_by_cached_key(|name: &String| {
            let (place, pool) = name.rsplit_once('/').unwrap_or((name, ""));
            (pool.to_owned(), place.to_owned())
        });
        names.dedup();
    }
    if rows.len() > MOST_PLACES || columns.len() > MOST_PLACES {
        return None;
    }
    let values = || all.iter().map(|field| field.figure.value);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let slowest = all
        .iter()
        .min_by(|a, b| a.figure.value.total_cmp(&b.figure.value))?;
    let shown = format!(
        "{what}. Median throughput in MB/s from the place at the left to the place above; bright is fast, {} to {} \
         MB/s; blank: no path or no trial that counts",
        crate::report::digits::significant(low),
        crate::report::digits::significant(high)
    );
    let size = look.text * 0.85;
    let height = look.height_for(rows.len(), look.text * 2.4, look.text * 18.0);
    let (mut drawing, top) = Drawing::new(look, height, "Which pairs are slow?", &shown);
    let margin = drawing.margin();
    let label_room = rows
        .iter()
        .map(|name| text::width(name, size))
        .fold(0.0, f64::max)
        .min(look.width * 0.25);
    let left = margin + label_room + size * 0.6;
    let name_room = label_room.min(size * 11.0);
    let top = top + name_room + size * 0.4;
    let (right, bottom) = (look.width - margin, height - margin);
    let (wide, high_field) = (
        (right - left) / columns.len() as f64,
        (bottom - top) / rows.len() as f64,
    );
    for (column, name) in columns.iter().enumerate() {
        let x = left + wide * (column as f64 + 0.5);
        let name = text::shorten(name, size, name_room);
        drawing.upright(x + size * 0.35, top - size * 0.5, &name, size, Anchor::Start);
    }
    for (row, from) in rows.iter().enumerate() {
        let y = top + high_field * row as f64;
        let baseline = y + high_field / 2.0 + size * 0.35;
        let name = text::shorten(from, size, label_room);
        drawing.text(
            margin + label_room,
            baseline,
            &name,
            size,
            Ink::Muted,
            Anchor::End,
        );
        for (column, to) in columns.iter().enumerate() {
            let Some(field) = fields.get(&(from.as_str(), to.as_str())) else {
                continue;
            };
            let figure = field.figure;
            let part = if high > low {
                (figure.value - low) / (high - low)
            } else {
                1.0
            };
            let x = left + wide * column as f64;
            drawing
                .rect(x + 1.0, y + 1.0, wide - 2.0, high_field - 2.0, Ink::Ramp(part))
                .tip(format!(
                    "{}: {} MB/s, {}",
                    field.name,
                    figure.text,
                    figure.spread_in_words()
                ));
            if text::width(&figure.text, size) < wide - 4.0 && high_field > size * 1.1 {
                // Black or white by the field, not by the page's ground.
                let ink = if part > 0.5 {
                    Ink::Ramp(0.0)
                } else {
                    Ink::Ramp(1.0)
                };
                drawing.text(x + wide / 2.0, baseline, &figure.text, size, ink, Anchor::Middle);
            }
        }
    }
    drawing.description = format!(
        "The slowest pair is {} at {} MB/s; all are in the matrix.",
        slowest.name, slowest.figure.text
    );
    Some(drawing)
}
