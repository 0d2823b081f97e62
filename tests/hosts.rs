//! Hosts over ssh, end to end: a real sshd, started by the test with its own configuration, keys and port.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use program::{code, encapbench, finish, is_root, poll, processes, said, trials, wait};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// As long as a step may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Keys and configurations of an sshd and its client, in a folder of their own.
struct Keys {
    folder: tempfile::TempDir,
    port: u16,
}

impl Keys {
    /// `None`, said loudly, where there is no sshd.
    fn new() -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() {
            skip::skip("this test needs sshd: install openssh-server");
            return None;
        }
        // Nobody else asks for a port of this range in between, mostly; sshd says so if one does.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let keys = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
        };
        for name in ["host", "user", "stranger"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(keys.path(name))
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", said(&made));
        }
        fs::create_dir(keys.path("work")).unwrap();
        fs::create_dir(keys.path("noexec")).unwrap();
        fs::create_dir(keys.path("full")).unwrap();
        keys.know("host");
        Some(keys)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The client takes any host for genuine that has the key named `key`.
    fn know(&self, key: &str) {
        fs::write(
            self.path("known"),
            format!("* {}", self.read(&format!("{key}.pub"))),
        )
        .unwrap();
    }

    /// The shell command that runs sshd in the foreground. As root in a mount namespace of its own, where the folder
    /// that it insists on can be made, and folders without rights or room.
    fn sshd(&self, address: &str, more: &str) -> String {
        let folder = self.folder.path().display();
        let conf = format!(
            "Port {}\nListenAddress {address}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n{more}\n",
            self.port
        );
        let file = self.path(&format!("conf-{address}"));
        fs::write(&file, conf).unwrap();
        let sshd = format!("exec /usr/sbin/sshd -D -e -f {}", file.display());
        if is_root() {
            format!(
                "mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount -t tmpfs -o noexec tmpfs {folder}/noexec && \
                 mount -t tmpfs -o size=64k tmpfs {folder}/full && {sshd}"
            )
        } else {
            sshd
        }
    }

    /// A scenario of two hosts. `hosts` are further keys of the fabric, `ssh` those of its ssh.
    fn scenario(&self, addresses: [&str; 2], node: &str, hosts: &str, ssh: &str) -> PathBuf {
        let folder = self.folder.path().display();
        let [one, two] = addresses;
        let text = format!(
            "name: hosts\nfabric:\n  hosts:\n    folder: {folder}/work\n{hosts}    ssh:\n      port: {}\n      \
             identity: {folder}/user\n      options: {{ UserKnownHostsFile: {folder}/known, GlobalKnownHostsFile: \
             /dev/null, IdentitiesOnly: \"yes\", IdentityAgent: none }}\n{ssh}    nodes:\n      - {{ name: one, address: {one}, \
             ssh: {{ host: {one} }}{node} }}\n      - {{ name: two, address: {two}, ssh: {{ host: {two} }}{node} }}\n\
             paths:\n  - {{ name: one to two, from: one, to: two }}\nworkloads:\n  - {{ name: tcp, throughput: {{ \
             protocol: tcp, duration: 500ms, omit: 100ms }} }}\n  - {{ name: rr, latency: {{ kind: tcp-rr, duration: \
             200ms }} }}\nblocks: {{ at-least: 2 }}\n",
            self.port
        );
        let file = self.path("scenario.yaml");
        fs::write(&file, text).unwrap();
        file
    }

    /// What is left of encapbench in the hosts' folder, and processes that run from there.
    fn left(&self) -> Vec<String> {
        let work = self.path("work");
        let files = fs::read_dir(&work)
            .unwrap()
            .map(|entry| entry.unwrap().path().display().to_string());
        let text = format!("{}/encapbench", work.display());
        let running = processes(&text).into_iter().map(|pid| format!("process {pid}"));
        files.chain(running).collect()
    }

    fn run(&self, scenario: &Path) -> Command {
        let mut command = encapbench();
        command
            .args(["run", "--quiet", "--out"])
            .arg(self.path("run"))
            .arg(scenario)
            .env("TMPDIR", self.folder.path());
        command
    }

    /// Control sockets' folders on this side.
    fn sockets(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("encapbench-")
            })
            .collect()
    }
}

/// An sshd on loopback, ended with the test.
struct Sshd(Child);

impl Sshd {
    fn start(keys: &Keys, more: &str) -> Self {
        let shell = keys.sshd("127.0.0.1", more);
        let mut command = if is_root() {
            Command::new("unshare")
        } else {
            Command::new("sh")
        };
        if is_root() {
            command.args(["-m", "sh"]);
        }
        let log = fs::File::create(keys.path("log")).unwrap();
        let sshd = Self(
            command
                .args(["-c", &shell])
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        poll("sshd", LIMIT, || {
            keys.read("log").contains("Server listening").then_some(())
        });
        sshd
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn states(run: &Path) -> Vec<String> {
    trials(run)
        .iter()
        .map(|trial| trial["verdict"]["state"].as_str().unwrap().to_owned())
        .collect()
}

fn nothing_left(keys: &Keys) {
    poll("end of all that ran on the hosts", LIMIT, || {
        keys.left().is_empty().then_some(())
    });
    poll("end of ssh's own folders", LIMIT, || {
        keys.sockets().is_empty().then_some(())
    });
}

#[test]
fn a_run_over_loopback_records_and_leaves_nothing() {
    let Some(keys) = Keys::new() else { return };
    let _sshd = Sshd::start(&keys, "");
    let scenario = keys.scenario(["127.0.0.1", "127.0.0.1"], ", device: lo", "", "");
    let output = finish(&mut keys.run(&scenario), LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    assert_eq!(states(&keys.path("run")), ["confirmed"; 4]);
    let manifest: serde_json::Value = serde_json::from_str(&keys.read("run/manifest.json")).unwrap();
    assert_eq!(manifest["fabric"]["kind"], "hosts");
    assert_eq!(manifest["fabric"]["encapbench one"], "copied for the run");
    nothing_left(&keys);
}

/// Two hosts that are one machine are no path over a network, and that is said.
#[test]
fn one_machine_under_two_names_is_contradicted() {
    let Some(keys) = Keys::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_encapbench");
    std::os::unix::fs::symlink(program, folder.path().join("encapbench")).unwrap();
    // And the binary that is on the host's PATH already isn't copied.
    let path = format!("SetEnv PATH={}:/usr/bin:/bin", folder.path().display());
    let _sshd = Sshd::start(&keys, &path);
    let scenario = keys.scenario(["127.0.0.1", "127.0.0.1"], "", "", "");
    let output = finish(keys.run(&scenario).args(["--only", "rr", "--blocks", "1"]), LIMIT);
    assert_eq!(code(output.status), 4, "{}", said(&output));
    let all = trials(&keys.path("run"));
    assert_eq!(all[0]["verdict"]["state"], "contradicted");
    let reasons = all[0]["verdict"]["reasons"].to_string();
    assert!(reasons.contains("leaves by lo"), "{reasons}");
    let manifest: serde_json::Value = serde_json::from_str(&keys.read("run/manifest.json")).unwrap();
    let origin = manifest["fabric"]["encapbench two"].as_str().unwrap();
    assert!(origin.starts_with("found as "), "{origin}");
    nothing_left(&keys);
}

#[test]
fn a_coordinator_that_is_killed_leaves_nothing_on_the_hosts() {
    let Some(keys) = Keys::new() else { return };
    let _sshd = Sshd::start(&keys, "");
    let scenario = keys.scenario(["127.0.0.1", "127.0.0.1"], ", device: lo", "", "");
    let mut run = keys.run(&scenario);
    run.args(["--duration", "60s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let worker = format!("{}/encapbench", keys.path("work").display());
    poll("two workers", LIMIT, || {
        let running = processes(&worker).into_iter().filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"encapbench\0worker\0"))
        });
        (running.count() >= 2).then_some(())
    });
    assert!(!keys.left().is_empty());
    run.kill().unwrap();
    wait(run, LIMIT);
    nothing_left(&keys);
}

/// What ssh and the host refuse, each with what to do about it, and exit code 3.
#[test]
fn refusals_say_what_to_do() {
    let Some(keys) = Keys::new() else { return };
    let _sshd = Sshd::start(&keys, "");
    let folder = keys.folder.path().display().to_string();
    let refused = |hosts: &str, ssh: &str, expected: &str| {
        let mut scenario =
            fs::read_to_string(keys.scenario(["127.0.0.1", "127.0.0.1"], ", device: lo", "", "")).unwrap();
        if !hosts.is_empty() {
            scenario = scenario.replace(&format!("folder: {folder}/work"), hosts);
        }
        if !ssh.is_empty() {
            scenario = scenario.replace(&format!("identity: {folder}/user"), ssh);
        }
        let file = keys.path("scenario.yaml");
        fs::write(&file, scenario).unwrap();
        let output: Output = finish(&mut keys.run(&file), LIMIT);
        assert_eq!(code(output.status), 3, "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("one: ") && text.contains("two: "), "{text}");
        assert!(text.contains(expected), "{expected} is missing:\n{text}");
        let _ = fs::remove_dir_all(keys.path("run"));
    };
    refused(
        "",
        &format!("identity: {folder}/stranger"),
        "the login is refused",
    );
    refused(&format!("folder: {folder}/nowhere"), "", "is not there");
    if is_root() {
        refused(&format!("folder: {folder}/noexec"), "", "noexec");
        refused(&format!("folder: {folder}/full"), "", "is full");
    }
    keys.know("stranger");
    refused("", "", "ssh-keygen -R 127.0.0.1");
    fs::write(keys.path("known"), "").unwrap();
    refused("", "", "StrictHostKeyChecking: accept-new");
    nothing_left(&keys);
}

/// Two hosts with a wire between them: namespaces of a lab, each with its own sshd, the coordinator on a third.
#[cfg(feature = "lab")]
#[test]
fn hosts_with_a_wire_between_them_are_confirmed_plain() {
    use encapbench::fabric::lab::{Command, RunningLab, Stdio, lab_of};
    use encapbench::scenario::{Place, parse};
    use std::collections::BTreeSet;

    let Some(keys) = Keys::new() else { return };
    let text = "name: hosts\nfabric: { lab: { clusters: [ { name: east, subnets: [ { nodes: [one, two, three] } ] } ] } }\n\
                paths: [ { name: p, from: one, to: two } ]\nworkloads: [ { name: w, latency: { kind: tcp-rr } } ]\n";
    let scenario = parse(text, "test").unwrap();
    let lab = match RunningLab::build("hosts", lab_of(&scenario).unwrap(), &BTreeSet::new()) {
        Ok(lab) => lab,
        Err(error) => {
            skip::skip(format_args!(
                "a lab in the test's own process needs root: {error}"
            ));
            return;
        }
    };
    let place = |name: &str| Place::Node(name.to_owned());
    let addresses = ["one", "two"].map(|name| lab.address(&place(name)).unwrap().to_string());
    let quiet = |command: Command| command.stdio(Stdio::Null, Stdio::Null, Stdio::Null);
    let _sshds: Vec<_> = ["one", "two"]
        .iter()
        .zip(&addresses)
        .map(|(name, address)| {
            let log = keys.path(&format!("log-{name}"));
            let shell = format!("exec 2>{}; {}", log.display(), keys.sshd(address, ""));
            let sshd = lab
                .spawn(
                    &place(name),
                    &quiet(Command::new("unshare").args(["-m", "sh", "-c", &shell])),
                )
                .unwrap();
            poll("sshd", LIMIT, || {
                fs::read_to_string(&log)
                    .ok()?
                    .contains("Server listening")
                    .then_some(())
            });
            sshd
        })
        .collect();
    let scenario = keys.scenario([&addresses[0], &addresses[1]], "", "", "");
    let shell = format!(
        "TMPDIR={} exec {} run --quiet --out {} {} >{} 2>&1",
        keys.folder.path().display(),
        env!("CARGO_BIN_EXE_encapbench"),
        keys.path("run").display(),
        scenario.display(),
        keys.path("said").display(),
    );
    let run = lab
        .spawn(&place("three"), &quiet(Command::new("sh").args(["-c", &shell])))
        .unwrap();
    let status = poll("run", LIMIT, || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{}", keys.read("said"));
    assert_eq!(
        states(&keys.path("run")),
        ["confirmed"; 4],
        "{}",
        keys.read("said")
    );
    let first = &trials(&keys.path("run"))[0];
    let devices = &first["evidence"]["after"][0]["devices"];
    assert_eq!(devices[0]["device"], "eth0", "found by the route: {devices}");
    nothing_left(&keys);
}
