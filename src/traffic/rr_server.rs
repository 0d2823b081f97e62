//! The answering end of latency tests.
//!
//! One thread waits for connections and hears what each is for; it takes no more than [`STRANGERS`] at a time that have
//! not said so, each for [`PATIENCE`], and when more come the one that has been silent longest goes. What it can't make
//! sense of it closes, and logs. Each `tcp-rr` test gets a thread of its own that waits in the kernel, so that nothing
//! here delays it, and all `udp-rr` tests together have one. The transactions of `tcp-crr` are answered by the first thread, since waking another one for each
//! would be measured too.

mod datagrams;

use self::datagrams::Sessions;
use super::{
    latency::LatencyError,
    rr_wire::{Answer, HELLO_LENGTH, Hello, Kind, Refusal, Token, WireError, may_begin},
    tcp_rr::payload,
};
use crate::sys::stop::Stop;
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
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

/// A connection that the first thread still looks after.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    since: Instant,
    stage: GuestStage,
}

enum GuestStage {
    /// It has not yet said what it is for.
    Hello { bytes: [u8; HELLO_LENGTH], have: usize },
    /// So many bytes of a `tcp-crr` request are yet to come; then so many go back.
    Request { left: usize, response: usize },
    /// So many bytes of the response are yet to go.
    Response { left: usize },
}

/// What became of a guest.
enum Outcome {
    /// More must come first.
    Read,
    /// There must be room first.
    Write,
    /// It wants a `tcp-rr` or `udp-rr` test.
    Test(Hello),
    /// Its `tcp-crr` request was answered.
    Answered,
    /// It agreed, and that was all.
    Agreed,
    /// It went away.
    Gone,
    /// It is none of ours.
    Stranger(&'static str),
}

/// The first thread.
struct Reception<'scope, 'env> {
    server: &'env LatencyServer,
    tests: &'env Tests,
    scope: &'scope thread::Scope<'scope, 'env>,
    epoll: std::os::fd::OwnedFd,
    guests: BTreeMap<u64, Guest>,
    answered: VecDeque<(TcpStream, Instant)>,
    next: u64,
    strangers: u64,
    scratch: Vec<u8>,
    responses: Vec<u8>,
}

impl<'scope, 'env> Reception<'scope, 'env> {
    fn new(
        server: &'env LatencyServer,
        tests: &'env Tests,
        scope: &'scope thread::Scope<'scope, 'env>,
    ) -> io::Result<Self> {
        Ok(Self {
            server,
            tests,
            scope,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            guests: BTreeMap::new(),
            answered: VecDeque::new(),
            next: STOP + 1,
            strangers: 0,
            scratch: vec![0; READ],
            responses: payload(READ),
        })
    }

    fn run(&mut self, stop: &Stop) -> io::Result<u64> {
        let data = epoll::EventData::new_u64;
        epoll::add(
            &self.epoll,
            &self.server.listener,
            data(LISTENER),
            epoll::EventFlags::IN,
        )?;
        epoll::add(&self.epoll, stop, data(STOP), epoll::EventFlags::IN)?;
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 16];
        while !stop.is_stopped() {
            let timeout = self.next_timeout(Instant::now());
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            let ready: Vec<u64> = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((ready, _)) => ready.iter().map(|event| event.data.u64()).collect(),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for id in ready {
                match id {
                    LISTENER => self.accept(stop),
                    STOP => {}
                    id => {
                        if let Some(guest) = self.guests.remove(&id) {
                            self.attend(id, guest, true);
                        }
                    }
                }
            }
            self.show_out(Instant::now());
        }
        Ok(self.strangers)
    }

    /// When somebody's patience ends next.
    fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let guest = self.guests.first_key_value().map(|(_, guest)| guest.since);
        let answered = self.answered.front().map(|(_, since)| *since);
        let first = [guest, answered].into_iter().flatten().min()?;
        Some((first + PATIENCE).saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Closes what took too long.
    fn show_out(&mut self, now: Instant) {
        while let Some(entry) = self.guests.first_entry() {
            if now.duration_since(entry.get().since) < PATIENCE {
                break;
            }
            let guest = entry.remove();
            self.refuse(&guest.peer, "it said nothing, or not enough, in time");
        }
        while let Some((_, since)) = self.answered.front() {
            if now.duration_since(*since) < PATIENCE {
                break;
            }
            self.answered.pop_front();
        }
    }

    fn accept(&mut self, stop: &Stop) {
        let (stream, peer) = match self.server.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                if !matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock) {
                    // Out of descriptors or memory: not to spin on it.
                    tracing::warn!(%error, "failed to accept a connection");
                    stop.wait(Duration::from_millis(10));
                }
                return;
            }
        };
        if let Err(error) = stream.set_nonblocking(true) {
            tracing::warn!(%error, "failed to set up a connection");
            return;
        }
        if self.guests.len() >= STRANGERS
            && let Some((_, oldest)) = self.guests.pop_first()
        {
            self.refuse(&oldest.peer, "it said nothing while many others came");
        }
        let id = self.next;
        self.next += 1;
        let guest = Guest {
            stream,
            peer,
            since: Instant::now(),
            stage: GuestStage::Hello {
                bytes: [0; HELLO_LENGTH],
                have: 0,
            },
        };
        self.attend(id, guest, false);
    }

    /// Goes on with a guest as far as it goes without waiting.
    fn attend(&mut self, id: u64, mut guest: Guest, watched: bool) {
        let outcome = loop {
            match guest.step(&mut self.scratch, &self.responses, &self.server.token) {
                Ok(Some(outcome)) => break outcome,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break match guest.stage {
                        GuestStage::Response { .. } => Outcome::Write,
                        _ => Outcome::Read,
                    };
                }
                Err(_) => break Outcome::Gone,
            }
        };
        match outcome {
            Outcome::Read => self.watch(id, guest, watched, epoll::EventFlags::IN),
            Outcome::Write => self.watch(id, guest, watched, epoll::EventFlags::OUT),
            Outcome::Test(hello) => self.begin_test(id, guest, hello),
            Outcome::Answered => {
                self.tests.transactions.fetch_add(1, Ordering::Relaxed);
                if self.answered.len() >= ANSWERED {
                    self.answered.pop_front();
                }
                if watched {
                    let _ = epoll::delete(&self.epoll, &guest.stream);
                }
                self.answered.push_back((guest.stream, Instant::now()));
            }
            Outcome::Agreed => {}
            Outcome::Gone if matches!(guest.stage, GuestStage::Hello { .. }) => {
                self.refuse(&guest.peer, "it went away without a word");
            }
            Outcome::Gone => tracing::debug!(peer = %guest.peer, "a tcp-crr connection broke"),
            Outcome::Stranger(why) => self.refuse(&guest.peer, why),
        }
    }

    fn watch(&mut self, id: u64, guest: Guest, watched: bool, interest: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(id);
        let watching = if watched {
            epoll::modify(&self.epoll, &guest.stream, data, interest)
        } else {
            epoll::add(&self.epoll, &guest.stream, data, interest)
        };
        match watching {
            Ok(()) => {
                self.guests.insert(id, guest);
            }
            Err(error) => tracing::warn!(%error, peer = %guest.peer, "failed to watch a connection"),
        }
    }

    fn begin_test(&mut self, id: u64, guest: Guest, hello: Hello) {
        let Guest { mut stream, peer, .. } = guest;
        let _ = epoll::delete(&self.epoll, &stream);
        let tests = self.tests;
        if tests.running().len() >= TESTS {
            let _ = stream.write_all(&Answer::Refused(Refusal::Busy).encode());
            self.refuse(&peer, "there are too many tests already");
            return;
        }
        let seen = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let begin = || {
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(SILENCE))?;
            let session = if hello.kind == Kind::UdpRr {
                Some(tests.sessions.begin(&hello)?)
            } else {
                stream.set_read_timeout(Some(SILENCE))?;
                None
            };
            let answer = Answer::Accepted {
                seen,
                session: session.unwrap_or_default(),
            };
            tests.running().insert(id, stream.try_clone()?);
            let begun = stream.write_all(&answer.encode()).and_then(|()| {
                thread::Builder::new()
                    .name(if session.is_some() { "udp-rr" } else { "tcp-rr" }.to_owned())
                    .spawn_scoped(self.scope, move || match session {
                        None => tests.answer(id, &stream, hello),
                        Some(session) => tests.keep(id, &stream, session),
                    })
            });
            if begun.is_err() {
                tests.running().remove(&id);
                tests.sessions.end(session.unwrap_or_default());
            }
            begun.map(|_| ())
        };
        if let Err(error) = begin() {
            tracing::warn!(%error, %peer, "failed to begin a test");
        }
    }

    fn refuse(&mut self, peer: &SocketAddr, why: &str) {
        self.strangers += 1;
        if self.strangers <= LOGGED {
            tracing::warn!(%peer, "refused a connection to the latency port: {why}; running tests go on");
        } else if self.strangers == LOGGED + 1 {
            tracing::warn!("refused more connections to the latency port; no more of them are logged");
        }
    }
}

impl Guest {
    /// One read or write; `None` where another may follow at once.
    fn step(&mut self, scratch: &mut [u8], responses: &[u8], token: &Token) -> io::Result<Option<Outcome>> {
        if let GuestStage::Response { left } = &mut self.stage {
            let count = self.stream.write(&responses[..*left])?;
            *left -= count;
            return Ok((*left == 0).then_some(Outcome::Answered));
        }
        let count = self.stream.read(scratch)?;
        if count == 0 {
            return Ok(Some(Outcome::Gone));
        }
        self.hear(&scratch[..count], token)
    }

    fn hear(&mut self, mut heard: &[u8], token: &Token) -> io::Result<Option<Outcome>> {
        if let GuestStage::Hello { bytes, have } = &mut self.stage {
            let count = heard.len().min(HELLO_LENGTH - *have);
            bytes[*have..*have + count].copy_from_slice(&heard[..count]);
            *have += count;
            heard = &heard[count..];
            if !may_begin(&bytes[..*have]) {
                return Ok(Some(Outcome::Stranger("it doesn't speak the latency protocol")));
            }
            if *have < HELLO_LENGTH {
                return Ok(None);
            }
            let bytes = *bytes;
            if let Some(outcome) = self.greet(&bytes, token)? {
                return Ok(Some(outcome));
            }
        }
        if let GuestStage::Request { left, response } = &mut self.stage {
            if heard.len() > *left {
                return Ok(Some(Outcome::Stranger("it sent more than its request")));
            }
            *left -= heard.len();
            if *left == 0 {
                self.stage = GuestStage::Response { left: *response };
            }
        }
        Ok(None)
    }

    /// Answers a whole hello; `None` where a `tcp-crr` request follows it.
    fn greet(&mut self, bytes: &[u8; HELLO_LENGTH], token: &Token) -> io::Result<Option<Outcome>> {
        let (refusal, why) = match Hello::decode(bytes) {
            Ok(hello) if hello.token != *token => (Refusal::Token, "its token is another"),
            Ok(hello) => match hello.kind {
                Kind::Rr | Kind::UdpRr => return Ok(Some(Outcome::Test(hello))),
                Kind::Crr => {
                    let seen = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
                    self.stream
                        .write_all(&Answer::Accepted { seen, session: 0 }.encode())?;
                    return Ok(Some(Outcome::Agreed));
                }
                Kind::CrrTransaction => {
                    self.stage = GuestStage::Request {
                        left: hello.request as usize,
                        response: hello.response as usize,
                    };
                    return Ok(None);
                }
            },
            Err(WireError::Version(_)) => (Refusal::Version, "its protocol has another version"),
            Err(_) => (Refusal::Request, "it asked for what there isn't"),
        };
        // A few bytes always fit into the buffer of a new connection.
        self.stream.write_all(&Answer::Refused(refusal).encode())?;
        Ok(Some(Outcome::Stranger(why)))
    }
}
