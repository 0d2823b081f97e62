//! From a scenario's choices and a cluster's facts to nodes and pools. Pure.

use super::{
    ClusterFacts, Kubernetes, NodeChoice, NodeFacts, PoolFacts, Range, Resolved, ResolvedNode, ResolvedPool,
    SubmarinerFacts, SubmarinerRole,
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

/// The default of [`super::PoolChoices::own_range`] (RFC 2544).
const BENCHMARKS: &str = "198.18.0.0/15";
/// The prefix length of a node's block in pools of our own: 16 addresses, for the tunnel and for the few pods.
const OWN_BLOCK: u8 = 28;
/// How many nodes are told of that do not fit.
const SHOWN: usize = 8;
/// What a subnet is taken to be where a node doesn't say it.
const GUESSED_PREFIX: u8 = 24;

/// `scenario` with what `facts` say of its choices, in [`Kubernetes::resolved`], as far as `wanted` paths need them.
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
    let nodes = nodes(spec, &needed(spec, &paths), facts, &mut notes)?;
    let mut pools = Vec::new();
    for cluster in facts {
        let modes: BTreeSet<VxlanMode> = paths
            .iter()
            .filter(|path| pods_in(spec, path, &cluster.name))
            .filter_map(|path| path.vxlan_mode)
            .collect();
        for mode in modes {
            pools.push(pool(spec, cluster, mode, permissions, &pools, &mut notes)?);
        }
    }
    let mut resolved = scenario.clone();
    if let Fabric::Kubernetes(spec) = &mut resolved.fabric {
        spec.resolved = Some(Resolved { nodes, pools, notes });
    }
    Ok(resolved)
}

/// How many nodes of a cluster are looked into at most: each takes a pod or three.
pub const MOST_NODES: usize = 32;

/// Whole clusters instead of a scenario's choices: each usable node by its own name, gateways first, and of each mode
/// the pool that there is. Notes say what is left out.
pub fn whole(facts: &[ClusterFacts]) -> Resolved {
    let mut all = Resolved::default();
    for cluster in facts {
        let active = cluster.submariner.as_ref().and_then(SubmarinerFacts::active);
        let mut nodes: Vec<&NodeFacts> = cluster.nodes.iter().collect();
        nodes.sort_by_key(|node| (active.is_none_or(|active| active.node != node.name), &node.name));
        let mut taken = 0;
        for node in nodes {
            if let Some(why) = &node.unusable {
                all.notes
                    .push(format!("node {} of {}: {why}", node.name, called(cluster)));
                continue;
            }
            if taken == MOST_NODES {
                all.notes.push(format!(
                    "node {} of {}: {MOST_NODES} others are looked into already",
                    node.name,
                    called(cluster)
                ));
                continue;
            }
            match place(node, cluster, &mut Vec::new()) {
                Ok((address, subnet)) => all.nodes.push(ResolvedNode {
                    name: node.name.clone(),
                    cluster: cluster.name.clone(),
                    node: node.name.clone(),
                    address,
                    subnet,
                    tunnel_address: node.tunnel_address,
                }),
                Err(error) => all.notes.push(error.to_string()),
            }
            taken += 1;
        }
        for mode in VxlanMode::ALL {
            let fits = |pool: &&PoolFacts| pool.vxlan_mode == Some(mode) && !pool.disabled && !pool.ipip;
            let pool = cluster
                .calico
                .as_ref()
                .and_then(|calico| calico.pools.iter().find(fits));
            all.pools.extend(pool.map(|pool| ResolvedPool {
                cluster: cluster.name.clone(),
                mode,
                name: pool.name.clone(),
                cidr: pool.cidr,
                block_size: pool.block_size,
                own: false,
            }));
        }
    }
    all
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

fn nodes(
    spec: &Kubernetes,
    needed: &BTreeSet<&str>,
    facts: &[ClusterFacts],
    notes: &mut Vec<String>,
) -> Result<Vec<ResolvedNode>, ResolveError> {
    let mut chosen: Vec<ResolvedNode> = Vec::new();
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
        let node = find(choice, before, cluster, &chosen)?;
        let (address, subnet) = place(node, cluster, notes)?;
        chosen.push(ResolvedNode {
            name: choice.name.clone(),
            cluster: cluster.name.clone(),
            node: node.name.clone(),
            address,
            subnet,
            tunnel_address: node.tunnel_address,
        });
    }
    Ok(chosen)
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

/// The pool of a mode: the one that is named, else one that there is, else one of our own.
fn pool(
    spec: &Kubernetes,
    cluster: &ClusterFacts,
    mode: VxlanMode,
    permissions: &Permissions,
    planned: &[ResolvedPool],
    notes: &mut Vec<String>,
) -> Result<ResolvedPool, ResolveError> {
    let Some(calico) = &cluster.calico else {
        let why = cluster
            .no_calico
            .as_deref()
            .unwrap_or("it has no IPPools of Calico");
        return Err(ResolveError::NotAllowed(format!(
            "the pools of {} are not known ({why}), so no pod can be given an address of a {mode} pool; \
             --only leaves paths between pods out",
            called(cluster)
        )));
    };
    // What a pool will be while the run changes it.
    let becomes = |pool: &PoolFacts| permissions.change.get(&pool.name).copied().or(pool.vxlan_mode);
    let usable = |pool: &PoolFacts| becomes(pool) == Some(mode) && !pool.disabled && !pool.ipip;
    let as_resolved = |pool: &PoolFacts| ResolvedPool {
        cluster: cluster.name.clone(),
        mode,
        name: pool.name.clone(),
        cidr: pool.cidr,
        block_size: pool.block_size,
        own: false,
    };
    if let Some(name) = spec.pools.named(mode) {
        let Some(pool) = calico.pools.iter().find(|pool| pool.name == name) else {
            return Err(ResolveError::Unfit(format!(
                "{} has no IPPool {name}; it has {}",
                called(cluster),
                names(&calico.pools)
            )));
        };
        if !usable(pool) {
            return Err(ResolveError::Unfit(format!(
                "IPPool {name} is {}, so it can't stand for {mode}",
                state(pool)
            )));
        }
        return Ok(as_resolved(pool));
    }
    // A pool of another run goes when that run ends.
    if let Some(pool) = calico
        .pools
        .iter()
        .find(|pool| usable(pool) && pool.made_by.is_none())
    {
        return Ok(as_resolved(pool));
    }
    let vxlan = calico
        .pools
        .iter()
        .any(|pool| pool.vxlan_mode.is_some() && !pool.disabled && pool.made_by.is_none());
    if !permissions.own_pools {
        return Err(ResolveError::NotAllowed(format!(
            "{} has no enabled IPPool with vxlanMode {mode} (it has {}); --allow-ippools lets encapbench make a small \
             one of its own, which no other pod is given an address of, and remove it at the end",
            called(cluster),
            names(&calico.pools)
        )));
    }
    if !vxlan && !permissions.first_vxlan_pool {
        return Err(ResolveError::NotAllowed(format!(
            "{} has no enabled pool with VXLAN (it has {}): with the first one Calico sets up VXLAN on every node, which \
             restarts its agents and may lower the MTU of new pods; --allow-first-vxlan-pool does it all the same",
            called(cluster),
            names(&calico.pools)
        )));
    }
    if !vxlan {
        notes.push(format!(
            "encapbench's pool is the first with VXLAN of {}",
            called(cluster)
        ));
    }
    own(spec, cluster, &calico.pools, mode, planned)
}

/// A pool of our own, in the first gap of the range for it.
fn own(
    spec: &Kubernetes,
    cluster: &ClusterFacts,
    pools: &[PoolFacts],
    mode: VxlanMode,
    planned: &[ResolvedPool],
) -> Result<ResolvedPool, ResolveError> {
    let range = match spec.pools.own_range {
        Some(range) => range,
        None => BENCHMARKS
            .parse()
            .map_err(|_| ResolveError::Unfit("no range for pools".to_owned()))?,
    };
    // Two blocks a node: IPAM may hold one back while it is released.
    let blocks = (cluster.nodes.len().max(1) as u64 * 2)
        .next_power_of_two()
        .max(16);
    let bits = u8::try_from(blocks.ilog2()).unwrap_or(8);
    let prefix = OWN_BLOCK.saturating_sub(bits);
    let mut taken: Vec<Range> = cluster.ranges.clone();
    taken.extend(pools.iter().map(|pool| Range {
        cidr: pool.cidr,
        what: format!("IPPool {}", pool.name),
    }));
    taken.extend(planned.iter().map(|pool| Range {
        cidr: pool.cidr,
        what: format!("IPPool {}", pool.name),
    }));
    let free = (0..range.blocks(prefix))
        .filter_map(|index| range.block(prefix, index))
        .find(|cidr| !taken.iter().any(|other| other.cidr.overlaps(*cidr)));
    let Some(cidr) = free else {
        let in_the_way = taken.iter().find(|other| other.cidr.overlaps(range));
        let why = in_the_way.map_or_else(
            || format!("it is too small for a /{prefix}"),
            |other| format!("{} is there ({})", other.what, other.cidr),
        );
        return Err(ResolveError::NotAllowed(format!(
            "no room for a pool of {mode} in {range}: {why}; set `pools: {{ own-range: ... }}` to a range that is used \
             nowhere"
        )));
    };
    Ok(ResolvedPool {
        cluster: cluster.name.clone(),
        mode,
        name: format!("encapbench-{}", mode.to_string().to_lowercase()),
        cidr,
        block_size: OWN_BLOCK,
        own: true,
    })
}

fn state(pool: &PoolFacts) -> String {
    let mode = pool
        .vxlan_mode
        .map_or_else(|| "Never".to_owned(), |mode| mode.to_string());
    let mut text = format!("of vxlanMode {mode}");
    if pool.ipip {
        text.push_str(" with IP in IP");
    }
    if pool.disabled {
        text.push_str(", disabled");
    }
    text
}

fn names(pools: &[PoolFacts]) -> String {
    if pools.is_empty() {
        return "none".to_owned();
    }
    let each: Vec<String> = pools
        .iter()
        .map(|pool| format!("{} {}", pool.name, state(pool)))
        .collect();
    each.join(", ")
}

#[cfg(test)]
mod tests;
