//! encapbench on a real Kubernetes when something is wrong: connections to the API server that break, a packet filter in
//! the way of pods, and what the doctor says of it.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/broken_way.rs"]
mod broken_way;
#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/testbed.rs"]
mod testbed;

use bench::{Bench, LIMIT, MATRIX, error};
use broken_way::BrokenWay;
use program::{code, finish, poll, said, trials, wait};
use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

/// What went wrong in a run's trials.
fn failures(bench: &Bench) -> Vec<String> {
    let trials = trials(&bench.out());
    let errors = trials.iter().map(|trial| trial["outcome"]["error"].clone());
    errors
        .filter_map(|error| Some(error.as_str()?.to_owned()))
        .collect()
}

#[test]
fn connections_to_the_api_server_may_break_in_mid_run() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let way = BrokenWay::to(&bench.cluster.server());
    let kubeconfig = bench.folder.path().join("kubeconfig");
    bench.cluster.by_way_of(way.address, &kubeconfig);
    let scenario = bench.scenario(MATRIX, 8);
    let child = bench.spawn(&kubeconfig, &scenario, &["--only", "*/tcp"]);
    // Between trials nothing is lost: until it has hit one.
    poll("broken trial", LIMIT, || {
        way.cut();
        std::thread::sleep(Duration::from_millis(450));
        (!failures(&bench).is_empty()).then_some(())
    });
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let failures = failures(&bench);
    let told = failures
        .iter()
        .all(|error| error.contains("has ended; it last said: the connection to its pod broke off"));
    assert!(told, "{failures:?}");
    assert_eq!(trials(&bench.out()).len(), 24, "the rest went on");
    bench.same_as(&before);
}

#[test]
fn what_an_api_server_that_is_gone_keeps_is_named() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let way = BrokenWay::to(&bench.cluster.server());
    let kubeconfig = bench.folder.path().join("kubeconfig");
    bench.cluster.by_way_of(way.address, &kubeconfig);
    let scenario = bench.scenario(MATRIX, 1);
    let child = bench.spawn(&kubeconfig, &scenario, &["--only", "*/tcp"]);
    way.close();
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 4, "{}", said(&output));
    let text = error(&output);
    assert!(
        text.contains("not everything could be removed: can't list pods"),
        "{text}"
    );
    let (_, run) = text.split_once("encapbench cleanup --run ").unwrap();
    let run = run.split_whitespace().next().unwrap();
    assert!(bench.cluster.ours().len() > 6, "there was nothing to clean up");
    let mut cleanup = bench.command(&bench.cluster.admin());
    let output = finish(cleanup.args(["cleanup", "--run", run]), LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    bench.same_as(&before);
}

/// The doctor on the whole cluster, as an admin calls it.
fn doctor(bench: &Bench, more: &[&str]) -> Output {
    let mut command = bench.command(&bench.cluster.admin());
    command
        .args(["doctor", "--context", bench.cluster.context(), "--json"])
        .args(more);
    finish(&mut command, LIMIT)
}

/// Ids of the findings of a severity, and all that is said of them.
fn findings(output: &Output, severity: &str) -> Vec<(String, String)> {
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = found["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["severity"] == severity)
        .map(|finding| (finding["id"].as_str().unwrap().to_owned(), finding.to_string()))
        .collect()
}

/// Takes a rule away from a node however a test ends.
struct Dropping<'a>(&'a Bench);

const RULE: [&str; 4] = ["FORWARD", "-j", "DROP", "-w"];

impl<'a> Dropping<'a> {
    fn on(bench: &'a Bench) -> Self {
        bench
            .cluster
            .within("node2", &[&["iptables", "-I"], &RULE[..]].concat());
        Self(bench)
    }
}

impl Drop for Dropping<'_> {
    fn drop(&mut self) {
        self.0
            .cluster
            .within("node2", &[&["iptables", "-D"], &RULE[..]].concat());
    }
}

#[test]
fn the_doctor_finds_nothing_in_a_healthy_cluster_and_what_is_wrong_in_a_sick_one() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    for more in [&[][..], &["--net-admin"]] {
        let healthy = doctor(&bench, more);
        assert_eq!(code(healthy.status), 0, "{}", said(&healthy));
        for severity in ["error", "warning"] {
            assert_eq!(findings(&healthy, severity), [], "{more:?}");
        }
    }
    bench.same_as(&before);

    let sick = Dropping::on(&bench);
    let node = bench.cluster.node(2);
    let blind = doctor(&bench, &[]);
    assert_eq!(code(blind.status), 1, "{}", said(&blind));
    let seen = doctor(&bench, &["--net-admin"]);
    drop(sick);
    bench.same_as(&before);
    // Without the right to read the packet filter: that pods are not reached. With it: why, and what to do about it.
    let errors = findings(&blind, "error");
    assert!(errors.iter().any(|(id, _)| id.contains("reach")), "{errors:?}");
    let errors = findings(&seen, "error");
    let (_, filter) = errors
        .iter()
        .find(|(_, text)| text.contains("FORWARD"))
        .unwrap_or_else(|| panic!("{errors:?}"));
    assert!(filter.contains(&node) && filter.contains("remedy"), "{filter}");
}

#[test]
fn a_run_whose_path_is_not_there_says_why_in_its_report() {
    let Some(bench) = Bench::new() else { return };
    let before = bench.cluster.objects();
    let sick = Dropping::on(&bench);
    let scenario = bench.scenario(MATRIX, 1);
    let begun = Instant::now();
    let output = bench.finished(&bench.cluster.admin(), &scenario, &["--only", "*CrossSubnet/tcp"]);
    drop(sick);
    assert_eq!(
        code(output.status),
        4,
        "{} after {:?}",
        said(&output),
        begun.elapsed()
    );
    let kept = fs::read_to_string(bench.out().join("doctor.json")).unwrap();
    assert!(kept.contains("\"severity\": \"error\""), "{kept}");
    let report = fs::read_to_string(bench.out().join("report.html")).unwrap();
    for text in [&report, &said(&output)] {
        assert!(text.contains("reach"), "{text}");
    }
    bench.same_as(&before);
}
