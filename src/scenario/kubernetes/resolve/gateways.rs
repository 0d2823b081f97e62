//! The gateways that paths between clusters pass: nodes that no choice names, but which are to be looked at.

use super::{called, place};
use crate::scenario::{ClusterFacts, Kubernetes, PathSpec, ResolvedNode, SubmarinerFacts};
use std::collections::BTreeSet;

/// Adds to `chosen` the active gateway of each cluster that pods of `paths` reach another cluster from, or are reached in,
/// where it is not among them.
pub(super) fn add(
    spec: &Kubernetes,
    paths: &[&PathSpec],
    facts: &[ClusterFacts],
    chosen: &mut Vec<ResolvedNode>,
    notes: &mut Vec<String>,
) {
    let cluster = |node: &str| spec.choice(node).map(|choice| spec.cluster_of(choice));
    let mut joined = BTreeSet::new();
    for path in paths {
        let (from, to) = (cluster(path.from.node()), cluster(path.to.node()));
        if from != to && (path.from.is_pod() || path.to.is_pod()) {
            joined.extend([from, to].into_iter().flatten());
        }
    }
    for facts in facts.iter().filter(|facts| joined.contains(facts.name.as_str())) {
        let Some(active) = facts.submariner.as_ref().and_then(SubmarinerFacts::active) else {
            continue;
        };
        let is_it = |node: &ResolvedNode| node.cluster == facts.name && node.node == active.node;
        if chosen.iter().any(is_it) {
            continue;
        }
        let mut why = "the cluster has no such node".to_owned();
        let node = facts.nodes.iter().find(|node| node.name == active.node);
        if let Some(node) = node {
            match (&node.unusable, place(node, facts, &mut Vec::new())) {
                (None, Ok((address, subnet))) => {
                    chosen.push(ResolvedNode {
                        name: name(spec, &facts.name),
                        cluster: facts.name.clone(),
                        node: node.name.clone(),
                        address,
                        subnet,
                        tunnel_address: node.tunnel_address,
                    });
                    continue;
                }
                (Some(unusable), _) => why = format!("it {unusable}"),
                (None, Err(error)) => why = error.to_string(),
            }
        }
        notes.push(format!(
            "nothing looks at {}, the gateway of {}: {why}",
            active.node,
            called(facts)
        ));
    }
}

/// A name that no choice has.
fn name(spec: &Kubernetes, cluster: &str) -> String {
    let mut name = format!("gateway-of-{cluster}");
    while spec.choice(&name).is_some() {
        name.push('-');
    }
    name
}
