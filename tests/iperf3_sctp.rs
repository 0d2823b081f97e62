//! SCTP: our client and server with each other and with a stock iperf3, over loopback. Few kernels come with SCTP: where
//! this machine's lacks it, it is seen to be refused in words, and the rest runs under a kernel that has it.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics, a skip is told")]

#[path = "support/other_kernel.rs"]
mod other_kernel;
#[path = "support/iperf3_program.rs"]
mod program;
#[path = "support/json_shape.rs"]
mod shape;
#[path = "../src/skip.rs"]
mod skip;
#[path = "support/iperf3.rs"]
mod support;

use encapbench::iperf3::{
    client::{ClientError, Finish, TestParameters},
    server::ServerOptions,
    wire::Transport,
};
use program::{Server, Who, client, json, stock, stock_minor, text};
use shape::differences;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use support::{LONG, Running, by_hand, for_half_a_second, options, run};

fn association() -> std::io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::SCTP))
}

/// Whether this kernel has SCTP. The other one, where all tests run again, has it.
fn is_here() -> bool {
    let here = association().is_ok();
    assert!(here || !other_kernel::is_inside(), "Debian's kernel has SCTP");
    here
}

#[test]
fn all_of_it_runs_under_a_kernel_that_has_sctp() {
    if !is_here() {
        other_kernel::run_this_file();
    }
}

#[test]
fn a_kernel_without_sctp_is_named_and_the_rest_is_served() {
    if is_here() {
        return;
    }
    let expected = "no SCTP support available";
    let advice = "modprobe sctp";
    let server = Server::start(Who::Ours, &[]);
    let told = client(Who::Ours, server.port, &["--sctp"]);
    let said = text(&told.stderr);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        said.starts_with(&format!("iperf3: error - {expected}: ")) && said.contains(advice),
        "{said}"
    );
    let told = json(&client(Who::Ours, server.port, &["--sctp", "-J"]));
    assert!(
        told["error"].as_str().is_some_and(|error| error.contains(advice)),
        "{told}"
    );
    if stock() {
        let told = client(Who::Stock, server.port, &["--sctp"]);
        let said = text(&told.stderr);
        assert_eq!(told.status.code(), Some(1));
        assert!(said.contains(expected), "{said}");
    }
    for served in [&["-n", "1M"][..], &["-u", "-n", "100K", "-b", "20M"]] {
        assert!(client(Who::Ours, server.port, served).status.success());
    }
    let said = text(&server.terminate().stderr);
    assert!(
        !stock() || said.contains(expected) && said.contains(advice),
        "{said}"
    );
}

#[test]
fn a_client_does_not_trouble_a_server_over_sctp_that_it_lacks() {
    if is_here() {
        return;
    }
    let server = Running::start(ServerOptions::default());
    let test = TestParameters {
        transport: Transport::Sctp,
        ..for_half_a_second()
    };
    assert!(matches!(
        run(&options(server.address, test)),
        Err(ClientError::Connect(_))
    ));
    assert!(server.events.try_recv().is_err());
    // A client that can do it is told with iperf3's own number.
    let (mut control, _) = by_hand(server.address, 4, ASKS);
    let mut answer = Vec::new();
    control.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0xfe, 0, 0, 0, 18, 0, 0, 0, 0]);
}

const MODES: [&[&str]; 12] = [
    &["-t", "2"],
    &["-t", "2", "-R"],
    &["-t", "2", "--bidir"],
    &["-t", "2", "-P", "4"],
    &["-t", "2", "-R", "-P", "3", "--repeating-payload"],
    &["-t", "1", "-O", "1", "-b", "4M"],
    &["-n", "1M"],
    &["-n", "1M", "-R"],
    &["-k", "10", "-Z", "-T", "title"],
    &[
        "-t",
        "2",
        "-b",
        "4M/2",
        "-R",
        "-4",
        "-X",
        "127.0.0.2",
        "-X",
        "127.0.0.3",
    ],
    &["-t", "2", "-l", "1000", "--get-server-output"],
    &[
        "-t",
        "2",
        "-w",
        "64K",
        "-N",
        "-M",
        "1000",
        "--nstreams",
        "3",
        "-S",
        "0x20",
    ],
];

#[test]
fn every_mode_works_between_ours_and_stock() {
    if !is_here() {
        return;
    }
    let mut pairs = vec![(Who::Ours, Who::Ours)];
    if stock() {
        pairs.extend([(Who::Ours, Who::Stock), (Who::Stock, Who::Ours)]);
    }
    let check = |who: Who, at: Who, mode: &[&str]| {
        let server = Server::start(at, &["-1", "-J"]);
        let output = client(who, server.port, &[&["--sctp", "-J"], mode].concat());
        let document = json(&output);
        let context = format!("{who:?} at {at:?}, {mode:?}: {document:#}");
        assert!(
            output.status.success() && document["error"].is_null(),
            "{context}"
        );
        let start = &document["start"]["test_start"];
        assert_eq!(start["protocol"], "SCTP", "{context}");
        let length = if mode.contains(&"-l") { 1000 } else { 65_536 };
        assert_eq!(start["blksize"], length, "{context}");
        let bytes = |sum: &str| document["end"][sum]["bytes"].as_u64();
        assert!(bytes("sum_sent") > Some(0), "{context}");
        // On a slow machine a stock server may end its warm-up when all is over.
        assert!(
            bytes("sum_received") > Some(0) || at == Who::Stock && mode.contains(&"-O"),
            "{context}"
        );
        if mode.contains(&"--bidir") {
            assert!(bytes("sum_received_bidir_reverse") > Some(0), "{context}");
        }
        let streams = document["start"]["connected"].as_array().unwrap();
        if mode.contains(&"-X") {
            assert_eq!(streams[0]["local_host"], "127.0.0.2", "{context}");
        }
        if mode.contains(&"-n") && who == Who::Ours {
            assert!(bytes("sum_sent") >= Some(1 << 20), "{context}");
            // A stock server counts what has come when it hears of the end.
            assert!(
                at == Who::Stock && !mode.contains(&"-R") || bytes("sum_sent") == bytes("sum_received"),
                "{context}"
            );
        }
        let told = server.output();
        assert!(told.status.success(), "{context}\n{}", text(&told.stderr));
        let told = json(&told);
        assert!(told["error"].is_null(), "{context}\n{told:#}");
    };
    for (who, at) in pairs {
        for modes in MODES.chunks(2) {
            thread::scope(|scope| {
                for mode in modes {
                    scope.spawn(move || check(who, at, mode));
                }
            });
        }
    }
}

/// What newer releases than Debian's tell of an association.
const NEWER: [&str; 11] = [
    ".retransmits",
    ".snd_cwnd",
    ".snd_wnd",
    ".rtt",
    ".rttvar",
    ".pmtu",
    ".max_snd_cwnd",
    ".max_snd_wnd",
    ".max_rtt",
    ".min_rtt",
    ".mean_rtt",
];

/// As `json_has_the_keys_of_stock_in_every_mode` for TCP and UDP.
#[test]
fn json_has_the_keys_of_stock() {
    if !is_here() || !stock() {
        return;
    }
    for mode in [
        &["-t", "1", "-b", "4M"][..],
        &["-t", "1", "-b", "4M", "-R"],
        &["-t", "1", "-b", "4M", "--bidir", "-P", "2"],
    ] {
        let run = |who: Who, at: Who| {
            let server = Server::start(at, &["-1", "-J"]);
            let output = client(who, server.port, &[&["--sctp", "-J"], mode].concat());
            (json(&output), json(&server.output()))
        };
        let (stock_client, stock_server) = run(Who::Stock, Who::Stock);
        let (our_client, _) = run(Who::Ours, Who::Stock);
        let (_, our_server) = run(Who::Stock, Who::Ours);
        let mut found = [
            differences(&stock_client, &our_client),
            differences(&stock_server, &our_server),
        ]
        .concat();
        if stock_minor() < 18 {
            found.retain(|line| !NEWER.iter().any(|key| line.ends_with(&format!("{key} is new"))));
        }
        assert!(found.is_empty(), "{mode:?}:\n{}", found.join("\n"));
    }
}

/// The layout, numbers aside.
#[test]
fn text_has_the_layout_of_stock() {
    // Later releases print counts that have no column, of which one is what happened to be in memory (up to 3.22).
    if !is_here() || !stock() || stock_minor() > 12 {
        return;
    }
    // Words, with `#` for numbers.
    let layout = |said: &[u8]| -> Vec<String> {
        let mut lines = Vec::new();
        for line in text(said).lines() {
            let words: Vec<String> = line
                .split_whitespace()
                .map(|word| {
                    let number = word.starts_with(|c: char| c.is_ascii_digit());
                    if number { "#".to_owned() } else { word.to_owned() }
                })
                .collect();
            // Units follow the speed.
            let line = words.join(" ");
            let unit = |line: &str| line.replace("KBytes", "MBytes").replace("Kbits", "Mbits");
            let line = unit(&line);
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines
    };
    let run = |who: Who, at: Who| {
        let server = Server::start(at, &["-1"]);
        let output = client(who, server.port, &["--sctp", "-t", "2", "-b", "4M"]);
        (layout(&output.stdout), layout(&server.output().stdout))
    };
    let (stock_client, _) = run(Who::Stock, Who::Stock);
    let (our_client, _) = run(Who::Ours, Who::Stock);
    assert!(
        stock_client.iter().any(|line| line.ends_with("receiver")),
        "{stock_client:#?}"
    );
    assert_eq!(our_client, stock_client);
}

fn connect(address: SocketAddr) -> Socket {
    let socket = association().unwrap();
    socket.connect(&SockAddr::from(address)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

const ASKS: &str = "{\"sctp\":true,\"time\":1,\"parallel\":1,\"len\":65536}";

/// Silence, garbage, foreign cookies and the wrong transport: a test that opens its streams takes its own alone.
#[test]
fn strangers_are_kept_out_of_a_test() {
    if !is_here() {
        return;
    }
    let server = Running::start(ServerOptions::default());
    let (mut control, cookie) = by_hand(server.address, 5, ASKS);
    let mut state = [0; 1];
    control.read_exact(&mut state).unwrap();
    assert_eq!(state, [10]);
    let silent: Vec<Socket> = (0..50).map(|_| connect(server.address)).collect();
    let mut gone = connect(server.address);
    gone.write_all(&cookie.as_bytes()[..20]).unwrap();
    drop(gone);
    for garbage in [&[b'x'; 37][..], &[0; 5000]] {
        let mut foreign = connect(server.address);
        foreign.write_all(garbage).unwrap();
        let answer = foreign.read(&mut state);
        assert_eq!((answer.unwrap(), state), (1, [0xff]));
    }
    let mut tcp = TcpStream::connect(server.address).unwrap();
    tcp.write_all(cookie.as_bytes()).unwrap();
    tcp.read_exact(&mut state).unwrap();
    assert_eq!(state, [0xff]);
    let mut stream = connect(server.address);
    stream.write_all(cookie.as_bytes()).unwrap();
    let mut states = [0; 2];
    control.read_exact(&mut states).unwrap();
    assert_eq!(states, [1, 2]);
    drop(silent);
    // Nobody listens any more.
    let refused = association().unwrap().connect(&SockAddr::from(server.address));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop((stream, control));
    assert!(server.report().outcome.is_err());
}

/// A test that opens no stream makes room for one that waits; beside them TCP is served.
#[test]
fn a_stalled_test_makes_room() {
    if !is_here() {
        return;
    }
    let server = Running::start(ServerOptions::default());
    let (mut stalled, _) = by_hand(server.address, 6, ASKS);
    stalled.read_exact(&mut [0]).unwrap();
    let sctp = TestParameters {
        transport: Transport::Sctp,
        finish: Finish::After(Duration::from_secs(2)),
        ..TestParameters::default()
    };
    let began = Instant::now();
    let tcp = run(&options(server.address, for_half_a_second())).unwrap();
    assert!(tcp.result.streams[0].received_bytes > 0);
    let tests: Vec<_> = (0..4)
        .map(|_| {
            let (address, sctp) = (server.address, sctp.clone());
            thread::spawn(move || run(&options(address, sctp)).unwrap())
        })
        .collect();
    for test in tests {
        let outcome = test.join().unwrap();
        let stream = &outcome.result.streams[0];
        assert!(stream.received_bytes > 0 && stream.samples.last().unwrap().tcp.unwrap().path_mtu > 0);
    }
    assert!(began.elapsed() < 3 * LONG, "{:?}", began.elapsed());
    let mut answer = Vec::new();
    stalled.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0xfe, 0, 0, 0, 204, 0, 0, 0, 0]);
}
