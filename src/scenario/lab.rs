//! The lab: clusters of network namespaces on this machine.

use super::Kubernetes;
use super::fault::Fault;
use super::hosts::Hosts;
use super::submariner::{RpFilter, Submariner};
use crate::units::{BitRate, Bytes, Cidr4, Mtu, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What provides places and launches workers in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Fabric {
    /// Network namespaces of this machine, with the data paths that Calico programs into the kernel.
    Lab(Lab),
    /// Plain machines, reached over ssh.
    Hosts(Hosts),
    /// Nodes and pods of Kubernetes clusters.
    Kubernetes(Box<Kubernetes>),
}

/// A lab's clusters and the NIC that all its nodes have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lab {
    /// The NIC of each node.
    #[serde(default)]
    pub nic: NicProfile,
    /// What joins the clusters so that pods of one reach those of another; without it only nodes do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submariner: Option<Submariner>,
    /// The clusters; nodes are named uniquely over all of them.
    pub clusters: Vec<Cluster>,
    /// What is broken on purpose, once the lab is built.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// A node's NIC. The default models a 10GbE-class virtual NIC without tunnel offloads, the hardware on which
/// people meet the cliff of Always.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NicProfile {
    /// The rate at which the NIC sends (tbf); `null`: not shaped.
    pub rate: Option<BitRate>,
    /// What may be sent at once at full speed (tbf burst).
    pub burst: Bytes,
    /// The longest that a packet waits in the NIC's queue before it is dropped (tbf latency).
    pub queue: Span,
    /// The NIC's MTU.
    pub mtu: Mtu,
    /// Whether the NIC segments and checksums inside UDP tunnels (`tx-udp_tnl-segmentation` and
    /// `tx-udp_tnl-csum-segmentation` of `ethtool -k`).
    pub tunnel_offload: bool,
}

impl Default for NicProfile {
    fn default() -> Self {
        Self {
            rate: Some(BitRate(8_500_000_000)),
            burst: Bytes(256 << 10),
            queue: Span::from_millis(5),
            mtu: Mtu::ETHERNET,
            tunnel_offload: false,
        }
    }
}

/// A cluster: subnets of nodes, and how Calico is set up on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Its subnets; a router joins those of all clusters.
    pub subnets: Vec<Subnet>,
    /// Submariner's gateway node; the cluster's first node if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// How strictly the nodes' uplinks check where packets come in (`rp_filter`; the host's default, which Calico and
    /// Submariner change on their own devices only).
    #[serde(default, skip_serializing_if = "is_default")]
    pub rp_filter: RpFilter,
    /// The same for single nodes: `{ west-3: strict }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rp_filter_of: BTreeMap<String, RpFilter>,
    /// Calico's settings.
    #[serde(default)]
    pub calico: Calico,
    /// Packet filter load on each node, as kube-proxy and Calico's policy bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Cluster {
    /// All its nodes' names.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.subnets
            .iter()
            .flat_map(|subnet| &subnet.nodes)
            .map(String::as_str)
    }

    /// Submariner's gateway node; `None` in a cluster without nodes.
    pub fn gateway_node(&self) -> Option<&str> {
        self.gateway.as_deref().or_else(|| self.nodes().next())
    }
}

/// Nodes that share one layer 2 segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subnet {
    /// The nodes' names.
    pub nodes: Vec<String>,
    /// The subnet, for instance `10.1.0.0/24`; chosen by encapbench if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr4>,
}

/// What Calico wraps packets in between a cluster's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlay {
    /// VXLAN: device `vxlan.calico`, VNI 4096, UDP 4789.
    #[default]
    Vxlan,
    /// IP in IP: device `tunl0`, protocol 4.
    Ipip,
    /// WireGuard: device `wireguard.cali`, UDP 51820.
    Wireguard,
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::Wireguard => "wireguard",
        })
    }
}

impl Overlay {
    /// What it takes from the underlay's MTU over IPv4, in bytes, as Calico counts.
    pub const fn overhead(self) -> u16 {
        match self {
            Self::Vxlan => 50,
            Self::Ipip => 20,
            Self::Wireguard => 60,
        }
    }
}

/// Calico's settings in a cluster. Two pools stand side by side, one of each VXLAN mode; each node owns a block of
/// each, and encapsulation follows the destination's pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Calico {
    /// What packets between nodes are wrapped in: `vxlan` and `ipip` where a pool's mode says so (`vxlanMode`,
    /// `ipipMode`), `wireguard` always between pods of different nodes.
    #[serde(skip_serializing_if = "is_default")]
    pub encapsulation: Overlay,
    /// The prefix length of the block of addresses that each node owns in each pool: 20 to 30.
    pub block_size: u8,
    /// Whether `vxlan.calico` computes checksums in hardware; off is what Felix sets when it believes the kernel's
    /// VXLAN checksum offload broken (`ChecksumOffloadBroken`).
    pub vxlan_checksum_offload: bool,
    /// The CrossSubnet pool, for instance `10.244.0.0/16`; chosen by encapbench if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_subnet_pool: Option<Cidr4>,
    /// The Always pool; chosen by encapbench if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_pool: Option<Cidr4>,
}

impl Default for Calico {
    fn default() -> Self {
        Self {
            encapsulation: Overlay::default(),
            block_size: 26,
            vxlan_checksum_offload: false,
            cross_subnet_pool: None,
            always_pool: None,
        }
    }
}

/// Packet filter load on each node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Firewall {
    /// Whether connections are tracked.
    pub conntrack: bool,
    /// How many rules that match nothing stand in FORWARD and in INPUT, before the one that accepts: 0 to 10000.
    pub rules: u32,
}

impl Default for Firewall {
    fn default() -> Self {
        Self {
            conntrack: true,
            rules: 60,
        }
    }
}
