//! What people and machines read of a run, one file an output. Pure: a run's data in, bytes out.
//!
//! | output | for |
//! | --- | --- |
//! | [`terminal`] | who sits before it |
//! | `summary.csv`, `comparisons.csv`, `trials.csv`, `intervals.csv` | spreadsheets and notebooks |
//! | `report.html` | reading: self-contained, with charts |
//! | `report.md` | a pull request or a chat |
//! | `*.svg`, `*.png` | slides and pages, one question a chart |
//! | `gate.json`, `junit.xml` | CI |
//! | `metrics.prom` | Prometheus |
//!
//! The same data give the same bytes: every figure is rounded in `digits`, times are the run's, nothing depends on
//! the machine, its locale or its time zone, and the charts' font is embedded.

mod chart;
mod comparison;
mod comparisons_csv;
mod digits;
mod doctor;
mod gate_json;
mod history;
mod html;
mod intervals_csv;
mod junit;
mod labels;
mod markdown;
mod openmetrics;
mod summary_csv;
mod terminal;
mod trials_csv;
mod view;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use comparison::comparison;
pub use doctor::add_diagnosis;
pub use history::{HistoryInputs, HistoryRun, Runs, history_files, terminal_history};
pub use labels::plain;

use crate::{
    analysis::Summary,
    gate::GateReport,
    run::{Manifest, Trial},
    scenario::Case,
};
use chart::Chart;
use std::collections::HashMap;
use view::View;

/// All that a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What was to be measured, and where.
    pub manifest: &'a Manifest,
    /// The trial log, in its order.
    pub trials: &'a [Trial],
    /// What analysis made of it.
    pub summary: &'a Summary,
    /// What the gates say of it.
    pub gates: &'a GateReport,
}

impl<'a> Inputs<'a> {
    /// The cases by their slugs.
    fn cases(&self) -> HashMap<&'a str, &'a Case> {
        self.manifest
            .cases
            .iter()
            .map(|case| (case.slug.as_str(), case))
            .collect()
    }

    /// The trials that count, by their case's slug, each case's in the order of the log.
    fn valid_by_case(&self) -> HashMap<&'a str, Vec<&'a Trial>> {
        let mut by_case: HashMap<&str, Vec<&Trial>> = HashMap::new();
        for trial in self.trials.iter().filter(|trial| trial.is_valid()) {
            by_case.entry(&trial.case).or_default().push(trial);
        }
        by_case
    }
}

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A CSV file could not be written.
    #[error("failed to write {file}: {source}")]
    Csv {
        /// Its name.
        file: &'static str,
        /// Why.
        source: csv::Error,
    },
    /// JSON could not be written.
    #[error("failed to write gate.json: {0}")]
    Json(#[from] serde_json::Error),
    /// XML could not be written.
    #[error("failed to write junit.xml: {0}")]
    Junit(#[from] quick_junit::SerializeError),
    /// A template could not be filled: a bug of encapbench.
    #[error("failed to fill the template of {file}: {source}")]
    Template {
        /// What was being made.
        file: String,
        /// Why.
        source: minijinja::Error,
    },
    /// A chart could not be drawn.
    #[error("failed to draw {file}: {reason}")]
    Draw {
        /// The chart's file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// A file of a report: its name in the run's folder, and its bytes.
pub type ReportFile = (String, Vec<u8>);

/// Every report file of a run, in the order of their names. The same inputs give the same bytes.
///
/// # Errors
/// Where an output could not be made; none is then returned.
pub fn files(inputs: &Inputs<'_>) -> Result<Vec<ReportFile>, ReportError> {
    let mut files = tables(inputs)?;
    files.extend(pages(inputs)?);
    files.sort();
    Ok(files)
}

/// The files for machines, which are quick to make: CSV, gates' verdicts, metrics.
///
/// # Errors
/// As [`files`].
pub fn tables(inputs: &Inputs<'_>) -> Result<Vec<ReportFile>, ReportError> {
    Ok(vec![
        ("summary.csv".to_owned(), summary_csv::write(inputs)?),
        ("comparisons.csv".to_owned(), comparisons_csv::write(inputs)?),
        ("trials.csv".to_owned(), trials_csv::write(inputs)?),
        ("intervals.csv".to_owned(), intervals_csv::write(inputs)?),
        ("gate.json".to_owned(), gate_json::write(inputs)?),
        ("junit.xml".to_owned(), junit::write(inputs)?),
        ("metrics.prom".to_owned(), openmetrics::write(inputs).into_bytes()),
    ])
}

/// The files for people: pages, with charts, and the charts as pictures.
///
/// # Errors
/// As [`files`].
pub fn pages(inputs: &Inputs<'_>) -> Result<Vec<ReportFile>, ReportError> {
    let view = View::new(inputs);
    let charts = chart::draw_all(inputs, &view);
    let mut files = documents(&view, &charts)?;
    #[cfg(feature = "plots")]
    for chart in &charts {
        files.extend(chart::files(chart)?);
    }
    files.sort();
    Ok(files)
}

/// All but the pictures.
fn documents(view: &View, charts: &[Chart]) -> Result<Vec<ReportFile>, ReportError> {
    Ok(vec![
        ("report.md".to_owned(), markdown::write(view).into_bytes()),
        ("report.html".to_owned(), html::write(view, charts)?.into_bytes()),
    ])
}

/// `report.md`, for a pull request or a job's summary.
pub fn markdown(inputs: &Inputs<'_>) -> String {
    markdown::write(&View::new(inputs))
}

/// What a terminal shows of a run: the matrix first, then latency, cost, gates and warnings. `width` is in columns;
/// 100 shows all, less than that leaves intervals of latency out. `colour` asks for ANSI colours.
pub fn terminal(inputs: &Inputs<'_>, width: usize, colour: bool) -> String {
    terminal::write(&View::new(inputs), width, colour)
}
