//! CLOCK_MONOTONIC in nanoseconds, and sleeping until a point of it (clock_gettime(2), clock_nanosleep(2)).

use rustix::{
    io::Errno,
    thread::{ClockId as SleepClock, clock_nanosleep_absolute, set_current_timer_slack},
    time::{ClockId, Timespec, clock_gettime},
};
use std::{io, num::NonZeroU64};

const NANOS: u64 = 1_000_000_000;

/// The finest timer slack that can be asked for.
const FINEST_SLACK: NonZeroU64 = NonZeroU64::MIN;

/// Now, in nanoseconds since an unspecified point (the boot). Steady: it never goes back.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The kernel's monotonic clock is never negative.
    time.tv_sec as u64 * NANOS + time.tv_nsec as u64
}

/// How far CLOCK_REALTIME is ahead of [`now`] at this moment, in nanoseconds, for times that the kernel tells in it.
pub fn real_ahead() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    (time.tv_sec as u64 * NANOS + time.tv_nsec as u64).saturating_sub(now())
}

/// Sleeps until [`now`] is at least `due`; returns at once if it is already.
///
/// It wakes late by the timer slack of the thread (50 µs unless [`set_fine_timers`] was called) and by what the
/// machine takes to schedule it.
pub fn sleep_until(due: u64) {
    let time = Timespec {
        tv_sec: (due / NANOS) as _,
        tv_nsec: (due % NANOS) as _,
    };
    while now() < due {
        match clock_nanosleep_absolute(SleepClock::Monotonic, &time) {
            Ok(()) => return,
            Err(Errno::INTR) => {}
            // Not to return early where the kernel refuses the sleep itself; it doesn't for this clock.
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Sets the calling thread's timer slack to 1 ns, so that sleeps end when they should and not up to 50 µs later
/// (PR_SET_TIMERSLACK, prctl(2)). Threads that it creates later inherit it.
///
/// # Errors
/// Where the kernel has no timer slack.
pub fn set_fine_timers() -> io::Result<()> {
    set_current_timer_slack(Some(FINEST_SLACK)).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_never_ends_early() {
        for nanos in [0, 1, 1000, 999_999, 3_000_000] {
            let due = now() + nanos;
            sleep_until(due);
            assert!(now() >= due);
        }
        // A point in the past is no sleep.
        sleep_until(0);
    }

    #[test]
    fn the_slack_is_set_for_this_thread_only() {
        std::thread::spawn(|| {
            set_fine_timers().unwrap();
            assert_eq!(rustix::thread::current_timer_slack().unwrap(), 1);
        })
        .join()
        .unwrap();
        assert_ne!(rustix::thread::current_timer_slack().unwrap(), 1);
    }
}
