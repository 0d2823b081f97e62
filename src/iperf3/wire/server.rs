//! The server's side of one control connection as a state machine: inputs and a time in, actions out.

use super::{
    code::ErrorCode,
    cookie::Cookie,
    frame::{Inbox, Length, PARAMETERS_LIMIT, frame},
    parameters::Parameters,
    results::Results,
    state::State,
};
use std::{collections::VecDeque, fmt, time::Duration};

/// What the machine is told.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Bytes came from the client.
    Bytes(&'a [u8]),
    /// The client closed the control connection.
    Closed,
    /// The control connection was reset.
    Reset,
    /// Time has passed.
    Tick,
    /// Streams can be accepted (an answer to [`Action::Prepare`]).
    Prepared,
    /// The test can't be run as asked, or has to end.
    Refuse(ErrorCode),
    /// Every stream was accepted.
    StreamsAccepted,
    /// Our results (the answer to [`Action::MakeResults`]).
    Results(&'a Results),
    /// The server is to stop now.
    Interrupt,
}

/// What the machine wants done, in order.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes to the control connection.
    Send(Vec<u8>),
    /// Check these parameters and make ready for streams, then say [`Input::Prepared`] or [`Input::Refuse`].
    Prepare(Box<Parameters>),
    /// Start counters, timers and data.
    Run,
    /// The client ended the test: take final statistics, stop and close the streams.
    End,
    /// The client's results.
    TakeResults(Box<Results>),
    /// Say [`Input::Results`].
    MakeResults,
    /// Close the control connection at once: the test is complete.
    Done,
    /// Shut the control connection down, drain it for at most a second, close it: the test failed.
    Fail(Failure),
}

/// Why a server's test failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The client was interrupted.
    #[error("the client has terminated")]
    ClientTerminated,
    /// We were interrupted.
    #[error("the test was interrupted")]
    Interrupted,
    /// The client went away.
    #[error("the client has unexpectedly closed the connection, {0}")]
    Closed(Phase),
    /// We refused or ended the test.
    #[error("the test was refused or ended: {0}")]
    Refused(ErrorCode),
    /// The client said what is no state, or one that has no place here.
    #[error("received unknown control message {0:#04x} {1}")]
    Unknown(u8, Phase),
    /// The length of a document makes no sense.
    #[error("the client announced a document of {0} bytes {1}, which is out of range")]
    Length(u32, Phase),
    /// A document can't be read.
    #[error("the client's document can't be used, {0}")]
    Document(Phase, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client did not do in time what was due.
    #[error("the client was silent for too long, {0}")]
    Timeout(Phase),
}

/// Where in the protocol the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// PARAM_EXCHANGE sent.
    Parameters,
    /// The driver looks at the parameters.
    Preparing,
    /// CREATE_STREAMS sent.
    Accepting,
    /// Data flows.
    Running,
    /// EXCHANGE_RESULTS sent.
    Exchanging,
    /// The driver makes our results.
    Reporting,
    /// DISPLAY_RESULTS sent.
    Closing,
    /// Done or failed.
    Over,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameters | Self::Preparing => "during the exchange of parameters",
            Self::Accepting => "while streams were being accepted",
            Self::Running => "during the test",
            Self::Exchanging | Self::Reporting => "during the exchange of results",
            Self::Closing => "after the exchange of results",
            Self::Over => "after the test",
        })
    }
}

/// How long the machine waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a document, for all streams, for the client's goodbye.
    pub answer: Duration,
    /// For the test's end beyond the time it should take. Stock: 40 s.
    pub overstay: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            overstay: Duration::from_secs(40),
        }
    }
}

/// What each stream adds to the time for all of them.
const STREAM_PATIENCE: Duration = Duration::from_millis(2);

/// The machine. It begins when the cookie was read and the connection was admitted.
#[derive(Debug)]
pub struct Server {
    cookie: Cookie,
    phase: Phase,
    inbox: Inbox,
    actions: VecDeque<Action>,
    patience: Patience,
    deadline: Option<Duration>,
    /// `time` + `omit`; `None` without a time limit.
    planned: Option<Duration>,
    /// Streams in all.
    streams: u32,
    length: Option<usize>,
    /// The longest results document, in bytes.
    results_limit: usize,
}

/// The longest results document of a client, in bytes: so much, and so much for each stream, of which stock needs a
/// quarter. A server's may have its whole output in it; a client's has nothing else.
const RESULTS: usize = 64 << 10;
/// See [`RESULTS`].
const RESULTS_OF_STREAM: usize = 1 << 10;

impl Server {
    /// A machine for an admitted control connection; its first action asks for the parameters.
    pub fn new(cookie: Cookie, patience: Patience, now: Duration) -> Self {
        let mut machine = Self {
            cookie,
            phase: Phase::Parameters,
            inbox: Inbox::default(),
            actions: VecDeque::new(),
            patience,
            deadline: Some(now + patience.answer),
            planned: None,
            streams: 0,
            length: None,
            results_limit: RESULTS,
        };
        machine.send(State::ParamExchange);
        machine
    }

    /// The test's cookie.
    pub const fn cookie(&self) -> &Cookie {
        &self.cookie
    }

    /// Where the machine is.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// When to say [`Input::Tick`] at the latest, as time since the connection.
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Tells the machine something. `now` is the time since the connection began.
    pub fn handle(&mut self, now: Duration, input: Input<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        match input {
            Input::Bytes(bytes) => {
                self.inbox.push(bytes);
                self.read(now);
            }
            Input::Closed | Input::Reset => match self.phase {
                // 3.2 and 3.3 close without IPERF_DONE, and a reset here harms nothing any more.
                Phase::Closing => self.done(),
                phase => self.over(Failure::Closed(phase)),
            },
            Input::Tick => self.tick(now),
            Input::Prepared => {
                if self.phase == Phase::Preparing {
                    self.send(State::CreateStreams);
                    self.enter(now, Phase::Accepting);
                    self.read(now);
                }
            }
            Input::Refuse(code) => self.refuse(code, Failure::Refused(code)),
            Input::StreamsAccepted => {
                if self.phase == Phase::Accepting {
                    self.actions.push_back(Action::Send(vec![
                        State::TestStart.byte(),
                        State::TestRunning.byte(),
                    ]));
                    self.actions.push_back(Action::Run);
                    self.enter(now, Phase::Running);
                    self.read(now);
                }
            }
            Input::Results(results) => {
                if self.phase == Phase::Reporting {
                    let mut bytes = frame(&results.encode());
                    bytes.push(State::DisplayResults.byte());
                    self.actions.push_back(Action::Send(bytes));
                    self.enter(now, Phase::Closing);
                    self.read(now);
                }
            }
            Input::Interrupt => {
                self.send(State::ServerTerminate);
                self.over(Failure::Interrupted);
            }
        }
    }

    fn tick(&mut self, now: Duration) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        let code = match self.phase {
            Phase::Closing => return self.done(),
            Phase::Running => ErrorCode::DURATION_EXPIRED,
            Phase::Accepting => ErrorCode::STREAM_ACCEPT,
            Phase::Exchanging | Phase::Reporting => ErrorCode::RECEIVE_RESULTS,
            _ => ErrorCode::RECEIVE_PARAMETERS,
        };
        self.refuse(ErrorCode::new(code), Failure::Timeout(self.phase));
    }

    fn send(&mut self, state: State) {
        self.actions.push_back(Action::Send(vec![state.byte()]));
    }

    fn enter(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.length = None;
        self.deadline = match phase {
            Phase::Running => self.planned.map(|planned| now + planned + self.patience.overstay),
            Phase::Preparing | Phase::Reporting | Phase::Over => None,
            Phase::Accepting => Some(now + self.patience.answer + STREAM_PATIENCE * self.streams),
            _ => Some(now + self.patience.answer),
        };
    }

    fn done(&mut self) {
        self.actions.push_back(Action::Done);
        self.phase = Phase::Over;
        self.deadline = None;
    }

    fn over(&mut self, failure: Failure) {
        self.actions.push_back(Action::Fail(failure));
        self.phase = Phase::Over;
        self.deadline = None;
        self.inbox.clear();
    }

    /// Sends a SERVER_ERROR frame and fails.
    fn refuse(&mut self, code: ErrorCode, failure: Failure) {
        let mut bytes = vec![State::ServerError.byte()];
        bytes.extend_from_slice(&code.code.to_be_bytes());
        bytes.extend_from_slice(&code.errno.to_be_bytes());
        self.actions.push_back(Action::Send(bytes));
        self.over(failure);
    }

    fn read(&mut self, now: Duration) {
        while self.phase != Phase::Over && self.step(now) {}
    }

    /// Takes one message; false if it needs more bytes.
    fn step(&mut self, now: Duration) -> bool {
        match self.phase {
            Phase::Parameters => self.read_parameters(now),
            Phase::Exchanging => self.read_results(now),
            // The driver is at work; what comes meanwhile waits.
            Phase::Preparing | Phase::Reporting | Phase::Over => false,
            Phase::Accepting | Phase::Running | Phase::Closing => {
                let Some(byte) = self.inbox.byte() else {
                    return false;
                };
                match (State::from_byte(byte), self.phase) {
                    (Some(State::ClientTerminate), _) => {
                        // 3.21 answers too; an older client is gone by now.
                        self.refuse(
                            ErrorCode::new(ErrorCode::CLIENT_TERMINATED),
                            Failure::ClientTerminated,
                        );
                    }
                    // Stock ignores TEST_START from a client.
                    (Some(State::TestStart), _) => {}
                    (Some(State::TestEnd), Phase::Running) => {
                        self.actions.push_back(Action::End);
                        self.send(State::ExchangeResults);
                        self.enter(now, Phase::Exchanging);
                    }
                    (Some(State::IperfDone), Phase::Closing) => self.done(),
                    _ => self.refuse(
                        ErrorCode::new(ErrorCode::MESSAGE),
                        Failure::Unknown(byte, self.phase),
                    ),
                }
                true
            }
        }
    }

    /// The next document of this phase; `None` if it needs more bytes or failed.
    fn document(&mut self, limit: usize, code: i32) -> Option<Vec<u8>> {
        let length = match self.length {
            Some(length) => length,
            None => match self.inbox.length(limit)? {
                Length::Bytes(length) => *self.length.insert(length),
                // Whatever it is, it is not a length we take.
                Length::ErrorFrame => {
                    self.refuse(ErrorCode::new(code), Failure::Length(0xfe00_0000, self.phase));
                    return None;
                }
                Length::OutOfRange(length) => {
                    self.refuse(ErrorCode::new(code), Failure::Length(length, self.phase));
                    return None;
                }
            },
        };
        self.inbox.document(length)
    }

    fn read_parameters(&mut self, now: Duration) -> bool {
        let Some(document) = self.document(PARAMETERS_LIMIT, ErrorCode::RECEIVE_PARAMETERS) else {
            return false;
        };
        match Parameters::decode(&document) {
            Ok(parameters) => {
                if let Err(code) = parameters.check() {
                    self.refuse(code, Failure::Refused(code));
                    return true;
                }
                let seconds = parameters.time.unwrap_or(10).cast_unsigned();
                let omit = parameters.omit.unwrap_or(0).cast_unsigned();
                self.streams = u32::try_from(parameters.total_streams()).unwrap_or(u32::MAX);
                self.planned = (seconds > 0).then(|| Duration::from_secs(seconds + omit));
                self.results_limit = RESULTS + RESULTS_OF_STREAM * parameters.total_streams();
                self.actions.push_back(Action::Prepare(Box::new(parameters)));
                self.enter(now, Phase::Preparing);
            }
            Err(error) => self.refuse(
                ErrorCode::new(ErrorCode::RECEIVE_PARAMETERS),
                Failure::Document(self.phase, Box::new(error)),
            ),
        }
        true
    }

    fn read_results(&mut self, now: Duration) -> bool {
        let Some(document) = self.document(self.results_limit, ErrorCode::RECEIVE_RESULTS) else {
            return false;
        };
        match Results::decode(&document) {
            Ok(results) => {
                self.actions.push_back(Action::TakeResults(Box::new(results)));
                self.actions.push_back(Action::MakeResults);
                self.enter(now, Phase::Reporting);
            }
            Err(error) => self.refuse(
                ErrorCode::new(ErrorCode::RECEIVE_RESULTS),
                Failure::Document(self.phase, Box::new(error)),
            ),
        }
        true
    }
}
