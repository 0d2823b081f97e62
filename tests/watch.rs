//! Watching over time: the units under contrib/, and a run that adds blocks until its gates are decided.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;

use program::{code, encapbench, finish, said, trials};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const LIMIT: Duration = Duration::from_mins(3);

const SMALL: &str = "
name: small
fabric:
  lab:
    clusters: [ { name: c, subnets: [ { nodes: [a, b] } ] } ]
paths:
  - { name: plain, from: a, to: b }
workloads:
  - { name: tcp, throughput: { duration: 100ms, omit: 50ms } }
blocks: { at-least: 2, at-most: 12 }
gates:
  - { name: it moves, path: plain, workload: tcp, metric: throughput, at-least: 1MB/s }
";

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

fn blocks(run: &Path) -> usize {
    let blocks: BTreeSet<u64> = trials(run)
        .iter()
        .map(|trial| trial["block"].as_u64().unwrap())
        .collect();
    blocks.len()
}

#[test]
fn a_deciding_run_adds_blocks_until_its_gate_is_decided_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, limit: &str| {
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, SMALL.replace("1MB/s", limit)).unwrap();
        let at = folder.path().join(name);
        let output = finish(
            encapbench()
                .arg("run")
                .arg(file)
                .arg("--out")
                .arg(&at)
                .arg("--quiet"),
            LIMIT,
        );
        (at, output)
    };
    // Two blocks are run in any case and can't decide; six trials on one side of the limit do. (On a busy machine a
    // trial may fail, and then another block is needed.)
    let (clear, output) = run("clear", "1MB/s");
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let decided = blocks(&clear);
    assert!((6..12).contains(&decided), "{decided} blocks: {}", said(&output));
    let (broken, output) = run("broken", "900GB/s");
    assert_eq!(code(output.status), 1, "{}", said(&output));
    let decided = blocks(&broken);
    assert!((6..12).contains(&decided), "{decided} blocks: {}", said(&output));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("sequential test"),
        "{}",
        said(&output)
    );

    // Other gates: every file tells of them, and again of the first ones after.
    let policy = folder.path().join("policy.yaml");
    fs::write(
        &policy,
        "gates:\n  - { name: out of reach, path: plain, workload: tcp, metric: throughput, at-least: 900GB/s }\n",
    )
    .unwrap();
    let html = || fs::read_to_string(clear.join("report.html")).unwrap();
    let before = html();
    let judged = finish(
        encapbench()
            .arg("gate")
            .arg(&clear)
            .arg("--policy")
            .arg(&policy)
            .arg("--write"),
        LIMIT,
    );
    assert_eq!(code(judged.status), 1, "{}", said(&judged));
    assert!(html().contains("out of reach") && !html().contains("it moves"));
    for file in ["gate.json", "junit.xml", "metrics.prom", "report.md"] {
        let text = fs::read_to_string(clear.join(file)).unwrap();
        assert!(text.contains("out of reach"), "{file}");
    }
    finish(encapbench().arg("report").arg("-q").arg(&clear), LIMIT);
    assert!(html() == before);
}

#[test]
fn the_watcher_leaves_figures_for_the_collector_and_keeps_the_newest_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (runs, textfiles) = (folder.path().join("runs"), folder.path().join("textfiles"));
    let scenario = folder.path().join("small.yaml");
    fs::write(
        &scenario,
        SMALL.replace("at-least: 2, at-most: 12", "at-least: 1"),
    )
    .unwrap();
    for old in [
        "2020-01-01T00-00-00Z-small",
        "2020-01-02T00-00-00Z-small",
        "notes",
        "2020-01-01T00-00-00Z-other",
    ] {
        fs::create_dir_all(runs.join(old)).unwrap();
        fs::write(runs.join(old).join("manifest.json"), "{}").unwrap();
    }
    fs::create_dir(&textfiles).unwrap();
    let output = finish(
        Command::new("sh")
            .arg(contrib("encapbench-watch"))
            .arg(&scenario)
            .env("ENCAPBENCH", env!("CARGO_BIN_EXE_encapbench"))
            .env("ENCAPBENCH_RUNS", &runs)
            .env("ENCAPBENCH_KEEP", "2")
            .env("ENCAPBENCH_TEXTFILES", &textfiles),
        LIMIT,
    );
    // One block can't decide a gate.
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let metrics = fs::read_to_string(textfiles.join("encapbench-small.prom")).unwrap();
    assert!(
        metrics.contains("encapbench_throughput_bytes_per_second{scenario=\"small\""),
        "{metrics}"
    );
    assert!(
        metrics.contains("encapbench_gate_state") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert_eq!(fs::read_dir(&textfiles).unwrap().count(), 1);
    let mut left: Vec<String> = fs::read_dir(&runs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(
        left[..2],
        ["2020-01-01T00-00-00Z-other", "2020-01-02T00-00-00Z-small"]
    );
    assert_eq!(left[3], "notes");
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for unit in ["encapbench.service", "encapbench.timer"] {
        let text = fs::read_to_string(contrib(unit)).unwrap();
        // The program is not installed here; that it can be started is systemd's last complaint.
        let text = text.replace("/usr/local/bin/encapbench-watch", "/bin/true");
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .args(["encapbench.timer", "encapbench.service"].map(|unit| folder.path().join(unit)))
        .output();
    let Ok(output) = verified else {
        // Where systemd is not, its units don't matter.
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = text.lines().filter(|line| line.contains("encapbench.")).collect();
    assert!(complaints.is_empty(), "{text}");
}
