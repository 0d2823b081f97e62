//! Namespaces of the calling thread: unshare(2), setns(2).
#![expect(
    unsafe_code,
    reason = "system calls that rustix does not have, or not in a safe form"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Users and groups, and what capabilities reach. Only a process of one thread may change it.
    User,
    /// Network devices, addresses, routes, sockets.
    Net,
    /// Process ids; for children to come, the caller keeps its own.
    Pid,
}

impl Namespace {
    const fn flag(self) -> libc::c_int {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Net => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
        }
    }
}

/// Puts the calling thread in a new namespace of `kind`.
///
/// # Errors
/// `EPERM` where the caller may not, `ENOSPC` where a limit of /proc/sys/user is reached, `EINVAL` where the kernel
/// has no such namespaces or, for a user namespace, the process has other threads.
pub fn unshare(kind: Namespace) -> io::Result<()> {
    // SAFETY: takes flags only; none of these three touches memory or descriptors.
    check(unsafe { libc::unshare(kind.flag()) })
}

/// Puts the calling thread in the namespace of `kind` that `namespace` (a file of /proc/PID/ns) refers to.
///
/// # Errors
/// As setns(2).
pub fn enter(namespace: BorrowedFd<'_>, kind: Namespace) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the call checks that it is a namespace of that kind.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind.flag()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
