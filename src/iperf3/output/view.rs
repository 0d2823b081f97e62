//! What there is to say about a test, as one end knows it.

use crate::{
    iperf3::wire::{Parameters, Transport},
    measure::Direction,
};
use std::net::SocketAddr;

/// The version of iperf3 whose output this is.
pub const VERSION: &str = "iperf 3.21";

/// The end that speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Side {
    /// Whether this end sends in that direction.
    pub fn sends(self, direction: Direction) -> bool {
        (self == Self::Client) == (direction == Direction::Forward)
    }
}

/// A data connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The number that lines of this stream begin with: iperf3 prints the descriptor.
    pub socket: i64,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

/// How a test begins.
#[derive(Debug, Clone, PartialEq)]
pub struct StartView {
    /// The end that speaks.
    pub side: Side,
    /// What `uname -a` says: system, host, release, version, machine.
    pub system_info: String,
    /// Milliseconds since 1970.
    pub time_millis: u64,
    /// The peer of the control connection: for a client as the user named it.
    pub peer: (String, u16),
    /// The test's cookie.
    pub cookie: String,
    /// The data connections.
    pub connected: Vec<Connected>,
    /// What the test does.
    pub parameters: Parameters,
    /// Seconds between reports; 0 for none.
    pub interval: f64,
    /// The MSS of a data connection, or where it has none of the control connection, in bytes, 0 where unknown (a server says 0).
    pub mss: i64,
    /// Actual sizes in bytes of a data socket's send and receive buffers.
    pub buffers: (i64, i64),
}

impl StartView {
    /// Both directions at once.
    pub const fn bidirectional(&self) -> bool {
        self.parameters.bidirectional
    }

    /// The directions in which data flows, in report order: of the first stream first.
    pub fn directions(&self) -> Vec<Direction> {
        match (self.parameters.bidirectional, self.parameters.reverse) {
            (true, _) => vec![Direction::Forward, Direction::Reverse],
            (false, true) => vec![Direction::Reverse],
            (false, false) => vec![Direction::Forward],
        }
    }

    /// Whether resent segments are told in text and in sums: newer releases have them of SCTP in each stream's JSON alone.
    pub fn tells_retransmits(&self) -> bool {
        self.parameters.transport == Transport::Tcp
    }

    /// The transport's name.
    pub const fn protocol(&self) -> &'static str {
        match self.parameters.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
            Transport::Sctp => "SCTP",
        }
    }
}

/// TCP_INFO of a sender in an interval; of SCTP what it has of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpInterval {
    /// Segments sent again in the interval.
    pub retransmits: u64,
    /// Congestion window in bytes.
    pub snd_cwnd: u64,
    /// The peer's window in bytes.
    pub snd_wnd: u64,
    /// Round trip time in microseconds.
    pub rtt: u32,
    /// Its variation in microseconds.
    pub rttvar: u32,
    /// Path MTU in bytes.
    pub pmtu: u32,
    /// Reordering events seen.
    pub reorder: u32,
}

/// Datagrams of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UdpInterval {
    /// Sent, or expected by the receiver.
    pub packets: i64,
    /// Missing, at the receiver.
    pub lost: i64,
    /// Seconds, at the receiver.
    pub jitter: f64,
}

/// One stream in one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamInterval {
    /// As in [`Connected::socket`].
    pub socket: i64,
    /// Which way its data flows.
    pub direction: Direction,
    /// Bytes in the interval.
    pub bytes: u64,
    /// Only of TCP and SCTP senders.
    pub tcp: Option<TcpInterval>,
    /// Only of UDP.
    pub udp: Option<UdpInterval>,
}

/// One interval of all streams. Times are seconds from the start, or from the end of the warm-up.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalView {
    /// Its begin.
    pub start: f64,
    /// Its end.
    pub end: f64,
    /// Its length.
    pub seconds: f64,
    /// Whether it is of the warm-up.
    pub omitted: bool,
    /// The streams, in order.
    pub streams: Vec<StreamInterval>,
}

/// What a TCP sender saw over the whole test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpTotal {
    /// Segments sent again.
    pub retransmits: u64,
    /// Reordering events.
    pub reorder: u32,
    /// Largest congestion window in bytes.
    pub max_snd_cwnd: u64,
    /// Largest window of the peer in bytes.
    pub max_snd_wnd: u64,
    /// Largest round trip time in microseconds.
    pub max_rtt: u32,
    /// Smallest.
    pub min_rtt: u32,
    /// Mean over the intervals.
    pub mean_rtt: u32,
}

/// Datagrams over the whole test, warm-up excluded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UdpTotal {
    /// Sent; 0 where unknown.
    pub sent: i64,
    /// Expected by the receiver; 0 where unknown.
    pub received: i64,
    /// Missing.
    pub lost: i64,
    /// Came late.
    pub out_of_order: i64,
    /// Seconds.
    pub jitter: f64,
}

/// A file that was sent or received (`-F`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTotal {
    /// Its size in bytes.
    pub size: u64,
    /// Its name.
    pub name: String,
}

/// One stream over the whole test.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamEnd {
    /// As in [`Connected::socket`].
    pub socket: i64,
    /// Which way its data flowed.
    pub direction: Direction,
    /// Bytes sent; 0 where only the peer knows and hasn't told.
    pub sent: u64,
    /// Bytes received; 0 likewise.
    pub received: u64,
    /// Seconds that the sender measured.
    pub sent_seconds: f64,
    /// Seconds that the receiver measured.
    pub received_seconds: f64,
    /// Where the sender has TCP_INFO, and of SCTP.
    pub tcp: Option<TcpTotal>,
    /// Only of UDP.
    pub udp: Option<UdpTotal>,
    /// Only with `-F`.
    pub file: Option<FileTotal>,
}

/// CPU time of a process in percent of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cpu {
    /// All of it.
    pub total: f64,
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EndView {
    /// The streams, in order.
    pub streams: Vec<StreamEnd>,
    /// This end's process.
    pub local_cpu: Cpu,
    /// The peer's; zero where it hasn't told.
    pub remote_cpu: Cpu,
    /// The sender's congestion control.
    pub sender_congestion: Option<String>,
    /// The receiver's.
    pub receiver_congestion: Option<String>,
}
