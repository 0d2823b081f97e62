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
}
