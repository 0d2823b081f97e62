//! The doctor against real labs: a healthy one gives no finding, each fault gives its own and no other, each remedy,
//! run as it is printed, takes the finding away. What is broken by hand is in tests/doctor_by_hand.rs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]
#![cfg(feature = "lab")]

#[path = "support/program.rs"]
mod program;
#[path = "support/sick_lab.rs"]
mod sick_lab;
#[path = "../src/skip.rs"]
mod skip;

use program::{encapbench, finish, said};
use serde_json::Value;
use sick_lab::{LIMIT, Lab, ONE_CLUSTER, TWO_CLUSTERS, can_run, each, names, scenario};
use std::fs;

/// The same for what joins clusters.
const SUBMARINER_TABLE: [(&str, &[&str]); 12] = [
    ("", &[]),
    ("strict-rp-filter: { node: east-2 }", &["rp-filter east-2"]),
    (
        "remote-route: { node: west-1, broken: missing }",
        &["remote-route west-1", "remote-route west-1"],
    ),
    (
        "remote-route: { node: east-2, broken: unreachable }",
        &["remote-route east-2", "remote-route east-2"],
    ),
    (
        "remote-route: { node: east-2, broken: bird }",
        &["remote-route east-2", "remote-route east-2"],
    ),
    (
        "host-table: { node: east-1, broken: no-routes }",
        &["host-table east-1"],
    ),
    (
        "host-table: { node: west-2, broken: no-rule }",
        &["host-table west-2"],
    ),
    (
        "host-table: { node: east-1, broken: wrong-source }",
        &["host-table east-1"],
    ),
    (
        "udp-blocked: { node: east-1, port: 4800 }",
        &["udp-blocked east-1"],
    ),
    (
        "udp-blocked: { node: west-2, port: 4500 }",
        &["udp-blocked west-2"],
    ),
    ("forward-drop: { node: west-2 }", &["forward-drop west-2"]),
    ("no-ip-forwarding: { node: east-1 }", &["no-ip-forwarding east-1"]),
];

/// The confusion table: what is broken, and all that may be found then.
const TABLE: [(&str, &[&str]); 10] = [
    ("", &[]),
    ("forward-drop: { node: east-1 }", &["forward-drop east-1"]),
    (
        "udp-blocked: { node: east-2, port: 4789 }",
        &["udp-blocked east-2"],
    ),
    (
        "mtu-black-hole: { node: east-1, mtu: 1400 }",
        &["mtu-black-hole east-1"],
    ),
    ("checksum-offload: { node: east-1 }", &["checksum-offload east-1"]),
    ("no-ip-forwarding: { node: east-3 }", &["no-ip-forwarding east-3"]),
    ("node-prefix-32: { node: east-1 }", &["node-prefix-32 east-1"]),
    ("rule-load: { node: east-2, rules: 3000 }", &["rule-load east-2"]),
    ("stale-fdb: { node: east-1, peer: east-3 }", &["stale-fdb east-1"]),
    (
        "stale-neighbour: { node: east-1, peer: east-2 }",
        &["stale-neighbour east-1"],
    ),
];

fn confusion(lab: &str, table: &[(&str, &[&str])]) {
    if !can_run(&["ip", "nft", "sysctl", "ethtool", "bridge"]) {
        return;
    }
    each(
        table,
        |(fault, _)| (*fault).to_owned(),
        |(fault, expected)| {
            let faults: &[&str] = if fault.is_empty() { &[] } else { &[fault] };
            let lab = Lab::start(&scenario(lab, faults));
            let (findings, code) = lab.doctor();
            assert_eq!(names(&findings), *expected, "{findings:#?}");
            let is_error = findings.iter().any(|finding| finding["severity"] == "error");
            assert_eq!(code, i32::from(is_error), "{findings:#?}");
            if !expected.is_empty() {
                lab.heal(&findings);
                let (left, code) = lab.doctor();
                assert_eq!(
                    (names(&left), code),
                    (Vec::new(), 0),
                    "after the remedy: {left:#?}"
                );
            }
        },
    );
}

#[test]
fn each_fault_gives_its_own_finding_and_its_remedy_takes_it_away() {
    confusion(ONE_CLUSTER, &TABLE);
}

#[test]
fn each_fault_between_clusters_gives_its_own_finding_and_its_remedy_takes_it_away() {
    confusion(TWO_CLUSTERS, &SUBMARINER_TABLE);
}

#[test]
fn this_machine_is_examined_and_the_text_reads_well() {
    let output = finish(encapbench().arg("doctor"), LIMIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Looked into 1 place"), "{}", said(&output));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    fs::write(
        &file,
        scenario(ONE_CLUSTER, &["no-ip-forwarding: { node: east-3 }"]),
    )
    .unwrap();
    let output = finish(encapbench().arg("doctor").arg(&file), LIMIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(program::code(output.status), 1, "{}", said(&output));
    for part in [
        "error: east-3: east-3 does not forward packets [no-ip-forwarding]",
        "seen       net.ipv4.ip_forward = 0",
        "remedy     [east-3] sysctl -w net.ipv4.ip_forward=1",
        "1 error, 0 warnings.",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // A fault of a node that is not there is told with its line.
    fs::write(&file, scenario(ONE_CLUSTER, &["forward-drop: { node: east-9 }"])).unwrap();
    let output = finish(encapbench().arg("doctor").arg(&file), LIMIT);
    assert_eq!(program::code(output.status), 2, "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("broken.yaml:5:") && text.contains("no node is named `east-9`"),
        "{text}"
    );
}

#[test]
fn a_run_whose_path_carries_nothing_calls_the_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    let text = scenario(ONE_CLUSTER, &["forward-drop: { node: east-2 }"])
        .replace(
            "name: nodes, from: east-1, to: east-2",
            "name: pods, from: pod@east-1, to: pod@east-2, vxlan-mode: Always",
        )
        .replace("duration: 1s", "duration: 200ms");
    fs::write(&file, text).unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .arg("run")
            .arg(&file)
            .args(["--blocks", "1", "--quiet", "--out"])
            .arg(&run),
        LIMIT,
    );
    assert_eq!(program::code(output.status), 4, "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("[forward-drop]"), "{}", said(&output));
    let found: Value = serde_json::from_slice(&fs::read(run.join("doctor.json")).unwrap()).unwrap();
    assert_eq!(
        names(found["findings"].as_array().unwrap()),
        ["forward-drop east-2"]
    );
    for report in ["report.md", "report.html"] {
        let text = fs::read_to_string(run.join(report)).unwrap();
        assert!(
            text.contains("What the doctor found") && text.contains("ip filter FORWARD"),
            "{report}"
        );
    }
    // Made again it is the same, byte for byte.
    let before = fs::read(run.join("report.html")).unwrap();
    let output = finish(encapbench().arg("report").arg(&run), LIMIT);
    assert_eq!(program::code(output.status), 0, "{}", said(&output));
    assert!(before == fs::read(run.join("report.html")).unwrap());
}
