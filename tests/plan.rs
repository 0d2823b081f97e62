//! `encapbench plan` and `schema` as a user meets them: exit codes, and what goes to which stream.

use assert_cmd::Command;
use predicates::prelude::{PredicateBooleanExt, predicate};
use std::fs;

fn encapbench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encapbench"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn a_plan_touches_nothing_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/calico-vxlan.yaml");
    encapbench()
        .current_dir(folder.path())
        .args(["plan", scenario])
        .assert()
        .code(0)
        .stdout(predicate::str::contains("pod-to-pod Always"))
        .stderr("");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "something was written"
    );
}

#[test]
fn bad_files_exit_with_2_and_say_where() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scenarios/calico-vxlan.yaml"
    ))
    .unwrap();
    for (from, to, said) in [
        ("streams: 1", "stream: 1", ":17:47: unknown key `stream`"),
        ("to: east-2 }", "to: esat-2 }", "did you mean `east-2`?"),
        (
            "[east-3] }",
            "[east-3], cidr: 10.1.0.0/33 }",
            "expected a block such as 10.1.0.0/24",
        ),
        (
            "[ { nodes: [east-1, east-2] }, { nodes: [east-3] } ]",
            "[ { nodes: [east-1, east-2], cidr: 10.1.0.0/16 }, { nodes: [east-3], cidr: 10.1.3.0/24 } ]",
            "10.1.3.0/24 overlaps 10.1.0.0/16",
        ),
    ] {
        assert!(good.contains(from), "{from:?}");
        let bad = folder.path().join("bad.yaml");
        fs::write(&bad, good.replacen(from, to, 1)).unwrap();
        // `run` refuses it before it touches the machine.
        for command in ["plan", "run"] {
            encapbench()
                .current_dir(folder.path())
                .args([command, "bad.yaml"])
                .assert()
                .code(2)
                .stdout("")
                .stderr(predicate::str::contains(said).and(predicate::str::contains("bad.yaml:")));
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "something was written"
        );
    }
}

#[test]
fn bad_overrides_exit_with_2() {
    for arguments in [
        &["plan"][..],
        &["plan", "scenarios/none.yaml"],
        &["plan", "scenarios/quick.yaml", "--only", "udp"],
        &["plan", "scenarios/quick.yaml", "--blocks", "0"],
        &["plan", "scenarios/quick.yaml", "--budget", "100ms"],
        &["plan", "scenarios/quick.yaml", "--budget", "10m", "--blocks", "6"],
        &["plan", "scenarios/quick.yaml", "--duration", "2"],
        &["plan", "scenarios/quick.yaml", "--duration", "25h"],
    ] {
        encapbench()
            .args(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(predicate::str::is_empty().not());
    }
}

#[test]
fn the_schema_is_the_checked_in_one() {
    let checked_in = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/scenario.schema.json");
    encapbench()
        .arg("schema")
        .assert()
        .code(0)
        .stdout(fs::read_to_string(checked_in).unwrap());
}
