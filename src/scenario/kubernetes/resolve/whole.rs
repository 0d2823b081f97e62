//! Whole clusters instead of a scenario's choices.

use super::{called, place};
use crate::scenario::{
    ClusterFacts, NodeFacts, PoolFacts, Resolved, ResolvedNode, ResolvedPool, SubmarinerFacts, VxlanMode,
};

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
