//! What a set-up should be: the clusters, their nodes, blocks and pods, and what joins them. A fabric says it; the
//! doctor compares what it sees with it.

use crate::scenario::{Place, VxlanMode};
use crate::units::Cidr4;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setup {
    /// The clusters.
    pub clusters: Vec<ClusterSetup>,
    /// What the doctor has no checks for, and leaves alone: each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Setup {
    /// All nodes with their clusters.
    pub fn nodes(&self) -> impl Iterator<Item = (&ClusterSetup, &NodeSetup)> {
        self.clusters
            .iter()
            .flat_map(|cluster| cluster.nodes.iter().map(move |node| (cluster, node)))
    }

    /// The node named `name`, with its cluster.
    pub fn node(&self, name: &str) -> Option<(&ClusterSetup, &NodeSetup)> {
        self.nodes().find(|(_, node)| node.name == name)
    }

    /// All places, nodes first.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.nodes()
            .map(|(_, node)| Place::Node(node.name.clone()))
            .chain(
                self.nodes()
                    .flat_map(|(_, node)| node.pods.iter().map(|pod| pod.place.clone())),
            )
    }

    /// The address of a place.
    pub fn address(&self, place: &Place) -> Option<Ipv4Addr> {
        let (_, node) = self.node(place.node())?;
        match place {
            Place::Node(_) => Some(node.address),
            Place::Pod { .. } => node
                .pods
                .iter()
                .find(|pod| pod.place == *place)
                .map(|pod| pod.address),
        }
    }

    /// Whether WireGuard joins clusters.
    pub fn has_wireguard(&self) -> bool {
        let cables = self
            .clusters
            .iter()
            .filter_map(|cluster| cluster.submariner.as_ref());
        cables.into_iter().any(|own| own.cable == "wireguard")
    }

    /// What other clusters' pods have as addresses, as seen from `cluster`, where Submariner joins them.
    pub fn remote_cidrs(&self, cluster: &ClusterSetup) -> Vec<Cidr4> {
        let Some(own) = &cluster.submariner else {
            return Vec::new();
        };
        let others = self
            .clusters
            .iter()
            .filter(|other| other.name != cluster.name && other.submariner.is_some())
            .flat_map(|other| &other.cidrs);
        let mut all: Vec<Cidr4> = Vec::new();
        for cidr in others.chain(&own.remote) {
            if !all.contains(cidr) {
                all.push(*cidr);
            }
        }
        all
    }
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSetup {
    /// Its name.
    pub name: String,
    /// The addresses of its pods, as other clusters route to them.
    pub cidrs: Vec<Cidr4>,
    /// The VXLAN device of its network plugin, on each node.
    pub tunnel: TunnelSetup,
    /// Its nodes.
    pub nodes: Vec<NodeSetup>,
    /// How it is joined to other clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submariner: Option<SubmarinerSetup>,
}

/// A VXLAN device that nodes have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelSetup {
    /// Its name.
    pub device: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetup {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The subnet that it is in; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Cidr4>,
    /// The router of that subnet; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// The blocks of pod addresses that it owns.
    pub blocks: Vec<BlockSetup>,
    /// The pods that can be looked into.
    pub pods: Vec<PodSetup>,
}

/// A block of pod addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSetup {
    /// The block.
    pub cidr: Cidr4,
    /// The VXLAN mode of its pool; `None`: not encapsulated by VXLAN, or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VxlanMode>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSetup {
    /// Where it is.
    pub place: Place,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its device on the node; empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host_device: String,
}

/// How Submariner joins a cluster to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmarinerSetup {
    /// The node that is the active gateway.
    pub gateway: String,
    /// The device between a cluster's nodes and its gateway.
    pub tunnel: TunnelSetup,
    /// The routing table of the gateway's own traffic, and its rule's priority.
    pub host_table: u32,
    /// The cable driver: `vxlan`, `wireguard`, `libreswan`.
    pub cable: String,
    /// The UDP port of the cable.
    pub cable_port: u16,
    /// The cable's device; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cable_device: String,
    /// The cable's device, where it is VXLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cable_tunnel: Option<TunnelSetup>,
    /// Ranges of other clusters that the cluster itself tells of, whether those are looked into or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote: Vec<Cidr4>,
}
