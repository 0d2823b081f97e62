//! The packets inside a tunnel.

use std::net::Ipv4Addr;

/// What an IPv4 header says of its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inner {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// The packet's length in bytes.
    pub length: usize,
    /// The header's.
    pub header: usize,
}

/// Reads the header of the IPv4 packet at the beginning of `bytes` (RFC 791); `None` where that is none, or cut short.
pub(super) fn read(bytes: &[u8]) -> Option<Inner> {
    let fixed: &[u8; 20] = bytes.first_chunk()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let address = |at: usize| Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]);
    (fixed[0] >> 4 == 4 && header >= 20 && length >= header && length <= bytes.len()).then(|| Inner {
        source: address(12),
        destination: address(16),
        length,
        header,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read() {
        let mut packet = vec![0; 28];
        packet[..20].copy_from_slice(&[
            0x45, 0, 0, 24, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let inner = read(&packet).unwrap();
        assert_eq!(inner.source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(inner.destination, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((inner.length, inner.header), (24, 20));
        assert_eq!(read(&packet[..23]), None, "cut short");
        packet[0] = 0x65;
        assert_eq!(read(&packet), None, "IPv6");
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(inner) = read(&bytes) {
                prop_assert!(inner.header <= inner.length && inner.length <= bytes.len());
            }
        }
    }
}
