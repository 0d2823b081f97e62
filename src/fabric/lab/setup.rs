//! What a planned lab should be, for the doctor: as if it had no faults.

use super::topology::{NodePlan, Topology};
use super::{
    CABLE_PORT, HOST_TABLE, Made, TUNNEL, VNI, VX_SUBMARINER, VX_SUBMARINER_PORT, VX_SUBMARINER_VNI,
    VXLAN_CABLE, VXLAN_CABLE_VNI, VXLAN_PORT, cable_device,
};
use crate::evidence::{BlockSetup, ClusterSetup, NodeSetup, PodSetup, Setup, SubmarinerSetup, TunnelSetup};
use crate::scenario::{Cable, Overlay, VxlanMode};

/// The set-up of `topology`, with its cable made in that way.
pub(super) fn setup(topology: &Topology, made: Option<&Made>) -> Setup {
    // What Calico does with other encapsulations has no checks.
    let (known, others): (Vec<_>, Vec<_>) = topology
        .overlays
        .iter()
        .enumerate()
        .partition(|(_, overlay)| **overlay == Overlay::Vxlan);
    Setup {
        clusters: known
            .into_iter()
            .map(|(cluster, _)| cluster_setup(topology, cluster, made))
            .collect(),
        left_out: others
            .into_iter()
            .map(|(cluster, overlay)| {
                let name = &topology.cluster_names[cluster];
                format!("cluster {name}: its encapsulation is {overlay}, and the checks are of VXLAN")
            })
            .collect(),
    }
}

fn cluster_setup(topology: &Topology, cluster: usize, made: Option<&Made>) -> ClusterSetup {
    ClusterSetup {
        name: topology.cluster_names[cluster].clone(),
        cidrs: topology.pools[cluster].clone(),
        tunnel: TunnelSetup {
            device: TUNNEL.to_owned(),
            vni: VNI,
            port: VXLAN_PORT,
        },
        nodes: topology
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.cluster == cluster)
            .map(|(index, node)| node_setup(topology, index, node))
            .collect(),
        submariner: topology.submariner.as_ref().map(|plan| SubmarinerSetup {
            gateway: topology.nodes[plan.gateways[cluster]].name.clone(),
            tunnel: TunnelSetup {
                device: VX_SUBMARINER.to_owned(),
                vni: VX_SUBMARINER_VNI,
                port: VX_SUBMARINER_PORT,
            },
            host_table: HOST_TABLE,
            cable: plan.cable.to_string(),
            cable_port: CABLE_PORT,
            cable_device: match made {
                // By policies, for which no device is needed.
                Some(Made::InKernel) if plan.cable == Cable::Ipsec => String::new(),
                _ => cable_device(plan.cable).to_owned(),
            },
            cable_tunnel: matches!(plan.cable, Cable::Vxlan).then(|| TunnelSetup {
                device: VXLAN_CABLE.to_owned(),
                vni: VXLAN_CABLE_VNI,
                port: CABLE_PORT,
            }),
            remote: Vec::new(),
        }),
    }
}

fn node_setup(topology: &Topology, index: usize, node: &NodePlan) -> NodeSetup {
    NodeSetup {
        name: node.name.clone(),
        address: node.address,
        subnet: Some(topology.subnets[node.subnet].cidr),
        router: Some(topology.subnets[node.subnet].router),
        blocks: VxlanMode::ALL
            .iter()
            .map(|mode| BlockSetup {
                cidr: node.block(*mode),
                mode: Some(*mode),
            })
            .collect(),
        pods: topology
            .pods
            .iter()
            .filter(|pod| pod.node == index)
            .map(|pod| PodSetup {
                place: pod.place.clone(),
                address: pod.address,
                host_device: pod.host_device.clone(),
            })
            .collect(),
    }
}
