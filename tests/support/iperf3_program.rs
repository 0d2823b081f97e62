//! What tests of the iperf3 command share: starting servers and clients, ours and stock's, and reading what they say.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]
#![cfg_attr(test, allow(dead_code, reason = "each test file uses a part"))]

use serde_json::Value;
use std::{
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Who runs: the program under test or the stock one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Stock,
    Riperf3,
}

impl Who {
    pub(crate) fn command(self) -> Command {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_encapbench"));
                command.arg("iperf3");
                command
            }
            Self::Stock => Command::new("iperf3"),
            Self::Riperf3 => Command::new("riperf3"),
        };
        command.stdin(Stdio::null());
        command
    }
}

/// Whether there is a stock iperf3; says so loudly where not.
pub(crate) fn stock() -> bool {
    let there = Command::new("iperf3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        crate::skip::skip("iperf3 is not installed: nothing was compared with a stock peer");
    }
    there
}

/// The number after `3.` of the stock program's release.
pub(crate) fn stock_minor() -> u32 {
    let said = Who::Stock.command().arg("--version").output().unwrap();
    let said = text(&said.stdout);
    let release = said.split_whitespace().nth(1).unwrap();
    let minor = release.split('.').nth(1).unwrap();
    minor
        .trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap()
}

/// A port that nobody has: outside the range from which the kernel takes the local ports of connections, and never
/// the same twice in one process.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() * 41 % 20_000) as u16;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server, killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Option<Child>,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(who: Who, arguments: &[&str]) -> Self {
        let port = free_port();
        let child = who
            .command()
            .args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            child: Some(child),
            port,
        }
    }

    /// Waits for its end by itself.
    pub(crate) fn output(mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }

    /// Ends it with SIGTERM.
    pub(crate) fn terminate(self) -> Output {
        let id = self.child.as_ref().unwrap().id().cast_signed();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(id).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        self.output()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a client until its server is up.
pub(crate) fn client(who: Who, port: u16, arguments: &[&str]) -> Output {
    client_with(who, port, arguments, &[])
}

pub(crate) fn client_with(who: Who, port: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    // A server may take long to start where a processor is emulated.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = who
            .command()
            .args(["-c", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        if !said.contains("Connection refused") || Instant::now() > deadline {
            return output;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn client_once(arguments: &[&str]) -> Output {
    Who::Ours
        .command()
        .args(["-c", "127.0.0.1"])
        .args(arguments)
        .output()
        .unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr)))
}
