//! What the threads of a load share with each other and with those that look on: counters, the order to stop, how a
//! stream came to its end.

use super::Role;
use crate::sys::{clock, event::Event};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

/// How long a paced thread sleeps at most before it looks whether it is to stop, in nanoseconds.
const NAP: u64 = 20_000_000;
/// How a stream's thread came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The limit was reached.
    Limit,
    /// The peer closed the stream.
    Closed,
    /// A call failed with this `errno`.
    Failed(i32),
}

const RUNNING: u32 = 0;
const FAILED: u32 = 0x1_0000;

impl End {
    pub(in crate::traffic) const fn code(self) -> u32 {
        match self {
            Self::Stopped => 1,
            Self::Limit => 2,
            Self::Closed => 3,
            Self::Failed(errno) => FAILED | errno.cast_unsigned(),
        }
    }

    pub(super) const fn from_code(code: u32) -> Option<Self> {
        match code {
            RUNNING => None,
            1 => Some(Self::Stopped),
            2 => Some(Self::Limit),
            3 => Some(Self::Closed),
            code => Some(Self::Failed((code & !FAILED).cast_signed())),
        }
    }

    /// Whether the stream broke, as against having been ended.
    pub const fn is_broken(self) -> bool {
        matches!(self, Self::Closed | Self::Failed(_))
    }
}

/// One stream's counters: written by its thread alone, on cache lines of their own (two, since processors fetch
/// them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::traffic) struct Counter {
    pub(in crate::traffic) bytes: AtomicU64,
    /// Of UDP: datagrams sent, or the highest number seen.
    pub(in crate::traffic) packets: AtomicU64,
    pub(in crate::traffic) lost: AtomicU64,
    pub(in crate::traffic) out_of_order: AtomicU64,
    /// The bits of an `f64`: seconds.
    pub(in crate::traffic) jitter: AtomicU64,
    /// Of a UDP receiver at a rate: bursts, datagrams in them, the longest.
    pub(in crate::traffic) bursts: [AtomicU64; 3],
    pub(in crate::traffic) end: AtomicU32,
}

/// What all threads of a load share. Read-mostly: the budgets are touched only where there is a limit.
#[derive(Debug)]
pub(in crate::traffic) struct Control {
    pub(super) stop_sending: AtomicBool,
    pub(super) stop: AtomicBool,
    /// Whether the warm-up is over.
    pub(in crate::traffic) measuring: AtomicBool,
    /// Whether the path couldn't do UDP_SEGMENT.
    pub(in crate::traffic) uncut: AtomicBool,
    /// Whether the kernel copied what was to go without a copy.
    pub(in crate::traffic) copied: AtomicBool,
    pub(in crate::traffic) limited: bool,
    pub(in crate::traffic) send_budget: AtomicI64,
    pub(super) receive_budget: AtomicI64,
    pub(in crate::traffic) wake: Arc<Event>,
}

impl Control {
    /// Takes up to `wanted` bytes out of a budget; 0 or less where it is used up.
    pub(in crate::traffic) fn take(&self, budget: &AtomicI64, wanted: i64) -> i64 {
        if self.limited {
            budget.fetch_sub(wanted, Relaxed).min(wanted)
        } else {
            wanted
        }
    }

    /// Puts back what was taken and not used.
    pub(in crate::traffic) fn give_back(&self, budget: &AtomicI64, (granted, wanted): (i64, i64), used: i64) {
        if self.limited && used < granted {
            budget.fetch_add(wanted - used, Relaxed);
        }
    }

    /// Counts received bytes towards the limit.
    pub(in crate::traffic) fn count_received(&self, bytes: u64) {
        if self.limited && bytes > 0 {
            let bytes = bytes as i64;
            let before = self.receive_budget.fetch_sub(bytes, Relaxed);
            if before > 0 && before <= bytes {
                self.wake.raise();
            }
        }
    }

    pub(in crate::traffic) fn to_stop(&self, role: Role) -> bool {
        self.stop.load(Relaxed) || role == Role::Send && self.stop_sending.load(Relaxed)
    }
}
/// Sleeps until `due`; false if it was told to stop meanwhile.
pub(in crate::traffic) fn wait_until(control: &Control, due: u64) -> bool {
    loop {
        let now = clock::now();
        if now >= due {
            return true;
        }
        clock::sleep_until(due.min(now + NAP));
        if control.to_stop(Role::Send) {
            return false;
        }
    }
}

/// How a failed call ends a stream; `None` where it only took too long.
pub(in crate::traffic) fn failure(error: &io::Error) -> Option<End> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            if error.raw_os_error() != Some(libc::ETIMEDOUT) =>
        {
            None
        }
        io::ErrorKind::Interrupted => None,
        io::ErrorKind::BrokenPipe => Some(End::Closed),
        _ => Some(End::Failed(error.raw_os_error().unwrap_or(0))),
    }
}
