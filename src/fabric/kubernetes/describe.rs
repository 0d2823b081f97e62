//! What the clusters of a run are, for its manifest.

use super::{api::Cluster, objects::RunMark, submariner};
use crate::scenario::{ClusterFacts, Resolved};
use std::collections::BTreeMap;

/// What the clusters are, for the manifest.
pub(super) fn describe(
    run: &RunMark,
    clusters: &[Cluster],
    facts: &[ClusterFacts],
    resolved: Option<&Resolved>,
) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut say = |key: String, value: String| {
        if !value.is_empty() {
            said.insert(key, value);
        }
    };
    say("kind".to_owned(), "kubernetes".to_owned());
    say("run".to_owned(), run.id.clone());
    for cluster in clusters {
        let name = &cluster.name;
        say(format!("context of {name}"), cluster.context.clone());
        say(format!("namespace of {name}"), cluster.namespace.clone());
    }
    for facts in facts {
        let name = &facts.name;
        say(format!("Kubernetes of {name}"), facts.version.clone());
        match (&facts.calico, &facts.no_calico) {
            (Some(calico), _) => {
                say(
                    format!("Calico of {name}"),
                    calico.version.clone().unwrap_or_default(),
                );
                for pool in &calico.pools {
                    let mode = pool
                        .vxlan_mode
                        .map_or("Never".to_owned(), |mode| mode.to_string());
                    let off = if pool.disabled { ", disabled" } else { "" };
                    say(
                        format!("IPPool {} of {name}", pool.name),
                        format!("{}, vxlanMode {mode}{off}", pool.cidr),
                    );
                }
                for (key, value) in &calico.felix {
                    say(format!("Felix {key} of {name}"), value.clone());
                }
            }
            (None, why) => say(format!("Calico of {name}"), why.clone().unwrap_or_default()),
        }
        let chosen = resolved.into_iter().flat_map(|resolved| &resolved.nodes);
        for chosen in chosen.filter(|node| node.cluster == *name) {
            if let Some(node) = facts.nodes.iter().find(|node| node.name == chosen.node) {
                say(
                    format!("node {}", chosen.name),
                    format!(
                        "{}, kernel {}, {}, {}, kubelet {}",
                        node.name, node.kernel, node.system, node.runtime, node.kubelet
                    ),
                );
            }
        }
    }
    for facts in facts {
        submariner::describe(facts, resolved, &mut said);
    }
    said
}
