//! `encapbench iperf3` as a whole program: its JSON key by key against a stock iperf3's, its text and exit codes as
//! scripts see them, authentication and limits over the wire, and a parser that people really use.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test: a failure panics, a skip is told"
)]

#[path = "../src/skip.rs"]
mod skip;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

const KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/iperf3-captures/10-auth-testkey"
);

/// Who runs: the program under test or the stock one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Stock,
}

impl Who {
    fn command(self) -> Command {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_encapbench"));
                command.arg("iperf3");
                command
            }
            Self::Stock => Command::new("iperf3"),
        };
        command.stdin(Stdio::null());
        command
    }
}

/// Whether there is a stock iperf3; says so loudly where not.
fn stock() -> bool {
    let there = Command::new("iperf3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        skip::skip("iperf3 is not installed: nothing was compared with a stock peer");
    }
    there
}

/// A port that nobody has: outside the range from which the kernel takes the local ports of connections, and never
/// the same twice in one process.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() * 41 % 20_000) as u16;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server, killed when dropped.
struct Server {
    child: Option<Child>,
    port: u16,
}

impl Server {
    fn start(who: Who, arguments: &[&str]) -> Self {
        let port = free_port();
        let child = who
            .command()
            .args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child: Some(child),
            port,
        }
    }

    /// Waits for its end by itself.
    fn output(mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }

    /// Ends it with SIGTERM.
    fn terminate(self) -> Output {
        let id = self.child.as_ref().unwrap().id().cast_signed();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(id).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        self.output()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a client until its server is up.
fn client(who: Who, port: u16, arguments: &[&str]) -> Output {
    client_with(who, port, arguments, &[])
}

fn client_with(who: Who, port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let output = who
            .command()
            .args(["-c", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        if !said.contains("Connection refused") || Instant::now() > deadline {
            return output;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every path in a document with the kinds of its values. Elements of an array are one path.
fn shape(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, shape: &mut BTreeMap<String, String>) {
        let kind = match value {
            Value::Object(members) => {
                for (key, value) in members {
                    walk(value, &format!("{path}.{key}"), shape);
                }
                "object"
            }
            Value::Array(values) => {
                for value in values {
                    walk(value, &format!("{path}[]"), shape);
                }
                "array"
            }
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) if is_float(path) => "float",
            Value::Number(number) if number.is_f64() => "a float where an integer is due",
            Value::Number(_) => "integer",
            Value::Null => "null",
        };
        shape.insert(path.to_owned(), kind.to_owned());
    }
    let mut found = BTreeMap::new();
    walk(value, "", &mut found);
    found
}

/// Members that are floats; the rest of the numbers are integers, which consumers in typed languages rely on.
fn is_float(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap();
    let known = [
        "start",
        "end",
        "seconds",
        "bits_per_second",
        "jitter_ms",
        "lost_percent",
        "interval",
    ];
    known.contains(&name) || path.contains("cpu_utilization_percent.")
}

/// What 3.21 says and 3.12 doesn't.
const NEWER: [&str; 8] = [
    ".start.timestamp.timemillisecs",
    ".start.fq_rate",
    ".start.test_start.bidir",
    ".start.test_start.fqrate",
    ".start.test_start.interval",
    ".start.test_start.gso",
    ".start.test_start.gro",
    ".reorder",
];

/// Differences between a stock document and ours, beyond what newer versions add.
fn differences(stock: &Value, ours: &Value) -> Vec<String> {
    let (stock, ours) = (shape(stock), shape(ours));
    let newer = |path: &str| NEWER.iter().any(|known| path.ends_with(known));
    let missing = stock.iter().filter_map(|(path, kind)| match ours.get(path) {
        None => Some(format!("{path} is missing")),
        Some(own) if own != kind => Some(format!("{path} is {own}, not {kind}")),
        Some(_) => None,
    });
    let added = ours
        .keys()
        .filter(|path| !stock.contains_key(*path) && !newer(path));
    missing
        .chain(added.map(|path| format!("{path} is new")))
        .collect()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)))
}

const MODES: [&[&str]; 17] = [
    &["-t", "1", "-b", "20M"],
    &["-t", "1", "-b", "20M", "-R"],
    &["-t", "1", "-b", "20M", "--bidir"],
    &["-t", "1", "-b", "20M", "-P", "2"],
    &["-t", "1", "-b", "20M", "--bidir", "-P", "2"],
    // Paced: a megabyte at full speed is over before a server has looked once, and then a stock server's document has
    // an interval in one run and none in the next.
    &["-n", "1M", "-b", "20M"],
    &["-k", "10", "-b", "20M"],
    &["-t", "1", "-O", "1", "-b", "20M"],
    &["-t", "1", "-Z", "-b", "20M"],
    &["-u", "-t", "1"],
    &["-u", "-t", "1", "-b", "20M", "-R"],
    &["-u", "-t", "1", "-b", "20M", "--bidir"],
    &["-u", "-t", "1", "-b", "20M", "-P", "2"],
    &["-u", "-t", "1", "-b", "20M", "-O", "1"],
    &["-u", "-n", "1M", "-b", "20M", "-l", "1200"],
    &[
        "-u",
        "-t",
        "1",
        "-b",
        "20M",
        "--udp-counters-64bit",
        "--get-server-output",
    ],
    &[
        "-t",
        "1",
        "-b",
        "20M",
        "-w",
        "64K",
        "-M",
        "1400",
        "-T",
        "title",
        "--extra-data",
        "x",
        "--get-server-output",
    ],
];

/// For each mode: a stock client's document and ours, both from a stock server; and what a stock server and ours print.
#[test]
fn json_has_the_keys_of_stock_in_every_mode() {
    if !stock() {
        return;
    }
    let compare = |mode: &'static [&'static str]| {
        let run = |who: Who, at: Who| {
            let server = Server::start(at, &["-1", "-J"]);
            let output = client(who, server.port, &[mode, &["-J"]].concat());
            assert!(output.status.success(), "{mode:?}: {}", text(&output.stdout));
            let document = json(&output);
            // A client of 3.12 ends with 0 also where it failed.
            assert!(
                document["error"].is_null(),
                "{mode:?} {who:?} at {at:?}: {}",
                document["error"]
            );
            (document, json(&server.output()))
        };
        let (stock_client, stock_server) = run(Who::Stock, Who::Stock);
        let (our_client, _) = run(Who::Ours, Who::Stock);
        let (_, our_server) = run(Who::Stock, Who::Ours);
        let mut found = differences(&stock_client, &our_client);
        found.extend(
            differences(&stock_server, &our_server)
                .into_iter()
                .map(|line| format!("server: {line}")),
        );
        assert!(found.is_empty(), "{mode:?}:\n{}", found.join("\n"));
    };
    for modes in MODES.chunks(5) {
        thread::scope(|scope| {
            for mode in modes {
                scope.spawn(|| compare(mode));
            }
        });
    }
}

/// Unpaced tests that end by bytes or blocks are over before a receiver has looked once: all of it counts nevertheless.
#[test]
fn what_was_announced_is_received_to_the_last_byte() {
    // Nobody reads what it prints, and a full pipe would stop it.
    let server = Server::start(Who::Ours, &["--logfile", "/dev/null"]);
    let mut clients = vec![Who::Ours];
    if stock() {
        clients.push(Who::Stock);
    }
    for who in clients {
        for mode in [
            &["-n", "1M"][..],
            &["-k", "10"],
            &["-n", "1M", "-P", "3"],
            &["-n", "1M", "-R"],
        ] {
            let turns = if mode == ["-n", "1M"] { 20 } else { 6 };
            for turn in 0..turns {
                let output = client(who, server.port, &[mode, &["-J"]].concat());
                let document = json(&output);
                let bytes = |sum: &str| document["end"][sum]["bytes"].as_u64();
                let sent = bytes("sum_sent");
                // Of what a stock client reads beyond its limit in reverse it counts as much as it happens to see.
                let whole = who == Who::Ours || !mode.contains(&"-R");
                assert!(sent > Some(0), "{who:?} {mode:?} {turn}: {document}");
                assert!(
                    !whole || sent == bytes("sum_received"),
                    "{who:?} {mode:?} {turn}: {sent:?} sent, {:?} received",
                    bytes("sum_received")
                );
            }
        }
    }
    if !stock() {
        return;
    }
    for _ in 0..3 {
        let server = Server::start(Who::Stock, &["-1"]);
        let output = client(Who::Ours, server.port, &["-n", "1M", "-R", "-J"]);
        let document = json(&output);
        assert_eq!(
            document["end"]["sum_sent"]["bytes"], document["end"]["sum_received"]["bytes"],
            "{document}"
        );
    }
}

/// What scripts do with the text: `grep receiver | awk '{print $7}'`.
#[test]
fn text_is_read_by_scripts() {
    let server = Server::start(Who::Ours, &["-1"]);
    let output = client(Who::Ours, server.port, &["-t", "1", "-b", "80M", "-f", "m"]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    let line = said.lines().find(|line| line.contains("receiver")).unwrap();
    let rate: f64 = line.split_whitespace().nth(6).unwrap().parse().unwrap();
    assert!(rate > 10.0 && rate < 200.0, "{line}");
    assert!(said.ends_with("\niperf Done.\n"), "{said}");
    let server = server.output();
    assert!(server.status.success());
    let said = text(&server.stdout);
    for expected in [
        "Server listening on",
        "Accepted connection from 127.0.0.1, port ",
        "receiver",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn json_stream_is_one_object_a_line() {
    let server = Server::start(Who::Ours, &["-1"]);
    let output = client(
        Who::Ours,
        server.port,
        &["-t", "1", "-b", "10M", "-i", "0.5", "--json-stream"],
    );
    let events: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names[0], names[1], *names.last().unwrap()),
        ("start", "interval", "end")
    );
    assert!(events.last().unwrap()["data"]["sum_sent"]["bytes"].is_u64());
    let nobody = client_once(&["-p", &free_port().to_string(), "--json-stream"]);
    let lines: Vec<String> = text(&nobody.stdout).lines().map(str::to_owned).collect();
    assert!(
        lines[0].starts_with(r#"{"event":"error","data":"unable to connect to server"#),
        "{lines:?}"
    );
    assert_eq!(lines[1], r#"{"event":"end","data":{}}"#);
    assert_eq!(nobody.status.code(), Some(1));
}

fn client_once(arguments: &[&str]) -> Output {
    Who::Ours
        .command()
        .args(["-c", "127.0.0.1"])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn mistakes_end_with_one_and_say_so() {
    for (arguments, expected) in [
        (
            &["-c", "x", "-R", "--bidir"][..],
            "iperf3: parameter error - cannot be both reverse and bidirectional\n\nUsage:",
        ),
        (
            &["-s", "-R"],
            "iperf3: parameter error - some option you are trying to set is client only\n\nUsage:",
        ),
        (
            &["-c", "x", "--foo"],
            "iperf3: unrecognized option '--foo'\nUsage:",
        ),
        (&["-s", "-D"], "iperf3: parameter error - -D can't be used: "),
        (
            &["-c", "x", "--sctp"],
            "iperf3: parameter error - --sctp can't be used: ",
        ),
        (
            &[],
            "iperf3: parameter error - must either be a client (-c) or server (-s)\n\nUsage:",
        ),
    ] {
        let output = Who::Ours.command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            text(&output.stderr).starts_with(expected),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
    let output = Who::Ours.command().arg("-v").output().unwrap();
    assert!(output.status.success() && text(&output.stdout).starts_with("iperf 3.21 (encapbench "));
}

#[test]
fn a_symbolic_link_is_iperf3() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("iperf3");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_encapbench"), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    assert!(output.status.success() && text(&output.stdout).starts_with("iperf 3.21 "));
}

/// Every pair of padding and peer that can work does, and none that must not.
#[test]
fn authentication_works_with_stock_and_refuses_alike() {
    let keys = |name: &str| Path::new(KEYS).join(name).to_str().unwrap().to_owned();
    let (private, public, users) = (keys("private.pem"), keys("public.pem"), keys("users.csv"));
    let server_arguments = [
        "--rsa-private-key-path",
        &private,
        "--authorized-users-path",
        &users,
    ];
    let client_arguments = [
        "-n",
        "1M",
        "--username",
        "mario",
        "--rsa-public-key-path",
        &public,
    ];
    let run = |who: Who, port: u16, pkcs1: bool, password: &str| {
        let mut arguments = client_arguments.to_vec();
        if pkcs1 {
            arguments.push("--use-pkcs1-padding");
        }
        client_with(who, port, &arguments, &[("IPERF3_PASSWORD", password)])
    };
    // OAEP alone: PKCS#1 is refused, as are a wrong password and none.
    let server = Server::start(Who::Ours, &server_arguments);
    assert!(run(Who::Ours, server.port, false, "luigi").status.success());
    for (pkcs1, password) in [(true, "luigi"), (false, "wrong")] {
        let refused = run(Who::Ours, server.port, pkcs1, password);
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(
            said.contains("iperf3: error - test authorization failed"),
            "{said}"
        );
    }
    let nobody = client(Who::Ours, server.port, &["-n", "1M"]);
    assert!(text(&nobody.stderr).contains("test authorization failed"));
    // Nor is a password taken from a stdin that is no terminal.
    let silent = client(
        Who::Ours,
        server.port,
        &["--username", "mario", "--rsa-public-key-path", &public],
    );
    assert_eq!(silent.status.code(), Some(1));
    assert!(
        text(&silent.stderr).starts_with("iperf3: parameter error - "),
        "{}",
        text(&silent.stderr)
    );
    let told = text(&server.terminate().stderr);
    assert_eq!(told.matches("test authorization failed").count(), 3, "{told}");
    if !stock() {
        return;
    }
    // 3.12 pads by PKCS#1.
    let server = Server::start(
        Who::Ours,
        &[&server_arguments[..], &["--use-pkcs1-padding"]].concat(),
    );
    let output = run(Who::Stock, server.port, false, "luigi");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!run(Who::Stock, server.port, false, "wrong").status.success());
    let server = Server::start(Who::Stock, &server_arguments);
    let output = run(Who::Ours, server.port, true, "luigi");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!run(Who::Ours, server.port, true, "wrong").status.success());
}

#[test]
fn a_server_keeps_its_limits() {
    let server = Server::start(
        Who::Ours,
        &["--server-bitrate-limit", "10M/1", "--server-max-duration", "5"],
    );
    let refused = |arguments: &[&str], expected: &str| {
        let output = client(Who::Ours, server.port, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.contains(&format!("iperf3: SERVER ERROR - {expected}")),
            "{arguments:?}: {said}"
        );
        assert!(
            said.contains(&format!("iperf3: error - {expected}")),
            "{arguments:?}: {said}"
        );
    };
    refused(
        &["-t", "1", "-b", "50M"],
        "total required bandwidth is larger than server limit",
    );
    refused(
        &["-t", "10"],
        "client's requested duration exceeds the server's maximum permitted limit",
    );
    // Not announced, and found out while it runs.
    refused(
        &["-t", "4"],
        "total required bandwidth is larger than server limit",
    );
    assert!(
        client(Who::Ours, server.port, &["-t", "1", "-b", "5M"])
            .status
            .success()
    );
    let idle = Server::start(Who::Ours, &["-1", "--idle-timeout", "1"]);
    assert!(idle.output().status.success());
}

#[test]
fn files_and_stamps_are_written_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (log, pid) = (path("log"), path("pid"));
    let server = Server::start(Who::Ours, &["--logfile", &log, "--pidfile", &pid]);
    let output = client(
        Who::Ours,
        server.port,
        &["-n", "1M", "--timestamps=STAMP ", "-T", "title"],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.lines().all(|line| line.starts_with("STAMP title:  ")),
        "{said}"
    );
    let id = server.child.as_ref().unwrap().id();
    assert_eq!(std::fs::read_to_string(&pid).unwrap().trim(), id.to_string());
    let printed = server.terminate();
    assert!(printed.stdout.is_empty(), "{}", text(&printed.stdout));
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("Accepted connection from 127.0.0.1"), "{logged}");
    assert!(
        !Path::new(&pid).exists(),
        "the file names a process that is no more"
    );
}

#[test]
fn sockets_are_made_as_asked() {
    let server = Server::start(Who::Ours, &["--logfile", "/dev/null"]);
    let ports = |arguments: &[&str]| {
        let output = client(Who::Ours, server.port, arguments);
        let document = json(&output);
        assert!(output.status.success(), "{arguments:?}: {document}");
        let connected = document["start"]["connected"].as_array().unwrap();
        connected
            .iter()
            .map(|stream| stream["local_port"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    for transport in [&["-n", "1M"][..], &["-u", "-n", "100K", "-b", "20M"]] {
        let port = free_port();
        let cport = port.to_string();
        let found = ports(&[transport, &["-J", "-P", "2", "--cport", &cport]].concat());
        assert_eq!(found, [u64::from(port), u64::from(port) + 1], "{transport:?}");
        // Skip the second port too.
        let _ = free_port();
    }
    ports(&[
        "-J",
        "-n",
        "1M",
        "--bind-dev",
        "lo",
        "--snd-timeout",
        "5000",
        "--cntl-ka=10/2/3",
    ]);
    let wrong = client(
        Who::Ours,
        server.port,
        &["-n", "1M", "--bind-dev", "nosuchdevice"],
    );
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stderr);
    assert!(said.contains("SO_BINDTODEVICE nosuchdevice"), "{said}");
}

/// Transports and labels that only some kernels have: used, or refused in words.
#[test]
fn multipath_and_flow_labels_are_used_where_the_kernel_has_them() {
    let port = free_port();
    let child = Who::Ours
        .command()
        .args(["-s", "-p", &port.to_string(), "--logfile", "/dev/null"])
        .args(["--snd-timeout", "5000", "--cntl-ka=10/2/3", "--bind-dev", "lo"])
        .spawn()
        .unwrap();
    let server = Server {
        child: Some(child),
        port,
    };
    let output = client(Who::Ours, server.port, &["-m", "--bidir", "-n", "1M", "-J"]);
    let document = json(&output);
    if output.status.success() {
        assert!(
            document["end"]["sum_received"]["bytes"].as_u64() > Some(0),
            "{document}"
        );
    } else {
        let error = document["error"].as_str().unwrap();
        assert!(error.contains("this kernel has no multipath TCP"), "{error}");
    }
    let six = |arguments: &[&str]| {
        let port = server.port.to_string();
        let mut command = Who::Ours.command();
        command.args(["-c", "::1", "-p", &port, "-n", "1M", "-J"]);
        command.args(arguments).output().unwrap()
    };
    if TcpListener::bind("[::1]:0").is_ok() {
        for arguments in [&["-L", "0x12345", "-P", "2"][..], &["-L", "7", "-u", "-b", "50M"]] {
            let output = six(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        }
    }
    let four = client(Who::Ours, server.port, &["-n", "1M", "-L", "5"]);
    assert_eq!(four.status.code(), Some(1));
    assert!(text(&four.stderr).contains("unable to set IPv6 flow label"));
}

/// By default tests run side by side; `--one-test-at-a-time` has iperf3's own answer to the second.
#[test]
fn a_server_serves_many_or_one() {
    let background = |port: u16| {
        let mut command = Who::Ours.command();
        command
            .args([
                "-c",
                "127.0.0.1",
                "-t",
                "3",
                "-b",
                "10M",
                "-J",
                "-p",
                &port.to_string(),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let ready = |server: &Server| assert!(client(Who::Ours, server.port, &["-n", "1K"]).status.success());
    let many = Server::start(Who::Ours, &["-i", "0.5"]);
    ready(&many);
    let first = background(many.port);
    thread::sleep(Duration::from_millis(700));
    let output = client(Who::Ours, many.port, &["-t", "1", "-b", "10M"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(first.wait_with_output().unwrap().status.success());
    let said = text(&many.terminate().stdout);
    let of_clients = |line: &&str| line.starts_with("127.0.0.1:") && line.contains("sec");
    assert!(said.lines().filter(of_clients).count() >= 2, "{said}");

    let one = Server::start(Who::Ours, &["--one-test-at-a-time", "--logfile", "/dev/null"]);
    ready(&one);
    let first = background(one.port);
    thread::sleep(Duration::from_millis(1200));
    let output = client(Who::Ours, one.port, &["-t", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("the server is busy running a test. try again later"),
        "{said}"
    );
    assert!(first.wait_with_output().unwrap().status.success());
}

#[test]
fn an_interrupted_client_sums_up_and_ends_well() {
    let server = Server::start(Who::Ours, &["-1"]);
    // The server must be up before, for nothing is tried again here.
    let deadline = Instant::now() + Duration::from_secs(10);
    let output = loop {
        let child = Who::Ours
            .command()
            .args([
                "-c",
                "127.0.0.1",
                "-p",
                &server.port.to_string(),
                "-t",
                "60",
                "-b",
                "10M",
                "-i",
                "0.2",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(700));
        let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
        // It may have ended already, refused.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let output = child.wait_with_output().unwrap();
        if !text(&output.stderr).contains("Connection refused") || Instant::now() > deadline {
            break output;
        }
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stderr),
        "iperf3: interrupt - the client has terminated by signal Interrupt(2)\n"
    );
    assert!(text(&output.stdout).contains("sender"));
    let told = server.output();
    assert_eq!(text(&told.stderr), "iperf3: the client has terminated\n");
}

/// PyPI's `iperf3` (0.1.11): its result parser needs no libiperf.
#[test]
fn a_python_parser_reads_our_documents() {
    let Some(python) = python_with_parser() else {
        return;
    };
    let server = Server::start(Who::Ours, &["--logfile", "/dev/null"]);
    let folder = tempfile::tempdir().unwrap();
    let read = |mode: &[&str], script: &str| {
        let output = client(Who::Ours, server.port, &[mode, &["-J"]].concat());
        let path = folder.path().join(mode.concat());
        std::fs::write(&path, &output.stdout).unwrap();
        let script = format!("import sys, iperf3; r = iperf3.TestResult(open(sys.argv[1]).read()); {script}");
        let read = Command::new(&python)
            .args(["-c", &script])
            .arg(&path)
            .output()
            .unwrap();
        format!("{}{}", text(&read.stdout), text(&read.stderr))
    };
    let read = &read;
    thread::scope(|scope| {
        for mode in [
            &["-t", "1", "-b", "10M"][..],
            &["-t", "1", "-b", "10M", "-R"],
            &["-t", "1", "-b", "10M", "--bidir"],
            &["-t", "1", "-b", "10M", "-P", "2", "-O", "1"],
            &["-n", "1M", "-b", "20M", "--get-server-output"],
        ] {
            scope.spawn(move || {
                let said = read(
                    mode,
                    "print(r.error, r.type, r.protocol, r.reverse, r.version, type(r.retransmits).__name__, \
                     r.sent_bytes == r.json['end']['sum_sent']['bytes'], 1 < r.received_Mbps < 100, r.local_host)",
                );
                let reverse = if mode.contains(&"-R") { "True" } else { "False" };
                let expected = format!("None client TCP {reverse} iperf 3.21 int True True 127.0.0.1\n");
                assert_eq!(said, expected, "{mode:?}");
            });
        }
        for mode in [
            &["-u", "-t", "1", "-b", "10M"][..],
            &["-u", "-t", "1", "-b", "10M", "-R"],
            &["-u", "-t", "1", "-b", "10M", "--bidir", "-l", "1200"],
            &[
                "-u",
                "-t",
                "1",
                "-b",
                "10M",
                "--gsro",
                "-l",
                "1200",
                "--udp-counters-64bit",
            ],
        ] {
            scope.spawn(move || {
                let said = read(
                    mode,
                    "print(r.error, r.protocol, type(r.packets).__name__, type(r.lost_packets).__name__, r.packets > 10, \
                     0 <= r.lost_percent < 50, r.jitter_ms >= 0, 1 < r.Mbps < 100, r.bytes > 100000, 0.5 < r.seconds < 3)",
                );
                assert_eq!(said, "None UDP int int True True True True True True\n", "{mode:?}");
            });
        }
    });
}

/// A Python with the parser, in an environment of its own under the build folder.
fn python_with_parser() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-iperf3");
    let python = folder.join("bin/python");
    let has = |python: &Path| {
        Command::new(python)
            .args(["-c", "import iperf3"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if has(&python) {
        return Some(python);
    }
    let made = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&folder)
        .output()
        .is_ok_and(|o| o.status.success())
        && Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--timeout",
                "10",
                "--retries",
                "0",
                "iperf3==0.1.11",
            ])
            .output()
            .is_ok_and(|output| output.status.success());
    if made && has(&python) {
        return Some(python);
    }
    skip::skip("no python3 with venv, or no Python registry: no real parser read our JSON");
    None
}
