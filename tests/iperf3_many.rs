//! Many streams in one test: a thousand between two encapbenches, and none with a stock server beyond its 128.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../src/skip.rs"]
mod skip;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// A server that is killed at the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn encapbench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encapbench"));
    command.arg("iperf3").args(arguments);
    command
}

/// Starts a server and waits for its first words.
fn serve(mut command: Command) -> Server {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the server ended");
    }
    // What it prints later must not fill the pipe.
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
    Server(child)
}

/// The most memory that a process had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_thousand_streams_share_a_test_and_a_few_threads() {
    const STREAMS: usize = 1000;
    let port = free_port();
    let server = serve(encapbench(&["-s", "--forceflush", "-p", &port]));
    for reverse in [&[][..], &["-R"]] {
        let client = encapbench(&[
            "-c",
            "127.0.0.1",
            "-p",
            &port,
            "-P",
            "1000",
            "-t",
            "1",
            "-J",
            "--fast",
        ])
        .args(reverse)
        .output()
        .unwrap();
        let document: serde_json::Value = serde_json::from_slice(&client.stdout).unwrap();
        assert_eq!(document["error"], serde_json::Value::Null);
        assert!(client.status.success());
        let streams = document["end"]["streams"].as_array().unwrap();
        assert_eq!(streams.len(), STREAMS);
        let moved = |stream: &serde_json::Value| stream["receiver"]["bytes"].as_u64().unwrap();
        // None starves.
        assert!(streams.iter().all(|stream| moved(stream) > 0));
        assert_eq!(
            streams.iter().map(moved).sum::<u64>(),
            document["end"]["sum_received"]["bytes"].as_u64().unwrap()
        );
        // A thread each would have had stacks and buffers of a thousand.
        let used = peak(server.0.id());
        assert!(used < 256 << 20, "{used} bytes");
    }
}

#[test]
fn a_stock_server_is_not_asked_for_more_than_it_takes() {
    if Command::new("iperf3").arg("--version").output().is_err() {
        return skip::skip("iperf3 is not installed");
    }
    let port = free_port();
    let mut stock = Command::new("iperf3");
    stock.args(["-s", "-1", "--forceflush", "-p", &port]);
    let _server = serve(stock);
    let client = encapbench(&["-c", "127.0.0.1", "-p", &port, "-P", "129", "-t", "1"])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&client.stderr).into_owned() + &String::from_utf8_lossy(&client.stdout);
    assert!(!client.status.success());
    assert!(said.contains("iperf3 takes 128 streams at most"), "{said}");
}
