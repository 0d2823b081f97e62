//! `encapbench iperf3` as a whole program: its text and exit codes as scripts see them, authentication and limits over the
//! wire, and its options.

#[path = "support/iperf3_program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use program::{Server, Who, client, client_with, free_port, json, stock, stock_minor, text};
use std::{
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/iperf3-captures/10-auth-testkey"
);

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
            &["-c", "x", "--sctp", "--nstreams", "0"],
            "iperf3: parameter error - unable to set SCTP_INIT num of SCTP streams",
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
    // Releases before 3.17 know PKCS#1 alone, later ones use OAEP.
    let pkcs1 = stock_minor() < 17;
    let server = Server::start(
        Who::Ours,
        &[&server_arguments[..], &["--use-pkcs1-padding"]].concat(),
    );
    let output = run(Who::Stock, server.port, false, "luigi");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!run(Who::Stock, server.port, false, "wrong").status.success());
    let server = Server::start(Who::Stock, &server_arguments);
    let output = run(Who::Ours, server.port, pkcs1, "luigi");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!run(Who::Ours, server.port, pkcs1, "wrong").status.success());
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
    assert!(
        said.contains("unable to bind to the device: No such device"),
        "{said}"
    );
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
    // By time: a test by bytes ends with the direction that is done first, and the other may not have begun.
    let output = client(Who::Ours, server.port, &["-m", "--bidir", "-t", "1", "-J"]);
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

/// riperf3, another implementation in Rust, where it is installed: no package of Debian's has it, so that its absence is
/// told and is no failure.
#[test]
fn riperf3_is_a_peer_where_it_is_installed() {
    let there = Command::new("riperf3").arg("--version").output();
    if there.is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: riperf3 is not installed (cargo install riperf3): it was not tried as a peer"
        );
        return;
    }
    let modes: [&[&str]; 6] = [
        &["-t", "1", "-b", "20M"],
        &["-t", "1", "-b", "20M", "-R"],
        &["-t", "1", "-b", "20M", "--bidir", "-P", "2"],
        &["-n", "2M"],
        &["-u", "-t", "1", "-b", "10M", "-P", "2"],
        &["-u", "-t", "1", "-b", "10M", "-R", "--udp-counters-64bit"],
    ];
    for mode in modes {
        let server = Server::start(Who::Ours, &["-1", "--logfile", "/dev/null"]);
        let output = client(Who::Riperf3, server.port, mode);
        assert!(output.status.success(), "{mode:?}: {}", text(&output.stderr));
        assert!(server.output().status.success(), "{mode:?}");
        let server = Server::start(Who::Riperf3, &["-1"]);
        let output = client(Who::Ours, server.port, mode);
        assert!(output.status.success(), "{mode:?}: {}", text(&output.stderr));
    }
}
