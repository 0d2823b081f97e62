//! What clusters should be, for the doctor: from what the API says, and from the addresses that pods were given.

use super::{
    coordinated::{CABLES, VX_SUBMARINER},
    objects::PodPlan,
};
use crate::{
    evidence::{BlockSetup, ClusterSetup, NodeSetup, PodSetup, Setup, SubmarinerSetup, TunnelSetup},
    scenario::{ClusterFacts, Place, Resolved, ResolvedNode, SubmarinerFacts},
    units::Cidr4,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

/// What Calico's tunnel is where FelixConfiguration says nothing else (`vxlanVNI`, `vxlanPort`).
const VNI: u32 = 4096;
const PORT: u16 = 4789;
/// The port of Submariner's cables where the endpoint says no other.
const CABLE_PORT: u16 = 4500;

/// The set-up of all clusters, as far as pods of ours are there to look.
pub(super) fn setup(
    facts: &[ClusterFacts],
    resolved: &Resolved,
    pods: &[PodPlan],
    addresses: &HashMap<Place, IpAddr>,
) -> Setup {
    let mut setup = Setup::default();
    for facts in facts {
        let name = &facts.name;
        if facts.calico.is_none() {
            setup.left_out.push(format!(
                "cluster {name}: {}, and the checks are of Calico's VXLAN",
                facts.no_calico.as_deref().unwrap_or("it has no Calico")
            ));
        }
        if let Some(why) = &facts.no_submariner {
            setup.left_out.push(format!("Submariner of {name}: {why}"));
        }
        let nodes = resolved
            .nodes
            .iter()
            .filter(|node| node.cluster == *name)
            .filter(|node| pods.iter().any(|pod| pod.place == Place::Node(node.name.clone())))
            .map(|node| node_setup(facts, node, pods, addresses))
            .collect();
        setup.clusters.push(ClusterSetup {
            name: name.clone(),
            cidrs: own_ranges(facts),
            tunnel: tunnel(facts),
            nodes,
            submariner: facts
                .submariner
                .as_ref()
                .and_then(|submariner| submariner_setup(submariner, facts, resolved, &mut setup.left_out)),
        });
    }
    setup
}

fn tunnel(facts: &ClusterFacts) -> TunnelSetup {
    let felix = facts.calico.as_ref().map(|calico| &calico.felix);
    let text = |key: &str| felix.and_then(|felix| felix.get(key));
    TunnelSetup {
        device: super::coordinated::TUNNEL.to_owned(),
        vni: text("vxlanVNI").and_then(|text| text.parse().ok()).unwrap_or(VNI),
        port: text("vxlanPort")
            .and_then(|text| text.parse().ok())
            .unwrap_or(PORT),
    }
}

/// What other clusters route to this one: what Submariner tells of it, else its pools.
fn own_ranges(facts: &ClusterFacts) -> Vec<Cidr4> {
    let told = facts.submariner.as_ref().map(|submariner| {
        submariner
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.cluster_id == submariner.cluster_id)
            .flat_map(|endpoint| endpoint.subnets.clone())
            .collect::<Vec<_>>()
    });
    told.filter(|told| !told.is_empty()).unwrap_or_else(|| {
        let pools = facts.calico.iter().flat_map(|calico| &calico.pools);
        pools
            .filter(|pool| !pool.disabled && !pool.of_submariner)
            .map(|pool| pool.cidr)
            .collect()
    })
}

fn node_setup(
    facts: &ClusterFacts,
    node: &ResolvedNode,
    pods: &[PodPlan],
    addresses: &HashMap<Place, IpAddr>,
) -> NodeSetup {
    let address = |place: &Place| match addresses.get(place) {
        Some(IpAddr::V4(address)) => Some(*address),
        _ => None,
    };
    let pods: Vec<PodSetup> = pods
        .iter()
        .filter(|pod| pod.place.is_pod() && pod.place.node() == node.name)
        .filter_map(|pod| {
            Some(PodSetup {
                place: pod.place.clone(),
                address: address(&pod.place)?,
                host_device: String::new(),
            })
        })
        .collect();
    // Calico gives a node's pods addresses of the node's own blocks.
    let blocks: BTreeMap<Cidr4, BlockSetup> = pods
        .iter()
        .filter_map(|pod| block(facts, pod.address))
        .map(|block| (block.cidr, block))
        .collect();
    NodeSetup {
        name: node.name.clone(),
        address: node.address,
        subnet: Some(node.subnet),
        router: None,
        blocks: blocks.into_values().collect(),
        pods,
    }
}

/// The block that an address is of.
fn block(facts: &ClusterFacts, address: Ipv4Addr) -> Option<BlockSetup> {
    let pools = &facts.calico.as_ref()?.pools;
    let pool = pools.iter().find(|pool| pool.cidr.contains(address))?;
    let mask = u32::MAX
        .checked_shl(32_u32.checked_sub(u32::from(pool.block_size))?)
        .unwrap_or(0);
    Some(BlockSetup {
        cidr: Cidr4::new(Ipv4Addr::from_bits(address.to_bits() & mask), pool.block_size)?,
        mode: pool.vxlan_mode,
    })
}

/// `None` where it has no active gateway that a pod of ours is on: then its checks have nothing to stand on.
fn submariner_setup(
    submariner: &SubmarinerFacts,
    facts: &ClusterFacts,
    resolved: &Resolved,
    left_out: &mut Vec<String>,
) -> Option<SubmarinerSetup> {
    let active = submariner.active()?;
    let Some(gateway) = resolved
        .nodes
        .iter()
        .find(|node| node.cluster == facts.name && node.node == active.node)
    else {
        left_out.push(format!(
            "Submariner of {}: nothing looks into its gateway {}, so its routes and tunnels are not judged",
            facts.name, active.node
        ));
        return None;
    };
    let port = submariner
        .endpoints
        .iter()
        .find(|endpoint| endpoint.cluster_id == submariner.cluster_id)
        .and_then(|endpoint| endpoint.port)
        .unwrap_or(CABLE_PORT);
    let device = match active.cable.as_str() {
        "vxlan" => CABLES[0],
        "wireguard" => CABLES[1],
        _ => "",
    };
    Some(SubmarinerSetup {
        gateway: gateway.name.clone(),
        tunnel: TunnelSetup {
            device: VX_SUBMARINER.to_owned(),
            vni: 100,
            port: 4800,
        },
        host_table: 150,
        cable: active.cable.clone(),
        cable_port: port,
        cable_device: device.to_owned(),
        cable_tunnel: (active.cable == "vxlan").then(|| TunnelSetup {
            device: device.to_owned(),
            vni: 1000,
            port,
        }),
        remote: submariner.remote_cidrs(),
    })
}
