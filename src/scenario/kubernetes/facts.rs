//! What a cluster says of itself, as far as a scenario needs it. Read by `fabric::kubernetes`, looked at here.

use crate::{scenario::VxlanMode, units::Cidr4};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// A cluster's nodes, pools and ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterFacts {
    /// The name that the scenario gives it.
    pub name: String,
    /// The API server's version.
    pub version: String,
    /// Its nodes, by name.
    pub nodes: Vec<NodeFacts>,
    /// What Calico says; `None` where there is no Calico, or it may not be read.
    pub calico: Option<CalicoFacts>,
    /// Why Calico's settings are not known, where they are not.
    pub no_calico: Option<String>,
    /// Ranges in use beside the pools: services, nodes, pods.
    pub ranges: Vec<Range>,
    /// What Submariner says; `None` where there is none, or it may not be read.
    pub submariner: Option<SubmarinerFacts>,
    /// Why Submariner's objects are not known, where they may be there.
    pub no_submariner: Option<String>,
}

/// What Submariner's objects say (`submariner.io/v1`: Gateway, Endpoint, Cluster).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubmarinerFacts {
    /// The cluster's own id.
    pub cluster_id: String,
    /// Its gateways, by node.
    pub gateways: Vec<GatewayFacts>,
    /// The endpoints of all clusters, the own one among them.
    pub endpoints: Vec<EndpointFacts>,
    /// All clusters that are joined, the own one among them.
    pub clusters: Vec<JoinedCluster>,
}

impl SubmarinerFacts {
    /// The active gateway.
    pub fn active(&self) -> Option<&GatewayFacts> {
        self.gateways.iter().find(|gateway| gateway.active)
    }

    /// The ranges of other clusters, as their endpoints tell them: what is routed to the gateway.
    pub fn remote_cidrs(&self) -> Vec<Cidr4> {
        let mut all: Vec<Cidr4> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.cluster_id != self.cluster_id)
            .flat_map(|endpoint| endpoint.subnets.iter().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A node that is, or may become, a cluster's gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GatewayFacts {
    /// The node's name.
    pub node: String,
    /// Whether it is the active one (`haStatus`).
    pub active: bool,
    /// Submariner's version there.
    pub version: String,
    /// What keeps it from working; empty: nothing.
    pub failure: String,
    /// The cable driver: `libreswan`, `wireguard`, `vxlan`.
    pub cable: String,
    /// Its connections to other clusters.
    pub connections: Vec<ConnectionFacts>,
}

/// A gateway's connection to another cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionFacts {
    /// The other cluster's id.
    pub cluster_id: String,
    /// `connected`, `connecting`, `error`.
    pub status: String,
    /// What is said of it.
    pub message: String,
    /// The cable driver.
    pub cable: String,
}

/// Where a cluster's gateway is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointFacts {
    /// The cluster's id.
    pub cluster_id: String,
    /// The gateway's node.
    pub node: String,
    /// The ranges that are reached by it.
    pub subnets: Vec<Cidr4>,
    /// The cable driver.
    pub cable: String,
    /// The UDP port, where another than 4500 is set.
    pub port: Option<u16>,
}

/// A cluster that Submariner joins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinedCluster {
    /// Its id.
    pub id: String,
    /// The addresses of its pods.
    pub pods: Vec<Cidr4>,
    /// Those of its services.
    pub services: Vec<Cidr4>,
    /// Those that Globalnet gives it; empty: no Globalnet.
    pub global: Vec<Cidr4>,
}

/// Addresses that are in use, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The addresses.
    pub cidr: Cidr4,
    /// What for, as a noun: `the pods of node a`.
    pub what: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its InternalIP of IPv4.
    pub internal_ip: Option<Ipv4Addr>,
    /// Calico's address with its prefix length (`projectcalico.org/IPv4Address`).
    pub calico_address: Option<(Ipv4Addr, u8)>,
    /// The address of its `vxlan.calico` (`projectcalico.org/IPv4VXLANTunnelAddr`).
    pub tunnel_address: Option<Ipv4Addr>,
    /// Why no pod can run there, where that is so: not ready, cordoned, or a taint that is not tolerated.
    pub unusable: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The operating system.
    pub system: String,
    /// The container runtime and its version.
    pub runtime: String,
    /// The kubelet's version.
    pub kubelet: String,
}

/// Which of Calico's two groups of the API its objects are read and written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalicoApi {
    /// `projectcalico.org/v3`: Calico's own API server, or its newer custom resources.
    ProjectCalico,
    /// `crd.projectcalico.org/v1`: the custom resources behind it.
    Crd,
}

impl CalicoApi {
    /// The group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::ProjectCalico => "projectcalico.org",
            Self::Crd => "crd.projectcalico.org",
        }
    }

    /// The version.
    pub const fn version(self) -> &'static str {
        match self {
            Self::ProjectCalico => "v3",
            Self::Crd => "v1",
        }
    }
}

/// Calico's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalicoFacts {
    /// Where they are read.
    pub api: CalicoApi,
    /// The pools of IPv4 addresses, by name.
    pub pools: Vec<PoolFacts>,
    /// The default FelixConfiguration's settings, as text.
    pub felix: BTreeMap<String, String>,
    /// Calico's version (ClusterInformation), where it is known.
    pub version: Option<String>,
}

/// An IPPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: Cidr4,
    /// `vxlanMode`; `None`: Never.
    pub vxlan_mode: Option<VxlanMode>,
    /// Whether `ipipMode` is other than Never.
    pub ipip: bool,
    /// Whether it gives out no addresses.
    pub disabled: bool,
    /// The prefix length of a node's block.
    pub block_size: u8,
    /// The run of encapbench that made it, where one did.
    pub made_by: Option<String>,
    /// Whether what leaves it for addresses outside all pools gets its node's address.
    pub nat_outgoing: bool,
    /// Whether BGP peers are not told of it.
    pub disable_bgp_export: bool,
    /// Whether Submariner made it, for a range of another cluster (`submariner.io/ippool`).
    pub of_submariner: bool,
}
