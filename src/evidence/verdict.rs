//! From what was seen to a verdict.
//!
//! Bytes decide, never packets: a 64 KiB segment counts as one packet on a tunnel device and as 45 on the wire.
//! Routes, MTU and the source address can contradict; they can't confirm.

use super::{DeviceRole, Observation, RawEvidence};
use crate::scenario::Encapsulation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The least share of the payload that a tunnel device carries on an encapsulated path.
const ENCAPSULATED_SHARE: f64 = 0.95;
/// The largest share of the payload that a tunnel device carries on a plain path.
const PLAIN_SHARE: f64 = 0.02;
/// How far a trial's bytes must stand above the noise of shared nodes.
const NOISE_FACTOR: u64 = 20;
/// What VXLAN over IPv4 takes from the underlay's MTU, in bytes (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;

/// The verdict over a path, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceState {
    /// What was seen proves the expected encapsulation.
    Confirmed,
    /// Not enough was seen.
    Unknown,
    /// What was seen proves another.
    Contradicted,
}

impl fmt::Display for EvidenceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::Contradicted => "contradicted",
            Self::Unknown => "unknown",
        })
    }
}

/// A verdict with what led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The verdict.
    pub state: EvidenceState,
    /// Bytes on the sender's tunnel devices over the payload; `None` where they were not seen or nothing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_share: Option<f64>,
    /// Bytes on the sender's underlay device over the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_share: Option<f64>,
    /// What speaks against confirmed, each a sentence; empty where it is confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Bytes that the devices of `role` carried from `before` to `after`, both directions; `None` without one.
fn carried(before: &Observation, after: &Observation, role: DeviceRole) -> Option<u64> {
    let mut total = None;
    for device in after.devices.iter().filter(|device| device.role == role) {
        let earlier = before
            .devices
            .iter()
            .find(|earlier| earlier.device == device.device)?;
        let bytes =
            device.rx_bytes.checked_sub(earlier.rx_bytes)? + device.tx_bytes.checked_sub(earlier.tx_bytes)?;
        *total.get_or_insert(0) += bytes;
    }
    total
}

/// Judges whether a path was encapsulated as expected. `same_node` says that its ends share a node, so that not
/// even the underlay carries anything.
pub fn judge(expected: Encapsulation, same_node: bool, seen: &RawEvidence) -> Verdict {
    let mut contradictions = Vec::new();
    let mut doubts: Vec<String> = seen.unseen.clone();
    let mut shares = None;
    if seen.payload_bytes == 0 {
        doubts.push("the trial carried no payload".to_owned());
    }
    if seen.before.is_empty() || seen.before.len() != seen.after.len() {
        doubts.push("the nodes' devices and routes were not seen".to_owned());
    }
    for (before, after) in seen.before.iter().zip(&seen.after) {
        let node = &after.node;
        let (Some(tunnel), Some(underlay)) = (
            carried(before, after, DeviceRole::Tunnel),
            carried(before, after, DeviceRole::Underlay),
        ) else {
            doubts.push(format!(
                "{node}: the byte counters of its tunnel or underlay device were not seen whole"
            ));
            continue;
        };
        if seen.payload_bytes == 0 {
            continue;
        }
        let payload = seen.payload_bytes as f64;
        let (tunnel_share, underlay_share) = (tunnel as f64 / payload, underlay as f64 / payload);
        shares.get_or_insert((tunnel_share, underlay_share));
        if let Some(noise) = seen.noise_bytes
            && seen.payload_bytes < noise.saturating_mul(NOISE_FACTOR)
        {
            doubts.push(format!(
                "{node}: the trial's {} bytes don't stand {NOISE_FACTOR} times above the {noise} bytes of other traffic",
                seen.payload_bytes
            ));
            continue;
        }
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        match expected {
            Encapsulation::Vxlan if tunnel_share < ENCAPSULATED_SHARE => contradictions.push(format!(
                "{node}: the tunnel device carried {} of the payload, not all of it: packets went unencapsulated",
                percent(tunnel_share)
            )),
            Encapsulation::None if tunnel_share > PLAIN_SHARE => contradictions.push(format!(
                "{node}: the tunnel device carried {} of the payload, not none of it: packets were encapsulated",
                percent(tunnel_share)
            )),
            Encapsulation::None if same_node && underlay_share > PLAIN_SHARE => contradictions.push(format!(
                "{node}: both ends are on this node, but its underlay device carried {} of the payload",
                percent(underlay_share)
            )),
            Encapsulation::None if !same_node && underlay_share < ENCAPSULATED_SHARE => contradictions.push(format!(
                "{node}: the underlay device carried {} of the payload, not all of it: packets went another way",
                percent(underlay_share)
            )),
            _ => {}
        }
    }
    for observation in seen.before.iter().chain(&seen.after) {
        routes(expected, same_node, observation, &mut contradictions);
    }
    connections(expected, seen, &mut contradictions);
    contradictions.dedup();
    let (state, reasons) = if !contradictions.is_empty() {
        (EvidenceState::Contradicted, contradictions)
    } else if !doubts.is_empty() {
        (EvidenceState::Unknown, doubts)
    } else {
        (EvidenceState::Confirmed, Vec::new())
    };
    Verdict {
        state,
        tunnel_share: shares.map(|(tunnel, _)| tunnel),
        underlay_share: shares.map(|(_, underlay)| underlay),
        reasons,
    }
}

/// The route must leave by a device of the expected role.
fn routes(expected: Encapsulation, same_node: bool, seen: &Observation, contradictions: &mut Vec<String>) {
    for route in &seen.routes {
        let to = route.query.destination;
        let Some(device) = &route.device else {
            let why = route.error.as_deref().unwrap_or("no route");
            contradictions.push(format!("{}: no route to {to}: {why}", seen.node));
            continue;
        };
        let role = seen
            .devices
            .iter()
            .find(|known| known.device == *device)
            .map(|known| known.role);
        let wanted = match expected {
            Encapsulation::Vxlan => Some(DeviceRole::Tunnel),
            Encapsulation::None if same_node => None,
            Encapsulation::None => Some(DeviceRole::Underlay),
        };
        if role != wanted {
            let expected_by = match wanted {
                Some(DeviceRole::Tunnel) => "the tunnel device",
                Some(DeviceRole::Underlay) => "the underlay device",
                None => "the pod's own device",
            };
            contradictions.push(format!(
                "{}: the route to {to} leaves by {device}, expected {expected_by}",
                seen.node
            ));
        }
    }
}

/// Nobody may have rewritten the source, and a packet too large for the tunnel was not in it.
fn connections(expected: Encapsulation, seen: &RawEvidence, contradictions: &mut Vec<String>) {
    let underlay_mtu = seen
        .before
        .iter()
        .flat_map(|observation| &observation.devices)
        .filter(|device| device.role == DeviceRole::Underlay)
        .map(|device| device.mtu)
        .min();
    for connection in &seen.connections {
        if connection.source != connection.expected_source {
            contradictions.push(format!(
                "the receiver saw the source address {}, not {}: something on the path rewrote it",
                connection.source, connection.expected_source
            ));
        }
        if let (Encapsulation::Vxlan, Some(path), Some(underlay)) =
            (expected, connection.path_mtu, underlay_mtu)
            && path > underlay.saturating_sub(VXLAN_OVERHEAD)
        {
            contradictions.push(format!(
                "the connection's path MTU is {path}, more than fits into VXLAN over an underlay of {underlay}"
            ));
        }
    }
}
