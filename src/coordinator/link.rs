//! The coordinator's end of a worker: jobs go out, their messages come back, each to the one who waits for it.

use crate::{
    fabric::Transport,
    worker::protocol::{HEARTBEAT, Job, JobResult, LONGEST_LINE, Message, Request, SILENCE, VERSION},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

/// How long a worker may take to say hello.
const GREETING: Duration = Duration::from_secs(20);
/// Lines of a worker's log that are kept for an error's message.
const LAST_LINES: usize = 8;
/// How long the end of its log may be on its way once a worker is gone.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Why a worker did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// It did not say hello.
    #[error("the worker in {place} did not answer{}", said(last))]
    NoHello {
        /// Where.
        place: String,
        /// The end of its log.
        last: String,
    },
    /// It is of another version.
    #[error(
        "the worker in {place} is encapbench {theirs} with protocol {version}, this is {} with {VERSION}: \
         use the same on both sides", env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// Where.
        place: String,
        /// Its encapbench.
        theirs: String,
        /// Its protocol.
        version: u32,
    },
    /// It ended, or fell silent.
    #[error("the worker in {place} {how}{}", said(last))]
    Gone {
        /// Where.
        place: String,
        /// How it went.
        how: String,
        /// The end of its log.
        last: String,
    },
    /// The job failed.
    #[error("{place}: {error}")]
    Job {
        /// Where.
        place: String,
        /// Why, as the worker says.
        error: String,
    },
    /// The job did not end in time.
    #[error("{place}: no {what} within {} s", .after.as_secs())]
    Late {
        /// Where.
        place: String,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
}

fn said(last: &str) -> String {
    if last.is_empty() {
        String::new()
    } else {
        format!("; it last said: {last}")
    }
}

/// A message, and when it came.
type Arrival = (Instant, Message);
type Jobs = Arc<Mutex<Option<HashMap<u64, mpsc::UnboundedSender<Arrival>>>>>;

/// A worker, reached through its stdio. Dropping it ends the worker.
pub struct Link {
    place: String,
    machine: String,
    kernel: String,
    requests: mpsc::UnboundedSender<Request>,
    jobs: Jobs,
    fate: Arc<Mutex<String>>,
    log: Arc<Mutex<VecDeque<String>>>,
    next: AtomicU64,
    tasks: Vec<JoinHandle<()>>,
    kill: Option<Box<dyn FnOnce() + Send>>,
}

impl Link {
    /// Greets a worker.
    ///
    /// # Errors
    /// Where it does not answer in time or is of another version.
    pub async fn greet(place: &str, transport: Transport) -> Result<Self, LinkError> {
        let Transport {
            mut input,
            output,
            errors,
            kill,
        } = transport;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let keeper = tokio::spawn(keep_log(place.to_owned(), errors, log.clone()));
        let (requests, mut outgoing) = mpsc::unbounded_channel::<Request>();
        // Nobody can have closed it yet.
        let _ = requests.send(Request::Hello { version: VERSION });
        // One task owns the worker's stdin, so that a cancelled wait can never leave half a line in it.
        let writer = tokio::spawn(async move {
            // The first beat comes after a while: hello must be the first line.
            let mut beat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
            loop {
                let request = tokio::select! {
                    biased;
                    request = outgoing.recv() => match request { Some(request) => request, None => return },
                    _ = beat.tick() => Request::Heartbeat,
                };
                let Ok(mut line) = serde_json::to_vec(&request) else {
                    return;
                };
                line.push(b'\n');
                if input.write_all(&line).await.is_err() || input.flush().await.is_err() {
                    return;
                }
            }
        });
        let mut link = Self {
            place: place.to_owned(),
            machine: String::new(),
            kernel: String::new(),
            requests,
            jobs: Arc::new(Mutex::new(Some(HashMap::new()))),
            fate: Arc::default(),
            log,
            next: AtomicU64::new(1),
            tasks: vec![keeper, writer],
            kill: Some(kill),
        };
        let mut lines = BufReader::new(output);
        match timeout(GREETING, read_message(&mut lines)).await {
            Ok(Ok(Some(Message::Hello {
                version,
                machine,
                kernel,
                ..
            }))) if version == VERSION => {
                link.machine = machine;
                link.kernel = kernel;
            }
            Ok(Ok(Some(Message::Hello {
                version, encapbench, ..
            }))) => {
                return Err(LinkError::Version {
                    place: link.place.clone(),
                    theirs: encapbench,
                    version,
                });
            }
            _ => {
                tokio::time::sleep(LAST_WORDS).await;
                return Err(LinkError::NoHello {
                    place: link.place.clone(),
                    last: link.last_lines(),
                });
            }
        }
        let (jobs, fate) = (link.jobs.clone(), link.fate.clone());
        link.tasks.push(tokio::spawn(async move {
            let how = deliver(&mut lines, &jobs).await;
            tokio::time::sleep(LAST_WORDS).await;
            *fate.lock().unwrap_or_else(PoisonError::into_inner) = how;
            // Whoever waits for a job is told by the end of its channel.
            *jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }));
        Ok(link)
    }

    /// The machine that the worker runs on: its kernel's boot id.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Its kernel's release.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Whether it still can be given jobs.
    pub fn is_alive(&self) -> bool {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Starts a job.
    pub fn start(&self, job: Job) -> JobHandle<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::unbounded_channel();
        if let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            jobs.insert(id, sender);
        }
        self.send(Request::Start {
            id,
            job: Box::new(job),
        });
        JobHandle {
            link: self,
            id,
            messages,
            ended: false,
        }
    }

    /// Runs a job that answers with nothing but its result.
    ///
    /// # Errors
    /// Where it fails, the worker goes, or it takes longer than `limit`.
    pub async fn ask(&self, job: Job, limit: Duration) -> Result<JobResult, LinkError> {
        self.start(job).done(limit).await
    }

    fn send(&self, request: Request) {
        // A writer that is gone shows as the worker being gone, where the answer is waited for.
        let _ = self.requests.send(request);
    }

    fn last_lines(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().cloned().collect::<Vec<_>>().join(" | ")
    }

    fn gone(&self) -> LinkError {
        let how = self.fate.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let how = if how.is_empty() {
            "has ended".to_owned()
        } else {
            how
        };
        LinkError::Gone {
            place: self.place.clone(),
            how,
            last: self.last_lines(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.send(Request::Quit);
        if let Some(kill) = self.kill.take() {
            kill();
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A job that runs. Dropping it stops the job.
pub struct JobHandle<'a> {
    link: &'a Link,
    id: u64,
    messages: mpsc::UnboundedReceiver<Arrival>,
    ended: bool,
}

impl JobHandle<'_> {
    /// Waits until the job's server listens; its port.
    ///
    /// # Errors
    /// Where the job fails first, the worker goes, or `limit` passes.
    pub async fn listening(&mut self, limit: Duration) -> Result<u16, LinkError> {
        match self.next("listening server", limit).await? {
            (_, Message::Listening { port, .. }) => Ok(port),
            (_, other) => Err(self.unexpected(&other)),
        }
    }

    /// Waits until the job's traffic flows; when the worker's word of it came.
    ///
    /// # Errors
    /// As [`Self::listening`].
    pub async fn running(&mut self, limit: Duration) -> Result<Instant, LinkError> {
        match self.next("traffic", limit).await? {
            (came, Message::Running { .. }) => Ok(came),
            (_, other) => Err(self.unexpected(&other)),
        }
    }

    /// Waits for the job's result.
    ///
    /// # Errors
    /// As [`Self::listening`].
    pub async fn done(mut self, limit: Duration) -> Result<JobResult, LinkError> {
        let deadline = Instant::now() + limit;
        loop {
            if let (_, Message::Done { result, .. }) = self.next_until("result", deadline, limit).await? {
                return Ok(*result);
            }
        }
    }

    /// Asks the job to end; it still answers.
    pub fn stop(&self) {
        self.link.send(Request::Stop { id: self.id });
    }

    fn unexpected(&self, message: &Message) -> LinkError {
        LinkError::Job {
            place: self.link.place.clone(),
            error: format!("unexpected answer {message:?}"),
        }
    }

    async fn next(&mut self, what: &'static str, limit: Duration) -> Result<Arrival, LinkError> {
        self.next_until(what, Instant::now() + limit, limit).await
    }

    async fn next_until(
        &mut self,
        what: &'static str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Arrival, LinkError> {
        let place = || self.link.place.clone();
        match timeout_at(deadline, self.messages.recv()).await {
            Err(_) => Err(LinkError::Late {
                place: place(),
                what,
                after: limit,
            }),
            Ok(None) => {
                self.ended = true;
                Err(self.link.gone())
            }
            Ok(Some((_, Message::Failed { error, .. }))) => {
                self.ended = true;
                Err(LinkError::Job {
                    place: place(),
                    error,
                })
            }
            Ok(Some(arrival)) => {
                self.ended |= matches!(arrival.1, Message::Done { .. });
                Ok(arrival)
            }
        }
    }
}

impl Drop for JobHandle<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.stop();
        }
        if let Some(jobs) = self
            .link
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            jobs.remove(&self.id);
        }
    }
}

/// Reads one message; `None` at the end of the worker's output.
async fn read_message(
    lines: &mut BufReader<Box<dyn AsyncRead + Send + Unpin>>,
) -> Result<Option<Message>, String> {
    let mut line = Vec::new();
    let read = lines.take(LONGEST_LINE as u64).read_until(b'\n', &mut line).await;
    match read {
        Ok(0) => Ok(None),
        Ok(_) => serde_json::from_slice(&line).map(Some).map_err(|error| {
            let start = String::from_utf8_lossy(line.get(..80).unwrap_or(&line))
                .trim_end()
                .to_owned();
            format!("said what is no message ({error}): {start:?}")
        }),
        Err(error) => Err(format!("could not be read: {error}")),
    }
}

/// Gives each message to the job it is for, until the worker ends or falls silent; says how it went.
async fn deliver(lines: &mut BufReader<Box<dyn AsyncRead + Send + Unpin>>, jobs: &Jobs) -> String {
    loop {
        let message = match timeout(SILENCE, read_message(lines)).await {
            Err(_) => return format!("was silent for {} s", SILENCE.as_secs()),
            Ok(Err(how)) => return how,
            Ok(Ok(None)) => return "has ended".to_owned(),
            Ok(Ok(Some(message))) => message,
        };
        let id = match &message {
            Message::Hello { .. } | Message::Heartbeat => continue,
            Message::Listening { id, .. }
            | Message::Running { id }
            | Message::Done { id, .. }
            | Message::Failed { id, .. } => *id,
        };
        if let Some(jobs) = jobs.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
            && let Some(job) = jobs.get(&id)
        {
            // One whom nobody waits for any more is of no interest.
            let _ = job.send((Instant::now(), message));
        }
    }
}

/// Keeps the end of a worker's log, and passes it on.
async fn keep_log(
    place: String,
    errors: Box<dyn AsyncRead + Send + Unpin>,
    log: Arc<Mutex<VecDeque<String>>>,
) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(place, "{line}");
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == LAST_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker over a connection that nothing comes by any more, as through a proxy that lost it, is given up.
    #[tokio::test]
    async fn a_worker_that_falls_silent_is_gone() {
        let (input, requests) = tokio::io::duplex(1 << 16);
        let (mut answers, output) = tokio::io::duplex(1 << 16);
        let hello = Message::Hello {
            version: VERSION,
            encapbench: String::new(),
            machine: String::new(),
            kernel: String::new(),
        };
        let mut line = serde_json::to_vec(&hello).unwrap();
        line.push(b'\n');
        answers.write_all(&line).await.unwrap();
        let transport = Transport {
            input: Box::new(input),
            output: Box::new(output),
            errors: Box::new(tokio::io::empty()),
            kill: Box::new(|| {}),
        };
        let link = Link::greet("pod@a", transport).await.unwrap();
        let job = link.start(Job::Inspect);
        let told = job.done(SILENCE * 6).await.unwrap_err().to_string();
        assert_eq!(told, "the worker in pod@a was silent for 10 s");
        assert!(!link.is_alive());
        drop((requests, answers));
    }
}
