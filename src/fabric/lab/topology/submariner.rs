//! What Submariner adds to a planned lab: gateways, the addresses inside its tunnels, and who routes what.

use super::{Topology, TopologyError};
use crate::scenario::{Cable, Lab};
use crate::units::Cidr4;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// The first octet of addresses of `vx-submariner`.
pub const VX_SUBMARINER_PREFIX: u8 = 240;
/// The first octet of addresses of the VXLAN cable's device.
pub const CABLE_PREFIX: u8 = 241;

/// What joins the clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmarinerPlan {
    /// What the gateways are joined by.
    pub cable: Cable,
    /// Each cluster's gateway, an index of a node.
    pub gateways: Vec<usize>,
}

impl Topology {
    pub(super) fn add_submariner(&mut self, lab: &Lab) -> Result<(), TopologyError> {
        let Some(spec) = lab.submariner else {
            return Ok(());
        };
        let mut gateways = Vec::new();
        for (index, cluster) in lab.clusters.iter().enumerate() {
            let name = cluster.gateway_node().unwrap_or_default();
            let gateway = self
                .nodes
                .iter()
                .position(|node| node.cluster == index && node.name == name);
            gateways.push(gateway.ok_or_else(|| TopologyError::UnknownGateway {
                cluster: cluster.name.clone(),
                gateway: name.to_owned(),
            })?);
        }
        let mut inside = HashMap::new();
        let mut between = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let address = vtep(VX_SUBMARINER_PREFIX, node.address);
            let mut others = vec![inside.insert((node.cluster, address), index)];
            if gateways.contains(&index) {
                others.push(between.insert(address, index));
            }
            if let Some(other) = others.into_iter().flatten().next() {
                return Err(TopologyError::SameTunnelAddress {
                    first: self.nodes[other].name.clone(),
                    second: node.name.clone(),
                    address,
                });
            }
        }
        self.submariner = Some(SubmarinerPlan {
            cable: spec.cable,
            gateways,
        });
        Ok(())
    }

    /// A node's address on `vx-submariner`, a /8.
    pub fn vx_submariner_address(&self, node: usize) -> Ipv4Addr {
        vtep(VX_SUBMARINER_PREFIX, self.nodes[node].address)
    }

    /// A gateway's address on the VXLAN cable's device, a /8.
    pub fn cable_address(&self, gateway: usize) -> Ipv4Addr {
        vtep(CABLE_PREFIX, self.nodes[gateway].address)
    }

    /// Whether a node is its cluster's gateway.
    pub fn is_gateway(&self, node: usize) -> bool {
        self.submariner
            .as_ref()
            .is_some_and(|plan| plan.gateways.contains(&node))
    }

    /// The nodes of a gateway's cluster, itself left out.
    pub fn workers_of(&self, gateway: usize) -> impl Iterator<Item = usize> {
        let cluster = self.nodes[gateway].cluster;
        (0..self.nodes.len()).filter(move |node| *node != gateway && self.nodes[*node].cluster == cluster)
    }

    /// The other clusters, as a node of `cluster` knows them: each one's gateway, an index of a node, and its pools.
    pub fn remote_clusters(&self, cluster: usize) -> impl Iterator<Item = (usize, &[Cidr4])> {
        let gateways = self.submariner.as_ref().map_or(&[][..], |plan| &plan.gateways);
        gateways
            .iter()
            .zip(&self.pools)
            .enumerate()
            .filter(move |(index, _)| *index != cluster)
            .map(|(_, (gateway, pools))| (*gateway, pools.as_slice()))
    }
}

/// Submariner's way to an address inside a tunnel: the node's, with another first octet.
fn vtep(prefix: u8, node: Ipv4Addr) -> Ipv4Addr {
    let [_, b, c, d] = node.octets();
    Ipv4Addr::new(prefix, b, c, d)
}
