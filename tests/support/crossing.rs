//! Two clusters of two nodes, bytes from a worker's pod to one of the other cluster, and what each node's uplink carries
//! meanwhile.

use crate::capture::{Capture, Flow, Wrapped};
use crate::skip;
use encapbench::fabric::lab::{RunningLab, lab_of, pods_everywhere};
use encapbench::scenario::{Lab, Place, parse};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_encapbench");
/// Long enough for an emulated machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is carried.
const BYTES: usize = 100_000;

/// The two clusters; west's nodes are far from what encapbench would choose.
pub(crate) fn scenario(cable: &str) -> String {
    format!(
        "
name: two
question: test
fabric:
  lab:
    submariner: {{ cable: {cable} }}
    clusters:
      - {{ name: east, gateway: east-1, subnets: [ {{ nodes: [east-1, east-2] }} ] }}
      - {{ name: west, gateway: west-2, subnets: [ {{ nodes: [west-1, west-2], cidr: 172.20.7.0/24 }} ] }}
paths:
  - {{ name: worker to worker, from: pod@east-2, to: pod@west-1, vxlan-mode: CrossSubnet }}
  - {{ name: gateway to worker, from: pod@west-2, to: pod@east-2, vxlan-mode: Always }}
workloads:
  - {{ name: tcp, throughput: {{ duration: 1s, omit: 300ms }} }}
  - {{ name: rr, latency: {{ kind: tcp-rr, duration: 1s, omit: 300ms }} }}
blocks: {{ at-least: 1 }}
"
    )
}

pub(crate) fn lab(cable: &str) -> Lab {
    let scenario = parse(&scenario(cable), "two.yaml").unwrap();
    lab_of(&scenario).unwrap().clone()
}

/// Says so, loudly, where no lab can be built in this process.
pub(crate) fn built(cable: &str) -> Option<RunningLab> {
    let lab = lab(cable);
    match RunningLab::build_with(Path::new(PROGRAM), "test", &lab, &pods_everywhere(&lab)) {
        Ok(lab) => Some(lab),
        Err(error) => {
            skip::skip(format_args!(
                "a lab in the test's own process needs root: {error}"
            ));
            None
        }
    }
}

/// The source that the receiver of some bytes saw.
fn carry(lab: &RunningLab, from: &Place, to: &Place) -> IpAddr {
    let address = lab.address(to).unwrap();
    let listener = lab
        .within(to, || TcpListener::bind((address, 0)).unwrap())
        .unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut connection, peer) = listener.accept().unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut all = Vec::new();
            connection.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), BYTES);
            peer.ip()
        });
        lab.within(from, || {
            let mut connection = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
            connection.write_all(&vec![1; BYTES]).unwrap();
        })
        .unwrap();
        receiver.join().unwrap()
    })
}

/// Carries bytes from a pod of a worker to one of the other cluster, and asserts what each leg has carried: wrapped so,
/// between those nodes, with the pods' addresses inside, all of the payload, and nothing else.
pub(crate) fn captured(lab: &RunningLab, mode: &str, to_gateway: Wrapped, cable: Wrapped, arrival: Wrapped) {
    let place = |node: &str| -> Place { format!("pod@{node}/{mode}").parse().unwrap() };
    let (from, to) = (place("east-2"), place("west-1"));
    let address = |place: &Place| match lab.address(place) {
        Some(IpAddr::V4(address)) => address,
        other => unreachable!("{other:?}"),
    };
    let node = |name: &str| address(&Place::Node(name.to_owned()));
    // Neighbours are found and WireGuard's session is made beforehand.
    carry(lab, &from, &to);
    let captures = ["east-1", "east-2", "west-1", "west-2"].map(|node| (node, Capture::start(lab, node)));
    let seen = carry(lab, &from, &to);
    std::thread::sleep(Duration::from_millis(300));
    let caught: BTreeMap<&str, BTreeMap<Flow, u64>> = captures
        .into_iter()
        .map(|(node, capture)| (node, capture.end()))
        .collect();
    let inner = (address(&from), address(&to));
    assert_eq!(
        seen,
        IpAddr::V4(inner.0),
        "the receiver sees the pod's own address"
    );
    let is_open = |wrapped| !matches!(wrapped, Wrapped::Esp { .. } | Wrapped::Wireguard { .. });
    let flow = |wrapped, from: &str, to: &str, inner: (Ipv4Addr, Ipv4Addr)| -> Flow {
        let outer = if wrapped == Wrapped::Plain {
            inner
        } else {
            (node(from), node(to))
        };
        (wrapped, outer, Some(inner).filter(|_| is_open(wrapped)))
    };
    let swap = |(a, b): (Ipv4Addr, Ipv4Addr)| (b, a);
    let there = [
        flow(to_gateway, "east-2", "east-1", inner),
        flow(cable, "east-1", "west-2", inner),
        flow(arrival, "west-2", "west-1", inner),
    ];
    let back = [
        flow(to_gateway, "west-1", "west-2", swap(inner)),
        flow(cable, "west-2", "east-1", swap(inner)),
        flow(arrival, "east-1", "east-2", swap(inner)),
    ];
    // Each node's uplink sees the legs that begin or end there.
    for (name, legs) in [
        ("east-2", vec![there[0], back[2]]),
        ("east-1", vec![there[0], there[1], back[1], back[2]]),
        ("west-2", vec![there[1], there[2], back[0], back[1]]),
        ("west-1", vec![there[2], back[0]]),
    ] {
        let caught = &caught[name];
        for leg in &legs {
            let bytes = caught.get(leg).copied().unwrap_or(0);
            let payload = if there.contains(leg) { BYTES as u64 } else { 1 };
            assert!(
                bytes >= payload,
                "{mode}: {name}: {bytes} bytes of {leg:?} in {caught:#?}"
            );
        }
        let others: Vec<_> = caught.keys().filter(|flow| !legs.contains(flow)).collect();
        assert!(
            others.is_empty(),
            "{mode}: {name}: {others:?} is none of its legs"
        );
    }
}
