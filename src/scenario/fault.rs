//! Faults on purpose: what is broken in a lab once it is built, so that one can see what the doctor says of it, or
//! measure what it costs. Each is one that people have met.

use crate::units::Mtu;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fault of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Fault {
    /// The packet filter's FORWARD policy is DROP, as Docker leaves it.
    #[serde(rename_all = "kebab-case")]
    ForwardDrop {
        /// The node.
        node: String,
    },
    /// A packet filter rule drops UDP to a port: 4789 is Calico's VXLAN, 4800 Submariner's, 4500 its cable's.
    #[serde(rename_all = "kebab-case")]
    UdpBlocked {
        /// The node whose INPUT drops it.
        node: String,
        /// The port: 1 to 65535.
        port: u16,
    },
    /// The link that joins the node to its switch carries less than the node's MTU, and no ICMP says so.
    #[serde(rename_all = "kebab-case")]
    MtuBlackHole {
        /// The node.
        node: String,
        /// What the link carries, below the NIC's MTU.
        mtu: Mtu,
    },
    /// VXLAN's checksum offload is on and the NIC loses what it is handed so: simulated by dropping encapsulated
    /// packets that are left for the NIC to cut.
    #[serde(rename_all = "kebab-case")]
    ChecksumOffload {
        /// The node that sends.
        node: String,
    },
    /// The node does not forward (`net.ipv4.ip_forward=0`).
    #[serde(rename_all = "kebab-case")]
    NoIpForwarding {
        /// The node.
        node: String,
    },
    /// The node's address has a prefix length of 32, so that Calico takes every other node as in another subnet.
    #[serde(rename = "node-prefix-32", rename_all = "kebab-case")]
    NodePrefix32 {
        /// The node.
        node: String,
    },
    /// Packet filter rules that match nothing, in FORWARD and INPUT, as many as kube-proxy makes for many services.
    #[serde(rename_all = "kebab-case")]
    RuleLoad {
        /// The node.
        node: String,
        /// How many: 1 to 10000.
        rules: u32,
    },
    /// A VXLAN forwarding entry names an address that the peer no longer has.
    #[serde(rename_all = "kebab-case")]
    StaleFdb {
        /// The node with the entry.
        node: String,
        /// The node that it is for.
        peer: String,
    },
    /// A VXLAN neighbour entry names a MAC that the peer no longer has.
    #[serde(rename_all = "kebab-case")]
    StaleNeighbour {
        /// The node with the entry.
        node: String,
        /// The node that it is for.
        peer: String,
    },
    /// A worker's routes to other clusters are overridden.
    #[serde(rename_all = "kebab-case")]
    RemoteRoute {
        /// The node; not a gateway.
        node: String,
        /// What became of them.
        broken: BrokenRoute,
    },
    /// The table of a gateway's own packets, or its rule, is wrong.
    #[serde(rename_all = "kebab-case")]
    HostTable {
        /// The gateway.
        node: String,
        /// What is wrong.
        broken: BrokenTable,
    },
    /// The uplink drops packets whose source would be answered by another device (`rp_filter=1`).
    #[serde(rename_all = "kebab-case")]
    StrictRpFilter {
        /// The node.
        node: String,
    },
}

/// What became of a worker's routes to other clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BrokenRoute {
    /// They are gone.
    Missing,
    /// They drop with ICMP "host unreachable".
    Unreachable,
    /// They drop silently.
    Blackhole,
    /// BIRD's have taken their place, and lead to the subnet's router.
    Bird,
}

/// What is wrong with the table of the gateway's own packets (table 150).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BrokenTable {
    /// It is empty.
    NoRoutes,
    /// No rule leads to it.
    NoRule,
    /// Its routes name the node's address as the source.
    WrongSource,
}

impl Fault {
    /// As the scenario file names it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ForwardDrop { .. } => "forward-drop",
            Self::UdpBlocked { .. } => "udp-blocked",
            Self::MtuBlackHole { .. } => "mtu-black-hole",
            Self::ChecksumOffload { .. } => "checksum-offload",
            Self::NoIpForwarding { .. } => "no-ip-forwarding",
            Self::NodePrefix32 { .. } => "node-prefix-32",
            Self::RuleLoad { .. } => "rule-load",
            Self::StaleFdb { .. } => "stale-fdb",
            Self::StaleNeighbour { .. } => "stale-neighbour",
            Self::StrictRpFilter { .. } => "strict-rp-filter",
            Self::RemoteRoute { .. } => "remote-route",
            Self::HostTable { .. } => "host-table",
        }
    }

    /// The node that is broken.
    pub fn node(&self) -> &str {
        match self {
            Self::ForwardDrop { node }
            | Self::UdpBlocked { node, .. }
            | Self::MtuBlackHole { node, .. }
            | Self::ChecksumOffload { node }
            | Self::NoIpForwarding { node }
            | Self::NodePrefix32 { node }
            | Self::RuleLoad { node, .. }
            | Self::StaleFdb { node, .. }
            | Self::StaleNeighbour { node, .. }
            | Self::StrictRpFilter { node }
            | Self::RemoteRoute { node, .. }
            | Self::HostTable { node, .. } => node,
        }
    }

    /// The other node that it is about.
    pub fn peer(&self) -> Option<&str> {
        match self {
            Self::StaleFdb { peer, .. } | Self::StaleNeighbour { peer, .. } => Some(peer),
            _ => None,
        }
    }
}
