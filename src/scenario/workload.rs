//! Workloads: what is measured on a path.

use super::Technique;
use crate::units::{BitRate, Bytes, EventRate, Percent, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A workload: exactly one of `throughput` and `latency`, with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// The workload's name.
    pub name: String,
    /// Measures throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// Measures latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// A workload's parameters, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WorkloadKind<'a> {
    /// Throughput.
    Throughput(&'a Throughput),
    /// Latency.
    Latency(&'a Latency),
}

impl Workload {
    /// The parameters; `None` where the file names both or neither (validation refuses that).
    pub const fn kind(&self) -> Option<WorkloadKind<'_>> {
        match (&self.throughput, &self.latency) {
            (Some(throughput), None) => Some(WorkloadKind::Throughput(throughput)),
            (None, Some(latency)) => Some(WorkloadKind::Latency(latency)),
            _ => None,
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: also measures loss and jitter.
    Udp,
}

/// Bulk transfer by the iperf3 protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Throughput {
    /// The transport.
    pub protocol: Protocol,
    /// Streams at once: 1 to 16384 per direction; of UDP, and where one end is a stock iperf3, 1 to 128.
    pub streams: u32,
    /// How long is measured, after `omit`.
    pub duration: Span,
    /// Warm-up before it that counts for nothing.
    pub omit: Span,
    /// Send from the path's `to` to its `from` instead.
    pub reverse: bool,
    /// Send both ways at once.
    pub bidirectional: bool,
    /// The rate that each stream is held to; unlimited if left out. Unlimited UDP sends more than paths carry, so its
    /// loss says little; iperf3's own default for UDP is 1Mbit/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<BitRate>,
    /// Search for the highest rate whose loss stays under a limit, and measure that: of UDP only, without `bitrate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub highest_rate: Option<HighestRate>,
    /// Bytes a write and a read; 128KiB if left out, or what measures best with `fast`. Of UDP the bytes of a datagram,
    /// 16 to 65507; the MSS of TCP on the same path if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<Bytes>,
    /// Socket buffer size of both ends; the kernel's tuning if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Bytes>,
    /// The largest TCP segment; the kernel's choice if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// Whether Nagle's algorithm is off.
    pub no_delay: bool,
    /// The wanted congestion control algorithm; cubic, else whatever all workers can set, if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
    /// Send and receive by the cheapest means there are (`trunc`; of UDP `gso`, `gro`), so that the worker
    /// is not what is measured; `false` copies data as iperf3 does.
    pub fast: bool,
    /// Techniques to use besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<Technique>,
    /// Techniques to do without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Technique>,
}

/// What a search for the highest rate keeps to, in the manner of RFC 2544's throughput test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HighestRate {
    /// The largest share of datagrams that may be lost: 0% to 50%.
    pub loss_at_most: Percent,
    /// The search ends once the rate is known this well: 0.1% to 50%.
    #[serde(default = "default_within")]
    pub within: Percent,
}

/// 2 %: six or seven tests on most paths.
const fn default_within() -> Percent {
    Percent::TWO
}

impl HighestRate {
    /// The most tests of one search: halving from a factor of two to 0.1 % takes ten.
    pub const MOST_TESTS: u32 = 12;
    /// How many tests a search takes on most paths; an estimate, for showing.
    pub const USUAL_TESTS: u32 = 7;
}

impl Default for Throughput {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            streams: 1,
            duration: Span::from_secs(10),
            omit: Span::from_secs(1),
            reverse: false,
            bidirectional: false,
            bitrate: None,
            highest_rate: None,
            length: None,
            window: None,
            mss: None,
            no_delay: false,
            congestion: None,
            fast: true,
            with: Vec::new(),
            without: Vec::new(),
        }
    }
}

/// The kinds of latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LatencyKind {
    /// Request and response on one TCP connection.
    TcpRr,
    /// Connect, request, response, close.
    TcpCrr,
    /// Request and response as datagrams; a lost one is counted and never sent again.
    UdpRr,
}

impl fmt::Display for LatencyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpRr => "tcp-rr",
            Self::TcpCrr => "tcp-crr",
            Self::UdpRr => "udp-rr",
        })
    }
}

/// Request and response times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Latency {
    /// What one transaction is.
    pub kind: LatencyKind,
    /// How long is measured, after `omit`.
    #[serde(default = "default_duration")]
    pub duration: Span,
    /// Warm-up before it that counts for nothing.
    #[serde(default = "default_omit")]
    pub omit: Span,
    /// Transactions a second, sent on time whether or not the one before was answered (open loop); as fast as
    /// answers come (closed loop) if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<EventRate>,
    /// The throughput workload that runs on the same path meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub during: Option<String>,
    /// Bytes of a request: 1 to 65536; of `udp-rr` 1 to 65507, with 16 sent where less is asked for.
    #[serde(default = "default_size")]
    pub request: Bytes,
    /// Bytes of a response, as of a request.
    #[serde(default = "default_size")]
    pub response: Bytes,
    /// Probe from the path's `to` to its `from` instead.
    #[serde(default)]
    pub reverse: bool,
}

const fn default_duration() -> Span {
    Span::from_secs(10)
}

const fn default_omit() -> Span {
    Span::from_millis(100)
}

const fn default_size() -> Bytes {
    Bytes(1)
}
