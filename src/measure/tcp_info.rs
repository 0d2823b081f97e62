//! Decoding `struct tcp_info` (linux/tcp.h) by its length, since each kernel appends fields.

use super::TcpSample;
use crate::sys::socket;
use std::{io, os::fd::AsFd};

/// TCP_INFO of a socket.
///
/// # Errors
/// Where the socket is not TCP.
pub fn sample(socket: impl AsFd) -> io::Result<TcpSample> {
    Ok(decode(socket::tcp_info(socket)?.bytes()))
}

/// Reads a raw `struct tcp_info`; fields that the kernel doesn't have are 0.
pub fn decode(bytes: &[u8]) -> TcpSample {
    let int = |offset: usize| {
        bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(0, |chunk| u32::from_ne_bytes(*chunk))
    };
    // Offsets are ABI: eight bytes of small fields, then u32s from 8 on.
    let mss = int(16);
    TcpSample {
        rtt_us: int(68),
        rttvar_us: int(72),
        retransmits: int(100).into(),
        cwnd_bytes: u64::from(int(80)) * u64::from(mss),
        send_window_bytes: int(228).into(),
        path_mtu: int(60),
        mss,
        reordering: int(220),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_struct_leaves_zeros() {
        let mut bytes = vec![0; 104];
        bytes[16..20].copy_from_slice(&1448_u32.to_ne_bytes());
        bytes[80..84].copy_from_slice(&10_u32.to_ne_bytes());
        bytes[100..104].copy_from_slice(&7_u32.to_ne_bytes());
        let sample = decode(&bytes);
        assert_eq!(
            (sample.mss, sample.cwnd_bytes, sample.retransmits),
            (1448, 14480, 7)
        );
        assert_eq!((sample.send_window_bytes, sample.reordering), (0, 0));
        assert_eq!(decode(&[]), TcpSample::default());
    }

    #[test]
    fn a_live_socket_tells_its_path() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sample = sample(&socket).unwrap();
        // The loopback's MTU is 65536; a changed one is still above any header.
        assert!(sample.path_mtu > 100 && sample.mss > 0 && sample.mss < sample.path_mtu);
        assert!(sample.rtt_us > 0 && sample.cwnd_bytes >= u64::from(sample.mss));
    }

    #[test]
    fn the_offsets_are_those_of_the_kernel_header() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_mss), 16);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_pmtu), 60);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_rtt), 68);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_cwnd), 80);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_total_retrans), 100);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_reord_seen), 220);
        assert_eq!(offset_of!(libc::tcp_info, tcpi_snd_wnd), 228);
    }
}
