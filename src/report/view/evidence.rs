//! What proves each path's encapsulation, over all its trials.

use super::super::{Inputs, digits, labels::plain};
use crate::{
    evidence::{DeviceRole, EvidenceState},
    scenario::Case,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Reasons shown of a path; the rest are in `trials.csv`.
const REASONS_SHOWN: usize = 5;

/// A device's part in a path.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct DeviceLine {
    pub node: String,
    pub device: String,
    pub role: String,
    /// What it carried over all trials of the path, both directions.
    pub carried: String,
    pub bytes: u64,
    /// Over the payload of the same trials.
    pub share: String,
    pub dropped: u64,
    pub mtu: String,
    pub offloads: String,
    /// The reverse path filter.
    pub rp_filter: String,
}

/// A path's evidence.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct PathEvidence {
    pub path: String,
    pub from: String,
    pub to: String,
    pub expected: String,
    /// The worst verdict of its trials.
    pub state: String,
    /// How many trials had which verdict.
    pub verdicts: String,
    /// Bytes on the sender's tunnel devices over the payload: least to most of its trials.
    pub tunnel_share: String,
    pub underlay_share: String,
    /// The sending node's route.
    pub route: String,
    pub path_mtu: String,
    pub mss: String,
    /// The sources that the receiver saw.
    pub sources: String,
    pub devices: Vec<DeviceLine>,
    /// What speaks against it, with how often.
    pub reasons: Vec<String>,
}

#[derive(Default)]
struct Device {
    bytes: u64,
    payload: u64,
    dropped: u64,
    mtus: BTreeSet<u32>,
    offloads: BTreeSet<String>,
    filters: BTreeSet<u8>,
}

#[derive(Default)]
struct Gathered {
    states: BTreeMap<EvidenceState, usize>,
    tunnel: Option<(f64, f64)>,
    underlay: Option<(f64, f64)>,
    routes: BTreeSet<String>,
    path_mtus: BTreeSet<u32>,
    segments: BTreeSet<u32>,
    sources: BTreeSet<String>,
    reasons: BTreeMap<String, usize>,
    devices: BTreeMap<(String, DeviceRole, String), Device>,
}

fn widen(range: &mut Option<(f64, f64)>, value: Option<f64>) {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return;
    };
    *range = Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
}

fn between(range: Option<(f64, f64)>) -> String {
    match range {
        None => digits::UNKNOWN.to_owned(),
        Some((low, high)) => {
            let (low, high) = (digits::percent(low), digits::percent(high));
            if low == high {
                low
            } else {
                format!("{low} to {high}")
            }
        }
    }
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let text = values
        .into_iter()
        .map(|value| value.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    if text.is_empty() {
        digits::UNKNOWN.to_owned()
    } else {
        text
    }
}

pub(super) fn by_path(inputs: &Inputs<'_>) -> Vec<PathEvidence> {
    let cases = inputs.cases();
    let mut paths: BTreeMap<&str, Gathered> = BTreeMap::new();
    for trial in inputs.trials {
        let Some(case) = cases.get(trial.case.as_str()) else {
            continue;
        };
        let gathered = paths.entry(case.path.name.as_str()).or_default();
        *gathered.states.entry(trial.verdict.state).or_default() += 1;
        widen(&mut gathered.tunnel, trial.verdict.tunnel_share);
        widen(&mut gathered.underlay, trial.verdict.underlay_share);
        for reason in &trial.verdict.reasons {
            *gathered.reasons.entry(plain(reason)).or_default() += 1;
        }
        for connection in &trial.evidence.connections {
            gathered.path_mtus.extend(connection.path_mtu);
            gathered.segments.extend(connection.mss);
            gathered.sources.insert(connection.source.to_string());
        }
        for route in trial
            .evidence
            .before
            .first()
            .iter()
            .flat_map(|observation| &observation.routes)
        {
            let mut text = route.query.destination.to_string();
            if let Some(gateway) = route.gateway {
                _ = write!(text, " via {gateway}");
            }
            match (&route.device, &route.error) {
                (Some(device), _) => _ = write!(text, " dev {device}"),
                (None, Some(error)) => _ = write!(text, ": {error}"),
                (None, None) => text.push_str(": no route"),
            }
            gathered.routes.insert(plain(&text));
        }
        let ends = trial.evidence.before.iter().zip(&trial.evidence.after);
        let way = trial.evidence.way_before.iter().zip(&trial.evidence.way_after);
        for (before, after) in ends.chain(way) {
            for device in &after.devices {
                let key = (plain(&after.node), device.role, plain(&device.device));
                let line = gathered.devices.entry(key).or_default();
                line.mtus.insert(device.mtu);
                line.filters.extend(device.rp_filter);
                line.offloads.extend(
                    device
                        .offloads
                        .iter()
                        .map(|(name, on)| format!("{} {}", plain(name), if *on { "on" } else { "off" })),
                );
                let Some(earlier) = before
                    .devices
                    .iter()
                    .find(|earlier| earlier.device == device.device)
                else {
                    continue;
                };
                line.bytes += device.rx_bytes.saturating_sub(earlier.rx_bytes)
                    + device.tx_bytes.saturating_sub(earlier.tx_bytes);
                line.dropped += device.dropped.saturating_sub(earlier.dropped);
                line.payload += trial.evidence.payload_bytes;
            }
        }
    }
    let mut seen = BTreeSet::new();
    inputs
        .manifest
        .cases
        .iter()
        .filter(|case| seen.insert(case.path.name.as_str()))
        .map(|case| {
            let gathered = paths.remove(case.path.name.as_str()).unwrap_or_default();
            present(case, gathered)
        })
        .collect()
}

fn present(case: &Case, gathered: Gathered) -> PathEvidence {
    let has = |state| gathered.states.contains_key(&state);
    let state = if has(EvidenceState::Contradicted) {
        EvidenceState::Contradicted.to_string()
    } else if has(EvidenceState::Unknown) {
        EvidenceState::Unknown.to_string()
    } else if has(EvidenceState::Confirmed) {
        EvidenceState::Confirmed.to_string()
    } else {
        digits::UNKNOWN.to_owned()
    };
    let mut reasons: Vec<(String, usize)> = gathered.reasons.into_iter().collect();
    reasons.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    let more = reasons.len().saturating_sub(REASONS_SHOWN);
    let mut reasons: Vec<String> = reasons
        .into_iter()
        .take(REASONS_SHOWN)
        .map(|(reason, count)| {
            if count == 1 {
                reason
            } else {
                format!("{reason} ({count} trials)")
            }
        })
        .collect();
    if more > 0 {
        reasons.push(format!("and {more} more, in trials.csv"));
    }
    PathEvidence {
        path: plain(&case.path.label()),
        from: case.path.from.to_string(),
        to: case.path.to.to_string(),
        expected: case.path.encapsulation(),
        state,
        verdicts: joined(
            gathered
                .states
                .iter()
                .map(|(state, count)| format!("{count} {state}")),
        ),
        tunnel_share: between(gathered.tunnel),
        underlay_share: between(gathered.underlay),
        route: joined(gathered.routes),
        path_mtu: joined(gathered.path_mtus),
        mss: joined(gathered.segments),
        sources: joined(gathered.sources),
        devices: gathered
            .devices
            .into_iter()
            .map(|((node, role, device), line)| DeviceLine {
                node,
                device,
                role: role.to_string(),
                carried: digits::bytes(line.bytes as f64),
                bytes: line.bytes,
                share: if line.payload == 0 {
                    digits::UNKNOWN.to_owned()
                } else {
                    digits::percent(line.bytes as f64 / line.payload as f64)
                },
                dropped: line.dropped,
                mtu: joined(line.mtus),
                offloads: joined(line.offloads),
                rp_filter: joined(line.filters.iter().map(|filter| match filter {
                    0 => "0 (off)".to_owned(),
                    1 => "1 (strict)".to_owned(),
                    2 => "2 (loose)".to_owned(),
                    other => other.to_string(),
                })),
            })
            .collect(),
        reasons,
    }
}
