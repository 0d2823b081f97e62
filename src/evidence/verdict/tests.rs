use super::*;
use crate::evidence::{ConnectionSeen, DeviceSeen, RouteQuery, RouteSeen};
use Encapsulation::{None as Plain, Vxlan};
use EvidenceState::{Confirmed, Contradicted, Unknown};
use proptest::prelude::*;
use std::net::IpAddr;

const PAYLOAD: u64 = 1_000_000_000;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn device(name: &str, role: DeviceRole, bytes: u64) -> DeviceSeen {
    DeviceSeen {
        device: name.to_owned(),
        role,
        // Unlike numbers, so that mixing up the two shows.
        rx_bytes: 1_000 + bytes / 4,
        tx_bytes: 5_000 + (bytes - bytes / 4),
        dropped: 0,
        mtu: if role == DeviceRole::Tunnel { 1450 } else { 1500 },
        offloads: Vec::new(),
        rp_filter: None,
    }
}

fn route(device: &str) -> RouteSeen {
    RouteSeen {
        query: RouteQuery {
            destination: address(2),
            source: None,
            input_device: None,
        },
        device: Some(device.to_owned()),
        gateway: None,
        mtu: None,
        error: None,
    }
}

fn node(name: &str, tunnel: u64, underlay: u64, out: &str) -> Observation {
    Observation {
        node: name.to_owned(),
        devices: vec![
            device("eth0", DeviceRole::Underlay, underlay),
            device("vxlan.calico", DeviceRole::Tunnel, tunnel),
        ],
        routes: vec![route(out)],
    }
}

/// What is seen where both nodes' devices carry these shares of the payload.
fn seen(tunnel: f64, underlay: f64, out: &str) -> RawEvidence {
    let bytes = |share: f64| (PAYLOAD as f64 * share) as u64;
    RawEvidence {
        way_before: Vec::new(),
        way_after: Vec::new(),
        before: vec![node("east-1", 0, 0, out), node("east-2", 0, 0, out)],
        after: vec![
            node("east-1", bytes(tunnel), bytes(underlay), out),
            node("east-2", bytes(tunnel), bytes(underlay), out),
        ],
        connections: vec![ConnectionSeen {
            source: address(1),
            expected_source: address(1),
            mss: Some(1398),
            path_mtu: Some(1450),
        }],
        payload_bytes: PAYLOAD,
        back_bytes: 0,
        pair_payload_bytes: Vec::new(),
        noise_bytes: None,
        unseen: Vec::new(),
    }
}

fn encapsulated() -> RawEvidence {
    seen(1.04, 1.08, "vxlan.calico")
}

fn plain() -> RawEvidence {
    seen(0.0, 1.04, "eth0")
}

/// Pods of one node: a packet leaves by the other pod's veth.
fn within_node() -> RawEvidence {
    let mut seen = seen(0.0, 0.0, "cali2");
    seen.before.truncate(1);
    seen.after.truncate(1);
    seen
}

#[track_caller]
fn assert_reason(verdict: &Verdict, state: EvidenceState, part: &str) {
    assert_eq!(verdict.state, state, "{:?}", verdict.reasons);
    assert!(
        verdict.reasons.iter().any(|reason| reason.contains(part)),
        "{part:?} is not in {:?}",
        verdict.reasons
    );
}

#[test]
fn what_it_should_be_is_confirmed() {
    for (expected, same_node, evidence) in [
        (Vxlan, false, encapsulated()),
        (Plain, false, plain()),
        (Plain, true, within_node()),
    ] {
        let verdict = judge(expected, same_node, &evidence);
        assert_eq!(verdict.state, Confirmed, "{:?}", verdict.reasons);
        assert!(verdict.reasons.is_empty());
    }
    let verdict = judge(Vxlan, false, &encapsulated());
    assert!((verdict.tunnel_share.unwrap() - 1.04).abs() < 1e-6);
    assert!((verdict.underlay_share.unwrap() - 1.08).abs() < 1e-6);
}

#[test]
fn what_it_should_not_be_is_contradicted() {
    assert_eq!(judge(Vxlan, false, &plain()).state, Contradicted);
    assert_eq!(judge(Plain, false, &encapsulated()).state, Contradicted);
    assert_eq!(judge(Plain, true, &plain()).state, Contradicted);
    assert_eq!(judge(Plain, true, &encapsulated()).state, Contradicted);
    assert_eq!(judge(Plain, false, &within_node()).state, Contradicted);
}

#[test]
fn the_limits_are_those_of_the_design() {
    for (expected, tunnel, state) in [
        (Vxlan, 0.951, Confirmed),
        (Vxlan, 0.949, Contradicted),
        (Vxlan, 0.5, Contradicted),
        (Plain, 0.019, Confirmed),
        (Plain, 0.021, Contradicted),
        (Plain, 0.5, Contradicted),
    ] {
        let out = if expected == Vxlan { "vxlan.calico" } else { "eth0" };
        let verdict = judge(expected, false, &seen(tunnel, 1.04, out));
        assert_eq!(verdict.state, state, "{expected} {tunnel}: {:?}", verdict.reasons);
    }
    let underlay = |share| judge(Plain, false, &seen(0.0, share, "eth0"));
    assert_eq!(underlay(0.951).state, Confirmed);
    assert_reason(&underlay(0.949), Contradicted, "another way");
}

#[test]
fn one_node_is_enough_to_contradict() {
    let mut evidence = encapsulated();
    evidence.after[1] = node("east-2", 0, PAYLOAD, "vxlan.calico");
    assert_reason(
        &judge(Vxlan, false, &evidence),
        Contradicted,
        "east-2: the tunnel device carried 0.0 % of the payload",
    );
}

#[test]
fn a_route_by_another_device_contradicts_whatever_the_counters_say() {
    let mut evidence = encapsulated();
    evidence.before[0].routes = vec![route("eth0")];
    evidence.after[0].routes = vec![route("eth0")];
    evidence.after[1].routes = vec![route("cali9")];
    let verdict = judge(Vxlan, false, &evidence);
    assert_reason(
        &verdict,
        Contradicted,
        "leaves by eth0, expected the tunnel device",
    );
    assert_reason(
        &verdict,
        Contradicted,
        "leaves by cali9, expected the tunnel device",
    );
    assert_eq!(
        verdict.reasons.len(),
        2,
        "each sentence once: {:?}",
        verdict.reasons
    );

    let mut evidence = plain();
    evidence.after[1].routes[0].device = None;
    evidence.after[1].routes[0].error = Some("network is unreachable".to_owned());
    assert_reason(
        &judge(Plain, false, &evidence),
        Contradicted,
        "network is unreachable",
    );

    let mut evidence = within_node();
    evidence.after[0].routes = vec![route("vxlan.calico")];
    assert_reason(
        &judge(Plain, true, &evidence),
        Contradicted,
        "expected the pod's own device",
    );
}

#[test]
fn a_rewritten_source_or_too_large_packets_contradict() {
    let mut evidence = encapsulated();
    evidence.connections[0].source = address(99);
    assert_reason(
        &judge(Vxlan, false, &evidence),
        Contradicted,
        "something on the path rewrote it",
    );

    for (path_mtu, mss, state) in [
        (Some(1450), Some(1410), Confirmed),
        (Some(1451), None, Contradicted),
        (None, Some(1411), Contradicted),
        (Some(1500), Some(1448), Contradicted),
        (None, None, Confirmed),
    ] {
        let mut evidence = encapsulated();
        evidence.connections[0].path_mtu = path_mtu;
        evidence.connections[0].mss = mss;
        assert_eq!(
            judge(Vxlan, false, &evidence).state,
            state,
            "{path_mtu:?} {mss:?}"
        );
    }
    // Large packets say nothing against a plain path.
    let mut evidence = plain();
    evidence.connections[0].path_mtu = Some(1500);
    assert_eq!(judge(Plain, false, &evidence).state, Confirmed);
}

#[test]
fn what_was_not_seen_is_unknown() {
    assert_reason(
        &judge(Plain, false, &RawEvidence::default()),
        Unknown,
        "were not seen",
    );
    let mut evidence = encapsulated();
    evidence.payload_bytes = 0;
    let verdict = judge(Vxlan, false, &evidence);
    assert_reason(&verdict, Unknown, "no payload");
    assert_eq!((verdict.tunnel_share, verdict.underlay_share), (None, None));

    let mut evidence = encapsulated();
    evidence.after.pop();
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "were not seen");

    let mut evidence = encapsulated();
    evidence.after[1].node = "east-3".to_owned();
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "after it east-3");

    let mut evidence = encapsulated();
    evidence.unseen.push("east-2: permission denied".to_owned());
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "permission denied");

    let mut evidence = encapsulated();
    for observation in evidence.before.iter_mut().chain(&mut evidence.after) {
        observation
            .devices
            .retain(|device| device.role == DeviceRole::Tunnel);
        observation.routes.clear();
    }
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "no underlay device");
}

#[test]
fn counters_that_went_back_or_came_late_are_unknown() {
    let mut evidence = encapsulated();
    evidence.before[0].devices[1].rx_bytes = u64::MAX;
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "counters reset");
    let mut evidence = encapsulated();
    evidence.before[0].devices.truncate(1);
    assert_eq!(
        judge(Vxlan, false, &evidence).state,
        Contradicted,
        "its route names a device not there"
    );
    evidence.before[0].routes.clear();
    assert_reason(&judge(Vxlan, false, &evidence), Unknown, "came, went");
    // One that vanished must not pass for one that carried nothing.
    let mut evidence = plain();
    evidence.after[0].devices.truncate(1);
    assert_reason(&judge(Plain, false, &evidence), Unknown, "came, went");
}

#[test]
fn without_a_tunnel_device_routes_must_show_the_plain_way() {
    let without = |mut evidence: RawEvidence, routes: bool| {
        for observation in evidence.before.iter_mut().chain(&mut evidence.after) {
            observation.devices.truncate(1);
            if !routes {
                observation.routes.clear();
            }
        }
        evidence
    };
    assert_eq!(judge(Plain, false, &without(plain(), true)).state, Confirmed);
    assert_reason(
        &judge(Plain, false, &without(plain(), false)),
        Unknown,
        "no tunnel device",
    );
    assert_reason(
        &judge(Vxlan, false, &without(encapsulated(), false)),
        Unknown,
        "no tunnel device",
    );
}

#[test]
fn other_traffic_of_shared_nodes_makes_small_trials_unknown() {
    let with_noise = |mut evidence: RawEvidence, noise: u64| {
        evidence.noise_bytes = Some(noise);
        evidence
    };
    let twentieth = PAYLOAD / 20;
    assert_eq!(
        judge(Vxlan, false, &with_noise(encapsulated(), twentieth)).state,
        Confirmed
    );
    assert_reason(
        &judge(Vxlan, false, &with_noise(encapsulated(), twentieth + 1)),
        Unknown,
        "20 times",
    );
    // Others' bytes on the tunnel are no contradiction of a plain path, and no proof of an encapsulated one.
    let noisy = |expected, tunnel, noise| {
        let out = if expected == Vxlan { "vxlan.calico" } else { "eth0" };
        judge(expected, false, &with_noise(seen(tunnel, 1.04, out), noise)).state
    };
    assert_eq!(noisy(Plain, 0.05, PAYLOAD / 25), Confirmed);
    assert_eq!(noisy(Plain, 0.07, PAYLOAD / 25), Contradicted);
    assert_eq!(noisy(Vxlan, 0.96, PAYLOAD / 25), Unknown);
    assert_eq!(noisy(Vxlan, 0.94, PAYLOAD / 25), Contradicted);
}

/// Requests and responses of one byte: what counts is headers.
fn tiny(payload: u64, tunnel: u64, underlay: u64, out: &str) -> RawEvidence {
    RawEvidence {
        before: vec![node("east-1", 0, 0, out)],
        after: vec![node("east-1", tunnel, underlay, out)],
        payload_bytes: payload,
        back_bytes: 0,
        pair_payload_bytes: Vec::new(),
        ..RawEvidence::default()
    }
}

#[test]
fn a_stray_packet_does_not_contradict_a_trial_of_tiny_requests() {
    // 1000 transactions: 2 kB of payload, 160 kB on the wire, one neighbour solicitation through the tunnel.
    let state = |evidence: &RawEvidence| judge(Plain, false, evidence).state;
    assert_eq!(state(&tiny(2_000, 90, 160_000, "eth0")), Confirmed);
    // All of it, or just one packet in ten, through the tunnel.
    assert_eq!(state(&tiny(2_000, 130_000, 230_000, "eth0")), Contradicted);
    assert_eq!(state(&tiny(2_000, 13_000, 170_000, "eth0")), Contradicted);
    // The allowance doesn't grow with the payload.
    assert_eq!(state(&tiny(100_000, 4_096, 8_000_000, "eth0")), Confirmed);
    assert_eq!(state(&tiny(100_000, 4_097, 8_000_000, "eth0")), Contradicted);
}

#[test]
fn headers_of_a_few_packets_do_not_confirm_an_encapsulated_trial_of_tiny_requests() {
    let state = |evidence: &RawEvidence| judge(Vxlan, false, evidence).state;
    assert_eq!(state(&tiny(2_000, 130_000, 230_000, "vxlan.calico")), Confirmed);
    // 95 % of the payload are in the tunnel by headers alone; 160 kB left the node beside it.
    assert_eq!(state(&tiny(2_000, 3_000, 160_000, "vxlan.calico")), Unknown);
}

#[test]
fn states_stand_from_the_best_to_the_worst() {
    assert!(Confirmed < Unknown && Unknown < Contradicted);
}

proptest! {
    /// Never both: what confirms one encapsulation contradicts the other.
    #[test]
    fn no_evidence_confirms_both(
        tunnel in 0.0_f64..3.0,
        underlay in 0.0_f64..3.0,
        payload in 1_u64..10_000_000_000,
        noise in proptest::option::of(0_u64..1_000_000_000),
    ) {
        let mut evidence = seen(0.0, 0.0, "eth0");
        evidence.payload_bytes = payload;
        evidence.noise_bytes = noise;
        let bytes = |share: f64| (payload as f64 * share) as u64;
        for observation in evidence.before.iter_mut().chain(&mut evidence.after) {
            observation.routes.clear();
        }
        for observation in &mut evidence.after {
            observation.devices = node("", bytes(tunnel), bytes(underlay), "eth0").devices;
        }
        let states = [judge(Vxlan, false, &evidence).state, judge(Plain, false, &evidence).state];
        prop_assert!(states != [Confirmed, Confirmed]);
        // A verdict other than confirmed says why, and confirmed has nothing to say.
        for expected in [Vxlan, Plain] {
            let verdict = judge(expected, false, &evidence);
            prop_assert_eq!(verdict.state == Confirmed, verdict.reasons.is_empty());
        }
    }

    /// More bytes through the tunnel never make an encapsulated path look less so, nor a plain one more so.
    #[test]
    fn verdicts_are_monotone_in_the_tunnels_bytes(
        less in 0_u64..5_000_000, more in 0_u64..5_000_000, payload in 1_u64..4_000_000,
    ) {
        let (less, more) = (less.min(more), less.max(more));
        let judged = |expected, tunnel| judge(expected, false, &tiny(payload, tunnel, 8_000_000,
            if expected == Vxlan { "vxlan.calico" } else { "eth0" })).state;
        prop_assert!(judged(Vxlan, more) <= judged(Vxlan, less));
        prop_assert!(judged(Plain, more) >= judged(Plain, less));
    }

    /// Counters of any value are judged without a panic.
    #[test]
    fn any_counter_is_judged(counters in proptest::array::uniform8(any::<u64>()), payload: u64, noise: Option<u64>) {
        let mut evidence = plain();
        evidence.payload_bytes = payload;
        evidence.noise_bytes = noise;
        let devices = evidence.before.iter_mut().chain(&mut evidence.after).flat_map(|o| &mut o.devices);
        for (device, value) in devices.zip(counters) {
            device.rx_bytes = value;
            device.tx_bytes = value.rotate_left(7);
        }
        for expected in [Vxlan, Plain] {
            for same_node in [false, true] {
                let verdict = judge(expected, same_node, &evidence);
                prop_assert!(verdict.tunnel_share.is_none_or(f64::is_finite));
                prop_assert!(verdict.underlay_share.is_none_or(f64::is_finite));
            }
        }
    }
}

/// Between clusters nothing is expected: what is seen is kept, and neither confirms nor contradicts.
#[test]
fn what_joins_clusters_is_unknown() {
    let mut seen = plain();
    seen.connections = vec![ConnectionSeen {
        source: "10.9.9.9".parse().unwrap(),
        expected_source: "10.1.1.1".parse().unwrap(),
        mss: None,
        path_mtu: None,
    }];
    let verdict = judge(Encapsulation::Unknown, false, &seen);
    assert_eq!(verdict.state, Unknown);
    assert!(
        verdict
            .reasons
            .iter()
            .any(|why| why.contains("what joins the clusters"))
    );
    assert!(verdict.reasons.iter().any(|why| why.contains("10.9.9.9")));
}
