//! Paths that are expected to be unreachable: a gate that passes while nothing gets through, and fails once something does.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/program.rs"]
mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::{code, encapbench, finish, said, scenario, trials};

const CLOSED: &str = "CrossSubnet to west-2";

/// Runs a scenario; its exit code and what it said. `None`, loudly, where no lab can be built.
fn run(file: &Path, folder: &Path) -> Option<(u8, String)> {
    let output = finish(
        encapbench()
            .args(["run", "--quiet", "--out"])
            .arg(folder)
            .arg(file),
        Duration::from_mins(1),
    );
    let code = u8::try_from(code(output.status)).unwrap();
    if code == 3 {
        skip::skip(format_args!("no lab here: {}", said(&output)));
        return None;
    }
    Some((code, said(&output)))
}

fn gate(folder: &Path) -> Value {
    let gates: Value = serde_json::from_slice(&fs::read(folder.join("gate.json")).unwrap()).unwrap();
    gates["verdicts"][0].clone()
}

#[test]
fn what_should_be_closed_is_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    // As it stands in the repository: closed by a strict filter.
    let closed = folder.path().join("closed");
    let Some((exit, text)) = run(Path::new(&scenario("submariner-closed.yaml")), &closed) else {
        return;
    };
    assert_eq!(exit, 0, "{text}");
    let all = trials(&closed);
    let of = |slug: &str| all.iter().find(|trial| trial["case"] == slug).unwrap();
    let tried = of("crosssubnet-to-west-2--rr");
    assert_eq!(tried["outcome"]["state"], "unreachable", "{tried}");
    assert_eq!(tried["verdict"]["state"], "confirmed");
    assert_eq!(
        (&tried["probe"]["datagram"], &tried["probe"]["connection"]),
        (&false.into(), &false.into())
    );
    assert!(tried.get("latency").is_none(), "nothing is measured: {tried}");
    assert_eq!(of("always-to-west-2--rr")["outcome"]["state"], "measured");
    let verdict = gate(&closed);
    assert_eq!(
        (
            verdict["gate"].as_str().unwrap(),
            verdict["state"].as_str().unwrap()
        ),
        (format!("{CLOSED} is unreachable").as_str(), "pass")
    );
    assert!(!closed.join("doctor.json").exists(), "all is as it should be");
    let junit = fs::read_to_string(closed.join("junit.xml")).unwrap();
    assert!(
        junit.contains(r#"tests="1" skipped="0" failures="0" errors="0""#),
        "{junit}"
    );
    let csv = fs::read_to_string(closed.join("trials.csv")).unwrap();
    assert!(csv.contains(",unreachable,"), "{csv}");

    // The same without the filter: something gets through, and the gate says so.
    let text = fs::read_to_string(scenario("submariner-closed.yaml")).unwrap();
    let file = folder.path().join("open.yaml");
    fs::write(
        &file,
        text.replace("faults: [ { strict-rp-filter: { node: west-2 } } ]", "faults: []"),
    )
    .unwrap();
    let open = folder.path().join("open");
    let (exit, text) = run(&file, &open).unwrap();
    assert_eq!(exit, 1, "{text}");
    let verdict = gate(&open);
    assert_eq!(verdict["state"], "fail", "{verdict}");
    let report = fs::read_to_string(open.join("report.md")).unwrap();
    assert!(
        report.contains("a datagram and a TCP connection got through, and nothing should"),
        "{report}"
    );
}
