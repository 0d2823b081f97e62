//! Socket calls that neither socket2 nor rustix has: TCP_INFO of whatever length the kernel knows, receiving
//! without copying, SO_MAX_PACING_RATE.
#![expect(
    unsafe_code,
    reason = "getsockopt, setsockopt and recv with arguments that the safe wrappers don't offer"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

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

/// Lets a receiver sleep until so many bytes wait, its timeout passes or the stream ends (SO_RCVLOWAT, socket(7)).
/// Where the receive buffer is the kernel's to choose, it grows to twice this.
///
/// # Errors
/// Where the kernel refuses.
pub fn set_receive_low_water(socket: impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: the option's value is the i32 that the pointer and the length describe.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bounds the rate at which the kernel sends on a socket, in bytes a second (SO_MAX_PACING_RATE, socket(7)).
///
/// # Errors
/// Where the kernel refuses.
pub fn set_max_pacing_rate(socket: impl AsFd, bytes_per_second: u64) -> io::Result<()> {
    // SAFETY: the option's value is the u64 that the pointer and the length describe.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const bytes_per_second).cast(),
            size_of::<u64>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
    fn tcp_info_is_for_tcp_only() {
        let (left, _right) = pair();
        assert!(tcp_info(&left).unwrap().bytes().len() >= 104);
        set_max_pacing_rate(&left, 1_000_000).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_info(&udp).is_err());
    }
}
