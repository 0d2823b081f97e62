//! Cases: what a plan is made of.

use super::{By, Crossing, Encapsulation, Expect, Place, Throughput, VxlanMode, Workload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A path, resolved: both places fully said, and what is expected between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Path {
    /// The path's name.
    pub name: String,
    /// The place that sends.
    pub from: Place,
    /// The place that receives.
    pub to: Place,
    /// The pool of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<VxlanMode>,
    /// What its packets are wrapped in between the nodes.
    pub expected: Encapsulation,
    /// Whether both ends are on one node.
    pub same_node: bool,
    /// Whether both ends' nodes are in one subnet.
    pub same_subnet: bool,
    /// How its beginning reaches its end.
    #[serde(default, skip_serializing_if = "By::is_address")]
    pub by: By,
    /// What is to become of its packets.
    #[serde(default, skip_serializing_if = "Expect::is_reachable")]
    pub expect: Expect,
    /// Its way, where it leads from one cluster to another by Submariner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crossing: Option<Crossing>,
    /// What wraps its packets in user space, where the kernel that it was measured on can't: its figures are that
    /// program's. Known once the fabric is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_space: Option<String>,
    /// Further pairs that are loaded at the same time, each a path of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together_with: Vec<Self>,
}

impl Path {
    /// All pairs that are loaded at once, each as a path: this one first, and mostly alone.
    pub fn pairs(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.together_with)
    }

    /// The places that workers of this path run in; one may come more than once.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.pairs().flat_map(|pair| [&pair.from, &pair.to])
    }

    /// The path's name as people read it: it says where packets were wrapped in user space.
    pub fn label(&self) -> String {
        self.marked(&self.name)
    }

    /// The expected encapsulation as people read it.
    pub fn encapsulation(&self) -> String {
        self.marked(&self.expected.to_string())
    }

    fn marked(&self, text: &str) -> String {
        match self.user_space {
            Some(_) => format!("{text} (user space)"),
            None => text.to_owned(),
        }
    }
}

/// A path with a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// The case's name in files: `[a-z0-9._-]+`, unique in the run, `path--workload`.
    pub slug: String,
    /// The path.
    pub path: Path,
    /// The workload.
    pub workload: Workload,
    /// The load that runs meanwhile: the workload that `during` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Throughput>,
}
