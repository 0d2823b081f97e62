//! A run as it might have been, for tests of the report: the matrix of the README (about 1000, 970 and 240 MB/s),
//! with latency idle and under load. Drawn from a small generator of its own, so it is the same for ever.

use super::Inputs;
use crate::{
    analysis::{Summary, summarise},
    evidence::{
        ConnectionSeen, DeviceRole, DeviceSeen, EvidenceState, Observation, RawEvidence, RouteQuery,
        RouteSeen, Verdict,
    },
    gate::{GateReport, GateState, GateVerdict},
    measure::{
        CpuSeconds, Direction, LatencyHistogram, LatencyResult, MachineCpu, Sample, StreamResult, TcpSample,
        Techniques, ThroughputResult, machine::Host,
    },
    run::{CongestionChoice, Manifest, Outcome, Trial},
    scenario::{Case, Encapsulation, Metric, Path, Place, PlaceRef, Scenario, VxlanMode},
};
use std::collections::BTreeMap;

pub(super) struct Fixture {
    pub(super) manifest: Manifest,
    pub(super) trials: Vec<Trial>,
    pub(super) summary: Summary,
    pub(super) gates: GateReport,
}

impl Fixture {
    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            manifest: &self.manifest,
            trials: &self.trials,
            summary: &self.summary,
            gates: &self.gates,
        }
    }
}

/// A linear congruential generator (Knuth's MMIX); 0 to 1.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn roll(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Around 1, by about `spread`.
    fn around(&mut self, spread: f64) -> f64 {
        1.0 + (self.roll() + self.roll() + self.roll() - 1.5) * spread
    }
}

struct Physics {
    throughput: f64,
    cpu: f64,
    rtt: f64,
    queue: f64,
    retransmits: f64,
}

fn physics(path: &Path) -> Physics {
    match path.vxlan_mode {
        None => Physics {
            throughput: 1003.0,
            cpu: 0.92,
            rtt: 31.0,
            queue: 2600.0,
            retransmits: 12.0,
        },
        Some(VxlanMode::CrossSubnet) => Physics {
            throughput: 972.0,
            cpu: 1.06,
            rtt: 36.0,
            queue: 2750.0,
            retransmits: 15.0,
        },
        Some(VxlanMode::Always) => Physics {
            throughput: 240.0,
            cpu: 4.62,
            rtt: 47.0,
            queue: 880.0,
            retransmits: 210.0,
        },
    }
}

const SCENARIO: &str = "
name: calico-vxlan
question: What do Calico's VXLAN modes cost between two nodes of one subnet?
fabric:
  lab:
    nic: { rate: 8.5gbit, burst: 256KiB, queue: 5ms, mtu: 1500, tunnel-offload: false }
    clusters:
      - name: east
        subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-3] } ]
        calico: { block-size: 26, vxlan-checksum-offload: false }
paths:
  - { name: node-to-node, from: east-1, to: east-2 }
  - { name: pod-to-pod CrossSubnet, from: pod@east-1, to: pod@east-2, vxlan-mode: CrossSubnet }
  - { name: pod-to-pod Always, from: pod@east-1, to: pod@east-2, vxlan-mode: Always }
workloads:
  - { name: tcp, throughput: { protocol: tcp, streams: 1, duration: 2s, omit: 500ms } }
  - { name: rr, latency: { kind: tcp-rr, duration: 1s } }
  - { name: rr-under-load, latency: { kind: tcp-rr, rate: 1000/s, duration: 1s, during: tcp } }
  - { name: crr, latency: { kind: tcp-crr, duration: 1s } }
blocks: { at-least: 6 }
relative-to: node-to-node
reference:
  - { path: node-to-node, workload: tcp, throughput: 1000MB/s }
  - { path: pod-to-pod CrossSubnet, workload: tcp, throughput: 950MB/s }
  - { path: pod-to-pod Always, workload: tcp, throughput: 200MB/s }
";

pub(super) fn scenario() -> Scenario {
    serde_saphyr::from_str(SCENARIO).unwrap()
}

fn place(place: &PlaceRef, mode: Option<VxlanMode>) -> Place {
    match (place, mode) {
        (PlaceRef::Pod { pod, node }, Some(mode)) => Place::Pod {
            pod: pod.clone(),
            node: node.clone(),
            mode,
        },
        (place, _) => Place::Node(place.node().to_owned()),
    }
}

pub(super) fn cases(scenario: &Scenario) -> Vec<Case> {
    let mut cases = Vec::new();
    for path in &scenario.paths {
        for workload in &scenario.workloads {
            let load = workload
                .latency
                .as_ref()
                .and_then(|latency| latency.during.as_ref())
                .and_then(|during| scenario.workloads.iter().find(|other| other.name == *during))
                .and_then(|other| other.throughput.clone());
            cases.push(Case {
                slug: format!(
                    "{}--{}",
                    path.name.to_ascii_lowercase().replace(' ', "-"),
                    workload.name
                ),
                path: Path {
                    name: path.name.clone(),
                    from: place(&path.from, path.vxlan_mode),
                    to: place(&path.to, path.vxlan_mode),
                    vxlan_mode: path.vxlan_mode,
                    expected: if path.vxlan_mode == Some(VxlanMode::Always) {
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
    cases
}

pub(super) fn manifest(scenario: Scenario) -> Manifest {
    Manifest {
        format: Manifest::FORMAT,
        encapbench: "0.1.0".to_owned(),
        started: "2026-11-23T18:00:00Z".parse().unwrap(),
        command: ["encapbench", "run", "scenarios/calico-vxlan.yaml", "--seed", "7"]
            .map(str::to_owned)
            .to_vec(),
        cases: cases(&scenario),
        scenario,
        seed: 7,
        skipped_gates: BTreeMap::new(),
        host: Host {
            name: "bench-1".to_owned(),
            kernel: "Linux 6.1.0-28-amd64 #1 SMP Debian 6.1.119-1 x86_64".to_owned(),
            cpu: "Intel Xeon Platinum 8272CL 2.60GHz".to_owned(),
            cores: 2,
            memory_bytes: 8_000_000_000,
            os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        },
        congestion: CongestionChoice {
            wanted: vec!["cubic".to_owned(), "reno".to_owned()],
            used: Some("cubic".to_owned()),
        },
        fabric: BTreeMap::from([
            ("rootless".to_owned(), "yes".to_owned()),
            ("net.ipv4.tcp_rmem".to_owned(), "4096 131072 33554432".to_owned()),
        ]),
    }
}

fn evidence(case: &Case, payload: u64, dice: &mut Dice) -> (RawEvidence, Verdict) {
    let vxlan = case.path.expected == Encapsulation::Vxlan;
    let (tunnel, underlay) = if vxlan { (1.036, 1.071) } else { (0.0, 1.046) };
    let wobble = dice.around(0.001);
    let (tunnel, underlay) = (tunnel * wobble, underlay * wobble);
    let address = |text: &str| text.parse().unwrap();
    let observe = |node: &str, sent: bool, after: bool| {
        let device = |name: &str, role, share: f64, mtu, start: u64, offload: &str, on| {
            let bytes = if after { (payload as f64 * share) as u64 } else { 0 };
            DeviceSeen {
                device: name.to_owned(),
                role,
                rx_bytes: start + if sent { bytes / 100 } else { bytes - bytes / 100 },
                tx_bytes: start + if sent { bytes - bytes / 100 } else { bytes / 100 },
                dropped: 0,
                mtu,
                offloads: vec![(offload.to_owned(), on)],
                rp_filter: None,
            }
        };
        Observation {
            node: node.to_owned(),
            devices: vec![
                device(
                    "eth0",
                    DeviceRole::Underlay,
                    underlay,
                    1500,
                    9_000_000,
                    "tx-udp_tnl-segmentation",
                    false,
                ),
                device(
                    "vxlan.calico",
                    DeviceRole::Tunnel,
                    tunnel,
                    1450,
                    70_000,
                    "tx-checksum-ip-generic",
                    false,
                ),
            ],
            routes: vec![RouteSeen {
                query: RouteQuery {
                    destination: address(if vxlan { "10.245.0.66" } else { "10.244.0.66" }),
                    source: None,
                    input_device: None,
                },
                device: Some(if vxlan { "vxlan.calico" } else { "eth0" }.to_owned()),
                gateway: Some(address(if vxlan { "10.245.0.64" } else { "10.1.0.12" })),
                mtu: None,
                error: None,
            }],
        }
    };
    let source = address(if vxlan { "10.245.0.2" } else { "10.244.0.2" });
    let raw = RawEvidence {
        way_before: Vec::new(),
        way_after: Vec::new(),
        before: vec![observe("east-1", true, false), observe("east-2", false, false)],
        after: vec![observe("east-1", true, true), observe("east-2", false, true)],
        connections: vec![ConnectionSeen {
            source,
            expected_source: source,
            mss: Some(1398),
            path_mtu: Some(1450),
        }],
        payload_bytes: payload,
        back_bytes: 0,
        pair_payload_bytes: Vec::new(),
        noise_bytes: None,
        unseen: Vec::new(),
    };
    let verdict = Verdict {
        state: EvidenceState::Confirmed,
        tunnel_share: Some(tunnel),
        underlay_share: Some(underlay),
        reasons: Vec::new(),
    };
    (raw, verdict)
}

/// The receiver's and the sender's view of a bulk transfer.
fn transfer(rate: f64, physics: &Physics, dice: &mut Dice) -> (ThroughputResult, ThroughputResult) {
    let mut samples = Vec::new();
    let (mut bytes, mut total) = (0, 0);
    for tick in 1..=25_u32 {
        let end = f64::from(tick) * 0.1;
        let ramp = (f64::from(tick) / 3.0).min(1.0);
        let carried = (rate * 1e5 * ramp * dice.around(0.06)) as u64;
        let omitted = tick <= 5;
        total += carried;
        if !omitted {
            bytes += carried;
        }
        samples.push(Sample {
            end,
            seconds: 0.1,
            bytes: carried,
            omitted,
            tcp: None,
            udp: None,
        });
    }
    let retransmits = (physics.retransmits * dice.around(0.6)).max(0.0) as u64;
    let result = |samples: Vec<Sample>, techniques| ThroughputResult {
        streams: vec![StreamResult {
            id: 1,
            direction: Direction::Forward,
            sent_bytes: bytes + 80_000,
            received_bytes: bytes,
            seconds: 2.0,
            total_bytes: total,
            retransmits: Some(retransmits),
            udp: None,
            local_address: "10.244.0.66".parse().unwrap(),
            peer_address: "10.244.0.2".parse().unwrap(),
            samples,
        }],
        seconds: 2.0,
        techniques,
        process_user_seconds: 0.01,
        process_system_seconds: 0.7,
    };
    let sender_samples = samples
        .iter()
        .map(|sample| Sample {
            tcp: Some(TcpSample {
                rtt_us: (physics.queue * 0.9) as u32,
                rttvar_us: 80,
                retransmits: retransmits * u64::from(sample.omitted),
                cwnd_bytes: 1_200_000,
                send_window_bytes: 3_100_000,
                path_mtu: 1450,
                mss: 1398,
                reordering: 3,
            }),
            ..sample.clone()
        })
        .collect();
    (
        result(
            samples,
            Techniques {
                send: String::new(),
                receive: "msg_trunc".to_owned(),
                length: 131_072,
                congestion: Some("cubic".to_owned()),
                ..Techniques::default()
            },
        ),
        result(
            sender_samples,
            Techniques {
                send: "sendfile".to_owned(),
                receive: String::new(),
                length: 131_072,
                congestion: Some("cubic".to_owned()),
                ..Techniques::default()
            },
        ),
    )
}

/// A latency: a floor, a body, and now and then a long tail.
fn latency_nanos(floor: f64, dice: &mut Dice) -> u64 {
    let mut micros = floor * (0.85 + 0.5 * dice.roll() * dice.roll());
    let tail = dice.roll();
    if tail < 0.02 {
        micros *= 1.5 + 2.0 * dice.roll();
    }
    if tail < 0.001 {
        micros += 300.0 * dice.roll() + 40.0;
    }
    (micros * 1000.0) as u64
}

fn trial(case: &Case, block: u32, position: u32, dice: &mut Dice) -> Trial {
    let physics = physics(&case.path);
    let rate = physics.throughput * dice.around(0.03);
    let mut payload = 400_000;
    let (mut throughput, mut sender, mut latency, mut load) = (None, None, None, None);
    if case.workload.throughput.is_some() {
        let (receiver, sending) = transfer(rate, &physics, dice);
        payload = receiver.total_bytes();
        throughput = Some(receiver);
        sender = Some(sending);
    }
    if let Some(parameters) = &case.workload.latency {
        let loaded = parameters.during.is_some();
        if loaded {
            let (receiver, _) = transfer(rate * 0.99, &physics, dice);
            payload = receiver.total_bytes();
            load = Some(receiver);
        }
        let crr = parameters.kind == crate::scenario::LatencyKind::TcpCrr;
        let floor = if loaded { physics.queue } else { physics.rtt } * if crr { 3.4 } else { 1.0 };
        let floor = floor * dice.around(0.03);
        let count = if parameters.rate.is_some() {
            1000
        } else {
            (1e6 / floor) as u64 / 4
        };
        let mut histogram = LatencyHistogram::new().unwrap();
        let mut lag = LatencyHistogram::new().unwrap();
        for _ in 0..count {
            histogram.record(latency_nanos(floor, dice));
            lag.record((4000.0 * dice.around(1.0)) as u64 + 900);
        }
        latency = Some(LatencyResult {
            transactions: count,
            seconds: 1.0,
            latency: histogram,
            send_lag: parameters.rate.map(|_| lag),
            saturated: 0,
            unanswered: 0,
            total_bytes: count * 2,
            peer_address: "10.244.0.2".parse().unwrap(),
            path_mtu: Some(1450),
            mss: Some(1398),
            process_user_seconds: 0.1,
            process_system_seconds: 0.3,
        });
    }
    let busy = physics.cpu * rate / 1000.0 * 2.0 * dice.around(0.05);
    let (raw, verdict) = evidence(case, payload, dice);
    Trial {
        block,
        position,
        case: case.slug.clone(),
        started: jiff::Timestamp::from_second(
            1_795_456_800 + i64::from(block) * 60 + i64::from(position) * 4,
        )
        .unwrap(),
        seconds: 2.71,
        outcome: Outcome::Measured,
        throughput,
        search: Vec::new(),
        sender,
        latency,
        load,
        hops: Vec::new(),
        pairs: Vec::new(),
        probe: None,
        cpu: vec![MachineCpu {
            machine: "3f0c".to_owned(),
            nodes: Vec::new(),
            seconds: 2.0,
            cores: 2,
            cpu: CpuSeconds {
                user: 0.02 * busy,
                system: 0.5 * busy,
                irq: 0.0,
                softirq: 0.48 * busy,
                steal: 0.01,
                idle: (4.0 - busy).max(0.0),
            },
            per_core: vec![
                CpuSeconds {
                    user: 0.02 * busy,
                    softirq: 0.48 * busy,
                    idle: (2.0 - 0.5 * busy).max(0.0),
                    ..CpuSeconds::default()
                },
                CpuSeconds {
                    system: 0.5 * busy,
                    idle: (2.0 - 0.5 * busy).max(0.0),
                    ..CpuSeconds::default()
                },
            ],
        }],
        evidence: raw,
        verdict,
    }
}

pub(super) fn trials(manifest: &Manifest, blocks: u32, seed: u64) -> Vec<Trial> {
    let mut dice = Dice(seed);
    (1..=blocks)
        .flat_map(|block| {
            manifest
                .cases
                .iter()
                .zip(1..)
                .map(|(case, position)| trial(case, block, position, &mut dice))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn verdict(state: GateState, gate: &str, message: &str) -> GateVerdict {
    GateVerdict {
        gate: gate.to_owned(),
        state,
        path: "pod-to-pod CrossSubnet".to_owned(),
        workload: "tcp".to_owned(),
        metric: Some(Metric::Throughput),
        relative_to: Some("node-to-node".to_owned()),
        against_baseline: false,
        expected: "at least 0.9 of node-to-node".to_owned(),
        seen: Some(0.969_123_4),
        interval: Some((0.941, 0.991)),
        trials: 6,
        message: message.to_owned(),
    }
}

pub(super) fn gates() -> GateReport {
    GateReport {
        verdicts: vec![
            verdict(
                GateState::Pass,
                "CrossSubnet is near bare metal",
                "expected at least 0.9 of node-to-node, saw 0.97 (0.94 to 0.99) over 6 blocks",
            ),
            GateVerdict {
                seen: Some(0.24),
                interval: Some((0.23, 0.25)),
                path: "pod-to-pod Always".to_owned(),
                ..verdict(
                    GateState::Fail,
                    "Always is good enough",
                    "expected at least 0.5 of node-to-node, saw 0.24 (0.23 to 0.25) over 6 blocks: look at \
                     tx-udp_tnl-segmentation of eth0",
                )
            },
            GateVerdict {
                seen: None,
                interval: None,
                trials: 0,
                ..verdict(
                    GateState::Inconclusive,
                    "Latency is low",
                    "no interval: 3 blocks, 6 are needed",
                )
            },
            GateVerdict {
                seen: None,
                interval: None,
                trials: 0,
                ..verdict(GateState::Skipped, "Left out", "left out by --only")
            },
        ],
    }
}

/// The run, of `blocks` blocks.
pub(super) fn run(blocks: u32) -> Fixture {
    let manifest = manifest(scenario());
    let trials = trials(&manifest, blocks, 7);
    let mut summary = summarise(&manifest, &trials);
    summary
        .warnings
        .push("pod-to-pod Always / tcp: 1.2 % of CPU time was stolen by the hypervisor".to_owned());
    Fixture {
        manifest,
        trials,
        summary,
        gates: gates(),
    }
}

/// The same run with what can go wrong: trials that failed or were contradicted, a case without any that counts.
pub(super) fn troubled() -> Fixture {
    let mut fixture = run(3);
    for trial in &mut fixture.trials {
        if trial.case == "pod-to-pod-always--tcp" {
            trial.verdict.state = EvidenceState::Contradicted;
            trial.verdict.tunnel_share = Some(0.0);
            trial.verdict.reasons = vec![
                "east-1: the tunnel device carried 0.0 % of the payload, not all of it: packets went unencapsulated"
                    .to_owned(),
            ];
        }
        if trial.case == "pod-to-pod-crosssubnet--rr" && trial.block == 2 {
            trial.outcome = Outcome::Failed {
                error: "worker pod@east-1/CrossSubnet ended: killed".to_owned(),
            };
            trial.latency = None;
        }
    }
    fixture.summary = summarise(&fixture.manifest, &fixture.trials);
    fixture
}

/// The same run with names that attack a spreadsheet, a browser, a terminal and a table.
pub(super) fn hostile() -> Fixture {
    let mut scenario = scenario();
    let rename = |name: &str| match name {
        "node-to-node" => "=HYPERLINK(\"http://evil\",\"x\")".to_owned(),
        "pod-to-pod CrossSubnet" => "<script>alert(1)</script> & \"'".to_owned(),
        "pod-to-pod Always" => "\u{1b}[31mred | ]]> \u{202e}`x` ../../etc".to_owned(),
        other => other.to_owned(),
    };
    scenario.question = Some("<img src=x onerror=alert(2)>{{ 7*7 }}".to_owned());
    for path in &mut scenario.paths {
        path.name = rename(&path.name);
    }
    for reference in &mut scenario.reference {
        reference.path = rename(&reference.path);
    }
    for gate in &mut scenario.gates {
        gate.path = rename(&gate.path);
    }
    scenario.relative_to = scenario.relative_to.as_deref().map(rename);
    let mut manifest = manifest(scenario);
    for (case, number) in manifest.cases.iter_mut().zip(1..) {
        case.slug = format!("case-{number}");
    }
    let trials = trials(&manifest, 6, 7);
    let summary = summarise(&manifest, &trials);
    let mut gates = gates();
    for verdict in &mut gates.verdicts {
        verdict.gate = format!("</testcase><script>{}\u{1b}[2J", verdict.gate);
        verdict.message = format!("<b>{}</b> ]]>", verdict.message);
    }
    Fixture {
        manifest,
        trials,
        summary,
        gates,
    }
}

/// A run of many blocks with little in each trial.
pub(super) fn long(blocks: u32) -> Fixture {
    let mut fixture = many();
    let template = std::mem::take(&mut fixture.trials);
    fixture.manifest.cases.truncate(36);
    let mut dice = Dice(3);
    fixture.trials = (1..=blocks)
        .flat_map(|block| template.iter().take(36).map(move |trial| (block, trial)))
        .map(|(block, trial)| {
            let mut trial = trial.clone();
            trial.block = block;
            for stream in trial.throughput.iter_mut().flat_map(|result| &mut result.streams) {
                stream.samples.truncate(4);
                stream.received_bytes = (stream.received_bytes as f64 * dice.around(0.02)) as u64;
            }
            trial.sender = None;
            trial
        })
        .collect();
    fixture.summary = summarise(&fixture.manifest, &fixture.trials);
    fixture
}

/// A run over every pair of six nodes' pods, of both pools.
pub(super) fn many() -> Fixture {
    let mut scenario = scenario();
    let pair = |from: u32, to: u32, mode| {
        let mut path = scenario.paths[1].clone();
        path.name = format!("pod@east-{from} to pod@east-{to} {mode}");
        path.from = format!("pod@east-{from}").parse().unwrap();
        path.to = format!("pod@east-{to}").parse().unwrap();
        path.vxlan_mode = Some(mode);
        path
    };
    scenario.paths = VxlanMode::ALL
        .into_iter()
        .flat_map(|mode| {
            (1..=6).flat_map(move |from| {
                (1..=6)
                    .filter(move |to| *to != from)
                    .map(move |to| (from, to, mode))
            })
        })
        .map(|(from, to, mode)| pair(from, to, mode))
        .collect();
    scenario.workloads.truncate(1);
    scenario.relative_to = None;
    scenario.reference.clear();
    scenario.gates.clear();
    let mut manifest = manifest(scenario);
    for (case, number) in manifest.cases.iter_mut().zip(1..) {
        case.slug = format!("case-{number}");
    }
    let trials = trials(&manifest, 6, 9);
    let summary = summarise(&manifest, &trials);
    Fixture {
        manifest,
        trials,
        summary,
        gates: GateReport::default(),
    }
}
