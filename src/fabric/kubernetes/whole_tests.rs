//! Submariner's objects, and whole clusters as the doctor looks at them, against the API server in memory.

use super::{
    fake::{Answer, Fake},
    tests::{fake, mark},
    *,
};
use crate::{
    fabric::Fabric as _,
    scenario::{ClusterContext, Kubernetes, Place, VxlanMode, whole},
};
use http::Method;
use serde_json::json;
use std::collections::BTreeSet;

const NAMESPACE: &str = "/apis/submariner.io/v1/namespaces/submariner-operator";

/// The two nodes of [`fake`], the second of which is the gateway to another cluster.
fn joined() -> Fake {
    joined_as("c1")
}

/// The same, which calls itself so.
pub(super) fn joined_as(id: &str) -> Fake {
    let fake = fake();
    let group = |name: &str| {
        let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
        json!({ "name": name, "versions": [version], "preferredVersion": version })
    };
    fake.put(
        "/apis",
        json!({ "groups": [group("crd.projectcalico.org"), group("submariner.io")] }),
    );
    let endpoint = |cluster: &str, host: &str, subnets: &[&str]| {
        json!({
            "cluster_id": cluster, "cable_name": format!("submariner-cable-{cluster}"), "hostname": host,
            "subnets": subnets, "private_ip": "192.0.2.1", "public_ip": "", "nat_enabled": false,
            "backend": "vxlan", "backend_config": { "udp-port": "4501" },
        })
    };
    let own = endpoint(id, "n2", &["10.96.0.0/16", "10.244.0.0/16"]);
    let other = endpoint("c2", "far", &["10.102.0.0/16", "10.202.0.0/16", "fd00::/64"]);
    let meta = |name: &str| json!({ "name": name, "namespace": "submariner-operator" });
    let object = |kind: &str, name: &str, key: &str, value: &serde_json::Value| json!({ "apiVersion": "submariner.io/v1", "kind": kind, "metadata": meta(name), key: value });
    let status = json!({
        "version": "0.18.0", "haStatus": "active", "localEndpoint": own, "statusFailure": "",
        "connections": [ { "status": "connected", "statusMessage": "", "endpoint": other, "usingIP": "192.0.2.9" } ],
    });
    fake.put(
        &format!("{NAMESPACE}/gateways/n2"),
        object("Gateway", "n2", "status", &status),
    );
    fake.put(
        &format!("{NAMESPACE}/endpoints/c1"),
        object("Endpoint", "c1", "spec", &own),
    );
    fake.put(
        &format!("{NAMESPACE}/endpoints/c2"),
        object("Endpoint", "c2", "spec", &other),
    );
    let cluster = json!({ "cluster_id": "c2", "color_codes": ["blue"], "service_cidr": ["10.102.0.0/16"],
                          "cluster_cidr": ["10.202.0.0/16"], "global_cidr": [] });
    fake.put(
        &format!("{NAMESPACE}/clusters/c2"),
        object("Cluster", "c2", "spec", &cluster),
    );
    fake
}

async fn fabric(fake: &Fake) -> KubernetesFabric {
    let cluster = fake.cluster();
    let facts = vec![read(&cluster, &[], false).await.unwrap()];
    let mut spec = Kubernetes::of_contexts(&[ClusterContext {
        name: cluster.name.clone(),
        context: None,
        namespace: None,
    }]);
    let resolved = whole(&facts);
    let places: BTreeSet<Place> = resolved
        .nodes
        .iter()
        .flat_map(|node| {
            let pod = Place::Pod {
                node: node.name.clone(),
                mode: VxlanMode::CrossSubnet,
                pod: "pod".to_owned(),
            };
            [Place::Node(node.name.clone()), pod]
        })
        .collect();
    spec.resolved = Some(resolved);
    KubernetesFabric::with_places(&spec, places, mark(), vec![cluster], &facts, true).unwrap()
}

#[tokio::test]
async fn submariners_objects_are_read_and_told() {
    let fake = joined();
    let facts = read(&fake.cluster(), &[], false).await.unwrap();
    let submariner = facts.submariner.clone().unwrap();
    assert_eq!(submariner.cluster_id, "c1");
    assert_eq!(submariner.active().unwrap().node, "n2");
    let remote: Vec<String> = submariner
        .remote_cidrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(remote, ["10.102.0.0/16", "10.202.0.0/16"]);
    // Read, and nothing else: no request but GET.
    assert!(
        fake.0
            .lock()
            .unwrap()
            .log
            .iter()
            .all(|line| line.starts_with("GET "))
    );
    let said = fabric(&fake).await.describe();
    for (key, text) in [
        ("Submariner of cluster", "0.18.0, cluster c1"),
        (
            "Submariner gateway n2 of cluster",
            "active, vxlan, connected to c2 by vxlan",
        ),
        (
            "Submariner cluster c2 as cluster sees it",
            "pods 10.202.0.0/16, services 10.102.0.0/16",
        ),
        ("role of n1", "non-gateway"),
        ("role of n2", "gateway"),
    ] {
        assert_eq!(
            said.get(key).map(String::as_str),
            Some(text),
            "{key} of {said:#?}"
        );
    }
}

#[tokio::test]
async fn who_may_not_read_submariner_is_told_so_and_goes_on() {
    let fake = joined();
    let message = "gateways.submariner.io is forbidden: User \"me\" cannot list resource \"gateways\"";
    fake.fail(Method::GET, "/gateways", 1, Answer::Status(403, message));
    let facts = read(&fake.cluster(), &[], false).await.unwrap();
    assert_eq!(facts.submariner, None);
    let why = facts.no_submariner.unwrap();
    assert!(
        why.contains("list gateways.submariner.io") && why.contains("cannot list"),
        "{why}"
    );
}

#[tokio::test]
async fn a_whole_clusters_setup_is_what_its_api_and_its_pods_say() {
    let fake = joined();
    let mut fabric = fabric(&fake).await;
    fabric.prepare().await.unwrap();
    let setup = fabric.setup().unwrap();
    let cluster = &setup.clusters[0];
    assert_eq!((cluster.tunnel.vni, cluster.tunnel.port), (4096, 4789));
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    // The gateway first.
    assert_eq!(names, ["n2", "n1"]);
    let node = &cluster.nodes[1];
    assert_eq!(node.address.to_string(), "10.0.1.11");
    assert_eq!(node.subnet.unwrap().to_string(), "10.0.1.0/24");
    assert_eq!(node.blocks[0].mode, Some(VxlanMode::CrossSubnet));
    assert!(node.blocks[0].cidr.contains(node.pods[0].address));
    assert_eq!(node.blocks[0].cidr.prefix(), 26);
    let submariner = cluster.submariner.as_ref().unwrap();
    assert_eq!(submariner.gateway, "n2");
    assert_eq!(submariner.cable_tunnel.as_ref().unwrap().port, 4501);
    assert_eq!(setup.remote_cidrs(cluster).len(), 2);
    // Pods in the nodes' network may look at the packet filter, others may not.
    for object in fabric.objects().unwrap() {
        let added = object.pointer("/spec/containers/0/securityContext/capabilities/add");
        assert_eq!(
            added.is_some(),
            object["spec"]["hostNetwork"] == true,
            "{object:#}"
        );
    }
    fabric.finish().await.unwrap();
    assert!(
        fake.paths().iter().all(|path| !path.contains("/pods/")),
        "{:?}",
        fake.paths()
    );
}
