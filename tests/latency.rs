//! Latency tests over loopback: real sockets, both ends in this process, peers that stall, die and talk garbage.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use encapbench::{
    measure::LatencyResult,
    sys::stop::Stop,
    traffic::{
        latency::{LatencyError, LatencyEvent, LatencyOptions},
        rr_server::{LatencyServer, Served},
        rr_wire::{
            ANSWER_LENGTH, Answer, DATAGRAM_HEADER, HELLO_LENGTH, Hello, Refusal, Token, read_datagram_header,
        },
        tcp_crr, tcp_rr, udp_rr,
    },
    units::EventRate,
};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const TOKEN: Token = Token::new(*b"agreed beforehnd");
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A server in a thread of its own; stopped at the end.
struct Serving {
    address: SocketAddr,
    stop: Stop,
    thread: JoinHandle<Result<Served, LatencyError>>,
}

impl Serving {
    fn at(address: SocketAddr) -> Self {
        let server = LatencyServer::bind(address, TOKEN).unwrap();
        let stop = Stop::new().unwrap();
        let stopped = stop.clone();
        Self {
            address: server.address(),
            stop,
            thread: thread::spawn(move || server.serve(&stopped)),
        }
    }

    fn end(self) -> Served {
        self.stop.stop();
        self.thread.join().unwrap().unwrap()
    }
}

fn options(address: SocketAddr) -> LatencyOptions {
    LatencyOptions {
        address,
        bind: None,
        token: TOKEN,
        request: 1,
        response: 1,
        duration: Duration::from_millis(300),
        omit: Duration::from_millis(50),
        rate: None,
        connect_timeout: Duration::from_secs(5),
        congestion: None,
    }
}

fn at_rate(address: SocketAddr, rate: u32, duration: Duration) -> LatencyOptions {
    LatencyOptions {
        rate: EventRate::new(rate),
        duration,
        ..options(address)
    }
}

fn rr(options: &LatencyOptions) -> Result<LatencyResult, LatencyError> {
    tcp_rr::run(options, &Stop::new().unwrap(), &mut |_| {})
}

fn crr(options: &LatencyOptions) -> Result<LatencyResult, LatencyError> {
    tcp_crr::run(options, &Stop::new().unwrap(), &mut |_| {})
}

/// A peer that agrees to one `tcp-rr` test and then does what it is told.
fn peer(then: impl FnOnce(TcpStream, Hello) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, seen) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut hello = [0; HELLO_LENGTH];
        stream.read_exact(&mut hello).unwrap();
        let hello = Hello::decode(&hello).unwrap();
        stream
            .write_all(&Answer::Accepted { seen, session: 0 }.encode())
            .unwrap();
        then(stream, hello);
    });
    (address, thread)
}

#[test]
fn a_closed_loop_counts_what_it_times() {
    let serving = Serving::at(ANY);
    let mut events = Vec::new();
    let result = tcp_rr::run(&options(serving.address), &Stop::new().unwrap(), &mut |event| {
        events.push(event);
    })
    .unwrap();
    assert!(result.transactions > 100, "{}", result.transactions);
    assert_eq!(result.latency.count(), result.transactions);
    assert_eq!((result.unanswered, result.saturated), (0, 0));
    assert_eq!(result.send_lag, None);
    assert!((result.seconds - 0.3).abs() < 1e-9, "{}", result.seconds);
    assert_eq!(result.peer_address, ANY.ip());
    assert!(result.mss.is_some_and(|mss| mss > 500));
    assert!(result.path_mtu >= result.mss, "{:?}", result.path_mtu);
    // The latencies of one outstanding request fill the time and no more.
    let spent = result.latency.mean().unwrap() * result.transactions as f64 / 1e9;
    assert!(spent > 0.01 && spent < 0.5, "{spent}");
    assert!(matches!(events[0], LatencyEvent::Connected { local, seen } if local == seen));
    let served = serving.end();
    assert!(served.transactions >= result.transactions);
    assert_eq!(served.strangers, 0);
    // Two bytes each, and hello and answer.
    assert_eq!(
        result.total_bytes,
        2 * served.transactions + (HELLO_LENGTH + ANSWER_LENGTH) as u64
    );
}

#[test]
fn large_and_unlike_sizes_are_carried_whole() {
    let serving = Serving::at(ANY);
    for (request, response) in [(65536, 1), (1, 65536), (65536, 65536), (1000, 3)] {
        for rate in [None, EventRate::new(200)] {
            let options = LatencyOptions {
                request,
                response,
                rate,
                ..options(serving.address)
            };
            let result = rr(&options).unwrap();
            assert!(result.transactions >= 50, "{}", result.transactions);
            assert_eq!(result.unanswered, 0);
        }
    }
    serving.end();
}

#[test]
fn ipv6_and_a_bound_source_are_seen_by_the_server() {
    let serving = Serving::at(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    assert_eq!(
        rr(&options(serving.address)).unwrap().peer_address,
        Ipv6Addr::LOCALHOST
    );
    serving.end();

    let serving = Serving::at(ANY);
    let source = Ipv4Addr::new(127, 0, 0, 77).into();
    let bound = LatencyOptions {
        bind: Some(source),
        ..options(serving.address)
    };
    assert_eq!(rr(&bound).unwrap().peer_address, source);
    serving.end();
}

#[test]
fn an_open_loop_sends_all_that_is_due() {
    let serving = Serving::at(ANY);
    let result = rr(&at_rate(serving.address, 1000, Duration::from_secs(1))).unwrap();
    assert_eq!(result.transactions, 1000);
    assert_eq!(result.latency.count(), 1000);
    assert_eq!(result.unanswered, 0);
    let lag = result.send_lag.unwrap();
    assert_eq!(lag.count(), 1000);
    // From the due time: no latency is without its lag.
    assert!(result.latency.max() >= lag.min());
    serving.end();
}

#[test]
fn a_stall_counts_for_every_request_that_it_held_up() {
    let (address, thread) = peer(|mut stream, hello| {
        let mut answered = 0;
        let mut byte = [0; 1];
        assert_eq!((hello.request, hello.response), (1, 1));
        while stream.read(&mut byte).is_ok_and(|count| count > 0) {
            answered += 1;
            if answered == 300 {
                thread::sleep(Duration::from_millis(200));
            }
            if stream.write_all(&byte).is_err() {
                break;
            }
        }
    });
    let result = rr(&at_rate(address, 1000, Duration::from_secs(1))).unwrap();
    thread.join().unwrap();
    assert_eq!(result.transactions, 1000);
    // 200 were due in those 200 ms; half of them waited longer than 100 ms, which a closed loop would show once.
    let histogram = result.latency.whole().unwrap();
    let slow = histogram.count_between(100_000_000, u64::MAX);
    assert!(slow >= 95, "{slow}");
    let held = histogram.count_between(10_000_000, u64::MAX);
    assert!(held >= 180, "{held}");
    // They were sent on time all the same; the stall was not the sender's.
    let lag = result.send_lag.unwrap();
    assert!(lag.quantile(0.5) < Some(10_000_000), "{:?}", lag.quantile(0.5));
}

#[test]
fn a_full_send_buffer_shows_as_lag_and_as_unanswered() {
    let (address, thread) = peer(|stream, _| {
        // It never reads.
        thread::sleep(Duration::from_secs(3));
        drop(stream);
    });
    let options = LatencyOptions {
        request: 65536,
        omit: Duration::ZERO,
        ..at_rate(address, 1000, Duration::from_secs(1))
    };
    let error = rr(&options).unwrap_err();
    assert!(matches!(error, LatencyError::Silent { .. }), "{error}");
    let partial = error.partial().unwrap();
    assert_eq!((partial.transactions, partial.unanswered), (0, 1000));
    let lag = partial.send_lag.as_ref().unwrap();
    assert_eq!(lag.count(), 1000, "none is lost");
    assert!(lag.max() > Some(500_000_000), "{:?}", lag.max());
    thread.join().unwrap();
}

#[test]
fn a_peer_that_dies_leaves_what_was_measured() {
    for rate in [None, EventRate::new(1000)] {
        let (address, thread) = peer(|mut stream, _| {
            let mut byte = [0; 1];
            let until = Instant::now() + Duration::from_millis(300);
            while Instant::now() < until && stream.read(&mut byte).is_ok() {
                stream.write_all(&byte).unwrap();
            }
        });
        let options = LatencyOptions {
            duration: Duration::from_secs(20),
            rate,
            ..options(address)
        };
        let began = Instant::now();
        let error = rr(&options).unwrap_err();
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it does not wait for the end"
        );
        assert!(matches!(error, LatencyError::PeerGone { .. }), "{error}");
        let partial = error.partial().unwrap();
        assert!(partial.transactions > 50, "{}", partial.transactions);
        assert!(
            partial.seconds > 0.1 && partial.seconds < 5.0,
            "{}",
            partial.seconds
        );
        thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_falls_silent_does_not_hang_the_test() {
    let (address, thread) = peer(|mut stream, _| {
        let mut byte = [0; 1];
        for _ in 0..200 {
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
        // Reads on until the other end shuts, and answers nothing.
        while stream.read(&mut byte).is_ok_and(|count| count > 0) {}
    });
    let options = LatencyOptions {
        omit: Duration::ZERO,
        ..options(address)
    };
    let result = rr(&options).unwrap();
    assert_eq!((result.transactions, result.unanswered), (200, 1));
    thread.join().unwrap();
}

#[test]
fn a_stopped_test_ends_at_once_with_what_it_has() {
    let serving = Serving::at(ANY);
    for rate in [None, EventRate::new(2)] {
        let stop = Stop::new().unwrap();
        let stopper = stop.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            stopper.stop();
        });
        let options = LatencyOptions {
            duration: Duration::from_secs(30),
            omit: Duration::ZERO,
            rate,
            ..options(serving.address)
        };
        let began = Instant::now();
        let error = tcp_rr::run(&options, &stop, &mut |_| {}).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(matches!(error, LatencyError::Stopped { .. }), "{error}");
        let partial = error.partial().unwrap();
        assert!(partial.transactions >= 1);
        assert!(
            partial.seconds >= 0.2 && partial.seconds < 5.0,
            "{}",
            partial.seconds
        );
        thread.join().unwrap();
    }
    serving.end();
}

#[test]
fn strangers_are_refused_and_disturb_no_test() {
    let serving = Serving::at(ANY);
    let address = serving.address;
    let test = thread::spawn(move || rr(&at_rate(address, 500, Duration::from_secs(1))));
    thread::sleep(Duration::from_millis(100));
    // More than may wait at a time: silent, slow, wordy, and binary ones.
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    silent[99].write_all(b"encap").unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &vec![0xff; 100_000],
        b"\x16\x03\x01",
        b"encaplataaaaaa",
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "strangers hear nothing");
    }
    let result = test.join().unwrap().unwrap();
    assert_eq!((result.transactions, result.unanswered), (500, 0));
    // A new test is still taken.
    assert!(rr(&options(address)).unwrap().transactions > 0);
    let served = serving.end();
    assert!(served.strangers >= 40, "{}", served.strangers);
}

#[test]
fn another_token_version_or_program_is_told_apart() {
    let serving = Serving::at(ANY);
    let other = LatencyOptions {
        token: Token::new([0; 16]),
        ..options(serving.address)
    };
    let error = rr(&other).unwrap_err();
    assert!(
        matches!(
            error,
            LatencyError::Refused {
                refusal: Refusal::Token,
                ..
            }
        ),
        "{error}"
    );
    let mut hello = [0; HELLO_LENGTH];
    hello[..8].copy_from_slice(b"encaplat");
    hello[9] = 2;
    let mut stream = TcpStream::connect(serving.address).unwrap();
    stream.write_all(&hello).unwrap();
    let mut answer = [0; ANSWER_LENGTH];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Answer::decode(&answer), Ok(Answer::Refused(Refusal::Version)));
    assert_eq!(serving.end().strangers, 2);

    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[b'S'; 100]).unwrap();
        stream
    });
    let error = rr(&options(address)).unwrap_err();
    assert!(matches!(error, LatencyError::NotOurs { .. }), "{error}");
    drop(thread.join().unwrap());
}

#[test]
fn what_never_answers_is_given_up() {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let options = LatencyOptions {
        connect_timeout: Duration::from_millis(200),
        ..options(address)
    };
    let began = Instant::now();
    let error = rr(&options).unwrap_err();
    assert!(matches!(error, LatencyError::Agree { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(listener);
    let error = rr(&options).unwrap_err();
    assert!(matches!(error, LatencyError::Connect { .. }), "{error}");
}

#[test]
fn options_that_cannot_be_are_refused() {
    let serving = Serving::at(ANY);
    for (request, response) in [(0, 1), (1, 0), (65537, 1)] {
        let options = LatencyOptions {
            request,
            response,
            ..options(serving.address)
        };
        assert!(matches!(rr(&options), Err(LatencyError::Size { .. })));
    }
    let options = LatencyOptions {
        congestion: Some("no-such-algorithm".to_owned()),
        ..options(serving.address)
    };
    assert!(matches!(rr(&options), Err(LatencyError::Congestion { .. })));
    serving.end();
}

#[test]
fn connections_are_made_and_closed_and_none_is_left() {
    let serving = Serving::at(ANY);
    for (request, response) in [(1, 1), (65536, 65536)] {
        let options = LatencyOptions {
            request,
            response,
            bind: Some(Ipv4Addr::new(127, 0, 0, 78).into()),
            ..options(serving.address)
        };
        let result = crr(&options).unwrap();
        assert!(result.transactions > 20, "{}", result.transactions);
        assert_eq!(result.latency.count(), result.transactions);
        assert_eq!(result.unanswered, 0);
        assert_eq!(result.peer_address, Ipv4Addr::new(127, 0, 0, 78));
        assert!(result.path_mtu >= result.mss && result.mss > Some(500));
    }
    let port = serving.address.port();
    let served = serving.end();
    assert!(served.transactions > 40);
    assert_eq!(served.strangers, 0);
    // TIME_WAIT is state 06; it would use up the ports of a longer test.
    let waiting = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let suffix = format!(":{port:04X}");
    let waiting = waiting.lines().filter(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let mut addresses = fields.iter().skip(1).take(2);
        addresses.any(|address| address.ends_with(&suffix)) && fields.get(3) == Some(&"06")
    });
    // The one that agreed is closed by the server, in order.
    assert!(waiting.count() <= 2);
}

#[test]
fn connections_are_begun_when_they_are_due() {
    let serving = Serving::at(ANY);
    let result = crr(&at_rate(serving.address, 200, Duration::from_secs(1))).unwrap();
    assert_eq!((result.transactions, result.unanswered), (200, 0));
    assert_eq!(result.send_lag.unwrap().count(), 200);
    serving.end();
}

/// A `tcp-crr` server that does what it is told with the transaction of this number.
fn crr_peer(then: impl Fn(usize, &mut TcpStream) -> bool + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, seen) = listener.accept().unwrap();
        let mut hello = [0; HELLO_LENGTH];
        stream.read_exact(&mut hello).unwrap();
        stream
            .write_all(&Answer::Accepted { seen, session: 0 }.encode())
            .unwrap();
        let mut request = [0; HELLO_LENGTH + 1];
        for number in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            if stream.read_exact(&mut request).is_err() {
                break;
            }
            if !then(number, &mut stream) || stream.write_all(&[0]).is_err() {
                break;
            }
        }
    });
    (address, thread)
}

#[test]
fn a_stall_of_connections_counts_for_all_that_were_due() {
    let (address, thread) = crr_peer(|number, _| {
        if number == 50 {
            thread::sleep(Duration::from_millis(200));
        }
        number < 199
    });
    let options = LatencyOptions {
        omit: Duration::ZERO,
        ..at_rate(address, 200, Duration::from_secs(1))
    };
    // The peer answers 199 of 200 and goes, to end.
    let error = crr(&options).unwrap_err();
    thread.join().unwrap();
    let partial = error.partial().unwrap();
    assert_eq!(partial.transactions, 199);
    // 40 were due in those 200 ms.
    let held = partial
        .latency
        .whole()
        .unwrap()
        .count_between(10_000_000, u64::MAX);
    assert!(held >= 36, "{held}");
    let late = partial.send_lag.as_ref().unwrap();
    assert!(late.whole().unwrap().count_between(10_000_000, u64::MAX) >= 35);
}

#[test]
fn a_connecting_peer_that_dies_leaves_what_was_measured() {
    let (address, thread) = crr_peer(|number, _| number < 100);
    let options = LatencyOptions {
        omit: Duration::ZERO,
        duration: Duration::from_secs(20),
        ..options(address)
    };
    let error = crr(&options).unwrap_err();
    assert!(matches!(error, LatencyError::PeerGone { .. }), "{error}");
    let partial = error.partial().unwrap();
    assert_eq!((partial.transactions, partial.unanswered), (100, 1));
    thread.join().unwrap();
}

#[test]
fn a_connection_that_takes_too_long_is_unanswered() {
    let (address, thread) = crr_peer(|number, _| {
        if number == 10 {
            thread::sleep(Duration::from_millis(300));
        }
        number < 20
    });
    let options = LatencyOptions {
        omit: Duration::ZERO,
        duration: Duration::from_secs(20),
        connect_timeout: Duration::from_millis(100),
        ..options(address)
    };
    let error = crr(&options).unwrap_err();
    thread.join().unwrap();
    let partial = error.partial().unwrap();
    // The tenth timed out; those begun while the peer slept too, and the peer then finds them closed.
    assert!(partial.transactions >= 10, "{}", partial.transactions);
    assert!(partial.unanswered >= 2, "{}", partial.unanswered);
}

#[test]
fn strangers_do_not_disturb_connections() {
    let serving = Serving::at(ANY);
    let address = serving.address;
    let test = thread::spawn(move || crr(&at_rate(address, 300, Duration::from_secs(1))));
    thread::sleep(Duration::from_millis(100));
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut silent[50..] {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    }
    let result = test.join().unwrap().unwrap();
    assert_eq!((result.transactions, result.unanswered), (300, 0));
    drop(silent);
    let served = serving.end();
    assert!(served.strangers >= 50, "{}", served.strangers);
}

fn udp(options: &LatencyOptions) -> Result<LatencyResult, LatencyError> {
    udp_rr::run(options, &Stop::new().unwrap(), &mut |_| {})
}

#[test]
fn datagrams_are_answered_in_both_loops() {
    for address in [ANY, SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
        let serving = Serving::at(address);
        let closed = udp(&options(serving.address)).unwrap();
        assert!(closed.transactions > 100, "{}", closed.transactions);
        assert_eq!(closed.latency.count(), closed.transactions);
        assert_eq!((closed.unanswered, closed.peer_address), (0, address.ip()));
        let large = LatencyOptions {
            request: 65000,
            response: 20,
            ..at_rate(serving.address, 200, Duration::from_millis(500))
        };
        let open = udp(&large).unwrap();
        assert_eq!((open.transactions, open.unanswered), (100, 0));
        assert_eq!(open.send_lag.unwrap().count(), 100);
        serving.end();
    }
}

/// A `udp-rr` server that answers each datagram as often as it is told.
fn udp_peer(times: impl Fn(u64) -> usize + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, seen) = listener.accept().unwrap();
        let mut hello = [0; HELLO_LENGTH];
        stream.read_exact(&mut hello).unwrap();
        stream
            .write_all(&Answer::Accepted { seen, session: 42 }.encode())
            .unwrap();
        stream.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut datagram = [0; 100];
        // Until the client closes the agreement.
        while stream.read(&mut [0]).is_err() {
            let Ok((count, peer)) = socket.recv_from(&mut datagram) else {
                continue;
            };
            let (session, sequence) = read_datagram_header(&datagram[..count]).unwrap();
            assert_eq!(session, 42);
            for _ in 0..times(sequence) {
                socket.send_to(&datagram[..count], peer).unwrap();
            }
            // Of no session: a stray one.
            socket.send_to(&[0xff; DATAGRAM_HEADER], peer).unwrap();
        }
    });
    (address, thread)
}

#[test]
fn lost_datagrams_are_counted_and_double_ones_are_not() {
    let (address, thread) = udp_peer(|sequence| if sequence % 10 == 3 { 0 } else { 2 });
    let options = LatencyOptions {
        omit: Duration::ZERO,
        ..at_rate(address, 100, Duration::from_secs(1))
    };
    let result = udp(&options).unwrap();
    assert_eq!((result.transactions, result.unanswered), (90, 10));
    assert_eq!(result.latency.count(), 90);
    thread.join().unwrap();
}

#[test]
fn a_closed_loop_gives_a_lost_datagram_up() {
    let (address, thread) = udp_peer(|sequence| usize::from(sequence != 20));
    let options = LatencyOptions {
        omit: Duration::ZERO,
        duration: Duration::from_secs(1),
        ..options(address)
    };
    let result = udp(&options).unwrap();
    assert_eq!(result.unanswered, 1);
    assert!(result.transactions > 25, "{}", result.transactions);
    assert!(result.latency.max() < Some(udp_rr::LOST.as_nanos() as u64));
    thread.join().unwrap();
}

#[test]
fn datagrams_of_strangers_are_not_answered() {
    let serving = Serving::at(ANY);
    let socket = UdpSocket::bind(ANY).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for datagram in [&b"hello"[..], &[0; DATAGRAM_HEADER], &[0x42; 1000]] {
        socket.send_to(datagram, serving.address).unwrap();
    }
    assert!(socket.recv(&mut [0; 100]).is_err());
    assert!(udp(&options(serving.address)).unwrap().transactions > 0);
    serving.end();
}

#[test]
fn a_server_that_ends_is_seen_by_datagrams() {
    for rate in [None, EventRate::new(500)] {
        let server = LatencyServer::bind(ANY, TOKEN).unwrap();
        let stop = Stop::new().unwrap();
        let options = LatencyOptions {
            omit: Duration::ZERO,
            duration: Duration::from_secs(20),
            rate,
            ..options(server.address())
        };
        let stopped = stop.clone();
        // The server is dropped with its thread, and its ports are closed.
        let serving = thread::spawn(move || server.serve(&stopped).map(|_| ()));
        let test = thread::spawn(move || udp(&options));
        thread::sleep(Duration::from_millis(300));
        stop.stop();
        serving.join().unwrap().unwrap();
        let error = test.join().unwrap().unwrap_err();
        assert!(matches!(error, LatencyError::PeerGone { .. }), "{error}");
        assert!(error.partial().unwrap().transactions > 50);
    }
}
