//! All that the doctor saw.

use super::finding::Finding;
use crate::evidence::{ClusterSetup, Inspection, LinkSeen, NodeSetup, ProbeSeen, Setup};
use crate::scenario::Place;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A probe of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// Who asked.
    pub from: Place,
    /// Who was asked.
    pub to: Place,
    /// What came of it.
    pub seen: ProbeSeen,
}

impl ProbeResult {
    /// Whether packets get through.
    pub const fn is_reachable(&self) -> bool {
        self.seen.datagram && self.seen.connection
    }

    /// `east-1 -> pod@east-2/Always`.
    pub fn path(&self) -> String {
        format!("{} -> {}", self.from, self.to)
    }
}

/// A knock at the UDP port of a node's VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnockResult {
    /// The node that knocked.
    pub from: String,
    /// The node that was knocked at.
    pub to: String,
    /// The port.
    pub port: u16,
    /// The device behind it.
    pub device: String,
    /// Whether it was heard; `None`: the node could not listen.
    pub heard: Option<bool>,
    /// Why it could not be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was seen, and what should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Examination {
    /// What should be.
    pub setup: Setup,
    /// What each place's kernel holds.
    pub inspections: BTreeMap<Place, Inspection>,
    /// Probes.
    pub probes: Vec<ProbeResult>,
    /// Knocks.
    pub knocks: Vec<KnockResult>,
    /// What is wrong with what a cluster's API says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Finding>,
    /// What could not be looked at, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

/// A node with all that is known of it.
#[derive(Clone, Copy)]
pub(super) struct NodeView<'a> {
    pub(super) cluster: &'a ClusterSetup,
    pub(super) node: &'a NodeSetup,
    pub(super) seen: &'a Inspection,
}

impl<'a> NodeView<'a> {
    /// The device that has the node's address.
    pub(super) fn uplink(&self) -> Option<&'a LinkSeen> {
        self.seen.link_with(self.node.address)
    }

    /// The network plugin's VXLAN device.
    pub(super) fn tunnel(&self) -> Option<&'a LinkSeen> {
        self.seen.link(&self.cluster.tunnel.device)
    }

    /// Whether `peer` is in the same subnet, as far as is known.
    pub(super) fn is_neighbour(&self, peer: &NodeSetup) -> bool {
        self.node
            .subnet
            .is_some_and(|subnet| subnet.contains(peer.address))
    }
}

impl Examination {
    /// The nodes that could be looked into.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.setup.nodes().filter_map(|(cluster, node)| {
            let seen = self.inspections.get(&Place::Node(node.name.clone()))?;
            Some(NodeView { cluster, node, seen })
        })
    }

    /// The node named `name`.
    pub(super) fn node(&self, name: &str) -> Option<NodeView<'_>> {
        self.nodes().find(|view| view.node.name == name)
    }

    /// The other nodes of a node's cluster.
    pub(super) fn peers<'a>(&'a self, view: &NodeView<'a>) -> impl Iterator<Item = NodeView<'a>> + use<'a> {
        let (cluster, name) = (view.cluster.name.as_str(), view.node.name.as_str());
        self.nodes()
            .filter(move |other| other.cluster.name == cluster && other.node.name != name)
    }

    /// The nodes that a path's packets go through, both ways.
    pub(super) fn nodes_of<'a>(&'a self, probe: &'a ProbeResult) -> Vec<&'a str> {
        let mut nodes = vec![probe.from.node(), probe.to.node()];
        let cluster = |place: &Place| self.setup.node(place.node()).map(|(cluster, _)| cluster);
        if let (Some(from), Some(to)) = (cluster(&probe.from), cluster(&probe.to))
            && from.name != to.name
        {
            let gateways =
                [from, to].map(|cluster| cluster.submariner.as_ref().map(|own| own.gateway.as_str()));
            nodes.extend(gateways.into_iter().flatten());
        }
        nodes
    }
}
