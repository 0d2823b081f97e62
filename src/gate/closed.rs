//! Paths that are expected to be unreachable: each is a gate by itself. It passes where nothing got through in any trial,
//! and fails where something did in one; no interval is needed of what is seen or not.

use super::{GateState, GateVerdict};
use crate::{analysis::Summary, run::Manifest};

pub(super) fn judge<'a>(
    manifest: &'a Manifest,
    summary: &'a Summary,
) -> impl Iterator<Item = GateVerdict> + use<'a> {
    let closed = manifest
        .cases
        .iter()
        .filter(|case| !case.path.expect.is_reachable());
    closed.map(move |case| {
        let path = &case.path.name;
        let seen = summary.case(path, &case.workload.name);
        let (valid, open) = seen.map_or((0, 0), |seen| (seen.valid, seen.contradicted));
        let trials = valid + open;
        let of = if trials == 1 {
            "1 trial".to_owned()
        } else {
            format!("{trials} trials")
        };
        let (state, told) = match (valid, open) {
            (0, 0) => (
                GateState::Inconclusive,
                "No trial counts: see the run's warnings.".to_owned(),
            ),
            (_, 0) => (GateState::Pass, format!("Nothing did, in {of}.")),
            _ => (
                GateState::Fail,
                format!("Something did in {open} of {of}: see the run's warnings."),
            ),
        };
        GateVerdict {
            gate: format!("{path} is unreachable"),
            state,
            path: path.clone(),
            workload: case.workload.name.clone(),
            metric: None,
            relative_to: None,
            against_baseline: false,
            expected: "unreachable".to_owned(),
            seen: None,
            interval: None,
            trials,
            message: format!("`{path}`: nothing should get through. {told}"),
        }
    })
}
