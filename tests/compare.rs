//! `encapbench compare` and `gate` over run folders that were made by hand: exit codes, and what people read.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;

use encapbench::{
    evidence::{EvidenceState, RawEvidence, Verdict},
    measure::{Direction, StreamResult, Techniques, ThroughputResult, machine::Host},
    run::{CongestionChoice, Folder, Manifest, Outcome, Trial},
    scenario::{self, Overrides, Plan},
};
use program::{code, encapbench, finish, said};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

const SCENARIO: &str = "
name: by-hand
fabric:
  lab:
    clusters: [ { name: c, subnets: [ { nodes: [a, b] } ] } ]
paths:
  - { name: plain, from: a, to: b }
workloads:
  - { name: tcp, throughput: { duration: 2s } }
blocks: { at-least: 6 }
";

const POLICY: &str = "
gates:
  - { name: it kept its pace, path: plain, workload: tcp, metric: throughput,
      not-worse-by: { more-than: 5%, and-more-than: 20MB/s } }
";

/// A run folder of six trials around `rate` MB/s, measured under `kernel`.
fn run_folder(parent: &Path, name: &str, rate: f64, kernel: &str) -> PathBuf {
    let plan = Plan::new(
        &scenario::parse(SCENARIO, "by-hand.yaml").unwrap(),
        &Overrides::default(),
        7,
    )
    .unwrap();
    let case = plan.cases[0].slug.clone();
    let manifest = Manifest {
        format: Manifest::FORMAT,
        encapbench: "0.1.0".to_owned(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        command: Vec::new(),
        scenario: plan.scenario,
        seed: plan.seed,
        cases: plan.cases,
        skipped_gates: BTreeMap::new(),
        host: Host {
            kernel: kernel.to_owned(),
            ..Host::default()
        },
        congestion: CongestionChoice::default(),
        fabric: BTreeMap::new(),
    };
    let path = parent.join(name);
    let mut folder = Folder::create(&path, &manifest).unwrap();
    for block in 1..=6 {
        let bytes = (rate * 2e6 * (1.0 + 0.002 * (f64::from(block) - 3.5))) as u64;
        folder.append(&trial(block, &case, bytes)).unwrap();
    }
    path
}

fn trial(block: u32, case: &str, bytes: u64) -> Trial {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    Trial {
        block,
        position: 1,
        case: case.to_owned(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        seconds: 2.0,
        outcome: Outcome::Measured,
        throughput: Some(ThroughputResult {
            streams: vec![StreamResult {
                id: 1,
                direction: Direction::Forward,
                sent_bytes: bytes,
                received_bytes: bytes,
                seconds: 2.0,
                total_bytes: bytes,
                retransmits: Some(0),
                udp: None,
                local_address: address,
                peer_address: address,
                samples: Vec::new(),
            }],
            seconds: 2.0,
            techniques: Techniques::default(),
            process_user_seconds: 0.1,
            process_system_seconds: 0.9,
        }),
        sender: None,
        latency: None,
        load: None,
        search: Vec::new(),
        pairs: Vec::new(),
        probe: None,
        cpu: Vec::new(),
        hops: Vec::new(),
        evidence: RawEvidence::default(),
        verdict: Verdict {
            state: EvidenceState::Confirmed,
            tunnel_share: None,
            underlay_share: None,
            reasons: Vec::new(),
        },
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Output {
    finish(
        encapbench()
            .current_dir(folder)
            .env_remove("GITHUB_ACTIONS")
            .args(arguments),
        Duration::from_mins(1),
    )
}

/// The runs of most tests: `base` and three more like it, one 2 % and one 60 % slower.
fn runs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rate) in [
        ("base", 1000.0),
        ("like-1", 1002.0),
        ("like-2", 998.0),
        ("like-3", 1001.0),
        ("near", 999.0),
        ("slower", 880.0),
        ("slow", 400.0),
    ] {
        run_folder(folder.path(), name, rate, "6.1.0");
    }
    folder
}

#[test]
fn compare_tells_by_its_exit_code() {
    let folder = runs();
    let history = [
        "--history",
        "like-1",
        "--history",
        "like-2",
        "--history",
        "like-3",
    ];
    let expect = |arguments: &[&str], expected: i32, verdict: &str| {
        let output = program(folder.path(), &[&["compare"], arguments].concat());
        assert_eq!(code(output.status), expected, "{}", said(&output));
        assert!(
            said(&output).contains(verdict),
            "{arguments:?}: {}",
            said(&output)
        );
    };
    expect(&["base", "slow"], 1, "Verdict: worse");
    expect(&["slow", "base"], 0, "Verdict: better");
    // One run a side: likeness can't be shown, and 12 % may be how runs differ.
    expect(&["base", "near"], 5, "Verdict: can't tell");
    expect(&["base", "slower"], 5, "Verdict: can't tell");
    expect(&[&["base", "near"], &history[..]].concat(), 0, "Verdict: same");
    expect(&[&["base", "slower"], &history[..]].concat(), 1, "Verdict: worse");
    expect(&["base", "nowhere"], 2, "nowhere");
    expect(&["base", "near", "--margin", "0"], 2, "percent");
}

#[test]
fn compare_names_unlike_conditions() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), "old", 1000.0, "6.1.0");
    run_folder(folder.path(), "new", 400.0, "6.12.0");
    let output = program(folder.path(), &["compare", "old", "new"]);
    let text = said(&output);
    assert_eq!(code(output.status), 1, "{text}");
    assert!(text.contains("! kernel: 6.1.0 against 6.12.0"), "{text}");
}

#[test]
fn a_policy_is_judged_against_earlier_runs() {
    let folder = runs();
    fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    let gate = |arguments: &[&str]| {
        let output = program(
            folder.path(),
            &[&["gate", "--policy", "policy.yaml"], arguments].concat(),
        );
        (code(output.status), said(&output))
    };
    let several = [
        "--baseline",
        "base",
        "--baseline",
        "like-1",
        "--baseline",
        "like-2",
    ];
    for (arguments, expected, what) in [
        (vec!["slow", "--baseline", "base"], 1, "fail: it kept its pace"),
        (
            vec!["slower", "--baseline", "base"],
            5,
            "inconclusive: it kept its pace",
        ),
        (
            vec!["near", "--baseline", "base"],
            5,
            "not known from one baseline run",
        ),
        ([&["near"], &several[..]].concat(), 0, "pass: it kept its pace"),
        ([&["slower"], &several[..]].concat(), 1, "fail: it kept its pace"),
        (vec!["near"], 2, "name one with --baseline RUN"),
    ] {
        let (code, text) = gate(&arguments);
        assert_eq!(code, expected, "{arguments:?}: {text}");
        assert!(text.contains(what), "{arguments:?}: {text}");
    }
    let (_, text) = gate(&[&["slower"], &several[..]].concat());
    for part in [
        "should be not worse than in the baseline by more than 5% and more than 20MB/s",
        "The median of 6 trials is 880 MB/s, against 1000 MB/s of 3 baseline runs: -12.0 %",
        "`encapbench compare`",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_run_counts_once() {
    let folder = runs();
    for arguments in [
        &["compare", "base", "near", "--base", "base"][..],
        &["compare", "base", "near", "--history", "./near"],
        &["compare", "base", "base"],
    ] {
        let output = program(folder.path(), arguments);
        assert_eq!(code(output.status), 2, "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("are the same run"), "{}", said(&output));
    }
    let output = program(folder.path(), &["history", ".", "base", "./near"]);
    let all = program(folder.path(), &["history", "."]);
    assert_eq!(said(&output), said(&all));
}

#[test]
fn a_reader_that_goes_does_not_change_the_verdict() {
    let folder = runs();
    let script = format!(
        "set -o pipefail; {} compare base slow --history like-1 --history like-2 | true",
        env!("CARGO_BIN_EXE_encapbench")
    );
    let status = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder.path())
        .status();
    assert_eq!(code(status.unwrap()), 1);
}

#[test]
fn both_parts_must_be_exceeded() {
    let folder = runs();
    let judged = |worsening: &str| {
        let policy = POLICY.replace("more-than: 5%, and-more-than: 20MB/s", worsening);
        fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let output = program(
            folder.path(),
            &[
                "gate",
                "slower",
                "--policy",
                "policy.yaml",
                "--baseline",
                "base",
                "--baseline",
                "like-1",
                "--baseline",
                "like-2",
                "--write",
            ],
        );
        code(output.status)
    };
    // It is slower by 120 MB/s, which is 12 %.
    assert_eq!(judged("more-than: 5%"), 1);
    assert_eq!(judged("more-than: 50MB/s"), 1);
    assert_eq!(judged("more-than: 5%, and-more-than: 300MB/s"), 0);
    assert_eq!(judged("more-than: 30%, and-more-than: 20MB/s"), 0);
    assert_eq!(judged("more-than: 12%"), 5);
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("slower/gate.json")).unwrap()).unwrap();
    assert_eq!(written["state"], "inconclusive");
    assert_eq!(written["verdicts"][0]["against_baseline"], true);
    assert!(folder.path().join("slower/junit.xml").exists());
}

#[test]
fn a_bad_policy_is_refused_with_its_line() {
    let folder = runs();
    for (policy, line, message) in [
        (
            POLICY.replace("path: plain", "path: plane"),
            3,
            "no path is named `plane`",
        ),
        (
            POLICY.replace("more-than: 5%", "more-then: 5%"),
            4,
            "unknown key `more-then`",
        ),
        (POLICY.replace("5%", "5us"), 4, "`5us` is neither"),
        (POLICY.replace("5%", "five"), 4, "a share such as 5%"),
        (
            POLICY.replace("not-worse-by", "at-least: 1, not-worse-by"),
            4,
            "don't go together",
        ),
        ("gates: []".to_owned(), 1, "`gates` needs at least one element"),
    ] {
        fs::write(folder.path().join("policy.yaml"), &policy).unwrap();
        let output = program(folder.path(), &["gate", "base", "--policy", "policy.yaml"]);
        let text = said(&output);
        assert_eq!(code(output.status), 2, "{policy}: {text}");
        assert!(text.contains(&format!("policy.yaml:{line}:")), "{policy}: {text}");
        assert!(text.contains(message), "{policy}: {text}");
    }
}

#[test]
fn github_shows_gates_that_did_not_pass() {
    let folder = runs();
    fs::write(
        folder.path().join("policy.yaml"),
        "gates: [ { name: 'fast, or: not', path: plain, workload: tcp, metric: throughput, at-least: 1GB/s } ]",
    )
    .unwrap();
    let judge = |github: bool| {
        let mut command = encapbench();
        command.current_dir(folder.path()).env_remove("GITHUB_ACTIONS");
        if github {
            command.env("GITHUB_ACTIONS", "true");
        }
        command.args(["gate", "slow", "--policy", "policy.yaml"]);
        let output = finish(&mut command, Duration::from_mins(1));
        assert_eq!(code(output.status), 1, "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        judge(true).contains(
            "\n::error title=Gate failed%3A fast%2C or%3A not::`plain`, `tcp`: throughput should be"
        ),
        "{}",
        judge(true)
    );
    assert!(!judge(false).contains("::error"));
}
