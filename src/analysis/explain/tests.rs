use super::super::{
    fixtures::{manifest, throughput},
    summarise,
};
use super::*;
use crate::{
    evidence::{ConnectionSeen, DeviceSeen, Observation, RawEvidence},
    measure::CpuSeconds,
};

fn device(name: &str, role: DeviceRole, bytes: u64, off: &[&str]) -> DeviceSeen {
    let offloads = [
        "tx-checksum-ip-generic",
        "tx-udp_tnl-csum-segmentation",
        "tx-udp_tnl-segmentation",
    ];
    DeviceSeen {
        device: name.to_owned(),
        role,
        rx_bytes: 0,
        tx_bytes: bytes,
        dropped: 0,
        mtu: 1500,
        rp_filter: None,
        offloads: offloads
            .iter()
            .map(|offload| ((*offload).to_owned(), !off.contains(offload)))
            .collect(),
    }
}

/// Evidence of a trial that carried 1 GB by these devices of these nodes.
fn evidence(nodes: &[&str], tunnelled: bool, mtu: u32) -> RawEvidence {
    let observe = |bytes: u64| -> Vec<Observation> {
        nodes
            .iter()
            .map(|node| Observation {
                node: (*node).to_owned(),
                devices: vec![
                    device(
                        "eth0",
                        DeviceRole::Underlay,
                        bytes,
                        &["tx-udp_tnl-csum-segmentation", "tx-udp_tnl-segmentation"],
                    ),
                    device(
                        "vxlan.calico",
                        DeviceRole::Tunnel,
                        if tunnelled { bytes } else { 0 },
                        &["tx-checksum-ip-generic", "tx-udp_tnl-segmentation"],
                    ),
                ],
                routes: Vec::new(),
            })
            .collect()
    };
    RawEvidence {
        before: observe(0),
        after: observe(1_000_000_000),
        connections: vec![ConnectionSeen {
            source: "10.0.0.1".parse().unwrap(),
            expected_source: "10.0.0.1".parse().unwrap(),
            mss: None,
            path_mtu: Some(mtu),
        }],
        payload_bytes: 1_000_000_000,
        ..RawEvidence::default()
    }
}

fn core(busy: f64, softirq: f64) -> CpuSeconds {
    CpuSeconds {
        system: busy - softirq,
        softirq,
        idle: 1.0 - busy,
        ..CpuSeconds::default()
    }
}

fn of_path(block: u32, path: &str, rate: f64, evidence: RawEvidence, core: CpuSeconds) -> Trial {
    let mut trial = throughput(block, path, rate + f64::from(block));
    trial.evidence = evidence;
    trial.cpu[0].per_core = vec![CpuSeconds::default(), core];
    trial
}

fn told(trials: &[Trial]) -> Vec<(String, Vec<Fact>)> {
    let manifest = manifest(None);
    let summary = summarise(&manifest, trials);
    explain(&manifest, trials, &summary)
        .into_iter()
        .map(|explanation| (explanation.path, explanation.facts))
        .collect()
}

#[test]
fn a_slow_tunnel_is_explained_by_what_was_seen_of_it_alone() {
    let mut trials = Vec::new();
    for block in 1..=6 {
        trials.push(of_path(
            block,
            "node-to-node",
            1000.0,
            evidence(&["east-1", "east-2"], false, 1500),
            core(0.4, 0.2),
        ));
        let mut slow = of_path(
            block,
            "Always",
            200.0,
            evidence(&["east-1", "gate", "east-2"], true, 1450),
            core(0.97, 0.8),
        );
        slow.throughput.as_mut().unwrap().streams[0].retransmits = Some(300);
        slow.sender = slow.throughput.clone();
        slow.sender.as_mut().unwrap().process_system_seconds = 1.95;
        trials.push(slow);
    }
    let told = told(&trials);
    assert_eq!(told.len(), 1, "only the slower path");
    let (path, facts) = &told[0];
    assert_eq!(path, "Always");
    let lines: Vec<String> = facts
        .iter()
        .map(|fact| format!("{:?}: {}", fact.kind, fact.text))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn nothing_is_told_of_a_path_that_is_not_surely_slower_or_where_nothing_differs() {
    let same = |rate: f64| {
        let mut trials = Vec::new();
        for block in 1..=6 {
            for (path, rate) in [("node-to-node", 1000.0), ("CrossSubnet", rate)] {
                let seen = evidence(&["east-1", "east-2"], false, 1450);
                trials.push(of_path(block, path, rate, seen, core(0.95, 0.8)));
            }
        }
        told(&trials)
    };
    assert!(same(1005.0).is_empty());
    let slower = same(500.0);
    assert_eq!(slower.len(), 1);
    // Its CPU cost is more, since the same time was spent on less; nothing else differs.
    let kinds: Vec<FactKind> = slower[0].1.iter().map(|fact| fact.kind).collect();
    assert_eq!(kinds, [FactKind::CpuCost]);
}

#[test]
fn without_evidence_or_cores_nothing_is_made_up() {
    let mut trials = Vec::new();
    for block in 1..=6 {
        for (path, rate) in [("node-to-node", 1000.0), ("Always", 500.0)] {
            let mut trial = throughput(block, path, rate + f64::from(block));
            trial.cpu.clear();
            trials.push(trial);
        }
    }
    let told = told(&trials);
    assert_eq!(told.len(), 1);
    assert!(told[0].1.is_empty(), "{:?}", told[0].1);
}
