//! The server: one accept loop that never waits for a client, and a thread for each test.
//!
//! Every connection is first a stranger in the lobby, until its 37 bytes of cookie are there. A cookie that a test
//! waits for makes it a stream of that test; any other makes it the control connection of a new test. So tests run
//! side by side, and garbage or silence costs a place in the lobby for a bounded time and hurts nobody.

mod associations;
mod door;
mod lobby;
mod roster;
mod test;
mod watch;

use super::{
    link::{self, ControlLink, SocketOptions},
    session::{TestEvent, TestOutcome},
    wire::{Cookie, ErrorCode, Parameters, json::Json, server::Failure, server::Patience},
};
use crate::{
    sys::{event::Event, stop::Stop},
    traffic::{disk_file::DiskFile, stream::End},
};
use door::Gate;
use lobby::{Lobby, Stranger};
use roster::{Room, Roster, Stage};
use rustix::{
    event::{PollFd, PollFlags},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use test::Arrivals;

/// How long we read on after a refusal, so that it arrives.
const GOODBYE: Duration = Duration::from_secs(1);

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// How many ports are tried for one that is free for TCP and UDP.
const PORT_TRIES: u32 = 16;

/// What the server prints for a test, for a client that asked for it.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerOutput {
    /// As text.
    Text(String),
    /// As JSON.
    Json(Json),
}

/// Says whether a test may run.
pub type Admit = dyn Fn(&Parameters) -> Result<(), ErrorCode> + Send + Sync;

/// Makes the server's output of a test.
pub type Report = dyn Fn(&TestOutcome) -> ServerOutput + Send + Sync;

/// What others have a say in. Called on the thread of a test.
#[derive(Clone)]
pub struct Hooks {
    /// Whether a test may run; streams' threads are started by the thread this is called on.
    pub admit: Arc<Admit>,
    /// The server's output for a test, whose outcome has no results of the peer yet.
    pub output: Arc<Report>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// End after one test: the first whose parameters were accepted, however it ends.
    pub one_test: bool,
    /// Take only the test with this cookie; others are told that the server is busy.
    pub cookie: Option<Cookie>,
    /// Between samples; 100 ms is the house's.
    pub sample_interval: Duration,
    /// How long clients may take.
    pub patience: Patience,
    /// How long a stranger may take to send its cookie.
    pub cookie_patience: Duration,
    /// Tests at once; more are told that the server is busy.
    pub tests: usize,
    /// A test that moves more bits a second, both ways, averaged over this time, is ended.
    pub rate_limit: Option<(u64, Duration)>,
    /// A test in which nothing moves for so long is ended.
    pub data_patience: Option<Duration>,
    /// What others have a say in.
    pub hooks: Option<Hooks>,
    /// Strangers at once, and tests that have not sent their parameters; when more come, the one that has waited longest
    /// is dropped.
    pub strangers: usize,
    /// Whether an unspecified IPv6 address takes IPv6 alone.
    pub only_v6: bool,
    /// How sockets are made: device, timeout of what was sent, keepalive, and whether streams of multipath TCP are
    /// accepted beside plain ones, where the kernel has it.
    pub sockets: SocketOptions,
    /// What TCP streams send, or write what they receive to; tests of both directions at once are refused then.
    pub file: Option<DiskFile>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            one_test: false,
            cookie: None,
            sample_interval: Duration::from_millis(100),
            patience: Patience::default(),
            cookie_patience: Duration::from_secs(10),
            tests: 1000,
            rate_limit: None,
            data_patience: None,
            hooks: None,
            strangers: 256,
            only_v6: false,
            sockets: SocketOptions::default(),
            file: None,
        }
    }
}

/// What happens at a server.
#[derive(Debug)]
pub enum ServerEvent {
    /// A connection became a test's control connection.
    Admitted {
        /// The test.
        cookie: Cookie,
        /// The client.
        peer: SocketAddr,
    },
    /// A test's parameters were accepted.
    Accepted {
        /// The test.
        cookie: Cookie,
        /// What it does.
        parameters: Box<Parameters>,
    },
    /// Something happened in a test.
    Test {
        /// The test.
        cookie: Cookie,
        /// What.
        event: TestEvent,
    },
    /// A test is over.
    Finished(Box<ServerReport>),
    /// A connection came to nothing.
    Rejected {
        /// Who it was.
        peer: SocketAddr,
        /// Why.
        reason: Rejection,
    },
}

/// Why a connection came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It sent no whole cookie in time, or closed before.
    NoCookie,
    /// There is no room for another test, or its cookie is not the expected one: it was told that we are busy.
    Busy,
    /// Too many strangers: it had waited longest.
    Crowded,
}

/// A test that is over, as the server saw it.
#[derive(Debug)]
pub struct ServerReport {
    /// The test.
    pub cookie: Cookie,
    /// The client.
    pub peer: SocketAddr,
    /// What was measured, or why not.
    pub outcome: Result<TestOutcome, TestError>,
}

/// Why a server's test gave no whole result. Where data had flowed, what was measured is there.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// The conversation with the client failed.
    #[error("the test of {peer} failed")]
    Protocol {
        /// The client.
        peer: SocketAddr,
        /// How.
        #[source]
        source: Failure,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// A stream broke in the middle.
    #[error("stream {id} from {peer} broke: {}", super::client::describe(*.end))]
    StreamBroken {
        /// The stream's id.
        id: u32,
        /// The client.
        peer: SocketAddr,
        /// How.
        end: End,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// The system refused something.
    #[error("failed to {0}")]
    System(&'static str, #[source] io::Error),
}

impl TestError {
    /// What was measured before the test failed.
    pub fn measured(&self) -> Option<&TestOutcome> {
        match self {
            Self::Protocol { measured, .. } | Self::StreamBroken { measured, .. } => measured.as_deref(),
            Self::System(..) => None,
        }
    }
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can't be had.
    #[error("failed to listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The system refused something.
    #[error("failed to {0}")]
    System(&'static str, #[source] io::Error),
}

/// Streams that tests wait for, by cookie.
type Waiting = Arc<Mutex<HashMap<Cookie, Arc<Arrivals>>>>;

/// A server that is bound and listens.
#[derive(Debug)]
pub struct Server {
    listener: Arc<Socket>,
    address: SocketAddr,
    options: ServerOptions,
}

/// A test's thread, and how to tell it that it has to make room.
struct Worker {
    thread: thread::JoinHandle<()>,
    dismissed: Arc<AtomicBool>,
    wake: Arc<Event>,
}

impl Worker {
    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.wake.raise();
    }
}

/// What test threads tell the accept loop.
enum Note {
    Event(ServerEvent),
    /// The parameters of a test were accepted.
    Begun,
    /// A test's thread is done.
    Over(Cookie, Box<ServerReport>),
}

impl Server {
    /// Binds and listens; port 0 takes a free one. An unspecified IPv6 address takes IPv4 too, unless
    /// [`ServerOptions::only_v6`].
    ///
    /// # Errors
    /// Where the address can't be had.
    pub fn bind(address: SocketAddr, options: ServerOptions) -> Result<Self, ServerError> {
        let listen = || -> io::Result<(Socket, SocketAddr)> {
            let new = |protocol| Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol));
            // A listener of multipath TCP accepts plain TCP as such; a kernel without it has plain TCP alone.
            let socket = match new(options.sockets.protocol()) {
                Err(_) if options.sockets.mptcp => new(Protocol::TCP)?,
                socket => socket?,
            };
            socket.set_reuse_address(true)?;
            if let Some(device) = &options.sockets.device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            if address.is_ipv6() {
                socket.set_only_v6(options.only_v6 || !address.ip().is_unspecified())?;
            }
            socket.bind(&SockAddr::from(address))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let bound = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok((socket, bound))
        };
        let mut tries = 0;
        let (socket, address) = loop {
            let (socket, bound) = listen().map_err(|error| ServerError::Listen(address, error))?;
            tries += 1;
            // UDP streams come in at the same port, so a port that we pick must be free for them too.
            if address.port() != 0 || tries >= PORT_TRIES || UdpSocket::bind(bound).is_ok() {
                break (socket, bound);
            }
        };
        Ok(Self {
            listener: Arc::new(socket),
            address,
            options,
        })
    }

    /// The address it listens on, with the port that was taken.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until stopped, or until the one test is over. Running tests are told that the server terminates, and
    /// reported with what was measured.
    ///
    /// # Errors
    /// Where the system has no descriptor left to begin with.
    pub fn serve(&self, stop: &Stop, on_event: &mut dyn FnMut(ServerEvent)) -> Result<(), ServerError> {
        let system = |what| move |error| ServerError::System(what, error);
        let wake = Arc::new(Event::new().map_err(system("make an event"))?);
        let waiting = Waiting::default();
        let (notes, inbox) = mpsc::channel();
        let gate = Arc::new(Gate::default());
        // Guests, refused connections, and tests that only asked (two descriptors each) share half of the descriptors.
        let strangers = self.options.strangers.min(most_descriptors() / 8);
        let mut lobby = Lobby::new(self.options.cookie_patience, strangers);
        // Ends the tests when we end, also where that is after one test.
        let end = Stop::new().map_err(system("make a stop token"))?;
        let mut tests: Roster<Worker> = Roster::new(self.options.tests, strangers);
        let mut begun = false;
        loop {
            wake.clear();
            for note in inbox.try_iter() {
                match note {
                    Note::Event(event) => {
                        let now = Instant::now();
                        match &event {
                            ServerEvent::Accepted { cookie, .. } => {
                                tests.advance(cookie, Stage::Accepted, now);
                            }
                            ServerEvent::Test {
                                cookie,
                                event: TestEvent::Running(_),
                            } => tests.advance(cookie, Stage::Running, now),
                            _ => {}
                        }
                        on_event(event);
                    }
                    Note::Begun => begun = true,
                    Note::Over(cookie, report) => {
                        if let Some(worker) = tests.remove(&cookie) {
                            join(worker.thread);
                        }
                        on_event(ServerEvent::Finished(report));
                    }
                }
            }
            if stop.is_stopped() || self.options.one_test && begun && tests.is_empty() {
                break;
            }
            self.wait(&lobby, &wake, stop);
            if !lobby.accept(&self.listener)
                && let Some(cookie) = tests.oldest(Stage::Asked)
                && let Some(worker) = tests.dismiss(&cookie)
            {
                worker.dismiss();
            }
            for stranger in lobby.settle(Instant::now()) {
                match stranger {
                    Stranger::Gone(peer, reason) => on_event(ServerEvent::Rejected { peer, reason }),
                    Stranger::Known { socket, peer, cookie } => {
                        let mut refuse = |socket| {
                            lobby.refuse(socket);
                            on_event(ServerEvent::Rejected {
                                peer,
                                reason: Rejection::Busy,
                            });
                        };
                        let arrivals = lock(&waiting).get(&cookie).cloned();
                        if let Some(arrivals) = arrivals {
                            // A test that waits for no more streams refuses it.
                            if let Err(socket) = arrivals.push(socket) {
                                refuse(socket);
                            }
                            continue;
                        }
                        let unwanted = self.options.cookie.is_some_and(|wanted| wanted != cookie)
                            || self.options.one_test && begun
                            || tests.contains(&cookie);
                        let room = if unwanted {
                            Room::None
                        } else {
                            tests.room(Instant::now())
                        };
                        match room {
                            Room::None => {
                                refuse(socket);
                                continue;
                            }
                            Room::After(other) => {
                                if let Some(worker) = tests.dismiss(&other) {
                                    worker.dismiss();
                                }
                            }
                            Room::Here => {}
                        }
                        match self.admit(socket, peer, cookie, &waiting, &gate, &notes, &wake, &end) {
                            Ok(worker) => {
                                tests.insert(cookie, worker, Instant::now());
                                on_event(ServerEvent::Admitted { cookie, peer });
                            }
                            Err(error) => {
                                tracing::warn!(%peer, %error, "failed to start a test");
                                on_event(ServerEvent::Rejected {
                                    peer,
                                    reason: Rejection::Busy,
                                });
                            }
                        }
                    }
                }
            }
        }
        end.stop();
        for worker in tests.drain() {
            join(worker.thread);
        }
        for note in inbox.try_iter() {
            match note {
                Note::Event(event) => on_event(event),
                Note::Begun => {}
                Note::Over(_, report) => on_event(ServerEvent::Finished(report)),
            }
        }
        Ok(())
    }

    fn wait(&self, lobby: &Lobby, wake: &Event, stop: &Stop) {
        let (listener, wake, stop) = (self.listener.as_fd(), wake.as_fd(), stop.fd());
        let mut fds = vec![
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(&wake, PollFlags::IN),
            PollFd::new(&stop, PollFlags::IN),
        ];
        fds.extend(lobby.sockets().map(|socket| PollFd::new(socket, PollFlags::IN)));
        link::wait(&mut fds, lobby.timeout(Instant::now()));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what a test's thread shares with the accept loop, each once"
    )]
    fn admit(
        &self,
        socket: Socket,
        peer: SocketAddr,
        cookie: Cookie,
        waiting: &Waiting,
        gate: &Arc<Gate>,
        notes: &mpsc::Sender<Note>,
        wake: &Arc<Event>,
        end: &Stop,
    ) -> io::Result<Worker> {
        if let Err(error) = self.options.sockets.set_accepted(&socket, peer) {
            tracing::warn!(%peer, %error, "a control connection goes on without an option");
        }
        let test_wake = Arc::new(Event::new()?);
        let dismissed = Arc::new(AtomicBool::new(false));
        let test = test::Test {
            link: ControlLink::new(socket)?,
            peer,
            cookie,
            options: self.options.clone(),
            listener: self.options.one_test.then(|| Arc::clone(&self.listener)),
            ipv6: peer.is_ipv6(),
            address: self.address,
            waiting: Arc::clone(waiting),
            gate: Arc::clone(gate),
            notes: notes.clone(),
            wake_server: Arc::clone(wake),
            stop: end.clone(),
            wake: Arc::clone(&test_wake),
            dismissed: Arc::clone(&dismissed),
        };
        let thread = thread::Builder::new()
            .name("iperf3-test".to_owned())
            .spawn(move || test.run())?;
        Ok(Worker {
            thread,
            dismissed,
            wake: test_wake,
        })
    }
}

/// Raises the soft limit of descriptors to the hard one, and says how many there may be.
fn most_descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let most = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

fn join(thread: thread::JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a test's thread panicked");
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<Cookie, Arc<Arrivals>>> {
    // The map is whole whatever thread died while holding it.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
