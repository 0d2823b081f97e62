//! The processes of a lab: all in one PID namespace, all forked by one thread.
//!
//! The first process of the namespace does nothing but hold it open. It dies with the thread that forked it, hence
//! with the coordinator however that ends, and the kernel then kills the rest of the namespace: workers, shells and
//! whatever they started.

use crate::sys::fork::{self, Exec, ForkError};
use crate::sys::namespace::{self, Namespace};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// Why a process could not be started, watched or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The kernel gave no PID namespace.
    #[error("can't make a PID namespace for the lab's processes")]
    PidNamespace(#[source] io::Error),
    /// The PID namespace's first process or its thread could not be started.
    #[error("can't start the first process of the lab's PID namespace")]
    First(#[source] io::Error),
    /// No such program.
    #[error("no program {program:?} in {path}")]
    NotFound {
        /// What was looked for.
        program: OsString,
        /// Where: the directories of `PATH`, or the file itself.
        path: String,
    },
    /// A zero byte in the program, an argument or the environment.
    #[error("{0:?} has a zero byte in it")]
    ZeroByte(OsString),
    /// Starting it failed.
    #[error(transparent)]
    Fork(#[from] ForkError),
    /// A pipe or a process descriptor could not be had.
    #[error("can't get a descriptor for a process of the lab")]
    Descriptor(#[source] io::Error),
    /// The lab is gone.
    #[error("the lab has ended")]
    Ended,
}

/// Where a standard descriptor of a process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stdio {
    /// Where the caller's leads.
    #[default]
    Inherit,
    /// Nowhere: /dev/null.
    Null,
    /// To the caller, by a pipe.
    Piped,
}

/// What to start in a place.
#[derive(Debug, Clone)]
pub struct Command {
    /// A file, or a name looked for in `PATH`.
    pub program: OsString,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Environment variables set beside those of the caller.
    pub env: Vec<(OsString, OsString)>,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// Whether it leads a process group of its own, which a terminal's Ctrl-C doesn't reach.
    pub own_group: bool,
}

impl Command {
    /// A command with the caller's environment and descriptors.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: Stdio::Inherit,
            stdout: Stdio::Inherit,
            stderr: Stdio::Inherit,
            own_group: false,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets standard input, output and error.
    #[must_use]
    pub const fn stdio(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Self {
        self.stdin = stdin;
        self.stdout = stdout;
        self.stderr = stderr;
        self
    }

    /// Lets it lead a process group of its own.
    #[must_use]
    pub const fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }
}

/// A process of a lab. It is killed when the lab ends; dropping this neither ends nor reaps it before.
#[derive(Debug)]
pub struct LabProcess {
    child: Arc<Child>,
    /// The writing end of its standard input, if piped.
    pub stdin: Option<OwnedFd>,
    /// The reading end of its standard output, if piped.
    pub stdout: Option<OwnedFd>,
    /// The reading end of its standard error, if piped.
    pub stderr: Option<OwnedFd>,
}

#[derive(Debug)]
struct Child {
    pid: u32,
    pidfd: OwnedFd,
    status: Mutex<Option<ExitStatus>>,
}

impl Child {
    fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        use rustix::process::{Pid, WaitOptions, waitpid};
        // Held over the system call: a pid is another process's once reaped.
        let mut status = lock(&self.status);
        if status.is_none() {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            *status =
                waitpid(pid, WaitOptions::NOHANG)?.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        Ok(*status)
    }

    fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let mut ended = [rustix::event::PollFd::new(
                &self.pidfd,
                rustix::event::PollFlags::IN,
            )];
            match rustix::event::poll(&mut ended, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            // It has ended already.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl LabProcess {
    /// Its process id, as the coordinator sees it.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it ends, blocking the calling thread.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn wait_blocking(&self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Waits until it ends. May be cancelled and called again.
    ///
    /// # Errors
    /// As waitpid(2).
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        let ended = crate::sys::watch::readable(self.child.pidfd.try_clone()?)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ended.readable().await?.clear_ready();
        }
    }

    /// Kills it at once (SIGKILL); nothing happens where it has ended already.
    ///
    /// # Errors
    /// As `pidfd_send_signal(2)`.
    pub fn kill(&self) -> io::Result<()> {
        self.child.signal(rustix::process::Signal::KILL)
    }

    /// Asks it to end (SIGTERM); nothing happens where it has ended already.
    ///
    /// # Errors
    /// As `pidfd_send_signal(2)`.
    pub fn terminate(&self) -> io::Result<()> {
        self.child.signal(rustix::process::Signal::TERM)
    }
}

/// What the lab's thread is asked to start.
struct Request {
    exec: Prepared,
    network: Arc<OwnedFd>,
    reply: mpsc::Sender<Result<Arc<Child>, ProcessError>>,
}

struct Prepared {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    stdio: [Option<OwnedFd>; 3],
    own_group: bool,
}

/// The thread that forks a lab's processes, and through which they are started.
#[derive(Debug)]
pub(super) struct Processes {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    pid_namespace: Arc<OwnedFd>,
}

impl Processes {
    /// Makes the PID namespace and its first process.
    ///
    /// # Errors
    /// Where the kernel refuses either.
    pub(super) fn start() -> Result<Self, ProcessError> {
        Self::start_thread(None)
    }

    /// Starts processes in a PID namespace that is there already.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub(super) fn join(pid_namespace: OwnedFd) -> Result<Self, ProcessError> {
        Self::start_thread(Some(pid_namespace))
    }

    fn start_thread(existing: Option<OwnedFd>) -> Result<Self, ProcessError> {
        let (requests, inbox) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("lab".to_owned())
            .spawn(move || {
                fork::block_signals();
                match enter_pid_namespace(existing) {
                    Ok((namespace, first)) => {
                        // The receiver waits for exactly this.
                        let _ = ready.send(Ok(Arc::new(namespace)));
                        serve(&inbox, first);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(ProcessError::First)?;
        let pid_namespace = started.recv().map_err(|_| ProcessError::Ended)??;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
            pid_namespace,
        })
    }

    /// The PID namespace, for others to join.
    pub(super) fn pid_namespace(&self) -> BorrowedFd<'_> {
        self.pid_namespace.as_fd()
    }

    /// Starts `command` in the network namespace `network`; returns once the program runs.
    ///
    /// # Errors
    /// Where there is no such program or the kernel refuses a step.
    pub(super) fn spawn(
        &self,
        network: &Arc<OwnedFd>,
        command: &Command,
    ) -> Result<LabProcess, ProcessError> {
        let (stdin, child_in) = connect(command.stdin, End::Read)?;
        let (stdout, child_out) = connect(command.stdout, End::Write)?;
        let (stderr, child_err) = connect(command.stderr, End::Write)?;
        let env = environment(&command.env);
        let program = find(&command.program, env.get(OsStr::new("PATH")))?;
        let prepared = Prepared {
            program: c_string(program.into_os_string())?,
            args: std::iter::once(&command.program)
                .chain(&command.args)
                .map(|arg| c_string(arg.clone()))
                .collect::<Result<_, _>>()?,
            env: env
                .into_iter()
                .map(|(name, value)| {
                    let mut pair = name;
                    pair.push("=");
                    pair.push(value);
                    c_string(pair)
                })
                .collect::<Result<_, _>>()?,
            stdio: [child_in, child_out, child_err],
            own_group: command.own_group,
        };
        let (reply, answer) = mpsc::channel();
        self.requests
            .as_ref()
            .ok_or(ProcessError::Ended)?
            .send(Request {
                exec: prepared,
                network: Arc::clone(network),
                reply,
            })
            .map_err(|_| ProcessError::Ended)?;
        let child = answer.recv().map_err(|_| ProcessError::Ended)??;
        Ok(LabProcess {
            child,
            stdin,
            stdout,
            stderr,
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // It ends by itself once it has no one to serve; a panic in it has been reported already.
            let _ = thread.join();
        }
    }
}

/// The first process of a PID namespace, and the pipe that keeps it alive.
struct First {
    process: Child,
    alive: OwnedFd,
}

fn enter_pid_namespace(existing: Option<OwnedFd>) -> Result<(OwnedFd, Option<First>), ProcessError> {
    if let Some(pid_namespace) = existing {
        namespace::enter(pid_namespace.as_fd(), Namespace::Pid).map_err(ProcessError::PidNamespace)?;
        return Ok((pid_namespace, None));
    }
    namespace::unshare(Namespace::Pid).map_err(ProcessError::PidNamespace)?;
    let (watched, alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| ProcessError::First(e.into()))?;
    let pid = fork::fork_first_process(watched.as_fd()).map_err(ProcessError::First)?;
    let process = child(pid)?;
    let pid_namespace = std::fs::File::open(format!("/proc/{pid}/ns/pid")).map_err(ProcessError::First)?;
    Ok((pid_namespace.into(), Some(First { process, alive })))
}

fn child(pid: u32) -> Result<Child, ProcessError> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let id = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(ProcessError::Ended)?;
    // Not reaped yet, so the id is still this child's.
    let pidfd =
        pidfd_open(id, PidfdFlags::empty()).map_err(|e| ProcessError::Descriptor(io::Error::from(e)))?;
    Ok(Child {
        pid,
        pidfd,
        status: Mutex::new(None),
    })
}

/// Forks what is asked for until no one can ask any more; then ends and reaps all of it.
fn serve(inbox: &mpsc::Receiver<Request>, first: Option<First>) {
    let mut children: Vec<Arc<Child>> = Vec::new();
    while let Ok(request) = inbox.recv() {
        let Prepared {
            program,
            args,
            env,
            stdio,
            own_group,
        } = request.exec;
        let [stdin, stdout, stderr] = &stdio;
        let started = fork::fork_exec(&Exec {
            program,
            args,
            env,
            stdio: [stdin, stdout, stderr].map(|fd| fd.as_ref().map(OwnedFd::as_fd)),
            network: request.network.as_fd(),
            own_group,
        })
        .map_err(ProcessError::from)
        .and_then(child)
        .map(Arc::new);
        children.retain(|child| lock(&child.status).is_none());
        if let Ok(child) = &started {
            children.push(Arc::clone(child));
        }
        // Whoever asked may have gone; then the process ends with the lab.
        let _ = request.reply.send(started);
    }
    if let Some(first) = &first {
        // Its end is the end of all others, orphans included.
        if let Err(error) = first.process.signal(rustix::process::Signal::KILL) {
            tracing::warn!("can't end the lab's first process: {error}");
        }
    }
    for child in &children {
        if let Err(error) = child
            .signal(rustix::process::Signal::KILL)
            .and_then(|()| child.wait())
        {
            tracing::warn!("can't reap process {} of the lab: {error}", child.pid);
        }
    }
    // Only now: it ends after every other process of its namespace has been reaped.
    if let Some(First { process, alive }) = first {
        drop(alive);
        if let Err(error) = process.wait() {
            tracing::warn!("can't reap the lab's first process: {error}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
enum End {
    Read,
    Write,
}

/// The caller's end and the child's end, the latter being of kind `end`.
fn connect(stdio: Stdio, end: End) -> Result<(Option<OwnedFd>, Option<OwnedFd>), ProcessError> {
    match stdio {
        Stdio::Inherit => Ok((None, None)),
        Stdio::Null => {
            let null = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map_err(ProcessError::Descriptor)?;
            Ok((None, Some(null.into())))
        }
        Stdio::Piped => {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| ProcessError::Descriptor(e.into()))?;
            Ok(match end {
                End::Read => (Some(write), Some(read)),
                End::Write => (Some(read), Some(write)),
            })
        }
    }
}

fn environment(set: &[(OsString, OsString)]) -> BTreeMap<OsString, OsString> {
    std::env::vars_os().chain(set.iter().cloned()).collect()
}

fn c_string(text: OsString) -> Result<CString, ProcessError> {
    CString::new(text.into_vec()).map_err(|e| ProcessError::ZeroByte(OsString::from_vec(e.into_vec())))
}

/// The program's file: as it is if it has a slash, else the first executable file of that name in `path`.
fn find(program: &OsStr, path: Option<&OsString>) -> Result<PathBuf, ProcessError> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.into());
    }
    let path = path.map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), OsString::as_os_str);
    std::env::split_paths(path)
        .map(|directory| directory.join(program))
        .find(|file| is_executable(file))
        .ok_or_else(|| ProcessError::NotFound {
            program: program.to_owned(),
            path: path.to_string_lossy().into_owned(),
        })
}

fn is_executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
