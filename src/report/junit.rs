//! `junit.xml`: a test case a gate, for CI.
//!
//! A gate that fails is a `failure`. One that is inconclusive is an `error`: it is neither good nor skipped, the
//! measurement could not decide, and CI must not turn green over it. One whose case was left out is `skipped`.

use super::{Inputs, ReportError, digits};
use crate::gate::{GateState, GateVerdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

fn status(verdict: &GateVerdict) -> TestCaseStatus {
    let mut status = match verdict.state {
        GateState::Pass => return TestCaseStatus::success(),
        GateState::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        GateState::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        GateState::Skipped => TestCaseStatus::skipped(),
    };
    status.set_message(verdict.message.as_str());
    status.set_type(verdict.state.to_string());
    status
}

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    let manifest = inputs.manifest;
    let mut suite = TestSuite::new(format!("encapbench gates: {}", manifest.scenario.name));
    // The run's own time, never the time of reporting.
    suite.timestamp = manifest.started.to_string().parse().ok();
    let seconds: f64 = inputs.trials.iter().map(|trial| trial.seconds).sum();
    suite.time = Duration::try_from_secs_f64((seconds * 1000.0).round() / 1000.0).ok();
    suite.add_property(("encapbench", manifest.encapbench.as_str()));
    suite.add_property(("kernel", manifest.host.kernel.as_str()));
    suite.add_property(("seed", manifest.seed.to_string().as_str()));
    for verdict in &inputs.gates.verdicts {
        let mut case = TestCase::new(verdict.gate.as_str(), status(verdict));
        case.set_classname(format!("{} / {}", verdict.path, verdict.workload));
        if let Some(metric) = verdict.metric {
            case.add_property(("metric", metric.name()));
        }
        case.add_property(("expected", verdict.expected.as_str()));
        if let (Some(seen), Some(metric)) = (verdict.seen, verdict.metric) {
            let seen = if verdict.is_ratio() {
                digits::csv_ratio(seen)
            } else {
                digits::csv(metric, seen)
            };
            case.add_property(("seen", seen.as_str()));
        }
        case.add_property(("trials", verdict.trials.to_string().as_str()));
        if verdict.state == GateState::Pass {
            case.set_system_out(verdict.message.as_str());
        }
        suite.add_test_case(case);
    }
    let mut report = Report::new("encapbench");
    report.timestamp = suite.timestamp;
    report.time = suite.time;
    report.add_test_suite(suite);
    let mut bytes = Vec::new();
    report.serialize(&mut bytes)?;
    Ok(bytes)
}
