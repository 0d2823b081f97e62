//! The verdict over a path between clusters: each leg's devices must have carried what goes that way, and no other
//! tunnel may have.
//!
//! Directions are judged apart, since neither comes in where it goes out: a worker sends by `vx-submariner` and
//! receives as the cluster's own network has it.

use super::{DeviceRole, ENCAPSULATED_SHARE, EvidenceState, Verdict, once_each, percent, stray};
use crate::evidence::{Observation, RawEvidence};
use crate::scenario::{Crossing, Encapsulation, Path};

/// What a device of a node carries in one direction of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// The node.
    pub node: String,
    /// Its device.
    pub role: DeviceRole,
    /// Whether the node sends by it; else it receives.
    pub sends: bool,
    /// Whether these are packets towards the path's end; else answers.
    pub forward: bool,
}

/// The legs that packets of `path` take, in their order: first those towards its end, then those of the answers.
/// Where a leg is plain, it stands for the underlay, which carries all other legs too.
pub fn legs(path: &Path, crossing: &Crossing) -> Vec<Leg> {
    let (from, to) = (path.from.node(), path.to.node());
    let gateways = (crossing.from_gateway.as_str(), crossing.to_gateway.as_str());
    let mut legs = way(true, from, gateways, to, crossing.arrival);
    legs.extend(way(
        false,
        to,
        (gateways.1, gateways.0),
        from,
        crossing.return_arrival,
    ));
    legs
}

fn way(forward: bool, from: &str, gateways: (&str, &str), to: &str, arrival: Encapsulation) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut between = |first: &str, second: &str, role| {
        if first != second {
            legs.extend([(first, true), (second, false)].map(|(node, sends)| Leg {
                node: node.to_owned(),
                role,
                sends,
                forward,
            }));
        }
    };
    between(from, gateways.0, DeviceRole::VxSubmariner);
    between(gateways.0, gateways.1, DeviceRole::Cable);
    between(gateways.1, to, arrival_by(arrival));
    legs
}

fn arrival_by(arrival: Encapsulation) -> DeviceRole {
    if arrival == Encapsulation::None {
        DeviceRole::Underlay
    } else {
        DeviceRole::Tunnel
    }
}

/// Bytes that a node's devices of `role` sent and received during a trial; `None` where one came, went or had its
/// counters reset.
fn carried(before: &Observation, after: &Observation, role: DeviceRole) -> Option<(u64, u64)> {
    let count = |seen: &Observation| seen.devices.iter().filter(|device| device.role == role).count();
    if count(before) != count(after) {
        return None;
    }
    let (mut sent, mut received) = (0_u64, 0_u64);
    for device in after.devices.iter().filter(|device| device.role == role) {
        let earlier = before
            .devices
            .iter()
            .find(|earlier| earlier.device == device.device)?;
        sent = sent.saturating_add(device.tx_bytes.checked_sub(earlier.tx_bytes)?);
        received = received.saturating_add(device.rx_bytes.checked_sub(earlier.rx_bytes)?);
    }
    Some((sent, received))
}

pub(super) fn judge(path: &Path, crossing: &Crossing, seen: &RawEvidence) -> Verdict {
    let legs = legs(path, crossing);
    let mut contradictions = Vec::new();
    let mut doubts = seen.unseen.clone();
    if seen.payload_bytes == 0 {
        doubts.push("the trial carried no payload".to_owned());
    }
    for node in nodes(path, crossing) {
        let missing = [&seen.before, &seen.after]
            .into_iter()
            .any(|looks| looks.iter().all(|look| look.node != node));
        if missing {
            doubts.push(format!("{node}: its devices and routes were not seen"));
        }
    }
    let mut shares = (None, None);
    for (before, after) in seen.before.iter().zip(&seen.after) {
        let node = after.node.as_str();
        if before.node != node {
            doubts.push(format!(
                "before the trial {} was looked at, after it {node}",
                before.node
            ));
            continue;
        }
        let mut tunnels = 0;
        for role in DeviceRole::ALL {
            let Some((sent, received)) = carried(before, after, role) else {
                doubts.push(format!(
                    "{node}: a device ({role}) came, went or had its byte counters reset during the trial"
                ));
                continue;
            };
            if role == DeviceRole::Underlay {
                if node == path.from.node() {
                    shares.1 = share(sent.saturating_add(received), seen.payload_bytes);
                }
            } else {
                tunnels += sent.saturating_add(received);
            }
            for (sends, bytes) in [(true, sent), (false, received)] {
                let of_leg: Vec<&Leg> = legs
                    .iter()
                    .filter(|leg| leg.node == node && leg.role == role && leg.sends == sends)
                    .collect();
                let verb = if sends { "sent" } else { "received" };
                if of_leg.is_empty() {
                    // The underlay carries the tunnels, too.
                    if role != DeviceRole::Underlay
                        && seen.payload_bytes > 0
                        && bytes as f64 > stray(seen.payload_bytes)
                    {
                        contradictions.push(format!(
                            "{node}: {verb} {} of the payload by {role}, which is no leg of the path",
                            percent(bytes, seen.payload_bytes)
                        ));
                    }
                    continue;
                }
                // A leg of acknowledgements only has no payload to carry.
                let expected: u64 = of_leg.iter().map(|leg| payload(seen, leg.forward)).sum();
                if (bytes as f64) < expected as f64 * ENCAPSULATED_SHARE {
                    contradictions.push(format!(
                        "{node}: {verb} {} of its leg's payload by {role}, not all of it: packets went another way",
                        percent(bytes, expected)
                    ));
                }
            }
        }
        if node == path.from.node() {
            shares.0 = share(tunnels, seen.payload_bytes);
        }
    }
    for observation in seen.before.iter().chain(&seen.after) {
        routes(path, crossing, observation, &mut contradictions);
    }
    sources(seen, &mut contradictions);
    let (state, reasons) = if !contradictions.is_empty() {
        (EvidenceState::Contradicted, contradictions)
    } else if !doubts.is_empty() {
        (EvidenceState::Unknown, doubts)
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

/// The nodes that packets come by, each once, in the order of the way there.
pub fn nodes<'a>(path: &'a Path, crossing: &'a Crossing) -> Vec<&'a str> {
    let mut nodes = vec![path.from.node()];
    for node in [
        crossing.from_gateway.as_str(),
        crossing.to_gateway.as_str(),
        path.to.node(),
    ] {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

fn share(bytes: u64, payload: u64) -> Option<f64> {
    (payload > 0).then(|| bytes as f64 / payload as f64)
}

/// The payload of one direction.
fn payload(seen: &RawEvidence, forward: bool) -> u64 {
    if forward {
        seen.payload_bytes.saturating_sub(seen.back_bytes)
    } else {
        seen.back_bytes
    }
}

/// Each route must leave by the next leg's device.
fn routes(path: &Path, crossing: &Crossing, seen: &Observation, contradictions: &mut Vec<String>) {
    let role_of = |name: &str| {
        seen.devices
            .iter()
            .find(|device| device.device == name)
            .map(|device| device.role)
    };
    let is_gateway = seen.node == crossing.from_gateway || seen.node == crossing.to_gateway;
    for route in &seen.routes {
        let input = route.query.input_device.as_deref();
        let came = input.map_or(String::new(), |device| format!(" for what comes in by {device}"));
        let to = route.query.destination;
        let Some(device) = &route.device else {
            let why = route.error.as_deref().unwrap_or("no route");
            contradictions.push(format!("{}: no route to {to}{came}: {why}", seen.node));
            continue;
        };
        let wanted = match input.and_then(role_of) {
            None if is_gateway => Some(DeviceRole::Cable),
            None => Some(DeviceRole::VxSubmariner),
            Some(DeviceRole::VxSubmariner) => Some(DeviceRole::Cable),
            Some(DeviceRole::Cable) => {
                let (end, arrival) = if seen.node == crossing.to_gateway {
                    (path.to.node(), crossing.arrival)
                } else {
                    (path.from.node(), crossing.return_arrival)
                };
                (end != seen.node).then(|| arrival_by(arrival))
            }
            Some(DeviceRole::Underlay | DeviceRole::Tunnel) => None,
        };
        if role_of(device) != wanted {
            let expected = wanted.map_or("the pod's own device".to_owned(), |role| role.to_string());
            contradictions.push(format!(
                "{}: the route to {to}{came} leaves by {device}, expected {expected}",
                seen.node
            ));
        }
    }
}

fn sources(seen: &RawEvidence, contradictions: &mut Vec<String>) {
    for connection in &seen.connections {
        if connection.source != connection.expected_source {
            contradictions.push(format!(
                "the receiver saw the source address {}, not {}: something on the path rewrote it",
                connection.source, connection.expected_source
            ));
        }
    }
}

#[cfg(test)]
mod tests;
