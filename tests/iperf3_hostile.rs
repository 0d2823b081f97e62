//! A corpus of clients that mean no good: each is met with an end in bounded time, a name for what it did, and no harm to
//! a good test beside it.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics, a skip is told")]

#[path = "support/hostile_results.rs"]
mod hostile_results;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::{
    iperf3::{
        client::{Finish, Flow, TestParameters},
        server::{ServerEvent, ServerOptions},
        wire::{Transport, datagram, frame::frame, server::Patience},
    },
    units::{BitRate, Bytes},
};
use hostile_results::RESULTS;
use socket2::SockRef;
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{HALF, LONG, Running, by_hand, for_half_a_second, options, run};

/// The cookie of one of them: none may be in another's way.
fn cookie_of(number: usize) -> Vec<u8> {
    format!("hostile{number:029}\0").into_bytes()
}

/// A server whose patience is short, so that what it waits for is soon over.
fn short_tempered() -> Running {
    Running::start(ServerOptions {
        patience: Patience {
            answer: HALF,
            overstay: HALF,
        },
        cookie_patience: HALF,
        data_patience: Some(Duration::from_secs(1)),
        ..ServerOptions::default()
    })
}

/// What a hostile client does after it is connected.
#[derive(Debug, Clone)]
enum Step {
    /// Its cookie.
    Greet,
    /// The same, one byte at a time.
    DripGreeting,
    /// Its bytes.
    Say(Vec<u8>),
    /// The same, one at a time with a pause: slow loris.
    Drip(Vec<u8>),
    /// A document with its length.
    Document(&'static str),
    /// It opens this many data connections, with the test's cookie.
    Streams(usize),
    /// It opens a data connection that says only half a cookie.
    HalfStream,
    /// It waits until the server has said so many bytes.
    Hear(usize),
    /// It floods the control connection.
    Flood(u8),
    /// It goes away by a reset.
    Reset,
}

use Step::{Document, Drip, DripGreeting, Flood, Greet, HalfStream, Hear, Reset, Say, Streams};

fn drip(control: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if control.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Plays a client until the server lets it go; how long that took. Panics where the server keeps it.
fn play(address: SocketAddr, number: usize, steps: &[Step]) -> Duration {
    let (began, cookie) = (Instant::now(), cookie_of(number));
    let mut control = TcpStream::connect(address).unwrap();
    control.set_read_timeout(Some(LONG)).unwrap();
    control.set_write_timeout(Some(LONG)).unwrap();
    let mut streams = Vec::new();
    // Whatever is written may find the server gone already: that is an end too.
    for step in steps {
        match step {
            Greet => {
                let _ = control.write_all(&cookie);
            }
            DripGreeting => drip(&mut control, &cookie),
            Say(bytes) => {
                let _ = control.write_all(bytes);
            }
            Drip(bytes) => drip(&mut control, bytes),
            Document(text) => {
                let _ = control.write_all(&frame(text));
            }
            Streams(count) => {
                for _ in 0..*count {
                    let mut stream = TcpStream::connect(address).unwrap();
                    let _ = stream.write_all(&cookie);
                    streams.push(stream);
                }
            }
            HalfStream => {
                let mut stream = TcpStream::connect(address).unwrap();
                let _ = stream.write_all(&cookie[..18]);
                streams.push(stream);
            }
            Hear(count) => {
                let mut heard = vec![0; *count];
                if control.read_exact(&mut heard).is_err() {
                    break;
                }
            }
            Flood(byte) => {
                for _ in 0..64 {
                    if control.write_all(&vec![*byte; 1 << 16]).is_err() {
                        break;
                    }
                }
            }
            Reset => {
                SockRef::from(&control).set_linger(Some(Duration::ZERO)).unwrap();
                return began.elapsed();
            }
        }
    }
    // The end, or a reset; a timeout says that the server still holds on.
    let mut buffer = [0; 4096];
    loop {
        match control.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock,
                    "{steps:?}: the server holds on"
                );
                break;
            }
        }
    }
    began.elapsed()
}

fn prefix(length: u32) -> Step {
    Say(length.to_be_bytes().to_vec())
}

/// Parameters that no server may be harmed by.
const PARAMETERS: [&str; 34] = [
    "{\"tcp\":true,\"parallel\":-1}",
    "{\"tcp\":true,\"parallel\":99999999999999999999999}",
    "{\"tcp\":true,\"parallel\":1e308}",
    "{\"tcp\":true,\"parallel\":1e999}",
    "{\"tcp\":true,\"parallel\":NaN}",
    "{\"tcp\":true,\"parallel\":\"128\"}",
    "{\"tcp\":true,\"parallel\":[1]}",
    "{\"tcp\":true,\"len\":0}",
    "{\"tcp\":true,\"len\":-9223372036854775808}",
    "{\"tcp\":true,\"len\":9223372036854775807}",
    "{\"tcp\":true,\"len\":1e308}",
    "{\"udp\":true,\"len\":65508}",
    "{\"udp\":true,\"len\":15}",
    "{\"tcp\":true,\"time\":-1}",
    "{\"tcp\":true,\"time\":1e300,\"omit\":1e300}",
    "{\"tcp\":true,\"omit\":9223372036854775807,\"time\":9223372036854775807}",
    "{\"tcp\":true,\"encapbench_omit_micros\":9223372036854775807}",
    "{\"tcp\":true,\"num\":-5,\"blockcount\":-5}",
    "{\"tcp\":true,\"blockcount\":9223372036854775807,\"len\":1048576}",
    "{\"tcp\":true,\"bandwidth\":-1}",
    "{\"tcp\":true,\"bandwidth\":9223372036854775807,\"burst\":1000}",
    "{\"tcp\":true,\"burst\":-1}",
    "{\"tcp\":true,\"window\":-1}",
    "{\"tcp\":true,\"MSS\":1}",
    "{\"tcp\":true,\"MSS\":-1}",
    "{\"tcp\":true,\"TOS\":-1}",
    "{\"tcp\":true,\"fqrate\":9223372036854775807}",
    "{\"tcp\":true,\"server_affinity\":1024}",
    "{\"tcp\":true,\"congestion\":\"no-such-thing-as-this-congestion-control-at-all\"}",
    "{\"tcp\":true,\"title\":5,\"extra_data\":{},\"authtoken\":[[]],\"client_version\":null}",
    "{\"udp\":true,\"gso\":1,\"gso_dg_size\":-1,\"gso_bf_size\":1e308,\"gro\":-1,\"gro_bf_size\":-1,\"len\":16}",
    "{\"sctp\":true}",
    "{\"tcp\":true,\"mptcp\":true}",
    "\"just a string\"",
];

fn corpus() -> Vec<Vec<Step>> {
    const PLAIN: &str = "{\"tcp\":true,\"time\":1,\"parallel\":1,\"len\":1000}";
    const REVERSE: &str = "{\"tcp\":true,\"time\":1,\"parallel\":1,\"len\":1000,\"reverse\":true}";
    const ENDLESS: &str = "{\"tcp\":true,\"time\":0,\"parallel\":1,\"len\":131072,\"reverse\":true}";
    let mut corpus = vec![
        // Before the cookie.
        vec![],
        vec![Say(vec![0xff; 36])],
        vec![DripGreeting],
        vec![Say(vec![0; 37])],
        vec![Say(vec![0; 1000])],
        vec![Say(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec())],
        vec![Say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(10))],
        vec![Flood(0xff)],
        vec![Reset],
        // Instead of parameters.
        vec![Greet],
        vec![Greet, Reset],
        vec![Greet, Hear(1), Reset],
        vec![Greet, prefix(0)],
        vec![Greet, prefix(1)],
        vec![Greet, prefix(8193)],
        vec![Greet, prefix(u32::MAX)],
        vec![Greet, prefix(0x8000_0000)],
        vec![Greet, prefix(0xfe00_0000)],
        vec![Greet, prefix(100), Say(vec![b'{'; 50])],
        vec![Greet, prefix(100), Say(vec![b'{'; 50]), Reset],
        vec![Greet, prefix(8000), Say(vec![b'['; 8000])],
        vec![Greet, prefix(8000), Say(b"{\"a\":".repeat(1600))],
        vec![Greet, prefix(4), Say(vec![0xff, 0xfe, 0xc0, 0x80])],
        vec![Greet, Drip(frame(PLAIN))],
        vec![Greet, Flood(0)],
        // Instead of streams.
        vec![Greet, Document(PLAIN)],
        vec![Greet, Document(PLAIN), Reset],
        vec![Greet, Document(PLAIN), HalfStream],
        vec![Greet, Document(PLAIN), Hear(2), Say(vec![4])],
        vec![Greet, Document(PLAIN), Hear(2), Say(vec![77])],
        vec![Greet, Document(PLAIN), Hear(2), Flood(1)],
        vec![
            Greet,
            Document("{\"tcp\":true,\"parallel\":128,\"time\":1}"),
            Hear(2),
            Streams(5),
        ],
        vec![Greet, Document("{\"udp\":true,\"len\":1000,\"time\":1}"), Hear(2)],
        vec![
            Greet,
            Document("{\"udp\":true,\"len\":1000,\"time\":1}"),
            Flood(9),
        ],
        // A connection too many, and a cookie again.
        vec![Greet, Document(PLAIN), Hear(2), Streams(3), Hear(2), Streams(1)],
        // While data should flow.
        vec![Greet, Document(PLAIN), Hear(2), Streams(1)],
        vec![Greet, Document(PLAIN), Hear(2), Streams(1), Reset],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![16]),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![0xfe, 0, 0]),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![12]),
        ],
        vec![Greet, Document(PLAIN), Hear(2), Streams(1), Hear(2), Flood(1)],
        // It takes nothing of what it asked for, without an end.
        vec![Greet, Document(ENDLESS), Hear(2), Streams(1)],
        vec![Greet, Document(REVERSE), Hear(2), Streams(1), Hear(2), Reset],
        // Instead of results.
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            Hear(1),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            Hear(1),
            Reset,
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            prefix(u32::MAX),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            prefix(1 << 24),
            Flood(b'['),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            prefix(500),
            Say(vec![b'{'; 20]),
        ],
        vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4, 4, 4, 4, 4, 4, 4, 4]),
        ],
    ];
    for parameters in PARAMETERS {
        corpus.push(vec![Greet, Document(parameters), Hear(2), Reset]);
        corpus.push(vec![
            Greet,
            Document(parameters),
            Hear(2),
            Streams(1),
            Say(vec![4]),
        ]);
    }
    for results in RESULTS {
        corpus.push(vec![
            Greet,
            Document(PLAIN),
            Hear(2),
            Streams(1),
            Hear(2),
            Say(vec![4]),
            Hear(1),
            Document(results),
            Say(vec![16]),
        ]);
    }
    corpus
}

#[test]
fn every_hostile_client_is_let_go_and_a_good_test_beside_it_is_unharmed() {
    let server = short_tempered();
    let address = server.address;
    let corpus = corpus();
    let good = thread::spawn(move || {
        let test = TestParameters {
            finish: Finish::After(Duration::from_secs(2)),
            bitrate: Some(BitRate(20_000_000)),
            flow: Flow::Bidirectional,
            length: Some(Bytes(10_000)),
            ..TestParameters::default()
        };
        run(&options(address, test))
    });
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(steps) = corpus.get(number) else { break };
                    let took = play(address, number, steps);
                    assert!(took < LONG, "{steps:?} took {took:?}");
                }
            });
        }
    });
    let good = good.join().unwrap().unwrap();
    for stream in &good.result.streams {
        let expected = 2.0 * 20e6 / 8.0;
        let received = stream.received_bytes as f64;
        assert!(
            (received / expected - 1.0).abs() < 0.2,
            "{received} bytes instead of {expected}"
        );
    }
    // And it serves on.
    assert!(run(&options(address, for_half_a_second())).is_ok());
    // Nothing of them is left: each test that began has ended.
    let (mut begun, mut over) = (0, 0);
    while let Ok(event) = server.events.recv_timeout(Duration::from_secs(2)) {
        match event {
            ServerEvent::Admitted { .. } => begun += 1,
            ServerEvent::Finished(_) => over += 1,
            _ => {}
        }
    }
    assert_eq!(begun, over);
    assert!(begun > corpus.len() * 3 / 4, "{begun} of {} began", corpus.len());
}

#[test]
fn a_crowd_that_sends_cookies_and_nothing_else_shuts_nobody_out() {
    let server = Running::start(ServerOptions {
        strangers: 16,
        ..ServerOptions::default()
    });
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut connection = TcpStream::connect(server.address).unwrap();
        connection.write_all(&cookie_of(number)).unwrap();
        // One that says nothing at all beside it.
        crowd.push((connection, TcpStream::connect(server.address).unwrap()));
    }
    let began = Instant::now();
    run(&options(server.address, for_half_a_second())).unwrap();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Those that had to make room are told so.
    let (first, _) = crowd.first_mut().unwrap();
    first.set_read_timeout(Some(LONG)).unwrap();
    let mut heard = Vec::new();
    let _ = first.read_to_end(&mut heard);
    assert!(
        heard == [9] || heard == [9, 0xfe, 0, 0, 0, 121, 0, 0, 0, 0],
        "{heard:?}"
    );
}

#[test]
fn who_brings_no_streams_holds_the_only_place_for_two_seconds() {
    let server = Running::start(ServerOptions {
        tests: 1,
        ..ServerOptions::default()
    });
    let (mut stalled, _) = by_hand(server.address, 1, "{\"tcp\":true,\"time\":1}");
    let began = Instant::now();
    let outcome = loop {
        match run(&options(server.address, for_half_a_second())) {
            Ok(outcome) => break outcome,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(8), "{error}"),
        }
        thread::sleep(Duration::from_millis(100));
    };
    assert!(outcome.result.all_received_bytes() > 0);
    let mut heard = Vec::new();
    stalled.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [10, 0xfe, 0, 0, 0, 121, 0, 0, 0, 0]);
}

#[test]
fn datagrams_from_nobody_open_nothing() {
    let server = short_tempered();
    let (mut control, _) = by_hand(
        server.address,
        5,
        "{\"udp\":true,\"len\":1000,\"time\":1,\"parallel\":3}",
    );
    control.read_exact(&mut [0]).unwrap();
    let stranger = UdpSocket::bind("127.0.0.9:0").unwrap();
    stranger.connect(server.address).unwrap();
    for _ in 0..1000 {
        // The port may be closed by now.
        let _ = stranger.send(&datagram::CONNECT);
        let _ = stranger.send(&[0xff; 1400]);
        let _ = stranger.send(&[]);
    }
    let mut heard = Vec::new();
    control.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, [0xfe, 0, 0, 0, 204, 0, 0, 0, 0]);
    let udp = TestParameters {
        transport: Transport::Udp,
        bitrate: Some(BitRate(5_000_000)),
        length: Some(Bytes(1200)),
        ..for_half_a_second()
    };
    assert!(run(&options(server.address, udp)).is_ok());
}
