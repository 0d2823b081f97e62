//! What tests of the iperf3 engine share: a stock peer, our server on a thread, our client.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg_attr(test, allow(dead_code, reason = "each test file uses a part"))]

use encapbench::{
    iperf3::{
        TestOutcome,
        client::{self, ClientError, ClientOptions, Finish, TestParameters},
        server::{Rejection, Server, ServerEvent, ServerOptions, ServerReport},
        wire::{Cookie, frame::frame},
    },
    sys::stop::Stop,
};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) const HALF: Duration = Duration::from_millis(500);
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether there is a stock iperf3; says so loudly where not.
pub(crate) fn stock() -> bool {
    let there = Command::new("iperf3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        crate::skip::skip("iperf3 is not installed: nothing was tested against a stock peer");
    }
    there
}

/// A stock server for one test, killed when dropped.
pub(crate) struct StockServer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl StockServer {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind(loopback(0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut child = Command::new("iperf3")
            .args(["-s", "-1", "--forceflush", "-B", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().contains("Server listening")),
            "the stock server did not start"
        );
        // It must be read on, or the server blocks.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: loopback(port),
        }
    }
}

impl Drop for StockServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our server on a thread; stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) events: mpsc::Receiver<ServerEvent>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(options: ServerOptions) -> Self {
        let server = Server::bind(loopback(0), options).unwrap();
        let (address, stop) = (server.local_addr(), Stop::new().unwrap());
        let (sender, events) = mpsc::channel();
        let token = stop.clone();
        let thread = thread::spawn(move || {
            server
                .serve(&token, &mut |event| {
                    let _ = sender.send(event);
                })
                .unwrap();
        });
        Self {
            address,
            stop,
            events,
            thread: Some(thread),
        }
    }

    /// The next test that is over.
    pub(crate) fn report(&self) -> ServerReport {
        loop {
            if let ServerEvent::Finished(report) = self.events.recv_timeout(LONG).unwrap() {
                return *report;
            }
        }
    }

    /// The next connection that came to nothing.
    pub(crate) fn rejection(&self) -> Rejection {
        loop {
            if let ServerEvent::Rejected { reason, .. } = self.events.recv_timeout(LONG).unwrap() {
                return reason;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Our server for one test, on a thread that outlives its caller.
pub(crate) fn our_server() -> (SocketAddr, mpsc::Receiver<ServerReport>) {
    let options = ServerOptions {
        one_test: true,
        ..ServerOptions::default()
    };
    let server = Server::bind(loopback(0), options).unwrap();
    let address = server.local_addr();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        server
            .serve(&Stop::new().unwrap(), &mut |event| {
                if let ServerEvent::Finished(report) = event {
                    let _ = sender.send(*report);
                }
            })
            .unwrap();
    });
    (address, receiver)
}

pub(crate) fn for_half_a_second() -> TestParameters {
    TestParameters {
        finish: Finish::After(HALF),
        ..TestParameters::default()
    }
}

pub(crate) fn options(address: SocketAddr, test: TestParameters) -> ClientOptions {
    ClientOptions {
        test,
        ..ClientOptions::new(address)
    }
}

pub(crate) fn run(options: &ClientOptions) -> Result<TestOutcome, ClientError> {
    client::run(options, &Stop::new().unwrap(), &mut |_| {})
}

/// Our client, where nothing may go wrong.
pub(crate) fn run_well(address: SocketAddr, test: TestParameters) -> TestOutcome {
    run(&options(address, test)).unwrap()
}

/// Our client against a stock server.
pub(crate) fn against_stock(test: TestParameters) -> Option<TestOutcome> {
    if !stock() {
        return None;
    }
    let server = StockServer::start();
    Some(run_well(server.address, test))
}

/// A stock client against our server: its JSON and our report.
pub(crate) fn stock_client(arguments: &[&str]) -> Option<(Value, TestOutcome)> {
    if !stock() {
        return None;
    }
    let (address, reports) = our_server();
    let Output { stdout, status, .. } = Command::new("iperf3")
        .args(["-c", "127.0.0.1", "-J", "-p", &address.port().to_string()])
        .args(arguments)
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&stdout).unwrap();
    assert!(status.success() && json.get("error").is_none(), "{json:#}");
    let report = reports.recv_timeout(LONG).unwrap();
    Some((json, report.outcome.unwrap()))
}

/// A client by hand: its control connection and cookie, after these parameters.
pub(crate) fn by_hand(address: SocketAddr, letter: u8, parameters: &str) -> (TcpStream, Cookie) {
    let cookie = Cookie::from_random([letter; 36]);
    let mut control = TcpStream::connect(address).unwrap();
    control.set_read_timeout(Some(LONG)).unwrap();
    control.write_all(cookie.as_bytes()).unwrap();
    let mut state = [0];
    control.read_exact(&mut state).unwrap();
    assert_eq!(state, [9]);
    control.write_all(&frame(parameters)).unwrap();
    (control, cookie)
}
