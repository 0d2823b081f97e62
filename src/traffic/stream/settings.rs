//! How streams are driven, and what was used.

use super::Role;
use crate::{iperf3::wire::datagram::Width, measure::Techniques, sys::udp, traffic::udp_stream};
use socket2::Socket;

pub(super) const SENDMMSG: &str = "sendmmsg";

/// How streams are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a write and a read, at least 1.
    pub length: usize,
    /// Bits a second that each sending stream is held to.
    pub rate: Option<u64>,
    /// Blocks that are written between looks at the rate, at least 1.
    pub burst: u32,
    /// Send from a memory file (sendfile(2)), without copying from user space.
    pub sendfile: bool,
    /// Receive without copying to user space (MSG_TRUNC).
    pub discard: bool,
    /// Repeating digits instead of random bytes.
    pub repeating: bool,
    /// End once this many bytes were moved in one direction over all streams, counted from
    /// [`Load::begin_counting`].
    pub limit: Option<u64>,
    /// Whether there is a warm-up, so that nothing counts before [`Load::begin_counting`].
    pub warm_up: bool,
    /// UDP, and how; TCP if `None`.
    pub datagrams: Option<Datagrams>,
}

/// How streams of datagrams are driven; each datagram is `length` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// How wide sequence numbers are.
    pub width: Width,
    /// Let the kernel cut datagrams from long messages (UDP_SEGMENT).
    pub segment: bool,
    /// Let the kernel put datagrams together into long messages (UDP_GRO).
    pub coalesce: bool,
    /// Answer the datagrams that open streams (a server whose answer was lost).
    pub answers: bool,
}
impl Datagrams {
    /// Sets up the offloads that were asked for, and forgets those that the kernel hasn't.
    pub(super) fn offload(&mut self, socket: &Socket, role: Role, length: usize) {
        match role {
            Role::Send if self.segment => {
                self.segment = udp_stream::segments(length) > 1
                    && u16::try_from(length).is_ok_and(|length| udp::set_segment(socket, length).is_ok());
            }
            Role::Receive if self.coalesce => self.coalesce = udp::set_coalescing(socket, true).is_ok(),
            _ => {}
        }
    }
}

pub(super) fn techniques(settings: &Settings, sends: bool, receives: bool) -> Techniques {
    let (send, receive) = match settings.datagrams {
        Some(datagrams) => (
            if datagrams.segment {
                "udp_segment"
            } else {
                SENDMMSG
            },
            if datagrams.coalesce { "udp_gro" } else { "recvmmsg" },
        ),
        None => (
            if settings.sendfile { "sendfile" } else { "write" },
            if settings.discard { "msg_trunc" } else { "read" },
        ),
    };
    Techniques {
        send: if sends { send } else { "" }.to_owned(),
        receive: if receives { receive } else { "" }.to_owned(),
        length: settings.length as u64,
        congestion: None,
    }
}
