//! Paths: from one place to another under one encapsulation setting.

use super::{lab::Overlay, place::PlaceRef, submariner::Cable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Calico's `vxlanMode` of an address pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VxlanMode {
    /// Encapsulated only where the nodes are in different subnets.
    CrossSubnet,
    /// Encapsulated between any two nodes.
    Always,
}

impl VxlanMode {
    /// Both modes.
    pub const ALL: [Self; 2] = [Self::CrossSubnet, Self::Always];
}

impl fmt::Display for VxlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrossSubnet => "CrossSubnet",
            Self::Always => "Always",
        })
    }
}

impl FromStr for VxlanMode {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.to_string() == text)
            .ok_or(())
    }
}

/// What packets of a path are expected to be wrapped in between its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// Nothing: plain packets, or no wire between them at all (same node).
    None,
    /// VXLAN.
    Vxlan,
    /// IP in IP.
    Ipip,
    /// WireGuard.
    Wireguard,
    /// Between clusters of Kubernetes, by whatever joins them: nothing is expected of it.
    Unknown,
    /// Between clusters, through Submariner's gateways and its VXLAN cable.
    SubmarinerVxlan,
    /// Between clusters, through Submariner's gateways and its WireGuard cable.
    SubmarinerWireguard,
    /// Between clusters, through Submariner's gateways and its IPsec cable.
    SubmarinerIpsec,
}

impl Encapsulation {
    /// Whether packets are wrapped from node to node within a cluster.
    pub const fn is_overlay(self) -> bool {
        matches!(self, Self::Vxlan | Self::Ipip | Self::Wireguard)
    }
}

impl From<Overlay> for Encapsulation {
    fn from(overlay: Overlay) -> Self {
        match overlay {
            Overlay::Vxlan => Self::Vxlan,
            Overlay::Ipip => Self::Ipip,
            Overlay::Wireguard => Self::Wireguard,
        }
    }
}

impl From<Cable> for Encapsulation {
    fn from(cable: Cable) -> Self {
        match cable {
            Cable::Vxlan => Self::SubmarinerVxlan,
            Cable::Wireguard => Self::SubmarinerWireguard,
            Cable::Ipsec => Self::SubmarinerIpsec,
        }
    }
}

impl Encapsulation {
    /// Whether packets are wrapped in anything.
    pub const fn is_tunnel(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::Wireguard => "wireguard",
            Self::Unknown => "unknown",
            Self::SubmarinerVxlan => "submariner-vxlan",
            Self::SubmarinerWireguard => "submariner-wireguard",
            Self::SubmarinerIpsec => "submariner-ipsec",
        })
    }
}

/// How a path's `from` reaches its `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// By the address of the place itself.
    #[default]
    Address,
    /// By the ClusterIP of a Service, which kube-proxy, or what stands for it, rewrites to the pod's address.
    ClusterIp,
    /// By the name of a Service that is exported to other clusters: `<name>.<namespace>.svc.clusterset.local`
    /// (KEP-1645; Submariner's Lighthouse answers for it).
    ExportedService,
}

impl By {
    /// Whether no Service is between.
    pub const fn is_address(&self) -> bool {
        matches!(self, Self::Address)
    }
}

/// What is to become of a path's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// They get through, and are measured.
    #[default]
    Reachable,
    /// Nothing gets through: neither a datagram nor a connection. That is tried once a block and nothing is measured; the
    /// run has a gate over it.
    Unreachable,
}

impl Expect {
    /// Whether packets are to get through.
    pub const fn is_reachable(&self) -> bool {
        matches!(self, Self::Reachable)
    }
}

/// A pair of places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PairSpec {
    /// The place that sends.
    pub from: PlaceRef,
    /// The place that receives.
    pub to: PlaceRef,
}

/// Which pairs of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Two pods of one node.
    SameNode,
    /// Nodes of one subnet.
    SameSubnet,
    /// Nodes of different subnets.
    OtherSubnet,
}

/// All pairs of the nodes that a path's ends stand for, up to a limit: each node is in about as many as any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AllPairs {
    /// The most pairs: 1 to 1000.
    pub at_most: u32,
    /// Which of them; those of any two different nodes if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Which>,
    /// Whether each pair is there from either end. Otherwise once, from one of the two.
    pub both_ways: bool,
    /// Whether all are loaded at the same time, as one path of many pairs; otherwise each is a path of its own.
    pub together: bool,
}

impl AllPairs {
    /// The most that the limit can be.
    pub const MOST: u32 = 1000;
}

impl Default for AllPairs {
    fn default() -> Self {
        Self {
            at_most: 16,
            only: None,
            both_ways: false,
            together: false,
        }
    }
}

/// A path of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PathSpec {
    /// The path's name, as reports show it.
    pub name: String,
    /// The place that sends.
    pub from: PlaceRef,
    /// The place that receives.
    pub to: PlaceRef,
    /// The mode of the pool that pods of this path have their addresses from; needed where an end is a pod, and refused where
    /// none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<VxlanMode>,
    /// What packets of this path are wrapped in, where the fabric does not know: between hosts. Plain if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
    /// How `from` reaches `to`, where that is a pod of Kubernetes; by its own address if left out.
    #[serde(default, skip_serializing_if = "By::is_address")]
    pub by: By,
    /// What is to become of its packets; `unreachable` makes sure that nothing gets through, instead of measuring.
    #[serde(default, skip_serializing_if = "Expect::is_reachable")]
    pub expect: Expect,
    /// Further pairs of places that are loaded at the same time as `from` and `to`, each with a workload of its own: they
    /// begin together, and results are of each pair and of all. A place may be in several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together_with: Vec<PairSpec>,
    /// All pairs of the nodes that `from` and `to` stand for, where one of them names a choice of several nodes (`up-to`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_pairs: Option<AllPairs>,
}

impl PathSpec {
    /// All pairs, that of the path itself first.
    pub fn pairs(&self) -> impl Iterator<Item = (&PlaceRef, &PlaceRef)> {
        let more = self.together_with.iter().map(|pair| (&pair.from, &pair.to));
        std::iter::once((&self.from, &self.to)).chain(more)
    }

    /// A path of one of the pairs alone.
    pub(super) fn alone(&self, pair: &PairSpec) -> Self {
        Self {
            name: format!("{} to {}", pair.from, pair.to),
            from: pair.from.clone(),
            to: pair.to.clone(),
            together_with: Vec::new(),
            all_pairs: None,
            ..self.clone()
        }
    }
}
