//! Hand-made runs for tests of analysis, gates and reports.

use crate::{
    evidence::{EvidenceState, RawEvidence, Verdict},
    measure::{
        CpuSeconds, Direction, LatencyHistogram, LatencyResult, MachineCpu, StreamResult, Techniques,
        ThroughputResult, machine::Host,
    },
    run::{CongestionChoice, Manifest, Outcome, Trial},
    scenario::{Case, Encapsulation, Path, Place, Scenario, WorkloadKind},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Three paths, two workloads, one gate.
pub(crate) const SCENARIO: &str = "
name: hand-made
fabric:
  lab:
    clusters:
      - name: east
        subnets: [ { nodes: [east-1, east-2] } ]
paths:
  - { name: node-to-node, from: east-1, to: east-2 }
  - { name: CrossSubnet, from: pod@east-1, to: pod@east-2, vxlan-mode: CrossSubnet }
  - { name: Always, from: pod@east-1, to: pod@east-2, vxlan-mode: Always }
workloads:
  - { name: tcp, throughput: { duration: 2s } }
  - { name: rr, latency: { kind: tcp-rr, rate: 1000/s, duration: 1s, during: tcp } }
blocks: { at-least: 6 }
relative-to: node-to-node
reference:
  - { path: Always, workload: tcp, throughput: 200MB/s }
gates:
  - { name: CrossSubnet is near bare metal, path: CrossSubnet, workload: tcp, metric: throughput, relative-to: node-to-node, at-least: 0.9 }
";

/// A manifest of [`SCENARIO`] with other gates, in YAML (a list's items), or with its own.
pub(crate) fn manifest(gates: Option<&str>) -> Manifest {
    let text = match gates {
        Some(gates) => format!("{}\ngates:\n{gates}\n", SCENARIO.split("gates:").next().unwrap()),
        None => SCENARIO.to_owned(),
    };
    let scenario: Scenario = serde_saphyr::from_str(&text).unwrap();
    let mut cases = Vec::new();
    for spec in &scenario.paths {
        for workload in &scenario.workloads {
            let load = match workload.kind().unwrap() {
                WorkloadKind::Latency(latency) if latency.during.is_some() => {
                    scenario.workloads[0].throughput.clone()
                }
                _ => None,
            };
            cases.push(Case {
                slug: slug(&spec.name, &workload.name),
                path: Path {
                    name: spec.name.clone(),
                    from: Place::Node("east-1".to_owned()),
                    to: Place::Node("east-2".to_owned()),
                    vxlan_mode: spec.vxlan_mode,
                    expected: if spec.name == "Always" {
                        Encapsulation::Vxlan
                    } else {
                        Encapsulation::None
                    },
                    same_node: false,
                    same_subnet: true,
                    crossing: None,
                    user_space: None,
                    by: crate::scenario::By::Address,
                    expect: crate::scenario::Expect::Reachable,
                    together_with: Vec::new(),
                },
                workload: workload.clone(),
                load,
            });
        }
    }
    Manifest {
        format: Manifest::FORMAT,
        encapbench: "0.1.0".to_owned(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        command: vec!["encapbench".to_owned(), "run".to_owned()],
        scenario,
        seed: 7,
        cases,
        skipped_gates: BTreeMap::new(),
        host: Host::default(),
        congestion: CongestionChoice::default(),
        fabric: BTreeMap::new(),
    }
}

/// A case's slug in [`manifest`].
pub(crate) fn slug(path: &str, workload: &str) -> String {
    format!("{}--{workload}", path.to_lowercase())
}

fn trial(block: u32, path: &str, workload: &str) -> Trial {
    Trial {
        block,
        position: 1,
        case: slug(path, workload),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        seconds: 3.0,
        outcome: Outcome::Measured,
        throughput: None,
        sender: None,
        search: Vec::new(),
        latency: None,
        load: None,
        pairs: Vec::new(),
        probe: None,
        cpu: Vec::new(),
        hops: Vec::new(),
        evidence: RawEvidence::default(),
        verdict: Verdict {
            state: EvidenceState::Confirmed,
            tunnel_share: None,
            underlay_share: None,
            reasons: Vec::new(),
        },
    }
}

/// What a receiver measured: one stream of 2 s, with a quarter as much again in the warm-up.
pub(crate) fn received(megabytes_per_second: f64) -> ThroughputResult {
    let bytes = (megabytes_per_second * 2e6) as u64;
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    ThroughputResult {
        streams: vec![StreamResult {
            id: 1,
            direction: Direction::Forward,
            sent_bytes: bytes,
            received_bytes: bytes,
            seconds: 2.0,
            total_bytes: bytes + bytes / 4,
            retransmits: Some(3),
            udp: None,
            local_address: address,
            peer_address: address,
            samples: Vec::new(),
        }],
        seconds: 2.0,
        techniques: Techniques {
            congestion: Some("cubic".to_owned()),
            ..Techniques::default()
        },
        process_user_seconds: 0.1,
        process_system_seconds: 0.9,
    }
}

/// A trial of the workload `tcp`.
pub(crate) fn throughput(block: u32, path: &str, megabytes_per_second: f64) -> Trial {
    Trial {
        throughput: Some(received(megabytes_per_second)),
        hops: Vec::new(),
        cpu: vec![MachineCpu {
            machine: "one".to_owned(),
            nodes: Vec::new(),
            seconds: 3.0,
            cores: 2,
            cpu: CpuSeconds {
                user: 0.5,
                system: 1.0,
                irq: 0.0,
                softirq: 1.0,
                steal: 0.2,
                idle: 3.3,
            },
            per_core: Vec::new(),
        }],
        ..trial(block, path, "tcp")
    }
}

/// A histogram of `count` times in microseconds, evenly from `from` to twice that.
pub(crate) fn histogram(from: f64, count: u32) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::new().unwrap();
    for step in 0..count {
        let share = f64::from(step) / f64::from(count);
        histogram.record((from * (1.0 + share) * 1e3) as u64);
    }
    histogram
}

/// A trial of the workload `rr`, of `count` transactions, the shortest of `from` microseconds.
pub(crate) fn latency(block: u32, path: &str, from: f64, count: u32) -> Trial {
    Trial {
        latency: Some(LatencyResult {
            transactions: u64::from(count),
            seconds: 1.0,
            latency: histogram(from, count),
            send_lag: Some(histogram(5.0, count)),
            saturated: 0,
            unanswered: 0,
            total_bytes: 2 * u64::from(count),
            peer_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            path_mtu: None,
            mss: None,
            process_user_seconds: 0.1,
            process_system_seconds: 0.1,
        }),
        load: Some(received(from)),
        ..trial(block, path, "rr")
    }
}

/// A trial that took another way.
pub(crate) fn contradicted(mut trial: Trial) -> Trial {
    trial.verdict.state = EvidenceState::Contradicted;
    trial.verdict.reasons = vec!["east-1: packets went unencapsulated".to_owned()];
    trial
}

/// A trial whose way was not seen.
pub(crate) fn unknown(mut trial: Trial) -> Trial {
    trial.verdict.state = EvidenceState::Unknown;
    trial.verdict.reasons = vec!["the nodes' devices and routes were not seen".to_owned()];
    trial
}

/// A trial that failed.
pub(crate) fn failed(mut trial: Trial) -> Trial {
    trial.outcome = Outcome::Failed {
        error: "the connection was reset".to_owned(),
    };
    trial.throughput = None;
    trial.latency = None;
    trial
}

/// A full run of `blocks` blocks: 1000, 950 and 200 MB/s, with scatter that differs by block and by path.
pub(crate) fn run(blocks: u32) -> Vec<Trial> {
    let mut trials = Vec::new();
    for block in 1..=blocks {
        let wobble = f64::from(block * 7 % 5) - 2.0;
        let own = f64::from(block * 3 % 4) - 1.5;
        for (path, rate, rtt) in [
            ("node-to-node", 1000.0, 40.0),
            ("CrossSubnet", 950.0, 45.0),
            ("Always", 200.0, 70.0),
        ] {
            let scale = 1.0 + wobble * 0.02 + own * 0.001 * rate / 950.0;
            trials.push(throughput(block, path, rate * scale));
            trials.push(latency(block, path, rtt / scale, 1000));
        }
    }
    trials
}
