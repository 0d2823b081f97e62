//! The client's side of the control connection as a state machine: inputs and a time in, actions out.

use super::{
    code::ErrorCode,
    cookie::Cookie,
    frame::{Inbox, Length, RESULTS_LIMIT, frame},
    parameters::Parameters,
    results::{Results, ResultsError},
    state::State,
};
use std::{collections::VecDeque, fmt, time::Duration};

/// What the machine is told.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Bytes came from the server.
    Bytes(&'a [u8]),
    /// The server closed the control connection.
    Closed,
    /// The control connection was reset.
    Reset,
    /// Time has passed.
    Tick,
    /// All streams are connected (the answer to [`Action::OpenStreams`]).
    StreamsOpen,
    /// The end condition is met and the senders are stopped.
    Finish,
    /// Our results (the answer to [`Action::MakeResults`]).
    Results(&'a Results),
    /// The user wants to stop now.
    Interrupt,
}

/// What the machine wants done, in order.
#[derive(Debug)]
pub enum Action {
    /// Write these bytes to the control connection.
    Send(Vec<u8>),
    /// Connect the streams, each with the cookie as its first bytes, then say [`Input::StreamsOpen`].
    OpenStreams,
    /// Initialise counters (TEST_START).
    Start,
    /// Data may flow (TEST_RUNNING).
    Run,
    /// Say [`Input::Results`].
    MakeResults,
    /// The server's results.
    TakeResults(Box<Results>),
    /// Close the streams.
    CloseStreams,
    /// The test is complete: shut the control connection down and close it.
    Done,
    /// The test is over without results: close everything.
    Fail(Failure),
}

/// Why a client's test failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server runs another test.
    #[error("the server is busy running a test: try again later")]
    Busy,
    /// The server reported an error.
    #[error("the server refused or ended the test: {0}")]
    Server(ErrorCode),
    /// The server was interrupted.
    #[error("the server has terminated")]
    ServerTerminated,
    /// We were interrupted.
    #[error("the test was interrupted")]
    Interrupted,
    /// The server closed the control connection before it said anything: it may be busy.
    #[error("the server closed the control connection at once: it may be busy, or be no iperf3 server")]
    ClosedAtOnce,
    /// The server closed or reset the control connection.
    #[error("the server closed the control connection unexpectedly, {0}")]
    Closed(Phase),
    /// The server said what is no state.
    #[error("received unknown control message {0:#04x} {1}: is the other side iperf3?")]
    Unknown(u8, Phase),
    /// The server said a state that has no place here.
    #[error("received {0} {1}")]
    Unexpected(State, Phase),
    /// The length before the server's results makes no sense.
    #[error("the server announced results of {0} bytes, which is out of range")]
    ResultsLength(u32),
    /// The server's results make no sense.
    #[error("the server's results can't be used")]
    Results(#[source] ResultsError),
    /// The server did not answer in time.
    #[error("the server did not answer within {0:?}, {1}")]
    Timeout(Duration, Phase),
}

/// Where in the protocol the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Cookie sent, nothing heard.
    Greeting,
    /// Parameters sent.
    Parameters,
    /// Connecting streams.
    Opening,
    /// Streams connected, waiting for TEST_START.
    Ready,
    /// TEST_START seen.
    Started,
    /// Data flows.
    Running,
    /// TEST_END sent.
    Ending,
    /// EXCHANGE_RESULTS seen.
    Exchanging,
    /// Results received, waiting for DISPLAY_RESULTS.
    Closing,
    /// IPERF_DONE sent, or failed.
    Over,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "after the cookie",
            Self::Parameters => "after the parameters",
            Self::Opening => "while connecting streams",
            Self::Ready => "before the test started",
            Self::Started => "before data flowed",
            Self::Running => "during the test",
            Self::Ending => "after the end of the test",
            Self::Exchanging => "during the exchange of results",
            Self::Closing => "after the exchange of results",
            Self::Over => "after the test",
        })
    }
}

/// How much of a SERVER_ERROR frame has come.
#[derive(Debug, Clone, Copy)]
enum ErrorFrame {
    Nothing,
    State,
    Code(i32),
}

/// The machine.
#[derive(Debug)]
pub struct Client {
    phase: Phase,
    inbox: Inbox,
    actions: VecDeque<Action>,
    parameters: Parameters,
    patience: Duration,
    deadline: Option<Duration>,
    error: ErrorFrame,
    results_length: Option<usize>,
}

impl Client {
    /// A machine that has just connected; its first action sends the cookie. `patience` bounds each wait for the
    /// server, the running test excepted.
    pub fn new(cookie: &Cookie, parameters: Parameters, patience: Duration) -> Self {
        Self {
            phase: Phase::Greeting,
            inbox: Inbox::default(),
            actions: VecDeque::from([Action::Send(cookie.as_bytes().to_vec())]),
            parameters,
            patience,
            deadline: Some(patience),
            error: ErrorFrame::Nothing,
            results_length: None,
        }
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
            Input::Closed | Input::Reset => self.closed(),
            Input::Tick => {
                if self.deadline.is_some_and(|deadline| now >= deadline) {
                    self.fail(Failure::Timeout(self.patience, self.phase));
                }
            }
            Input::StreamsOpen => {
                if self.phase == Phase::Opening {
                    self.enter(now, Phase::Ready);
                    self.read(now);
                }
            }
            Input::Finish => {
                if self.phase == Phase::Running {
                    self.send(State::TestEnd);
                    self.enter(now, Phase::Ending);
                    self.read(now);
                }
            }
            Input::Results(results) => {
                if self.phase == Phase::Exchanging {
                    self.actions.push_back(Action::Send(frame(&results.encode())));
                }
            }
            Input::Interrupt => {
                self.send(State::ClientTerminate);
                self.fail(Failure::Interrupted);
            }
        }
    }

    fn send(&mut self, state: State) {
        self.actions.push_back(Action::Send(vec![state.byte()]));
    }

    fn enter(&mut self, now: Duration, phase: Phase) {
        self.phase = phase;
        self.deadline = match phase {
            // The driver bounds connecting and running itself.
            Phase::Opening | Phase::Running | Phase::Over => None,
            _ => Some(now + self.patience),
        };
    }

    fn fail(&mut self, failure: Failure) {
        self.actions.push_back(Action::CloseStreams);
        self.actions.push_back(Action::Fail(failure));
        self.phase = Phase::Over;
        self.deadline = None;
        self.inbox.clear();
    }

    fn closed(&mut self) {
        match (self.error, self.phase) {
            // Before 3.19 a failed authentication is one int only.
            (ErrorFrame::Code(code), _) => self.fail(Failure::Server(ErrorCode::new(code))),
            (_, Phase::Greeting) => self.fail(Failure::ClosedAtOnce),
            (_, phase) => self.fail(Failure::Closed(phase)),
        }
    }

    fn read(&mut self, now: Duration) {
        while self.phase != Phase::Over && self.step(now) {}
    }

    /// Takes one message; false if it needs more bytes.
    fn step(&mut self, now: Duration) -> bool {
        if !matches!(self.error, ErrorFrame::Nothing) {
            let Some(int) = self.inbox.int() else {
                return false;
            };
            match self.error {
                ErrorFrame::Code(code) => self.fail(Failure::Server(ErrorCode { code, errno: int })),
                _ => self.error = ErrorFrame::Code(int),
            }
            return true;
        }
        if self.phase == Phase::Exchanging {
            return self.read_results(now);
        }
        // What comes while streams are being connected waits, unless it is an error.
        let Some(byte) = self.inbox.byte() else {
            return false;
        };
        let Some(state) = State::from_byte(byte) else {
            self.fail(Failure::Unknown(byte, self.phase));
            return true;
        };
        match (state, self.phase) {
            (State::ServerError, _) => self.error = ErrorFrame::State,
            (State::AccessDenied, _) => self.fail(Failure::Busy),
            (State::ServerTerminate, _) => {
                self.send(State::IperfDone);
                self.fail(Failure::ServerTerminated);
            }
            (State::ParamExchange, Phase::Greeting) => {
                self.actions
                    .push_back(Action::Send(frame(&self.parameters.encode())));
                self.enter(now, Phase::Parameters);
            }
            (State::CreateStreams, Phase::Parameters) => {
                self.enter(now, Phase::Opening);
                self.actions.push_back(Action::OpenStreams);
            }
            // The server may have accepted the last stream before our own connect call has returned to the driver.
            (State::TestStart, Phase::Ready | Phase::Opening) => {
                self.actions.push_back(Action::Start);
                self.enter(now, Phase::Started);
            }
            (State::TestRunning, Phase::Started) => {
                self.actions.push_back(Action::Run);
                self.enter(now, Phase::Running);
            }
            (State::ExchangeResults, Phase::Ending) => {
                self.actions.push_back(Action::MakeResults);
                self.enter(now, Phase::Exchanging);
            }
            (State::DisplayResults, Phase::Closing) => {
                self.actions.push_back(Action::CloseStreams);
                self.send(State::IperfDone);
                self.actions.push_back(Action::Done);
                // A 3.21 server may append a stale error: nothing counts any more.
                self.enter(now, Phase::Over);
                self.inbox.clear();
            }
            _ => self.fail(Failure::Unexpected(state, self.phase)),
        }
        true
    }

    fn read_results(&mut self, now: Duration) -> bool {
        let length = match self.results_length {
            Some(length) => length,
            None => match self.inbox.length(RESULTS_LIMIT) {
                None => return false,
                Some(Length::Bytes(length)) => {
                    self.results_length = Some(length);
                    length
                }
                Some(Length::ErrorFrame) => {
                    self.inbox.byte();
                    self.error = ErrorFrame::State;
                    return true;
                }
                Some(Length::OutOfRange(length)) => {
                    self.fail(Failure::ResultsLength(length));
                    return true;
                }
            },
        };
        let Some(document) = self.inbox.document(length) else {
            return false;
        };
        match Results::decode(&document) {
            Ok(results) => {
                self.actions.push_back(Action::TakeResults(Box::new(results)));
                self.enter(now, Phase::Closing);
            }
            Err(error) => self.fail(Failure::Results(error)),
        }
        true
    }
}
