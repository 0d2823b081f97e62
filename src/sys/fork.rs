//! Processes that std's `Command` can't start: ones in other namespaces, and the first one of a PID namespace.
//!
//! Between fork and exec only async-signal-safe calls are made: other threads may hold any lock, the allocator's
//! among them.
#![expect(unsafe_code, reason = "fork(2), and what a child does between it and exec")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// What a child becomes.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The program's file.
    pub program: CString,
    /// Its arguments, the first being its name.
    pub args: Vec<CString>,
    /// Its environment, each `NAME=value`.
    pub env: Vec<CString>,
    /// Its standard input, output and error; `None`: the caller's.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
    /// The network namespace it runs in.
    pub network: BorrowedFd<'a>,
    /// Whether it leads a process group of its own, which a terminal's signals don't reach.
    pub own_group: bool,
}

/// Which step of starting a child failed, and how.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// No process was made.
    #[error("can't fork")]
    Fork(#[source] io::Error),
    /// It could not enter the network namespace.
    #[error("the child can't enter its network namespace")]
    Namespace(#[source] io::Error),
    /// It could not set up its descriptors.
    #[error("the child can't set up its standard input, output and error")]
    Stdio(#[source] io::Error),
    /// It could not become the program.
    #[error("can't execute {program}")]
    Exec {
        /// The program's file.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

const STEP_NAMESPACE: u8 = 1;
const STEP_STDIO: u8 = 2;
const STEP_EXEC: u8 = 3;

/// Forks the first process of the calling thread's new PID namespace, which does nothing but reap, and which ends,
/// and with it by the kernel's hand every process of the namespace, as soon as the calling thread ends or the other
/// end of `alive`, a pipe, is closed.
///
/// The calling thread must block all signals, so that this process has them blocked too: it runs no handler.
///
/// # Errors
/// As fork(2).
pub fn fork_first_process(alive: BorrowedFd<'_>) -> io::Result<u32> {
    let alive = alive.as_raw_fd();
    // SAFETY: the child calls only async-signal-safe functions and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => first_process(alive),
        pid => Ok(pid.unsigned_abs()),
    }
}

/// The first process's whole life.
fn first_process(alive: RawFd) -> ! {
    // SAFETY: system calls on plain values and on a local struct; none allocates or takes a lock.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"encapbench-lab".as_ptr());
        libc::setsid();
        // Ignoring it, the kernel reaps orphans by itself.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        // No copy of the coordinator's descriptors may live on here: a pipe's reader would never see its end.
        if libc::dup2(alive, 0) == -1 {
            libc::_exit(1);
        }
        libc::syscall(libc::SYS_close_range, 1_u32, u32::MAX, 0_u32);
        loop {
            // The coordinator may have died before the parent-death signal was set; the pipe tells that too.
            let mut poll = libc::pollfd {
                fd: 0,
                events: 0,
                revents: 0,
            };
            if libc::poll(&raw mut poll, 1, -1) > 0 {
                libc::_exit(0);
            }
        }
    }
}

/// Forks a child that becomes `exec`, and dies with the calling thread. Returns once the program runs.
///
/// # Errors
/// Which step failed.
pub fn fork_exec(exec: &Exec<'_>) -> Result<u32, ForkError> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(&exec.args), pointers(&exec.env));
    // Above 2, so that no dup2 overwrites what a later one still needs.
    let mut above = Vec::new();
    let mut stdio = [-1; 3];
    for (slot, fd) in stdio.iter_mut().zip(&exec.stdio) {
        if let Some(fd) = fd {
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|e| ForkError::Stdio(e.into()))?;
            *slot = copy.as_raw_fd();
            above.push(copy);
        }
    }
    let (told, telling) = pipe().map_err(ForkError::Fork)?;
    let child = Child {
        program: &exec.program,
        args: &args,
        env: &env,
        stdio,
        network: exec.network.as_raw_fd(),
        own_group: exec.own_group,
        telling: telling.as_raw_fd(),
    };
    // SAFETY: the child calls only async-signal-safe functions, on memory prepared above, and never returns.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(ForkError::Fork(io::Error::last_os_error())),
        0 => child.run(),
        pid => pid,
    };
    drop(telling);
    let mut report = [0_u8; 5];
    let mut filled = 0;
    while filled < report.len() {
        match rustix::io::read(&told, &mut report[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ForkError::Fork(e.into())),
        }
    }
    let [step, errno @ ..] = report;
    if filled < report.len() {
        return Ok(pid.unsigned_abs());
    }
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It has ended, or is about to; that it did is already known.
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
    let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
    Err(match step {
        STEP_NAMESPACE => ForkError::Namespace(source),
        STEP_STDIO => ForkError::Stdio(source),
        _ => ForkError::Exec {
            program: exec.program.to_string_lossy().into_owned(),
            source,
        },
    })
}

/// A pipe that only the child of this fork keeps: close-on-exec, above the standard descriptors.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((
        rustix::io::fcntl_dupfd_cloexec(&read, 3)?,
        rustix::io::fcntl_dupfd_cloexec(&write, 3)?,
    ))
}

/// All that a child needs, in memory made before the fork.
struct Child<'a> {
    program: &'a CStr,
    args: &'a [*const c_char],
    env: &'a [*const c_char],
    stdio: [RawFd; 3],
    network: RawFd,
    own_group: bool,
    telling: RawFd,
}

impl Child<'_> {
    fn run(&self) -> ! {
        // SAFETY: async-signal-safe calls on memory of the parent, of which the child has its own copy; the pointer
        // arrays end with null and outlive the call, since execve either does not return or the child exits.
        unsafe {
            if libc::setns(self.network, libc::CLONE_NEWNET) == -1 {
                self.fail(STEP_NAMESPACE);
            }
            for (target, source) in (0..).zip(self.stdio) {
                if source >= 0 && libc::dup2(source, target) == -1 {
                    self.fail(STEP_STDIO);
                }
            }
            if self.own_group {
                libc::setpgid(0, 0);
            }
            for signal in [
                libc::SIGPIPE,
                libc::SIGINT,
                libc::SIGQUIT,
                libc::SIGTSTP,
                libc::SIGTTIN,
                libc::SIGTTOU,
                libc::SIGCHLD,
            ] {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // The parent may have died before that; then nothing reads the pipe any more.
            let mut poll = libc::pollfd {
                fd: self.telling,
                events: 0,
                revents: 0,
            };
            if libc::poll(&raw mut poll, 1, 0) > 0 {
                libc::_exit(127);
            }
            libc::execve(self.program.as_ptr(), self.args.as_ptr(), self.env.as_ptr());
            self.fail(STEP_EXEC)
        }
    }

    fn fail(&self, step: u8) -> ! {
        // SAFETY: errno is this thread's own; write and _exit are async-signal-safe.
        unsafe {
            let [a, b, c, d] = (*libc::__errno_location()).to_ne_bytes();
            let report = [step, a, b, c, d];
            libc::write(self.telling, report.as_ptr().cast(), report.len());
            libc::_exit(127)
        }
    }
}

/// Blocks all signals in the calling thread, so that other threads handle them.
pub fn block_signals() {
    // SAFETY: works on a local set; the old mask is not asked for.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
    }
}

/// Ignores what a terminal sends by Ctrl-C and Ctrl-\, for as long as a command that gets them too is waited for.
pub fn ignore_interrupts() {
    ignore(&[libc::SIGINT, libc::SIGQUIT]);
}

/// Ignores what would stop this process while a shell that controls jobs has its terminal.
pub fn ignore_stops() {
    ignore(&[libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU]);
}

fn ignore(signals: &[c_int]) {
    for signal in signals {
        // SAFETY: sets a disposition, no handler of ours is involved.
        unsafe {
            libc::signal(*signal, libc::SIG_IGN);
        }
    }
}

/// Makes the calling process's group the foreground one of the terminal at standard input again, after a shell had
/// it. Does nothing where that is no terminal. The caller ignores what would stop it ([`ignore_stops`]).
pub fn take_terminal_back() {
    // SAFETY: plain system calls on descriptor 0; failure leaves things as they were.
    unsafe {
        libc::tcsetpgrp(0, libc::getpgrp());
    }
}
