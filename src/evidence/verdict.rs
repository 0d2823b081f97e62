//! From what was seen to a verdict.
//!
//! Bytes decide, never packets: a 64 KiB segment counts as one packet on a tunnel device and as 45 on the wire.
//! Routes, MTU, MSS and the source address can contradict; they can't confirm.
//!
//! Confirmed takes everything: whole counters of every node looked at, in the right proportion to the payload, and
//! nothing that contradicts. One contradiction outweighs all doubts.

mod crossing;
mod together;

pub use crossing::{Leg, legs, nodes};

use super::{DeviceRole, Observation, ProbeSeen, RawEvidence};
use crate::scenario::{Encapsulation, Path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// The least share of the payload that a tunnel device carries on an encapsulated path.
const ENCAPSULATED_SHARE: f64 = 0.95;
/// The largest share of the payload that a tunnel device carries on a plain path.
const PLAIN_SHARE: f64 = 0.02;
/// How far a trial's bytes must stand above the noise of shared nodes.
const NOISE_FACTOR: u64 = 20;
/// What VXLAN over IPv4 takes from the underlay's MTU, in bytes (RFC 7348).
const VXLAN_OVERHEAD: u32 = 50;
/// What IP in IP takes (RFC 2003).
const IPIP_OVERHEAD: u32 = 20;
/// What WireGuard takes over IPv4: outer IP and UDP, its header and its tag.
const WIREGUARD_OVERHEAD: u32 = 60;
/// The least that IPv4 and TCP put before a segment, in bytes.
const TCP_HEADERS: u32 = 40;
/// Bytes that may stray onto a device that a path doesn't use (neighbour discovery, say), where the payload is small.
const STRAY_BYTES: u64 = 4096;
/// How many times the tunnel's bytes the underlay may carry for an encapsulated path. An empty TCP segment is 66 bytes
/// in the tunnel and 116 on the wire.
const UNDERLAY_FACTOR: u64 = 3;

/// The verdict over a path, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// What a node's devices of one role carried during a trial, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// So many bytes.
    Bytes(u64),
    /// There is no such device, neither before nor after.
    NoDevice,
    /// A device came, went or had its counters reset.
    Broken,
}

fn carried(before: &Observation, after: &Observation, role: DeviceRole) -> Carried {
    let of_role = |seen: &'_ Observation| seen.devices.iter().filter(|device| device.role == role).count();
    if of_role(before) != of_role(after) {
        return Carried::Broken;
    }
    let mut total: Option<u64> = None;
    for device in after.devices.iter().filter(|device| device.role == role) {
        let grown = before
            .devices
            .iter()
            .find(|earlier| earlier.device == device.device && earlier.role == role)
            .and_then(|earlier| {
                let received = device.rx_bytes.checked_sub(earlier.rx_bytes)?;
                let sent = device.tx_bytes.checked_sub(earlier.tx_bytes)?;
                received.checked_add(sent)
            });
        let Some(grown) = grown else {
            return Carried::Broken;
        };
        total = Some(total.unwrap_or(0).saturating_add(grown));
    }
    total.map_or(Carried::NoDevice, Carried::Bytes)
}

/// Whether the kernel sends all of the path's packets out by the underlay device, as far as this node was asked.
fn leaves_by_underlay(seen: &Observation) -> bool {
    let underlay = |name: &str| {
        seen.devices
            .iter()
            .any(|device| device.device == name && device.role == DeviceRole::Underlay)
    };
    !seen.routes.is_empty()
        && seen
            .routes
            .iter()
            .all(|route| route.device.as_deref().is_some_and(underlay))
}

fn percent(bytes: u64, payload: u64) -> String {
    format!("{:.1} %", bytes as f64 / payload as f64 * 100.0)
}

/// The most bytes that may stray onto a device that a path doesn't use.
fn stray(payload: u64) -> f64 {
    (payload as f64 * PLAIN_SHARE).max((STRAY_BYTES as f64).min(payload as f64 / 2.0))
}

/// What speaks against confirmed.
#[derive(Default)]
struct Findings {
    contradictions: Vec<String>,
    doubts: Vec<String>,
}

/// What a path is expected to be.
#[derive(Clone, Copy)]
struct Expected {
    encapsulation: Encapsulation,
    /// Both ends share a node: not even the underlay carries anything.
    same_node: bool,
}

/// Judges the bytes that one node's devices carried.
fn counters(
    expected: Expected,
    node: &str,
    tunnel: u64,
    underlay: u64,
    seen: &RawEvidence,
    found: &mut Findings,
) {
    let payload = seen.payload_bytes;
    let noise = seen.noise_bytes.unwrap_or(0);
    if payload < noise.saturating_mul(NOISE_FACTOR) {
        found.doubts.push(format!(
            "{node}: the trial's {payload} bytes don't stand {NOISE_FACTOR} times above the {noise} bytes of other traffic"
        ));
        return;
    }
    let whole = payload as f64 * ENCAPSULATED_SHARE;
    // What a path may leave on a device that it doesn't use. A trial of one-byte requests carries so little payload
    // that one stray packet is more than 2 % of it; but had only some of its packets gone that way, their headers
    // alone would be more than all of the payload.
    let stray = stray(payload);
    let above_noise = tunnel.saturating_sub(noise);
    match expected.encapsulation {
        wrapped if wrapped.is_overlay() && (tunnel as f64) < whole => found.contradictions.push(format!(
            "{node}: the tunnel device carried {} of the payload, not all of it: packets went unencapsulated",
            percent(tunnel, payload)
        )),
        wrapped if wrapped.is_overlay() && (above_noise as f64) < whole => found.doubts.push(format!(
            "{node}: without the {noise} bytes of other traffic the tunnel device carried {} of the payload, not all \
             of it",
            percent(above_noise, payload)
        )),
        // Headers alone can make a small payload's 95 %, so compare with what left the node as well: VXLAN adds 50
        // bytes to each packet and at most about doubles it. On shared nodes the underlay has others' traffic too.
        wrapped if wrapped.is_overlay() && seen.noise_bytes.is_none() && underlay / UNDERLAY_FACTOR > tunnel => {
            found.doubts.push(format!(
                "{node}: the underlay device carried {underlay} bytes, the tunnel device only {tunnel}: part of the \
                 packets may have gone unencapsulated"
            ));
        }
        Encapsulation::None if above_noise as f64 > stray => found.contradictions.push(format!(
            "{node}: the tunnel device carried {} of the payload, not none of it: packets were encapsulated",
            percent(tunnel, payload)
        )),
        // On a shared node the underlay has others' traffic, of which the noise (the tunnel's) tells nothing.
        Encapsulation::None
            if expected.same_node && seen.noise_bytes.is_none() && underlay as f64 > stray =>
        {
            found.contradictions.push(format!(
                "{node}: both ends are on this node, but its underlay device carried {} of the payload",
                percent(underlay, payload)
            ));
        }
        Encapsulation::None if !expected.same_node && (underlay as f64) < whole => found.contradictions.push(format!(
            "{node}: the underlay device carried {} of the payload, not all of it: packets went another way",
            percent(underlay, payload)
        )),
        _ => {}
    }
}

/// Judges whether packets went as `path` says: by the encapsulation expected of it, or leg by leg between clusters.
pub fn judge_path(path: &Path, seen: &RawEvidence) -> Verdict {
    match &path.crossing {
        Some(crossing) => crossing::judge(path, crossing, seen),
        None if !path.together_with.is_empty() => together::judge_together(path, seen),
        None => judge(path.expected, path.same_node, seen),
    }
}

/// Judges whether a path was encapsulated as expected. `same_node` says that its ends share a node, so that not
/// even the underlay carries anything.
pub fn judge(expected: Encapsulation, same_node: bool, seen: &RawEvidence) -> Verdict {
    let expected = Expected {
        encapsulation: expected,
        same_node,
    };
    let mut found = Findings {
        contradictions: Vec::new(),
        doubts: seen.unseen.clone(),
    };
    if seen.payload_bytes == 0 {
        found.doubts.push("the trial carried no payload".to_owned());
    }
    if seen.before.is_empty() || seen.before.len() != seen.after.len() {
        found
            .doubts
            .push("the nodes' devices and routes were not seen".to_owned());
    }
    if expected.encapsulation == Encapsulation::Unknown {
        found
            .doubts
            .push("what joins the clusters is not known here, so nothing is expected of the path".to_owned());
    }
    let mut shares = (None, None);
    for (index, (before, after)) in seen.before.iter().zip(&seen.after).enumerate() {
        let node = &after.node;
        if before.node != *node {
            found.doubts.push(format!(
                "before the trial {} was looked at, after it {node}",
                before.node
            ));
            continue;
        }
        let tunnel = match carried(before, after, DeviceRole::Tunnel) {
            Carried::Bytes(bytes) => bytes,
            // No tunnel device carried nothing; that no other device encapsulates, the routes must show.
            Carried::NoDevice
                if expected.encapsulation == Encapsulation::None
                    && (same_node || leaves_by_underlay(before) && leaves_by_underlay(after)) =>
            {
                0
            }
            Carried::NoDevice => {
                found.doubts.push(format!("{node}: no tunnel device was seen"));
                continue;
            }
            Carried::Broken => {
                found.doubts.push(format!(
                    "{node}: a tunnel device came, went or had its byte counters reset during the trial"
                ));
                continue;
            }
        };
        let underlay = match carried(before, after, DeviceRole::Underlay) {
            Carried::Bytes(bytes) => bytes,
            Carried::NoDevice => {
                found.doubts.push(format!("{node}: no underlay device was seen"));
                continue;
            }
            Carried::Broken => {
                found.doubts.push(format!(
                    "{node}: an underlay device came, went or had its byte counters reset during the trial"
                ));
                continue;
            }
        };
        if seen.payload_bytes == 0 {
            continue;
        }
        if index == 0 {
            let share = |bytes: u64| Some(bytes as f64 / seen.payload_bytes as f64);
            shares = (share(tunnel), share(underlay));
        }
        counters(expected, node, tunnel, underlay, seen, &mut found);
    }
    for observation in seen.before.iter().chain(&seen.after) {
        routes(expected, observation, &mut found.contradictions);
    }
    // What joins clusters may well rewrite addresses (Globalnet does).
    let of_connections = if expected.encapsulation == Encapsulation::Unknown {
        &mut found.doubts
    } else {
        &mut found.contradictions
    };
    connections(expected.encapsulation, seen, of_connections);
    let (state, reasons) = if !found.contradictions.is_empty() {
        (EvidenceState::Contradicted, found.contradictions)
    } else if !found.doubts.is_empty() {
        (EvidenceState::Unknown, found.doubts)
    } else {
        (EvidenceState::Confirmed, Vec::new())
    };
    Verdict {
        state,
        tunnel_share: shares.0,
        underlay_share: shares.1,
        reasons: once_each(reasons),
    }
}

/// Judges whether a path is closed: confirmed where nothing got through.
pub fn judge_closed(seen: &ProbeSeen) -> Verdict {
    let through: Vec<&str> = [
        (seen.datagram, "a datagram"),
        (seen.connection, "a TCP connection"),
    ]
    .into_iter()
    .filter_map(|(passed, what)| passed.then_some(what))
    .collect();
    Verdict {
        state: if through.is_empty() {
            EvidenceState::Confirmed
        } else {
            EvidenceState::Contradicted
        },
        tunnel_share: None,
        underlay_share: None,
        reasons: Vec::from_iter(
            (!through.is_empty())
                .then(|| format!("{} got through, and nothing should", through.join(" and "))),
        ),
    }
}

/// Each sentence once: routes are seen before and after, and mostly say the same.
fn once_each(mut reasons: Vec<String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    reasons.retain(|reason| known.insert(reason.clone()));
    reasons
}

/// The route must leave by a device of the expected role.
fn routes(expected: Expected, seen: &Observation, contradictions: &mut Vec<String>) {
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
        let wanted = match expected.encapsulation {
            Encapsulation::Vxlan | Encapsulation::Ipip | Encapsulation::Wireguard => Some(DeviceRole::Tunnel),
            Encapsulation::SubmarinerVxlan
            | Encapsulation::SubmarinerWireguard
            | Encapsulation::SubmarinerIpsec => Some(DeviceRole::VxSubmariner),
            Encapsulation::Unknown => continue,
            Encapsulation::None if expected.same_node => None,
            Encapsulation::None => Some(DeviceRole::Underlay),
        };
        if role != wanted {
            let expected_by = match wanted {
                Some(DeviceRole::Tunnel) => "the tunnel device",
                Some(DeviceRole::Underlay) => "the underlay device",
                Some(DeviceRole::VxSubmariner | DeviceRole::Cable) => "Submariner's device",
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
        let overhead = match expected {
            Encapsulation::Vxlan => VXLAN_OVERHEAD,
            Encapsulation::Ipip => IPIP_OVERHEAD,
            Encapsulation::Wireguard => WIREGUARD_OVERHEAD,
            _ => continue,
        };
        let name = match expected {
            Encapsulation::Vxlan => "VXLAN",
            Encapsulation::Ipip => "IP in IP",
            _ => "WireGuard",
        };
        if let (Some(path), Some(underlay)) = (connection.path_mtu, underlay_mtu)
            && path > underlay.saturating_sub(overhead)
        {
            contradictions.push(format!(
                "the connection's path MTU is {path}, more than fits into {name} over an underlay of {underlay}"
            ));
        }
        if let (Some(mss), Some(underlay)) = (connection.mss, underlay_mtu)
            && mss.saturating_add(TCP_HEADERS) > underlay.saturating_sub(overhead)
        {
            contradictions.push(format!(
                "the connection's segments of {mss} bytes are more than fits into {name} over an underlay of {underlay}"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
