//! encapbench on two real clusters at once, side by side on this machine: nothing joins them at first, and then routes do.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/testbed.rs"]
mod testbed;

use bench::{Bench, LIMIT, error, unchanged};
use program::{code, finish, said, trials};
use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use testbed::Testbed;

const PATHS: &str = "paths:
  - { name: pods, from: pod@a, to: pod@b, vxlan-mode: CrossSubnet }
  - { name: service, from: pod@a, to: pod@b, vxlan-mode: CrossSubnet, by: cluster-ip }
";

/// A scenario of both clusters.
fn scenario(bench: &Bench, west: &Testbed, paths: &str) -> PathBuf {
    let text = format!(
        "name: two\nfabric:\n  kubernetes:\n    probe: true\n    clusters: [ {{ name: east, context: {} }}, {{ name: west, \
         context: {} }} ]\n    nodes: [ {{ name: a, cluster: east }}, {{ name: b, cluster: west }} ]\n\
         {paths}workloads:\n  - {{ name: tcp, throughput: {{ protocol: tcp, duration: 300ms, omit: 100ms }} }}\n\
         blocks: {{ at-least: 1 }}\n",
        bench.cluster.context(),
        west.context()
    );
    let file = bench.folder.path().join("two.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// A run as the admin of both.
fn run(bench: &Bench, west: &Testbed, paths: &str) -> Command {
    let both = std::env::join_paths([bench.cluster.admin(), west.admin()]).unwrap();
    let _ = fs::remove_dir_all(bench.out());
    bench.run(both.as_ref(), &scenario(bench, west, paths), &[])
}

/// A cable between the routers of two clusters, with routes to each other's nodes, pods and Services.
struct Joined<'a>(&'a Testbed, &'a Testbed);

/// The cable's ends.
const ENDS: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

impl<'a> Joined<'a> {
    fn new(east: &'a Testbed, west: &'a Testbed) -> Self {
        let other = format!("kt-{}-router", west.context());
        let add = [
            "link", "add", "joined", "type", "veth", "peer", "name", "joined", "netns", &other,
        ];
        east.within("router", &[&["ip"], &add[..]].concat());
        let joined = Self(east, west);
        for (index, (here, there)) in [(east, west), (west, east)].into_iter().enumerate() {
            let route = |range: &str, by: &str| {
                here.within("router", &["ip", "route", "replace", range, "via", by]);
            };
            here.within(
                "router",
                &[
                    "ip",
                    "address",
                    "add",
                    &format!("{}/30", ENDS[index]),
                    "dev",
                    "joined",
                ],
            );
            here.within("router", &["ip", "link", "set", "joined", "up"]);
            let (pods, services) = there.ranges();
            for range in [
                format!("{pods}.0.0/16"),
                format!("{services}.0.0/16"),
                format!("{}.0.0/16", there.underlay()),
            ] {
                route(&range, ENDS[1 - index]);
            }
            let (pods, services) = here.ranges();
            // Each node has the block of its number; a Service is known on all.
            for (block, node) in here.nodes().iter().enumerate() {
                route(&format!("{pods}.0.{}/26", block * 64), node);
            }
            route(&format!("{services}.0.0/16"), &here.nodes()[0]);
            here.masquerade(false);
        }
        joined
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        for here in [self.0, self.1] {
            here.masquerade(true);
            let (pods, services) = here.ranges();
            for (block, node) in here.nodes().iter().enumerate() {
                let range = format!("{pods}.0.{}/26", block * 64);
                here.within("router", &["ip", "route", "del", &range, "via", node]);
            }
            here.within("router", &["ip", "route", "del", &format!("{services}.0.0/16")]);
        }
        // Its routes go with it, and so does its other end.
        self.0.within("router", &["ip", "link", "del", "joined"]);
    }
}

#[test]
fn between_clusters_that_nothing_joins_no_trial_begins() {
    let Some(bench) = Bench::new() else { return };
    let west = Testbed::second();
    let before = (bench.cluster.objects(), west.objects());
    let output = finish(&mut run(&bench, west, PATHS), LIMIT);
    assert_eq!(code(output.status), 4, "{}", said(&output));
    let trials = trials(&bench.out());
    assert_eq!(trials.len(), 2);
    for trial in &trials {
        let error = trial["outcome"]["error"].as_str().unwrap_or_default();
        for part in [
            "pod@a/CrossSubnet does not reach pod@b/CrossSubnet",
            "in the other cluster",
            "subctl show connections",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(trial["throughput"].is_null(), "{trial}");
    }
    assert!(
        said(&output).contains("nothing joins the networks of the two clusters"),
        "{}",
        said(&output)
    );
    bench.same_as(&before.0);
    unchanged(west, &before.1);
}

#[test]
fn between_clusters_that_routes_join_pods_and_services_are_reached() {
    let Some(bench) = Bench::new() else { return };
    let west = Testbed::second();
    let before = (bench.cluster.objects(), west.objects());
    let joined = Joined::new(bench.cluster, west);
    let more = "  - { name: nodes, from: a, to: b }\n  - { name: said to be plain, from: pod@a, to: pod@b, vxlan-mode: \
                CrossSubnet, encapsulation: none }\n  - { name: said to be wrapped, from: pod@a, to: pod@b, vxlan-mode: \
                CrossSubnet, encapsulation: vxlan }\n";
    let output = finish(&mut run(&bench, west, &format!("{PATHS}{more}")), LIMIT);
    drop(joined);
    // One path is not what it is said to be, and that is what the run ends with.
    assert_eq!(code(output.status), 4, "{}", said(&output));
    assert!(
        error(&output).is_empty() || !error(&output).contains("panicked"),
        "{}",
        said(&output)
    );
    let trials = trials(&bench.out());
    let of = |case: &str| {
        let found = trials
            .iter()
            .find(|trial| trial["case"].as_str().unwrap().starts_with(case));
        found.unwrap_or_else(|| panic!("{case}: {}", said(&output)))
    };
    for (case, state, part) in [
        ("pods--", "unknown", "what joins the clusters is not known here"),
        (
            "service--",
            "unknown",
            "what joins the clusters is not known here",
        ),
        ("nodes--", "confirmed", ""),
        ("said-to-be-plain--", "confirmed", ""),
        (
            "said-to-be-wrapped--",
            "contradicted",
            "packets went unencapsulated",
        ),
    ] {
        let trial = of(case);
        assert!(trial["throughput"].is_object(), "{case}: {trial}");
        assert_eq!(trial["verdict"]["state"], state, "{case}: {}", trial["verdict"]);
        assert!(
            trial["verdict"]["reasons"].to_string().contains(part),
            "{case}: {}",
            trial["verdict"]
        );
    }
    bench.same_as(&before.0);
    unchanged(west, &before.1);
}

/// The kind of exported Services (KEP-1645), as what joins clusters brings it.
const EXPORTS: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: serviceexports.multicluster.x-k8s.io }
spec:
  group: multicluster.x-k8s.io
  scope: Namespaced
  names: { kind: ServiceExport, plural: serviceexports, singular: serviceexport }
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";

/// Stands in for the DNS of a set of clusters, which the testbed has not: tells `east`'s pods of each exported Service of
/// `west` by their hosts file, until told to end.
fn tell_names(east: &Testbed, west: &Testbed, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(300));
        let format = "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
        let exports = west.looked_up(&["get", "serviceexports", "--all-namespaces", "-o", format]);
        let exports = exports.unwrap_or_default();
        for (namespace, name) in exports.lines().filter_map(|line| line.split_once(' ')) {
            let service = [
                "-n",
                namespace,
                "get",
                "service",
                name,
                "-o",
                "jsonpath={.spec.clusterIP}",
            ];
            // A run that ends takes it away meanwhile.
            let Some(address) = west.looked_up(&service) else {
                continue;
            };
            let line = format!("{address} {name}.{namespace}.svc.clusterset.local\n");
            for hosts in east.hosts_files() {
                let Ok(known) = fs::read_to_string(&hosts) else {
                    continue;
                };
                if !known.contains(&line) {
                    // The pod may have gone meanwhile.
                    let _ = fs::OpenOptions::new()
                        .append(true)
                        .open(&hosts)
                        .and_then(|mut file| file.write_all(line.as_bytes()));
                }
            }
        }
    }
}

#[test]
fn an_exported_name_leads_to_the_other_cluster() {
    let Some(bench) = Bench::new() else { return };
    let (east, west) = (bench.cluster, Testbed::second());
    west.apply(EXPORTS);
    west.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/serviceexports.multicluster.x-k8s.io",
    ]);
    let before = (east.objects(), west.objects());
    let joined = Joined::new(east, west);
    let path = "paths:\n  - { name: by name, from: pod@a, to: pod@b, vxlan-mode: CrossSubnet, by: exported-service }\n";
    let over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        scope.spawn(|| tell_names(east, west, &over));
        let output = finish(&mut run(&bench, west, path), LIMIT);
        over.store(true, Ordering::Relaxed);
        output
    });
    drop(joined);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let trials = trials(&bench.out());
    assert!(
        trials.len() == 1 && trials[0]["throughput"].is_object(),
        "{trials:?}"
    );
    let left = west.kubectl(&["get", "serviceexports", "--all-namespaces", "-o", "name"]);
    assert_eq!(left, "", "the export goes with the run");
    bench.same_as(&before.0);
    unchanged(west, &before.1);

    // Without anybody who answers for such names: what to look at, and nothing is sent.
    let nobody = finish(&mut run(&bench, west, path), LIMIT);
    west.kubectl(&["delete", "crd", "serviceexports.multicluster.x-k8s.io"]);
    assert_eq!(code(nobody.status), 4, "{}", said(&nobody));
    assert!(
        said(&nobody).contains("nothing answers for clusterset.local"),
        "{}",
        said(&nobody)
    );
}
