//! Socket calls that neither socket2 nor rustix has: TCP_INFO of whatever length the kernel knows, receiving
//! and sending without copying, options.
#![expect(
    unsafe_code,
    reason = "getsockopt, setsockopt and recv with arguments that the safe wrappers don't offer"
)]

use std::{
    io,
    mem::zeroed,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// A message is about sends without a copy (linux/errqueue.h).
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;

/// The kernel copied what was to go without a copy (linux/errqueue.h).
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Room for the `tcp_info` of kernels to come; 6.18 has 280 bytes.
const TCP_INFO_ROOM: usize = 512;

/// The raw `struct tcp_info` of a socket, as long as this kernel makes it.
#[derive(Debug, Clone)]
pub struct RawTcpInfo {
    bytes: [u8; TCP_INFO_ROOM],
    length: usize,
}

impl RawTcpInfo {
    /// What the kernel filled in.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

/// TCP_INFO (tcp(7)).
///
/// # Errors
/// Where the socket is not TCP.
pub fn tcp_info(socket: impl AsFd) -> io::Result<RawTcpInfo> {
    let mut info = RawTcpInfo {
        bytes: [0; TCP_INFO_ROOM],
        length: 0,
    };
    let mut length = TCP_INFO_ROOM as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info.bytes`, which has that many, and the written
    // length to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    info.length = length as usize;
    Ok(info)
}

/// Receives up to `length` bytes of a TCP stream and throws them away inside the kernel (MSG_TRUNC, tcp(7)).
/// Returns 0 at the end of the stream.
///
/// # Errors
/// As recv(2); `WouldBlock` when the receive timeout passed without data.
pub fn receive_discarding(socket: impl AsFd, length: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing to the buffer (tcp(7)), so a null one is fine: the kernel
    // counts and discards. On any other kind of socket the kernel answers EFAULT, it doesn't write either.
    let received = unsafe {
        libc::recv(
            socket.as_fd().as_raw_fd(),
            ptr::null_mut(),
            length,
            libc::MSG_TRUNC,
        )
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

fn set<T: Copy>(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    // SAFETY: the option's value is the plain number that the pointer and the length describe.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets a receiver sleep until so many bytes wait, its timeout passes or the stream ends (SO_RCVLOWAT, socket(7)).
/// Where the receive buffer is the kernel's to choose, it grows to twice this.
///
/// # Errors
/// Where the kernel refuses.
pub fn set_receive_low_water(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

/// Bounds what a TCP sender queues that was not sent yet (TCP_NOTSENT_LOWAT, tcp(7)); what is in flight is not bounded.
///
/// # Errors
/// Where the kernel doesn't know it (before 3.12).
pub fn set_unsent_low_water(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// Lets a receiver poll the NIC for so long before it sleeps (SO_BUSY_POLL, socket(7)).
///
/// # Errors
/// Where the kernel has no NIC polling, or the process may not ask for more than `net.core.busy_read`.
pub fn set_busy_poll(socket: impl AsFd, microseconds: i32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds)
}

/// Bounds the rate at which the kernel sends on a socket, in bytes a second (SO_MAX_PACING_RATE, socket(7)).
///
/// # Errors
/// Where the kernel refuses.
pub fn set_max_pacing_rate(socket: impl AsFd, bytes_per_second: u64) -> io::Result<()> {
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_MAX_PACING_RATE,
        bytes_per_second,
    )
}

/// Makes a receive buffer hold at least `bytes`, past `net.core.rmem_max` where this process may (SO_RCVBUFFORCE,
/// socket(7)). Returns whether it does.
pub fn grow_receive_buffer(socket: impl AsFd, bytes: i32) -> bool {
    let socket = socket.as_fd();
    // The second is cut at the limit without an error.
    let set_either = set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes));
    let got = rustix::net::sockopt::socket_recv_buffer_size(socket).unwrap_or(0);
    // The kernel doubles what it is asked for.
    set_either.is_ok() && got / 2 >= usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Allows [`send_uncopied`] on a TCP socket (SO_ZEROCOPY).
///
/// # Errors
/// Where the kernel doesn't know it (before 4.14).
pub fn set_zerocopy(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1_i32)
}

/// Sends from memory that the kernel may read until [`completions`] tells that it is done with it (MSG_ZEROCOPY). Bytes
/// that are changed before may go out changed.
///
/// # Errors
/// As send(2); `ENOBUFS` while too many completions have not been read.
pub fn send_uncopied(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads `bytes` during the call, and after it through references of its own to the pages, which
    // stay valid whatever becomes of this mapping.
    let sent = unsafe {
        libc::send(
            socket.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_ZEROCOPY | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// How sends without a copy ended, as far as the kernel has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Completions {
    /// Sends that are done.
    pub done: u64,
    /// Those of them that the kernel copied after all, as it does on the way to a receiver on the same machine.
    pub copied: u64,
}

/// Takes what the error queue of a socket tells of [`send_uncopied`], without waiting; at most 64 messages.
pub fn completions(socket: impl AsFd) -> Completions {
    let mut seen = Completions::default();
    for _ in 0..64 {
        let mut control = [0_u64; 16];
        // SAFETY: all zeros is a valid msghdr: null pointers and zero lengths.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header has no data vectors, and its control room is `control` with its true length, alive and
        // borrowed by nobody else during the call.
        if unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) } < 0 {
            break;
        }
        // SAFETY: the kernel filled in the control room, which is still alive; null is returned where no whole cmsghdr is.
        let Some(message) = (unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() }) else {
            break;
        };
        if !super::udp::holds::<libc::sock_extended_err>(message) {
            continue;
        }
        // SAFETY: the message is long enough for the sock_extended_err that an error queue's message begins with.
        let error =
            unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::sock_extended_err>()) };
        if error.ee_origin == SO_EE_ORIGIN_ZEROCOPY {
            let count = u64::from(error.ee_data.wrapping_sub(error.ee_info)) + 1;
            seen.done += count;
            if error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED != 0 {
                seen.copied += count;
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let left = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (left, listener.accept().unwrap().0)
    }

    #[test]
    fn discarded_bytes_are_counted_and_gone() {
        let (mut left, mut right) = pair();
        left.write_all(&[7; 1000]).unwrap();
        let mut discarded = 0;
        while discarded < 900 {
            discarded += receive_discarding(&right, 900 - discarded).unwrap();
        }
        drop(left);
        let mut rest = Vec::new();
        right.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [7; 100]);
        assert_eq!(receive_discarding(&right, 10).unwrap(), 0);
    }

    #[test]
    fn a_receiver_sleeps_until_the_low_water_mark_or_its_timeout() {
        let (mut left, right) = pair();
        right
            .set_read_timeout(Some(std::time::Duration::from_millis(20)))
            .unwrap();
        set_receive_low_water(&right, 1000).unwrap();
        left.write_all(&[7; 600]).unwrap();
        let writer = std::thread::spawn(move || {
            left.write_all(&[7; 600]).unwrap();
            left
        });
        let mut received = receive_discarding(&right, 5000).unwrap();
        let mut left = writer.join().unwrap();
        while received < 1200 {
            received += receive_discarding(&right, 5000).unwrap();
        }
        // Fewer than the mark come once the timeout has passed.
        left.write_all(&[7; 10]).unwrap();
        assert_eq!(receive_discarding(&right, 5000).unwrap(), 10);
    }

    #[test]
    fn sends_without_a_copy_are_told_of() {
        let (left, mut right) = pair();
        set_zerocopy(&left).unwrap();
        let bytes = vec![7; 200_000];
        assert!(set_unsent_low_water(&left, 1 << 17).is_ok());
        let sent = send_uncopied(&left, &bytes).unwrap();
        let mut read = vec![0; sent];
        right.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes[..sent]);
        let mut seen = Completions::default();
        for _ in 0..1000 {
            let more = completions(&left);
            seen.done += more.done;
            seen.copied += more.copied;
            if seen.done > 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // On the same machine the kernel copies after all.
        assert_eq!((seen.done, seen.copied), (1, 1));
    }

    #[test]
    fn tcp_info_is_for_tcp_only() {
        let (left, _right) = pair();
        assert!(tcp_info(&left).unwrap().bytes().len() >= 104);
        set_max_pacing_rate(&left, 1_000_000).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_info(&udp).is_err());
    }
}
