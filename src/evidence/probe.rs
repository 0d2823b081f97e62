//! What probes between places found out: whether packets get through, how large ones, and as whose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Asks a place to probe a path to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTarget {
    /// The address to send from.
    pub bind: IpAddr,
    /// The other place's address.
    pub address: IpAddr,
    /// Its probe server's port, of TCP and UDP alike.
    pub port: u16,
    /// How many bytes to send by TCP, to see whether full segments get through; 0: none.
    pub bulk: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProbeSeen {
    /// Whether a small datagram was answered.
    pub datagram: bool,
    /// Whether a TCP connection came about.
    pub connection: bool,
    /// The source address that the other place saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The largest IP packet, in bytes, that the sender's kernel took the path to carry in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believed_mtu: Option<u32>,
    /// The largest IP packet, in bytes, that got through unfragmented; `None` where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passing_mtu: Option<u32>,
    /// How bulk data went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BulkSeen>,
    /// What the kernel said where something failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a transfer by TCP went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BulkSeen {
    /// Bytes to send.
    pub bytes: u64,
    /// Bytes that arrived in time.
    pub arrived: u64,
    /// How long it took, or was waited for, in milliseconds.
    pub milliseconds: u64,
    /// Segments sent again.
    pub retransmits: u32,
}

impl BulkSeen {
    /// Whether all arrived in time.
    pub const fn is_whole(&self) -> bool {
        self.arrived >= self.bytes
    }
}

/// Asks a place to send frames into the VXLAN device of another node: no ping between the devices, which Submariner
/// rewrites by design, but a frame of an experimental EtherType that nothing answers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnockTarget {
    /// The node.
    pub address: Ipv4Addr,
    /// The device's UDP port.
    pub port: u16,
    /// Its network identifier.
    pub vni: u32,
    /// Its MAC.
    pub mac: [u8; 6],
    /// The MAC of the sender's own such device, which the other may learn.
    pub own_mac: [u8; 6],
    /// What the frame carries, for the other to recognise.
    pub token: u64,
}
