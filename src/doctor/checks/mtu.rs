//! MTUs: that a tunnel's fits into its uplink's, and that packets as large as the kernel takes a path to carry get
//! through (preflight list, 8).

use crate::doctor::examination::{Examination, NodeView, ProbeResult};
use crate::doctor::fib;
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::LinkSeen;
use crate::scenario::Place;
use crate::units::Mtu;
use std::collections::{BTreeMap, BTreeSet};

/// What VXLAN adds, over IPv4.
const OVERHEAD: u32 = Mtu::VXLAN_OVERHEAD as u32;

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    // A device that is narrower than its like, and eats packets for that: one cause, one finding.
    let told = black_holes(case, findings);
    let narrow = narrow(case);
    for view in case
        .nodes()
        .filter(|view| !told.contains(view.node.name.as_str()))
    {
        fits(case, &view, findings);
        for device in narrow
            .iter()
            .filter(|device| device.node == view.node.name && device.joins_clusters)
        {
            findings.push(
                Finding::new(
                    "mtu",
                    Severity::Warning,
                    device.node,
                    format!("{} carries less than its peers", device.name),
                )
                .seen(device.text())
                .why("packets between clusters must be smaller than elsewhere, and each connection has to find that out")
                .remedy(device.remedy())
                .verify(has_mtu(device.name, device.usual)),
            );
        }
    }
}

/// A device with a smaller MTU than the like of it on other nodes.
struct Narrow<'a> {
    node: &'a str,
    name: &'a str,
    mtu: u32,
    /// That of the others.
    usual: u32,
    /// Whether it is one of Submariner's.
    joins_clusters: bool,
}

impl Narrow<'_> {
    fn text(&self) -> String {
        format!(
            "{} of {}: MTU {}, elsewhere {}",
            self.name, self.node, self.mtu, self.usual
        )
    }

    fn remedy(&self) -> String {
        format!("ip link set dev {} mtu {}", self.name, self.usual)
    }
}

fn narrow(case: &Examination) -> Vec<Narrow<'_>> {
    // What is like what: a cluster's uplinks and tunnels, and the cables.
    let mut alike: BTreeMap<String, Vec<(NodeView<'_>, &LinkSeen, bool)>> = BTreeMap::new();
    for view in case.nodes() {
        let cluster = view.cluster.name.as_str();
        let mut add = |what: String, link, joins| {
            if let Some(link) = link {
                alike.entry(what).or_default().push((view, link, joins));
            }
        };
        add(format!("uplink {cluster}"), view.uplink(), false);
        add(format!("tunnel {cluster}"), view.tunnel(), false);
        if let Some(submariner) = &view.cluster.submariner {
            let link = view.seen.link(&submariner.tunnel.device);
            add(format!("submariner {cluster}"), link, true);
            if let Some(cable) = &submariner.cable_tunnel {
                add("cable".to_owned(), view.seen.link(&cable.device), true);
            }
        }
    }
    let mut found = Vec::new();
    for links in alike.into_values() {
        let usual = links.iter().map(|(_, link, _)| link.mtu).max().unwrap_or(0);
        found.extend(links.into_iter().filter(|(_, link, _)| link.mtu < usual).map(
            |(view, link, joins_clusters)| Narrow {
                node: &view.node.name,
                name: &link.name,
                mtu: link.mtu,
                usual,
                joins_clusters,
            },
        ));
    }
    found
}

/// The MTU that is set on each device against what is below it.
fn fits(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let (Some(uplink), Some(tunnel)) = (view.uplink(), view.tunnel()) else {
        return;
    };
    let room = uplink.mtu.saturating_sub(OVERHEAD);
    if tunnel.mtu > room {
        findings.push(
            Finding::new(
                "mtu",
                Severity::Error,
                &view.node.name,
                format!("{} takes packets that don't fit into {}", tunnel.name, uplink.name),
            )
            .seen(format!(
                "{}: MTU {}; {}: MTU {}, less {OVERHEAD} for VXLAN: {room}",
                tunnel.name, tunnel.mtu, uplink.name, uplink.mtu
            ))
            .why("encapsulated packets of full size are fragmented or dropped")
            .remedy(format!("ip link set dev {} mtu {room}", tunnel.name))
            .on_a_cluster(format!(
                "kubectl patch felixconfiguration default --type merge -p '{{\"spec\":{{\"vxlanMTU\":{room}}}}}'"
            ))
            .verify(has_mtu(&tunnel.name, room)),
        );
    }
    for pod in &view.node.pods {
        let Some(seen) = case.inspections.get(&pod.place) else {
            continue;
        };
        let Some(link) = seen.link_with(pod.address) else {
            continue;
        };
        if link.mtu > tunnel.mtu {
            let name = pod.place.to_string();
            let mut finding = Finding::new(
                    "mtu",
                    Severity::Warning,
                    &name,
                    "the pod's MTU is above its node's tunnel's",
                )
                .seen(format!(
                    "{} of {name}: MTU {}; {} of {}: MTU {}",
                    link.name, link.mtu, tunnel.name, view.node.name, tunnel.mtu
                ))
                .why(
                    "each connection loses its first full packets until the node's ICMP has taught it the smaller size; \
                     a pod keeps the MTU that it was made with",
                )
                .remedy(format!("ip link set dev {} mtu {}", link.name, tunnel.mtu))
                .on_a_cluster("# make the pods anew: kubectl rollout restart deployment NAME")
                .verify(has_mtu(&link.name, tunnel.mtu));
            // Its other end too, so that the node says what is too long for the pod.
            if !pod.host_device.is_empty() {
                finding = finding.remedy_at(
                    &view.node.name,
                    format!("ip link set dev {} mtu {}", pod.host_device, tunnel.mtu),
                );
            }
            findings.push(finding);
        }
    }
}

/// A command that succeeds if a device has an MTU. /sys would show another namespace's devices.
fn has_mtu(device: &str, mtu: u32) -> String {
    format!("ip -o link show dev {device} | grep -q ' mtu {mtu} '")
}

/// Whether what `probe` sends leaves its node encapsulated.
fn is_tunnelled(case: &Examination, probe: &ProbeResult) -> bool {
    let (Some(view), Some(to)) = (case.node(probe.from.node()), case.setup.address(&probe.to)) else {
        return false;
    };
    let from = case.setup.address(&probe.from);
    fib::look_up(
        view.seen,
        &fib::Packet {
            from,
            to,
            input: None,
        },
    )
    .device()
    .is_some_and(|device| view.seen.link(device).is_some_and(|link| link.vxlan.is_some()))
}

/// Packets that are lost for their size, without a word. Gives the nodes whose devices are too narrow.
fn black_holes<'a>(case: &'a Examination, findings: &mut Vec<Finding>) -> BTreeSet<&'a str> {
    let lost: Vec<&ProbeResult> = case
        .probes
        .iter()
        .filter(|probe| probe.seen.datagram && probe.seen.believed_mtu.is_some())
        .filter(|probe| probe.seen.passing_mtu.unwrap_or(0) < probe.seen.believed_mtu.unwrap_or(0))
        .collect();
    // By cluster: each has its own links.
    let mut by_cluster: BTreeMap<Vec<&str>, Vec<&ProbeResult>> = BTreeMap::new();
    for probe in lost {
        let mut clusters: Vec<&str> = [&probe.from, &probe.to]
            .iter()
            .filter_map(|place| case.setup.node(place.node()))
            .map(|(cluster, _)| cluster.name.as_str())
            .collect();
        clusters.sort_unstable();
        clusters.dedup();
        by_cluster.entry(clusters).or_default().push(probe);
    }
    // A path between clusters runs over links of both: what is wrong within one explains it.
    let mut told = BTreeSet::new();
    let within: BTreeSet<&str> = by_cluster
        .keys()
        .filter(|clusters| clusters.len() == 1)
        .flatten()
        .copied()
        .collect();
    for (clusters, probes) in &by_cluster {
        if clusters.len() > 1 && clusters.iter().any(|cluster| within.contains(cluster)) {
            continue;
        }
        let on_the_way: Vec<Narrow<'a>> = narrow(case)
            .into_iter()
            .filter(|device| {
                probes
                    .iter()
                    .any(|probe| case.nodes_of(probe).contains(&device.node))
            })
            .collect();
        if on_the_way.is_empty() {
            findings.push(black_hole(case, clusters, probes));
        }
        let mut by_node: BTreeMap<&'a str, Vec<Narrow<'a>>> = BTreeMap::new();
        for device in on_the_way {
            by_node.entry(device.node).or_default().push(device);
        }
        for (node, devices) in by_node {
            told.insert(node);
            findings.push(bottleneck(node, &devices, probes));
        }
    }
    told
}

const EATEN: &str = "packets of full size are lost on the way, and no ICMP says so";

/// What was lost.
fn losses(mut finding: Finding, probes: &[&ProbeResult]) -> Finding {
    for probe in probes.iter().take(4) {
        finding = finding.seen(format!(
            "{}: the kernel takes the path to carry {} bytes, {} get through (DF set)",
            probe.path(),
            probe.seen.believed_mtu.unwrap_or(0),
            probe
                .seen
                .passing_mtu
                .map_or_else(|| "not even 576".to_owned(), |mtu| format!("at most {mtu}"))
        ));
    }
    if probes.len() > 4 {
        finding = finding.seen(format!("and {} more paths", probes.len() - 4));
    }
    finding
}

/// Devices of a node that carry less than their like.
fn bottleneck(node: &str, devices: &[Narrow<'_>], probes: &[&ProbeResult]) -> Finding {
    let mut finding = Finding::new("mtu-black-hole", Severity::Error, node, EATEN);
    for device in devices {
        finding = finding
            .seen(device.text())
            .remedy(device.remedy())
            .verify(has_mtu(device.name, device.usual));
    }
    losses(finding, probes).why(
        "small requests work and large answers hang: this device carries less than those before it, and the ICMP \
         \"fragmentation needed\" that would say so is not sent or is filtered",
    )
}

fn black_hole(case: &Examination, clusters: &[&str], probes: &[&ProbeResult]) -> Finding {
    let pairs: Vec<[&str; 2]> = probes
        .iter()
        .map(|probe| [probe.from.node(), probe.to.node()])
        .collect();
    let on_all = |has: &dyn Fn(&ProbeResult, &str) -> bool| -> Vec<&str> {
        case.setup
            .nodes()
            .map(|(_, node)| node.name.as_str())
            .filter(|node| probes.iter().all(|probe| has(probe, node)))
            .collect()
    };
    // An end that all have in common, else the gateways between.
    let mut common = on_all(&|probe, node| [probe.from.node(), probe.to.node()].contains(&node));
    if common.is_empty() {
        common = on_all(&|probe, node| case.nodes_of(probe).contains(&node));
    }
    let place = match common.as_slice() {
        [] => {
            let all: BTreeSet<&str> = pairs.iter().flatten().copied().collect();
            all.into_iter().collect::<Vec<_>>().join(" <-> ")
        }
        common => common.join(" <-> "),
    };
    // What an uplink's packet may have: an encapsulated one is larger than its inside.
    let carries = probes
        .iter()
        .filter_map(|probe| {
            let passes = probe.seen.passing_mtu?;
            Some(if is_tunnelled(case, probe) {
                passes + OVERHEAD
            } else {
                passes
            })
        })
        .min();
    let mut finding = losses(
        Finding::new("mtu-black-hole", Severity::Error, &place, EATEN),
        probes,
    );
    finding = finding.why(
        "small requests work and large answers hang: a link on the way carries less than the nodes' MTU, and the ICMP \
         \"fragmentation needed\" that would say so is not sent or is filtered",
    );
    let Some(carries) = carries else {
        return finding;
    };
    let inside = carries.saturating_sub(OVERHEAD);
    for view in case
        .nodes()
        .filter(|view| clusters.contains(&view.cluster.name.as_str()))
    {
        let name = view.node.name.as_str();
        if let Some(uplink) = view.uplink().filter(|link| link.mtu > carries) {
            finding = finding
                .remedy_at(name, format!("ip link set dev {} mtu {carries}", uplink.name))
                .verify_at(name, has_mtu(&uplink.name, carries));
        }
        let mut inner: Vec<&str> = view.tunnel().map(|link| link.name.as_str()).into_iter().collect();
        if let Some(submariner) = &view.cluster.submariner {
            inner.push(submariner.tunnel.device.as_str());
            inner.extend(
                submariner
                    .cable_tunnel
                    .as_ref()
                    .map(|tunnel| tunnel.device.as_str()),
            );
        }
        inner.extend(view.node.pods.iter().map(|pod| pod.host_device.as_str()));
        for device in inner {
            if view.seen.link(device).is_some_and(|link| link.mtu > inside) {
                finding = finding.remedy_at(name, format!("ip link set dev {device} mtu {inside}"));
            }
        }
        for pod in &view.node.pods {
            let link = case
                .inspections
                .get(&pod.place)
                .and_then(|seen| seen.link_with(pod.address));
            if let Some(link) = link.filter(|link| link.mtu > inside) {
                finding = finding.remedy_at(
                    &pod.place.to_string(),
                    format!("ip link set dev {} mtu {inside}", link.name),
                );
            }
        }
    }
    let probe = probes.iter().find_map(|probe| {
        let to = case.setup.address(&probe.to)?;
        Some((probe.from.to_string(), to, matches!(probe.from, Place::Node(_))))
    });
    if let Some((from, to, is_node)) = probe {
        let size = if is_node { carries } else { inside }.saturating_sub(28);
        finding = finding.on_a_cluster(format!(
            "# better than all of these: let the link carry the nodes' MTU, or let ICMP type 3 code 4 through; to see it: \
             ping -M do -s {size} {to}  # from {from}"
        ));
    }
    finding.on_a_cluster(format!(
        "kubectl patch felixconfiguration default --type merge -p '{{\"spec\":{{\"vxlanMTU\":{inside}}}}}'  # for new pods"
    ))
}
