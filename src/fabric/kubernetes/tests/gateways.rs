//! Gateways of Submariner on the way between two clusters: nodes that no path names, and which are looked at all the same.

use super::*;
use crate::{evidence::DeviceRole, fabric::kubernetes::whole_tests::joined_as, scenario::Resolved};

fn scenario(more: &str) -> Scenario {
    let text = SCENARIO
        .replacen(
            "    nodes:\n",
            "    clusters: [ { name: east, context: e }, { name: west, context: w } ]\n    nodes:\n",
            1,
        )
        .replace("{ name: a }", "{ name: a, cluster: east, node: n1 }")
        .replace(
            "{ name: b, same-subnet-as: a }",
            "{ name: b, cluster: west, node: n2 }",
        )
        .replace(
            "vxlan-mode: CrossSubnet }",
            &format!("vxlan-mode: CrossSubnet{more} }}"),
        );
    parse(&text, "s.yaml").unwrap_or_else(|error| panic!("{error}"))
}

/// East's path begins at n1, and its gateway is n2; west's ends at n2, which is its gateway.
async fn both(more: &str, probe: bool) -> (KubernetesFabric, Plan, Resolved) {
    let fakes = [joined_as("c1"), joined_as("c2")];
    let clusters = vec![fakes[0].named("east"), fakes[1].named("west")];
    let mut facts = Vec::new();
    for cluster in &clusters {
        facts.push(read(cluster, &[], true).await.unwrap());
    }
    let permissions = Permissions {
        own_pools: true,
        ..Permissions::default()
    };
    let mut scenario = scenario(more);
    if let scenario::Fabric::Kubernetes(spec) = &mut scenario.fabric {
        spec.probe = probe;
    }
    let scenario = scenario::resolve(&scenario, &facts, &permissions, |_| true).unwrap();
    let plan = Plan::new(&scenario, &Overrides::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    let scenario::Fabric::Kubernetes(spec) = &scenario.fabric else {
        panic!("no cluster")
    };
    let fabric = KubernetesFabric::new(spec, &plan.cases, mark(), clusters, &facts, BTreeMap::new()).unwrap();
    (fabric, plan.clone(), spec.resolved.clone().unwrap())
}

#[tokio::test]
async fn they_are_looked_at_and_their_cpu_is_measured() {
    let (fabric, plan, resolved) = both("", true).await;
    let names: Vec<&str> = resolved.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "gateway-of-east"], "west's gateway is b");
    assert_eq!(resolved.nodes[2].node, "n2");
    let pods: Vec<Value> = fabric.objects().unwrap();
    let gateway = pods
        .iter()
        .find(|pod| pod["metadata"]["annotations"]["encapbench.io/place"] == "gateway-of-east")
        .unwrap();
    assert_eq!(gateway["spec"]["hostNetwork"], true);
    for case in &plan.cases {
        let way = fabric.on_the_way(&case.path);
        if !case.path.from.is_pod() {
            assert_eq!(way, [], "nodes reach each other without Submariner");
            continue;
        }
        assert_eq!(way.len(), 1);
        let (place, request) = &way[0];
        assert_eq!(*place, Place::Node("gateway-of-east".to_owned()));
        let roles: Vec<DeviceRole> = request.devices.iter().map(|(_, role)| *role).collect();
        for role in [DeviceRole::Tunnel, DeviceRole::VxSubmariner, DeviceRole::Cable] {
            assert!(roles.contains(&role), "{role}");
        }
        assert_eq!(request.underlay_of, Some("10.0.1.12".parse().unwrap()));
    }
}

#[tokio::test]
async fn without_the_probe_nothing_looks_at_them() {
    let (fabric, plan, resolved) = both("", false).await;
    assert_eq!(resolved.nodes.len(), 2);
    assert!(
        plan.cases
            .iter()
            .all(|case| fabric.on_the_way(&case.path).is_empty())
    );
}

/// What a scenario says of a path between clusters is what is expected of it; without that, nothing is.
#[tokio::test]
async fn encapsulation_may_be_said_of_a_path_between_clusters() {
    for (more, expected) in [
        ("", Encapsulation::Unknown),
        (", encapsulation: none", Encapsulation::None),
        (", encapsulation: vxlan", Encapsulation::Vxlan),
        (", encapsulation: wireguard", Encapsulation::Wireguard),
    ] {
        let (_, plan, _) = both(more, true).await;
        let path = plan
            .cases
            .iter()
            .map(|case| &case.path)
            .find(|path| path.name.contains("CrossSubnet"));
        assert_eq!(path.unwrap().expected, expected, "{more}");
        let other = plan
            .cases
            .iter()
            .map(|case| &case.path)
            .find(|path| path.name.contains("Always"));
        assert_eq!(other.unwrap().expected, Encapsulation::Unknown, "{more}");
    }
}
