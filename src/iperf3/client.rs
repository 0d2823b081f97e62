//! The client: runs one test against a server, stock or ours.

mod datagrams;
mod error;
mod parameters;
mod streams;

pub(super) use self::error::describe;
use self::parameters::set_length;
pub use self::{
    error::ClientError,
    parameters::{Finish, Flow, TestParameters},
};
use super::{
    link::{self, ControlLink, Received, SocketOptions},
    session::{DataStream, Local, Session, TestEvent, TestOutcome, canonical},
    wire::{
        Cookie, Parameters, Transport,
        client::{Action, Client, Failure, Input, Phase},
        results::Results,
    },
};
use crate::{
    sys::{event::Event, stop::Stop},
    traffic::{disk_file::DiskFile, stream::End},
};
use rand::{TryRng as _, rngs::SysRng};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a broken stream waits for the server's word about it on the control connection.
const EXPLANATION: Duration = Duration::from_secs(1);

/// How long we read on after our goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where and how to run a test.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientOptions {
    /// The server.
    pub address: SocketAddr,
    /// The local address of all connections; the kernel's choice if `None`.
    pub bind: Option<IpAddr>,
    /// How sockets are made.
    pub sockets: SocketOptions,
    /// The test.
    pub test: TestParameters,
    /// The parameter document to send instead of the one made of `test`, where it has keys that `test` has no field
    /// for. What it has in common with `test` must agree.
    pub document: Option<Box<Parameters>>,
    /// Between samples; 100 ms is the house's.
    pub sample_interval: Duration,
    /// How long each connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the server may take for each answer.
    pub patience: Duration,
    /// The cookie; a random one if `None`.
    pub cookie: Option<Cookie>,
    /// Ask again where the answer to the opening of a UDP stream does not come. Only for servers of ours: a stock one
    /// takes the second for another stream, or for data.
    pub ask_again: bool,
    /// A test in which we receive is given up when nothing comes for so long.
    pub data_patience: Option<Duration>,
    /// What TCP sends, until its end where that comes first, or where it writes what it receives.
    pub file: Option<DiskFile>,
}

impl ClientOptions {
    /// The defaults: 10 s, one stream, forward, samples each 100 ms, 10 s patience.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            bind: None,
            sockets: SocketOptions::default(),
            test: TestParameters::default(),
            document: None,
            sample_interval: Duration::from_millis(100),
            connect_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(10),
            cookie: None,
            ask_again: false,
            data_patience: None,
            file: None,
        }
    }
}

/// Runs one test. `stop` ends it early: before data flows that is an error, after it the outcome says
/// `interrupted`.
///
/// # Errors
/// Names what failed: see [`ClientError`].
pub fn run(
    options: &ClientOptions,
    stop: &Stop,
    on_event: &mut dyn FnMut(TestEvent),
) -> Result<TestOutcome, ClientError> {
    let mut parameters = options.test.encode()?;
    if let Some(document) = &options.document {
        parameters = (**document).clone();
    }
    if options.test.transport == Transport::Sctp {
        // Better told before the server is troubled.
        link::stream_socket(options.address, socket2::Protocol::SCTP).map_err(ClientError::Connect)?;
    }
    let cookie = if let Some(cookie) = options.cookie {
        cookie
    } else {
        let mut random = [0; 36];
        SysRng
            .try_fill_bytes(&mut random)
            .map_err(|error| ClientError::System("draw a random cookie", io::Error::other(error)))?;
        Cookie::from_random(random)
    };
    let socket = link::connect(
        options.address,
        socket2::Protocol::TCP,
        options.bind.map(|ip| SocketAddr::new(ip, 0)),
        options.connect_timeout,
        stop,
        |socket| options.sockets.set_control(socket, options.address),
    )
    .map_err(ClientError::Connect)?;
    if options.test.transport == Transport::Udp && options.test.length.is_none() {
        // As iperf3: datagrams as long as TCP's segments on this path.
        set_length(&mut parameters, socket.tcp_mss().ok(), options.test.techniques());
    }
    let system = |what| move |error| ClientError::System(what, error);
    let address = |address: io::Result<socket2::SockAddr>| {
        address
            .map_err(system("read an address of the control connection"))
            .map(|address| address.as_socket().map_or(options.address, canonical))
    };
    let control = (address(socket.local_addr())?, address(socket.peer_addr())?);
    let mut run = Run {
        options,
        stop,
        cookie,
        machine: Client::new(&cookie, parameters.clone(), options.patience),
        parameters,
        link: ControlLink::new(socket).map_err(system("set up the control connection"))?,
        wake: Arc::new(Event::new().map_err(system("make an event"))?),
        began: Instant::now(),
        streams: Vec::new(),
        session: None,
        peer: None,
        interrupted: false,
        broken: None,
        heard: (Instant::now(), 0),
    };
    let ended = run.drive(on_event);
    if let Some(session) = &mut run.session {
        session.finish(on_event);
        session.close();
    }
    match ended {
        Ended::Done | Ended::Interrupted => {
            run.link.close_gently(GOODBYE);
            // Without a session nothing was measured, and `drive` says so as a failure.
            run_outcome(
                &mut run.session,
                run.cookie,
                run.parameters,
                run.peer,
                control,
                run.interrupted,
            )
            .ok_or(ClientError::Protocol {
                address: options.address,
                source: Failure::Interrupted,
                measured: None,
            })
        }
        Ended::Failed(mut error) => {
            run.link.close_gently(Duration::ZERO);
            if let ClientError::Protocol { measured, .. }
            | ClientError::StreamBroken { measured, .. }
            | ClientError::NoData { measured, .. } = &mut error
            {
                *measured = run_outcome(
                    &mut run.session,
                    run.cookie,
                    run.parameters,
                    run.peer,
                    control,
                    false,
                )
                .map(Box::new);
            }
            Err(error)
        }
    }
}

fn run_outcome(
    session: &mut Option<Session>,
    cookie: Cookie,
    parameters: Parameters,
    peer: Option<Results>,
    control: (SocketAddr, SocketAddr),
    interrupted: bool,
) -> Option<TestOutcome> {
    let session = session.as_mut()?;
    Some(TestOutcome {
        cookie,
        parameters,
        own: session.own_results(None),
        result: session.result(peer.as_ref()),
        peer,
        control,
        interrupted,
    })
}

enum Ended {
    Done,
    Interrupted,
    Failed(ClientError),
}

struct Run<'a> {
    options: &'a ClientOptions,
    stop: &'a Stop,
    cookie: Cookie,
    parameters: Parameters,
    machine: Client,
    link: ControlLink,
    wake: Arc<Event>,
    began: Instant,
    streams: Vec<DataStream>,
    session: Option<Session>,
    peer: Option<Results>,
    interrupted: bool,
    broken: Option<(Instant, u32, End)>,
    /// When data last came, and how much there was then.
    heard: (Instant, u64),
}

impl Run<'_> {
    fn drive(&mut self, tell: &mut dyn FnMut(TestEvent)) -> Ended {
        loop {
            while let Some(action) = self.machine.next_action() {
                if let Some(ended) = self.act(action, tell) {
                    return ended;
                }
            }
            if self.stop.is_stopped() && !self.interrupted {
                self.interrupted = true;
                if let Some(session) = &mut self.session {
                    session.finish(tell);
                }
                self.machine.handle(self.began.elapsed(), Input::Interrupt);
                continue;
            }
            if self.machine.phase() == Phase::Running && self.attend(tell) {
                continue;
            }
            if let Some((since, id, end)) = self.broken
                && since.elapsed() >= EXPLANATION
            {
                let address = self.options.address;
                return Ended::Failed(ClientError::StreamBroken {
                    id,
                    address,
                    end,
                    measured: None,
                });
            }
            if let Some(left) = self.patience_left()
                && left.is_zero()
            {
                return Ended::Failed(ClientError::NoData {
                    address: self.options.address,
                    after: self.options.data_patience.unwrap_or_default(),
                    measured: None,
                });
            }
            link::wait_for(&self.link, &self.wake, Some(self.stop), self.timeout());
            self.wake.clear();
            self.listen();
        }
    }

    /// How long data may still stay away.
    fn patience_left(&mut self) -> Option<Duration> {
        let patience = self.options.data_patience?;
        let session = self.session.as_ref().filter(|session| session.receives())?;
        if self.machine.phase() != Phase::Running {
            return None;
        }
        let received = session.received();
        if received != self.heard.1 {
            self.heard = (Instant::now(), received);
        }
        Some(patience.saturating_sub(self.heard.0.elapsed()))
    }

    /// Looks after the running test; true if the machine has something new to do.
    fn attend(&mut self, tell: &mut dyn FnMut(TestEvent)) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let over = match self.options.test.finish {
            Finish::After(duration) => session.ends_in(duration).is_some_and(|left| left.is_zero()),
            Finish::Bytes(_) | Finish::Blocks(_) => session.limit_reached(),
            Finish::Never => false,
        } || self.options.file.is_some() && session.all_sent();
        if over {
            if self.options.test.flow == Flow::Reverse
                && matches!(self.options.test.finish, Finish::Bytes(_) | Finish::Blocks(_))
            {
                // The last block of a stock server may reach beyond the limit.
                session.settle();
            }
            session.finish(tell);
            self.machine.handle(self.began.elapsed(), Input::Finish);
            return true;
        }
        session.sample_if_due(tell);
        if self.broken.is_none() {
            self.broken = session.broken().map(|(id, end)| (Instant::now(), id, end));
        }
        false
    }

    fn timeout(&self) -> Option<Duration> {
        let mut timeout = self
            .machine
            .deadline()
            .map(|deadline| deadline.saturating_sub(self.began.elapsed()));
        let mut at_most = |time: Duration| timeout = Some(timeout.map_or(time, |timeout| timeout.min(time)));
        if let (Some(session), Phase::Running) = (&self.session, self.machine.phase()) {
            at_most(session.due_in());
            if let Some(patience) = self.options.data_patience.filter(|_| session.receives()) {
                at_most(patience.saturating_sub(self.heard.0.elapsed()));
            }
            if let Finish::After(duration) = self.options.test.finish
                && let Some(left) = session.ends_in(duration)
            {
                at_most(left);
            }
        }
        if let Some((since, ..)) = self.broken {
            at_most(EXPLANATION.saturating_sub(since.elapsed()));
        }
        timeout
    }

    /// Reads what came on the control connection.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let received = self.link.receive(&mut buffer);
            let now = self.began.elapsed();
            match received {
                Received::Bytes(count) => {
                    self.machine
                        .handle(now, Input::Bytes(buffer.get(..count).unwrap_or_default()));
                    if count < buffer.len() {
                        break;
                    }
                }
                Received::Nothing => break,
                Received::Closed => {
                    self.machine.handle(now, Input::Closed);
                    break;
                }
                Received::Reset => {
                    self.machine.handle(now, Input::Reset);
                    break;
                }
            }
        }
        self.machine.handle(self.began.elapsed(), Input::Tick);
    }

    fn act(&mut self, action: Action, tell: &mut dyn FnMut(TestEvent)) -> Option<Ended> {
        match action {
            Action::Send(bytes) => {
                if self.link.send(&bytes).is_err() && self.machine.phase() != Phase::Over {
                    // What the server said before it went away explains more than our failed write.
                    self.listen();
                    self.machine.handle(self.began.elapsed(), Input::Reset);
                }
            }
            Action::OpenStreams => {
                if let Err(mut error) = self.open_streams() {
                    // A stock server that has its one stream closes those that come after.
                    if self.parameters.many_streams.is_some()
                        && let Err(stock) = self.expect_many()
                    {
                        error = stock;
                    }
                    if let ClientError::StockServer { .. } | ClientError::Descriptors(_) = error {
                        return Some(Ended::Failed(error));
                    }
                    return Some(Ended::Failed(self.explain(error)));
                }
                self.machine.handle(self.began.elapsed(), Input::StreamsOpen);
            }
            Action::Start => {}
            Action::Run => {
                let streams = std::mem::take(&mut self.streams);
                match Session::begin(
                    streams,
                    &self.parameters,
                    &Local {
                        interval: self.options.sample_interval,
                        mss: self.link.socket().tcp_mss().unwrap_or(0),
                        serves: false,
                        file: self.options.file.clone(),
                    },
                    &self.wake,
                ) {
                    Ok(session) => {
                        tell(session.running_event());
                        self.heard = (Instant::now(), 0);
                        self.session = Some(session);
                    }
                    Err(error) => {
                        return Some(Ended::Failed(ClientError::System("start the streams", error)));
                    }
                }
            }
            Action::MakeResults => {
                if let Some(session) = &self.session {
                    let results = session.own_results(None);
                    self.machine
                        .handle(self.began.elapsed(), Input::Results(&results));
                }
            }
            Action::TakeResults(results) => self.peer = Some(*results),
            Action::CloseStreams => {
                if let Some(session) = &mut self.session {
                    session.finish(tell);
                    session.close();
                }
                self.streams.clear();
            }
            Action::Done => return Some(Ended::Done),
            Action::Fail(Failure::Interrupted) if self.session.is_some() => return Some(Ended::Interrupted),
            Action::Fail(source) => {
                let address = self.options.address;
                return Some(Ended::Failed(ClientError::Protocol {
                    address,
                    source,
                    measured: None,
                }));
            }
        }
        None
    }

    /// A stream could not be made: the server may have said why on the control connection, or is about to.
    fn explain(&mut self, error: ClientError) -> ClientError {
        let deadline = Instant::now() + EXPLANATION;
        while !self.stop.is_stopped() {
            self.listen();
            while let Some(action) = self.machine.next_action() {
                if let Action::Fail(
                    source @ (Failure::Server(_) | Failure::Busy | Failure::ServerTerminated),
                ) = action
                {
                    return ClientError::Protocol {
                        address: self.options.address,
                        source,
                        measured: None,
                    };
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.machine.phase() == Phase::Over {
                break;
            }
            link::wait_for(&self.link, &self.wake, Some(self.stop), Some(left));
        }
        error
    }
}
