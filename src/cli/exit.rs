//! Exit codes: the contract with scripts and pipelines.

use crate::{
    evidence::EvidenceState,
    gate::{GateReport, GateState},
    run::{Manifest, Outcome, Trial},
};
use std::process::ExitCode;

/// How a command ended. Where several hold, the first of this list that does is what is returned:
/// 130, 2, 3, 4, 1, 5, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 130: interrupted; what was measured so far is saved.
    Interrupted,
    /// 2: usage, or a bad file.
    Usage,
    /// 3: this machine or cluster can't do it.
    Unable,
    /// 4: the run failed: a case without one valid trial, or a contradicted one.
    RunFailed,
    /// 1: a gate failed.
    GateFailed,
    /// 5: no gate failed, but one is inconclusive.
    Inconclusive,
    /// 0: all is well and every gate passed.
    Success,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Usage => 2,
            Self::Unable => 3,
            Self::RunFailed => 4,
            Self::GateFailed => 1,
            Self::Inconclusive => 5,
            Self::Success => 0,
        }
    }

    /// Of gates alone.
    pub fn of_gates(gates: &GateReport) -> Self {
        match gates.state() {
            GateState::Fail => Self::GateFailed,
            GateState::Inconclusive => Self::Inconclusive,
            GateState::Pass | GateState::Skipped => Self::Success,
        }
    }

    /// Of a recorded run with its gates: the run itself comes first.
    pub fn of_run(manifest: &Manifest, trials: &[Trial], gates: &GateReport) -> Self {
        let no_valid = |slug: &str| !trials.iter().any(|trial| trial.case == slug && trial.is_valid());
        // That something gets through where nothing should is for the gate over it to say.
        let contradicted = trials.iter().any(|trial| {
            trial.outcome == Outcome::Measured
                && trial.probe.is_none()
                && trial.verdict.state == EvidenceState::Contradicted
        });
        let open = |slug: &str| {
            trials
                .iter()
                .any(|trial| trial.case == slug && trial.probe.is_some())
        };
        let fails = |slug: &str| no_valid(slug) && !open(slug);
        if contradicted || manifest.cases.iter().any(|case| fails(&case.slug)) {
            return Self::RunFailed;
        }
        Self::of_gates(gates)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
