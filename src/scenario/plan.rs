//! The plan that a scenario expands to: its cases, their order in each block, and how long it all takes. Pure.

mod only;

use super::{
    Blocks, Case, Crossing, Encapsulation, Fabric, HighestRate, Latency, NodeRef, Overlay, Path, PathSpec,
    Place, PlaceRef, Problem, Scenario, Throughput, VxlanMode, Workload, WorkloadKind, validate,
};
use crate::units::Span;
use only::Only;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What the command line changes of a scenario.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Overrides {
    /// Both bounds of the number of blocks.
    pub blocks: Option<u32>,
    /// The measured duration of every workload.
    pub duration: Option<Span>,
    /// Patterns of the cases to keep; empty: all.
    pub only: Vec<String>,
}

/// Why a scenario could not be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The scenario (overrides applied) breaks a rule; [`super::parse`] would have said where in the file.
    #[error("the scenario can't be planned: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
    /// A pattern of `--only` matches no case.
    #[error("--only {pattern} matches no case{hint}; there are: {available}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// A near name, if there is one, as a clause.
        hint: String,
        /// All cases.
        available: String,
    },
    /// A pattern of `--only` is no glob.
    #[error("--only {pattern} is no pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The scenario as resolved: overrides of blocks and durations applied, all paths, workloads and gates kept.
    pub scenario: Scenario,
    /// The cases, path by path, in the scenario's order. A slug does not depend on what `--only` leaves out.
    pub cases: Vec<Case>,
    /// How many blocks.
    pub blocks: Blocks,
    /// What the order in each block is drawn from.
    pub seed: u64,
    /// Gates that can't be judged because `--only` leaves out what they are about: name and reason.
    pub skipped_gates: BTreeMap<String, String>,
}

impl Plan {
    /// What a trial takes besides its omit and duration: connecting, looking at the evidence before and after. An
    /// estimate, for showing; nothing waits for it.
    pub const TRIAL_OVERHEAD: Duration = Duration::from_millis(50);
    /// What a block takes besides its trials: building the lab and launching workers. An estimate too.
    pub const BLOCK_OVERHEAD: Duration = Duration::from_millis(400);
    /// What it takes to see that nothing gets through: as long as a connection is waited for.
    pub const CLOSED_TIME: Duration = Duration::from_millis(3600);
    /// How much longer a load runs than the probe that it runs for, so that it never ends first: the probe has still to
    /// connect when the load's warm-up ends, which takes its time on a busy machine.
    pub const LOAD_TAIL: Duration = Duration::from_millis(600);

    /// Expands `scenario`. The same arguments always give the same plan.
    ///
    /// # Errors
    ///
    /// Where the scenario with its overrides breaks a rule, or a pattern matches nothing.
    pub fn new(scenario: &Scenario, overrides: &Overrides, seed: u64) -> Result<Self, PlanError> {
        let scenario = resolve(scenario, overrides);
        let problems = validate(&scenario);
        if !problems.is_empty() {
            return Err(PlanError::Invalid(problems));
        }
        let mut cases = cases(&scenario);
        if !overrides.only.is_empty() {
            let patterns = overrides
                .only
                .iter()
                .map(|text| Only::parse(text))
                .collect::<Result<Vec<_>, _>>()?;
            for pattern in &patterns {
                if !cases.iter().any(|case| pattern.matches(case)) {
                    return Err(pattern.no_match(&cases));
                }
            }
            cases.retain(|case| patterns.iter().any(|pattern| pattern.matches(case)));
        }
        let skipped_gates = skipped_gates(&scenario, &cases);
        Ok(Self {
            blocks: scenario.blocks,
            scenario,
            cases,
            seed,
            skipped_gates,
        })
    }

    /// The order of `block`'s trials (blocks count from 1) as indices of cases. It depends on the seed, the block and
    /// the number of cases only, so that a run that goes on after a cut has the order that it would have had.
    ///
    /// Drawn by ChaCha8 (the seed, little-endian, is the first 8 bytes of an otherwise zero key, the block is the
    /// stream) as a Fisher-Yates shuffle from the end, each index the upper half of 64 bits times the choices.
    pub fn order(&self, block: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.cases.len()).collect();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(u64::from(block));
        for last in (1..order.len()).rev() {
            let drawn = u128::from(generator.next_u64()) * (last as u128 + 1);
            order.swap(last, (drawn >> 64) as usize);
        }
        order
    }

    /// The measured duration, after its own omit, of a load that runs while `probe` does: no longer than needed.
    pub fn load_time(probe: &Latency) -> Duration {
        probe.omit.get() + probe.duration.get() + Self::LOAD_TAIL
    }

    /// How long a trial of `case` takes, about.
    pub fn trial_time(case: &Case) -> Duration {
        if !case.path.expect.is_reachable() {
            return Self::CLOSED_TIME;
        }
        let measured = match (case.workload.kind(), &case.load) {
            (Some(WorkloadKind::Throughput(throughput)), _) => {
                let tests = if throughput.highest_rate.is_some() {
                    HighestRate::USUAL_TESTS
                } else {
                    1
                };
                (throughput.omit.get() + throughput.duration.get()) * tests
            }
            (Some(WorkloadKind::Latency(probe)), None) => probe.omit.get() + probe.duration.get(),
            (Some(WorkloadKind::Latency(probe)), Some(load)) => load.omit.get() + Self::load_time(probe),
            (None, _) => Duration::ZERO,
        };
        measured + Self::TRIAL_OVERHEAD
    }

    /// How long a block takes, about.
    pub fn block_time(&self) -> Duration {
        Self::BLOCK_OVERHEAD + self.cases.iter().map(Self::trial_time).sum::<Duration>()
    }

    /// How long the run takes at least, about: with the fewest blocks.
    pub fn least_time(&self) -> Duration {
        self.block_time().saturating_mul(self.blocks.at_least)
    }

    /// How long the run takes at most, about: with the most blocks.
    pub fn most_time(&self) -> Duration {
        self.block_time().saturating_mul(self.blocks.most())
    }
}

fn resolve(scenario: &Scenario, overrides: &Overrides) -> Scenario {
    let mut scenario = scenario.clone();
    if let Some(blocks) = overrides.blocks {
        scenario.blocks = Blocks {
            at_least: blocks,
            at_most: None,
        };
    }
    if let Some(duration) = overrides.duration {
        for workload in &mut scenario.workloads {
            if let Some(throughput) = &mut workload.throughput {
                throughput.duration = duration;
            }
            if let Some(latency) = &mut workload.latency {
                latency.duration = duration;
            }
        }
    }
    scenario
}

/// What packets of a path are wrapped in between its nodes. Encapsulation follows the pool of the destination's
/// address, as with Calico.
pub(super) fn expected(scenario: &Scenario, spec: &PathSpec) -> Encapsulation {
    let (from, to) = (scenario.node(spec.from.node()), scenario.node(spec.to.node()));
    let pod = spec.from.is_pod() || spec.to.is_pod();
    let same_subnet =
        from.map(|node| (node.cluster, node.subnet)) == to.map(|node| (node.cluster, node.subnet));
    if let Some(crossing) = crossing(scenario, spec) {
        return crossing.cable.into();
    }
    if let Some(said) = spec.encapsulation {
        return said;
    }
    let overlay = match &scenario.fabric {
        Fabric::Lab(lab) => to
            .and_then(|node| lab.clusters.get(node.cluster))
            .map(|cluster| cluster.calico.encapsulation),
        Fabric::Hosts(_) | Fabric::Kubernetes(_) => None,
    }
    .unwrap_or_default();
    let apart = from.map(|node| node.cluster) != to.map(|node| node.cluster);
    match spec.vxlan_mode {
        Some(_) if apart && matches!(scenario.fabric, Fabric::Kubernetes(_)) => Encapsulation::Unknown,
        _ if !pod || spec.from.node() == spec.to.node() => Encapsulation::None,
        // WireGuard takes whatever goes between the nodes' pods.
        Some(_) if overlay == Overlay::Wireguard => Encapsulation::Wireguard,
        Some(VxlanMode::Always) => overlay.into(),
        Some(VxlanMode::CrossSubnet) if !same_subnet => overlay.into(),
        Some(VxlanMode::CrossSubnet) | None => Encapsulation::None,
    }
}

/// The way of a path between pods of two clusters; `None` where it stays within one, nothing joins the clusters, or
/// its ends are nodes, which reach each other without Submariner.
pub(super) fn crossing(scenario: &Scenario, spec: &PathSpec) -> Option<Crossing> {
    let Fabric::Lab(lab) = &scenario.fabric else {
        return None;
    };
    let (from, to) = (scenario.node(spec.from.node())?, scenario.node(spec.to.node())?);
    let mode = spec.vxlan_mode?;
    if from.cluster == to.cluster {
        return None;
    }
    let gateway = |cluster: usize| {
        let name = lab.clusters.get(cluster)?.gateway_node()?;
        scenario.node(name)
    };
    let (from_gateway, to_gateway) = (gateway(from.cluster)?, gateway(to.cluster)?);
    let arrival = |gateway: NodeRef<'_>, node: NodeRef<'_>, place: &PlaceRef| {
        if gateway == node {
            return Encapsulation::None;
        }
        match mode {
            // Towards a node's own packets go to its tunnel address, which is in the Always pool.
            _ if !place.is_pod() => Encapsulation::Vxlan,
            VxlanMode::CrossSubnet if gateway.subnet == node.subnet => Encapsulation::None,
            VxlanMode::CrossSubnet | VxlanMode::Always => Encapsulation::Vxlan,
        }
    };
    Some(Crossing {
        cable: lab.submariner?.cable,
        from_gateway: from_gateway.name.to_owned(),
        to_gateway: to_gateway.name.to_owned(),
        arrival: arrival(to_gateway, to, &spec.to),
        return_arrival: arrival(from_gateway, from, &spec.from),
    })
}

/// `None` where a pod's pool is not said, which validation refuses.
fn place(place: &PlaceRef, mode: Option<VxlanMode>) -> Option<Place> {
    Some(match place {
        PlaceRef::Node(node) => Place::Node(node.clone()),
        PlaceRef::Pod { pod, node } => Place::Pod {
            pod: pod.clone(),
            node: node.clone(),
            mode: mode?,
        },
    })
}

fn path(scenario: &Scenario, spec: &PathSpec) -> Option<Path> {
    let (from, to) = (scenario.node(spec.from.node())?, scenario.node(spec.to.node())?);
    Some(Path {
        name: spec.name.clone(),
        from: place(&spec.from, spec.vxlan_mode)?,
        to: place(&spec.to, spec.vxlan_mode)?,
        vxlan_mode: spec.vxlan_mode,
        expected: expected(scenario, spec),
        same_node: from == to,
        same_subnet: (from.cluster, from.subnet) == (to.cluster, to.subnet),
        by: spec.by,
        expect: spec.expect,
        crossing: crossing(scenario, spec),
        user_space: None,
        together_with: spec
            .together_with
            .iter()
            .map(|pair| path(scenario, &spec.alone(pair)))
            .collect::<Option<_>>()?,
    })
}

fn cases(scenario: &Scenario) -> Vec<Case> {
    let mut slugs = BTreeSet::new();
    let mut cases = Vec::new();
    for path in scenario.paths.iter().filter_map(|spec| path(scenario, spec)) {
        // Nothing is measured where nothing gets through: one workload stands for all.
        let workloads = if path.expect.is_reachable() {
            scenario.workloads.len()
        } else {
            1
        };
        for workload in scenario.workloads.iter().take(workloads) {
            let base = format!(
                "{}--{}",
                slug(&path.name, "path"),
                slug(&workload.name, "workload")
            );
            let mut unique = base.clone();
            let mut number = 2;
            while !slugs.insert(unique.clone()) {
                unique = format!("{base}-{number}");
                number += 1;
            }
            cases.push(Case {
                slug: unique,
                path: path.clone(),
                workload: workload.clone(),
                load: load(scenario, workload),
            });
        }
    }
    cases
}

fn load(scenario: &Scenario, workload: &Workload) -> Option<Throughput> {
    let name = workload.latency.as_ref()?.during.as_ref()?;
    scenario
        .workloads
        .iter()
        .find(|other| other.name == *name)?
        .throughput
        .clone()
}

/// `name` in `[a-z0-9._-]`, without `--` within; `fallback` where nothing is left.
fn slug(name: &str, fallback: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    match slug.trim_matches(['-', '.']) {
        "" => fallback.to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

/// The gates of `scenario` that can't be judged since `--only` left out what they are about: name and reason.
pub fn skipped_gates(scenario: &Scenario, cases: &[Case]) -> BTreeMap<String, String> {
    let planned = |path: &str, workload: &str| {
        cases
            .iter()
            .any(|case| case.path.name == path && case.workload.name == workload)
    };
    scenario
        .gates
        .iter()
        .filter_map(|gate| {
            let paths = [Some(&gate.path), gate.relative_to.as_ref()];
            let missing = paths
                .into_iter()
                .flatten()
                .find(|path| !planned(path, &gate.workload))?;
            Some((
                gate.name.clone(),
                format!("--only leaves out {missing}/{}", gate.workload),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests;
