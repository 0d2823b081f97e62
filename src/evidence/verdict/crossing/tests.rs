use super::*;
use crate::evidence::{ConnectionSeen, DeviceSeen, RouteQuery, RouteSeen};
use crate::scenario::{Cable, VxlanMode};
use DeviceRole::{Cable as ByCable, Tunnel, Underlay, VxSubmariner};
use std::net::IpAddr;

const PAYLOAD: u64 = 100_000_000;
const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 66));
const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 246, 0, 66));

fn path(from: &str, to: &str, mode: VxlanMode) -> Path {
    let arrival = |gateway: &str, node: &str| match mode {
        VxlanMode::Always if gateway != node => Encapsulation::Vxlan,
        _ => Encapsulation::None,
    };
    let place = |node: &str| format!("pod@{node}/{mode}").parse().unwrap();
    Path {
        name: "p".to_owned(),
        from: place(from),
        to: place(to),
        vxlan_mode: Some(mode),
        expected: Encapsulation::SubmarinerVxlan,
        same_node: false,
        same_subnet: false,
        crossing: Some(Crossing {
            cable: Cable::Vxlan,
            from_gateway: "east-1".to_owned(),
            to_gateway: "west-1".to_owned(),
            arrival: arrival("west-1", to),
            return_arrival: arrival("east-1", from),
        }),
        user_space: None,
        by: crate::scenario::By::Address,
        expect: crate::scenario::Expect::Reachable,
        together_with: Vec::new(),
    }
}

fn name(role: DeviceRole) -> &'static str {
    match role {
        Underlay => "eth0",
        Tunnel => "vxlan.calico",
        VxSubmariner => "vx-submariner",
        ByCable => "vxlan-tunnel",
    }
}

/// What is seen of a trial on `path` where each leg carries its payload: `there` along it, `back` against it.
fn seen(path: &Path, there: u64, back: u64) -> RawEvidence {
    let crossing = path.crossing.as_ref().unwrap();
    let all = legs(path, crossing);
    let look = |node: &str, after: bool| {
        let devices = DeviceRole::ALL
            .into_iter()
            .map(|role| {
                let count = |sends: bool| -> u64 {
                    let of_leg = all.iter().filter(|leg| {
                        leg.node == node && (leg.role == role || role == Underlay) && leg.sends == sends
                    });
                    // Acknowledgements go the other way.
                    let payload: u64 = of_leg
                        .map(|leg| {
                            if leg.forward {
                                there + back / 50
                            } else {
                                back + there / 50
                            }
                        })
                        .sum();
                    if after { payload * 104 / 100 } else { 0 }
                };
                DeviceSeen {
                    device: name(role).to_owned(),
                    role,
                    rx_bytes: 500 + count(false),
                    tx_bytes: 900 + count(true),
                    dropped: 0,
                    mtu: 1450,
                    offloads: Vec::new(),
                    rp_filter: None,
                }
            })
            .collect();
        // The way there and the way back, each entered as the node's first leg of it says.
        let routes = [(true, TO), (false, FROM)]
            .into_iter()
            .filter_map(|(forward, destination)| {
                let mut mine = all
                    .iter()
                    .filter(|leg| leg.node == node && leg.forward == forward);
                let first = mine.next()?;
                let input = if first.sends { "cali0" } else { name(first.role) };
                let out = if first.sends { Some(first) } else { mine.next() };
                Some(RouteSeen {
                    query: RouteQuery {
                        destination,
                        source: None,
                        input_device: Some(input.to_owned()),
                    },
                    device: Some(out.map_or("cali0", |leg| name(leg.role)).to_owned()),
                    gateway: None,
                    mtu: None,
                    error: None,
                })
            })
            .collect();
        Observation {
            node: node.to_owned(),
            devices,
            routes,
        }
    };
    let nodes = nodes(path, crossing);
    RawEvidence {
        way_before: Vec::new(),
        way_after: Vec::new(),
        before: nodes.iter().map(|node| look(node, false)).collect(),
        after: nodes.iter().map(|node| look(node, true)).collect(),
        connections: vec![ConnectionSeen {
            source: FROM,
            expected_source: FROM,
            mss: None,
            path_mtu: None,
        }],
        payload_bytes: there + back,
        back_bytes: back,
        pair_payload_bytes: Vec::new(),
        noise_bytes: None,
        unseen: Vec::new(),
    }
}

fn verdict(path: &Path, seen: &RawEvidence) -> Verdict {
    judge(path, path.crossing.as_ref().unwrap(), seen)
}

fn device<'a>(seen: &'a mut RawEvidence, node: &str, role: DeviceRole) -> &'a mut DeviceSeen {
    let look = seen.after.iter_mut().find(|look| look.node == node).unwrap();
    look.devices
        .iter_mut()
        .find(|device| device.role == role)
        .unwrap()
}

#[test]
fn each_pair_of_places_has_its_legs() {
    let shown = |from: &str, to: &str, mode| {
        let path = path(from, to, mode);
        legs(&path, path.crossing.as_ref().unwrap())
            .chunks(2)
            .map(|ends| format!("{}>{} {}", ends[0].node, ends[1].node, ends[0].role))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(
        shown("east-1", "west-1", VxlanMode::Always),
        "east-1>west-1 cable, west-1>east-1 cable"
    );
    assert_eq!(
        shown("east-2", "west-2", VxlanMode::Always),
        "east-2>east-1 vx-submariner, east-1>west-1 cable, west-1>west-2 tunnel, \
         west-2>west-1 vx-submariner, west-1>east-1 cable, east-1>east-2 tunnel"
    );
    assert_eq!(
        shown("east-1", "west-2", VxlanMode::CrossSubnet),
        "east-1>west-1 cable, west-1>west-2 underlay, west-2>west-1 vx-submariner, west-1>east-1 cable"
    );
}

#[test]
fn every_pair_is_confirmed_in_both_directions() {
    for (from, to) in [
        ("east-1", "west-1"),
        ("east-1", "west-2"),
        ("east-2", "west-1"),
        ("east-2", "west-2"),
    ] {
        for mode in VxlanMode::ALL {
            let path = path(from, to, mode);
            for (there, back) in [(PAYLOAD, 0), (0, PAYLOAD), (PAYLOAD, PAYLOAD), (5000, 5000)] {
                let verdict = verdict(&path, &seen(&path, there, back));
                assert_eq!(
                    verdict.state,
                    EvidenceState::Confirmed,
                    "{from} {to} {mode}: {:?}",
                    verdict.reasons
                );
            }
        }
    }
}

/// Each leg in turn carries nothing: each is noticed, and named.
#[test]
fn a_leg_that_carried_nothing_contradicts() {
    let path = path("east-2", "west-2", VxlanMode::Always);
    for (node, role) in [
        ("east-2", VxSubmariner),
        ("east-1", VxSubmariner),
        ("east-1", ByCable),
        ("west-1", ByCable),
        ("west-1", Tunnel),
        ("west-2", Tunnel),
    ] {
        let mut seen = seen(&path, PAYLOAD, PAYLOAD);
        let device = device(&mut seen, node, role);
        (device.rx_bytes, device.tx_bytes) = (500, 900);
        let verdict = verdict(&path, &seen);
        assert_eq!(verdict.state, EvidenceState::Contradicted);
        assert!(
            verdict.reasons[0].starts_with(&format!("{node}: ")),
            "{:?}",
            verdict.reasons
        );
        assert!(
            verdict.reasons[0].contains(&role.to_string()),
            "{:?}",
            verdict.reasons
        );
    }
}

#[test]
fn a_tunnel_that_is_no_leg_must_carry_nothing() {
    let path = path("east-2", "west-2", VxlanMode::CrossSubnet);
    let mut seen = seen(&path, PAYLOAD, 0);
    device(&mut seen, "west-2", Tunnel).rx_bytes += PAYLOAD;
    let verdict = verdict(&path, &seen);
    assert_eq!(verdict.state, EvidenceState::Contradicted);
    assert!(
        verdict.reasons[0].contains("which is no leg of the path"),
        "{:?}",
        verdict.reasons
    );
}

#[test]
fn routes_and_sources_contradict() {
    let path = path("east-2", "west-2", VxlanMode::Always);
    let mut odd = seen(&path, PAYLOAD, 0);
    odd.before[1].routes[0].device = None;
    odd.before[1].routes[0].error = Some("unreachable".to_owned());
    let reasons = verdict(&path, &odd).reasons;
    assert_eq!(
        reasons,
        [format!(
            "east-1: no route to {TO} for what comes in by vx-submariner: unreachable"
        )]
    );
    let mut odd = seen(&path, PAYLOAD, 0);
    odd.after[0].routes[0].device = Some("eth0".to_owned());
    assert!(verdict(&path, &odd).reasons[0].contains("leaves by eth0, expected vx-submariner"));
    let mut odd = seen(&path, PAYLOAD, 0);
    odd.connections[0].source = TO;
    assert!(verdict(&path, &odd).reasons[0].contains("something on the path rewrote it"));
}

#[test]
fn what_was_not_seen_is_unknown() {
    let path = path("east-2", "west-2", VxlanMode::Always);
    let mut blind = seen(&path, PAYLOAD, 0);
    blind.before.remove(1);
    blind.after.remove(1);
    let verdict = verdict(&path, &blind);
    assert_eq!(verdict.state, EvidenceState::Unknown);
    assert_eq!(verdict.reasons, ["east-1: its devices and routes were not seen"]);
    let mut blind = seen(&path, PAYLOAD, 0);
    device(&mut blind, "west-1", ByCable).rx_bytes = 0;
    assert_eq!(
        judge(&path, path.crossing.as_ref().unwrap(), &blind).state,
        EvidenceState::Unknown
    );
}
