//! Charts, one question each: drawn once as a list of shapes, then written as SVG, inside HTML, and as PNG.

mod axes;
mod canvas;
mod cost;
mod heat_map;
mod over_time;
mod percentiles;
#[cfg(feature = "plots")]
mod png;
mod scale;
mod svg;
mod text;
mod throughput;
pub(super) mod trend;
mod under_load;

pub(super) use canvas::Drawing;

use super::{
    Inputs,
    labels::Slugs,
    view::{Matrix, View},
};
use crate::analysis::history::Series;
use canvas::Look;

/// A chart in its sizes.
pub(super) struct Chart {
    /// Which question it answers: a page sorts its charts by it.
    pub(super) question: &'static str,
    /// Its file name without an ending.
    pub(super) name: String,
    /// For a page: as high as it needs to be.
    pub(super) page: Drawing,
    /// The same for a narrow screen.
    pub(super) phone: Drawing,
    /// For a slide: 16:9 with larger text.
    #[cfg_attr(
        all(not(feature = "plots"), not(test)),
        expect(dead_code, reason = "only PNG comes in this size")
    )]
    pub(super) slide: Drawing,
}

/// Paths that one chart of lines or dots tells apart: the colours that the palette has.
const SERIES: usize = 8;

/// All charts of a run, the matrix first.
pub(super) fn draw_all(inputs: &Inputs<'_>, view: &View) -> Vec<Chart> {
    let mut charts = Vec::new();
    let mut slugs = Slugs::default();
    let mut add =
        |question: &'static str, workload: Option<&str>, draw: &dyn Fn(&Look) -> Option<Drawing>| {
            let sizes = (draw(&Look::PAGE), draw(&Look::PHONE), draw(&Look::SLIDE));
            if let (Some(page), Some(phone), Some(slide)) = sizes {
                let name = workload.map_or_else(
                    || question.to_owned(),
                    |workload| format!("{question}-{workload}"),
                );
                charts.push(Chart {
                    question,
                    name: slugs.take(&name),
                    page,
                    phone,
                    slide,
                });
            }
        };
    // One workload of a kind is the common case: then the file's name is the question's alone.
    let named = |matrix: &'_ Matrix| (view.matrices.len() > 1).then(|| matrix.key.clone());
    for matrix in &view.matrices {
        add("throughput", named(matrix).as_deref(), &|look| {
            throughput::draw(inputs, matrix, look)
        });
    }
    for matrix in &view.matrices {
        add("heat-map", named(matrix).as_deref(), &|look| {
            heat_map::draw(inputs, matrix, look)
        });
    }
    for table in &view.pairs {
        let name = format!("{}-{}", table.path, table.workload);
        add("pairs", Some(&name), &|look| heat_map::draw_pairs(table, look));
    }
    for table in &view.latency {
        add("latency", Some(&table.key), &|look| {
            percentiles::draw(inputs, table, look)
        });
    }
    add("latency-under-load", None, &|look| {
        under_load::draw(inputs, view, look)
    });
    for matrix in &view.matrices {
        add("throughput-over-time", named(matrix).as_deref(), &|look| {
            over_time::draw(inputs, matrix, look)
        });
        add("cpu-cost", named(matrix).as_deref(), &|look| {
            cost::draw(inputs, matrix, look)
        });
    }
    charts
}

/// A figure's chart over the runs of a history.
pub(super) fn draw_trend(runs: &super::history::Runs, series: &Series, name: &str) -> Option<Chart> {
    Some(Chart {
        question: "history",
        name: name.to_owned(),
        page: trend::draw(runs, series, &Look::PAGE)?,
        phone: trend::draw(runs, series, &Look::PHONE)?,
        slide: trend::draw(runs, series, &Look::SLIDE)?,
    })
}

/// A chart for inside HTML, as wide and as narrow pages show it; `id` is unique in the page.
pub(super) fn inline(chart: &Chart, id: &str) -> Result<String, super::ReportError> {
    let wide = svg::inline(&chart.page, id)?;
    let narrow = svg::inline(&chart.phone, &format!("{id}-narrow"))?;
    Ok(format!(
        "<div class=\"wide\">{wide}</div><div class=\"narrow\">{narrow}</div>"
    ))
}

/// A chart's files: `name.svg` and `name.png` for a page, `name-slide.png` for a slide.
#[cfg(feature = "plots")]
pub(super) fn files(chart: &Chart) -> Result<Vec<super::ReportFile>, super::ReportError> {
    let name = &chart.name;
    Ok(vec![
        (format!("{name}.svg"), svg::standalone(&chart.page)?.into_bytes()),
        (format!("{name}.png"), png::encode(&chart.page, name)?),
        (format!("{name}-slide.png"), png::encode(&chart.slide, name)?),
    ])
}
