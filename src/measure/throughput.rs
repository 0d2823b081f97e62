//! The result of a throughput test.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// The address of what was not seen.
pub(super) const fn unspecified() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

/// Which way a stream's data flows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the iperf3 client to the server: along the path.
    #[default]
    Forward,
    /// From the server to the client.
    Reverse,
}

/// What TCP_INFO said of a sending socket (tcp(7), linux/tcp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TcpSample {
    /// Smoothed round trip time in microseconds.
    pub rtt_us: u32,
    /// Its variation in microseconds.
    pub rttvar_us: u32,
    /// Segments, of SCTP chunks, sent again since the connection began.
    pub retransmits: u64,
    /// Congestion window in bytes.
    pub cwnd_bytes: u64,
    /// The peer's advertised window in bytes; 0 where the kernel doesn't tell.
    pub send_window_bytes: u64,
    /// Path MTU in bytes.
    pub path_mtu: u32,
    /// Largest segment in bytes.
    pub mss: u32,
    /// Reordering seen, in segments.
    pub reordering: u32,
}

/// Datagrams of one interval of a UDP stream, at one end.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UdpSample {
    /// Datagrams sent; at the receiver, by how much the highest number seen has grown.
    pub packets: u64,
    /// Datagrams missing, at the receiver; below 0 where more came late than went missing.
    pub lost: i64,
    /// Datagrams that came late or twice, at the receiver.
    pub out_of_order: u64,
    /// Smoothed variation of the transit time at its end in seconds (RFC 1889 A.8), at the receiver.
    pub jitter: f64,
}

/// Datagrams of a UDP stream over a test, warm-up excluded, put together from what both ends know.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UdpResult {
    /// Datagrams that the sender sent; what the receiver expected where the sender has not told.
    pub packets: u64,
    /// Datagrams that the receiver missed. Those lost at the very end it can't know of.
    pub lost: u64,
    /// Datagrams that came late or twice; `None` at the sender, which isn't told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_order: Option<u64>,
    /// Smoothed variation of the transit time at the end in seconds (RFC 1889 A.8).
    pub jitter: f64,
    /// How evenly they came, at the receiver, where they were held to a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<BurstLength>,
}

/// Datagrams that came closer together than a quarter of the time that their rate leaves between two.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BurstLength {
    /// Datagrams of a burst, in the mean; 1 is perfectly even.
    pub mean: f64,
    /// Datagrams of the longest.
    pub longest: u64,
}

/// One interval of one stream, at one end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The interval's end, seconds since the test began to run (omit included).
    pub end: f64,
    /// The interval's length in seconds.
    pub seconds: f64,
    /// Bytes sent or received in it.
    pub bytes: u64,
    /// Whether it belongs to the warm-up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omitted: bool,
    /// TCP_INFO at its end; only of TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpSample>,
    /// Datagrams; only of UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpSample>,
}

/// One stream of a test, put together from what both ends know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamResult {
    /// iperf3's stream id: 1, 3, 4, 5, ...
    #[serde(default)]
    pub id: u32,
    /// Which way its data flowed.
    #[serde(default)]
    pub direction: Direction,
    /// Bytes that the sender wrote, warm-up excluded.
    #[serde(default)]
    pub sent_bytes: u64,
    /// Bytes that the receiver read, warm-up excluded: the truth about throughput.
    pub received_bytes: u64,
    /// Seconds over which `received_bytes` came.
    pub seconds: f64,
    /// Bytes carried with the warm-up, as this end counted them.
    #[serde(default)]
    pub total_bytes: u64,
    /// Segments sent again, warm-up excluded; `None` where the sender can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// Datagrams; only of UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpResult>,
    /// The local and the peer's address of the data connection at this end.
    #[serde(default = "unspecified")]
    pub local_address: IpAddr,
    /// The peer's address as this end saw it: at the accepting end, the source address that arrived.
    #[serde(default = "unspecified")]
    pub peer_address: IpAddr,
    /// This end's intervals.
    #[serde(default)]
    pub samples: Vec<Sample>,
}

/// What a test was done with, so that numbers can be explained.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Techniques {
    /// How this end sent: `write`, `sendfile`, ... ; empty where it only received.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub send: String,
    /// How this end received: `read`, `msg_trunc`, ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub receive: String,
    /// Bytes a call.
    #[serde(default)]
    pub length: u64,
    /// The congestion control that the socket reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
    /// The techniques that were in use at this end, by their names in scenarios.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// Those that were asked for and that the kernel refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Bytes of the send buffer of the last sending stream when the test ended (SO_SNDBUF, doubled as the kernel does);
    /// 0 where unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub send_buffer: u64,
    /// Bytes of the receive buffer of the last receiving stream.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub receive_buffer: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The result of a test, as one end has it after results were exchanged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ThroughputResult {
    /// The streams, by id.
    pub streams: Vec<StreamResult>,
    /// Seconds measured, warm-up excluded.
    #[serde(default)]
    pub seconds: f64,
    /// How it was done at this end.
    #[serde(default)]
    pub techniques: Techniques,
    /// CPU time of this end's process during the test, in seconds: user and system.
    #[serde(default)]
    pub process_user_seconds: f64,
    /// System part of it.
    #[serde(default)]
    pub process_system_seconds: f64,
}

impl ThroughputResult {
    /// Bytes received in a direction, warm-up excluded.
    pub fn received_bytes(&self, direction: Direction) -> u64 {
        self.streams
            .iter()
            .filter(|s| s.direction == direction)
            .map(|s| s.received_bytes)
            .sum()
    }

    /// Bytes received over both directions, warm-up excluded.
    pub fn all_received_bytes(&self) -> u64 {
        self.streams
            .iter()
            .map(|s| s.received_bytes)
            .fold(0, u64::saturating_add)
    }

    /// Bytes carried over all streams, warm-up included.
    pub fn total_bytes(&self) -> u64 {
        self.streams
            .iter()
            .map(|s| s.total_bytes)
            .fold(0, u64::saturating_add)
    }

    /// Throughput over all streams and both directions, in bytes a second; `None` where nothing was measured.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let rates = self.streams.iter().map(|s| (s.received_bytes as f64, s.seconds));
        let (mut total, mut any) = (0.0, false);
        for (bytes, seconds) in rates {
            if seconds > 0.0 {
                total += bytes / seconds;
                any = true;
            }
        }
        any.then_some(total)
    }

    /// Segments sent again over all streams whose sender can tell; `None` where none can.
    pub fn retransmits(&self) -> Option<u64> {
        self.streams
            .iter()
            .filter_map(|s| s.retransmits)
            .reduce(|a, b| a + b)
    }

    /// Datagrams lost in percent of those sent, over all streams; `None` where there were none.
    pub fn loss_percent(&self) -> Option<f64> {
        let (lost, packets) = self
            .streams
            .iter()
            .filter_map(|s| s.udp)
            .fold((0, 0), |(lost, packets), udp| {
                (lost + udp.lost, packets + udp.packets)
            });
        (packets > 0).then(|| lost as f64 * 100.0 / packets as f64)
    }

    /// Datagrams that came late or twice, in percent of those sent, over the streams that this end received; `None` where
    /// there were none.
    pub fn reordered_percent(&self) -> Option<f64> {
        let (late, packets) = self
            .streams
            .iter()
            .filter_map(|s| Some((s.udp?.out_of_order?, s.udp?.packets)))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (packets > 0).then(|| late as f64 * 100.0 / packets as f64)
    }

    /// Datagrams of a burst: the mean over all UDP streams that were held to a rate and that this end received; `None`
    /// where there are none.
    pub fn mean_burst(&self) -> Option<f64> {
        let bursts = self.streams.iter().filter_map(|s| Some(s.udp?.burst?.mean));
        let (sum, count) = bursts.fold((0.0, 0_u32), |(sum, count), burst| (sum + burst, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Jitter in seconds: the mean over all UDP streams; `None` where there are none.
    pub fn jitter(&self) -> Option<f64> {
        let jitters = self.streams.iter().filter_map(|s| Some(s.udp?.jitter));
        let (sum, count) = jitters.fold((0.0, 0_u32), |(sum, count), jitter| (sum + jitter, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// A test of a search for the highest rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchStep {
    /// The rate that was asked for, in bits a second over all streams; `None`: unlimited.
    pub asked: Option<u64>,
    /// Bits a second that were sent.
    pub sent: f64,
    /// Bits a second that arrived.
    pub arrived: f64,
    /// Share of datagrams lost, 1 being all.
    pub loss: f64,
}
