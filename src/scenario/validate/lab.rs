//! The lab: names, and ranges of addresses that don't get into each other's way.

use super::{Problems, empty, name_fault};
use crate::{
    scenario::{Calico, Cluster, Fabric, NicProfile, Overlay, Scenario, VxlanMode, problem::Step},
    units::{Bytes, Cidr4, Mtu},
};
use std::{collections::BTreeSet, time::Duration};

/// Ranges that no lab may use: this network, loopback (RFC 1122), link-local (RFC 3927; pods have their gateway
/// there), multicast and reserved (RFC 5771, RFC 1112).
const RESERVED: [(&str, &str); 4] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local, the gateway of every pod is there"),
    ("224.0.0.0/3", "multicast and reserved"),
];

/// The least MTU inside a tunnel: what every host must take (RFC 791).
const LEAST_INSIDE: u16 = 576;

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    let Fabric::Lab(lab) = &scenario.fabric else {
        return;
    };
    let root: [Step; 2] = ["fabric".into(), "lab".into()];
    nic(&lab.nic, &extend(&root, &["nic".into()]), problems);
    let clusters = extend(&root, &["clusters".into()]);
    if lab.clusters.is_empty() {
        problems.say(&clusters, empty("clusters"), None);
    }
    if lab.submariner.is_some() && lab.clusters.len() == 1 {
        problems.say(
            &extend(&root, &["submariner".into()]),
            "Submariner joins clusters, and there is one only",
            "add a second cluster, or leave `submariner` out".to_owned(),
        );
    }
    for (index, spec) in lab.clusters.iter().enumerate() {
        if lab.submariner.is_some() && spec.calico.encapsulation != Overlay::Vxlan {
            problems.say(
                &extend(&clusters, &[index.into(), "calico".into(), "encapsulation".into()]),
                "clusters that Submariner joins have Calico's VXLAN here: with others nobody has validated it",
                "leave `encapsulation` out, or put this cluster into a scenario without `submariner`".to_owned(),
            );
        }
    }
    let mut names = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    let mut ranges = Vec::new();
    for (index, spec) in lab.clusters.iter().enumerate() {
        let at = extend(&clusters, &[index.into()]);
        let at_name = extend(&at, &["name".into()]);
        if let Some(fault) = name_fault(&spec.name) {
            problems.say(&at_name, format!("a cluster's name {fault}"), None);
        }
        if !names.insert(spec.name.as_str()) {
            problems.say(
                &at_name,
                format!("another cluster is named `{}` too", spec.name),
                None,
            );
        }
        cluster(spec, &at, &mut nodes, &mut ranges, problems);
        named_nodes(spec, lab.submariner.is_some(), &at, problems);
    }
    overlaps(&ranges, problems);
    super::faults::check(lab, &root, problems);
}

fn extend(at: &[Step], more: &[Step]) -> Vec<Step> {
    [at, more].concat()
}

fn nic(nic: &NicProfile, at: &[Step], problems: &mut Problems) {
    if nic.mtu.inside_vxlan() < LEAST_INSIDE {
        problems.say(
            &extend(at, &["mtu".into()]),
            format!(
                "an MTU of {} leaves {} bytes inside VXLAN, where {LEAST_INSIDE} are needed: at least {}",
                nic.mtu,
                nic.mtu.inside_vxlan(),
                LEAST_INSIDE + Mtu::VXLAN_OVERHEAD
            ),
            None,
        );
    }
    if nic.rate.is_none() {
        return;
    }
    // With their Ethernet headers; the kernel rounds a burst down by some bytes, so one packet would be too tight.
    let least = Bytes(2 * (u64::from(nic.mtu.get()) + 14));
    if nic.burst < least || nic.burst.get() > u64::from(u32::MAX) {
        problems.say(
            &extend(at, &["burst".into()]),
            format!(
                "burst must be from {least}, two packets of an MTU of {}, to 4GiB, not {}: tbf drops what is larger \
                 than the burst",
                nic.mtu, nic.burst
            ),
            "256KiB is the default".to_owned(),
        );
    }
    problems.span(
        &extend(at, &["queue".into()]),
        "queue",
        nic.queue,
        Duration::from_micros(1),
        Duration::from_secs(10),
    );
}

/// A range of addresses, what it is for, and where the file says so.
struct Range {
    cidr: Cidr4,
    what: String,
    at: Vec<Step>,
}

fn cluster<'a>(
    spec: &'a Cluster,
    at: &[Step],
    nodes: &mut BTreeSet<&'a str>,
    ranges: &mut Vec<Range>,
    problems: &mut Problems,
) {
    let at_subnets = extend(at, &["subnets".into()]);
    if spec.subnets.is_empty() {
        problems.say(&at_subnets, empty("subnets"), None);
    }
    for (index, subnet) in spec.subnets.iter().enumerate() {
        let at = extend(&at_subnets, &[index.into()]);
        let at_nodes = extend(&at, &["nodes".into()]);
        if subnet.nodes.is_empty() {
            problems.say(&at_nodes, empty("nodes"), None);
        }
        for (index, node) in subnet.nodes.iter().enumerate() {
            let at = extend(&at_nodes, &[index.into()]);
            if let Some(fault) = name_fault(node) {
                problems.say(&at, format!("a node's name {fault}"), None);
            }
            if !nodes.insert(node) {
                problems.say(&at, format!("another node is named `{node}` too"), {
                    "nodes are named uniquely over all clusters".to_owned()
                });
            }
        }
        let Some(cidr) = subnet.cidr else { continue };
        let at = extend(&at, &["cidr".into()]);
        // First and last address are no host's, and the router has one.
        let room = cidr.addresses().saturating_sub(3);
        if room < subnet.nodes.len() as u64 {
            problems.say(
                &at,
                format!(
                    "{cidr} has room for {room} beside its router, but {} nodes are here",
                    subnet.nodes.len()
                ),
                wider(cidr, subnet.nodes.len() as u64 + 3),
            );
        }
        ranges.push(Range {
            cidr,
            what: format!("subnet {} of cluster `{}`", index + 1, spec.name),
            at,
        });
    }
    calico(spec, &extend(at, &["calico".into()]), ranges, problems);
    if let Some(firewall) = &spec.firewall {
        problems.number(
            &extend(at, &["firewall".into(), "rules".into()]),
            "rules",
            u64::from(firewall.rules),
            0..=10_000,
        );
    }
}

/// The nodes that a cluster's settings name.
fn named_nodes(spec: &Cluster, submariner: bool, at: &[Step], problems: &mut Problems) {
    let nodes: Vec<&str> = spec.nodes().collect();
    let what = format!("node of cluster `{}`", spec.name);
    if let Some(gateway) = &spec.gateway {
        let at = extend(at, &["gateway".into()]);
        if problems.known(&at, &what, "nodes", gateway, &nodes) && !submariner {
            problems.say(
                &at,
                "a gateway is Submariner's, and the lab has no `submariner`",
                "add `submariner: { cable: vxlan }` to the lab, or leave `gateway` out".to_owned(),
            );
        }
    }
    for node in spec.rp_filter_of.keys() {
        problems.known(
            &extend(at, &["rp-filter-of".into()]),
            &what,
            "nodes",
            node,
            &nodes,
        );
    }
}

fn calico(spec: &Cluster, at: &[Step], ranges: &mut Vec<Range>, problems: &mut Problems) {
    let Calico {
        block_size,
        cross_subnet_pool,
        always_pool,
        ..
    } = &spec.calico;
    if !(20..=30).contains(block_size) {
        problems.say(
            &extend(at, &["block-size".into()]),
            format!("block-size is the prefix length of a node's block: from 20 to 30, not {block_size}"),
            "Calico's default is 26".to_owned(),
        );
        return;
    }
    let nodes: usize = spec.subnets.iter().map(|subnet| subnet.nodes.len()).sum();
    for (mode, key, pool) in [
        (VxlanMode::CrossSubnet, "cross-subnet-pool", cross_subnet_pool),
        (VxlanMode::Always, "always-pool", always_pool),
    ] {
        let Some(pool) = *pool else { continue };
        let at = extend(at, &[key.into()]);
        let blocks = pool.blocks(*block_size);
        if blocks < nodes as u64 {
            problems.say(
                &at,
                format!(
                    "{pool} has {blocks} blocks of /{block_size}, but each of the {nodes} nodes needs one"
                ),
                wider(pool, nodes as u64 * (1 << (32 - block_size))),
            );
        }
        ranges.push(Range {
            cidr: pool,
            what: format!("the {mode} pool of cluster `{}`", spec.name),
            at,
        });
    }
}

/// "use a /25 or wider", for `addresses`.
fn wider(cidr: Cidr4, addresses: u64) -> Option<String> {
    let prefix = 32_u32.checked_sub(addresses.next_power_of_two().ilog2())?;
    (prefix < u32::from(cidr.prefix())).then(|| format!("use a /{prefix} or wider"))
}

fn overlaps(ranges: &[Range], problems: &mut Problems) {
    for (index, range) in ranges.iter().enumerate() {
        for (reserved, why) in RESERVED {
            if reserved
                .parse::<Cidr4>()
                .is_ok_and(|reserved| reserved.overlaps(range.cidr))
            {
                problems.say(
                    &range.at,
                    format!("{} overlaps {reserved} ({why})", range.cidr),
                    "take one of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16".to_owned(),
                );
            }
        }
        for other in &ranges[..index] {
            if other.cidr.overlaps(range.cidr) {
                problems.say(
                    &range.at,
                    format!("{} overlaps {}, which is {}", range.cidr, other.cidr, other.what),
                    "take ranges apart, or leave them out: encapbench then chooses".to_owned(),
                );
            }
        }
    }
}
