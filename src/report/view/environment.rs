//! Where a run was measured, and how to do it again.

use super::super::{Inputs, digits, labels::plain};
use crate::{run::Manifest, scenario::Fabric};
use serde::Serialize;
use std::collections::BTreeSet;

/// A fact of the environment.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct Fact {
    pub name: String,
    pub value: String,
}

/// The command line as a shell takes it.
pub(super) fn command(manifest: &Manifest) -> String {
    manifest
        .command
        .iter()
        .map(|word| {
            let bare = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
            if !word.is_empty() && word.chars().all(bare) {
                word.clone()
            } else {
                format!("'{}'", plain(word).replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

pub(super) fn facts(inputs: &Inputs<'_>) -> Vec<Fact> {
    let manifest = inputs.manifest;
    let host = &manifest.host;
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.trim().is_empty() {
            facts.push(Fact {
                name: plain(name),
                value: plain(&value),
            });
        }
    };
    fact("encapbench", manifest.encapbench.clone());
    fact("started", manifest.started.to_string());
    fact("seed", manifest.seed.to_string());
    fact("host", host.name.clone());
    fact("system", host.os.clone());
    fact("kernel", host.kernel.clone());
    if !host.cpu.is_empty() || host.cores > 0 {
        fact("processor", format!("{}, {} cores", host.cpu, host.cores));
    }
    if host.memory_bytes > 0 {
        fact("memory", digits::bytes(host.memory_bytes as f64));
    }
    match &manifest.scenario.fabric {
        Fabric::Lab(lab) => {
            let nic = &lab.nic;
            fact(
                "NIC of each node",
                format!(
                    "{}, MTU {}, tunnel offloads {}",
                    nic.rate.map_or_else(
                        || "not shaped".to_owned(),
                        |rate| format!("{rate}, burst {}, queue {}", nic.burst, nic.queue)
                    ),
                    nic.mtu,
                    if nic.tunnel_offload { "on" } else { "off" }
                ),
            );
            for cluster in &lab.clusters {
                let nodes: usize = cluster.subnets.iter().map(|subnet| subnet.nodes.len()).sum();
                fact(
                    &format!("cluster {}", cluster.name),
                    format!(
                        "{nodes} nodes in {} subnets; VXLAN checksum offload {}{}",
                        cluster.subnets.len(),
                        if cluster.calico.vxlan_checksum_offload {
                            "on"
                        } else {
                            "off"
                        },
                        cluster
                            .firewall
                            .as_ref()
                            .map_or_else(String::new, |firewall| format!(
                                "; {} firewall rules, conntrack {}",
                                firewall.rules,
                                if firewall.conntrack { "on" } else { "off" }
                            ))
                    ),
                );
            }
        }
        Fabric::Hosts(hosts) => fact("hosts", hosts.nodes.len().to_string()),
        Fabric::Kubernetes(spec) => {
            let resolved = spec.resolved.clone().unwrap_or_default();
            for node in &resolved.nodes {
                fact(
                    &format!("node {}", node.name),
                    format!(
                        "{} of {}, {} in {}",
                        node.node, node.cluster, node.address, node.subnet
                    ),
                );
            }
            for pool in &resolved.pools {
                let own = if pool.own { ", made by encapbench" } else { "" };
                fact(
                    &format!("{} pool of {}", pool.mode, pool.cluster),
                    format!("{}, {}{own}", pool.name, pool.cidr),
                );
            }
            for note in &resolved.notes {
                fact("note", note.clone());
            }
        }
    }
    fact(
        "congestion control",
        match &manifest.congestion.used {
            Some(used) => used.clone(),
            None if manifest.congestion.wanted.is_empty() => String::new(),
            None => format!(
                "none of {} could be set by all",
                manifest.congestion.wanted.join(", ")
            ),
        },
    );
    let techniques: BTreeSet<String> = inputs
        .trials
        .iter()
        .flat_map(|trial| {
            trial
                .sender
                .iter()
                .map(|end| {
                    format!(
                        "send by {} of {} bytes",
                        end.techniques.send, end.techniques.length
                    )
                })
                .chain(trial.throughput.iter().map(|end| {
                    format!(
                        "receive by {} of {} bytes",
                        end.techniques.receive, end.techniques.length
                    )
                }))
        })
        .filter(|text| !text.contains("by  of"))
        .collect();
    fact(
        "throughput technique",
        techniques.into_iter().collect::<Vec<_>>().join("; "),
    );
    for (name, value) in &manifest.fabric {
        fact(name, value.clone());
    }
    facts
}
