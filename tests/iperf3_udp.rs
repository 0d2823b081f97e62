//! UDP tests over loopback: our client and server against a stock iperf3 (Debian's 3.12 or any other in the path),
//! against each other, and against peers that lose, repeat and forge.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics, a skip is told")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::{
    iperf3::{
        TestOutcome,
        client::{self, ClientOptions, Finish, Flow, TestParameters},
        server::{Server, ServerEvent, ServerOptions},
        wire::{Cookie, Transport, frame::frame},
    },
    measure::Direction,
    sys::stop::Stop,
    units::{BitRate, Bytes},
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use support::{against_stock, loopback, our_server, run_well, stock};

const SECOND: Duration = Duration::from_secs(1);

fn udp() -> TestParameters {
    TestParameters {
        transport: Transport::Udp,
        finish: Finish::After(SECOND),
        bitrate: Some(BitRate(5_000_000)),
        length: Some(Bytes(1200)),
        ..TestParameters::default()
    }
}

/// A stock client against our server: its JSON and our report.
fn stock_client(arguments: &[&str]) -> Option<(serde_json::Value, TestOutcome)> {
    support::stock_client(&[&["-u"], arguments].concat())
}

/// Our client against our server: both outcomes.
fn both_ours(test: TestParameters) -> (TestOutcome, TestOutcome) {
    let (address, reports) = our_server();
    let client = run_well(address, test);
    let server = reports.recv_timeout(Duration::from_secs(10)).unwrap();
    (client, server.outcome.unwrap())
}

/// What must hold of every good outcome with datagrams of 1200 bytes at 5 Mbit/s for a second.
fn check(outcome: &TestOutcome, forward: usize, reverse: usize) {
    let result = &outcome.result;
    assert_eq!(result.streams.len(), forward + reverse);
    for (index, stream) in result.streams.iter().enumerate() {
        let direction = if index < forward {
            Direction::Forward
        } else {
            Direction::Reverse
        };
        assert_eq!(stream.direction, direction);
        let udp = stream.udp.unwrap();
        // 521 datagrams are due; a machine that is busy with other things sends less, never more.
        assert!((100..580).contains(&udp.packets), "{udp:?}");
        assert!(
            udp.lost < udp.packets / 2 && udp.jitter > 0.0 && udp.jitter < 1.0,
            "{udp:?}"
        );
        // At the edges of the warm-up the two ends don't count the same few datagrams.
        let sent = udp.packets * 1200;
        assert!(
            stream.sent_bytes.abs_diff(sent) <= sent / 10,
            "{} of {sent}",
            stream.sent_bytes
        );
        assert_eq!(stream.received_bytes % 1200, 0);
        assert!(stream.received_bytes > 50 * 1200, "{stream:?}");
        assert_eq!(stream.retransmits, None);
        let sampled: u64 = stream.samples.iter().map(|sample| sample.bytes).sum();
        assert_eq!(sampled, stream.total_bytes);
        assert!(stream.samples.iter().all(|sample| sample.tcp.is_none()));
        assert!(stream.samples.last().unwrap().udp.is_some());
    }
    assert!(result.loss_percent().unwrap() < 50.0 && result.jitter().unwrap() > 0.0);
    assert!(!outcome.interrupted && outcome.peer.is_some());
}

#[test]
fn client_sends() {
    let Some(outcome) = against_stock(udp()) else {
        return;
    };
    check(&outcome, 1, 0);
    assert_eq!(outcome.own.sender_has_retransmits, 0);
    assert_eq!(outcome.result.techniques.send, "sendmmsg");
}

#[test]
fn client_receives_on_two_streams_with_wide_counters() {
    let test = TestParameters {
        flow: Flow::Reverse,
        streams: 2,
        counters_64bit: true,
        ..udp()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    check(&outcome, 0, 2);
    assert_eq!(outcome.own.sender_has_retransmits, -1);
    assert_eq!(outcome.result.techniques.receive, "recvmmsg");
}

#[test]
fn client_does_both_on_two_streams() {
    let test = TestParameters {
        flow: Flow::Bidirectional,
        streams: 2,
        fast: true,
        ..udp()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    check(&outcome, 2, 2);
    assert_eq!(outcome.result.techniques.send, "udp_segment");
    assert_eq!(outcome.result.techniques.receive, "udp_gro");
}

#[test]
fn client_omits() {
    for flow in [Flow::Forward, Flow::Reverse] {
        let test = TestParameters {
            omit: SECOND,
            flow,
            ..udp()
        };
        let Some(outcome) = against_stock(test) else {
            return;
        };
        check(
            &outcome,
            usize::from(flow == Flow::Forward),
            usize::from(flow == Flow::Reverse),
        );
        let own = outcome.own.streams[0];
        // Cumulative, with what the warm-up had beside it.
        assert!((300..1150).contains(&own.packets), "{own:?}");
        assert!((100..600).contains(&own.omitted_packets.unwrap()));
        assert_eq!(own.bytes, (own.packets - own.omitted_packets.unwrap()) * 1200);
    }
}

#[test]
fn client_ends_by_bytes_and_by_blocks() {
    let test = TestParameters {
        finish: Finish::Blocks(300),
        ..udp()
    };
    let Some(outcome) = against_stock(test) else {
        return;
    };
    assert_eq!(outcome.result.streams[0].sent_bytes, 360_000);
    let unlimited = TestParameters {
        finish: Finish::Bytes(Bytes(1_000_000)),
        bitrate: None,
        fast: true,
        ..udp()
    };
    let (client, server) = both_ours(unlimited);
    assert_eq!(client.own.streams[0].packets, 834);
    assert_eq!(client.result.streams[0].sent_bytes, 834 * 1200);
    assert_eq!(server.result.streams[0].udp.unwrap().packets, 834);
}

#[test]
fn server_receives_sends_and_does_both() {
    let Some((json, outcome)) = stock_client(&["-t", "1", "-b", "5M", "-l", "1200"]) else {
        return;
    };
    check(&outcome, 1, 0);
    let stream = &outcome.result.streams[0];
    let told = &json["end"]["streams"][0]["udp"];
    assert_eq!(told["packets"].as_u64(), Some(stream.udp.unwrap().packets));
    assert_eq!(told["lost_packets"].as_u64(), Some(stream.udp.unwrap().lost));
    let jitter = stream.udp.unwrap().jitter * 1000.0;
    assert!((told["jitter_ms"].as_f64().unwrap() - jitter).abs() < 1e-6);
    let options = [
        "-t",
        "1",
        "-b",
        "5M",
        "-l",
        "1200",
        "-R",
        "--udp-counters-64bit",
        "-P",
        "2",
    ];
    let Some((json, outcome)) = stock_client(&options) else {
        return;
    };
    check(&outcome, 0, 2);
    assert!(json["end"]["sum"]["lost_percent"].as_f64().unwrap() < 50.0);
    let Some((_, outcome)) = stock_client(&["-t", "1", "-b", "5M", "-l", "1200", "--bidir", "-P", "2"])
    else {
        return;
    };
    check(&outcome, 2, 2);
}

#[test]
fn server_omits() {
    for options in [&["-O", "1"][..], &["-O", "1", "-R"]] {
        let all = [&["-t", "1", "-b", "5M", "-l", "1200"], options].concat();
        let Some((json, outcome)) = stock_client(&all) else {
            return;
        };
        let reverse = options.contains(&"-R");
        check(&outcome, usize::from(!reverse), usize::from(reverse));
        assert!(outcome.own.streams[0].omitted_packets.unwrap() > 100);
        let seconds = json["end"]["sum"]["seconds"].as_f64().unwrap();
        assert!((0.9..2.0).contains(&seconds), "{seconds}");
    }
}

#[test]
fn server_serves_default_lengths_bursts_and_limits() {
    // The default is 1 Mbit/s of datagrams as long as the MSS.
    let Some((_, outcome)) = stock_client(&["-t", "1"]) else {
        return;
    };
    assert!(outcome.result.streams[0].received_bytes > 30_000);
    let Some((_, outcome)) = stock_client(&["-k", "300", "-b", "0", "-l", "16"]) else {
        return;
    };
    // Unlimited, some of it may be lost.
    assert!(outcome.result.streams[0].received_bytes > 0);
    let options = [
        "-t", "1", "-b", "5M/50", "-l", "1200", "-R", "-w", "128K", "-S", "32",
    ];
    let Some((_, outcome)) = stock_client(&options) else {
        return;
    };
    check(&outcome, 0, 1);
    let Some((_, outcome)) = stock_client(&["-n", "500K", "-b", "5M", "-l", "1200", "-R"]) else {
        return;
    };
    assert!(outcome.result.streams[0].sent_bytes >= 500 << 10);
}

#[test]
fn both_ends_agree() {
    for fast in [false, true] {
        let test = TestParameters {
            flow: Flow::Bidirectional,
            omit: Duration::from_millis(250),
            dont_fragment: true,
            fast,
            ..udp()
        };
        let (client, server) = both_ours(test);
        check(&client, 1, 1);
        check(&server, 1, 1);
        for (ours, theirs) in client.result.streams.iter().zip(&server.result.streams) {
            let (ours, theirs) = (ours.udp.unwrap(), theirs.udp.unwrap());
            assert_eq!((ours.packets, ours.lost), (theirs.packets, theirs.lost));
            assert!((ours.jitter - theirs.jitter).abs() < 1e-9);
            assert!(ours.out_of_order.is_some() != theirs.out_of_order.is_some());
        }
    }
}

/// Our server for any number of tests, stopped by the token.
fn open_server(stop: &Stop) -> (SocketAddr, thread::JoinHandle<usize>) {
    let server = Server::bind(loopback(0), ServerOptions::default()).unwrap();
    let address = server.local_addr();
    let stop = stop.clone();
    let thread = thread::spawn(move || {
        let mut good = 0;
        server
            .serve(&stop, &mut |event| {
                if let ServerEvent::Finished(report) = event {
                    good += usize::from(report.outcome.is_ok());
                }
            })
            .unwrap();
        good
    });
    (address, thread)
}

#[test]
fn a_hundred_stock_clients_at_once() {
    if !stock() {
        return;
    }
    let stop = Stop::new().unwrap();
    let (address, server) = open_server(&stop);
    let mut clients: Vec<_> = (0..100)
        .map(|index| {
            let mut command = Command::new("iperf3");
            command.args(["-c", "127.0.0.1", "-t", "1", "-b", "1M", "-J", "-p"]);
            command.arg(address.port().to_string());
            match index % 4 {
                0 => command.args(["-u", "-l", "1000"]),
                1 => command.args(["-u", "-l", "1000", "-R", "-P", "2"]),
                2 => command.args(["-l", "4K"]),
                _ => command.args(["-u", "-l", "1000", "--bidir"]),
            };
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let statuses: Vec<_> = clients.iter_mut().map(|client| client.wait().unwrap()).collect();
    stop.stop();
    assert_eq!(statuses.iter().filter(|status| status.success()).count(), 100);
    assert_eq!(server.join().unwrap(), 100);
}

/// A UDP test by hand up to CREATE_STREAMS: its control connection.
fn by_hand(address: SocketAddr, letter: u8) -> TcpStream {
    let mut control = TcpStream::connect(address).unwrap();
    control.set_read_timeout(Some(10 * SECOND)).unwrap();
    control
        .write_all(Cookie::from_random([letter; 36]).as_bytes())
        .unwrap();
    let mut state = [0];
    control.read_exact(&mut state).unwrap();
    assert_eq!(state, [9]);
    let parameters = r#"{"udp":true,"omit":0,"time":1,"parallel":2,"len":1000,"bandwidth":1000000}"#;
    control.write_all(&frame(parameters)).unwrap();
    control
}

#[test]
fn a_test_that_stalls_holds_up_others_for_two_seconds_at_most() {
    let stop = Stop::new().unwrap();
    let (address, server) = open_server(&stop);
    let mut staller = by_hand(address, 1);
    let mut state = [0];
    staller.read_exact(&mut state).unwrap();
    assert_eq!(state, [10], "CREATE_STREAMS");
    // It opens one of its two streams, and then only pretends to go on.
    let pretends = UdpSocket::bind(loopback(0)).unwrap();
    pretends.connect(address).unwrap();
    let began = Instant::now();
    let (finished, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let pretends = &pretends;
        scope.spawn(move || {
            while over.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = pretends.send(b"9876");
            }
        });
        let outcome = run_well(
            address,
            TestParameters {
                finish: Finish::After(Duration::from_millis(200)),
                ..udp()
            },
        );
        assert!(outcome.result.streams[0].received_bytes > 0);
        drop(finished);
    });
    let took = began.elapsed();
    assert!(took >= SECOND, "it waited for its turn: {took:?}");
    assert!(took < 9 * SECOND, "it waited for no more than its turn: {took:?}");
    let mut error = [0; 9];
    staller.read_exact(&mut error).unwrap();
    assert_eq!(error[..5], [0xfe, 0, 0, 0, 204]);
    stop.stop();
    assert_eq!(server.join().unwrap(), 1);
}

/// A relay of datagrams that drops the first `lost` answers of the server.
fn losing_relay(server: SocketAddr, lost: usize) -> SocketAddr {
    let front = UdpSocket::bind(loopback(0)).unwrap();
    let address = front.local_addr().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let upstream = TcpStream::connect(server).unwrap();
        for (mut from, mut to) in [
            (client.try_clone().unwrap(), upstream.try_clone().unwrap()),
            (upstream, client),
        ] {
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    thread::spawn(move || {
        let back = UdpSocket::bind(loopback(0)).unwrap();
        back.connect(server).unwrap();
        let mut buffer = [0; 2000];
        let (count, client) = front.recv_from(&mut buffer).unwrap();
        front.connect(client).unwrap();
        back.send(&buffer[..count]).unwrap();
        let (front_too, back_too) = (front.try_clone().unwrap(), back.try_clone().unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok(count) = front_too.recv(&mut buffer) {
                let _ = back_too.send(&buffer[..count]);
            }
        });
        let mut answers = 0;
        while let Ok(count) = back.recv(&mut buffer) {
            answers += usize::from(count == 4);
            if count != 4 || answers > lost {
                let _ = front.send(&buffer[..count]);
            }
        }
    });
    address
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    for (flow, lost) in [(Flow::Forward, 1), (Flow::Reverse, 2)] {
        let (address, reports) = our_server();
        let relay = losing_relay(address, lost);
        let options = ClientOptions {
            test: TestParameters {
                finish: Finish::After(Duration::from_millis(300)),
                flow,
                ..udp()
            },
            ask_again: true,
            ..ClientOptions::new(relay)
        };
        let began = Instant::now();
        let outcome = client::run(&options, &Stop::new().unwrap(), &mut |_| {}).unwrap();
        assert!(began.elapsed() < 5 * SECOND);
        // What asks again is no data: nothing is out of order, or missing.
        let server = reports.recv_timeout(10 * SECOND).unwrap().outcome.unwrap();
        let receiver = if flow == Flow::Forward { server } else { outcome };
        let counted = receiver.result.streams[0].udp.unwrap();
        assert!(
            counted.packets > 20 && counted.out_of_order == Some(0),
            "{counted:?}"
        );
    }
}

#[test]
fn garbage_and_forgeries_in_a_stream_count_for_nothing() {
    let (address, reports) = our_server();
    let mut control = by_hand(address, 7);
    let mut state = [0];
    control.read_exact(&mut state).unwrap();
    assert_eq!(state, [10]);
    let forger = UdpSocket::bind("127.0.0.2:0").unwrap();
    let streams: Vec<_> = (0..2)
        .map(|_| {
            // Neither of these opens a stream.
            forger.send_to(b"9876", address).unwrap();
            forger.send_to(b"xyz", address).unwrap();
            let socket = UdpSocket::bind(loopback(0)).unwrap();
            socket.set_read_timeout(Some(5 * SECOND)).unwrap();
            socket.connect(address).unwrap();
            socket.send(b"9876").unwrap();
            let mut reply = [0; 8];
            assert_eq!(socket.recv(&mut reply).unwrap(), 4);
            assert_eq!(&reply[..4], b"6789");
            socket
        })
        .collect();
    let mut states = [0; 2];
    control.read_exact(&mut states).unwrap();
    assert_eq!(states, [1, 2]);
    let datagram = |sequence: u32, length: usize| {
        let mut bytes = vec![0; length];
        bytes[8..12].copy_from_slice(&sequence.to_be_bytes());
        bytes
    };
    // Whole ones, with a gap; too short, none at all, too long; from elsewhere.
    for bytes in [
        datagram(1, 1000),
        datagram(4, 1000),
        vec![9; 11],
        vec![],
        datagram(5, 1500),
    ] {
        streams[0].send(&bytes).unwrap();
    }
    forger.send_to(&datagram(9000, 1000), address).unwrap();
    thread::sleep(Duration::from_millis(100));
    control.write_all(&[4]).unwrap();
    control.read_exact(&mut state).unwrap();
    assert_eq!(state, [13]);
    let results = r#"{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":0,"sender_has_retransmits":0,"streams":[]}"#;
    control.write_all(&frame(results)).unwrap();
    control.write_all(&[16]).unwrap();
    let report = reports.recv_timeout(10 * SECOND).unwrap();
    let result = report.outcome.unwrap().result;
    let counted = result.streams[0].udp.unwrap();
    assert_eq!(
        (counted.packets, counted.lost, counted.out_of_order),
        (5, 2, Some(0))
    );
    assert_eq!(result.streams[0].received_bytes, 3000);
    assert_eq!(result.streams[1].received_bytes, 0);
}
