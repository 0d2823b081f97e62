//! Servers that mean no good: each is met with an end of our client in bounded time, and a name for what it did.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics, a skip is told")]

#[path = "support/hostile_results.rs"]
mod hostile_results;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::{
    iperf3::{
        client::{ClientError, ClientOptions, Finish, Flow, TestParameters},
        wire::{Transport, datagram, frame::frame},
    },
    units::{BitRate, Bytes},
};
use hostile_results::RESULTS;
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};
use support::{LONG, for_half_a_second, loopback, options, run};

/// What a hostile server does once a client is connected and its cookie read.
fn hostile_server(act: impl FnOnce(&TcpListener, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut control, _) = listener.accept().unwrap();
        control.set_read_timeout(Some(LONG)).unwrap();
        let mut cookie = [0; 37];
        control.read_exact(&mut cookie).unwrap();
        act(&listener, &mut control);
        // Until the client goes.
        let mut rest = Vec::new();
        let _ = control.read_to_end(&mut rest);
    });
    address
}

/// Reads a client's document.
fn document(control: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    control.read_exact(&mut length).unwrap();
    let mut document = vec![0; u32::from_be_bytes(length) as usize];
    control.read_exact(&mut document).unwrap();
    document
}

/// A server that is good until results are exchanged; gives the data connections.
fn good_until_the_end(listener: &TcpListener, control: &mut TcpStream, streams: usize) -> Vec<TcpStream> {
    control.write_all(&[9]).unwrap();
    document(control);
    control.write_all(&[10]).unwrap();
    let streams: Vec<_> = (0..streams)
        .map(|_| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 37]).unwrap();
            stream
        })
        .collect();
    control.write_all(&[1, 2]).unwrap();
    streams
}

fn drain(streams: Vec<TcpStream>) {
    for mut stream in streams {
        thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    }
}

fn impatient(address: SocketAddr) -> ClientOptions {
    ClientOptions {
        patience: Duration::from_secs(1),
        data_patience: Some(Duration::from_secs(1)),
        ..options(address, for_half_a_second())
    }
}

#[test]
fn every_hostile_server_ends_our_client_in_bounded_time() {
    type Act = Box<dyn FnOnce(&TcpListener, &mut TcpStream) + Send>;
    let say = |bytes: &'static [u8]| -> Act {
        Box::new(move |_, control| {
            let _ = control.write_all(bytes);
        })
    };
    let after_results = |say: Vec<u8>| -> Act {
        Box::new(move |listener, control| {
            drain(good_until_the_end(listener, control, 1));
            let _ = control.read_exact(&mut [0]);
            let _ = control.write_all(&[13]);
            document(control);
            let _ = control.write_all(&say);
        })
    };
    let mut cases: Vec<(&str, Act)> = vec![
        ("silence", say(b"")),
        ("garbage", say(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("states out of order", say(&[14, 13, 2, 1, 10, 9])),
        ("half an error", say(&[0xfe, 0, 0])),
        (
            "an error that is none",
            say(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("asks for parameters for ever", say(&[9, 9, 9, 9, 9, 9])),
        ("runs without streams", say(&[9, 1, 2])),
        (
            "floods",
            Box::new(|_, control| while control.write_all(&vec![2; 1 << 16]).is_ok() {}),
        ),
        (
            "takes streams and says nothing",
            Box::new(|listener, control| {
                control.write_all(&[9]).unwrap();
                document(control);
                control.write_all(&[10]).unwrap();
                let _ = listener.accept();
                thread::sleep(Duration::from_secs(2));
            }),
        ),
        (
            "closes the stream at once",
            Box::new(|listener, control| drop(good_until_the_end(listener, control, 1))),
        ),
        (
            "reads nothing and answers nothing",
            Box::new(|listener, control| {
                let streams = good_until_the_end(listener, control, 1);
                thread::sleep(Duration::from_secs(3));
                drop(streams);
            }),
        ),
        (
            "resets while data flows",
            Box::new(|listener, control| {
                let streams = good_until_the_end(listener, control, 1);
                SockRef::from(&*control).set_linger(Some(Duration::ZERO)).unwrap();
                for stream in &streams {
                    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }),
        ),
        ("no results", after_results(vec![])),
        ("results of no length", after_results(vec![0; 4])),
        ("endless results", after_results(vec![0xff; 4])),
        ("cut results", after_results(vec![0, 0, 1, 0, b'{'])),
        (
            "an error in place of results",
            after_results(vec![0xfe, 0, 0, 0, 117, 0, 0, 0, 0]),
        ),
    ];
    for results in RESULTS {
        // The one with an end of numbers and the one without streams can be taken as results; then no goodbye comes.
        cases.push((results, after_results(frame(results))));
    }
    let runs: Vec<_> = cases
        .into_iter()
        .map(|(name, act)| {
            let address = hostile_server(act);
            let name = name.to_owned();
            thread::spawn(move || {
                let began = Instant::now();
                let ended = run(&impatient(address));
                (name, began.elapsed(), ended)
            })
        })
        .collect();
    for thread in runs {
        let (name, took, ended) = thread.join().unwrap();
        assert!(took < LONG, "{name} took {took:?}");
        assert!(ended.is_err(), "{name}: {ended:?}");
    }
}

#[test]
fn results_at_the_ends_of_numbers_are_taken_and_told() {
    // Of many streams, so that sums would overflow.
    let streams: Vec<String> = [1, 3, 4]
        .iter()
        .map(|id| {
            format!(
                "{{\"id\":{id},\"bytes\":9223372036854775807,\"retransmits\":9223372036854775807,\"jitter\":1e308,\
                 \"errors\":9223372036854775807,\"packets\":9223372036854775807,\"omitted_errors\":-9223372036854775808,\
                 \"omitted_packets\":-9223372036854775808,\"start_time\":0,\"end_time\":1e-308}}"
            )
        })
        .collect();
    let document_text = format!(
        "{{\"cpu_util_total\":1e308,\"cpu_util_user\":1e308,\"cpu_util_system\":1e308,\"sender_has_retransmits\":1,\
         \"streams\":[{}]}}",
        streams.join(",")
    );
    let serve = || {
        let results = frame(&document_text);
        hostile_server(move |listener, control| {
            drain(good_until_the_end(listener, control, 3));
            control.read_exact(&mut [0]).unwrap();
            control.write_all(&[13]).unwrap();
            document(control);
            control.write_all(&results).unwrap();
            control.write_all(&[14]).unwrap();
        })
    };
    for form in [&[][..], &["-J"], &["--json-stream"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_encapbench"))
            .args([
                "iperf3",
                "-c",
                "127.0.0.1",
                "-t",
                "1",
                "-P",
                "3",
                "-b",
                "1M",
                "-p",
            ])
            .arg(serve().port().to_string())
            .args(form)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{form:?}: {said} {complained}");
        let words = |wanted: &str| {
            said.split(|c: char| !c.is_alphanumeric())
                .any(|word| word == wanted)
        };
        assert!(!words("inf") && !words("NaN") && !said.contains("-1,"), "{said}");
        assert!(!complained.contains("panic"), "{complained}");
        if form == ["-J"] {
            serde_json::from_str::<serde_json::Value>(&said).unwrap();
        }
    }
}

/// As riperf3's server: the port of a stream is closed for a moment after the one before it was answered.
#[test]
fn a_port_for_datagrams_that_opens_late_is_waited_for() {
    let address = hostile_server(|listener, control| {
        control.write_all(&[9]).unwrap();
        document(control);
        let address = listener.local_addr().unwrap();
        control.write_all(&[10]).unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(300));
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&address.into()).unwrap();
            let socket = UdpSocket::from(socket);
            let (_, client) = socket.recv_from(&mut [0; 8]).unwrap();
            socket.connect(client).unwrap();
            socket.send(&datagram::REPLY).unwrap();
            streams.push(socket);
        }
        control.write_all(&[1, 2]).unwrap();
        control.read_exact(&mut [0]).unwrap();
        control.write_all(&[13]).unwrap();
        let results = document(control);
        control
            .write_all(&frame(std::str::from_utf8(&results).unwrap()))
            .unwrap();
        control.write_all(&[14]).unwrap();
    });
    let udp = TestParameters {
        transport: Transport::Udp,
        bitrate: Some(BitRate(5_000_000)),
        length: Some(Bytes(1200)),
        streams: 2,
        ..for_half_a_second()
    };
    let outcome = run(&options(address, udp)).unwrap();
    assert_eq!(outcome.result.streams.len(), 2);
}

#[test]
fn a_server_that_sends_nothing_is_given_up() {
    let address = hostile_server(|listener, control| {
        let streams = good_until_the_end(listener, control, 1);
        thread::sleep(LONG);
        drop(streams);
    });
    let test = TestParameters {
        flow: Flow::Reverse,
        finish: Finish::Never,
        ..TestParameters::default()
    };
    let began = Instant::now();
    let error = run(&ClientOptions {
        data_patience: Some(Duration::from_secs(1)),
        ..options(address, test)
    });
    assert!(matches!(error, Err(ClientError::NoData { .. })), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(8));
}
