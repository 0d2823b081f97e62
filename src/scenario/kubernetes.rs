//! Kubernetes as a scenario names it: clusters, nodes by choice, pools of addresses, and how pods are to be run.
//!
//! A scenario names places symbolically. Reading a cluster gives [`ClusterFacts`]; [`resolve`] puts the two together
//! into a scenario whose nodes and pools are the cluster's own, which is what the manifest records.

mod facts;
mod resolve;

pub use facts::{
    CalicoApi, CalicoFacts, ClusterFacts, ConnectionFacts, EndpointFacts, GatewayFacts, JoinedCluster,
    NodeFacts, PoolFacts, Range, SubmarinerFacts,
};
pub use resolve::{MOST_NODES, Permissions, ResolveError, resolve, whole};

use super::VxlanMode;
use crate::units::{Cidr4, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Nodes and pods of Kubernetes clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubernetes {
    /// The kubeconfig's context; its current one, or the cluster that encapbench itself runs in, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of encapbench's pods; the context's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Several clusters, instead of `context` and `namespace`; nodes then say which they are of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterContext>,
    /// The nodes, by the names that paths use.
    pub nodes: Vec<NodeChoice>,
    /// The image of the pods; `encapbench:<version>`, as `scripts/build-image` makes it, if left out. Pulled only
    /// where a node doesn't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether a pod in the host network of each node may look at its routes and counters. Without it evidence is
    /// unknown where no end of a path is a node.
    #[serde(default)]
    pub probe: bool,
    /// Which address pools stand for which `vxlan-mode`.
    #[serde(default, skip_serializing_if = "PoolChoices::is_default")]
    pub pools: PoolChoices,
    /// What each pod asks for.
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// The pods' PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// How long pods may take to start.
    #[serde(default = "start_within")]
    pub start_within: Span,
    /// What the clusters were found to have. encapbench writes this into the manifest; leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
}

const fn start_within() -> Span {
    Span::from_millis(120_000)
}

impl Kubernetes {
    /// The name of the one cluster where `clusters` is left out.
    pub const ONLY: &'static str = "cluster";

    /// One cluster, or several, with nothing chosen: what a look at all of it begins with.
    pub fn of_contexts(contexts: &[ClusterContext]) -> Self {
        let one = contexts.first().filter(|_| contexts.len() == 1);
        Self {
            context: one.and_then(|one| one.context.clone()),
            namespace: one.and_then(|one| one.namespace.clone()),
            clusters: if one.is_some() {
                Vec::new()
            } else {
                contexts.to_vec()
            },
            nodes: Vec::new(),
            image: None,
            probe: true,
            pools: PoolChoices::default(),
            resources: Resources::default(),
            tolerations: Vec::new(),
            priority_class: None,
            start_within: start_within(),
            resolved: None,
        }
    }

    /// All clusters, the one of `context` and `namespace` among them.
    pub fn clusters(&self) -> Vec<ClusterContext> {
        if self.clusters.is_empty() {
            return vec![ClusterContext {
                name: Self::ONLY.to_owned(),
                context: self.context.clone(),
                namespace: self.namespace.clone(),
            }];
        }
        self.clusters.clone()
    }

    /// The name of the cluster that a node is of: its own choice, or the first.
    pub fn cluster_of<'a>(&'a self, choice: &'a NodeChoice) -> &'a str {
        let first = || {
            self.clusters
                .first()
                .map_or(Self::ONLY, |cluster| cluster.name.as_str())
        };
        choice.cluster.as_deref().unwrap_or_else(first)
    }

    /// The choice of that name.
    pub fn choice(&self, name: &str) -> Option<&NodeChoice> {
        self.nodes.iter().find(|choice| choice.name == name)
    }

    /// Where the clusters have the node of that name, once they were read.
    pub fn resolved_node(&self, name: &str) -> Option<&ResolvedNode> {
        self.resolved
            .as_ref()?
            .nodes
            .iter()
            .find(|node| node.name == name)
    }
}

/// A cluster by its kubeconfig's context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterContext {
    /// The name that nodes use.
    pub name: String,
    /// The context; the kubeconfig's current one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of encapbench's pods there; the context's own if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A node by choice: all that is said must hold, and no two choices are the same node. Without any condition it is the
/// first node, by name, that pods can run on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeChoice {
    /// The name that paths use.
    pub name: String,
    /// The cluster, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The node's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Labels that it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The zone (`topology.kubernetes.io/zone`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The role (`node-role.kubernetes.io/<role>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What it is to Submariner: the cluster's active gateway, or any other node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submariner: Option<SubmarinerRole>,
    /// So many nodes, or as many as fit, instead of one: 2 to 256. They are called by this name and a number (`w-1`,
    /// `w-2`), and paths to and from them say `all-pairs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u32>,
    /// In the subnet of another choice, which stands before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_subnet_as: Option<String>,
    /// In another subnet than another choice, which stands before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_subnet_than: Option<String>,
}

impl NodeChoice {
    /// The most nodes that one choice can stand for.
    pub const MOST: u32 = 256;
}

/// What a node is to Submariner, as its Gateway objects say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubmarinerRole {
    /// The cluster's active gateway.
    Gateway,
    /// Any other node, gateways that stand by among them.
    NonGateway,
}

/// Which address pools stand for which `vxlan-mode`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PoolChoices {
    /// The IPPool of CrossSubnet by name; the first enabled one with that mode if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_subnet: Option<String>,
    /// The IPPool of Always by name; the first enabled one with that mode if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always: Option<String>,
    /// Where encapbench cuts pools of its own from, with `--allow-ippools`, which must be used nowhere;
    /// 198.18.0.0/15, which is set aside for benchmarks (RFC 2544), if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_range: Option<Cidr4>,
}

impl PoolChoices {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The pool that is named for a mode.
    pub fn named(&self, mode: VxlanMode) -> Option<&str> {
        match mode {
            VxlanMode::CrossSubnet => self.cross_subnet.as_deref(),
            VxlanMode::Always => self.always.as_deref(),
        }
    }
}

/// What each pod asks the scheduler for, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Resources {
    /// CPU, such as `500m` or `2`.
    pub cpu: String,
    /// Memory, such as `128Mi`.
    pub memory: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: "100m".to_owned(),
            memory: "64Mi".to_owned(),
        }
    }
}

impl Resources {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A taint that pods tolerate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Toleration {
    /// The taint's key; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// What a taint does to pods that don't tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Pods are not scheduled there.
    NoSchedule,
    /// Pods are scheduled elsewhere if possible.
    PreferNoSchedule,
    /// Pods that run there are evicted.
    NoExecute,
}

/// What the clusters were found to have for the choices of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resolved {
    /// The nodes, in the order of the choices.
    pub nodes: Vec<ResolvedNode>,
    /// The pools that pods take their addresses from.
    pub pools: Vec<ResolvedPool>,
    /// What a reader of the results must know, each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A node that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResolvedNode {
    /// The choice's name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// The node's own name.
    pub node: String,
    /// Its address: Calico's where Calico says it, else the node's InternalIP.
    pub address: Ipv4Addr,
    /// The subnet that it is in.
    pub subnet: Cidr4,
    /// The address of its `vxlan.calico`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_address: Option<Ipv4Addr>,
}

/// A pool that pods take their addresses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResolvedPool {
    /// Its cluster.
    pub cluster: String,
    /// Its mode.
    pub mode: VxlanMode,
    /// The IPPool's name; encapbench's own pools get the run's id appended.
    pub name: String,
    /// Its addresses.
    pub cidr: Cidr4,
    /// The prefix length of a node's block.
    pub block_size: u8,
    /// Whether encapbench makes it, and removes it.
    pub own: bool,
}
