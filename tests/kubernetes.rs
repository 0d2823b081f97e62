//! encapbench on a real Kubernetes, end to end: `scripts/kubernetes-testbed`, with pods of others beside its own.
//!
//! All tests share one cluster, one after the other. Each looks at the whole cluster before and after: whatever a run
//! does there must be gone when it has ended, and nothing else may have changed.

#[path = "support/bench.rs"]
mod bench;
#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/testbed.rs"]
mod testbed;

use bench::{Bench, LIMIT, MATRIX, error, interrupt};
use program::{code, finish, poll, said, trials, wait};
use rustix::process::Signal;
use std::{fs, path::Path, time::Duration};

#[test]
fn with_just_the_shipped_rights_all_is_confirmed_and_nothing_is_left() {
    let Some(bench) = Bench::new() else { return };
    let cluster = bench.cluster;
    let label = "pod-security.kubernetes.io/enforce=privileged";
    cluster.kubectl(&["create", "namespace", "encapbench"]);
    cluster.kubectl(&["label", "namespace", "encapbench", label]);
    cluster
        .apply(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml")).unwrap());
    let account = bench.folder.path().join("account");
    let token = || {
        let secret = "jsonpath={.secrets[0].name}";
        let name = cluster.kubectl(&[
            "-n",
            "encapbench",
            "get",
            "serviceaccount",
            "encapbench",
            "-o",
            secret,
        ]);
        if name.is_empty() {
            return None;
        }
        let token = "go-template={{ .data.token | base64decode }}";
        Some(cluster.kubectl(&["-n", "encapbench", "get", "secret", &name, "-o", token]))
    };
    cluster.with_token(&poll("token", LIMIT, token), &account);

    let before = cluster.objects();
    let scenario = bench.scenario(MATRIX, 2);
    // First what would be, which touches nothing.
    let shown = |arguments: &[&str]| {
        let mut command = bench.command(&account);
        let output = finish(command.args(arguments).arg(&scenario), LIMIT);
        assert_eq!(code(output.status), 0, "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let namespace = ["--namespace", "encapbench"];
    let plan = finish(
        bench
            .command(&cluster.admin())
            .args(["plan", "--context", "e2e", "--allow-ippools"])
            .arg(&scenario),
        LIMIT,
    );
    assert_eq!(code(plan.status), 0, "{}", said(&plan));
    for part in [
        &cluster.node(1),
        &cluster.node(2),
        "default-ipv4-ippool",
        "made for the run",
    ] {
        assert!(said(&plan).contains(part), "{part}: {}", said(&plan));
    }
    let change = [
        "run",
        "--dry-run",
        "--change-ippool",
        "default-ipv4-ippool=Always",
        "--only",
        "*Always/tcp",
    ];
    let dry = shown(&[&change[..], &namespace].concat());
    assert!(
        dry.contains("vxlanMode CrossSubnet) gets vxlanMode Always"),
        "{dry}"
    );
    assert_eq!(cluster.objects(), before);
    let child = bench.spawn(&account, &scenario, &["--namespace", "encapbench"]);
    // While it runs: all of its own, each with its mark, and the pool of a mode that the cluster has not.
    let during = cluster.ours();
    let pods = during.iter().filter(|name| name.starts_with("pod/")).count();
    assert_eq!(pods, 6, "two nodes and two pods of each mode: {during:?}");
    let pool = during.iter().find(|name| name.starts_with("ippool"));
    let pool = cluster.kubectl(&["get", pool.unwrap(), "-o", "jsonpath={.spec}"]);
    for part in [
        r#""vxlanMode":"Always""#,
        r#""nodeSelector":"!all()""#,
        r#""disableBGPExport":true"#,
        r#""natOutgoing":false"#,
    ] {
        assert!(pool.contains(part), "{pool}");
    }

    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let evidence = bench.evidence();
    assert_eq!(evidence.len(), 6, "{evidence:?}");
    assert!(
        evidence.iter().all(|(_, found)| found == "confirmed"),
        "{evidence:?}"
    );
    assert_eq!(trials(&bench.out()).len(), 12);
    assert!(bench.out().join("report.html").exists() && bench.out().join("throughput.png").exists());
    bench.same_as(&before);
}

#[test]
fn an_interrupted_run_saves_what_it_has_and_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let child = bench.started();
    interrupt(&child, Signal::INT);
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 130, "{}", said(&output));
    assert!(bench.out().join("report.html").exists(), "{}", said(&output));
    let again = format!("--resume {} --allow-ippools", bench.out().display());
    assert!(said(&output).contains(&again), "{}", said(&output));
    bench.same_as(&before);
}

#[test]
fn after_kill_9_cleanup_leaves_nothing() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let mut child = bench.started();
    let cleanup = || {
        let mut command = bench.command(&bench.cluster.admin());
        finish(command.arg("cleanup"), LIMIT)
    };
    let alive = cleanup();
    assert!(said(&alive).contains("may still run"), "{}", said(&alive));
    assert!(!bench.cluster.ours().is_empty());
    interrupt(&child, Signal::KILL);
    child.wait().unwrap();
    assert!(bench.cluster.ours().len() > 6, "there was nothing to clean up");
    let output = cleanup();
    assert_eq!(code(output.status), 0, "{}", said(&output));
    bench.same_as(&before);
    let again = cleanup();
    assert_eq!(code(again.status), 0);
    assert!(said(&again).contains("nothing of encapbench"), "{}", said(&again));
}

#[test]
fn a_cross_subnet_pool_that_encapsulates_everything_is_contradicted() {
    let Some(bench) = Bench::new() else { return };
    let (cluster, key) = (bench.cluster, "projectcalico.org/IPv4Address");
    let nodes = [cluster.node(1), cluster.node(2)];
    let path = "jsonpath={.metadata.annotations.projectcalico\\.org/IPv4Address}";
    let own: Vec<String> = nodes
        .iter()
        .map(|node| cluster.kubectl(&["get", "node", node, "-o", path]))
        .collect();
    let annotate = |addresses: &[String]| {
        for (node, address) in nodes.iter().zip(addresses) {
            let annotation = format!("{key}={address}");
            cluster.kubectl(&["annotate", "--overwrite", "node", node, &annotation]);
        }
    };
    let before = cluster.objects();
    let alone: Vec<String> = own.iter().map(|address| address.replace("/24", "/32")).collect();
    assert_ne!(alone, own);
    annotate(&alone);
    // The routes follow within a third of a second.
    std::thread::sleep(Duration::from_secs(1));
    let scenario = bench.scenario(MATRIX, 1);
    let output = bench.finished(&cluster.admin(), &scenario, &["--only", "*/tcp"]);
    annotate(&own);
    assert_eq!(code(output.status), 4, "{}", said(&output));
    assert!(
        error(&output).contains("/32, alone in its subnet"),
        "{}",
        said(&output)
    );
    let verdicts: Vec<(String, String)> = trials(&bench.out())
        .iter()
        .map(|trial| {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            (text(&trial["case"]), trial["verdict"].to_string())
        })
        .collect();
    let of = |case: &str| &verdicts.iter().find(|(name, _)| name.contains(case)).unwrap().1;
    assert!(of("crosssubnet").contains("contradicted"), "{verdicts:?}");
    assert!(of("always").contains("confirmed"), "{verdicts:?}");
    assert!(of("node-to-node").contains("confirmed"), "{verdicts:?}");
    bench.same_as(&before);
}

#[test]
fn by_a_service_and_with_many_pairs_at_once() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let paths = "\
paths:
  - { name: service, from: pod@a, to: pod@b, vxlan-mode: CrossSubnet, by: cluster-ip }
  - { name: far service, from: pod@a, to: pod@c, vxlan-mode: CrossSubnet, by: cluster-ip }
  - name: pairs
    from: pod@a
    to: pod@b
    vxlan-mode: CrossSubnet
    together-with: [ { from: pod-2@b, to: pod-2@a } ]
";
    let scenario = bench.scenario(paths, 1);
    let child = bench.spawn(&bench.cluster.admin(), &scenario, &[]);
    let services = bench.cluster.ours();
    let services = services
        .iter()
        .filter(|name| name.starts_with("service/"))
        .count();
    assert_eq!(services, 2);
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let evidence = bench.evidence();
    assert_eq!(evidence.len(), 6, "{evidence:?}");
    assert!(
        evidence.iter().all(|(_, found)| found == "confirmed"),
        "{evidence:?}"
    );
    // The Service's own address was asked, and the pod behind it answered with nothing between that hides the asker.
    let manifest = fs::read_to_string(bench.out().join("manifest.json")).unwrap();
    assert!(manifest.contains("service of pod@b/CrossSubnet"), "{manifest}");
    bench.same_as(&before);
}

#[test]
fn who_has_too_few_rights_is_told_what_to_grant_and_that_is_enough() {
    let Some(bench) = Bench::new() else { return };
    let cluster = bench.cluster;
    let scenario = bench.scenario(MATRIX, 1);
    let restricted = cluster.restricted();
    let before = cluster.objects();
    let try_it = || bench.finished(&restricted, &scenario, &["--only", "*/tcp"]);
    let refused = try_it();
    assert_eq!(code(refused.status), 3, "{}", said(&refused));
    assert!(!bench.out().exists(), "a run without rights is no run");
    let text = error(&refused);
    for right in [
        "create pods in namespace default",
        "get pods/exec in namespace default",
        "list nodes in the whole cluster",
        "create ippools.crd.projectcalico.org in the whole cluster",
    ] {
        assert!(text.contains(right), "{right}: {text}");
    }
    bench.same_as(&before);

    let (_, grant) = text.split_once("apply -f -` with\n").unwrap();
    cluster.apply(&grant.replace("NAME-OF-THE-USER", "restricted"));
    let before = cluster.objects();
    // The API server's own cache of rights follows within seconds.
    let output = poll("run", LIMIT, || {
        let output = try_it();
        (code(output.status) != 3).then_some(output)
    });
    assert_eq!(code(output.status), 0, "{}", said(&output));
    bench.same_as(&before);
    // Exactly that: whoever may do one thing less is told of that one thing.
    let less = grant
        .replace("NAME-OF-THE-USER", "restricted")
        .replace("  - watch\n", "");
    assert_ne!(less, grant.replace("NAME-OF-THE-USER", "restricted"));
    cluster.apply(&less);
    fs::remove_dir_all(bench.out()).unwrap();
    let told = poll("refusal", LIMIT, || {
        let output = try_it();
        let refused = code(output.status) == 3;
        let _ = fs::remove_dir_all(bench.out());
        refused.then_some(output)
    });
    assert!(
        error(&told).contains("watch pods in namespace default"),
        "{}",
        said(&told)
    );
    assert!(!error(&told).contains("create pods"), "{}", said(&told));
}
