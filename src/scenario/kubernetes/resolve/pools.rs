//! Which pool stands for a mode, and where there is room for one of our own.

use super::{Permissions, ResolveError, called};
use crate::scenario::{ClusterFacts, Kubernetes, PoolFacts, Range, ResolvedPool, VxlanMode};

/// The default of [`PoolChoices::own_range`](crate::scenario::PoolChoices) (RFC 2544).
const BENCHMARKS: &str = "198.18.0.0/15";
/// The prefix length of a node's block in pools of our own: 16 addresses, for the tunnel and for the few pods.
const OWN_BLOCK: u8 = 28;

/// The pool of a mode: the one that is named, else one that there is, else one of our own.
pub(super) fn pool(
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
