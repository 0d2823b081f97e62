//! From a scenario's choices and a cluster's facts to nodes and pools, and to the pairs of what stands for several nodes.
//! Pure.

mod gateways;
mod pairs;
mod pools;
mod whole;

pub use whole::{MOST_NODES, whole};

use super::{
    ClusterFacts, Kubernetes, NodeChoice, NodeFacts, Resolved, ResolvedNode, SubmarinerFacts, SubmarinerRole,
};
use crate::{
    scenario::{Fabric, PathSpec, Scenario, VxlanMode},
    units::Cidr4,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

/// What the user allows a run to do to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// It may make IPPools of its own (`--allow-ippools`).
    pub own_pools: bool,
    /// The pool may be the cluster's first with VXLAN (`--allow-first-vxlan-pool`).
    pub first_vxlan_pool: bool,
    /// Existing pools that are changed for the time of the run, by name (`--change-ippool`).
    pub change: BTreeMap<String, VxlanMode>,
}

/// Why a scenario does not fit a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The scenario asks for what this cluster has not.
    #[error("{0}")]
    Unfit(String),
    /// It needs something that was not allowed. The message says how.
    #[error("{0}")]
    NotAllowed(String),
}

/// How many nodes are told of that do not fit.
const SHOWN: usize = 8;
/// What a subnet is taken to be where a node doesn't say it.
const GUESSED_PREFIX: u8 = 24;

/// `scenario` with what `facts` say of its choices, in [`Kubernetes::resolved`], as far as `wanted` paths need them.
/// What stands for several nodes is spelled out: each of them, and each pair of a path of all pairs.
/// Pools of our own are only planned here; the fabric makes them. A scenario that was resolved before keeps its nodes.
///
/// # Errors
/// Where a choice fits no node, a pool is missing or may not be made, or a range is taken.
pub fn resolve(
    scenario: &Scenario,
    facts: &[ClusterFacts],
    permissions: &Permissions,
    wanted: impl Fn(&PathSpec) -> bool,
) -> Result<Scenario, ResolveError> {
    let Fabric::Kubernetes(spec) = &scenario.fabric else {
        return Ok(scenario.clone());
    };
    let paths: Vec<&PathSpec> = scenario.paths.iter().filter(|path| wanted(path)).collect();
    let mut notes = Vec::new();
    let mut chosen = nodes(spec, &needed(spec, &paths), facts, &mut notes)?;
    if spec.probe {
        gateways::add(spec, &paths, facts, &mut chosen.nodes, &mut notes);
    }
    let mut pools = Vec::new();
    for cluster in facts {
        let modes: BTreeSet<VxlanMode> = paths
            .iter()
            .filter(|path| pods_in(spec, path, &cluster.name))
            .filter_map(|path| path.vxlan_mode)
            .collect();
        for mode in modes {
            pools.push(pools::pool(spec, cluster, mode, permissions, &pools, &mut notes)?);
        }
    }
    let mut resolved = pairs::expanded(scenario, &chosen, &mut notes)?;
    if let Fabric::Kubernetes(spec) = &mut resolved.fabric {
        spec.resolved = Some(Resolved {
            nodes: chosen.nodes,
            pools,
            notes,
        });
    }
    Ok(resolved)
}

/// Whether a pod of the path is in that cluster.
fn pods_in(spec: &Kubernetes, path: &PathSpec, cluster: &str) -> bool {
    [&path.from, &path.to].into_iter().any(|place| {
        place.is_pod()
            && spec
                .choice(place.node())
                .is_some_and(|choice| spec.cluster_of(choice) == cluster)
    })
}

/// The nodes that paths name, and those by which these are chosen.
fn needed<'a>(spec: &'a Kubernetes, paths: &[&'a PathSpec]) -> BTreeSet<&'a str> {
    let mut names: BTreeSet<&str> = paths
        .iter()
        .flat_map(|path| [path.from.node(), path.to.node()])
        .collect();
    // A choice stands after those that it refers to.
    for choice in spec.nodes.iter().rev() {
        if names.contains(choice.name.as_str()) {
            names.extend(choice.same_subnet_as.as_deref());
            names.extend(choice.other_subnet_than.as_deref());
        }
    }
    names
}

/// What was chosen of the clusters.
struct Chosen {
    /// The nodes, in the order of the choices.
    nodes: Vec<ResolvedNode>,
    /// Of each choice of several nodes, the names of those that it stands for.
    groups: BTreeMap<String, Vec<String>>,
}

fn nodes(
    spec: &Kubernetes,
    needed: &BTreeSet<&str>,
    facts: &[ClusterFacts],
    notes: &mut Vec<String>,
) -> Result<Chosen, ResolveError> {
    let mut chosen: Vec<ResolvedNode> = Vec::new();
    let mut groups = BTreeMap::new();
    for choice in spec
        .nodes
        .iter()
        .filter(|choice| needed.contains(choice.name.as_str()))
    {
        let cluster = spec.cluster_of(choice);
        let Some(cluster) = facts.iter().find(|facts| facts.name == cluster) else {
            return Err(ResolveError::Unfit(format!("cluster {cluster} was not read")));
        };
        let before = spec.resolved_node(&choice.name);
        let mut members = Vec::new();
        for number in 1..=choice.up_to.unwrap_or(1) {
            let node = match find(choice, before, cluster, &chosen) {
                // As many as there are; one at least.
                Err(_) if number > 1 => break,
                found => found?,
            };
            let (address, subnet) = place(node, cluster, notes)?;
            let name = match choice.up_to {
                None => choice.name.clone(),
                Some(_) => format!("{}-{number}", choice.name),
            };
            members.push(name.clone());
            chosen.push(ResolvedNode {
                name,
                cluster: cluster.name.clone(),
                node: node.name.clone(),
                address,
                subnet,
                tunnel_address: node.tunnel_address,
            });
        }
        if choice.up_to.is_some() {
            groups.insert(choice.name.clone(), members);
        }
    }
    Ok(Chosen {
        nodes: chosen,
        groups,
    })
}

/// The first node, by name, that a choice allows.
fn find<'a>(
    choice: &NodeChoice,
    before: Option<&ResolvedNode>,
    cluster: &'a ClusterFacts,
    chosen: &[ResolvedNode],
) -> Result<&'a NodeFacts, ResolveError> {
    let mut refusals = Vec::new();
    let mut candidates: Vec<&NodeFacts> = cluster.nodes.iter().collect();
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    for node in candidates {
        match refusal(choice, before, node, cluster, chosen) {
            None => return Ok(node),
            Some(why) => refusals.push(format!("{}: {why}", node.name)),
        }
    }
    let mut text = format!("no node of {} fits {}", called(cluster), choice.name);
    if refusals.is_empty() {
        text.push_str(": the cluster has no nodes");
    } else {
        text.push_str(" (");
        let more = refusals.len().saturating_sub(SHOWN);
        refusals.truncate(SHOWN);
        if more > 0 {
            refusals.push(format!("and {more} more"));
        }
        text.push_str(&refusals.join("; "));
        text.push(')');
    }
    Err(ResolveError::Unfit(text))
}

/// Why a node is not the one; `None`: it is.
fn refusal(
    choice: &NodeChoice,
    before: Option<&ResolvedNode>,
    node: &NodeFacts,
    cluster: &ClusterFacts,
    chosen: &[ResolvedNode],
) -> Option<String> {
    let wanted = before.map(|before| &before.node).or(choice.node.as_ref());
    if let Some(wanted) = wanted
        && *wanted != node.name
    {
        return Some(format!("is not named {wanted}"));
    }
    for (key, value) in &choice.labels {
        if node.labels.get(key) != Some(value) {
            return Some(format!("has no label {key}={value}"));
        }
    }
    if let Some(zone) = &choice.zone {
        // The second is the name before Kubernetes 1.17.
        let keys = [
            "topology.kubernetes.io/zone",
            "failure-domain.beta.kubernetes.io/zone",
        ];
        if !keys.iter().any(|key| node.labels.get(*key) == Some(zone)) {
            return Some(format!("is not in zone {zone}"));
        }
    }
    if let Some(role) = &choice.role
        && !node
            .labels
            .contains_key(&format!("node-role.kubernetes.io/{role}"))
    {
        return Some(format!("has no role {role}"));
    }
    if let Some(role) = choice.submariner {
        let active = cluster.submariner.as_ref().and_then(SubmarinerFacts::active);
        let is_gateway = active.is_some_and(|gateway| gateway.node == node.name);
        match role {
            SubmarinerRole::Gateway if !is_gateway => {
                let why = cluster.no_submariner.as_deref().unwrap_or_default();
                return Some(format!(
                    "is no active gateway of Submariner{}{why}",
                    if why.is_empty() { "" } else { ": " }
                ));
            }
            SubmarinerRole::NonGateway if is_gateway => {
                return Some("is the active gateway of Submariner".to_owned());
            }
            _ => {}
        }
    }
    if let Some(other) = chosen
        .iter()
        .find(|other| other.cluster == cluster.name && other.node == node.name)
    {
        return Some(format!("is {} already", other.name));
    }
    if let Some(why) = &node.unusable {
        return Some(why.clone());
    }
    let Ok((_, subnet)) = place(node, cluster, &mut Vec::new()) else {
        return Some("has no IPv4 address".to_owned());
    };
    let other = |name: &Option<String>| {
        let name = name.as_ref()?;
        chosen.iter().find(|other| other.name == *name)
    };
    if let Some(other) = other(&choice.same_subnet_as)
        && other.subnet != subnet
    {
        return Some(format!(
            "is in {subnet}, not in {} of {}",
            other.subnet, other.name
        ));
    }
    if let Some(other) = other(&choice.other_subnet_than)
        && other.subnet == subnet
    {
        return Some(format!("is in {subnet}, as {} is", other.name));
    }
    None
}

/// A node's address and the subnet that it is in.
///
/// Calico takes a node without a prefix length, or with /32, for alone in its subnet: then CrossSubnet encapsulates
/// everything. Such a node is put here where its address belongs, so that the evidence contradicts what was said.
fn place(
    node: &NodeFacts,
    cluster: &ClusterFacts,
    notes: &mut Vec<String>,
) -> Result<(Ipv4Addr, Cidr4), ResolveError> {
    let known = node
        .calico_address
        .map(|(address, _)| address)
        .or(node.internal_ip);
    let Some(address) = known else {
        return Err(ResolveError::Unfit(format!(
            "node {} of {} has no IPv4 address",
            node.name,
            called(cluster)
        )));
    };
    let around = |prefix: u8| {
        let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        Cidr4::new(Ipv4Addr::from_bits(address.to_bits() & mask), prefix)
    };
    if let Some((_, prefix)) = node.calico_address
        && prefix < 32
        && let Some(subnet) = around(prefix)
    {
        return Ok((address, subnet));
    }
    let neighbours = cluster.nodes.iter().filter_map(|other| {
        let (other, prefix) = other.calico_address.filter(|(_, prefix)| *prefix < 32)?;
        let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        Cidr4::new(Ipv4Addr::from_bits(other.to_bits() & mask), prefix).filter(|cidr| cidr.contains(address))
    });
    let subnet = neighbours
        .max_by_key(|cidr| cidr.prefix())
        .or_else(|| around(GUESSED_PREFIX))
        .ok_or_else(|| ResolveError::Unfit(format!("node {} has no subnet", node.name)))?;
    let why = match node.calico_address {
        Some((_, prefix)) => format!(
            "Calico has node {} as {address}/{prefix}, alone in its subnet: CrossSubnet then encapsulates everything \
             to and from it",
            node.name
        ),
        None => format!("Calico says no address of node {}", node.name),
    };
    let note = format!("{why}; it is taken to be in {subnet}");
    if !notes.contains(&note) {
        notes.push(note);
    }
    Ok((address, subnet))
}

fn called(cluster: &ClusterFacts) -> String {
    if cluster.name == Kubernetes::ONLY {
        "the cluster".to_owned()
    } else {
        format!("cluster {}", cluster.name)
    }
}

#[cfg(test)]
mod tests;
