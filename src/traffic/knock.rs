//! Frames sent straight to the UDP port of another node's VXLAN device (RFC 7348), to see whether the port is open: of
//! an EtherType for experiments (0x88b5, IEEE 802), which no stack answers to, and with a token that the other end
//! waits for on a packet socket. A ping between Submariner's devices could not tell: it rewrites their addresses.

use crate::evidence::KnockTarget;
use crate::sys::stop::Stop;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read as _};
use std::net::UdpSocket;
use std::time::Duration;

/// "Local experimental EtherType 1".
const ETHER_TYPE: u16 = 0x88b5;
/// What each frame carries, before its token.
const MAGIC: [u8; 8] = *b"EBKNOCK1";
/// How often each is sent: one alone may be lost.
const TIMES: u32 = 3;
/// The I flag of VXLAN's header: the network identifier is there.
const VNI_GIVEN: u8 = 8;

/// Takes in frames.
#[derive(Debug)]
pub struct KnockListener(Socket);

impl KnockListener {
    /// Listens on all devices of the place.
    ///
    /// # Errors
    /// Where packet sockets are not allowed (CAP_NET_RAW).
    pub fn open() -> io::Result<Self> {
        let protocol = Protocol::from(i32::from(ETHER_TYPE.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self(socket))
    }

    /// The tokens that came until stopped.
    ///
    /// # Errors
    /// As recv(2).
    pub fn listen(&self, stop: &Stop) -> io::Result<BTreeSet<u64>> {
        let mut tokens = BTreeSet::new();
        let mut bytes = [0; 256];
        while !stop.is_stopped() {
            match (&self.0).read(&mut bytes) {
                Ok(length) => tokens.extend(token(&bytes[..length])),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::TimedOut
                    ) => {}
                // A device that went down meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tokens)
    }
}

fn token(bytes: &[u8]) -> Option<u64> {
    let token = bytes.strip_prefix(&MAGIC)?;
    token.first_chunk().copied().map(u64::from_be_bytes)
}

/// Knocks; says of each target why the kernel would not even send.
pub fn knock(targets: &[KnockTarget]) -> Vec<Option<String>> {
    targets
        .iter()
        .map(|target| {
            let sent = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
                let frame = frame(target);
                let mut last = Ok(());
                for _ in 0..TIMES {
                    last = socket.send_to(&frame, (target.address, target.port)).map(drop);
                }
                last
            });
            sent.err().map(|error| error.to_string())
        })
        .collect()
}

/// VXLAN's header, an Ethernet header, the token.
fn frame(target: &KnockTarget) -> Vec<u8> {
    let mut frame = vec![VNI_GIVEN, 0, 0, 0];
    frame.extend((target.vni << 8).to_be_bytes());
    frame.extend(target.mac);
    frame.extend(target.own_mac);
    frame.extend(ETHER_TYPE.to_be_bytes());
    frame.extend(MAGIC);
    frame.extend(target.token.to_be_bytes());
    // The least payload of Ethernet is 46 bytes.
    frame.resize(8 + 14 + 46, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_rfc_7348_draws_it() {
        let frame = frame(&KnockTarget {
            address: [127, 0, 0, 1].into(),
            port: 4789,
            vni: 4096,
            mac: [1; 6],
            own_mac: [2; 6],
            token: 5,
        });
        assert_eq!(frame[..8], [8, 0, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(frame[8..14], [1; 6]);
        assert_eq!(frame[20..22], [0x88, 0xb5]);
        assert_eq!(token(&frame[22..]), Some(5));
        assert_eq!(token(b"EBKNOCK"), None);
    }
}
