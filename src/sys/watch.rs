//! Waiting for a descriptor in tokio.
#![expect(
    unsafe_code,
    reason = "tokio's registration of a descriptor trusts its owner to keep it open"
)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches `fd` for reading, for instance a pidfd, which is readable once its process has ended.
///
/// # Errors
/// Where the descriptor can't be watched (a regular file, for instance).
///
/// # Panics
/// Outside a tokio runtime with I/O.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same, until it is dropped, which the AsyncFd that owns it from
    // now on does after deregistering it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
