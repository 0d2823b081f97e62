//! `encapbench run` as a whole: real namespaces, real traffic, real files.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use program::{
    as_ordinary_user, code, encapbench, finish, namespaces, poll, processes, said, scenario, trials, wait,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_mins(2);

/// Two paths and two workloads, a second or so a block.
const SMALL: &str = "
name: small
fabric:
  lab:
    clusters: [ { name: c, subnets: [ { nodes: [a, b] } ] } ]
paths:
  - { name: plain, from: a, to: b }
  - { name: tunnelled, from: pod@a, to: pod@b, vxlan-mode: Always }
workloads:
  - { name: tcp, throughput: { duration: 300ms, omit: 100ms } }
  - { name: rr, latency: { kind: tcp-rr, duration: 200ms, omit: 50ms } }
blocks: { at-least: 1 }
relative-to: plain
gates:
  - { name: it moves, path: plain, workload: tcp, metric: throughput, at-least: 1MB/s }
";

fn write_scenario(folder: &Path, text: &str) -> std::path::PathBuf {
    let file = folder.join("scenario.yaml");
    fs::write(&file, text).unwrap();
    file
}

fn run_small(folder: &Path, text: &str, args: &[&str]) -> Output {
    let file = write_scenario(folder, text);
    finish(
        encapbench()
            .current_dir(folder)
            .arg("run")
            .arg(file)
            .args(["--out", "run"])
            .args(args),
        LIMIT,
    )
}

fn interrupt(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::INT).unwrap();
}

#[test]
fn a_run_measures_proves_reports_and_judges() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_small(folder.path(), SMALL, &[]);
    // One block can't give an interval: the gate is inconclusive, and nothing else is wrong.
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let run = folder.path().join("run");
    let trials = trials(&run);
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        assert_eq!(trial["outcome"]["state"], "measured", "{trial}");
        assert_eq!(trial["verdict"]["state"], "confirmed", "{}", trial["verdict"]);
    }
    for file in [
        "manifest.json",
        "summary.csv",
        "trials.csv",
        "intervals.csv",
        "latency.hlog",
        "report.html",
        "report.md",
        "gate.json",
        "junit.xml",
    ] {
        assert!(
            fs::metadata(run.join(file)).is_ok_and(|file| file.len() > 0),
            "{file} is missing or empty"
        );
    }
    assert!(!run.join("run.lock").exists());
    let header = fs::read_to_string(run.join("summary.csv")).unwrap();
    assert_eq!(
        header.lines().next().unwrap(),
        "case,path,encapsulation,workload,metric,unit,trials,median,ci_low,ci_high,merged,relative_to,relative,\
         relative_low,relative_high,reference,evidence"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("plain") && text.contains("tunnelled") && text.contains("confirmed"),
        "{text}"
    );
}

#[test]
fn report_makes_the_same_bytes_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_small(folder.path(), SMALL, &["--quiet"]);
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let run = folder.path().join("run");
    let made = |run: &Path| {
        let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(run)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    fs::read(&path).unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let before = made(&run);
    // From the truth alone, elsewhere, in another time zone.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in ["manifest.json", "trials.jsonl"] {
        fs::copy(run.join(file), copy.join(file)).unwrap();
    }
    let again = finish(
        encapbench()
            .env("TZ", "Pacific/Auckland")
            .arg("report")
            .arg(&copy),
        LIMIT,
    );
    assert_eq!(code(again.status), 0, "{}", said(&again));
    for ((name, bytes), (other_name, other)) in before.iter().zip(made(&copy)) {
        assert_eq!(*name, other_name);
        assert!(*bytes == other, "{name} is not the same");
    }
}

#[test]
fn an_ordinary_user_can_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = as_ordinary_user(folder.path());
    let file = write_scenario(folder.path(), SMALL);
    let output = finish(
        command
            .current_dir(folder.path())
            .arg("run")
            .arg(file)
            .args(["--out", "run"]),
        LIMIT,
    );
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let manifest = fs::read_to_string(folder.path().join("run/manifest.json")).unwrap();
    assert!(manifest.contains("user namespace"), "{manifest}");
    for trial in trials(&folder.path().join("run")) {
        assert_eq!(trial["verdict"]["state"], "confirmed", "{}", trial["verdict"]);
    }
}

#[test]
fn ctrl_c_saves_and_reports_and_resume_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), &SMALL.replace("at-least: 1 ", "at-least: 3 "));
    let run = folder.path().join("run");
    let child = encapbench()
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    poll("second trial", LIMIT, || (trials(&run).len() >= 2).then_some(()));
    interrupt(child.id());
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 130, "{}", said(&output));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("--resume run"),
        "{}",
        said(&output)
    );
    assert!(run.join("summary.csv").exists());
    let before = trials(&run);
    // As if it had been cut off in the middle of a line.
    let log = run.join("trials.jsonl");
    let mut torn = fs::read(&log).unwrap();
    torn.extend_from_slice(b"{\"block\":2,\"pos");
    fs::write(&log, torn).unwrap();
    let output = finish(
        encapbench()
            .current_dir(folder.path())
            .args(["run", "--resume", "run"]),
        LIMIT,
    );
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let after = trials(&run);
    assert_eq!(after[..before.len()], before[..], "what was measured stays");
    let measured: std::collections::BTreeSet<(u64, String)> = after
        .iter()
        .filter(|trial| trial["outcome"]["state"] == "measured")
        .map(|trial| {
            (
                trial["block"].as_u64().unwrap(),
                trial["case"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(measured.len(), 12, "every case of every block is measured");
}

#[test]
fn kill_9_leaves_nothing_behind_and_what_was_measured_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), &SMALL.replace("at-least: 1 ", "at-least: 5 "));
    let run = folder.path().join("run");
    // Known by a path of its own, to tell its processes from others'.
    let program = folder.path().join("encapbench-to-be-killed");
    fs::copy(env!("CARGO_BIN_EXE_encapbench"), &program).unwrap();
    let before = namespaces();
    let mut child = Command::new(&program)
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    poll("first trial", LIMIT, || (!trials(&run).is_empty()).then_some(()));
    let name = program.to_string_lossy().into_owned();
    assert!(processes(&name).len() > 2, "workers run");
    child.kill().unwrap();
    child.wait().unwrap();
    poll(
        "end of its processes and namespaces",
        Duration::from_secs(5),
        || (processes(&name).is_empty() && namespaces().is_subset(&before)).then_some(()),
    );
    let output = finish(
        Command::new(&program)
            .arg("report")
            .arg(&run)
            .stdin(Stdio::null()),
        LIMIT,
    );
    assert_eq!(code(output.status), 0, "{}", said(&output));
}

#[test]
fn a_worker_killed_in_mid_trial_fails_that_trial_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(
        folder.path(),
        &SMALL.replace("duration: 300ms", "duration: 1500ms"),
    );
    let run = folder.path().join("run");
    let program = folder.path().join("encapbench-whose-worker-dies");
    fs::copy(env!("CARGO_BIN_EXE_encapbench"), &program).unwrap();
    let child = Command::new(&program)
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run", "--only", "tcp", "--blocks", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let workers = format!("{} worker", program.display());
    poll("first trial", LIMIT, || (!trials(&run).is_empty()).then_some(()));
    // Into the second trial, which takes at least 1.6 s.
    std::thread::sleep(Duration::from_millis(700));
    for pid in processes(&workers) {
        // Some may be gone by themselves.
        let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
    }
    let output = wait(child, LIMIT);
    let trials = trials(&run);
    assert_eq!(trials.len(), 4, "{}", said(&output));
    let failed: Vec<_> = trials
        .iter()
        .filter(|trial| trial["outcome"]["state"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1, "{failed:?}\n{}", said(&output));
    assert!(
        failed[0]["outcome"]["error"].as_str().unwrap().contains("worker"),
        "{}",
        failed[0]["outcome"]
    );
    // Each case has another valid trial.
    assert_eq!(code(output.status), 5, "{}", said(&output));
}

#[test]
fn a_route_flipped_in_a_running_lab_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), SMALL);
    let run = folder.path().join("run");
    let child = encapbench()
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run", "--only", "tunnelled", "--duration", "2s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    poll("first trial", LIMIT, || (!trials(&run).is_empty()).then_some(()));
    // What encapsulates becomes a plain route to the other node, as a CrossSubnet pool has it. Both ways, and found
    // by what the kernel says, so that the test knows no address plan.
    for (node, other) in [("a", "b"), ("b", "a")] {
        let script = "set -e; block=$(ip route show dev vxlan.calico proto 80 | head -1 | cut -d' ' -f1); \
                      ip route replace $block via $1 dev eth0 onlink proto 80";
        let peer = {
            let list = finish(
                encapbench()
                    .current_dir(folder.path())
                    .args(["lab", "--attach", "run", "--list"]),
                LIMIT,
            );
            let text = String::from_utf8(list.stdout).unwrap();
            text.lines()
                .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == other))
                .map(|(_, address)| address.trim().to_owned())
                .unwrap()
        };
        let flipped = finish(
            encapbench().current_dir(folder.path()).args([
                "lab", "--attach", "run", "--in", node, "--", "sh", "-c", script, "sh", &peer,
            ]),
            LIMIT,
        );
        assert_eq!(code(flipped.status), 0, "{}", said(&flipped));
    }
    let output = wait(child, LIMIT);
    assert_eq!(code(output.status), 4, "{}", said(&output));
    let trials = trials(&run);
    assert_eq!(trials.len(), 2);
    assert_eq!(trials[0]["verdict"]["state"], "confirmed");
    assert_eq!(
        trials[1]["verdict"]["state"], "contradicted",
        "{}",
        trials[1]["verdict"]
    );
    // Its row stands there without figures, to show that something is missing.
    let flipped = trials[1]["case"].as_str().unwrap();
    let summary = fs::read_to_string(run.join("summary.csv")).unwrap();
    let rows: Vec<&str> = summary.lines().filter(|line| line.starts_with(flipped)).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(
            (fields[6], fields[7], fields[16]),
            ("0", "", "contradicted"),
            "{row}"
        );
    }
}

#[test]
fn a_full_disk_ends_the_run_with_all_trials_saved() {
    if !program::is_root() {
        return skip::skip("mounting a small file system needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), &SMALL.replace("at-least: 1 ", "at-least: 50 "));
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4200k tmpfs {disk} && \
         {program} run {file} --out {disk}/run --quiet; code=$?; cp -r {disk}/run {copy}; exit $code",
        disk = disk.display(),
        program = env!("CARGO_BIN_EXE_encapbench"),
        file = file.display(),
        copy = folder.path().join("copy").display(),
    );
    let output = finish(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null()),
        LIMIT,
    );
    assert_eq!(code(output.status), 3, "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("no space is left") && text.contains("--resume"),
        "{}",
        said(&output)
    );
    let run = folder.path().join("copy");
    let saved = trials(&run).len();
    assert!(
        saved > 0 && text.contains(&format!("{saved} trials are saved")),
        "{saved}: {text}"
    );
}

#[test]
fn refused_namespaces_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), SMALL);
    let script = format!(
        "echo 0 > /proc/sys/user/max_net_namespaces && exec {} run {} --out {}",
        env!("CARGO_BIN_EXE_encapbench"),
        file.display(),
        folder.path().join("run").display()
    );
    let output = finish(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &script])
            .stdin(Stdio::null()),
        LIMIT,
    );
    assert_eq!(code(output.status), 3, "{}", said(&output));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("max_net_namespaces"),
        "{}",
        said(&output)
    );
}

#[test]
fn bad_scenarios_are_told_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    for (wrong, right, clue) in [
        ("colour: blue\nname: small", "name: small", "colour"),
        ("to: nowhere }", "to: b }", "nowhere"),
        ("kind: tcp-xx", "kind: tcp-rr", "tcp-xx"),
    ] {
        let text = SMALL.replacen(right, wrong, 1);
        let output = run_small(folder.path(), &text, &[]);
        assert_eq!(code(output.status), 2, "{}", said(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(clue) && said.contains("scenario.yaml:"), "{said}");
        assert!(!folder.path().join("run").exists());
    }
    let missing = finish(encapbench().args(["run", "no-such.yaml"]), LIMIT);
    assert_eq!(code(missing.status), 2, "{}", said(&missing));
}

#[test]
fn the_same_seed_gives_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |seed: &str| {
        let output = finish(
            encapbench()
                .arg("plan")
                .arg(scenario("calico-vxlan.yaml"))
                .args(["--seed", seed])
                .current_dir(&folder),
            LIMIT,
        );
        assert_eq!(code(output.status), 0, "{}", said(&output));
        output.stdout
    };
    assert_eq!(plan("7"), plan("7"));
    assert_ne!(plan("7"), plan("8"));
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        0,
        "a plan touches nothing"
    );
}

#[test]
fn a_node_reaches_tunnelled_pods_through_the_tunnel_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let text = "
name: asymmetric
fabric:
  lab:
    clusters: [ { name: c, subnets: [ { nodes: [a, b] }, { nodes: [d] } ] } ]
paths:
  - { name: plain, from: a, to: pod@b, vxlan-mode: CrossSubnet }
  - { name: back, from: pod@a, to: b, vxlan-mode: CrossSubnet }
  - { name: always, from: a, to: pod@b, vxlan-mode: Always }
  - { name: across, from: a, to: pod@d, vxlan-mode: CrossSubnet }
workloads:
  - { name: tcp, throughput: { duration: 100ms, omit: 50ms } }
  - { name: reverse, throughput: { duration: 100ms, omit: 50ms, reverse: true } }
  - { name: rr, latency: { kind: tcp-rr, duration: 100ms, omit: 50ms } }
blocks: { at-least: 1 }
";
    let output = run_small(folder.path(), text, &["--quiet"]);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let trials = trials(&folder.path().join("run"));
    assert_eq!(trials.len(), 12);
    for trial in trials {
        assert_eq!(
            trial["verdict"]["state"], "confirmed",
            "{} {}",
            trial["case"], trial["verdict"]
        );
    }
}

#[test]
fn garbage_sent_to_a_listening_worker_harms_no_trial() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), SMALL);
    let child = encapbench()
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run", "--only", "plain", "--duration", "3s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let inside = |place: &str, command: &[&str]| {
        finish(
            encapbench()
                .current_dir(folder.path())
                .args(["lab", "--attach", "run", "--in", place, "--"])
                .args(command),
            LIMIT,
        )
    };
    // Addresses as the kernel writes them: `0201010A:1451`, in state listen (0A).
    let listening = || -> Vec<(String, u16)> {
        let table = inside("b", &["cat", "/proc/thread-self/net/tcp"]);
        String::from_utf8_lossy(&table.stdout)
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let (local, state) = (fields.next()?, fields.nth(1)?);
                let (address, port) = local.split_once(':').filter(|_| state == "0A")?;
                let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
                let address = std::net::Ipv4Addr::from(address).to_string();
                Some((address, u16::from_str_radix(port, 16).ok()?))
            })
            .collect()
    };
    let mut sprayed = std::collections::BTreeSet::new();
    while trials(&folder.path().join("run")).len() < 2 {
        for (address, port) in listening() {
            let script = "for text in GET '{}' \"$(head -c 37 /dev/zero | tr '\\0' x)\" ''; do \
                          (printf %s \"$text\" > /dev/tcp/$0/$1) 2> /dev/null; done; true";
            let sent = inside("a", &["bash", "-c", script, &address, &port.to_string()]);
            // The run may end, and its lab with it, while garbage is on its way.
            if code(sent.status) == 0 {
                sprayed.insert(port);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = wait(child, LIMIT);
    assert!(sprayed.len() >= 2, "each trial's server was found: {sprayed:?}");
    for trial in trials(&folder.path().join("run")) {
        assert_eq!(trial["outcome"]["state"], "measured", "{}", said(&output));
        assert_eq!(trial["verdict"]["state"], "confirmed", "{}", trial["verdict"]);
    }
}

#[test]
fn a_reader_that_goes_away_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = write_scenario(folder.path(), SMALL);
    let mut command = encapbench();
    let mut child = command
        .current_dir(folder.path())
        .arg("run")
        .arg(file)
        .args(["--out", "run", "--only", "plain/tcp"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Both ends of what is read are closed before the first line is written.
    drop((child.stdout.take(), child.stderr.take()));
    let output = wait(child, LIMIT);
    // The gate needs more blocks: that is told, whoever reads.
    assert_eq!(code(output.status), 5, "{}", said(&output));
    assert_eq!(trials(&folder.path().join("run")).len(), 1);
}
