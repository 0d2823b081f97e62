//! What a cluster's API says of itself, beside what its nodes show: Calico's pools and settings, Submariner's gateways
//! and their connections (preflight list, 5, 7, 9 and 12). Commands are for wherever kubectl works.

use crate::doctor::finding::{Finding, Severity};
use crate::scenario::{CalicoFacts, ClusterFacts, SubmarinerFacts, VxlanMode};

/// Where a remedy is a kubectl command.
const CLUSTER: &str = "cluster";

/// All that is wrong with what the clusters say.
pub fn of_clusters(facts: &[ClusterFacts]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for facts in facts {
        prefixes(facts, &mut findings);
        if let Some(calico) = &facts.calico {
            checksum_offload(facts, calico, &mut findings);
        }
        if let Some(submariner) = &facts.submariner {
            gateways(facts, submariner, &mut findings);
            if let Some(calico) = &facts.calico {
                remote_pools(facts, calico, submariner, &mut findings);
            }
        }
    }
    findings
}

/// A node that Calico takes for alone in its subnet.
fn prefixes(facts: &ClusterFacts, findings: &mut Vec<Finding>) {
    let crosses = facts.calico.as_ref().is_some_and(|calico| {
        calico
            .pools
            .iter()
            .any(|pool| pool.vxlan_mode == Some(VxlanMode::CrossSubnet) && !pool.disabled)
    });
    if !crosses || facts.nodes.len() < 2 {
        return;
    }
    for node in &facts.nodes {
        let Some((address, 32)) = node.calico_address else {
            continue;
        };
        findings.push(
            Finding::new(
                "node-prefix-32",
                Severity::Warning,
                &node.name,
                format!("CrossSubnet encapsulates everything that {} sends", node.name),
            )
            .seen(format!(
                "annotation projectcalico.org/IPv4Address: {address}/32, or no prefix length at all"
            ))
            .why(
                "Calico compares subnets by the prefix length of the node's address; with /32 every node is in another \
                 one, so that CrossSubnet costs what Always costs",
            )
            .remedy_at(
                CLUSTER,
                format!(
                    "kubectl annotate node {} --overwrite projectcalico.org/IPv4Address={address}/PREFIX  # the subnet's",
                    node.name
                ),
            )
            .verify_at(
                CLUSTER,
                format!(
                    "! kubectl get node {} -o jsonpath='{{.metadata.annotations.projectcalico\\.org/IPv4Address}}' | grep -q '/32$'",
                    node.name
                ),
            ),
        );
    }
}

/// Versions of Calico that switch the tunnel's checksum offload off on every kernel (its feature_detect.go).
fn always_off(version: &str) -> bool {
    let mut parts = version
        .trim_start_matches('v')
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().ok());
    let (Some(Some(3)), Some(Some(minor)), Some(Some(patch))) = (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    matches!((minor, patch), (25 | 26, _) | (27, 0..=3) | (28, 1))
}

fn checksum_offload(facts: &ClusterFacts, calico: &CalicoFacts, findings: &mut Vec<Finding>) {
    let Some(version) = calico.version.as_deref().filter(|version| always_off(version)) else {
        return;
    };
    let told = calico
        .felix
        .get("featureDetectOverride")
        .is_some_and(|text| text.contains("ChecksumOffloadBroken"));
    let encapsulates = calico
        .pools
        .iter()
        .any(|pool| pool.vxlan_mode.is_some() && !pool.disabled);
    if told || !encapsulates {
        return;
    }
    findings.push(
        Finding::new(
            "checksum-offload-off",
            Severity::Warning,
            &facts.name,
            format!("Calico {version} switches the tunnel's checksum offload off on every kernel"),
        )
        .seen(format!(
            "Calico {version} (3.25.0 to 3.27.3 and 3.28.1 do), FelixConfiguration without featureDetectOverride"
        ))
        .why(
            "each encapsulated packet's checksum is then worked out by the CPU, and segmentation goes with it: a large \
             share of the throughput under Always. Later versions do so only where the kernel is 5.7 or older",
        )
        .remedy_at(
            CLUSTER,
            "kubectl patch felixconfiguration default --type merge -p \
             '{\"spec\":{\"featureDetectOverride\":\"ChecksumOffloadBroken=false\"}}'  # Felix heeds it when it makes the \
             device anew; or upgrade Calico",
        )
        .verify_at(
            CLUSTER,
            "kubectl get felixconfiguration default -o jsonpath='{.spec.featureDetectOverride}' | grep -q ChecksumOffloadBroken=false",
        ),
    );
}

fn gateways(facts: &ClusterFacts, submariner: &SubmarinerFacts, findings: &mut Vec<Finding>) {
    let id = "submariner-gateway";
    let status = "kubectl get gateways.submariner.io -A -o wide; subctl show all";
    let restart = "kubectl delete pods -n submariner-operator -l app=submariner-gateway";
    let active: Vec<&str> = submariner
        .gateways
        .iter()
        .filter(|gateway| gateway.active)
        .map(|gateway| gateway.node.as_str())
        .collect();
    if active.len() != 1 {
        let mut finding = Finding::new(
            id,
            Severity::Error,
            &facts.name,
            match active.len() {
                0 => "no gateway of Submariner is active".to_owned(),
                several => format!("{several} gateways of Submariner are active at once"),
            },
        );
        for gateway in &submariner.gateways {
            finding = finding.seen(format!(
                "Gateway {}: {}{}",
                gateway.node,
                if gateway.active { "active" } else { "passive" },
                if gateway.failure.is_empty() {
                    String::new()
                } else {
                    format!(", {}", gateway.failure)
                }
            ));
        }
        if submariner.gateways.is_empty() {
            finding = finding.seen("there is no Gateway object");
        }
        findings.push(
            finding
                .why("one node carries all packets to other clusters; its routes, rules and cable are made when it becomes active")
                .remedy_at(CLUSTER, restart)
                .on_a_cluster("# where no node is meant to be the gateway: kubectl label node NODE submariner.io/gateway=true")
                .verify_at(
                    CLUSTER,
                    "test $(kubectl get gateways.submariner.io -A -o jsonpath='{.items[*].status.haStatus}' | tr ' ' '\\n' | grep -cx active) = 1",
                ),
        );
    }
    for gateway in submariner.gateways.iter().filter(|gateway| gateway.active) {
        for connection in &gateway.connections {
            if connection.status == "connected" {
                continue;
            }
            findings.push(
                Finding::new(
                    id,
                    Severity::Error,
                    &gateway.node,
                    format!("the cable to cluster {} is not connected", connection.cluster_id),
                )
                .seen(format!(
                    "{} ({}): {}",
                    connection.status,
                    connection.cable,
                    if connection.message.is_empty() {
                        "no message"
                    } else {
                        &connection.message
                    }
                ))
                .why("no packet reaches that cluster; its gateway, UDP 4500 and 4490 between the two, and their secrets are what it stands on")
                .remedy_at(CLUSTER, restart)
                .on_a_cluster(status)
                .verify_at(
                    CLUSTER,
                    format!(
                        "kubectl get gateways.submariner.io -A -o jsonpath='{{range .items[*].status.connections[*]}}{{.endpoint.cluster_id}}={{.status}} {{end}}' | grep -q '{}=connected'",
                        connection.cluster_id
                    ),
                ),
            );
        }
        if !gateway.failure.is_empty() {
            findings.push(
                Finding::new(
                    id,
                    Severity::Error,
                    &gateway.node,
                    "the gateway says that it fails",
                )
                .seen(gateway.failure.clone())
                .why("it carries all packets to other clusters")
                .remedy_at(CLUSTER, restart)
                .on_a_cluster(status),
            );
        }
    }
}

/// Pools that stand for other clusters' ranges: they keep Calico from masquerading, and must do nothing else.
fn remote_pools(
    facts: &ClusterFacts,
    calico: &CalicoFacts,
    submariner: &SubmarinerFacts,
    findings: &mut Vec<Finding>,
) {
    let remote = submariner.remote_cidrs();
    let masquerades = calico
        .pools
        .iter()
        .any(|pool| pool.nat_outgoing && !pool.of_submariner);
    for cidr in &remote {
        let pools: Vec<_> = calico
            .pools
            .iter()
            .filter(|pool| pool.cidr.overlaps(*cidr))
            .collect();
        if pools.is_empty() && masquerades {
            findings.push(
                Finding::new(
                    "remote-pool",
                    Severity::Warning,
                    &facts.name,
                    format!("no IPPool stands for {cidr} of another cluster"),
                )
                .seen(format!(
                    "IPPools: {}",
                    calico
                        .pools
                        .iter()
                        .map(|pool| format!("{} {}", pool.name, pool.cidr))
                        .collect::<Vec<_>>()
                        .join(", ")
                ))
                .why(
                    "with natOutgoing Calico gives what leaves for addresses outside all pools the node's address. \
                     Submariner makes a disabled pool for each range of another cluster, where Calico's API server runs",
                )
                .remedy_at(
                    CLUSTER,
                    format!(
                        "printf '%s' '{{\"apiVersion\":\"{}/{}\",\"kind\":\"IPPool\",\"metadata\":{{\"name\":\"submariner-{}\",\
                         \"labels\":{{\"submariner.io/ippool\":\"true\"}}}},\"spec\":{{\"cidr\":\"{cidr}\",\"natOutgoing\":false,\
                         \"disabled\":true,\"disableBGPExport\":true}}}}' | kubectl apply -f -",
                        calico.api.group(),
                        calico.api.version(),
                        cidr.to_string().replace(['.', '/'], "-")
                    ),
                )
                .verify_at(CLUSTER, format!("kubectl get ippools -o jsonpath='{{.items[*].spec.cidr}}' | grep -qw '{cidr}'")),
            );
        }
        for pool in pools {
            let mut wrong = Vec::new();
            let mut patch = Vec::new();
            if !pool.disabled {
                wrong.push("disabled: false, so that pods here may get addresses of another cluster");
                patch.push("\"disabled\":true");
            }
            if pool.nat_outgoing {
                wrong.push("natOutgoing: true, so that its packets may get the node's address");
                patch.push("\"natOutgoing\":false");
            }
            if !pool.disable_bgp_export {
                wrong.push("disableBGPExport: false, so that BIRD tells other nodes a way that overrides Submariner's routes");
                patch.push("\"disableBGPExport\":true");
            }
            // A pool of the cluster's own that overlaps is another matter.
            if wrong.is_empty() || !pool.of_submariner && pool.cidr != *cidr {
                continue;
            }
            let mut finding = Finding::new(
                "remote-pool",
                Severity::Error,
                &facts.name,
                format!(
                    "IPPool {} stands for {cidr} of another cluster, and does more than that",
                    pool.name
                ),
            );
            for text in wrong {
                finding = finding.seen(format!("IPPool {} ({}): {text}", pool.name, pool.cidr));
            }
            findings.push(
                finding
                    .why(
                        "such a pool is there only so that Calico doesn't masquerade (Submariner before 0.17.3, 0.18.1 and 0.19 \
                         forgot disableBGPExport: \"unreachable\" and `proto bird` routes on the nodes)",
                    )
                    .remedy_at(
                        CLUSTER,
                        format!(
                            "kubectl patch ippools.{} {} --type merge -p '{{\"spec\":{{{}}}}}'",
                            calico.api.group(),
                            pool.name,
                            patch.join(",")
                        ),
                    )
                    .on_a_cluster(super::submariner::RESTART)
                    .verify_at(
                        CLUSTER,
                        format!(
                            "kubectl get ippools.{} {} -o jsonpath='{{.spec.disabled}} {{.spec.disableBGPExport}}' | grep -qx 'true true'",
                            calico.api.group(),
                            pool.name
                        ),
                    ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{CalicoApi, ConnectionFacts, EndpointFacts, GatewayFacts, NodeFacts, PoolFacts};

    fn pool(name: &str, cidr: &str) -> PoolFacts {
        PoolFacts {
            name: name.to_owned(),
            cidr: cidr.parse().unwrap(),
            vxlan_mode: None,
            ipip: false,
            disabled: true,
            block_size: 26,
            made_by: None,
            nat_outgoing: false,
            disable_bgp_export: true,
            of_submariner: true,
        }
    }

    fn healthy() -> ClusterFacts {
        let own = PoolFacts {
            vxlan_mode: Some(VxlanMode::CrossSubnet),
            disabled: false,
            nat_outgoing: true,
            of_submariner: false,
            ..pool("default", "10.244.0.0/16")
        };
        let node = |name: &str, address: &str| NodeFacts {
            name: name.to_owned(),
            calico_address: Some((address.parse().unwrap(), 24)),
            ..NodeFacts::default()
        };
        ClusterFacts {
            name: "c1".to_owned(),
            nodes: vec![node("n1", "10.0.0.1"), node("n2", "10.0.0.2")],
            calico: Some(CalicoFacts {
                api: CalicoApi::Crd,
                pools: vec![own, pool("submariner-c2", "10.99.0.0/16")],
                felix: std::collections::BTreeMap::new(),
                version: Some("v3.28.2".to_owned()),
            }),
            submariner: Some(SubmarinerFacts {
                cluster_id: "c1".to_owned(),
                gateways: vec![GatewayFacts {
                    node: "n1".to_owned(),
                    active: true,
                    connections: vec![ConnectionFacts {
                        cluster_id: "c2".to_owned(),
                        status: "connected".to_owned(),
                        ..ConnectionFacts::default()
                    }],
                    ..GatewayFacts::default()
                }],
                endpoints: vec![EndpointFacts {
                    cluster_id: "c2".to_owned(),
                    subnets: vec!["10.99.0.0/16".parse().unwrap()],
                    ..EndpointFacts::default()
                }],
                ..SubmarinerFacts::default()
            }),
            ..ClusterFacts::default()
        }
    }

    fn found(change: impl FnOnce(&mut ClusterFacts)) -> Vec<String> {
        let mut facts = healthy();
        change(&mut facts);
        of_clusters(&[facts])
            .iter()
            .map(|finding| format!("{} {}", finding.id, finding.place))
            .collect()
    }

    #[test]
    fn what_the_api_says_is_judged() {
        assert_eq!(found(|_| {}), Vec::<String>::new());
        let calico =
            |facts: &mut ClusterFacts, change: fn(&mut CalicoFacts)| change(facts.calico.as_mut().unwrap());
        let submariner = |facts: &mut ClusterFacts, change: fn(&mut SubmarinerFacts)| {
            change(facts.submariner.as_mut().unwrap());
        };
        let one = |change: &dyn Fn(&mut ClusterFacts)| found(|facts| change(facts));
        assert_eq!(
            one(&|facts| calico(facts, |calico| calico.pools[1].disable_bgp_export = false)),
            ["remote-pool c1"]
        );
        assert_eq!(
            one(&|facts| calico(facts, |calico| calico.pools.truncate(1))),
            ["remote-pool c1"]
        );
        assert_eq!(
            one(&|facts| calico(facts, |calico| calico.version = Some("v3.27.2".to_owned()))),
            ["checksum-offload-off c1"]
        );
        assert_eq!(
            one(&|facts| submariner(facts, |all| all.gateways[0].active = false)),
            ["submariner-gateway c1"]
        );
        assert_eq!(
            one(&|facts| submariner(facts, |all| {
                all.gateways[0].connections[0].status = "error".to_owned();
            })),
            ["submariner-gateway n1"]
        );
        assert_eq!(
            one(&|facts| facts.nodes[1].calico_address = Some(("10.0.0.2".parse().unwrap(), 32))),
            ["node-prefix-32 n2"]
        );
    }

    #[test]
    fn versions_that_switch_the_offload_off() {
        for (version, off) in [
            ("v3.24.5", false),
            ("v3.25.0", true),
            ("v3.27.3", true),
            ("v3.27.4", false),
            ("v3.28.0", false),
            ("3.28.1", true),
            ("v3.28.2-0.dev", false),
            ("v3.31.2", false),
            ("master", false),
        ] {
            assert_eq!(always_off(version), off, "{version}");
        }
    }
}
