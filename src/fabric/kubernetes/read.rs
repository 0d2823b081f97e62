//! Reads a cluster: nodes, Calico's pools and settings, and the ranges that are in use. Changes nothing.

use super::{
    api::{ApiError, Cluster},
    objects::RUN_LABEL,
    submariner,
};
use crate::{
    scenario::{
        CalicoApi, CalicoFacts, ClusterFacts, NodeFacts, PoolFacts, Range, TaintEffect, Toleration, VxlanMode,
    },
    units::Cidr4,
};
use k8s_openapi::api::core::v1::{Node, Service, Taint};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Where Calico's objects of a kind are.
pub(super) fn calico(api: CalicoApi, kind: &str, plural: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk(api.group(), api.version(), kind);
    ApiResource::from_gvk_with_plural(&kind, plural)
}

/// The IPPools.
pub(super) fn pools(api: CalicoApi) -> ApiResource {
    calico(api, "IPPool", "ippools")
}

/// Reads `cluster`. `tolerations` decide on which nodes pods can run; with `ranges` its services are read too, of which
/// new pools must stay clear.
///
/// # Errors
/// Where the API server can't be asked, or nodes may not be listed. What else may not be read is said in the facts.
pub async fn read(
    cluster: &Cluster,
    tolerations: &[Toleration],
    ranges: bool,
) -> Result<ClusterFacts, ApiError> {
    let client = cluster.client();
    let version = cluster
        .ask("ask for the API server's version", || client.apiserver_version())
        .await?;
    let api: Api<Node> = Api::all(client.clone());
    let everything = ListParams::default();
    let found = cluster.ask("list nodes", || api.list(&everything)).await?;
    let mut nodes: Vec<NodeFacts> = found
        .items
        .iter()
        .map(|node| facts_of(node, tolerations))
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut used: Vec<Range> = found.items.iter().flat_map(pod_ranges).collect();
    used.extend(nodes.iter().flat_map(node_ranges));
    let (calico, no_calico) = match calico_facts(cluster).await {
        Ok(Some(calico)) => (Some(calico), None),
        Ok(None) => (None, Some("the API has no IPPools of Calico".to_owned())),
        Err(error) => (None, Some(error.to_string())),
    };
    let (submariner, no_submariner) = match submariner::read(cluster).await {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error.to_string())),
    };
    if ranges {
        let api: Api<Service> = Api::all(client);
        let services = cluster
            .ask("list the services of all namespaces", || api.list(&everything))
            .await?;
        used.extend(service_ranges(&services.items));
    }
    Ok(ClusterFacts {
        name: cluster.name.clone(),
        version: version.git_version,
        nodes,
        calico,
        no_calico,
        ranges: used,
        submariner,
        no_submariner,
    })
}

fn facts_of(node: &Node, tolerations: &[Toleration]) -> NodeFacts {
    let annotations = node.metadata.annotations.clone().unwrap_or_default();
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.clone();
    let internal_ip = status
        .addresses
        .iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse().ok());
    let text = |pick: fn(&k8s_openapi::api::core::v1::NodeSystemInfo) -> &String| {
        info.as_ref().map(pick).cloned().unwrap_or_default()
    };
    NodeFacts {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        internal_ip,
        calico_address: annotations
            .get("projectcalico.org/IPv4Address")
            .and_then(|text| prefixed(text)),
        tunnel_address: annotations
            .get("projectcalico.org/IPv4VXLANTunnelAddr")
            .and_then(|text| text.parse().ok()),
        unusable: unusable(node, tolerations),
        kernel: text(|info| &info.kernel_version),
        system: text(|info| &info.os_image),
        runtime: text(|info| &info.container_runtime_version),
        kubelet: text(|info| &info.kubelet_version),
    }
}

/// `10.0.0.1/24`; without a prefix length it is /32, as Calico reads it.
fn prefixed(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    Some((address.parse().ok()?, prefix))
}

fn unusable(node: &Node, tolerations: &[Toleration]) -> Option<String> {
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|one| one.type_ == "Ready");
    if let Some(ready) = ready
        && ready.status != "True"
    {
        let why = ready.message.clone().unwrap_or_default();
        return Some(format!("is not ready: {why}"));
    }
    if spec.unschedulable == Some(true) {
        return Some("is cordoned".to_owned());
    }
    spec.taints
        .iter()
        .flatten()
        .find(|taint| taint.effect != "PreferNoSchedule" && !tolerated(taint, tolerations))
        .map(|taint| {
            let value = taint
                .value
                .as_deref()
                .map_or_else(String::new, |value| format!("={value}"));
            format!(
                "has the taint {}{value}:{}, which `tolerations` don't name",
                taint.key, taint.effect
            )
        })
}

fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.is_none_or(|effect| {
            taint.effect
                == match effect {
                    TaintEffect::NoSchedule => "NoSchedule",
                    TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                    TaintEffect::NoExecute => "NoExecute",
                }
        });
        effect
            && toleration.key.as_ref().is_none_or(|key| *key == taint.key)
            && (toleration.value.is_none() || toleration.value == taint.value)
    })
}

fn pod_ranges(node: &Node) -> Vec<Range> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let all = spec
        .pod_cidrs
        .unwrap_or_default()
        .into_iter()
        .chain(spec.pod_cidr);
    all.filter_map(|text| text.parse().ok())
        .map(|cidr| Range {
            cidr,
            what: format!("the pods of node {name}"),
        })
        .collect()
}

fn node_ranges(node: &NodeFacts) -> Vec<Range> {
    let calico = node.calico_address.and_then(|(address, prefix)| {
        let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        Cidr4::new(Ipv4Addr::from_bits(address.to_bits() & mask), prefix)
    });
    let internal = node.internal_ip.and_then(|address| Cidr4::new(address, 32));
    let tunnel = node.tunnel_address.and_then(|address| Cidr4::new(address, 32));
    [calico, internal, tunnel]
        .into_iter()
        .flatten()
        .map(|cidr| Range {
            cidr,
            what: format!("node {}", node.name),
        })
        .collect()
}

/// The API doesn't tell the services' range to ordinary users. What is used of it is rounded to /16, which no
/// service range that anybody is known to use is smaller than and matters.
fn service_ranges(services: &[Service]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        for address in addresses.filter_map(|text| text.parse::<Ipv4Addr>().ok()) {
            let Some(cidr) = Cidr4::new(Ipv4Addr::from_bits(address.to_bits() & 0xffff_0000), 16) else {
                continue;
            };
            if !ranges.iter().any(|range| range.cidr == cidr) {
                ranges.push(Range {
                    cidr,
                    what: "services".to_owned(),
                });
            }
        }
    }
    ranges
}

/// Calico's settings; `None` where the API has none of its groups.
async fn calico_facts(cluster: &Cluster) -> Result<Option<CalicoFacts>, ApiError> {
    let client = cluster.client();
    let groups = cluster
        .ask("ask for the API's groups", || client.list_api_groups())
        .await?;
    let served = |api: CalicoApi| {
        groups.groups.iter().any(|group| {
            group.name == api.group()
                && group
                    .versions
                    .iter()
                    .any(|version| version.version == api.version())
        })
    };
    let mut last = None;
    for api in [CalicoApi::ProjectCalico, CalicoApi::Crd] {
        if !served(api) {
            continue;
        }
        match facts_by(cluster, api).await {
            Ok(facts) => return Ok(Some(facts)),
            // Calico's own API server may be down, and its custom resources there.
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(None), Err)
}

async fn facts_by(cluster: &Cluster, api: CalicoApi) -> Result<CalicoFacts, ApiError> {
    let client = cluster.client();
    let everything = ListParams::default();
    let ippools: Api<DynamicObject> = Api::all_with(client.clone(), &pools(api));
    let what = format!("list ippools.{}", api.group());
    let found = cluster.ask(&what, || ippools.list(&everything)).await?;
    let mut pools: Vec<PoolFacts> = found.items.iter().filter_map(pool_facts).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let one = async |kind: &str, plural: &str| {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &calico(api, kind, plural));
        let what = format!("read {plural}.{}/default", api.group());
        match cluster.ask(&what, || objects.get("default")).await {
            Ok(object) => object.data.get("spec").cloned().unwrap_or(Value::Null),
            Err(error) => {
                tracing::debug!("{error}");
                Value::Null
            }
        }
    };
    let felix = one("FelixConfiguration", "felixconfigurations").await;
    let information = one("ClusterInformation", "clusterinformations").await;
    Ok(CalicoFacts {
        api,
        pools,
        felix: flat(&felix),
        version: information
            .get("calicoVersion")
            .and_then(Value::as_str)
            .map(str::to_owned),
    })
}

/// `None` for a pool of IPv6, or one that can't be read.
fn pool_facts(pool: &DynamicObject) -> Option<PoolFacts> {
    let spec = pool.data.get("spec")?;
    let text = |key: &str| spec.get(key).and_then(Value::as_str);
    let vxlan_mode = match text("vxlanMode") {
        Some("Always") => Some(VxlanMode::Always),
        Some("CrossSubnet") => Some(VxlanMode::CrossSubnet),
        _ => None,
    };
    Some(PoolFacts {
        name: pool.metadata.name.clone()?,
        cidr: text("cidr")?.parse().ok()?,
        vxlan_mode,
        ipip: text("ipipMode").is_some_and(|mode| !mode.is_empty() && mode != "Never"),
        disabled: spec.get("disabled").and_then(Value::as_bool) == Some(true),
        block_size: spec
            .get("blockSize")
            .and_then(Value::as_u64)
            .and_then(|size| u8::try_from(size).ok())
            .unwrap_or(26),
        made_by: pool
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(RUN_LABEL))
            .cloned(),
        nat_outgoing: spec.get("natOutgoing").and_then(Value::as_bool) == Some(true),
        disable_bgp_export: spec.get("disableBGPExport").and_then(Value::as_bool) == Some(true),
        of_submariner: pool
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains_key("submariner.io/ippool")),
    })
}

/// An object's plain values as text.
fn flat(spec: &Value) -> BTreeMap<String, String> {
    let Some(object) = spec.as_object() else {
        return BTreeMap::new();
    };
    object
        .iter()
        .filter_map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((key.clone(), text))
        })
        .collect()
}
