//! SVG, by a template that escapes what it is given: alone as a file, or inside a page that colours it by class.

use super::canvas::{Anchor, Drawing, Form, Shape};
use crate::report::{ReportError, html::templates};
use serde::Serialize;

const TEMPLATE: &str = include_str!("chart.svg.j2");

/// A shape in the words of the template. Numbers are texts with stated digits.
#[derive(Serialize, Default)]
struct Element {
    kind: &'static str,
    class: String,
    colour: String,
    opacity: Option<String>,
    tip: Option<String>,
    x: String,
    y: String,
    width: String,
    height: String,
    points: String,
    size: String,
    anchor: &'static str,
    turn: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct Page<'a> {
    alone: bool,
    id: &'a str,
    width: String,
    height: String,
    title: &'a str,
    description: &'a str,
    elements: Vec<Element>,
}

fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn element(shape: &Shape) -> Element {
    let (r, g, b) = shape.ink.rgb();
    let base = Element {
        class: shape.ink.class(),
        colour: format!("#{r:02x}{g:02x}{b:02x}"),
        opacity: (shape.opacity < 1.0).then(|| format!("{:.2}", shape.opacity)),
        tip: shape.tip.clone(),
        ..Element::default()
    };
    let path = |points: &[(f64, f64)]| {
        points
            .iter()
            .map(|(x, y)| format!("{},{}", number(*x), number(*y)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    match &shape.form {
        Form::Rect { x, y, width, height } => Element {
            kind: "rect",
            x: number(*x),
            y: number(*y),
            width: number(*width),
            height: number(*height),
            ..base
        },
        Form::Line { points, width } => Element {
            kind: "line",
            points: path(points),
            width: number(*width),
            ..base
        },
        Form::Area { points } => Element {
            kind: "area",
            points: path(points),
            ..base
        },
        Form::Dot { x, y, radius } => Element {
            kind: "dot",
            x: number(*x),
            y: number(*y),
            size: number(*radius),
            ..base
        },
        Form::Text {
            x,
            y,
            text,
            size,
            anchor,
            upright,
        } => Element {
            kind: "text",
            x: number(*x),
            y: number(*y),
            size: number(*size),
            anchor: match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            },
            turn: upright.then(|| format!("rotate(-90 {} {})", number(*x), number(*y))),
            text: text.clone(),
            ..base
        },
    }
}

fn render(drawing: &Drawing, id: &str, alone: bool) -> Result<String, ReportError> {
    let env = templates();
    let page = Page {
        alone,
        id,
        width: number(drawing.width),
        height: number(drawing.height),
        title: &drawing.title,
        description: &drawing.description,
        elements: drawing.shapes.iter().map(element).collect(),
    };
    env.render_str(TEMPLATE, minijinja::value::Serde(page))
        .map_err(|source| ReportError::Template {
            file: format!("chart {:?}", drawing.title),
            source,
        })
}

/// A file of its own.
#[cfg(feature = "plots")]
pub(super) fn standalone(drawing: &Drawing) -> Result<String, ReportError> {
    render(drawing, "chart", true)
}

/// For inside HTML; `id` is unique in the page.
pub(super) fn inline(drawing: &Drawing, id: &str) -> Result<String, ReportError> {
    render(drawing, id, false)
}
