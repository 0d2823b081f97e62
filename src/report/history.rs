//! What people and machines read of a scenario's history: a table for the terminal, `history.csv`, `history.html` with
//! a trend chart a case, and the charts as pictures.

use super::{
    ReportError, ReportFile,
    chart::{self, trend},
    digits,
    html::{SCRIPT, STYLE as PAGE_STYLE, templates},
    labels::{Slugs, cell, plain},
    summary_csv::table,
    terminal::{STYLE, lay_out},
};
use crate::{
    analysis::history::{ChangePoint, Series},
    gate::GateState,
};
use comfy_table::Table;
use minijinja::value::Serde;
use serde::Serialize;
use std::fmt::Write as _;

const TEMPLATE: &str = include_str!("html/history.html.j2");
/// The heights of a line of figures in a terminal.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Runs that such a line has room for: the newest.
const LINE: usize = 24;

/// A run of a history.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryRun {
    /// Its folder's name.
    pub name: String,
    /// When it began.
    pub started: jiff::Timestamp,
    /// What its gates said.
    pub gates: Option<GateState>,
}

/// The runs of a history, from the oldest to the newest.
#[derive(Debug, Clone, Default)]
pub struct Runs(pub Vec<HistoryRun>);

impl Runs {
    /// A run's day.
    pub(super) fn day(&self, run: usize) -> String {
        let started = self.0.get(run).map(|run| run.started.to_string());
        started.map_or_else(String::new, |text| text.chars().take(10).collect())
    }

    /// A run's name and time.
    pub(super) fn name(&self, run: usize) -> String {
        self.0.get(run).map_or_else(String::new, |run| {
            let started: String = run.started.to_string().chars().take(16).collect();
            format!("{} ({started}Z)", plain(&run.name))
        })
    }
}

/// A history: a scenario's runs and its series.
#[derive(Debug, Clone, Copy)]
pub struct HistoryInputs<'a> {
    /// The scenario's name.
    pub scenario: &'a str,
    /// The runs.
    pub runs: &'a Runs,
    /// The series, of [`crate::analysis::history::history`].
    pub series: &'a [Series],
}

/// A ratio as percent more or less.
pub(super) fn percent(ratio: f64) -> String {
    let share = (ratio - 1.0) * 100.0;
    if share.is_finite() {
        format!("{share:+.1} %").replacen('-', "\u{2212}", 1)
    } else {
        digits::UNKNOWN.to_owned()
    }
}

/// What changed, in words.
fn words(inputs: &HistoryInputs<'_>, series: &Series, change: &ChangePoint) -> String {
    let mut text = format!(
        "{} ({} to {} {}), {}, since {}",
        percent(change.after / change.before),
        trend::figure(series, change.before),
        trend::figure(series, change.after),
        trend::unit(series),
        if series.is_better(change) {
            "better"
        } else {
            "worse"
        },
        inputs.runs.name(change.run)
    );
    if !change.unlike.is_empty() {
        let unlike: Vec<String> = change
            .unlike
            .iter()
            .map(|unlike| {
                format!(
                    "{}: {} → {}",
                    unlike.what,
                    unlike.base.join(", "),
                    unlike.new.join(", ")
                )
            })
            .collect();
        let _ = write!(text, "; with it changed {}", unlike.join("; "));
    }
    plain(&text)
}

/// The newest figures as a line of bars, from the least to the most.
fn bars(series: &Series) -> String {
    let from = series.points.len().saturating_sub(LINE);
    let shown = series.points.get(from..).unwrap_or_default();
    let low = shown
        .iter()
        .map(|point| point.value)
        .fold(f64::INFINITY, f64::min);
    let high = shown
        .iter()
        .map(|point| point.value)
        .fold(f64::NEG_INFINITY, f64::max);
    shown
        .iter()
        .map(|point| {
            // Figures within 2 % of each other are no trend, and drawn level.
            let part = if high - low <= 0.02 * high.abs() {
                0.5
            } else {
                (point.value - low) / (high - low)
            };
            BARS.get((part * 7.0).round() as usize).copied().unwrap_or(' ')
        })
        .collect()
}

/// The history for a terminal.
pub fn terminal_history(inputs: &HistoryInputs<'_>, width: usize) -> String {
    let runs = &inputs.runs.0;
    let mut text = format!(
        "{}: {} run{} from {} to {}\n",
        plain(inputs.scenario),
        runs.len(),
        if runs.len() == 1 { "" } else { "s" },
        inputs.runs.day(0),
        inputs.runs.day(runs.len().saturating_sub(1))
    );
    let mut rows = Table::new();
    rows.load_style(STYLE);
    rows.set_header(["case", "figure", "runs", "first", "last", "trend", "changes"]);
    for series in inputs.series {
        let end = |point: Option<&crate::analysis::history::HistoryPoint>| {
            point.map_or_else(String::new, |point| trend::figure(series, point.value))
        };
        rows.add_row([
            plain(&format!("{} · {}", series.path, series.workload)),
            plain(&format!("{}, {}", series.metric, trend::unit(series))),
            series.points.len().to_string(),
            end(series.points.first()),
            end(series.points.last()),
            bars(series),
            series.changes.len().to_string(),
        ]);
    }
    lay_out(&mut rows, width, &[0, 1]);
    for line in rows.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for series in inputs.series {
        for change in &series.changes {
            let _ = writeln!(
                text,
                "\n! {}, {}: {}",
                plain(&format!("{} · {}", series.path, series.workload)),
                series.metric,
                words(inputs, series, change)
            );
        }
    }
    if inputs.series.iter().all(|series| series.changes.is_empty()) {
        text.push_str("No figure changed by more than the scatter between runs explains.\n");
    }
    text
}

#[derive(Serialize)]
struct SeriesView {
    path: String,
    workload: String,
    figure: String,
    first: String,
    last: String,
    runs: usize,
    name: String,
    svg: String,
    description: String,
    changes: Vec<String>,
    worse: bool,
}

#[derive(Serialize)]
struct RunView {
    name: String,
    started: String,
    gates: String,
}

#[derive(Serialize)]
struct Page<'a> {
    style: &'a str,
    script: &'a str,
    scenario: String,
    runs: Vec<RunView>,
    series: Vec<SeriesView>,
}

/// The files of a history: `history.csv`, `history.html`, and each series' chart as PNG and SVG. The same runs give the
/// same bytes.
///
/// # Errors
/// Where one could not be made; none is then returned.
pub fn history_files(inputs: &HistoryInputs<'_>) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = vec![("history.csv".to_owned(), csv(inputs)?)];
    let mut slugs = Slugs::default();
    let mut views = Vec::new();
    for series in inputs.series {
        let name = slugs.take(&format!(
            "history-{}-{}-{}{}",
            series.path,
            series.workload,
            series.metric,
            series.relative_to.as_ref().map_or("", |_| "-relative")
        ));
        let Some(chart) = chart::draw_trend(inputs.runs, series, &name) else {
            continue;
        };
        let end = |point: Option<&crate::analysis::history::HistoryPoint>| {
            point.map_or_else(String::new, |point| trend::figure(series, point.value))
        };
        views.push(SeriesView {
            path: plain(&series.path),
            workload: plain(&series.workload),
            figure: plain(&format!("{}, {}", series.metric, trend::unit(series))),
            first: end(series.points.first()),
            last: end(series.points.last()),
            runs: series.points.len(),
            svg: chart::inline(&chart, &name)?,
            description: chart.page.description.clone(),
            changes: series
                .changes
                .iter()
                .map(|change| words(inputs, series, change))
                .collect(),
            worse: series
                .changes
                .last()
                .is_some_and(|change| !series.is_better(change)),
            name,
        });
        #[cfg(feature = "plots")]
        files.extend(chart::files(&chart)?);
    }
    let page = Page {
        style: PAGE_STYLE,
        script: SCRIPT,
        scenario: plain(inputs.scenario),
        runs: inputs
            .runs
            .0
            .iter()
            .map(|run| RunView {
                name: plain(&run.name),
                started: run.started.to_string(),
                gates: run.gates.map_or_else(String::new, |state| state.to_string()),
            })
            .collect(),
        series: views,
    };
    let html = templates()
        .render_str(TEMPLATE, Serde(page))
        .map_err(|source| ReportError::Template {
            file: "history.html".to_owned(),
            source,
        })?;
    files.push(("history.html".to_owned(), html.into_bytes()));
    files.sort();
    Ok(files)
}

fn csv(inputs: &HistoryInputs<'_>) -> Result<Vec<u8>, ReportError> {
    table("history.csv", |out| {
        out.write_record([
            "run",
            "started",
            "path",
            "workload",
            "metric",
            "unit",
            "relative_to",
            "median",
            "ci_low",
            "ci_high",
            "change_ratio",
            "change_p",
        ])?;
        for series in inputs.series {
            let number = |value: f64| {
                if series.relative_to.is_some() {
                    digits::csv_ratio(value)
                } else {
                    digits::csv(series.metric, value)
                }
            };
            for point in &series.points {
                let Some(run) = inputs.runs.0.get(point.run) else {
                    continue;
                };
                let change = series.changes.iter().find(|change| change.run == point.run);
                out.write_record([
                    cell(&run.name),
                    run.started.to_string(),
                    cell(&series.path),
                    cell(&series.workload),
                    series.metric.name().to_owned(),
                    series
                        .relative_to
                        .as_ref()
                        .map_or_else(|| series.metric.unit().to_owned(), |_| "ratio".to_owned()),
                    series.relative_to.as_deref().map_or_else(String::new, cell),
                    number(point.value),
                    point.interval.map_or_else(String::new, |(low, _)| number(low)),
                    point.interval.map_or_else(String::new, |(_, high)| number(high)),
                    change.map_or_else(String::new, |change| {
                        digits::csv_ratio(change.after / change.before)
                    }),
                    change.map_or_else(String::new, |change| digits::fixed(change.p, 6)),
                ])?;
            }
        }
        Ok(())
    })
}
