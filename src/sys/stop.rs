//! A token that ends work: cloneable, seen by threads that look and by threads that sleep in `poll`.
//!
//! An eventfd (eventfd(2)) that is written once and never read stays readable, so every poller on it wakes.

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Tells work to end. All clones are one token; once stopped it stays stopped.
#[derive(Debug, Clone)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stopped: AtomicBool,
    event: OwnedFd,
}

impl Stop {
    /// A token that is not stopped.
    ///
    /// # Errors
    /// Where the process has no descriptor left for the eventfd.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            inner: Arc::new(Inner {
                stopped: AtomicBool::new(false),
                event,
            }),
        })
    }

    /// Stops: [`Self::is_stopped`] is true from now on, and [`Self::fd`] readable.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        // It can fail only when its counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.inner.event, &1_u64.to_ne_bytes());
    }

    /// Whether it was stopped; one atomic load, cheap enough for a hot loop.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// A descriptor that is readable once stopped, for `poll` and `epoll`. Don't read it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }

    /// Sleeps until stopped or until `timeout` has passed; returns whether it was stopped.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.is_stopped() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.fd(), PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Nothing else can be wrong with a descriptor that lives as long as this token; not to spin if it is.
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_when_a_clone_stops() {
        let stop = Stop::new().unwrap();
        let clone = stop.clone();
        let began = Instant::now();
        let sleeper = std::thread::spawn(move || clone.wait(Duration::from_secs(30)));
        stop.stop();
        assert!(sleeper.join().unwrap());
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(stop.wait(Duration::from_secs(30)), "stays stopped");
    }

    #[test]
    fn an_unstopped_token_waits_its_time() {
        let stop = Stop::new().unwrap();
        let began = Instant::now();
        assert!(!stop.wait(Duration::from_millis(20)));
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert!(!stop.is_stopped());
    }

    #[test]
    fn its_descriptor_polls_readable_for_every_poller() {
        let stop = Stop::new().unwrap();
        let now = Timespec::default();
        let readable = |stop: &Stop| poll(&mut [PollFd::new(stop, PollFlags::IN)], Some(&now)).unwrap() == 1;
        assert!(!readable(&stop));
        stop.stop();
        stop.stop();
        assert!(readable(&stop));
        assert!(readable(&stop));
    }
}
