//! How streams are driven, and what was used.

use super::Role;
use crate::{
    iperf3::wire::datagram::Width,
    measure,
    scenario::{Technique, TechniqueSet},
    sys::{socket, udp},
    traffic::{disk_file::DiskFile, udp_stream},
};
use socket2::Socket;

/// How many bytes wait before a receiver is woken, at most. Each wake-up costs the sender's processor an interrupt to
/// the receiver's. 256 KiB took less CPU a byte than none in every mode tried; more was not shown to help.
const LOW_WATER: usize = 256 << 10;

/// Bytes that a sender queues before they can be sent, at most: what measured best of 64 KiB to 512 KiB, with blocks of
/// 256 KiB.
const SHORT_QUEUE: u32 = 256 << 10;

/// How long a receiver polls before it sleeps, in microseconds: what the kernel's documentation recommends
/// (Documentation/admin-guide/sysctl/net.rst, busy_read).
const BUSY_POLL: i32 = 50;

/// Bytes of a big receive buffer of UDP; the kernel doubles it.
const BIG_BUFFER: i32 = 4 << 20;

/// Streams in one role at one end above which a few threads drive them all.
pub(super) const MANY: usize = 64;

/// Streams in one role above which their buffers are bounded, so that all together stay within [`BUFFERS`].
const BOUNDED: usize = 256;

/// Bytes of socket buffers of all bounded streams in one role together; the kernel takes twice that.
const BUFFERS: usize = 128 << 20;

/// The least of a bounded stream, in bytes.
const LEAST_BUFFER: usize = 16 << 10;

/// How streams are driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a write and a read, at least 1.
    pub length: usize,
    /// Bits a second that each sending stream is held to.
    pub rate: Option<u64>,
    /// Blocks that are written between looks at the rate, at least 1.
    pub burst: u32,
    /// What is to be used, as far as the kernel has it.
    pub techniques: TechniqueSet,
    /// Whether the socket buffers are somebody's choice, and not the kernel's.
    pub window: bool,
    /// Repeating digits instead of random bytes.
    pub repeating: bool,
    /// End once this many bytes were moved in one direction over all streams, counted from
    /// [`Load::begin_counting`](super::Load::begin_counting).
    pub limit: Option<u64>,
    /// Whether there is a warm-up, so that nothing counts before
    /// [`Load::begin_counting`](super::Load::begin_counting).
    pub warm_up: bool,
    /// UDP, and how; TCP if `None`.
    pub datagrams: Option<Datagrams>,
    /// What TCP sends, or writes what it receives to, instead of bytes that mean nothing.
    pub file: Option<DiskFile>,
}

/// How streams of datagrams are driven; each datagram is [`Settings::length`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// How wide sequence numbers are.
    pub width: Width,
    /// Answer the datagrams that open streams (a server whose answer was lost).
    pub answers: bool,
}

/// What the streams of a load really use: what was asked for, less what they have no use for, less what the kernel
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Granted {
    pub(super) used: TechniqueSet,
    pub(super) refused: TechniqueSet,
}

impl Granted {
    /// Sets up a socket. `streams` are those in the same role at this end.
    pub(super) fn prepare(&mut self, socket: &Socket, role: Role, streams: usize, settings: &Settings) {
        let mut set = |technique: Technique, set: &dyn Fn() -> bool| {
            let needs_no_file = matches!(
                technique,
                Technique::Trunc | Technique::Sendfile | Technique::Zerocopy
            );
            if !settings.techniques.has(technique) || needs_no_file && settings.file.is_some() {
                return;
            }
            let one = TechniqueSet::NONE.with(technique);
            if set() {
                self.used = self.used.union(one);
            } else {
                self.refused = self.refused.union(one);
            }
        };
        let length = settings.length;
        let many = settings.is_driven_by_events(streams);
        let udp = settings.datagrams.is_some();
        match role {
            Role::Send if udp => {
                if udp_stream::segments(length) > 1 {
                    set(Technique::Gso, &|| {
                        u16::try_from(length).is_ok_and(|length| udp::set_segment(socket, length).is_ok())
                    });
                }
                set(Technique::Batch, &|| true);
            }
            Role::Send => {
                set(Technique::ShortQueue, &|| {
                    socket::set_unsent_low_water(socket, SHORT_QUEUE).is_ok()
                });
                set(Technique::Sendfile, &|| true);
                if !settings.techniques.has(Technique::Sendfile) && !many {
                    set(Technique::Zerocopy, &|| socket::set_zerocopy(socket).is_ok());
                }
            }
            Role::Receive if udp => {
                set(Technique::Gro, &|| udp::set_coalescing(socket, true).is_ok());
                if settings.rate.is_some() {
                    set(Technique::Stamps, &|| udp::set_stamps(socket, true).is_ok());
                }
                if !settings.window {
                    set(Technique::BigBuffer, &|| {
                        socket::grow_receive_buffer(socket, BIG_BUFFER)
                    });
                }
                set(Technique::Batch, &|| true);
            }
            Role::Receive => {
                set(Technique::Trunc, &|| true);
                // Not where few bytes come or each is waited for: the last ones would be seen only after a timeout.
                if settings.rate.is_none() && settings.limit.is_none() && settings.file.is_none() && !many {
                    let length = if settings.techniques.has(Technique::Trunc) {
                        LOW_WATER
                    } else {
                        length.min(LOW_WATER)
                    };
                    set(Technique::LowWater, &|| {
                        socket::set_receive_low_water(socket, length as i32).is_ok()
                    });
                }
            }
        }
        if role == Role::Receive {
            set(Technique::BusyPoll, &|| {
                socket::set_busy_poll(socket, BUSY_POLL).is_ok()
            });
        }
        if many {
            set(Technique::EventLoop, &|| true);
        }
        if streams > BOUNDED && !settings.window && !udp {
            let bytes = (BUFFERS / streams).max(LEAST_BUFFER);
            // Without the bound it takes more memory, no more than that.
            let _ = match role {
                Role::Send => socket.set_send_buffer_size(bytes),
                Role::Receive => socket.set_recv_buffer_size(bytes),
            };
        }
    }

    /// What was used, in words.
    pub(super) fn techniques(self, settings: &Settings, sends: bool, receives: bool) -> measure::Techniques {
        let used = |technique| self.used.has(technique);
        let choose = |choices: &[(Technique, &'static str)], other: &'static str| {
            choices
                .iter()
                .find(|(technique, _)| used(*technique))
                .map_or(other, |(_, name)| *name)
        };
        let (send, receive) = if settings.datagrams.is_some() {
            (
                choose(
                    &[(Technique::Gso, "udp_segment"), (Technique::Batch, SENDMMSG)],
                    "send",
                ),
                choose(
                    &[(Technique::Gro, "udp_gro"), (Technique::Batch, "recvmmsg")],
                    "recv",
                ),
            )
        } else {
            (
                choose(
                    &[
                        (Technique::Sendfile, "sendfile"),
                        (Technique::Zerocopy, "msg_zerocopy"),
                    ],
                    "write",
                ),
                choose(&[(Technique::Trunc, "msg_trunc")], "read"),
            )
        };
        let names = |set: TechniqueSet| set.iter().map(|technique| technique.name().to_owned()).collect();
        measure::Techniques {
            send: if sends { send } else { "" }.to_owned(),
            receive: if receives { receive } else { "" }.to_owned(),
            length: settings.length as u64,
            in_use: names(self.used),
            refused: names(self.refused.minus(self.used)),
            ..measure::Techniques::default()
        }
    }
}

impl Settings {
    /// Whether `streams` in one role are driven by a few threads.
    pub(super) const fn is_driven_by_events(&self, streams: usize) -> bool {
        streams > MANY
            && self.techniques.has(Technique::EventLoop)
            && self.datagrams.is_none()
            && self.file.is_none()
    }
}

pub(super) const SENDMMSG: &str = "sendmmsg";
