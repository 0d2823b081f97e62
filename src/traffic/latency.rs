//! What latency tests share: options, errors, events, the connection's beginning, and the thread that conducts.

use super::rr_wire::{ANSWER_LENGTH, Answer, HELLO_LENGTH, Hello, Kind, LARGEST, Refusal, Token, WireError};
use crate::{
    measure::{HistogramError, LatencyHistogram, LatencyResult, ProcessCpu},
    sys::{clock, stop::Stop},
    units::EventRate,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long after the last request was due answers are still waited for.
pub const GRACE: Duration = Duration::from_secs(1);
/// How often [`LatencyEvent::Progress`] is told.
const TICK: Duration = Duration::from_secs(1);

/// What to test.
#[derive(Debug, Clone)]
pub struct LatencyOptions {
    /// Where the [`super::rr_server::LatencyServer`] listens.
    pub address: SocketAddr,
    /// The address to send from; the kernel's choice if left out.
    pub bind: Option<IpAddr>,
    /// What both ends were told.
    pub token: Token,
    /// Bytes of a request: 1 to 65536.
    pub request: u32,
    /// Bytes of a response: 1 to 65536.
    pub response: u32,
    /// How long is measured, after `omit`.
    pub duration: Duration,
    /// Warm-up before it that counts for nothing.
    pub omit: Duration,
    /// Open loop at this rate; closed loop if left out.
    pub rate: Option<EventRate>,
    /// How long connecting and agreeing may take together.
    pub connect_timeout: Duration,
    /// The congestion control algorithm to set; the kernel's default if left out.
    pub congestion: Option<String>,
}

/// What is told while a test runs, by the calling thread.
#[derive(Debug, Clone, PartialEq)]
pub enum LatencyEvent {
    /// Both ends agreed; the warm-up begins.
    Connected {
        /// This end's address.
        local: SocketAddr,
        /// The same, as the answering end saw it.
        seen: SocketAddr,
    },
    /// Each second.
    Progress {
        /// Seconds since the test began, warm-up included.
        seconds: f64,
        /// Transactions until now, warm-up included.
        transactions: u64,
    },
}

/// Why a latency test or its server failed. Where something had been measured, it is in `partial`: times up to the
/// failure, never to be taken for a whole test.
#[derive(Debug, thiserror::Error)]
pub enum LatencyError {
    /// The server's address could not be had.
    #[error("failed to listen on {address}; is the address this machine's, and the port free?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The source address could not be had.
    #[error("failed to send from {address}; is it an address of this place?")]
    Bind {
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error(
        "failed to connect to {address}; is the answering worker running there, and is there a route to it?"
    )]
    Connect {
        /// The server's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The congestion control algorithm could not be set.
    #[error("failed to set congestion control to {algorithm:?}; see net.ipv4.tcp_allowed_congestion_control")]
    Congestion {
        /// The algorithm.
        algorithm: String,
        /// Why.
        source: io::Error,
    },
    /// A size that can't be.
    #[error(
        "requests of {request} and responses of {response} bytes can't be sent: each is {lowest} to {highest}"
    )]
    Size {
        /// Bytes of a request.
        request: u32,
        /// Bytes of a response.
        response: u32,
        /// The fewest that can be.
        lowest: u32,
        /// The most that can be.
        highest: u32,
    },
    /// The server said no.
    #[error("the latency server at {address} refused: {refusal}")]
    Refused {
        /// The server's address.
        address: SocketAddr,
        /// Its reason.
        refusal: Refusal,
    },
    /// Something else listens there.
    #[error("what listens at {address} did not answer as a latency server; is the port another program's?")]
    NotOurs {
        /// The server's address.
        address: SocketAddr,
        /// What was wrong.
        source: WireError,
    },
    /// It accepted the connection and never agreed.
    #[error("what listens at {address} did not agree to the test; is the port another program's?")]
    Agree {
        /// The server's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke while the test ran.
    #[error("the connection to {address} broke during the test; see why the worker there ended")]
    PeerGone {
        /// The server's address.
        address: SocketAddr,
        /// How it broke.
        source: io::Error,
        /// What had been measured.
        partial: Box<LatencyResult>,
    },
    /// Not one answer in the measured time.
    #[error(
        "{address} agreed to the test but answered nothing in the measured time; is the path cut, or too slow?"
    )]
    Silent {
        /// The server's address.
        address: SocketAddr,
        /// What had been measured: only what was not answered.
        partial: Box<LatencyResult>,
    },
    /// The test was stopped.
    #[error("the latency test to {address} was stopped before its end")]
    Stopped {
        /// The server's address.
        address: SocketAddr,
        /// What had been measured.
        partial: Box<LatencyResult>,
    },
    /// A histogram could not be made.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// A system call that doesn't fail, failed.
    #[error("failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl LatencyError {
    /// What had been measured before it failed.
    pub fn partial(&self) -> Option<&LatencyResult> {
        match self {
            Self::PeerGone { partial, .. } | Self::Silent { partial, .. } | Self::Stopped { partial, .. } => {
                Some(partial)
            }
            _ => None,
        }
    }

    pub(super) const fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// A connection on which both ends agreed.
pub(super) struct Agreed {
    pub(super) stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) seen: SocketAddr,
}

impl LatencyOptions {
    /// Refuses sizes that can't be.
    pub(super) fn check_sizes(&self, lowest: u32, highest: u32) -> Result<(), LatencyError> {
        let range = lowest..=highest.min(LARGEST);
        if range.contains(&self.request) && range.contains(&self.response) {
            return Ok(());
        }
        Err(LatencyError::Size {
            request: self.request,
            response: self.response,
            lowest,
            highest,
        })
    }

    /// The hello of this test.
    pub(super) const fn hello(&self, kind: Kind) -> Hello {
        Hello {
            kind,
            request: self.request,
            response: self.response,
            token: self.token,
        }
    }

    /// A TCP socket as this test wants it, bound but not connected.
    pub(super) fn socket(&self) -> Result<Socket, LatencyError> {
        let socket = Socket::new(
            Domain::for_address(self.address),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .map_err(LatencyError::system("make a TCP socket"))?;
        socket
            .set_tcp_nodelay(true)
            .map_err(LatencyError::system("set TCP_NODELAY"))?;
        if let Some(algorithm) = &self.congestion {
            socket
                .set_tcp_congestion(algorithm.as_bytes())
                .map_err(|source| LatencyError::Congestion {
                    algorithm: algorithm.clone(),
                    source,
                })?;
        }
        if let Some(address) = self.bind {
            socket
                .bind(&SockAddr::from(SocketAddr::new(address, 0)))
                .map_err(|source| LatencyError::Bind { address, source })?;
        }
        Ok(socket)
    }

    /// Connects and agrees.
    pub(super) fn agree(&self, kind: Kind) -> Result<Agreed, LatencyError> {
        let address = self.address;
        let deadline = Instant::now() + self.connect_timeout;
        let socket = self.socket()?;
        socket
            .connect_timeout(&SockAddr::from(address), self.connect_timeout)
            .map_err(|source| LatencyError::Connect { address, source })?;
        let mut stream = TcpStream::from(socket);
        let mut answer = [0; ANSWER_LENGTH];
        let hello: [u8; HELLO_LENGTH] = self.hello(kind).encode();
        stream
            .write_all(&hello)
            .and_then(|()| read_exact_by(&stream, &mut answer, deadline))
            .map_err(|source| LatencyError::Agree { address, source })?;
        let seen =
            match Answer::decode(&answer).map_err(|source| LatencyError::NotOurs { address, source })? {
                Answer::Accepted { seen, .. } => seen,
                Answer::Refused(refusal) => return Err(LatencyError::Refused { address, refusal }),
            };
        stream
            .set_read_timeout(None)
            .map_err(LatencyError::system("clear the read timeout"))?;
        let local = stream
            .local_addr()
            .map_err(LatencyError::system("read the socket's address"))?;
        Ok(Agreed { stream, local, seen })
    }
}

/// Fills `buffer` until a deadline.
fn read_exact_by(mut stream: &TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The measured time of a test, in nanoseconds of [`clock::now`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) begin: u64,
    pub(super) from: u64,
    pub(super) end: u64,
}

impl Window {
    /// From `begin` on, as the options say.
    pub(super) fn new(begin: u64, options: &LatencyOptions) -> Self {
        let from = begin + options.omit.as_nanos() as u64;
        Self {
            begin,
            from,
            end: from + options.duration.as_nanos() as u64,
        }
    }

    /// Seconds that were measured until `time`.
    fn seconds_until(&self, time: u64) -> f64 {
        time.min(self.end).saturating_sub(self.from) as f64 / 1e9
    }
}

/// What the working threads and the conducting one tell each other.
pub(super) struct Stage {
    /// Set when answers are waited for no longer.
    cut: AtomicBool,
    /// Stopped when the workers have ended.
    finished: Stop,
    /// Transactions until now.
    transactions: AtomicU64,
}

/// How a test came to its end.
#[derive(Debug)]
pub(super) enum Ending {
    /// Its time was over.
    Complete,
    /// The connection broke, at this time.
    Broken(io::Error, u64),
}

impl Stage {
    pub(super) fn new() -> Result<Self, LatencyError> {
        Ok(Self {
            cut: AtomicBool::new(false),
            finished: Stop::new().map_err(LatencyError::system("make an eventfd"))?,
            transactions: AtomicU64::new(0),
        })
    }

    /// Whether answers are waited for no longer.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Tells how many transactions there were until now.
    pub(super) fn tell(&self, transactions: u64) {
        self.transactions.store(transactions, Ordering::Relaxed);
    }

    /// Tells that the workers have ended.
    pub(super) fn finish(&self) {
        self.finished.stop();
    }

    /// What an error of the connection means: nothing, where it was shut because time is up.
    pub(super) fn ending(&self, error: io::Error) -> Ending {
        if self.is_cut() {
            Ending::Complete
        } else {
            Ending::Broken(error, clock::now())
        }
    }

    /// Waits until the workers have ended, time is up or the test is stopped; in the latter two it calls `shut`, which
    /// must wake the workers. Tells progress. Returns when it was stopped, if so.
    pub(super) fn conduct(
        &self,
        window: Window,
        stop: &Stop,
        shut: impl FnOnce(),
        on_event: &mut dyn FnMut(LatencyEvent),
    ) -> Option<u64> {
        let deadline = window.end + GRACE.as_nanos() as u64;
        let tick = TICK.as_nanos() as u64;
        let mut next = window.begin + tick;
        let stopped = loop {
            let now = clock::now();
            if self.finished.is_stopped() {
                return None;
            }
            if stop.is_stopped() {
                break Some(now);
            }
            if now >= deadline {
                break None;
            }
            if now >= next {
                on_event(LatencyEvent::Progress {
                    seconds: (now - window.begin) as f64 / 1e9,
                    transactions: self.transactions.load(Ordering::Relaxed),
                });
                next += tick * (1 + (now - next) / tick);
                continue;
            }
            let left = Duration::from_nanos(next.min(deadline) - now);
            let mut fds = [
                PollFd::new(&self.finished, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            // An interrupted poll is as good as one that timed out: all is looked at again.
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        };
        self.cut.store(true, Ordering::Release);
        shut();
        stopped
    }
}

/// The times of a test, counted.
pub(super) struct Tally {
    pub(super) latency: LatencyHistogram,
    pub(super) saturated: u64,
    /// Transactions, the warm-up's included.
    pub(super) all: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, HistogramError> {
        Ok(Self {
            latency: LatencyHistogram::new()?,
            saturated: 0,
            all: 0,
        })
    }

    /// Counts a transaction, and its time where it is of the measured part.
    pub(super) fn record(&mut self, nanos: u64, measured: bool) {
        self.all += 1;
        if measured {
            self.saturated += u64::from(self.latency.record(nanos));
        }
    }
}

/// All that a test's threads know at its end.
pub(super) struct Tested {
    pub(super) tally: Tally,
    pub(super) send_lag: Option<LatencyHistogram>,
    /// Requests of the measured time that had no answer, where the whole time passed.
    pub(super) unanswered: u64,
    pub(super) total_bytes: u64,
    pub(super) ending: Ending,
}

/// What the kernel says of the path.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PathFacts {
    pub(super) path_mtu: Option<u32>,
    pub(super) mss: Option<u32>,
}

impl PathFacts {
    pub(super) fn of(socket: &Socket) -> Self {
        Self {
            path_mtu: None,
            mss: socket.tcp_mss().ok(),
        }
    }
}

/// Puts the result together.
pub(super) fn conclude(
    options: &LatencyOptions,
    window: Window,
    tested: Tested,
    stopped: Option<u64>,
    seen: IpAddr,
    facts: PathFacts,
    cpu: ProcessCpu,
) -> Result<LatencyResult, LatencyError> {
    let address = options.address;
    let until = match (&tested.ending, stopped) {
        (Ending::Broken(_, time), _) => *time,
        (Ending::Complete, stopped) => stopped.unwrap_or(window.end),
    };
    let result = LatencyResult {
        transactions: tested.tally.latency.count(),
        seconds: window.seconds_until(until),
        latency: tested.tally.latency,
        send_lag: tested.send_lag,
        saturated: tested.tally.saturated,
        unanswered: tested.unanswered,
        total_bytes: tested.total_bytes,
        peer_address: seen.to_canonical(),
        path_mtu: facts.path_mtu,
        mss: facts.mss,
        process_user_seconds: cpu.user_seconds,
        process_system_seconds: cpu.system_seconds,
    };
    match tested.ending {
        Ending::Broken(source, _) => Err(LatencyError::PeerGone {
            address,
            source,
            partial: Box::new(result),
        }),
        Ending::Complete if stopped.is_some() => Err(LatencyError::Stopped {
            address,
            partial: Box::new(result),
        }),
        Ending::Complete if result.transactions == 0 => Err(LatencyError::Silent {
            address,
            partial: Box::new(result),
        }),
        Ending::Complete => Ok(result),
    }
}
