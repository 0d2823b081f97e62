//! The course of a latency test: its measured time, the thread that conducts, what the others count, the result.

use super::{LatencyError, LatencyEvent, LatencyOptions};
use crate::{
    measure::{HistogramError, LatencyHistogram, LatencyResult, ProcessCpu, tcp_info},
    sys::{clock, stop::Stop},
    traffic::schedule::Schedule,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    net::IpAddr,
    os::fd::AsFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

/// How long after the end of the measured time answers are still waited for.
const GRACE: Duration = Duration::from_secs(1);
/// How often [`LatencyEvent::Progress`] is told.
const TICK: Duration = Duration::from_secs(1);
/// The longest sleep between looks at whether the test was stopped, in nanoseconds.
const NAP: u64 = 50_000_000;

/// The measured time of a test, in nanoseconds of [`clock::now`].
#[derive(Debug, Clone, Copy)]
pub(in crate::traffic) struct Window {
    pub(in crate::traffic) begin: u64,
    pub(in crate::traffic) from: u64,
    pub(in crate::traffic) end: u64,
}

impl Window {
    /// From `begin` on, as the options say.
    pub(in crate::traffic) fn new(begin: u64, options: &LatencyOptions) -> Self {
        let from = begin + options.omit.as_nanos() as u64;
        Self {
            begin,
            from,
            end: from + options.duration.as_nanos() as u64,
        }
    }

    /// When answers are waited for no longer.
    pub(in crate::traffic) const fn deadline(&self) -> u64 {
        self.end + GRACE.as_nanos() as u64
    }

    /// Seconds that were measured until `time`.
    fn seconds_until(&self, time: u64) -> f64 {
        time.min(self.end).saturating_sub(self.from) as f64 / 1e9
    }
}

/// What the working threads and the conducting one tell each other.
pub(in crate::traffic) struct Stage {
    /// Set when answers are waited for no longer.
    cut: AtomicBool,
    /// Set by one of two workers when the other has nothing left to do.
    abandoned: AtomicBool,
    /// Stopped when the workers have ended.
    finished: Stop,
    /// Transactions until now.
    transactions: AtomicU64,
}

/// How a test came to its end.
#[derive(Debug)]
pub(in crate::traffic) enum Ending {
    /// Its time was over.
    Complete,
    /// The connection broke, at this time.
    Broken(io::Error, u64),
}

impl Stage {
    pub(in crate::traffic) fn new() -> Result<Self, LatencyError> {
        Ok(Self {
            cut: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            finished: Stop::new().map_err(LatencyError::system("make an eventfd"))?,
            transactions: AtomicU64::new(0),
        })
    }

    /// Whether answers are waited for no longer.
    pub(in crate::traffic) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Tells the other worker that there is nothing left to do.
    pub(in crate::traffic) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Whether the other worker told so.
    pub(in crate::traffic) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Tells how many transactions there were until now.
    pub(in crate::traffic) fn tell(&self, transactions: u64) {
        self.transactions.store(transactions, Ordering::Relaxed);
    }

    /// Tells that the workers have ended.
    pub(in crate::traffic) fn finish(&self) {
        self.finished.stop();
    }

    /// Sleeps until `due`; returns whether the test still goes on then.
    pub(in crate::traffic) fn sleep_until(&self, due: u64) -> bool {
        loop {
            let now = clock::now();
            let over = self.is_cut() || self.is_abandoned();
            if over || now >= due {
                return !over;
            }
            clock::sleep_until(due.min(now + NAP));
        }
    }

    /// What an error of the connection means: nothing, where it was shut because time is up.
    pub(in crate::traffic) fn ending(&self, error: io::Error) -> Ending {
        if self.is_cut() {
            Ending::Complete
        } else {
            Ending::Broken(error, clock::now())
        }
    }

    /// Waits until the workers have ended, time is up or the test is stopped; in the latter two it calls `shut`, which
    /// must wake the workers. Tells progress. Returns when it was stopped, if so.
    pub(in crate::traffic) fn conduct(
        &self,
        window: Window,
        stop: &Stop,
        shut: impl FnOnce(),
        on_event: &mut dyn FnMut(LatencyEvent),
    ) -> Option<u64> {
        let deadline = window.deadline();
        let tick = TICK.as_nanos() as u64;
        let mut next = window.begin + tick;
        let stopped = loop {
            let now = clock::now();
            if self.finished.is_stopped() {
                return None;
            }
            if stop.is_stopped() {
                break Some(now);
            }
            if now >= deadline {
                break None;
            }
            if now >= next {
                on_event(LatencyEvent::Progress {
                    seconds: (now - window.begin) as f64 / 1e9,
                    transactions: self.transactions.load(Ordering::Relaxed),
                });
                next += tick * (1 + (now - next) / tick);
                continue;
            }
            let left = Duration::from_nanos(next.min(deadline) - now);
            let mut fds = [
                PollFd::new(&self.finished, PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            // An interrupted poll is as good as one that timed out: all is looked at again.
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        };
        self.cut.store(true, Ordering::Release);
        shut();
        stopped
    }
}

/// The times of a test, counted.
pub(in crate::traffic) struct Tally {
    pub(in crate::traffic) latency: LatencyHistogram,
    pub(in crate::traffic) saturated: u64,
    /// Transactions, the warm-up's included.
    pub(in crate::traffic) all: u64,
}

impl Tally {
    pub(in crate::traffic) fn new() -> Result<Self, HistogramError> {
        Ok(Self {
            latency: LatencyHistogram::new()?,
            saturated: 0,
            all: 0,
        })
    }

    /// Counts a transaction, and its time where it is of the measured part.
    pub(in crate::traffic) fn record(&mut self, nanos: u64, measured: bool) {
        self.all += 1;
        if measured {
            self.saturated += u64::from(self.latency.record(nanos));
        }
    }
}

/// All that a test's threads know at its end.
pub(in crate::traffic) struct Tested {
    pub(in crate::traffic) tally: Tally,
    pub(in crate::traffic) send_lag: Option<LatencyHistogram>,
    /// Requests of the measured time that had no answer, where the whole time passed.
    pub(in crate::traffic) unanswered: u64,
    pub(in crate::traffic) total_bytes: u64,
    pub(in crate::traffic) ending: Ending,
}

/// What the kernel says of the path.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::traffic) struct PathFacts {
    pub(in crate::traffic) path_mtu: Option<u32>,
    pub(in crate::traffic) mss: Option<u32>,
}

impl PathFacts {
    pub(in crate::traffic) fn of(socket: &impl AsFd) -> Self {
        tcp_info::sample(socket).map_or_else(
            |_| Self::default(),
            |info| Self {
                path_mtu: (info.path_mtu > 0).then_some(info.path_mtu),
                mss: (info.mss > 0).then_some(info.mss),
            },
        )
    }
}

/// Puts the result together.
pub(in crate::traffic) fn conclude(
    options: &LatencyOptions,
    window: Window,
    tested: Tested,
    stopped: Option<u64>,
    seen: IpAddr,
    facts: PathFacts,
    cpu: ProcessCpu,
) -> Result<LatencyResult, LatencyError> {
    let address = options.address;
    let until = match (&tested.ending, stopped) {
        (Ending::Broken(_, time), _) => *time,
        (Ending::Complete, stopped) => stopped.unwrap_or(window.end),
    };
    let result = LatencyResult {
        transactions: tested.tally.latency.count(),
        seconds: window.seconds_until(until),
        latency: tested.tally.latency,
        send_lag: tested.send_lag,
        saturated: tested.tally.saturated,
        unanswered: tested.unanswered,
        total_bytes: tested.total_bytes,
        peer_address: seen.to_canonical(),
        path_mtu: facts.path_mtu,
        mss: facts.mss,
        process_user_seconds: cpu.user_seconds,
        process_system_seconds: cpu.system_seconds,
    };
    match tested.ending {
        Ending::Broken(source, _) if source.kind() == io::ErrorKind::AddrNotAvailable => {
            Err(LatencyError::Ports {
                address,
                source,
                partial: Box::new(result),
            })
        }
        Ending::Broken(source, _) => Err(LatencyError::PeerGone {
            address,
            source,
            partial: Box::new(result),
        }),
        Ending::Complete if stopped.is_some() => Err(LatencyError::Stopped {
            address,
            partial: Box::new(result),
        }),
        Ending::Complete if result.transactions == 0 => Err(LatencyError::Silent {
            address,
            partial: Box::new(result),
        }),
        Ending::Complete => Ok(result),
    }
}

/// How late requests were sent against their schedule.
pub(in crate::traffic) struct Lag {
    histogram: LatencyHistogram,
    schedule: Schedule,
    /// Requests that were sent, those of the warm-up included.
    pub(in crate::traffic) sent: u64,
}

impl Lag {
    pub(in crate::traffic) fn new(schedule: Schedule) -> Result<Self, HistogramError> {
        Ok(Self {
            histogram: LatencyHistogram::new()?,
            schedule,
            sent: 0,
        })
    }

    /// When the next request is due; `None` after the last.
    pub(in crate::traffic) fn next_due(&self) -> Option<u64> {
        (self.sent < self.schedule.total()).then(|| self.schedule.due(self.sent))
    }

    /// Counts a request that was sent so many nanoseconds late.
    pub(in crate::traffic) fn record(&mut self, late: u64) {
        if self.schedule.is_measured(self.sent) {
            self.histogram.record(late);
        }
        self.sent += 1;
    }

    /// Counts what was due before now and could not be sent as at least so late as it is now.
    pub(in crate::traffic) fn close(mut self) -> LatencyHistogram {
        let now = clock::now();
        while let Some(due) = self.next_due().filter(|due| *due < now) {
            self.record(now - due);
        }
        self.histogram
    }
}

/// Waits for a thread; what it panicked with goes on here.
pub(in crate::traffic) fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
