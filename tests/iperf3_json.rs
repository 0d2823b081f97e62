//! The JSON of `encapbench iperf3`: key by key against a stock iperf3's, line by line, and through a parser that people
//! really use.

#[path = "support/iperf3_program.rs"]
mod program;
#[path = "support/python.rs"]
mod python;
#[path = "support/json_shape.rs"]
mod shape;
#[path = "../src/skip.rs"]
mod skip;

use program::{Server, Who, client, client_once, free_port, json, stock, text};
use serde_json::Value;
use shape::differences;
use std::{path::PathBuf, process::Command, thread};

const MODES: [&[&str]; 18] = [
    &["-t", "1", "-b", "20M"],
    &["-t", "1", "-b", "20M", "-R"],
    &["-t", "1", "-b", "20M", "--bidir"],
    &["-t", "1", "-b", "20M", "-P", "2"],
    &["-t", "1", "-b", "20M", "--bidir", "-P", "2"],
    &[
        "-t",
        "1",
        "-b",
        "20M/5",
        "-N",
        "-S",
        "0x20",
        "--repeating-payload",
    ],
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
            let tried = || {
                let server = Server::start(at, &["-1", "-J"]);
                let output = client(who, server.port, &[mode, &["-J"]].concat());
                (server, output)
            };
            let (mut server, mut output) = tried();
            // On a busy machine stock now and then refuses itself a stream of UDP, and its server of one test is gone.
            for _ in 0..3 {
                if who == Who::Ours || at == Who::Ours || !text(&output.stdout).contains("refused") {
                    break;
                }
                (server, output) = tried();
            }
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

/// A Python with the parser.
fn python_with_parser() -> Option<PathBuf> {
    let python = python::with("iperf3", "iperf3==0.1.11");
    if python.is_none() {
        skip::skip("no python3 with venv, or no Python registry: no real parser read our JSON");
    }
    python
}
