//! Our iperf3 client and server against each other and against peers that misbehave, over loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test: a failure panics")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::{
    iperf3::{
        TestEvent, TestOutcome,
        client::{self, ClientError, ClientOptions, Finish, Flow, TestParameters},
        server::{Rejection, ServerOptions, TestError},
        wire::{Cookie, Parameters, client::Failure, server::Patience},
    },
    sys::stop::Stop,
    units::{BitRate, Bytes},
};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};
use support::{HALF, LONG, Running, by_hand, for_half_a_second, loopback, options, run};

fn endless() -> TestParameters {
    TestParameters {
        finish: Finish::Never,
        ..TestParameters::default()
    }
}

/// Runs a test and does something as soon as data flows.
fn run_and(options: &ClientOptions, mut act: impl FnMut(&Stop)) -> Result<TestOutcome, ClientError> {
    let stop = Stop::new().unwrap();
    let mut intervals = 0;
    client::run(options, &stop, &mut |event| {
        if matches!(event, TestEvent::Interval(_)) {
            intervals += 1;
            if intervals == 2 {
                act(&stop);
            }
        }
    })
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Protocol { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_ends_agree_on_a_fast_test_with_a_short_warm_up() {
    let server = Running::start(ServerOptions {
        one_test: true,
        ..ServerOptions::default()
    });
    let test = TestParameters {
        fast: true,
        streams: 3,
        flow: Flow::Bidirectional,
        omit: Duration::from_millis(200),
        ..for_half_a_second()
    };
    let mut events = Vec::new();
    let ours = client::run(
        &options(server.address, test),
        &Stop::new().unwrap(),
        &mut |event| {
            events.push(match event {
                TestEvent::Running(streams) => format!("running {}", streams.len()),
                TestEvent::OmitEnded => "omit ended".to_owned(),
                TestEvent::Interval(samples) => {
                    assert_eq!(samples.len(), 6);
                    return;
                }
                TestEvent::Ended => "ended".to_owned(),
            });
        },
    )
    .unwrap();
    assert_eq!(events, ["running 6", "omit ended", "ended"]);
    let theirs = server.report().outcome.unwrap();
    assert_eq!(ours.cookie, theirs.cookie);
    for (ours, theirs) in ours.result.streams.iter().zip(&theirs.result.streams) {
        assert_eq!((ours.id, ours.direction), (theirs.id, theirs.direction));
        assert_eq!(
            (ours.sent_bytes, ours.received_bytes),
            (theirs.sent_bytes, theirs.received_bytes)
        );
        assert_eq!(ours.retransmits, theirs.retransmits);
        assert!(ours.received_bytes > 0 && ours.total_bytes > 0);
        // The warm-up is 200 ms at both ends, not the whole second that goes over the wire for stock servers.
        for end in [ours, theirs] {
            let omitted: f64 = end
                .samples
                .iter()
                .filter(|sample| sample.omitted)
                .map(|sample| sample.seconds)
                .sum();
            assert!((0.2..0.9).contains(&omitted), "{omitted}");
        }
    }
    for end in [&ours, &theirs] {
        assert_eq!(
            (&*end.result.techniques.send, &*end.result.techniques.receive),
            ("write", "msg_trunc")
        );
    }
}

#[test]
fn bytes_are_counted_to_the_last_one() {
    let server = Running::start(ServerOptions::default());
    let test = TestParameters {
        finish: Finish::Bytes(Bytes(1_000_000)),
        length: Some(Bytes(10_000)),
        bitrate: Some(BitRate(40_000_000)),
        ..TestParameters::default()
    };
    let began = Instant::now();
    let outcome = run(&options(server.address, test)).unwrap();
    assert_eq!(outcome.result.streams[0].sent_bytes, 1_000_000);
    // 8 Mbit at 40 Mbit/s; the last block needs no waiting.
    assert!(began.elapsed() >= Duration::from_millis(190));
}

#[test]
fn tests_run_side_by_side_and_strangers_hurt_nobody() {
    let server = Running::start(ServerOptions {
        cookie_patience: HALF,
        ..ServerOptions::default()
    });
    let address = server.address;
    let tests: Vec<_> = [Flow::Forward, Flow::Reverse, Flow::Bidirectional]
        .into_iter()
        .map(|flow| {
            thread::spawn(move || {
                run(&options(
                    address,
                    TestParameters {
                        flow,
                        streams: 2,
                        ..for_half_a_second()
                    },
                ))
            })
        })
        .collect();
    // One says nothing, one says too little, one talks HTTP, one floods.
    let silent = TcpStream::connect(address).unwrap();
    let mut short = TcpStream::connect(address).unwrap();
    short.write_all(b"abc").unwrap();
    drop(short);
    let mut http = TcpStream::connect(address).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        .unwrap();
    let mut flood = TcpStream::connect(address).unwrap();
    // The server may reset it at any moment.
    let _ = flood.write_all(&vec![0xff; 100_000]);
    for test in tests {
        assert!(test.join().unwrap().unwrap().result.all_received_bytes() > 0);
    }
    let mut answer = Vec::new();
    let _ = http.read_to_end(&mut answer);
    // It asked for parameters, and did not like the length "/1.1".
    assert_eq!(answer.first(), Some(&9));
    // The silent one is let go in time.
    let mut byte = [0];
    silent.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!((&silent).read(&mut byte).unwrap(), 0);
    assert_eq!(server.rejection(), Rejection::NoCookie);
}

#[test]
fn the_lobby_has_bounds() {
    let server = Running::start(ServerOptions {
        strangers: 4,
        ..ServerOptions::default()
    });
    let crowd: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    assert_eq!(server.rejection(), Rejection::Crowded);
    assert!(run(&options(server.address, for_half_a_second())).is_ok());
    drop(crowd);
}

#[test]
fn only_the_expected_test_is_taken() {
    let wanted = Cookie::from_random([9; 36]);
    let server = Running::start(ServerOptions {
        one_test: true,
        cookie: Some(wanted),
        ..ServerOptions::default()
    });
    let error = run(&options(server.address, for_half_a_second())).unwrap_err();
    assert!(matches!(failure(error), Failure::Busy));
    assert_eq!(server.rejection(), Rejection::Busy);
    let right = ClientOptions {
        cookie: Some(wanted),
        ..options(server.address, for_half_a_second())
    };
    run(&right).unwrap();
    let report = server.report();
    assert_eq!(report.cookie, wanted);
    assert_eq!(
        report.outcome.unwrap().result.streams[0].peer_address,
        Ipv4Addr::LOCALHOST
    );
}

#[test]
fn an_interrupted_client_keeps_what_it_measured_and_tells_the_server() {
    let server = Running::start(ServerOptions::default());
    let mut stopped = Instant::now();
    let outcome = run_and(&options(server.address, endless()), |stop| {
        stopped = Instant::now();
        stop.stop();
    })
    .unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(3));
    assert!(outcome.interrupted && outcome.peer.is_none());
    assert!(outcome.result.streams[0].sent_bytes > 0);
    let error = server.report().outcome.unwrap_err();
    assert!(error.measured().unwrap().result.streams[0].received_bytes > 0);
    assert!(matches!(
        error,
        TestError::Protocol {
            source: encapbench::iperf3::wire::server::Failure::ClientTerminated,
            ..
        }
    ));
}

#[test]
fn a_stopped_server_tells_its_clients() {
    let server = Running::start(ServerOptions::default());
    let error = run_and(&options(server.address, endless()), |_| server.stop.stop()).unwrap_err();
    assert!(error.measured().unwrap().result.total_bytes() > 0);
    assert!(matches!(failure(error), Failure::ServerTerminated));
    let outcome = server.report().outcome.unwrap();
    assert!(outcome.interrupted && outcome.result.all_received_bytes() > 0);
}

#[test]
fn an_interrupt_ends_the_wait_for_a_silent_server() {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let options = options(listener.local_addr().unwrap(), for_half_a_second());
    let stop = Stop::new().unwrap();
    let token = stop.clone();
    let began = Instant::now();
    let test = thread::spawn(move || client::run(&options, &token, &mut |_| {}));
    thread::sleep(Duration::from_millis(100));
    stop.stop();
    assert!(matches!(
        failure(test.join().unwrap().unwrap_err()),
        Failure::Interrupted
    ));
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// A server that reads a cookie, says this, and then closes or keeps silent.
fn fake_server(says: &'static [u8], keeps: bool) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        drop(listener);
        let mut cookie = [0; 37];
        socket.read_exact(&mut cookie).unwrap();
        socket.write_all(says).unwrap();
        if keeps {
            thread::sleep(Duration::from_secs(2));
        }
    });
    address
}

#[test]
fn every_way_a_server_can_fail_has_its_name() {
    let with = |address, patience| {
        failure(
            run(&ClientOptions {
                patience,
                ..options(address, for_half_a_second())
            })
            .unwrap_err(),
        )
    };
    assert!(matches!(
        with(fake_server(&[], false), LONG),
        Failure::ClosedAtOnce
    ));
    assert!(matches!(with(fake_server(&[], true), HALF), Failure::Timeout(..)));
    assert!(matches!(
        with(fake_server(&[77], true), LONG),
        Failure::Unknown(77, _)
    ));
    assert!(matches!(
        with(fake_server(&[14], true), LONG),
        Failure::Unexpected(..)
    ));
    assert!(matches!(with(fake_server(&[0xff], false), LONG), Failure::Busy));
    assert!(matches!(with(fake_server(&[9], false), LONG), Failure::Closed(_)));
    let Failure::Server(code) = with(fake_server(&[9, 0xfe, 0, 0, 0, 27, 0, 0, 0, 0], true), LONG) else {
        panic!()
    };
    assert_eq!(
        code.to_string(),
        "total required bandwidth is larger than server limit"
    );

    // Nobody listens: the port was free a moment ago.
    let gone = TcpListener::bind(loopback(0)).unwrap().local_addr().unwrap();
    assert!(matches!(
        run(&options(gone, for_half_a_second())),
        Err(ClientError::Connect(_))
    ));
    // CREATE_STREAMS, and then nobody listens there either.
    let address = fake_server(&[9, 10], true);
    let error = run(&options(address, for_half_a_second())).unwrap_err();
    assert!(matches!(error, ClientError::Stream { id: 1, .. }), "{error:?}");

    let bad = TestParameters {
        streams: 16_385,
        ..for_half_a_second()
    };
    assert!(matches!(
        run(&options(gone, bad)),
        Err(ClientError::OutOfRange("streams", _))
    ));
    let bad = TestParameters {
        congestion: Some("no-such".into()),
        ..for_half_a_second()
    };
    let server = Running::start(ServerOptions::default());
    assert!(matches!(
        run(&options(server.address, bad)),
        Err(ClientError::Stream { .. })
    ));
}

#[test]
fn hostile_parameters_are_refused_with_stocks_codes() {
    let server = Running::start(ServerOptions::default());
    let cases = [
        ("{\"tcp\":true,\"parallel\":0}", 6),
        ("{\"tcp\":true,\"parallel\":1000000000}", 6),
        ("{\"tcp\":true,\"len\":-5}", 7),
        ("{\"udp\":true,\"len\":1}", 20),
        ("{\"window\":500000000}", 141),
        ("{broken", 114),
    ];
    for (parameters, code) in cases {
        let (mut control, cookie) = by_hand(server.address, 3, parameters);
        let mut answer = Vec::new();
        if code == 141 {
            // The window is tried on the stream itself.
            control.read_exact(&mut [0]).unwrap();
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(cookie.as_bytes()).unwrap();
            control.read_to_end(&mut answer).unwrap();
        } else {
            control.read_to_end(&mut answer).unwrap();
        }
        let expected = [&[0xfe, 0, 0, 0, code][..], &[0; 4]].concat();
        assert_eq!(answer, expected, "{parameters}");
        drop(control);
        assert!(server.report().outcome.is_err());
    }
}

#[test]
fn a_stream_that_dies_ends_its_test_by_name() {
    let server = Running::start(ServerOptions::default());
    let (mut control, cookie) = by_hand(server.address, 3, &Parameters::default().encode());
    let mut states = [0; 3];
    control.read_exact(&mut states[..1]).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(cookie.as_bytes()).unwrap();
    control.read_exact(&mut states[1..]).unwrap();
    assert_eq!(states, [10, 1, 2]);
    stream.write_all(&[0; 5000]).unwrap();
    drop(stream);
    let mut answer = Vec::new();
    control.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0xfe, 0, 0, 0, 207, 0, 0, 0, 0]);
    drop(control);
    let error = server.report().outcome.unwrap_err();
    assert_eq!(error.measured().unwrap().result.streams[0].received_bytes, 5000);
    assert!(matches!(error, TestError::StreamBroken { id: 1, .. }));
}

#[test]
fn a_client_that_never_brings_its_streams_is_given_up() {
    let patience = Patience {
        answer: HALF,
        ..Patience::default()
    };
    let server = Running::start(ServerOptions {
        patience,
        ..ServerOptions::default()
    });
    let (mut control, _) = by_hand(server.address, 3, &Parameters::default().encode());
    let mut answer = Vec::new();
    control.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [10, 0xfe, 0, 0, 0, 204, 0, 0, 0, 0]);
    drop(control);
    assert!(server.report().outcome.is_err());
}

#[test]
fn a_hundred_and_twenty_eight_streams_both_ways() {
    let server = Running::start(ServerOptions::default());
    let test = TestParameters {
        streams: 128,
        flow: Flow::Bidirectional,
        ..for_half_a_second()
    };
    let outcome = run(&options(server.address, test)).unwrap();
    assert_eq!(outcome.result.streams.len(), 256);
    assert!(outcome.result.all_received_bytes() > 0);
}
