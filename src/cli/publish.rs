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
        let summary = analysis::summarise(&recorded.manifest, &recorded.trials);
        let gates = gate::judge(&recorded.manifest, &summary);
        Ok(Self {
            recorded,
            summary,
            gates,
            diagnosis: read_diagnosis(folder)?,
        })
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

    /// Writes all report files into the folder.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<String>, Failure> {
        let failed = |error: report::ReportError| Failure::Report(error.to_string());
        let mut names = Vec::new();
        let mut write = |files: Vec<report::ReportFile>| -> Result<(), Failure> {
            for (name, bytes) in files {
                run::write_whole(folder, &name, &bytes)?;
                names.push(name);
            }
            Ok(())
        };
        // What is quick to make comes first: of a long run the charts take their time.
        write(report::tables(&self.inputs()).map_err(failed)?)?;
        let mut log = Vec::new();
        let intervals = run::log_intervals(&self.recorded.trials);
        run::write_log(&mut log, self.recorded.manifest.started, &intervals)
            .map_err(|error| Failure::Report(error.to_string()))?;
        write(vec![("latency.hlog".to_owned(), log)])?;
        let mut pages = report::pages(&self.inputs()).map_err(failed)?;
        if let Some(diagnosis) = &self.diagnosis {
            report::add_diagnosis(&mut pages, diagnosis);
        }
        write(pages)?;
        Ok(names)
    }

    /// The table for the terminal.
    pub(super) fn terminal(&self) -> String {
        report::terminal(&self.inputs(), super::width(), super::colour())
    }
}
