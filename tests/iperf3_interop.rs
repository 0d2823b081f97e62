//! Our client and server against a stock iperf3 (Debian's 3.12 or any other in the path), and against each other,
//! over loopback.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics, a skip is told")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::{
    iperf3::{
        TestOutcome,
        client::{Finish, Flow, TestParameters},
    },
    measure::Direction,
    units::{BitRate, Bytes},
};
use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use support::{against_stock, our_server, stock, stock_client};

const SECOND: Duration = Duration::from_secs(1);

fn test(finish: Finish) -> TestParameters {
    TestParameters {
        finish,
        ..TestParameters::default()
    }
}

fn for_a_second() -> TestParameters {
    test(Finish::After(SECOND))
}

/// What must hold of every good outcome.
fn check(outcome: &TestOutcome, forward: usize, reverse: usize) {
    let result = &outcome.result;
    let ids: Vec<u32> = result.streams.iter().map(|stream| stream.id).collect();
    let expected: Vec<u32> = (0..forward + reverse)
        .map(|i| if i == 0 { 1 } else { i as u32 + 2 })
        .collect();
    assert_eq!(ids, expected);
    for (index, stream) in result.streams.iter().enumerate() {
        let direction = if index < forward {
            Direction::Forward
        } else {
            Direction::Reverse
        };
        assert_eq!(stream.direction, direction);
        assert!(stream.received_bytes > 0 && stream.sent_bytes > 0, "{stream:?}");
        assert!(stream.seconds > 0.0 && stream.retransmits.is_some());
        let sampled: u64 = stream.samples.iter().map(|sample| sample.bytes).sum();
        assert_eq!(sampled, stream.total_bytes);
        let tcp = stream.samples.last().unwrap().tcp.unwrap();
        assert!(tcp.mss > 0 && tcp.path_mtu >= tcp.mss && tcp.rtt_us > 0);
        let seconds: f64 = stream.samples.iter().map(|sample| sample.seconds).sum();
        assert!((seconds - stream.samples.last().unwrap().end).abs() < 1e-6);
    }
    assert!(!outcome.interrupted && outcome.peer.is_some());
}

#[test]
fn client_sends() {
    let Some(outcome) = against_stock(for_a_second()) else {
        return;
    };
    check(&outcome, 1, 0);
    let stream = &outcome.result.streams[0];
    assert!((0.9..4.0).contains(&outcome.result.seconds));
    assert!(stream.received_bytes <= stream.sent_bytes);
    assert!(stream.samples.len() >= 5, "{}", stream.samples.len());
    assert_eq!(outcome.result.techniques.send, "write");
    assert_eq!(outcome.result.techniques.length, 131_072);
}

#[test]
fn client_receives() {
    let Some(outcome) = against_stock(TestParameters {
        flow: Flow::Reverse,
        ..for_a_second()
    }) else {
        return;
    };
    check(&outcome, 0, 1);
    assert_eq!(outcome.result.techniques.receive, "read");
}

#[test]
fn client_does_both_on_four_streams() {
    let test = TestParameters {
        flow: Flow::Bidirectional,
        streams: 4,
        ..for_a_second()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    check(&outcome, 4, 4);
}

#[test]
fn client_omits() {
    let Some(outcome) = against_stock(TestParameters {
        omit: SECOND,
        ..for_a_second()
    }) else {
        return;
    };
    check(&outcome, 1, 0);
    let stream = &outcome.result.streams[0];
    assert!(stream.total_bytes > stream.sent_bytes);
    assert!(
        stream.samples.iter().any(|sample| sample.omitted)
            && stream.samples.iter().any(|sample| !sample.omitted)
    );
    let measured: u64 = stream
        .samples
        .iter()
        .filter(|sample| !sample.omitted)
        .map(|sample| sample.bytes)
        .sum();
    assert_eq!(measured, stream.sent_bytes);
}

#[test]
fn client_ends_by_bytes_and_by_blocks() {
    let Some(outcome) = against_stock(test(Finish::Bytes(Bytes(40_000_000)))) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(
        outcome.result.streams[0].sent_bytes,
        40_000_000_u64.div_ceil(131_072) * 131_072
    );
    let blocks = TestParameters {
        length: Some(Bytes(1000)),
        ..test(Finish::Blocks(2000))
    };
    let Some(outcome) = against_stock(blocks) else {
        return;
    };
    assert_eq!(outcome.result.streams[0].sent_bytes, 2_000_000);
    let reverse = TestParameters {
        flow: Flow::Reverse,
        ..test(Finish::Bytes(Bytes(40_000_000)))
    };
    let Some(outcome) = against_stock(reverse) else {
        return;
    };
    assert!(outcome.result.streams[0].received_bytes >= 40_000_000);
}

#[test]
fn client_holds_a_rate() {
    let test = TestParameters {
        bitrate: Some(BitRate(80_000_000)),
        streams: 2,
        ..for_a_second()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    check(&outcome, 2, 0);
    for stream in &outcome.result.streams {
        // 10 MB each, within three blocks.
        assert!(
            (4_000_000..10_400_000).contains(&stream.sent_bytes),
            "{}",
            stream.sent_bytes
        );
    }
}

#[test]
fn client_sets_socket_options() {
    let test = TestParameters {
        window: Some(Bytes(65536)),
        mss: Some(1000),
        congestion: Some("reno".into()),
        no_delay: true,
        tos: 0x20,
        length: Some(Bytes(65536)),
        ..for_a_second()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(outcome.result.techniques.congestion.as_deref(), Some("reno"));
    assert!(outcome.result.streams[0].samples.last().unwrap().tcp.unwrap().mss <= 1000);
}

#[test]
fn client_is_fast_both_ways() {
    let Some(outcome) = against_stock(TestParameters {
        fast: true,
        ..for_a_second()
    }) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(outcome.result.techniques.send, "write");
    assert!(outcome.result.techniques.in_use.is_empty());
    let reverse = TestParameters {
        fast: true,
        flow: Flow::Reverse,
        ..for_a_second()
    };
    let Some(outcome) = against_stock(reverse) else {
        return;
    };
    check(&outcome, 0, 1);
    assert_eq!(outcome.result.techniques.receive, "msg_trunc");
    assert_eq!(outcome.result.techniques.in_use, ["trunc", "low-water"]);
}

#[test]
fn server_receives_sends_and_does_both() {
    let Some((json, outcome)) = stock_client(&["-t", "1"]) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(
        json["end"]["sum_received"]["bytes"].as_u64().unwrap(),
        outcome.result.streams[0].received_bytes
    );
    assert_eq!(
        json["end"]["sum_sent"]["bytes"].as_u64().unwrap(),
        outcome.result.streams[0].sent_bytes
    );
    assert_eq!(
        json["end"]["sum_sent"]["retransmits"].as_u64(),
        outcome.result.retransmits()
    );
    let Some((json, outcome)) = stock_client(&["-t", "1", "-R"]) else {
        return;
    };
    check(&outcome, 0, 1);
    assert_eq!(
        json["end"]["sum_sent"]["bytes"].as_u64().unwrap(),
        outcome.result.streams[0].sent_bytes
    );
    assert_eq!(
        json["end"]["sum_sent"]["retransmits"].as_u64(),
        outcome.result.retransmits()
    );
    let Some((_, outcome)) = stock_client(&["-t", "1", "--bidir", "-P", "2"]) else {
        return;
    };
    check(&outcome, 2, 2);
}

#[test]
fn server_serves_every_option() {
    let Some((json, outcome)) = stock_client(&["-t", "1", "-O", "1", "-P", "4"]) else {
        return;
    };
    check(&outcome, 4, 0);
    assert!(outcome.result.total_bytes() > outcome.result.all_received_bytes());
    assert_eq!(
        json["end"]["sum_received"]["bytes"].as_u64().unwrap(),
        outcome.result.all_received_bytes()
    );
    let Some((_, outcome)) = stock_client(&["-n", "20M", "-R"]) else {
        return;
    };
    check(&outcome, 0, 1);
    let Some((_, outcome)) = stock_client(&["-k", "100"]) else {
        return;
    };
    check(&outcome, 1, 0);
    let Some((_, outcome)) = stock_client(&["-t", "1", "-b", "80M", "-R"]) else {
        return;
    };
    assert!((4_000_000..10_400_000).contains(&outcome.result.streams[0].sent_bytes));
    let options = [
        "-t", "1", "-w", "64K", "-M", "1000", "-C", "cubic", "-N", "-S", "32", "-l", "32K",
    ];
    let Some((json, outcome)) = stock_client(&options) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(outcome.result.techniques.congestion.as_deref(), Some("cubic"));
    assert_eq!(json["end"]["receiver_tcp_congestion"], "cubic");
    let Some((_, outcome)) = stock_client(&["-t", "1", "-Z", "-R"]) else {
        return;
    };
    assert_eq!(outcome.result.techniques.send, "sendfile");
}

#[test]
fn server_outlives_an_interrupted_client() {
    if !stock() {
        return;
    }
    let (address, reports) = our_server();
    let mut child = Command::new("iperf3")
        .args(["-c", "127.0.0.1", "-t", "30", "-p", &address.port().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(SECOND);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait().unwrap();
    let error = reports
        .recv_timeout(Duration::from_secs(10))
        .unwrap()
        .outcome
        .unwrap_err();
    assert!(error.measured().unwrap().result.total_bytes() > 0);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the client has terminated");
}
