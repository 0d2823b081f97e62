//! Services of encapbench's own, and their exports.

use super::*;
use crate::fabric::Target;

const SERVICES: &str = "/api/v1/namespaces/bench/services";
const EXPORTS: &str = "/apis/multicluster.x-k8s.io/v1alpha1/namespaces/bench/serviceexports";

/// A path by a ClusterIP to a pod on b, and one by an exported name to a pod on a.
fn scenario() -> String {
    let start = SCENARIO.split("paths:\n").next().unwrap();
    format!(
        "{start}paths:\n  - {{ name: by address, from: a, to: b }}\n  - {{ name: by service, from: pod@a, to: pod@b, vxlan-mode: \
         CrossSubnet, by: cluster-ip }}\n  - {{ name: by name, from: pod@b, to: pod@a, vxlan-mode: CrossSubnet, by: \
         exported-service }}\nworkloads:\n  - {{ name: tcp, throughput: {{ protocol: tcp }} }}\n"
    )
}

async fn of_services(fake: &Fake) -> KubernetesFabric {
    fabric_of(fake, &scenario(), &[]).await.unwrap()
}

fn made(fake: &Fake, collection: &str) -> Vec<(String, Value)> {
    let paths = fake
        .paths()
        .into_iter()
        .filter(|path| path.starts_with(collection));
    paths
        .map(|path| (path.clone(), fake.get(&path).unwrap()))
        .collect()
}

#[tokio::test]
async fn each_stands_before_the_one_pod_that_a_path_leads_to() {
    let fake = fake();
    let mut fabric = of_services(&fake).await;
    let said = fabric.objects().unwrap().len();
    fabric.prepare().await.unwrap();
    assert_eq!(fake.paths().len() - before().len(), said);
    let (services, exports, pods) = (made(&fake, SERVICES), made(&fake, EXPORTS), made(&fake, PODS));
    assert_eq!((services.len(), exports.len(), pods.len()), (2, 1, 4));
    for (path, service) in &services {
        assert_eq!(service["metadata"]["labels"]["encapbench.io/run"], "r1");
        assert_eq!(
            service["metadata"]["annotations"]["encapbench.io/owner"],
            "me@here/1"
        );
        assert_eq!(
            service["spec"]["type"], "ClusterIP",
            "nothing is opened to the outside"
        );
        let selector = service["spec"]["selector"].as_object().unwrap();
        let chosen = |pod: &Value| {
            selector
                .iter()
                .all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        };
        let chosen: Vec<_> = pods.iter().filter(|(_, pod)| chosen(pod)).collect();
        assert_eq!(chosen.len(), 1, "{path}");
        assert_eq!(chosen[0].1["metadata"]["name"], service["metadata"]["name"]);
    }
    let (_, export) = &exports[0];
    assert_eq!(export["metadata"]["labels"]["encapbench.io/run"], "r1");
    let name = export["metadata"]["name"].as_str().unwrap();
    assert!(name.contains("pod-a-"), "{name}");
    // Where a path finds its end: by the address that the Service was given, by the name that it is exported under.
    let plan = Plan::new(&resolved(&fake).await, &Overrides::default(), 1).unwrap();
    let found = plan.cases.iter().map(|case| fabric.service(&case.path).unwrap());
    let targets: Vec<Option<Target>> = found
        .map(|service| service.map(|service| service.target))
        .collect();
    assert_eq!(
        targets,
        [
            None,
            Some(Target::Address("172.16.0.9".parse().unwrap())),
            Some(Target::Name(format!("{name}.bench.svc.clusterset.local"))),
        ]
    );
    fabric.finish().await.unwrap();
    assert_eq!(fake.paths(), before());
}

async fn resolved(fake: &Fake) -> Scenario {
    let facts = read(&fake.cluster(), &[], true).await.unwrap();
    let scenario = parse(&scenario(), "s.yaml").unwrap();
    scenario::resolve(&scenario, &[facts], &Permissions::default(), |_| true).unwrap()
}

#[tokio::test]
async fn one_without_an_address_ends_the_run_and_goes() {
    let fake = fake();
    fake.0.lock().unwrap().no_service_addresses = true;
    let mut fabric = of_services(&fake).await;
    let told = fabric.prepare().await.unwrap_err().to_string();
    assert!(told.contains("it was given no address"), "{told}");
    fabric.finish().await.unwrap();
    assert_eq!(fake.paths(), before());
}

/// Most clusters know no exports; some refuse them. What was made before goes.
#[tokio::test]
async fn an_export_that_is_not_there_or_not_allowed_is_told() {
    for (code, message) in [
        (404, "the server could not find the requested resource"),
        (
            403,
            "serviceexports.multicluster.x-k8s.io is forbidden: User \"u\" cannot patch",
        ),
    ] {
        let fake = fake();
        fake.fail(
            Method::PATCH,
            "/serviceexports/",
            100,
            Answer::Status(code, message),
        );
        let mut fabric = of_services(&fake).await;
        let error = fabric.prepare().await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("can't export the Service encapbench-r1-") && told.contains(message),
            "{told}"
        );
        assert!(matches!(error, FabricError::Unable(_)));
        fake.fail(
            Method::DELETE,
            "/serviceexports/",
            100,
            Answer::Status(code, message),
        );
        fabric.finish().await.unwrap();
        assert_eq!(fake.paths(), before());
    }
}

#[tokio::test]
async fn one_that_stays_is_named_and_keeps_nothing_else() {
    let fake = fake();
    let mut fabric = of_services(&fake).await;
    fabric.prepare().await.unwrap();
    fake.fail(Method::DELETE, "/services/", 100, Answer::Status(500, "no"));
    let told = fabric.finish().await.unwrap_err().to_string();
    for (path, _) in made(&fake, SERVICES) {
        let name = path.rsplit('/').next().unwrap();
        assert!(
            told.contains(&format!("can't delete the Service bench/{name}: no")),
            "{told}"
        );
    }
    assert_eq!(made(&fake, PODS), [], "pods go all the same");
    assert!(told.contains("encapbench cleanup --run r1"), "{told}");
}

/// Cleanup finds what has encapbench's labels, in any namespace, and nothing else.
#[tokio::test]
async fn cleanup_goes_by_the_labels() {
    let fake = fake();
    let mut fabric = of_services(&fake).await;
    fabric.prepare().await.unwrap();
    drop(fabric);
    let service = |namespace: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "spec": {},
            "metadata": { "name": "s", "namespace": namespace, "labels": labels },
        })
    };
    // Of another run, elsewhere; of somebody who calls his own application so; of somebody else.
    let other = "/api/v1/namespaces/elsewhere/services/s";
    fake.put(
        other,
        service(
            "elsewhere",
            json!({ "app.kubernetes.io/name": "encapbench", "encapbench.io/run": "r2" }),
        ),
    );
    let strangers = [
        "/api/v1/namespaces/shop/services/s",
        "/api/v1/namespaces/bench/services/s",
    ];
    fake.put(
        strangers[0],
        service("shop", json!({ "app.kubernetes.io/name": "encapbench" })),
    );
    fake.put(
        strangers[1],
        service("bench", json!({ "encapbench.io/run": "r1" })),
    );
    let (runs, unseen) = left(&fake.cluster()).await.unwrap();
    assert_eq!(unseen, [""; 0]);
    let found: Vec<(&str, usize)> = runs
        .iter()
        .map(|run| (run.run.as_str(), run.objects.len()))
        .collect();
    assert_eq!(
        found,
        [("r1", 6), ("r2", 1)],
        "four pods and two Services; one Service"
    );
    for run in &runs {
        sweep(&fake.cluster(), run).await.unwrap();
    }
    let mut expected = before();
    expected.extend(strangers.map(str::to_owned));
    expected.sort();
    assert_eq!(fake.paths(), expected);
}
