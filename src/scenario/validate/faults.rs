//! Faults: that their nodes are there, and that they can be made.

use super::Problems;
use crate::scenario::{Fault, Lab, problem::Step};
use crate::units::Mtu;

pub(super) fn check(lab: &Lab, root: &[Step], problems: &mut Problems) {
    let nodes: Vec<&str> = lab
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.subnets)
        .flat_map(|subnet| &subnet.nodes)
        .map(String::as_str)
        .collect();
    let cluster = |node: &str| {
        lab.clusters.iter().position(|cluster| {
            cluster
                .subnets
                .iter()
                .any(|subnet| subnet.nodes.iter().any(|own| own == node))
        })
    };
    for (index, fault) in lab.faults.iter().enumerate() {
        let at = |key: &'static str| {
            [
                root,
                &["faults".into(), index.into(), fault.name().into(), key.into()],
            ]
            .concat()
        };
        problems.known(&at("node"), "node", "nodes", fault.node(), &nodes);
        if let Some(peer) = fault.peer()
            && problems.known(&at("peer"), "node", "nodes", peer, &nodes)
        {
            if peer == fault.node() {
                problems.say(
                    &at("peer"),
                    "a node has no such entry for itself",
                    "name another node".to_owned(),
                );
            } else if cluster(peer) != cluster(fault.node()) {
                problems.say(
                    &at("peer"),
                    format!("`{}` and `{peer}` are in different clusters, whose nodes have no entries for each other", fault.node()),
                    None,
                );
            }
        }
        let is_gateway = lab
            .clusters
            .iter()
            .any(|cluster| cluster.gateway_node() == Some(fault.node()));
        match fault {
            Fault::RemoteRoute { .. } | Fault::HostTable { .. } if lab.submariner.is_none() => problems.say(
                &at("node"),
                "the lab has no Submariner whose routes could be broken",
                "add `submariner: { cable: vxlan }` to the lab".to_owned(),
            ),
            Fault::RemoteRoute { .. } if is_gateway => problems.say(
                &at("node"),
                format!(
                    "`{}` is a gateway: these routes are those of the other nodes",
                    fault.node()
                ),
                None,
            ),
            Fault::HostTable { .. } if nodes.contains(&fault.node()) && !is_gateway => problems.say(
                &at("node"),
                format!("`{}` is no gateway, and has no such table", fault.node()),
                None,
            ),
            Fault::UdpBlocked { port: 0, .. } => {
                problems.say(&at("port"), "port must be from 1 to 65535, not 0", None);
            }
            Fault::RuleLoad { rules, .. } => {
                problems.number(&at("rules"), "rules", u64::from(*rules), 1..=10_000);
            }
            Fault::MtuBlackHole { mtu, .. } if mtu.get() >= lab.nic.mtu.get() || mtu.get() < 576 => {
                problems.say(
                    &at("mtu"),
                    format!(
                        "the link's MTU must be from 576 to below the NIC's, {}, not {mtu}",
                        lab.nic.mtu
                    ),
                    format!(
                        "for instance {}",
                        lab.nic.mtu.get().saturating_sub(2 * Mtu::VXLAN_OVERHEAD).max(576)
                    ),
                );
            }
            _ => {}
        }
    }
}
