//! Paths between clusters, leg by leg: by which devices packets went, what these carried, and the MTU that is left.

use super::super::{Inputs, digits, labels::plain};
use crate::{
    evidence::{DeviceRole, Leg, Observation, legs},
    run::Trial,
    scenario::{Case, Crossing, Encapsulation},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A leg of a path.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct LegLine {
    pub path: String,
    /// Towards the path's end, or back.
    pub way: String,
    pub from: String,
    pub to: String,
    pub wrapped: String,
    /// The device at both ends.
    pub device: String,
    /// What the first node sent and the second received, over all trials of the path.
    pub sent: String,
    pub received: String,
    /// What the first node sent, over the payload of all trials, both directions.
    pub share: String,
    pub mtu: String,
}

/// What the receivers of a path's connections saw as their source.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct SourceLine {
    pub path: String,
    /// Addresses, each with the place that has it.
    pub sources: String,
    pub path_mtu: String,
    pub mss: String,
    /// CPU time of tunnels in user space, by node, over the payload.
    pub tunnel_cpu: String,
}

/// All legs of all paths between clusters, and the sources seen on these; nothing in runs without such paths.
pub(super) fn by_path(inputs: &Inputs<'_>) -> (Vec<LegLine>, Vec<SourceLine>) {
    let paths: HashMap<&str, &str> = inputs
        .manifest
        .cases
        .iter()
        .filter(|case| case.path.crossing.is_some())
        .map(|case| (case.slug.as_str(), case.path.name.as_str()))
        .collect();
    let mut by_path: HashMap<&str, Vec<&Trial>> = HashMap::new();
    for trial in inputs.trials {
        if let Some(path) = paths.get(trial.case.as_str()) {
            by_path.entry(path).or_default().push(trial);
        }
    }
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    let mut sources = Vec::new();
    for case in &inputs.manifest.cases {
        let Some(crossing) = &case.path.crossing else {
            continue;
        };
        if !seen.insert(case.path.name.as_str()) {
            continue;
        }
        let trials = by_path
            .get(case.path.name.as_str())
            .map_or(&[][..], Vec::as_slice);
        lines.extend(
            legs(&case.path, crossing)
                .chunks_exact(2)
                .map(|ends| leg(case, crossing, &ends[0], &ends[1], trials)),
        );
        sources.push(source(inputs, case, trials));
    }
    (lines, sources)
}

fn leg(case: &Case, crossing: &Crossing, first: &Leg, second: &Leg, trials: &[&Trial]) -> LegLine {
    let (mut sent, mut received, mut payload) = (0, 0, 0);
    let (mut devices, mut mtus) = (BTreeSet::new(), BTreeSet::new());
    for trial in trials {
        payload += trial.evidence.payload_bytes;
        for (before, after) in trial.evidence.before.iter().zip(&trial.evidence.after) {
            for (end, total) in [(first, &mut sent), (second, &mut received)] {
                if after.node == end.node {
                    *total += grown(before, after, end);
                    for device in after.devices.iter().filter(|device| device.role == end.role) {
                        devices.insert(plain(&device.device));
                        mtus.insert(device.mtu);
                    }
                }
            }
        }
    }
    let wrapped = match first.role {
        DeviceRole::Underlay => Encapsulation::None.to_string(),
        DeviceRole::Tunnel | DeviceRole::VxSubmariner => Encapsulation::Vxlan.to_string(),
        DeviceRole::Cable => match &case.path.user_space {
            Some(_) => format!("{}, user space", crossing.cable),
            None => crossing.cable.to_string(),
        },
    };
    LegLine {
        path: plain(&case.path.label()),
        way: if first.forward { "there" } else { "back" }.to_owned(),
        from: plain(&first.node),
        to: plain(&second.node),
        wrapped,
        device: joined(devices),
        sent: digits::bytes(sent as f64),
        received: digits::bytes(received as f64),
        share: if payload == 0 {
            digits::UNKNOWN.to_owned()
        } else {
            digits::percent(sent as f64 / payload as f64)
        },
        mtu: joined(mtus),
    }
}

/// Bytes that a leg's end carried in the leg's direction.
fn grown(before: &Observation, after: &Observation, end: &Leg) -> u64 {
    let count = |seen: &Observation| -> u64 {
        seen.devices
            .iter()
            .filter(|device| device.role == end.role)
            .map(|device| {
                if end.sends {
                    device.tx_bytes
                } else {
                    device.rx_bytes
                }
            })
            .sum()
    };
    count(after).saturating_sub(count(before))
}

fn source(inputs: &Inputs<'_>, case: &Case, trials: &[&Trial]) -> SourceLine {
    let connections = || trials.iter().flat_map(|trial| &trial.evidence.connections);
    let owner = |address: &str| {
        inputs.manifest.fabric.iter().find_map(|(key, value)| {
            let place = key.strip_prefix("address ")?;
            (value == address).then_some(place)
        })
    };
    let sources: BTreeSet<String> = connections()
        .map(|connection| {
            let address = connection.source.to_string();
            match owner(&address) {
                Some(place) => format!("{address} ({})", plain(place)),
                None => format!("{address} (no place of the path)"),
            }
        })
        .collect();
    let payload: u64 = trials.iter().map(|trial| trial.evidence.payload_bytes).sum();
    let mut cpu: BTreeMap<&str, f64> = BTreeMap::new();
    for hop in trials.iter().flat_map(|trial| &trial.hops) {
        *cpu.entry(&hop.node).or_default() += hop.seconds;
    }
    SourceLine {
        path: plain(&case.path.label()),
        sources: joined(sources),
        path_mtu: joined(
            connections()
                .filter_map(|seen| seen.path_mtu)
                .collect::<BTreeSet<_>>(),
        ),
        mss: joined(connections().filter_map(|seen| seen.mss).collect::<BTreeSet<_>>()),
        tunnel_cpu: joined(
            cpu.into_iter()
                .filter(|_| payload > 0)
                .map(|(node, seconds)| format!("{} {:.2} s/GB", plain(node), seconds / payload as f64 * 1e9)),
        ),
    }
}

fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let text: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if text.is_empty() {
        digits::UNKNOWN.to_owned()
    } else {
        text.join(", ")
    }
}
