//! TUN devices: network devices whose packets a process reads and writes (tuntap.rst of the kernel's documentation).
#![expect(unsafe_code, reason = "the ioctls of /dev/net/tun")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

/// Where TUN devices come from.
pub const FILE: &str = "/dev/net/tun";

/// Opens the TUN device `name` of the calling thread's network namespace, and makes it if it is not there. Packets are
/// bare IP; reads and writes don't block.
///
/// # Errors
/// Where [`FILE`] is not there or may not be opened (usually root may), `EPERM` without CAP_NET_ADMIN in the namespace,
/// `EBUSY` where a process has the device open already, `InvalidInput` for a name longer than 15 bytes.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(FILE)?;
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `ifreq` is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF takes a pointer to an `ifreq`, which lives over the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    Ok(file.into())
}

/// Keeps a TUN device when no process has it open any more, until its network namespace ends.
///
/// # Errors
/// As ioctl(2).
pub fn keep(tun: &OwnedFd) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes a number.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
