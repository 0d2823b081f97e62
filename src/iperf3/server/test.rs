//! One test at the server, on a thread of its own.
mod streams;

use self::streams::LINE;
pub(super) use self::streams::{Arrivals, set_window};
use super::{
    GOODBYE, Note, ServerEvent, ServerOptions, ServerOutput, ServerReport, TestError, Waiting,
    associations::Associations,
    door::{Door, Gate},
    lock,
    watch::Watch,
};
use crate::{
    iperf3::{
        link::{self, ControlLink, Received},
        session::{DataStream, Local, Session, TestEvent, TestOutcome, canonical},
        wire::{
            Cookie, ErrorCode, Parameters,
            results::Results,
            server::{Action, Failure, Input, Phase, Server as Machine},
        },
    },
    sys::{event::Event, stop::Stop},
    traffic::stream::End,
};
use socket2::Socket;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// How long a broken stream waits for the client's word about it on the control connection.
const EXPLANATION: Duration = Duration::from_secs(1);

/// What a test's thread is given.
pub(super) struct Test {
    pub(super) link: ControlLink,
    pub(super) peer: SocketAddr,
    pub(super) cookie: Cookie,
    pub(super) options: ServerOptions,
    /// The listener, where this test has it for itself.
    pub(super) listener: Option<Arc<Socket>>,
    pub(super) ipv6: bool,
    /// Where the server listens.
    pub(super) address: SocketAddr,
    pub(super) waiting: Waiting,
    pub(super) gate: Arc<Gate>,
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) wake_server: Arc<Event>,
    pub(super) stop: Stop,
    /// Raised whenever there is something to look at.
    pub(super) wake: Arc<Event>,
    /// Whether it has to make room, unless its data flows already.
    pub(super) dismissed: Arc<AtomicBool>,
}

enum Ended {
    Done,
    Failed(Failure),
    Broken(u32, End),
    System(&'static str, io::Error),
}

impl Test {
    pub(super) fn run(self) {
        let cookie = self.cookie;
        let (waiting, gate, notes, wake) = (
            Arc::clone(&self.waiting),
            Arc::clone(&self.gate),
            self.notes.clone(),
            Arc::clone(&self.wake_server),
        );
        let peer = self.peer;
        let outcome = self.run_with();
        lock(&waiting).remove(&cookie);
        gate.leave(cookie);
        // The accept loop outlives its tests.
        let _ = notes.send(Note::Over(
            cookie,
            Box::new(ServerReport {
                cookie,
                peer,
                outcome,
            }),
        ));
        wake.raise();
    }

    fn run_with(self) -> Result<TestOutcome, TestError> {
        let local = self
            .link
            .socket()
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket());
        let control = (local.map_or(self.peer, canonical), self.peer);
        let peer = self.peer;
        let mut run = Run {
            machine: Machine::new(self.cookie, self.options.patience, Duration::ZERO),
            began: Instant::now(),
            parameters: Parameters::default(),
            arrivals: None,
            door: None,
            associations: None,
            in_line: None,
            streams: Vec::new(),
            session: None,
            peer: None,
            interrupted: false,
            broken: None,
            wake: Arc::clone(&self.wake),
            watch: Watch::new(self.options.rate_limit, self.options.data_patience),
            control,
            test: self,
        };
        let ended = run.drive();
        let Run {
            mut session,
            parameters,
            peer: results,
            interrupted,
            test,
            ..
        } = run;
        if let Some(session) = &mut session {
            session.finish(&mut |event| test.tell(event));
            session.close();
        }
        let outcome = session.map(|session| TestOutcome {
            cookie: test.cookie,
            parameters,
            own: session.own_results(results.as_ref()),
            result: session.result(results.as_ref()),
            peer: results,
            control,
            interrupted,
        });
        // A prompt close after success: a 3.21 client waits for it. A gentle one after a failure, so that its reason
        // arrives.
        match (ended, outcome) {
            (Ended::Done, Some(outcome)) => {
                test.link.close_gently(Duration::ZERO);
                Ok(outcome)
            }
            (Ended::Failed(Failure::Interrupted), Some(outcome)) => {
                test.link.close_gently(GOODBYE);
                Ok(outcome)
            }
            (Ended::Broken(id, end), outcome) => {
                test.link.close_gently(GOODBYE);
                Err(TestError::StreamBroken {
                    id,
                    peer,
                    end,
                    measured: outcome.map(Box::new),
                })
            }
            (Ended::Failed(source), outcome) => {
                test.link.close_gently(GOODBYE);
                Err(TestError::Protocol {
                    peer,
                    source,
                    measured: outcome.map(Box::new),
                })
            }
            (Ended::System(what, error), _) => {
                test.link.close_gently(GOODBYE);
                Err(TestError::System(what, error))
            }
            (Ended::Done, None) => Err(TestError::System(
                "measure a test",
                io::Error::other("it never ran"),
            )),
        }
    }

    fn tell(&self, event: TestEvent) {
        let _ = self.notes.send(Note::Event(ServerEvent::Test {
            cookie: self.cookie,
            event,
        }));
        self.wake_server.raise();
    }
}

struct Run {
    test: Test,
    machine: Machine,
    began: Instant,
    parameters: Parameters,
    arrivals: Option<Arc<Arrivals>>,
    /// Where UDP streams come in, while they do.
    door: Option<Door>,
    /// Where SCTP streams come in, while they do.
    associations: Option<Associations>,
    /// Since when it waits to open UDP or SCTP streams.
    in_line: Option<Instant>,
    streams: Vec<DataStream>,
    session: Option<Session>,
    peer: Option<Results>,
    interrupted: bool,
    broken: Option<(Instant, u32, End)>,
    wake: Arc<Event>,
    watch: Watch,
    /// The control connection's ends: local, peer.
    control: (SocketAddr, SocketAddr),
}

impl Run {
    /// The outcome as far as it is known without the client's results.
    fn so_far(&self, session: &Session) -> TestOutcome {
        TestOutcome {
            cookie: self.test.cookie,
            parameters: self.parameters.clone(),
            own: session.own_results(None),
            result: session.result(None),
            peer: None,
            control: self.control,
            interrupted: self.interrupted,
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn drive(&mut self) -> Ended {
        loop {
            while let Some(action) = self.machine.next_action() {
                if let Some(ended) = self.act(action) {
                    return ended;
                }
            }
            if self.test.stop.is_stopped() && !self.interrupted {
                self.interrupted = true;
                self.finish_session();
                self.machine.handle(self.now(), Input::Interrupt);
                continue;
            }
            let waits = matches!(
                self.machine.phase(),
                Phase::Parameters | Phase::Preparing | Phase::Accepting
            );
            if waits && self.test.dismissed.load(Ordering::Acquire) {
                let code = ErrorCode::new(ErrorCode::ACCESS_DENIED);
                self.machine.handle(self.now(), Input::Refuse(code));
                continue;
            }
            match self.machine.phase() {
                Phase::Preparing => {
                    if let Some(input) = self.stand_in_line() {
                        self.machine.handle(self.now(), input);
                        continue;
                    }
                }
                Phase::Accepting => {
                    if let Err(code) = self.take_streams() {
                        self.machine.handle(self.now(), Input::Refuse(code));
                        continue;
                    }
                    if self.streams.len() >= self.parameters.total_streams() {
                        if let Some(arrivals) = &self.arrivals {
                            arrivals.close();
                        }
                        self.leave_gate();
                        self.machine.handle(self.now(), Input::StreamsAccepted);
                        continue;
                    }
                }
                Phase::Running => {
                    if let Some(session) = &mut self.session {
                        let test = &self.test;
                        session.sample_if_due(&mut |event| test.tell(event));
                        if let Err(code) = self.watch.look(session, self.began.elapsed()) {
                            self.machine.handle(self.began.elapsed(), Input::Refuse(code));
                            continue;
                        }
                        if self.broken.is_none() {
                            self.broken = session.broken().map(|(id, end)| (Instant::now(), id, end));
                        }
                    }
                    if let Some((since, id, end)) = self.broken
                        && since.elapsed() >= EXPLANATION
                    {
                        let code = if matches!(end, End::Closed) {
                            207
                        } else {
                            ErrorCode::STREAM_READ
                        };
                        self.machine
                            .handle(self.now(), Input::Refuse(ErrorCode::new(code)));
                        while let Some(action) = self.machine.next_action() {
                            if let Action::Send(bytes) = action {
                                // The client may be gone altogether.
                                let _ = self.test.link.send(&bytes);
                            }
                        }
                        return Ended::Broken(id, end);
                    }
                }
                _ => {}
            }
            let stop = (!self.interrupted).then_some(&self.test.stop);
            let mut fds = self.door.as_ref().map(Door::fds).unwrap_or_default();
            fds.extend(self.associations.iter().flat_map(Associations::fds));
            link::wait_for_any(&self.test.link, &self.wake, stop, &fds, self.timeout());
            self.wake.clear();
            self.listen();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let mut timeout = self
            .machine
            .deadline()
            .map(|deadline| deadline.saturating_sub(self.now()));
        let mut at_most = |time: Duration| timeout = Some(timeout.map_or(time, |timeout| timeout.min(time)));
        if let (Some(session), Phase::Running) = (&self.session, self.machine.phase()) {
            at_most(session.due_in());
            if let Some(due) = self.watch.due_in() {
                at_most(due);
            }
        }
        if let Some((since, ..)) = self.broken {
            at_most(EXPLANATION.saturating_sub(since.elapsed()));
        }
        if let Some(since) = self.in_line {
            at_most(LINE.saturating_sub(since.elapsed()));
        }
        if let Some(time) = self.associations.as_ref().and_then(Associations::timeout) {
            at_most(time);
        }
        if (self.door.is_some() || self.associations.is_some())
            && let Some(deadline) = self.test.gate.deadline()
        {
            at_most(deadline.saturating_duration_since(Instant::now()));
        }
        timeout
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            let received = self.test.link.receive(&mut buffer);
            let now = self.now();
            match received {
                // Nothing has a place here, and it may be any amount.
                Received::Bytes(_) if self.in_line.is_some() => {
                    let code = ErrorCode::new(ErrorCode::MESSAGE);
                    self.machine.handle(now, Input::Refuse(code));
                    break;
                }
                Received::Bytes(count) => {
                    self.machine
                        .handle(now, Input::Bytes(buffer.get(..count).unwrap_or_default()));
                    // A flood ends in an error of the machine; then nothing more is read.
                    if count < buffer.len() || self.machine.phase() == Phase::Over {
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
        self.machine.handle(self.now(), Input::Tick);
    }

    fn finish_session(&mut self) {
        if let Some(session) = &mut self.session {
            let test = &self.test;
            session.finish(&mut |event| test.tell(event));
        }
    }

    fn act(&mut self, action: Action) -> Option<Ended> {
        match action {
            Action::Send(bytes) => {
                if self.test.link.send(&bytes).is_err() {
                    // What the client said before it went away explains more than our failed write.
                    self.listen();
                    self.machine.handle(self.now(), Input::Reset);
                }
            }
            Action::Prepare(parameters) => {
                match self.prepare(*parameters) {
                    // Streams of datagrams can come only when it is their turn.
                    Ok(()) if self.in_line.is_some() => {}
                    Ok(()) => self.machine.handle(self.now(), Input::Prepared),
                    Err(code) => self.machine.handle(self.now(), Input::Refuse(code)),
                }
            }
            Action::Run => {
                let streams = std::mem::take(&mut self.streams);
                match Session::begin(
                    streams,
                    &self.parameters,
                    &Local {
                        interval: self.test.options.sample_interval,
                        mss: 0,
                        serves: true,
                        file: self.test.options.file.clone(),
                    },
                    &self.wake,
                ) {
                    Ok(session) => {
                        self.test.tell(session.running_event());
                        self.session = Some(session);
                    }
                    Err(error) => {
                        let code = ErrorCode::with_source(ErrorCode::INIT_STREAM, &error);
                        self.machine.handle(self.now(), Input::Refuse(code));
                        return Some(Ended::System("start the streams", error));
                    }
                }
            }
            Action::End => {
                if let Some(session) = &mut self.session {
                    session.settle();
                }
                self.finish_session();
                if let Some(session) = &mut self.session {
                    session.close();
                }
            }
            Action::TakeResults(results) => {
                if self
                    .session
                    .as_ref()
                    .is_some_and(|session| !session.knows_all(&results))
                {
                    self.machine
                        .handle(self.now(), Input::Refuse(ErrorCode::new(ErrorCode::STREAM_ID)));
                }
                self.peer = Some(*results);
            }
            Action::MakeResults => {
                if let Some(session) = &self.session {
                    let mut results = session.own_results(self.peer.as_ref());
                    if let (Some(hooks), true) = (&self.test.options.hooks, self.parameters.get_server_output)
                    {
                        match (hooks.output)(&self.so_far(session)) {
                            ServerOutput::Text(text) => results.server_output_text = Some(text),
                            ServerOutput::Json(json) => results.server_output_json = Some(json),
                        }
                    }
                    self.machine.handle(self.now(), Input::Results(&results));
                }
            }
            Action::Done => return Some(Ended::Done),
            Action::Fail(failure) => return Some(Ended::Failed(failure)),
        }
        None
    }
}
