//! SCTP socket options (sctp(7), RFC 6458; numbers and structures of linux/sctp.h).
#![expect(
    unsafe_code,
    reason = "getsockopt and setsockopt with structures that the safe wrappers don't offer"
)]

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

const SCTP_INITMSG: libc::c_int = 2;
const SCTP_NODELAY: libc::c_int = 3;
const SCTP_MAXSEG: libc::c_int = 13;
const SCTP_STATUS: libc::c_int = 14;
const SCTP_SOCKOPT_BINDX_ADD: libc::c_int = 100;
const SCTP_GET_ASSOC_STATS: libc::c_int = 112;

/// `struct sctp_initmsg`; 0 leaves a field as it is.
#[repr(C)]
struct InitMessage {
    outgoing_streams: u16,
    incoming_streams: u16,
    attempts: u16,
    timeout: u16,
}

/// `struct sctp_assoc_value`.
#[repr(C)]
struct AssociationValue {
    /// 0 is the association to come, or the one that a one-to-one socket has.
    association: i32,
    value: u32,
}

/// Sets an option to `length` bytes at `value`.
fn set<T>(socket: impl AsFd, option: libc::c_int, value: *const T, length: usize) -> io::Result<()> {
    // SAFETY: every caller in this file hands over a pointer to `length` initialised bytes that live through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_SCTP,
            option,
            value.cast(),
            length as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct sctp_status` as words of 32 bits, and `struct sctp_assoc_stats` as words of 64; what the kernel doesn't have is 0.
#[derive(Debug, Clone)]
pub struct RawStatus {
    /// SCTP_STATUS.
    pub status: [u32; 44],
    /// SCTP_GET_ASSOC_STATS.
    pub counts: [u64; 32],
}

impl Default for RawStatus {
    fn default() -> Self {
        Self {
            status: [0; 44],
            counts: [0; 32],
        }
    }
}

/// How the association of a one-to-one socket is (SCTP_STATUS, SCTP_GET_ASSOC_STATS).
///
/// # Errors
/// Where the socket is not SCTP, or has no association.
pub fn status(socket: impl AsFd) -> io::Result<RawStatus> {
    let socket = socket.as_fd();
    let mut raw = RawStatus::default();
    get(socket, SCTP_STATUS, &mut raw.status)?;
    // Kernels before 3.8 don't count.
    let _ = get(socket, SCTP_GET_ASSOC_STATS, &mut raw.counts);
    Ok(raw)
}

/// Reads an option into words; the first is the association, for which 0 stands.
fn get<T: Copy, const N: usize>(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    words: &mut [T; N],
) -> io::Result<()> {
    let mut length = size_of_val(words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `words`, which has that many and takes any bits: both callers
    // in this file have integers. It writes the written length to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_SCTP,
            option,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A one-to-one socket, which has one association as a TCP socket has one connection.
///
/// # Errors
/// Where the kernel has no SCTP: the module `sctp` is neither there nor loadable.
pub fn socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::SCTP))
}

/// Sends small messages at once (SCTP_NODELAY).
///
/// # Errors
/// Where the socket is not SCTP.
pub fn set_nodelay(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    set(socket, SCTP_NODELAY, &raw const on, size_of_val(&on))
}

/// Bounds the data of one packet, in bytes (SCTP_MAXSEG).
///
/// # Errors
/// Where the kernel finds it too small or too big.
pub fn set_max_segment(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let value = AssociationValue {
        association: 0,
        value: bytes,
    };
    set(socket, SCTP_MAXSEG, &raw const value, size_of_val(&value))
}

/// Asks for so many outgoing SCTP streams in the association to come (SCTP_INITMSG).
///
/// # Errors
/// Where the socket is not SCTP.
pub fn set_streams(socket: impl AsFd, streams: u16) -> io::Result<()> {
    let value = InitMessage {
        outgoing_streams: streams,
        incoming_streams: 0,
        attempts: 0,
        timeout: 0,
    };
    set(socket, SCTP_INITMSG, &raw const value, size_of_val(&value))
}

/// Binds a socket to further addresses of this host (`sctp_bindx`, RFC 6458 9.1); also to the first one, where it is not
/// bound yet. All have one port.
///
/// # Errors
/// Where an address is not this host's, or not of the socket's family.
pub fn bind_more(socket: impl AsFd, addresses: &[SocketAddr]) -> io::Result<()> {
    let mut packed = Vec::new();
    for address in addresses {
        let address = SockAddr::from(*address);
        // SAFETY: the pointer and the length are those of one socket address, alive while it is copied.
        packed.extend_from_slice(unsafe {
            std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.len() as usize)
        });
    }
    set(socket, SCTP_SOCKOPT_BINDX_ADD, packed.as_ptr(), packed.len())
}
