//! What the doctor says. The doctor itself stands further right; reports show this, so it is here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Packets are lost, or go another way than they are said to.
    Error,
    /// It works, but worse than it could.
    Warning,
    /// Something could not be looked at.
    Note,
}

/// A command, and where to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The place: a node or pod; `cluster`: wherever kubectl works.
    pub place: String,
    /// For `sh -c`.
    pub command: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What it is, for programs: `forward-drop`, `rp-filter`, ... docs/doctor.md lists them.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is: a node, a pod, or two with ` <-> ` between.
    pub place: String,
    /// What it is, in one sentence.
    pub title: String,
    /// The very routes, rules, sysctls and counters that show it.
    pub seen: Vec<String>,
    /// Why it matters.
    pub why: String,
    /// What to do on the places themselves, in this order.
    pub remedy: Vec<Step>,
    /// What to do on a cluster, where what runs there would undo or do the above by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_a_cluster: Vec<String>,
    /// How to see that it helped: each succeeds (exit code 0) once it did.
    pub verify: Vec<Step>,
    /// Paths whose probes failed and that lead through this place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// How many places were looked into.
    pub places: usize,
    /// How many paths were probed.
    pub paths: usize,
    /// How many of them carry packets.
    pub reachable: usize,
}

impl Diagnosis {
    /// The worst severity; `None`: nothing is wrong.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).min()
    }
}

impl Finding {
    /// A finding with nothing but its head.
    pub fn new(id: &str, severity: Severity, place: &str, title: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            severity,
            place: place.to_owned(),
            title: title.into(),
            seen: Vec::new(),
            why: String::new(),
            remedy: Vec::new(),
            on_a_cluster: Vec::new(),
            verify: Vec::new(),
            affects: Vec::new(),
        }
    }

    /// Adds something that shows it.
    #[must_use]
    pub fn seen(mut self, what: impl Into<String>) -> Self {
        self.seen.push(what.into());
        self
    }

    /// Says why it matters.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Adds a command of the remedy, on the finding's own place.
    #[must_use]
    pub fn remedy(self, command: impl Into<String>) -> Self {
        let place = self.place.clone();
        self.remedy_at(&place, command)
    }

    /// Adds a command of the remedy.
    #[must_use]
    pub fn remedy_at(mut self, place: &str, command: impl Into<String>) -> Self {
        self.remedy.push(Step {
            place: place.to_owned(),
            command: command.into(),
        });
        self
    }

    /// Adds what to do on a cluster.
    #[must_use]
    pub fn on_a_cluster(mut self, command: impl Into<String>) -> Self {
        self.on_a_cluster.push(command.into());
        self
    }

    /// Adds a command that verifies it, on the finding's own place.
    #[must_use]
    pub fn verify(self, command: impl Into<String>) -> Self {
        let place = self.place.clone();
        self.verify_at(&place, command)
    }

    /// Adds a command that verifies it.
    #[must_use]
    pub fn verify_at(mut self, place: &str, command: impl Into<String>) -> Self {
        self.verify.push(Step {
            place: place.to_owned(),
            command: command.into(),
        });
        self
    }
}
