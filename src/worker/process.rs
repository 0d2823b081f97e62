//! The worker's process: reads requests, runs jobs, writes messages, and ends when its coordinator is gone.
//!
//! Plain threads, one a job: measured traffic never shares a runtime with anything else.

use super::{
    jobs,
    protocol::{HEARTBEAT, JobResult, LONGEST_LINE, Message, Request, SILENCE, VERSION},
};
use crate::{measure::machine, sys::stop::Stop};
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// Why a worker ended otherwise than it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The first line was not a hello.
    #[error(
        "expected a hello of an encapbench coordinator as the first line, got {got:?}; \
         `encapbench worker` is started by a fabric, not by hand"
    )]
    NoHello {
        /// The start of what came instead.
        got: String,
    },
    /// Another version of the protocol.
    #[error(
        "the coordinator speaks version {theirs} of the worker protocol, this worker speaks {VERSION}: \
         use the same encapbench on both sides"
    )]
    Version {
        /// The coordinator's version.
        theirs: u32,
    },
    /// A line that is no request.
    #[error("a line of the coordinator is no request: {source}: {line:?}")]
    Request {
        /// The start of the line.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The coordinator went silent.
    #[error("heard nothing from the coordinator for {} s", SILENCE.as_secs())]
    Silence,
    /// A line could not be read or written.
    #[error("the connection to the coordinator broke: {0}")]
    Io(#[from] io::Error),
}

/// Where messages go: whole lines, from any thread.
#[derive(Clone)]
pub(super) struct Outbox {
    output: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Outbox {
    pub(super) fn send(&self, message: &Message) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&line)?;
        output.flush()
    }
}

/// What reaches the main thread.
enum Input {
    Request(Request),
    Broken(WorkerError),
    JobEnded(u64),
    End,
}

/// Runs a worker until it is told to quit, its input ends, or its coordinator falls silent. All jobs are stopped by
/// then.
///
/// # Errors
/// Where the coordinator is of another version, says what is no request, falls silent or goes away.
pub fn run(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), WorkerError> {
    let outbox = Outbox {
        output: Arc::new(Mutex::new(Box::new(output))),
    };
    let (sender, inputs) = mpsc::channel();
    let reader_sender = sender.clone();
    // Never joined: it sits in a blocking read, and the process ends under it.
    thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || read_requests(input, &reader_sender))?;
    let mut jobs: HashMap<u64, Stop> = HashMap::new();
    let ended = serve(&inputs, &sender, &outbox, &mut jobs);
    for stop in jobs.values() {
        stop.stop();
    }
    // Jobs end promptly once stopped; those that do not are ended with the process.
    let deadline = Instant::now() + Duration::from_secs(2);
    while !jobs.is_empty() {
        match inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Input::JobEnded(id)) => {
                jobs.remove(&id);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    ended
}

fn serve(
    inputs: &mpsc::Receiver<Input>,
    sender: &mpsc::Sender<Input>,
    outbox: &Outbox,
    jobs: &mut HashMap<u64, Stop>,
) -> Result<(), WorkerError> {
    let mut greeted = false;
    let mut heard = Instant::now();
    let mut next_beat = Instant::now() + HEARTBEAT;
    loop {
        let now = Instant::now();
        if now >= next_beat {
            if greeted {
                outbox.send(&Message::Heartbeat)?;
            }
            next_beat = now + HEARTBEAT;
        }
        if now.duration_since(heard) > SILENCE {
            return Err(WorkerError::Silence);
        }
        let request = match inputs.recv_timeout(next_beat.saturating_duration_since(now)) {
            Ok(Input::Request(request)) => request,
            Ok(Input::Broken(error)) => return Err(error),
            Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Input::JobEnded(id)) => {
                jobs.remove(&id);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => continue,
        };
        heard = Instant::now();
        match request {
            Request::Hello { version } if version != VERSION => {
                return Err(WorkerError::Version { theirs: version });
            }
            Request::Hello { .. } => {
                outbox.send(&Message::Hello {
                    version: VERSION,
                    encapbench: env!("CARGO_PKG_VERSION").to_owned(),
                    machine: machine::boot_id(),
                    kernel: machine::kernel_release(),
                })?;
                greeted = true;
            }
            other if !greeted => {
                return Err(WorkerError::NoHello {
                    got: format!("{other:?}"),
                });
            }
            Request::Heartbeat => {}
            Request::Quit => return Ok(()),
            Request::Stop { id } => {
                if let Some(stop) = jobs.get(&id) {
                    stop.stop();
                }
            }
            Request::Start { id, job } => {
                let stop = Stop::new()?;
                jobs.insert(id, stop.clone());
                let (outbox, sender) = (outbox.clone(), sender.clone());
                thread::Builder::new().name(format!("job {id}")).spawn(move || {
                    let message = match jobs::run(id, *job, &stop, &outbox) {
                        Ok(result) => Message::Done {
                            id,
                            result: Box::new(result),
                        },
                        Err(error) => Message::Failed { id, error },
                    };
                    if let Err(error) = outbox.send(&message) {
                        tracing::warn!("failed to report job {id}: {error}");
                    }
                    // The main thread is gone only when the worker ends.
                    let _ = sender.send(Input::JobEnded(id));
                })?;
            }
        }
    }
}

/// Reads lines until the input ends or the main thread is gone.
fn read_requests(input: impl Read, sender: &mpsc::Sender<Input>) {
    let mut reader = BufReader::new(input);
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        let next = match reader
            .by_ref()
            .take(LONGEST_LINE as u64)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => Input::End,
            Ok(_) => match serde_json::from_slice::<Request>(&line) {
                Ok(request) => Input::Request(request),
                Err(_) if first => Input::Broken(WorkerError::NoHello { got: start_of(&line) }),
                Err(source) => Input::Broken(WorkerError::Request {
                    line: start_of(&line),
                    source,
                }),
            },
            Err(error) => Input::Broken(error.into()),
        };
        first = false;
        let last = !matches!(next, Input::Request(_));
        if sender.send(next).is_err() || last {
            return;
        }
    }
}

/// Enough of a line to recognise it.
fn start_of(line: &[u8]) -> String {
    String::from_utf8_lossy(line.get(..80).unwrap_or(line))
        .trim_end()
        .to_owned()
}

impl Outbox {
    /// Says that a server waits.
    pub(super) fn listening(&self, id: u64, port: u16) -> Result<(), String> {
        self.send(&Message::Listening { id, port })
            .map_err(|error| error.to_string())
    }

    /// Says that traffic flows.
    pub(super) fn running(&self, id: u64) {
        // Where the coordinator is gone, the main thread finds out by its own heartbeat.
        let _ = self.send(&Message::Running { id });
    }
}

/// A job's result, or why there is none.
pub(super) type Answer = Result<JobResult, String>;
