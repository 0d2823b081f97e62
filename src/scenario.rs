//! The scenario file: its model, its validation, its JSON Schema, and the plan that it expands to. Pure.
//!
//! A scenario says what is measured (workloads) on which paths of which fabric, how often (blocks), and what the
//! result must be (gates). The model mirrors the YAML one to one; every element refuses unknown keys.

mod case;
mod fault;
mod gates;
mod hosts;
mod kubernetes;
mod lab;
mod locate;
mod metric;
mod nodes;
mod parse;
mod path;
mod place;
mod plan;
mod policy;
mod problem;
mod schema;
mod submariner;
mod technique;
mod validate;
mod workload;
mod worse;

pub use case::{Case, Path};
pub use fault::{BrokenRoute, BrokenTable, Fault};
pub use gates::{Blocks, GateRule, Limit, Reference, RequiredEvidence};
pub use hosts::{Host, Hosts, Ssh};
pub use kubernetes::{
    CalicoApi, CalicoFacts, ClusterContext, ClusterFacts, ConnectionFacts, EndpointFacts, GatewayFacts,
    JoinedCluster, Kubernetes, MOST_NODES, NodeChoice, NodeFacts, Permissions, PoolChoices, PoolFacts, Range,
    ResolveError, Resolved, ResolvedNode, ResolvedPool, Resources, SubmarinerFacts, SubmarinerRole,
    TaintEffect, Toleration, resolve, whole,
};
pub use lab::{Calico, Cluster, Fabric, Firewall, Lab, NicProfile, Overlay, Subnet};
pub use metric::Metric;
pub use nodes::NodeRef;
pub use parse::{LONGEST, parse};
pub use path::{AllPairs, By, Encapsulation, Expect, PairSpec, PathSpec, VxlanMode, Which};
pub use place::{Place, PlaceError, PlaceRef};
pub use plan::{Overrides, Plan, PlanError, skipped_gates};
pub use policy::{Policy, parse_policy};
pub use problem::{Complaint, Problem, ScenarioError, Step, Stretch};
pub use schema::{json_schema, policy_json_schema};
pub use submariner::{Cable, Crossing, RpFilter, Submariner};
pub use technique::{Technique, TechniqueSet, UnknownTechnique};
pub use validate::validate;
pub use workload::{HighestRate, Latency, LatencyKind, Protocol, Throughput, Workload, WorkloadKind};
pub use worse::{Amount, Worsening};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// A short name: letters, digits, `-`, `_` and `.`; it becomes part of the run folder's name.
    pub name: String,
    /// The question that this scenario answers, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// What provides the places.
    pub fabric: Fabric,
    /// The paths to compare.
    pub paths: Vec<PathSpec>,
    /// What is measured on each path.
    pub workloads: Vec<Workload>,
    /// How many blocks of trials.
    #[serde(default)]
    pub blocks: Blocks,
    /// The path that the others are compared to: its relative throughput is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_to: Option<String>,
    /// Figures from elsewhere to show beside what was measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<Reference>,
    /// Rules that the results must keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateRule>,
}

#[cfg(test)]
mod tests;
