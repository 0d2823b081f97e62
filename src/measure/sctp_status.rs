//! Decoding `struct sctp_status` and `struct sctp_assoc_stats` (linux/sctp.h): what SCTP tells as TCP does in TCP_INFO.

use super::TcpSample;
use crate::sys::sctp::{self, RawStatus};
use std::{io, os::fd::AsFd};

/// The state of a socket's association.
///
/// # Errors
/// Where the socket is not SCTP, or has no association.
pub fn sample(socket: impl AsFd) -> io::Result<TcpSample> {
    Ok(decode(&sctp::status(socket)?))
}

/// Reads the raw structures. SCTP counts round trips in milliseconds, tells no variation of them and no reordering, and what
/// it sends again are chunks.
pub fn decode(raw: &RawStatus) -> TcpSample {
    let [_, _, window, _, _, fragment, ..] = raw.status;
    let [.., cwnd, rtt, _, mtu] = raw.status;
    // After the association, an address of 128 bytes and five more counts.
    let retransmits = raw.counts.get(22).copied().unwrap_or(0);
    TcpSample {
        rtt_us: rtt.saturating_mul(1000),
        rttvar_us: 0,
        retransmits,
        cwnd_bytes: cwnd.into(),
        send_window_bytes: window.into(),
        path_mtu: mtu,
        mss: fragment,
        reordering: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets as gcc gives them for linux/sctp.h: 8, 20, 160, 164, 172 of 176 bytes, and 176 of 256.
    #[test]
    fn the_words_are_those_of_the_kernel_header() {
        let mut raw = RawStatus::default();
        for (index, word) in raw.status.iter_mut().enumerate() {
            *word = index as u32 * 4;
        }
        for (index, word) in raw.counts.iter_mut().enumerate() {
            *word = index as u64 * 8;
        }
        let sample = decode(&raw);
        assert_eq!((sample.send_window_bytes, sample.mss), (8, 20));
        assert_eq!(
            (sample.cwnd_bytes, sample.rtt_us, sample.path_mtu),
            (160, 164_000, 172)
        );
        assert_eq!(sample.retransmits, 176);
    }

    #[test]
    fn a_socket_without_an_association_has_none() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(sample(&udp).is_err());
    }
}
