//! From a run folder to its report files: analysis, gates, report, and what of it is written where.

use super::Failure;
use crate::{
    analysis::{self, Summary, compare::ComparedRun},
    evidence::Diagnosis,
    gate::{self, GateReport},
    report::{self, Inputs},
    run::{self, Recorded},
};
use std::path::Path;

/// The file with what the doctor found, beside the trial log: like that it can't be made again.
pub(super) const DOCTOR: &str = "doctor.json";

fn read_diagnosis(folder: &Path) -> Result<Option<Diagnosis>, Failure> {
    let file = folder.join(DOCTOR);
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Usage(format!("can't read {}: {error}", file.display()))),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Failure::BadFile(format!("{}: {error}", file.display())))
}

fn failed(error: &report::ReportError) -> Failure {
    Failure::Report(error.to_string())
}

/// Writes files into a folder, each whole, and returns their names.
fn write_files(folder: &Path, files: Vec<report::ReportFile>) -> Result<Vec<String>, Failure> {
    files
        .into_iter()
        .map(|(name, bytes)| {
            run::write_whole(folder, &name, &bytes)?;
            Ok(name)
        })
        .collect()
}

/// A run, analysed and judged.
pub(super) struct Published {
    pub(super) recorded: Recorded,
    pub(super) summary: Summary,
    pub(super) gates: GateReport,
    /// What the doctor found after the run, where a path carried nothing.
    pub(super) diagnosis: Option<Diagnosis>,
}

impl Published {
    /// Reads and analyses a run folder; writes nothing.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let recorded = run::read(folder)?;
        let mut summary = analysis::summarise(&recorded.manifest, &recorded.trials);
        if recorded.torn {
            summary.warnings.push(format!(
                "The last line of {} is cut off and left out: the run was ended in the middle of it, or still goes on.",
                run::TRIALS
            ));
        }
        let gates = gate::judge(&recorded.manifest, &summary);
        Ok(Self {
            recorded,
            summary,
            gates,
            diagnosis: read_diagnosis(folder)?,
        })
    }

    /// Whether it is the very same run, be it in another folder.
    fn is(&self, other: &Self) -> bool {
        self.recorded.manifest.started == other.recorded.manifest.started
            && !self.recorded.trials.is_empty()
            && self.recorded.trials == other.recorded.trials
    }

    /// What comparisons are made from.
    pub(super) fn compared(&self) -> ComparedRun<'_> {
        ComparedRun {
            manifest: &self.recorded.manifest,
            summary: &self.summary,
        }
    }

    /// What reports are made from.
    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            manifest: &self.recorded.manifest,
            trials: &self.recorded.trials,
            summary: &self.summary,
            gates: &self.gates,
        }
    }

    /// Writes the files for programs into the folder, and returns their names.
    pub(super) fn write_tables(&self, folder: &Path) -> Result<Vec<String>, Failure> {
        write_files(
            folder,
            report::tables(&self.inputs()).map_err(|error| failed(&error))?,
        )
    }

    /// Writes all report files into the folder, and returns their names.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<String>, Failure> {
        // What is quick to make comes first: of a long run the charts take their time.
        let mut names = self.write_tables(folder)?;
        let mut log = Vec::new();
        let intervals = run::log_intervals(&self.recorded.trials);
        run::write_log(&mut log, self.recorded.manifest.started, &intervals)
            .map_err(|error| Failure::Report(error.to_string()))?;
        names.extend(write_files(folder, vec![("latency.hlog".to_owned(), log)])?);
        let mut pages = report::pages(&self.inputs()).map_err(|error| failed(&error))?;
        if let Some(diagnosis) = &self.diagnosis {
            report::add_diagnosis(&mut pages, diagnosis);
        }
        names.extend(write_files(folder, pages)?);
        Ok(names)
    }

    /// The table for the terminal.
    pub(super) fn terminal(&self) -> String {
        report::terminal(&self.inputs(), super::width(), super::colour())
    }
}

/// Makes sure that no run stands in for several: they would look more alike than runs are.
///
/// # Errors
/// Where one is given again.
pub(super) fn all_distinct(runs: &[(&Path, &Published)]) -> Result<(), Failure> {
    for (index, (folder, run)) in runs.iter().enumerate() {
        let earlier = runs.iter().take(index);
        if let Some((twin, _)) = earlier.into_iter().find(|(_, earlier)| earlier.is(run)) {
            return Err(Failure::Usage(format!(
                "{} and {} are the same run: name each run once",
                twin.display(),
                folder.display()
            )));
        }
    }
    Ok(())
}
