//! `report.html`: one file that needs nothing else, light or dark as the reader's system is, for a desk, a phone and
//! paper. The matrix first, then what explains it.

use super::{
    ReportError,
    chart::{self, Chart},
    view::{PERCENTILES, View},
};
use minijinja::{
    AutoEscape, Environment, HtmlEscape,
    syntax::SyntaxConfig,
    value::{Serde, Value},
};
use serde::Serialize;
use std::fmt::Write as _;

const TEMPLATE: &str = include_str!("html/report.html.j2");
pub(super) const STYLE: &str = include_str!("html/report.css");
pub(super) const SCRIPT: &str = include_str!("html/report.js");

/// A template engine that escapes everything it is given, and takes the lines of its tags out.
pub(super) fn templates() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.add_filter("ticks", ticks);
    // Fails only on delimiters that clash; these are the usual ones.
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        env.set_syntax(syntax);
    }
    env
}

/// Escapes a sentence and sets the names that stand between backticks in it as code.
fn ticks(text: &str) -> Value {
    let parts: Vec<&str> = text.split('`').collect();
    // A name with a backtick of its own: no telling which belong together.
    if parts.len().is_multiple_of(2) {
        return Value::from_safe_string(HtmlEscape(text).to_string());
    }
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        let escaped = HtmlEscape(part);
        let written = if index % 2 == 1 {
            write!(out, "<code>{escaped}</code>")
        } else {
            write!(out, "{escaped}")
        };
        // Writing to a String can't fail.
        let _ = written;
    }
    Value::from_safe_string(out)
}

#[derive(Serialize)]
struct ChartView {
    question: &'static str,
    name: String,
    description: String,
    svg: String,
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    view: &'a View,
    style: &'a str,
    script: &'a str,
    percentiles: Vec<&'static str>,
    charts: Vec<ChartView>,
}

pub(super) fn write(view: &View, charts: &[Chart]) -> Result<String, ReportError> {
    let charts = charts
        .iter()
        .map(|chart| {
            Ok(ChartView {
                question: chart.question,
                name: chart.name.clone(),
                description: chart.page.description.clone(),
                svg: chart::inline(chart, &format!("chart-{}", chart.name))?,
            })
        })
        .collect::<Result<_, ReportError>>()?;
    let page = Page {
        view,
        style: STYLE,
        script: SCRIPT,
        percentiles: PERCENTILES.iter().map(|(_, name)| *name).collect(),
        charts,
    };
    templates()
        .render_str(TEMPLATE, Serde(page))
        .map_err(|source| ReportError::Template {
            file: "report.html".to_owned(),
            source,
        })
}
