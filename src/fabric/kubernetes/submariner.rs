//! Submariner's objects (`submariner.io/v1`), read and never written: which node is the gateway, by what cable the
//! clusters are joined, and which ranges are whose.

use super::api::{ApiError, Cluster};
use crate::{
    scenario::{
        ClusterFacts, ConnectionFacts, EndpointFacts, GatewayFacts, JoinedCluster, Resolved, SubmarinerFacts,
    },
    units::Cidr4,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The group of the API.
pub(super) const GROUP: &str = "submariner.io";
const VERSION: &str = "v1";

/// What Submariner says; `None` where the API has none of its objects.
pub(super) async fn read(cluster: &Cluster) -> Result<Option<SubmarinerFacts>, ApiError> {
    let client = cluster.client();
    let groups = cluster
        .ask("ask for the API's groups", || client.list_api_groups())
        .await?;
    if !groups.groups.iter().any(|group| group.name == GROUP) {
        return Ok(None);
    }
    let gateways = list(cluster, "Gateway", "gateways").await?;
    let endpoints = list(cluster, "Endpoint", "endpoints").await?;
    let clusters = list(cluster, "Cluster", "clusters").await?;
    let own = gateways
        .iter()
        .map(|gateway| text(gateway, "/status/localEndpoint/cluster_id"))
        .find(|id| !id.is_empty());
    let mut facts = SubmarinerFacts {
        cluster_id: own.unwrap_or_default(),
        gateways: gateways.iter().map(gateway).collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        clusters: clusters.iter().map(joined).collect(),
    };
    facts.gateways.sort_by(|a, b| a.node.cmp(&b.node));
    facts
        .endpoints
        .sort_by(|a, b| (&a.cluster_id, &a.node).cmp(&(&b.cluster_id, &b.node)));
    facts.clusters.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Some(facts))
}

async fn list(cluster: &Cluster, kind: &str, plural: &str) -> Result<Vec<Value>, ApiError> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural);
    let objects: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let everything = ListParams::default();
    let what = format!("list {plural}.{GROUP}");
    let found = cluster.ask(&what, || objects.list(&everything)).await?;
    Ok(found
        .items
        .into_iter()
        .map(|object| {
            let mut data = object.data;
            if let (Some(data), Some(name)) = (data.as_object_mut(), object.metadata.name) {
                data.insert("name".to_owned(), Value::String(name));
            }
            data
        })
        .collect())
}

fn text(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// What is IPv4 of a list of ranges.
fn ranges(object: &Value, pointer: &str) -> Vec<Cidr4> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|range| range.as_str()?.parse().ok())
        .collect()
}

fn gateway(object: &Value) -> GatewayFacts {
    let host = text(object, "/status/localEndpoint/hostname");
    GatewayFacts {
        // The object is named as its node is; the endpoint says it too.
        node: if host.is_empty() {
            text(object, "/name")
        } else {
            host
        },
        active: text(object, "/status/haStatus") == "active",
        version: text(object, "/status/version"),
        failure: text(object, "/status/statusFailure"),
        cable: text(object, "/status/localEndpoint/backend"),
        connections: object
            .pointer("/status/connections")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|connection| ConnectionFacts {
                cluster_id: text(connection, "/endpoint/cluster_id"),
                status: text(connection, "/status"),
                message: text(connection, "/statusMessage"),
                cable: text(connection, "/endpoint/backend"),
            })
            .collect(),
    }
}

fn endpoint(object: &Value) -> EndpointFacts {
    EndpointFacts {
        cluster_id: text(object, "/spec/cluster_id"),
        node: text(object, "/spec/hostname"),
        subnets: ranges(object, "/spec/subnets"),
        cable: text(object, "/spec/backend"),
        port: text(object, "/spec/backend_config/udp-port").parse().ok(),
    }
}

fn joined(object: &Value) -> JoinedCluster {
    JoinedCluster {
        id: text(object, "/spec/cluster_id"),
        pods: ranges(object, "/spec/cluster_cidr"),
        services: ranges(object, "/spec/service_cidr"),
        global: ranges(object, "/spec/global_cidr"),
    }
}

fn listed(ranges: &[Cidr4]) -> String {
    let all: Vec<String> = ranges.iter().map(Cidr4::to_string).collect();
    all.join(" ")
}

/// What a reader of the results should know of it.
pub(super) fn describe(
    facts: &ClusterFacts,
    resolved: Option<&Resolved>,
    said: &mut BTreeMap<String, String>,
) {
    let name = &facts.name;
    let Some(submariner) = &facts.submariner else {
        if let Some(why) = &facts.no_submariner {
            said.insert(format!("Submariner of {name}"), why.clone());
        }
        return;
    };
    let version = submariner
        .active()
        .or_else(|| submariner.gateways.first())
        .map_or("no gateway", |gateway| gateway.version.as_str());
    said.insert(
        format!("Submariner of {name}"),
        format!("{version}, cluster {}", submariner.cluster_id),
    );
    for gateway in &submariner.gateways {
        let connections: Vec<String> = gateway
            .connections
            .iter()
            .map(|connection| {
                format!(
                    "{} to {} by {}",
                    connection.status, connection.cluster_id, connection.cable
                )
            })
            .collect();
        let state = if gateway.active { "active" } else { "stands by" };
        let mut text = format!("{state}, {}", gateway.cable);
        for connection in connections {
            text = format!("{text}, {connection}");
        }
        said.insert(format!("Submariner gateway {} of {name}", gateway.node), text);
    }
    for joined in &submariner.clusters {
        let globalnet = if joined.global.is_empty() {
            String::new()
        } else {
            format!(", Globalnet {}", listed(&joined.global))
        };
        said.insert(
            format!("Submariner cluster {} as {name} sees it", joined.id),
            format!(
                "pods {}, services {}{globalnet}",
                listed(&joined.pods),
                listed(&joined.services)
            ),
        );
    }
    let active = submariner.active().map(|gateway| gateway.node.as_str());
    let chosen = resolved.into_iter().flat_map(|resolved| &resolved.nodes);
    for node in chosen.filter(|node| node.cluster == *name) {
        let role = if active == Some(node.node.as_str()) {
            "gateway"
        } else {
            "non-gateway"
        };
        said.insert(format!("role of {}", node.name), role.to_owned());
    }
}
