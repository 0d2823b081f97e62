//! Calico's encapsulations beside VXLAN, in real namespaces: each is what its device and routes say, and is told from the
//! kernel's where user space does it.

#![cfg(feature = "lab")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/program.rs"]
mod support;

use std::time::Duration;
use support::{code, encapbench, finish, said, scenario, trials};

/// The ready scenario, shortened: each path is confirmed by its own device's bytes.
#[test]
fn each_encapsulation_is_proven_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .args(["run", "--quiet", "--blocks", "1", "--duration", "200ms", "--out"])
            .arg(&run)
            .arg(scenario("calico-encapsulations.yaml")),
        Duration::from_secs(90),
    );
    let all = trials(&run);
    if let Some(failed) = all.iter().find_map(|trial| trial["outcome"]["error"].as_str())
        && failed.contains("/dev/net/tun")
    {
        assert_eq!(code(output.status), 4, "{}", said(&output));
        // Those that need it alone end so, with what to do.
        assert!(
            failed.contains("run as root") || failed.contains("modprobe tun"),
            "{failed}"
        );
        let measured = all
            .iter()
            .filter(|trial| trial["outcome"]["state"] == "measured")
            .count();
        assert!(measured >= 6, "the others are measured: {measured}");
        skip::skip(format_args!("{failed}"));
        return;
    }
    assert_eq!(code(output.status), 0, "{}", said(&output));
    for trial in &all {
        assert_eq!(
            trial["verdict"]["state"], "confirmed",
            "{}: {}",
            trial["case"], trial["verdict"]
        );
        let device = |name: &str| {
            let devices = trial["evidence"]["after"][0]["devices"].as_array().unwrap();
            devices.iter().any(|device| device["device"] == name)
        };
        let case = trial["case"].as_str().unwrap();
        let expected = match case.split('-').next().unwrap() {
            "ipip" => "tunl0",
            "wireguard" => "wireguard.cali",
            _ => "vxlan.calico",
        };
        assert!(device(expected), "{case}: {trial}");
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap();
    let summary = std::fs::read_to_string(run.join("summary.csv")).unwrap();
    for case in manifest["cases"].as_array().unwrap() {
        let name = case["path"]["name"].as_str().unwrap();
        let expected = case["path"]["expected"].as_str().unwrap();
        let wanted = match name {
            "ipip Always" => "ipip",
            "wireguard" => "wireguard",
            "vxlan Always" => "vxlan",
            _ => "none",
        };
        assert_eq!(expected, wanted, "{name}");
        // What is user space's is never passed off as the kernel's.
        let marked = if case["path"]["user-space"].is_string() {
            format!("{name},{expected} (user space),")
        } else {
            format!("{name},{expected},")
        };
        assert!(summary.contains(&marked), "{marked} in {summary}");
    }
}
