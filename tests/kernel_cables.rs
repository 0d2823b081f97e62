//! The cables that encrypt, as a kernel has them that has all of them: ESP by IPsec's policies and states, WireGuard.
//! Where this machine's lacks one, the test runs itself once more under another kernel.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/crossing.rs"]
mod crossing;
#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use capture::Wrapped;
use crossing::{built, captured, scenario};
use encapbench::fabric::lab::Made;
use program::{code, encapbench, finish, said, trials};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Set where the test runs under the other kernel.
const THERE: &str = "ENCAPBENCH_TEST_OTHER_KERNEL";
const NAME: &str = "the_kernel_makes_cables_that_encrypt";

/// Whether this kernel makes both cables; `None`: no lab can be built.
fn has_both() -> Option<bool> {
    let mut both = true;
    for cable in ["ipsec", "wireguard"] {
        both &= built(cable)?.cable() == Some(&Made::InKernel);
    }
    Some(both)
}

#[test]
fn the_kernel_makes_cables_that_encrypt() {
    let Some(both) = has_both() else { return };
    if both {
        packets_are_wrapped();
        a_run_is_confirmed_and_not_marked();
        return;
    }
    assert!(
        std::env::var_os(THERE).is_none(),
        "the other kernel lacks one, too"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/other-kernel");
    let output = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(THERE, "1")
        .env("ENCAPBENCH_KERNEL_TIMEOUT", "900")
        .env_remove("CI")
        .output()
        .unwrap();
    let text = said(&output);
    if output.status.code() == Some(125) {
        skip::skip(format_args!(
            "this kernel lacks ESP or WireGuard, and there is no other: {text}"
        ));
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!text.contains("SKIPPED"), "{text}");
}

fn packets_are_wrapped() {
    for (cable, wrapped) in [
        ("ipsec", Wrapped::Esp { port: 4500 }),
        ("wireguard", Wrapped::Wireguard { port: 4500 }),
    ] {
        let lab = built(cable).unwrap();
        assert_eq!(lab.tunnels().count(), 0, "{cable}: nothing is left to user space");
        let to_gateway = Wrapped::Vxlan { port: 4800, vni: 100 };
        captured(&lab, "CrossSubnet", to_gateway, wrapped, Wrapped::Plain);
    }
}

/// Evidence by the states' own counters: the kernel's ESP has no device.
fn a_run_is_confirmed_and_not_marked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.yaml");
    std::fs::write(&file, scenario("ipsec")).unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .args(["run", "--quiet", "--out"])
            .arg(&run)
            .arg(&file),
        Duration::from_mins(4),
    );
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let all = trials(&run);
    assert_eq!(all.len(), 4);
    for trial in &all {
        let case = &trial["case"];
        assert_eq!(
            trial["verdict"]["state"], "confirmed",
            "{case}: {}",
            trial["verdict"]
        );
        let gateway = trial["evidence"]["after"]
            .as_array()
            .unwrap()
            .iter()
            .find(|seen| seen["node"] == "east-1")
            .unwrap();
        let devices = gateway["devices"].as_array().unwrap();
        let cable = devices.iter().find(|device| device["role"] == "cable").unwrap();
        assert_eq!(cable["device"], "ip xfrm", "{case}");
        assert_eq!(cable["mtu"], 1438, "{case}");
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap();
    for case in manifest["cases"].as_array().unwrap() {
        assert!(case["path"]["user-space"].is_null(), "{case}");
    }
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("ipsec, the kernel's"), "{report}");
    assert!(
        !report.contains("(user space)") && !report.contains(", user space"),
        "{report}"
    );
}
