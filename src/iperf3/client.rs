//! The client: runs one test against a server, stock or ours.

mod datagrams;

use super::{
    link::{self, ConnectError, ControlLink, Received, SocketOptions},
    session::{DataStream, Session, TestEvent, TestOutcome, canonical},
    wire::{
        Cookie, Parameters, Transport,
        client::{Action, Client, Failure, Input, Phase},
        datagram::{LONGEST, SHORTEST},
        parameters::{LENGTH_LIMIT, STREAMS_LIMIT, SegmentationOffload},
        results::Results,
    },
};
use crate::{
    measure::Direction,
    sys::{event::Event, stop::Stop},
    traffic::stream::{End, Role},
    units::{BitRate, Bytes},
};
use rand::{TryRng as _, rngs::SysRng};
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a broken stream waits for the server's word about it on the control connection.
const EXPLANATION: Duration = Duration::from_secs(1);

/// How long we read on after our goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes of a block with `fast` where none are asked for: what measured best for sendfile and MSG_TRUNC.
const FAST_LENGTH: i64 = 256 << 10;

/// Bytes of a block without: as iperf3.
const COPY_LENGTH: i64 = 128 << 10;

/// Bytes of a UDP datagram where nothing tells the path's: as iperf3.
const DATAGRAM_LENGTH: i64 = 1460;

/// Which ends send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// The client.
    #[default]
    Forward,
    /// The server.
    Reverse,
    /// Both.
    Bidirectional,
}

/// What ends a test. All but the first take effect after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Only the stop token.
    Never,
    /// Time.
    After(Duration),
    /// Bytes over all streams of a direction.
    Bytes(Bytes),
    /// Blocks of `length` over all streams of a direction.
    Blocks(u64),
}

/// What a test does.
#[derive(Debug, Clone, PartialEq)]
pub struct TestParameters {
    /// TCP or UDP; SCTP is refused.
    pub transport: Transport,
    /// Streams per direction, 1 to 128.
    pub streams: u32,
    /// Which ends send.
    pub flow: Flow,
    /// What ends it.
    pub finish: Finish,
    /// Warm-up before it, up to 600 s.
    pub omit: Duration,
    /// Bytes of a write and a read, 1 to 1 MiB; iperf3's 128 KiB if `None`, or what measures best with `fast`. Of UDP
    /// the bytes of each datagram, 16 to 65507; the MSS of the control connection if `None`, as iperf3.
    pub length: Option<Bytes>,
    /// Socket buffers at both ends, up to 512 MiB; the kernel's tuning if `None`.
    pub window: Option<Bytes>,
    /// TCP_MAXSEG, up to 32767.
    pub mss: Option<u16>,
    /// TCP_NODELAY.
    pub no_delay: bool,
    /// The congestion control of both ends; the system's if `None`. A client whose kernel refuses it fails; a server
    /// goes on with its own.
    pub congestion: Option<String>,
    /// The rate of each stream; unlimited if `None`.
    pub bitrate: Option<BitRate>,
    /// Blocks written at once where there is a rate, 1 to 1000.
    pub burst: Option<u16>,
    /// The IP TOS byte.
    pub tos: u8,
    /// Send by sendfile, receive by MSG_TRUNC, at both ends where the server can. Of UDP: let kernel and NIC cut
    /// datagrams and put them together (UDP_SEGMENT, UDP_GRO; iperf3's `--gsro`).
    pub fast: bool,
    /// Send by sendfile alone (iperf3's `-Z`).
    pub sendfile: bool,
    /// Repeating digits as payload.
    pub repeating_payload: bool,
    /// UDP sequence numbers of 64 bits, for more than 4 thousand million datagrams a stream.
    pub counters_64bit: bool,
    /// Forbid IP fragments, of UDP over IPv4.
    pub dont_fragment: bool,
}

impl Default for TestParameters {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            streams: 1,
            flow: Flow::Forward,
            finish: Finish::After(Duration::from_secs(10)),
            omit: Duration::ZERO,
            length: None,
            window: None,
            mss: None,
            no_delay: false,
            congestion: None,
            bitrate: None,
            burst: None,
            tos: 0,
            fast: false,
            sendfile: false,
            repeating_payload: false,
            counters_64bit: false,
            dont_fragment: false,
        }
    }
}

impl TestParameters {
    /// What goes over the wire. Where UDP datagrams have no length given, [`run`] puts in the MSS of the control
    /// connection.
    ///
    /// # Errors
    /// Names what is out of range.
    pub fn encode(&self) -> Result<Parameters, ClientError> {
        let seconds = |time: Duration| i64::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        let big = |_| ClientError::OutOfRange("duration", "0 to 86400 s");
        let integer = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (time, num, blockcount) = match self.finish {
            Finish::Never => (0, 0, 0),
            Finish::After(time) => (seconds(time).map_err(big)?, 0, 0),
            Finish::Bytes(bytes) => (0, integer(bytes.0), 0),
            Finish::Blocks(blocks) => (0, 0, integer(blocks)),
        };
        let udp = self.transport == Transport::Udp;
        let default = match (self.transport, self.fast) {
            (Transport::Udp, _) => DATAGRAM_LENGTH,
            (_, true) => FAST_LENGTH,
            (_, false) => COPY_LENGTH,
        };
        let len = self.length.map_or(default, |length| integer(length.0));
        let parameters = Parameters {
            transport: self.transport,
            omit: Some(seconds(self.omit).map_err(big)?),
            omit_micros: (self.omit.subsec_nanos() > 0).then(|| integer(self.omit.as_micros() as u64)),
            time: Some(time),
            num: Some(num),
            blockcount: Some(blockcount),
            mss: self.mss.map(i64::from),
            nodelay: self.no_delay,
            parallel: Some(self.streams.into()),
            reverse: self.flow == Flow::Reverse,
            bidirectional: self.flow == Flow::Bidirectional,
            window: self.window.map(|window| integer(window.0)),
            len: Some(len),
            bandwidth: self.bitrate.map(|rate| integer(rate.0)),
            pacing_timer: Some(1000),
            burst: self.burst.map(i64::from),
            tos: (self.tos != 0).then(|| self.tos.into()),
            congestion: self.congestion.clone(),
            repeating_payload: self.repeating_payload,
            segmentation: udp.then(|| offload(len, self.fast)),
            udp_counters_64bit: udp && self.counters_64bit,
            dont_fragment: (udp && self.dont_fragment).then_some(1),
            zerocopy: (!udp && (self.fast || self.sendfile)).then_some(1),
            // Stock servers since 3.19.1 miscount UDP with it.
            skip_rx_copy: (!udp && self.fast).then_some(1),
            client_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Parameters::default()
        };
        let within = |value: i64, range: std::ops::RangeInclusive<i64>| range.contains(&value);
        if !within(self.streams.into(), 1..=STREAMS_LIMIT) {
            return Err(ClientError::OutOfRange("streams", "1 to 128"));
        }
        if self.transport == Transport::Sctp {
            return Err(ClientError::OutOfRange("transport", "TCP or UDP"));
        }
        if udp && !within(len, SHORTEST as i64..=LONGEST as i64) {
            return Err(ClientError::OutOfRange("length", "16 to 65507 B"));
        }
        if !udp && !within(len, 1..=LENGTH_LIMIT) {
            return Err(ClientError::OutOfRange("length", "1 B to 1 MiB"));
        }
        if self.omit > Duration::from_mins(10) {
            return Err(ClientError::OutOfRange("omit", "0 to 600 s"));
        }
        if let Finish::After(time) = self.finish
            && (time.is_zero() || time > Duration::from_hours(24))
        {
            return Err(ClientError::OutOfRange("duration", "above 0 to 86400 s"));
        }
        if matches!(self.finish, Finish::Bytes(Bytes(0)) | Finish::Blocks(0)) {
            return Err(ClientError::OutOfRange("bytes and blocks", "at least 1"));
        }
        parameters.check().map_err(ClientError::Parameters)?;
        if !parameters.fits() {
            return Err(ClientError::OutOfRange(
                "the parameter document",
                "at most 8192 bytes",
            ));
        }
        Ok(parameters)
    }
}

/// Puts in the length of UDP datagrams that the MSS of the control connection tells.
fn set_length(parameters: &mut Parameters, mss: Option<u32>, fast: bool) {
    if let Some(mss) = mss
        .map(i64::from)
        .filter(|mss| (SHORTEST as i64..=LONGEST as i64).contains(mss))
    {
        parameters.len = Some(mss);
        parameters.segmentation = Some(offload(mss, fast));
    }
}

/// The keys of `--gsro`, as 3.21 sends them.
fn offload(length: i64, on: bool) -> SegmentationOffload {
    let longest = LONGEST as i64;
    if on && (1..=longest).contains(&length) {
        SegmentationOffload {
            gso: 1,
            gso_dg_size: length,
            gso_bf_size: longest / length * length,
            gro: 1,
            gro_bf_size: longest,
        }
    } else {
        SegmentationOffload {
            gso: 0,
            gso_dg_size: 0,
            gso_bf_size: longest,
            gro: 0,
            gro_bf_size: longest,
        }
    }
}

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
        }
    }
}

/// Why a client's test gave no result. Where data had flowed, what was measured is there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A parameter is out of range.
    #[error("{0} is out of range: {1}")]
    OutOfRange(&'static str, &'static str),
    /// A parameter is one that servers refuse.
    #[error("a server would refuse the parameters: {0}")]
    Parameters(super::wire::ErrorCode),
    /// The control connection could not be made.
    #[error("failed to make the control connection")]
    Connect(#[source] ConnectError),
    /// A stream could not be made.
    #[error("failed to make stream {id}")]
    Stream {
        /// The stream's id.
        id: u32,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// The conversation with the server failed.
    #[error("the test with {address} failed")]
    Protocol {
        /// The server.
        address: SocketAddr,
        /// How.
        #[source]
        source: Failure,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// A stream broke in the middle.
    #[error("stream {id} to {address} broke: {}", describe(*.end))]
    StreamBroken {
        /// The stream's id.
        id: u32,
        /// The server.
        address: SocketAddr,
        /// How.
        end: End,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// The system refused something.
    #[error("failed to {0}")]
    System(&'static str, #[source] io::Error),
}

/// How a stream broke, in words.
pub(super) fn describe(end: End) -> String {
    match end {
        End::Failed(errno) => io::Error::from_raw_os_error(errno).to_string(),
        End::Closed => "the peer closed it".to_owned(),
        End::Stopped | End::Limit => "it ended".to_owned(),
    }
}

impl ClientError {
    /// What was measured before the test failed.
    pub fn measured(&self) -> Option<&TestOutcome> {
        match self {
            Self::Protocol { measured, .. } | Self::StreamBroken { measured, .. } => measured.as_deref(),
            _ => None,
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
        options.bind.map(|ip| SocketAddr::new(ip, 0)),
        options.connect_timeout,
        stop,
        |socket| options.sockets.set_control(socket, options.address),
    )
    .map_err(ClientError::Connect)?;
    if options.test.transport == Transport::Udp && options.test.length.is_none() {
        // As iperf3: datagrams as long as TCP's segments on this path.
        set_length(&mut parameters, socket.tcp_mss().ok(), options.test.fast);
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
            if let ClientError::Protocol { measured, .. } | ClientError::StreamBroken { measured, .. } =
                &mut error
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
            link::wait_for(&self.link, &self.wake, Some(self.stop), self.timeout());
            self.wake.clear();
            self.listen();
        }
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
        };
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
                if let Err(error) = self.open_streams() {
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
                    self.options.sample_interval,
                    &self.wake,
                    false,
                ) {
                    Ok(session) => {
                        tell(session.running_event());
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

    fn open_streams(&mut self) -> Result<(), ClientError> {
        let per_direction = self.parameters.streams();
        for index in 0..self.parameters.total_streams() {
            // In bidir the first half sends, the second receives.
            let (role, direction) = if self.parameters.reverse || index >= per_direction {
                (Role::Receive, Direction::Reverse)
            } else {
                (Role::Send, Direction::Forward)
            };
            let id = super::wire::stream_id(index) as u32;
            if self.parameters.transport == Transport::Udp {
                let socket = self.open_datagrams(id, self.local(index))?;
                let stream =
                    DataStream::new(socket, role, direction).map_err(|source| ClientError::Stream {
                        id,
                        source: ConnectError::Failed(self.options.address, source),
                    })?;
                self.streams.push(stream);
                continue;
            }
            let (address, timeout) = (self.options.address, self.options.connect_timeout);
            let local = self.local(index);
            let socket = link::connect(address, local, timeout, self.stop, |socket| self.prepare(socket))
                .map_err(|source| ClientError::Stream { id, source })?;
            let cookie = self.cookie.as_bytes();
            let failed = |source| ClientError::Stream {
                id,
                source: ConnectError::Failed(address, source),
            };
            // A fresh connection has room for 37 bytes.
            if socket.send(cookie).map_err(failed)? != cookie.len() {
                return Err(failed(io::ErrorKind::WriteZero.into()));
            }
            self.streams
                .push(DataStream::new(socket, role, direction).map_err(failed)?);
        }
        Ok(())
    }

    /// The local end of a stream, where it is not the kernel's choice.
    fn local(&self, index: usize) -> Option<SocketAddr> {
        let (ip, port) = (self.options.bind, self.options.sockets.port);
        if ip.is_none() && port.is_none() {
            return None;
        }
        let any = match self.options.address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let port = port.map_or(0, |port| port.wrapping_add(index as u16));
        Some(SocketAddr::new(ip.unwrap_or(any), port))
    }

    /// Sets what has to be set before the SYN, and the rest.
    fn prepare(&self, socket: &Socket) -> Result<(), ConnectError> {
        let address = self.options.address;
        let refused = |refused: link::Refused| ConnectError::Option {
            address,
            option: refused.option,
            source: refused.source,
        };
        let udp = self.parameters.transport == Transport::Udp;
        self.options.sockets.set(socket, address, !udp)?;
        if !udp {
            link::set_mss(socket, &self.parameters).map_err(refused)?;
        }
        if let Some(window) = self.options.test.window
            && let Some(small) = link::set_window(socket, window.0).map_err(refused)?
        {
            return Err(ConnectError::Window {
                wanted: window.0,
                given: small.given,
                limit: small.limit,
            });
        }
        if udp {
            return link::set_datagram_options(socket, &self.parameters, address.is_ipv6()).map_err(refused);
        }
        if let Some(name) = &self.options.test.congestion {
            link::set_congestion(socket, name).map_err(refused)?;
        }
        link::set_options(socket, &self.parameters, address.is_ipv6()).map_err(refused)
    }
}
