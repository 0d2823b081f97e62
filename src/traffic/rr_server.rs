//! The answering end of latency tests.
//!
//! One thread waits for connections and hears what each is for; it takes no more than [`STRANGERS`] at a time that have
//! not said so, each for [`PATIENCE`], and when more come the one that has been silent longest goes. What it can't make
//! sense of it closes, and logs. Each `tcp-rr` test gets a thread of its own that waits in the kernel, so that nothing
//! here delays it, and all `udp-rr` tests together have one. The transactions of `tcp-crr` are answered by the first thread, since waking another one for each
//! would be measured too.

mod datagrams;
mod guest;
mod reception;

use self::{datagrams::Sessions, reception::Reception};
use super::{
    latency::LatencyError,
    rr_wire::{HELLO_LENGTH, Hello, Token},
    tcp_rr::payload,
};
use crate::sys::stop::Stop;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The most connections at a time that have not yet said what they are for.
const STRANGERS: usize = 64;
/// How long a connection may take to say it, and to send a `tcp-crr` request.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most `tcp-rr` tests at a time.
const TESTS: usize = 64;
/// How long a `tcp-rr` client may be silent; longer than any test waits between requests.
const SILENCE: Duration = Duration::from_mins(2);
/// `tcp-crr` connections that were answered and wait for the client's close.
const ANSWERED: usize = 256;
/// How many ports are tried until one is free for TCP and UDP both.
const PORTS: u32 = 32;
/// How many strangers are logged one by one; more are counted only.
const LOGGED: u64 = 20;
/// Bytes read at once.
const READ: usize = 64 * 1024 + HELLO_LENGTH;

const LISTENER: u64 = 0;
const STOP: u64 = 1;

/// Answers latency tests.
#[derive(Debug)]
pub struct LatencyServer {
    listener: TcpListener,
    datagrams: UdpSocket,
    address: SocketAddr,
    token: Token,
}

/// What a server has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Requests answered, those of warm-ups included.
    pub transactions: u64,
    /// Connections that were no test: garbage, silence, another token or version.
    pub strangers: u64,
}

impl LatencyServer {
    /// Listens, on TCP and UDP; with port 0 on one that the kernel picks.
    ///
    /// # Errors
    /// Where the address is not this machine's or the port is taken.
    pub fn bind(address: SocketAddr, token: Token) -> Result<Self, LatencyError> {
        let mut tries = if address.port() == 0 { PORTS } else { 1 };
        loop {
            tries -= 1;
            match Self::listen(address, token) {
                Ok(server) => return Ok(server),
                // The port that the kernel picked for TCP may be another's for UDP.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                Err(source) => return Err(LatencyError::Listen { address, source }),
            }
        }
    }

    fn listen(address: SocketAddr, token: Token) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted connections inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(1024)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            datagrams: UdpSocket::bind(address)?,
            address,
            token,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port on which it listens.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers until stopped; then closes all connections.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for connections.
    pub fn serve(&self, stop: &Stop) -> Result<Served, LatencyError> {
        let tests = Tests::default();
        let strangers = thread::scope(|scope| {
            scope.spawn(|| {
                let answered = datagrams::answer(&self.datagrams, &tests.sessions, stop);
                tests.transactions.fetch_add(answered, Ordering::Relaxed);
            });
            let served = Reception::new(self, &tests, scope).and_then(|mut reception| reception.run(stop));
            if served.is_err() {
                // The other thread ends by it too.
                stop.stop();
            }
            tests.shut();
            served
        })
        .map_err(LatencyError::system("wait for connections"))?;
        Ok(Served {
            transactions: tests.transactions.load(Ordering::Relaxed),
            strangers,
        })
    }
}

/// The `tcp-rr` and `udp-rr` tests that run, and what was answered over all.
#[derive(Debug, Default)]
struct Tests {
    running: Mutex<BTreeMap<u64, TcpStream>>,
    sessions: Sessions,
    transactions: AtomicU64,
}

impl Tests {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shut(&self) {
        for stream in self.running().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Answers one test's requests until its client goes.
    fn answer(&self, id: u64, stream: &TcpStream, hello: Hello) {
        match answer_requests(stream, hello) {
            Ok(count) => {
                self.transactions.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "a tcp-rr connection broke"),
        }
        self.running().remove(&id);
    }

    /// Lets a session's datagrams be answered until its connection ends.
    fn keep(&self, id: u64, mut stream: &TcpStream, session: u64) {
        let mut byte = [0; 1];
        while matches!(stream.read(&mut byte), Err(error) if error.kind() == io::ErrorKind::Interrupted) {}
        self.sessions.end(session);
        self.running().remove(&id);
    }
}

fn answer_requests(mut stream: &TcpStream, hello: Hello) -> io::Result<u64> {
    let (request, response) = (hello.request as usize, hello.response as usize);
    let mut buffer = vec![0; request.max(READ)];
    // Requests that came at once are answered at once.
    let most = (READ / response).max(1);
    let responses = payload(response * most);
    let (mut have, mut answered) = (0, 0);
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(answered),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // An end by reset is an end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(answered),
            Err(error) => return Err(error),
        };
        have += count;
        while have >= request {
            let whole = (have / request).min(most);
            stream.write_all(&responses[..whole * response])?;
            have -= whole * request;
            answered += whole as u64;
        }
    }
}
