//! The lab with real namespaces: what it carries, what carries it, and that nothing of it stays behind.
//!
//! Run as root these tests see both kinds of lab, the rootless one by becoming an ordinary user; run as an ordinary
//! user, only the latter.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "../src/skip.rs"]
mod skip;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Two subnets, the second with a node of its own; CrossSubnet and Always pods on each.
const SCENARIO: &str = "
name: lab-test
fabric:
  lab:
    clusters:
      - name: east
        subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-3] } ]
paths: [ { name: nodes, from: east-1, to: east-2 } ]
workloads: [ { name: rr, latency: { kind: tcp-rr, duration: 1s } } ]
";

/// Another cluster beside it, loaded with packet filter rules.
const TWO_CLUSTERS: &str = "
name: two-clusters
fabric:
  lab:
    nic: { rate: null, mtu: 9000, tunnel-offload: true }
    clusters:
      - name: east
        subnets: [ { nodes: [east-1, east-2] } ]
        calico: { vxlan-checksum-offload: true }
      - name: west
        subnets: [ { nodes: [west-1] }, { nodes: [west-2], cidr: 192.168.7.0/28 } ]
        firewall: { conntrack: true, rules: 7 }
paths: [ { name: nodes, from: west-1, to: west-2 } ]
workloads: [ { name: rr, latency: { kind: tcp-rr, duration: 1s } } ]
";

/// As whom a test runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// Whoever runs the test.
    Self_,
    /// An ordinary one, without groups.
    Nobody,
}

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A folder that every user can read, with the program and the scenarios.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("encapbench");
        // By another process: a fork of this one that has the copy open for writing would make it unusable (ETXTBSY).
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_encapbench"))
            .arg(&program)
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("lab.yaml"), SCENARIO).unwrap();
        fs::write(folder.path().join("two.yaml"), TWO_CLUSTERS).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, user: User) -> Command {
        let mut command = Command::new(self.path("encapbench"));
        command.arg("lab").current_dir("/").stdin(Stdio::null());
        // As a login shell of any user has it.
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        if user == User::Nobody && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs a shell script in a place of a lab of its own.
    fn run_in(&self, user: User, scenario: &str, place: &str, script: &str) -> Output {
        let mut command = self.command(user);
        command
            .arg(self.path(scenario))
            .args(["--in", place, "--", "sh", "-c", script]);
        command.output().unwrap()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The users with which this machine lets a lab be built.
fn users(stage: &Stage) -> Vec<User> {
    let candidates: &[User] = if is_root() {
        &[User::Self_, User::Nobody]
    } else {
        &[User::Self_]
    };
    let mut able = Vec::new();
    for user in candidates {
        let output = stage.run_in(*user, "lab.yaml", "east-1", "true");
        if output.status.success() {
            able.push(*user);
        } else {
            skip::skip(format_args!("no lab as {user:?} here: {}", text(&output)));
        }
    }
    able
}

/// A process that is killed when a test ends, however that ends.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A lab that is up until this is dropped, its first node running a script that says when it is ready.
struct Up {
    child: Guarded,
    user: User,
}

impl Up {
    fn start(stage: &Stage, user: User, scenario: &str, script: &str) -> Self {
        let mut child = stage
            .command(user)
            .arg(stage.path(scenario))
            .args(["--", "sh", "-c", &format!("{script} echo ready; exec sleep 1000")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self {
            child: Guarded(child),
            user,
        }
    }

    fn attach(&self, stage: &Stage, args: &[&str]) -> Command {
        let mut command = stage.command(self.user);
        command
            .args(["--attach", &self.child.0.id().to_string()])
            .args(args);
        command
    }

    fn output(&self, stage: &Stage, place: &str, script: &str) -> String {
        let output = self
            .attach(stage, &["--in", place, "--", "sh", "-c", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{place}: {script}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn addresses(&self, stage: &Stage) -> Vec<(String, String)> {
        let output = self.attach(stage, &["--list"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| {
                let (place, address) = line.split_once(' ').unwrap();
                (place.to_owned(), address.trim().to_owned())
            })
            .collect()
    }
}

/// All network namespaces that some process is in or holds, by inode.
fn network_namespaces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let mut links = vec![process.path().join("ns/net")];
        if let Ok(fds) = fs::read_dir(process.path().join("fd")) {
            links.extend(fds.flatten().map(|fd| fd.path()));
        }
        for link in links.iter().filter_map(|link| fs::read_link(link).ok()) {
            let link = link.to_string_lossy().into_owned();
            if link.starts_with("net:[") {
                found.insert(link);
            }
        }
    }
    found
}

/// The processes whose environment has this marker, zombies left out.
fn marked(marker: &str) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|process| {
            fs::read(process.path().join("environ"))
                .is_ok_and(|env| String::from_utf8_lossy(&env).contains(marker))
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// Waits until `holds`, for 5 s at most: the kernel needs a moment to take a lab back.
fn within_5_seconds(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_place_runs_a_command_and_its_code_is_returned() {
    let stage = Stage::new();
    for user in users(&stage) {
        let output = stage.run_in(
            user,
            "lab.yaml",
            "pod@east-3/Always",
            "echo $ENCAPBENCH_PLACE; exit 42",
        );
        assert_eq!(output.status.code(), Some(42), "{}", text(&output));
        assert_eq!(text(&output), "pod@east-3/Always\n");
        let killed = stage.run_in(user, "lab.yaml", "east-1", "kill -TERM $$");
        assert_eq!(killed.status.code(), Some(128 + 15));
        let missing = stage.run_in(user, "lab.yaml", "pod@nowhere/Always", "true");
        assert_eq!(missing.status.code(), Some(2));
        assert!(
            text(&missing).contains("no cluster of the lab has"),
            "{}",
            text(&missing)
        );
    }
}

/// Whether the programs are there that a test runs in places.
fn has(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let there = Command::new(program).arg("--version").output().is_ok();
        if !there {
            skip::skip(format_args!("this test needs {program}"));
        }
        there
    })
}

/// Every pair of places reaches each other, and by the device that the mode says.
#[test]
fn all_pairs_reach_each_other_by_the_right_device() {
    if !has(&["python3", "bash", "ip"]) {
        return;
    }
    let stage = Stage::new();
    for user in users(&stage) {
        let lab = Up::start(&stage, user, "lab.yaml", "");
        let addresses = lab.addresses(&stage);
        assert_eq!(addresses.len(), 3 + 6);
        let servers: Vec<Guarded> = addresses
            .iter()
            .map(|(place, address)| serve(&lab, &stage, place, address))
            .collect();
        for (from, own) in &addresses {
            let targets: Vec<&str> = addresses.iter().map(|(_, address)| address.as_str()).collect();
            // Each server answers with the source address that it saw.
            let script = format!(
                "for to in {}; do exec 3<>/dev/tcp/$to/5000; read -r seen <&3; echo $to $seen; done",
                targets.join(" ")
            );
            let answer = lab
                .attach(&stage, &["--in", from, "--", "bash", "-c", &script])
                .output()
                .unwrap();
            assert!(answer.status.success(), "{from}: {}", text(&answer));
            let answer = String::from_utf8(answer.stdout).unwrap();
            for ((to, address), line) in addresses.iter().zip(answer.lines()) {
                let source = line.strip_prefix(&format!("{address} ")).unwrap();
                if from.contains('@') && to != from {
                    assert_eq!(source, own, "{to} saw {from} under another address");
                }
            }
            assert_eq!(answer.lines().count(), addresses.len());
        }
        for (mut server, (place, _)) in servers.into_iter().zip(&addresses) {
            assert!(
                server.0.try_wait().unwrap().is_none(),
                "the server of {place} ended"
            );
        }
        let device = |node: &str, to: &str| {
            let address = &addresses.iter().find(|(place, _)| place == to).unwrap().1;
            let route = lab.output(&stage, node, &format!("ip route get {address}"));
            let mut words = route.split_whitespace();
            words.find(|word| *word == "dev").unwrap();
            words.next().unwrap().to_owned()
        };
        for (to, expected) in [
            ("east-2", "eth0"),
            ("east-3", "eth0"),
            ("pod@east-2/CrossSubnet", "eth0"),
            ("pod@east-2/Always", "vxlan.calico"),
            ("pod@east-3/CrossSubnet", "vxlan.calico"),
            ("pod@east-3/Always", "vxlan.calico"),
        ] {
            assert_eq!(device("east-1", to), expected, "from east-1 to {to}");
        }
        assert!(device("east-1", "pod@east-1/Always").starts_with("cali"));
        assert!(device("east-3", "pod@east-1/CrossSubnet").starts_with("vxlan.calico"));
    }
}

/// A server in a place, that tells each client its address.
fn serve(lab: &Up, stage: &Stage, place: &str, address: &str) -> Guarded {
    const SERVER: &str = "
import socket, sys
server = socket.create_server((sys.argv[1], 5000), backlog=64)
print('ready', flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall((peer[0] + '\\n').encode())
    connection.close()
";
    let mut child = lab
        .attach(stage, &["--in", place, "--", "python3", "-c", SERVER, address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n", "the server of {place} does not start");
    Guarded(child)
}

/// Two clusters side by side in one lab, and the profile and firewall as the scenario says.
#[test]
fn two_clusters_stand_side_by_side() {
    if !has(&["python3", "bash", "ip"]) {
        return;
    }
    let stage = Stage::new();
    for user in users(&stage) {
        let lab = Up::start(&stage, user, "two.yaml", "");
        let addresses = lab.addresses(&stage);
        let of = |place: &str| addresses.iter().find(|(p, _)| p == place).unwrap().1.clone();
        assert_eq!(of("west-2"), "192.168.7.2");
        assert_eq!(of("pod@west-1/Always"), "10.247.0.1");
        let server = serve(&lab, &stage, "pod@west-2/Always", &of("pod@west-2/Always"));
        let ask = |from: &str| {
            let script = format!(
                "exec 3<>/dev/tcp/{}/5000; read -r seen <&3; echo $seen",
                of("pod@west-2/Always")
            );
            let output = lab
                .attach(
                    &stage,
                    &["--in", from, "--", "timeout", "2", "bash", "-c", &script],
                )
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        // Through the rules, which match nothing.
        assert_eq!(ask("pod@west-1/Always").trim(), of("pod@west-1/Always"));
        // Pods of different clusters know no way to each other; the router has no routes for pods.
        assert_eq!(ask("pod@east-1/Always"), "");
        drop(server);
        let mtu = lab.output(
            &stage,
            "pod@east-1/CrossSubnet",
            "cat /proc/net/dev; ip link show eth0",
        );
        assert!(mtu.contains("mtu 8950"), "{mtu}");
    }
}

#[test]
fn two_labs_run_side_by_side() {
    let stage = Stage::new();
    for user in users(&stage) {
        let one = Up::start(&stage, user, "lab.yaml", "");
        let other = Up::start(&stage, user, "lab.yaml", "");
        assert_eq!(one.addresses(&stage), other.addresses(&stage));
        let namespace = |lab: &Up| lab.output(&stage, "east-2", "readlink /proc/self/ns/net");
        assert_eq!(namespace(&one), namespace(&one));
        assert_ne!(namespace(&one), namespace(&other));
        drop(one);
        assert!(!namespace(&other).is_empty());
    }
}

/// Network namespaces that have a name, as `ip netns` gives them one.
fn named_namespaces() -> BTreeSet<PathBuf> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names.map(|name| name.path()).collect()
}

/// `kill -9` of the coordinator leaves no process, grandchildren included, no namespace and no link.
#[test]
fn a_killed_coordinator_leaves_nothing() {
    let stage = Stage::new();
    let named = named_namespaces();
    for user in users(&stage) {
        let marker = format!("ENCAPBENCH_TEST_MARKER={}-{user:?}", std::process::id());
        let (name, value) = marker.split_once('=').unwrap();
        // A daemon that has left its session and its parent, as a shell's user may start one.
        let script = "(setsid sleep 1000 >/dev/null 2>&1 &) ; sleep 1000 & readlink /proc/self/ns/net >&2;";
        let child = stage
            .command(user)
            .arg(stage.path("lab.yaml"))
            .args([
                "--in",
                "pod@east-1/Always",
                "--",
                "sh",
                "-c",
                &format!("{script} echo ready; exec sleep 1000"),
            ])
            .env(name, value)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Guarded(child);
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let mut namespace = String::new();
        BufReader::new(child.0.stderr.take().unwrap())
            .read_line(&mut namespace)
            .unwrap();
        let held: BTreeSet<String> = fs::read_dir(format!("/proc/{}/fd", child.0.id()))
            .unwrap()
            .flatten()
            .filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned()))
            .filter(|link| link.starts_with("net:["))
            .collect();
        assert_eq!(held.len(), 3 + 6 + 2, "nodes, pods, router and switch");
        assert!(held.contains(namespace.trim()));
        // The coordinator, the namespace's first process, the shell become sleep, and two more sleeps.
        within_5_seconds("five processes", || marked(&marker).len() == 5);
        assert!(held.is_subset(&network_namespaces()));

        child.0.kill().unwrap();
        child.0.wait().unwrap();
        within_5_seconds("no process is left", || marked(&marker).is_empty());
        within_5_seconds("no namespace is left", || held.is_disjoint(&network_namespaces()));
        // Others may have some, and may take them away meanwhile.
        let new: Vec<_> = named_namespaces().difference(&named).cloned().collect();
        assert!(new.is_empty(), "{new:?} under /run/netns");
    }
}

/// The same when the shell simply ends: what it left in the background goes too.
#[test]
fn an_ended_lab_leaves_nothing() {
    let stage = Stage::new();
    for user in users(&stage) {
        let marker = format!("ENCAPBENCH_TEST_MARKER=end-{}-{user:?}", std::process::id());
        let (name, value) = marker.split_once('=').unwrap();
        let output = stage
            .command(user)
            .arg(stage.path("lab.yaml"))
            .args(["--", "sh", "-c", "(setsid sleep 1000 >/dev/null 2>&1 &); exit 3"])
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert_eq!(marked(&marker), [], "the lab waits for the end of its processes");
    }
}

#[test]
fn an_attached_process_dies_with_the_lab() {
    let stage = Stage::new();
    for user in users(&stage) {
        let lab = Up::start(&stage, user, "lab.yaml", "");
        let joined = lab
            .attach(
                &stage,
                &["--in", "east-3", "--", "sh", "-c", "echo ready; exec sleep 1000"],
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut joined = Guarded(joined);
        let mut line = String::new();
        BufReader::new(joined.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        drop(lab);
        let begun = Instant::now();
        while joined.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(5), "it outlives the lab");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(joined.0.wait().unwrap().code(), Some(128 + 9));
    }
}

#[test]
fn a_run_folder_names_the_process_to_attach_to() {
    let stage = Stage::new();
    for user in users(&stage) {
        let lab = Up::start(&stage, user, "lab.yaml", "");
        let folder = stage.path("run");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("run.lock"), format!("{}\n", lab.child.0.id())).unwrap();
        let list = |run: &Path| {
            stage
                .command(user)
                .arg("--attach")
                .arg(run)
                .arg("--list")
                .output()
                .unwrap()
        };
        let found = list(&folder);
        assert!(text(&found).contains("pod@east-2/Always"), "{}", text(&found));
        let nothing = list(stage.folder.path());
        assert_eq!(nothing.status.code(), Some(3));
        assert!(text(&nothing).contains("no "), "{}", text(&nothing));
        let not_a_lab = list(Path::new(&std::process::id().to_string()));
        assert_eq!(not_a_lab.status.code(), Some(3), "{}", text(&not_a_lab));
    }
}

/// A machine that gives no network namespaces: told so, with what to do, and code 3. The limit is set in a user
/// namespace made for this, so that the host's stays.
#[test]
fn refused_namespaces_are_explained() {
    let stage = Stage::new();
    let refused = |user: User, limit: &str| {
        let mut command = Command::new("unshare");
        let script = format!(
            "echo 0 > /proc/sys/user/{limit} && exec {} lab {} --list",
            stage.path("encapbench").display(),
            stage.path("lab.yaml").display()
        );
        command.args(["--user", "--map-root-user", "sh", "-c", &script]);
        if user == User::Nobody && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir("/").output()
    };
    for user in users(&stage) {
        let output = match refused(user, "max_net_namespaces") {
            Ok(output) => output,
            Err(error) => {
                skip::skip(format_args!(
                    "unshare (util-linux) is needed to refuse namespaces: {error}"
                ));
                return;
            }
        };
        let told = text(&output);
        if told.contains("unshare:") {
            skip::skip(format_args!(
                "no user namespace to set a limit in, as {user:?}: {told}"
            ));
            continue;
        }
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains("user.max_net_namespaces"), "{told}");
        assert!(
            told.contains("raise it") && !told.contains("No space left"),
            "{told}"
        );
        assert!(
            !told.contains("disk") && !told.contains("os error 28)): No space"),
            "{told}"
        );
        let pid = refused(user, "max_pid_namespaces").unwrap();
        assert_eq!(pid.status.code(), Some(3), "{}", text(&pid));
        assert!(text(&pid).contains("user.max_pid_namespaces"), "{}", text(&pid));
    }
}

/// A shell's standard input, output and terminal signals pass through.
#[test]
fn a_shell_reads_what_it_is_given() {
    let stage = Stage::new();
    for user in users(&stage) {
        let mut child = stage
            .command(user)
            .arg(stage.path("lab.yaml"))
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"echo in $ENCAPBENCH_PLACE\nexit 5\n")
            .unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(said, "in east-1\n");
        assert!(told.contains("encapbench lab --attach"), "{told}");
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
}
