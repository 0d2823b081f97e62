//! How long statistics take: an interval, a run's summary, its gates.

#![expect(clippy::expect_used, reason = "a bench of what cannot be made may end")]

use criterion::{Criterion, criterion_group, criterion_main};
use encapbench::{
    analysis::{estimate, summarise},
    evidence::{EvidenceState, RawEvidence, Verdict},
    gate::judge,
    measure::{Direction, LatencyHistogram, LatencyResult, StreamResult, ThroughputResult},
    run::{Manifest, Outcome, Trial},
    scenario::{Case, Encapsulation, Path, Place, Scenario},
};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

const BLOCKS: u32 = 30;

fn manifest() -> Manifest {
    let text = include_str!("../scenarios/calico-vxlan.yaml");
    let scenario: Scenario = serde_saphyr::from_str(text).expect("a scenario of the repository");
    let mut cases = Vec::new();
    for path in &scenario.paths {
        for workload in &scenario.workloads {
            cases.push(Case {
                slug: format!("{}--{}", path.name, workload.name),
                path: Path {
                    name: path.name.clone(),
                    from: Place::Node("east-1".to_owned()),
                    to: Place::Node("east-2".to_owned()),
                    vxlan_mode: path.vxlan_mode,
                    expected: Encapsulation::None,
                    same_node: false,
                    same_subnet: true,
                    crossing: None,
                    user_space: None,
                    by: encapbench::scenario::By::Address,
                    expect: encapbench::scenario::Expect::Reachable,
                    together_with: Vec::new(),
                },
                workload: workload.clone(),
                load: None,
            });
        }
    }
    Manifest {
        format: Manifest::FORMAT,
        encapbench: String::new(),
        started: "2026-01-02T03:04:05Z".parse().expect("a time"),
        command: Vec::new(),
        scenario,
        seed: 1,
        cases,
        skipped_gates: std::collections::BTreeMap::default(),
        host: encapbench::measure::machine::Host::default(),
        congestion: encapbench::run::CongestionChoice::default(),
        fabric: std::collections::BTreeMap::default(),
    }
}

fn throughput(block: u32) -> ThroughputResult {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bytes = 2_000_000_000 + u64::from(block * 7919 % 31) * 1_000_000;
    ThroughputResult {
        streams: vec![StreamResult {
            id: 1,
            direction: Direction::Forward,
            sent_bytes: bytes,
            received_bytes: bytes,
            seconds: 2.0,
            total_bytes: bytes,
            retransmits: Some(3),
            udp: None,
            local_address: address,
            peer_address: address,
            samples: Vec::new(),
        }],
        seconds: 2.0,
        ..ThroughputResult::default()
    }
}

fn latency(block: u32) -> LatencyResult {
    let mut histogram = LatencyHistogram::new().expect("a histogram");
    for step in 0..20_000_u64 {
        histogram.record(30_000 + step * step % 70_001 + u64::from(block) * 100);
    }
    LatencyResult {
        transactions: 20_000,
        seconds: 1.0,
        send_lag: Some(histogram.clone()),
        latency: histogram,
        saturated: 0,
        unanswered: 0,
        total_bytes: 40_000,
        peer_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        path_mtu: None,
        mss: None,
        process_user_seconds: 0.1,
        process_system_seconds: 0.1,
    }
}

fn log(manifest: &Manifest) -> Vec<Trial> {
    (1..=BLOCKS)
        .flat_map(|block| {
            manifest.cases.iter().map(move |case| Trial {
                block,
                position: 1,
                case: case.slug.clone(),
                started: manifest.started,
                seconds: 2.0,
                outcome: Outcome::Measured,
                throughput: case.workload.throughput.as_ref().map(|_| throughput(block)),
                sender: None,
                search: Vec::new(),
                latency: case.workload.latency.as_ref().map(|_| latency(block)),
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
            })
        })
        .collect()
}

fn statistics(criterion: &mut Criterion) {
    let values: Vec<f64> = (0..30).map(|step| f64::from(step * 7919 % 31)).collect();
    criterion.bench_function("interval of a median of 30", |bench| {
        bench.iter(|| estimate(black_box(&values)));
    });
    let manifest = manifest();
    let log = log(&manifest);
    let summary = summarise(&manifest, &log);
    criterion.bench_function("summary of 30 blocks of 12 cases", |bench| {
        bench.iter(|| summarise(black_box(&manifest), black_box(&log)));
    });
    criterion.bench_function("gates of 30 blocks", |bench| {
        bench.iter(|| judge(black_box(&manifest), black_box(&summary)));
    });
}

criterion_group!(benches, statistics);
criterion_main!(benches);
