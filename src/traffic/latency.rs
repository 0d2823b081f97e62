//! What latency tests share: options, errors, events, the connection's beginning; the course of a test is in `stage`.

mod error;
mod stage;

pub use error::LatencyError;
pub(super) use stage::{Ending, Lag, PathFacts, Stage, Tally, Tested, Window, conclude, join};

use super::rr_wire::{ANSWER_LENGTH, Answer, HELLO_LENGTH, Hello, Kind, LARGEST, Token};
use crate::units::EventRate;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

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

/// A connection on which both ends agreed.
pub(super) struct Agreed {
    pub(super) stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) seen: SocketAddr,
    /// Of `udp-rr`.
    pub(super) session: u64,
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
        let (seen, session) =
            match Answer::decode(&answer).map_err(|source| LatencyError::NotOurs { address, source })? {
                Answer::Accepted { seen, session } => (seen, session),
                Answer::Refused(refusal) => return Err(LatencyError::Refused { address, refusal }),
            };
        stream
            .set_read_timeout(None)
            .map_err(LatencyError::system("clear the read timeout"))?;
        let local = stream
            .local_addr()
            .map_err(LatencyError::system("read the socket's address"))?;
        Ok(Agreed {
            stream,
            local,
            seen,
            session,
        })
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
