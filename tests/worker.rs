//! `encapbench worker` over its stdio: greeting, versions, silence, garbage, and jobs.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;

use program::{code, encapbench, finish, said, wait};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);
const HELLO: &str = r#"{"say":"hello","version":1}"#;

fn start() -> (Child, ChildStdin) {
    let mut worker = encapbench()
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = worker.stdin.take().unwrap();
    (worker, input)
}

/// The messages that are no heartbeat.
fn messages(text: &[u8]) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
        .filter(|message| message["say"] != "heartbeat")
        .collect()
}

#[test]
fn greets_and_quits() {
    let (worker, mut input) = start();
    writeln!(input, "{HELLO}\n{{\"say\":\"quit\"}}").unwrap();
    let output = wait(worker, LIMIT);
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let messages = messages(&output.stdout);
    assert_eq!(messages[0]["say"], "hello");
    assert_eq!(messages[0]["version"], 1);
    assert!(!messages[0]["machine"].as_str().unwrap().is_empty());
}

#[test]
fn the_end_of_input_ends_it_too() {
    let (worker, mut input) = start();
    writeln!(input, "{HELLO}").unwrap();
    drop(input);
    assert_eq!(code(wait(worker, LIMIT).status), 0);
}

#[test]
fn another_version_is_an_error_that_says_what_to_do() {
    let (worker, mut input) = start();
    writeln!(input, r#"{{"say":"hello","version":999}}"#).unwrap();
    let output = wait(worker, LIMIT);
    assert_ne!(code(output.status), 0);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("999") && text.contains("same encapbench"), "{text}");
}

#[test]
fn a_stranger_is_told_that_this_is_not_for_it() {
    for garbage in [
        "GET / HTTP/1.1",
        "{}",
        r#"{"say":"heartbeat"}"#,
        "\u{0}\u{1}\u{2}",
    ] {
        let (worker, mut input) = start();
        writeln!(input, "{garbage}").unwrap();
        let output = wait(worker, LIMIT);
        assert_eq!(code(output.status), 2, "{garbage:?}: {}", said(&output));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("hello"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn a_silent_coordinator_ends_it_after_ten_seconds() {
    let (worker, mut input) = start();
    writeln!(input, "{HELLO}").unwrap();
    let output = wait(worker, LIMIT);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("heard nothing from the coordinator for 10 s"),
        "{}",
        said(&output)
    );
    drop(input);
}

#[test]
fn a_job_that_fails_is_told_with_its_id_and_the_worker_lives_on() {
    let (mut worker, mut input) = start();
    let job =
        r#"{"say":"start","id":7,"job":{"do":"run-latency","bind":"127.0.0.1","address":"127.0.0.1","port":1,
        "token":"00112233445566778899aabbccddeeff","kind":"tcp-rr","duration":"100ms","omit":"0s","rate":null,
        "request":"1B","response":"1B","congestion":null}}"#
            .replace('\n', "");
    let probe =
        r#"{"say":"start","id":8,"job":{"do":"probe-congestion","wanted":["no-such","cubic","reno"]}}"#;
    writeln!(input, "{HELLO}\n{job}").unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let mut next = |say: &str| {
        lines
            .by_ref()
            .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
            .find(|message| message["say"] != "heartbeat" && message["say"] != "hello")
            .filter(|message| message["say"] == say)
            .unwrap()
    };
    let failed = next("failed");
    assert_eq!(failed["id"], 7);
    assert!(
        failed["error"].as_str().unwrap().contains("127.0.0.1:1"),
        "{failed}"
    );
    writeln!(input, "{probe}").unwrap();
    let done = next("done");
    assert_eq!(done["id"], 8);
    let usable = done["result"]["value"].as_array().unwrap();
    assert!(
        !usable.is_empty() && !usable.contains(&"no-such".into()),
        "{done}"
    );
    writeln!(input, r#"{{"say":"quit"}}"#).unwrap();
    assert_eq!(code(worker.wait().unwrap()), 0);
}

#[test]
fn started_by_hand_it_says_what_it_is_for() {
    let output = finish(encapbench().arg("worker"), LIMIT);
    // /dev/null ends at once: nothing to do is no error.
    assert_eq!(code(output.status), 0, "{}", said(&output));
}
