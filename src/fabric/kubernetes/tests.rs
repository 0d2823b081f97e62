//! Against an API server in memory: the whole life of a run.

mod errors;
mod exec;
mod gateways;
mod ippools;
mod services;
mod standard;

use super::{
    fake::{Answer, Fake},
    objects::{CHANGED_BY, MODE_BEFORE},
    *,
};
use crate::{
    fabric::Fabric,
    scenario::{
        self, CalicoApi, Encapsulation, Overrides, Permissions, Place, Plan, Scenario, VxlanMode, parse,
    },
};
use http::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const SCENARIO: &str = include_str!("../../../scenarios/kubernetes-calico.yaml");
const POOLS: &str = "/apis/crd.projectcalico.org/v1/ippools";
const PODS: &str = "/api/v1/namespaces/bench/pods";

fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "annotations": {
            "projectcalico.org/IPv4Address": format!("{address}/24"),
            "projectcalico.org/IPv4VXLANTunnelAddr": address.replace("10.0.1", "10.244.9"),
        } },
        "status": { "addresses": [ { "type": "InternalIP", "address": address } ],
                    "conditions": [ { "type": "Ready", "status": "True" } ] },
    })
}

/// Two nodes of one subnet and a CrossSubnet pool.
pub(super) fn fake() -> Fake {
    let fake = Fake::default();
    fake.put(
        "/version",
        json!({ "major": "1", "minor": "30", "gitVersion": "v1.30.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "" }),
    );
    let version = json!({ "groupVersion": "crd.projectcalico.org/v1", "version": "v1" });
    fake.put("/apis", json!({ "groups": [ { "name": "crd.projectcalico.org", "versions": [version], "preferredVersion": version } ] }));
    fake.put("/api/v1/nodes/n1", node("n1", "10.0.1.11"));
    fake.put("/api/v1/nodes/n2", node("n2", "10.0.1.12"));
    fake.put(&format!("{POOLS}/default"), pool_object("CrossSubnet"));
    fake
}

fn pool_object(mode: &str) -> Value {
    json!({ "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": { "name": "default" },
            "spec": { "cidr": "10.244.0.0/16", "vxlanMode": mode, "natOutgoing": true } })
}

/// What the fake has before a run and must have after it.
fn before() -> Vec<String> {
    fake().paths()
}

async fn fabric(fake: &Fake, change: &[(&str, VxlanMode)]) -> Result<KubernetesFabric, String> {
    fabric_of(fake, SCENARIO, change).await
}

/// The same of another scenario.
async fn fabric_of(
    fake: &Fake,
    text: &str,
    change: &[(&str, VxlanMode)],
) -> Result<KubernetesFabric, String> {
    let cluster = fake.cluster();
    let scenario = parse(text, "s.yaml").map_err(|error| error.to_string())?;
    let facts = read(&cluster, &[], true)
        .await
        .map_err(|error| error.to_string())?;
    let permissions = Permissions {
        own_pools: true,
        first_vxlan_pool: false,
        change: change
            .iter()
            .map(|(name, mode)| ((*name).to_owned(), *mode))
            .collect(),
    };
    let scenario: Scenario =
        scenario::resolve(&scenario, std::slice::from_ref(&facts), &permissions, |_| true)
            .map_err(|error| error.to_string())?;
    let plan = Plan::new(&scenario, &Overrides::default(), 1).map_err(|error| error.to_string())?;
    let scenario::Fabric::Kubernetes(mut spec) = scenario.fabric else {
        return Err("no cluster".to_owned());
    };
    spec.start_within = crate::units::Span::from_millis(2_000);
    KubernetesFabric::new(
        &spec,
        &plan.cases,
        mark(),
        vec![cluster],
        &[facts],
        permissions.change,
    )
    .map_err(|error| error.to_string())
}

pub(super) fn mark() -> RunMark {
    RunMark {
        id: "r1".to_owned(),
        owner: "me@here/1".to_owned(),
        deadline: Duration::from_hours(1),
    }
}

async fn prepared(fake: &Fake) -> Result<KubernetesFabric, String> {
    let mut fabric = fabric(fake, &[]).await?;
    fabric.prepare().await.map_err(|error| error.to_string())?;
    Ok(fabric)
}

#[tokio::test]
async fn a_run_makes_what_it_says_and_removes_it() {
    let fake = fake();
    let mut fabric = fabric(&fake, &[]).await.unwrap();
    let said: Vec<String> = fabric
        .objects()
        .unwrap()
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    fabric.prepare().await.unwrap();
    let made: Vec<String> = fake
        .paths()
        .into_iter()
        .filter(|path| !before().contains(path))
        .collect();
    assert_eq!(made.len(), said.len(), "made {made:?}, said {said:?}");
    for path in &made {
        let name = path.rsplit('/').next().unwrap();
        assert!(said.iter().any(|said| said == name), "{name} was not said");
        let meta = &fake.get(path).unwrap()["metadata"];
        assert_eq!(meta["labels"]["app.kubernetes.io/name"], "encapbench");
        assert_eq!(meta["labels"]["encapbench.io/run"], "r1");
        assert_eq!(meta["annotations"]["encapbench.io/owner"], "me@here/1");
    }
    // A second block finds all pods there and makes nothing.
    let asked = fake.0.lock().unwrap().log.len();
    fabric.prepare().await.unwrap();
    assert!(
        !fake.0.lock().unwrap().log[asked..]
            .iter()
            .any(|line| line.starts_with("PATCH"))
    );
    fabric.finish().await.unwrap();
    assert_eq!(fake.paths(), before());
    fabric.finish().await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_gone_is_made_again() {
    let fake = fake();
    let mut fabric = prepared(&fake).await.unwrap();
    let pods: Vec<String> = fake
        .paths()
        .into_iter()
        .filter(|path| path.starts_with(PODS))
        .collect();
    fake.0.lock().unwrap().objects.remove(&pods[0]);
    fabric.prepare().await.unwrap();
    assert!(fake.paths().contains(&pods[0]));
    fabric.finish().await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_pool_is_refused() {
    let fake = fake();
    fake.0.lock().unwrap().pod_status = Some(json!({
        "phase": "Running", "podIP": "192.168.7.7",
        "containerStatuses": [{ "name": "worker", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} } }],
    }));
    let told = prepared(&fake).await.unwrap_err();
    assert!(told.contains("is not of the IPPool"), "{told}");
}

#[tokio::test]
async fn cleanup_finds_what_a_killed_run_left() {
    let fake = fake();
    let fabric = prepared(&fake).await.unwrap();
    let made = fabric.objects().unwrap().len();
    drop(fabric);
    let (runs, unseen) = left(&fake.cluster()).await.unwrap();
    assert_eq!((runs.len(), unseen.len()), (1, 0));
    assert_eq!(runs[0].objects.len(), made);
    assert_eq!(
        (runs[0].run.as_str(), runs[0].owner.as_str()),
        ("r1", "me@here/1")
    );
    sweep(&fake.cluster(), &runs[0]).await.unwrap();
    assert_eq!(fake.paths(), before());
}

/// Each request of a whole run is one that the rights asked for allow.
#[tokio::test]
async fn no_request_needs_a_right_that_is_not_asked_for() {
    let fake = fake();
    let mut fabric = fabric(&fake, &[("default", VxlanMode::CrossSubnet)])
        .await
        .unwrap();
    fabric.prepare().await.unwrap();
    fabric.prepare().await.unwrap();
    fabric.finish().await.unwrap();
    let rights = needed(Needs::ALL, CalicoApi::Crd);
    for line in &fake.0.lock().unwrap().log {
        let (method, whole) = line.split_once(' ').unwrap();
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let Some(rest) = path
            .strip_prefix("/api/v1/")
            .or_else(|| path.strip_prefix("/apis/crd.projectcalico.org/v1/"))
        else {
            continue; // Discovery, which everybody may do.
        };
        let namespaced = rest.starts_with("namespaces/");
        let rest = rest.strip_prefix("namespaces/bench/").unwrap_or(rest);
        let (resource, name) = rest.split_once('/').unwrap_or((rest, ""));
        let verb = match (method, name) {
            ("GET", _) if query.contains("watch=true") => "watch",
            ("GET", "") => "list",
            ("GET", _) => "get",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            other => panic!("{other:?}"),
        };
        let covered = rights.iter().any(|right| {
            right.resource == resource && right.verb == verb && (!right.namespaced || namespaced)
        });
        assert!(covered, "{line} needs {verb} {resource}");
    }
}

#[test]
fn the_checked_in_rbac_is_what_a_run_needs() {
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "encapbench", "namespace": "encapbench",
                      "labels": { "app.kubernetes.io/name": "encapbench" } },
    })];
    let mut rights = needed(Needs::ALL, CalicoApi::Crd);
    rights.extend(needed(Needs::ALL, CalicoApi::ProjectCalico));
    rights.sort();
    rights.dedup();
    objects.extend(rbac(
        &rights,
        "encapbench",
        &Subject::ServiceAccount("encapbench".to_owned()),
    ));
    let fresh = yaml(&objects).unwrap();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let checked_in: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let fresh: Vec<&str> = fresh.lines().collect();
    assert_eq!(checked_in, fresh, "{} is stale", file.display());
}

#[test]
fn names_are_the_pods_own() {
    let place: Place = "pod@a-very-long-name-of-a-node.in.some.domain.example.org/CrossSubnet"
        .parse()
        .unwrap();
    let name = pod_name("01234567", 3, &place);
    assert!(
        name.len() <= 63 && name.starts_with("encapbench-01234567-3-pod-a-very"),
        "{name}"
    );
    assert!(!name.ends_with('-'), "{name}");
}

#[test]
fn objects_are_shown_as_yaml() {
    let change: BTreeMap<&str, &str> = BTreeMap::from([("kind", "Pod")]);
    assert_eq!(yaml(&[json!(change)]).unwrap(), "---\nkind: Pod\n");
}

#[tokio::test]
async fn two_clusters_have_pods_of_their_own() {
    let fakes = [fake(), fake()];
    let clusters = vec![fakes[0].named("east"), fakes[1].named("west")];
    let text = SCENARIO
        .replacen(
            "    nodes:\n",
            "    clusters: [ { name: east, context: e }, { name: west, context: w } ]\n    nodes:\n",
            1,
        )
        .replace("{ name: b, same-subnet-as: a }", "{ name: b, cluster: west }");
    let scenario = parse(&text, "s.yaml").unwrap_or_else(|error| panic!("{error}"));
    let mut facts = Vec::new();
    for cluster in &clusters {
        facts.push(read(cluster, &[], true).await.unwrap());
    }
    let permissions = Permissions {
        own_pools: true,
        ..Permissions::default()
    };
    let scenario = scenario::resolve(&scenario, &facts, &permissions, |_| true).unwrap();
    let plan = Plan::new(&scenario, &Overrides::default(), 1).unwrap();
    let scenario::Fabric::Kubernetes(spec) = &scenario.fabric else {
        panic!("no cluster")
    };
    let mut fabric =
        KubernetesFabric::new(spec, &plan.cases, mark(), clusters, &facts, BTreeMap::new()).unwrap();
    fabric.prepare().await.unwrap();
    for (fake, place) in fakes.iter().zip(["pod-a", "pod-b"]) {
        let pods: Vec<String> = fake
            .paths()
            .into_iter()
            .filter(|path| path.starts_with(PODS))
            .collect();
        // One in the node's network, one of each pool.
        assert_eq!(pods.len(), 3, "{pods:?}");
        assert_eq!(pods.iter().filter(|path| path.contains(place)).count(), 2);
    }
    let own: Vec<_> = spec
        .resolved
        .as_ref()
        .unwrap()
        .pools
        .iter()
        .filter(|pool| pool.own)
        .collect();
    assert!(!own[0].cidr.overlaps(own[1].cidr), "the clusters may be joined");
    for case in &plan.cases {
        assert!(fabric.crosses(&case.path));
        let expected = if case.path.from.is_pod() {
            Encapsulation::Unknown
        } else {
            Encapsulation::None
        };
        assert_eq!(case.path.expected, expected, "{}", case.path.name);
    }
    fabric.finish().await.unwrap();
    assert!(fakes.iter().all(|fake| fake.paths() == before()));
}

#[tokio::test]
async fn pods_are_given_what_the_scenario_asks_for() {
    let text = SCENARIO.replacen(
        "    nodes:\n",
        "    image: registry.example/e:1\n    priority-class: high\n    resources: { cpu: \"2\", memory: 1Gi }\n    \
         tolerations: [ { key: dedicated, value: net, effect: NoSchedule }, {} ]\n    nodes:\n",
        1,
    );
    let scenario::Fabric::Kubernetes(spec) = parse(&text, "s.yaml")
        .unwrap_or_else(|error| panic!("{error}"))
        .fabric
    else {
        panic!("no cluster")
    };
    let plan = PodPlan {
        place: "pod@a/Always".parse().unwrap(),
        cluster: "c".to_owned(),
        name: "p".to_owned(),
        namespace: "n".to_owned(),
        node: "n1".to_owned(),
        served_by: std::collections::BTreeSet::new(),
        pool: Some("big".to_owned()),
        net_admin: false,
    };
    let made = pod(&plan, &mark(), &spec);
    let inner = &made["spec"];
    assert_eq!(inner["containers"][0]["image"], "registry.example/e:1");
    assert_eq!(inner["priorityClassName"], "high");
    assert_eq!(
        inner["containers"][0]["resources"]["requests"],
        json!({ "cpu": "2", "memory": "1Gi" })
    );
    assert_eq!(
        inner["tolerations"],
        json!([
            { "key": "dedicated", "operator": "Equal", "value": "net", "effect": "NoSchedule" },
            { "operator": "Exists" },
        ])
    );
    assert_eq!(
        made["metadata"]["annotations"]["cni.projectcalico.org/ipv4pools"],
        r#"["big"]"#
    );
    assert!(inner["hostNetwork"].is_null());
}
