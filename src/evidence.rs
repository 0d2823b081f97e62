//! What was seen of a path during a trial, and the verdict over it. Pure: the seeing itself is done by workers on
//! the nodes (`measure::network`), asked by the coordinator before and after each trial.

mod diagnosis;
mod inspection;
mod ipsec;
mod probe;
mod setup;
mod verdict;

pub use diagnosis::{Diagnosis, Finding, Severity, Step};
pub use inspection::{
    AddressSeen, FdbSeen, FilterChain, FilterHook, FilterMatch, FilterRule, FilterTool, FilterVerdict,
    Inspection, KernelRoute, KernelRule, LinkSeen, MAIN_TABLE, NeighbourSeen, RouteKind, RuleAction,
    VxlanSeen, device_sysctl, protocol_name,
};
pub use ipsec::{IpsecDirection, IpsecPolicy, IpsecSeen, IpsecState, IpsecTemplate, KERNEL_IPSEC};
pub use probe::{BulkSeen, KnockTarget, ProbeSeen, ProbeTarget};
pub use setup::{BlockSetup, ClusterSetup, NodeSetup, PodSetup, Setup, SubmarinerSetup, TunnelSetup};
pub use verdict::{EvidenceState, Leg, Verdict, judge, judge_closed, judge_path, legs, nodes};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// What a network device of a node is to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceRole {
    /// Carries what leaves the node: `eth0`.
    Underlay,
    /// Encapsulates within a cluster: `vxlan.calico`.
    Tunnel,
    /// Leads from a node to its cluster's gateway: `vx-submariner`.
    VxSubmariner,
    /// Leads from gateway to gateway: `vxlan-tunnel`, `submariner`, `ipsec-tunnel`, the kernel's IPsec ([`KERNEL_IPSEC`]).
    Cable,
}

impl DeviceRole {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Underlay, Self::Tunnel, Self::VxSubmariner, Self::Cable];
}

impl fmt::Display for DeviceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Underlay => "underlay",
            Self::Tunnel => "tunnel",
            Self::VxSubmariner => "vx-submariner",
            Self::Cable => "cable",
        })
    }
}

/// What a device has carried since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceSeen {
    /// The device's name.
    pub device: String,
    /// What it is to the path.
    pub role: DeviceRole,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped, received and sent together.
    pub dropped: u64,
    /// MTU in bytes.
    pub mtu: u32,
    /// The offloads that matter here, by ethtool's names (`tx-udp_tnl-segmentation`, ...), in alphabetical order.
    /// Empty where they could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offloads: Vec<(String, bool)>,
    /// Which reverse path filter (RFC 3704) what comes in by it must pass: 0 none, 1 the strict one, 2 the loose one. The
    /// larger of the device's setting and that of `all` counts. `None` where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rp_filter: Option<u8>,
}

/// Asks which way the kernel would send a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteQuery {
    /// Where it goes.
    pub destination: IpAddr,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The device it came in by, for a forwarded packet (`ip route get ... iif`). Left out, with a source that is not
    /// this node's own: the device by which that source is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_device: Option<String>,
}

/// The kernel's answer: `ip route get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteSeen {
    /// What was asked.
    pub query: RouteQuery,
    /// The device that the packet would leave by; `None`: no route, and `error` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The route's MTU, where it has one (path MTU discovery's cache, for instance).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Why there is no route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a worker on a node is asked to look at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObservationRequest {
    /// Devices, with their roles. One that is not there is left out of the answer.
    pub devices: Vec<(String, DeviceRole)>,
    /// The node's own address: the device that has it is an underlay too, whatever it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_of: Option<IpAddr>,
    /// Routes.
    pub routes: Vec<RouteQuery>,
    /// Whether to look at the devices too that these routes leave by, each in the role that its kind gives it: where
    /// their names are not known beforehand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub route_devices: bool,
}

/// What a worker on a node saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// The node's place.
    pub node: String,
    /// Its devices.
    pub devices: Vec<DeviceSeen>,
    /// The routes asked for, in the order of the questions.
    pub routes: Vec<RouteSeen>,
}

/// A trial's connections, as their ends saw them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionSeen {
    /// The source address that the place which accepted the connection saw.
    pub source: IpAddr,
    /// The address of the place that connected.
    pub expected_source: IpAddr,
    /// The largest segment in bytes (TCP_INFO's `tcpi_snd_mss`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<u32>,
    /// The path MTU in bytes (TCP_INFO's `tcpi_pmtu`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// All that was seen of a path for one trial.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RawEvidence {
    /// Right before the trial, the sender's node first; one node only where both ends share it.
    #[serde(default)]
    pub before: Vec<Observation>,
    /// Right after it, in the same order.
    #[serde(default)]
    pub after: Vec<Observation>,
    /// Further nodes on the way, the clusters' gateways, right before the trial; recorded, not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub way_before: Vec<Observation>,
    /// The same right after it, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub way_after: Vec<Observation>,
    /// Its connections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionSeen>,
    /// Bytes that the trial's own sockets carried from `before` to `after`, both directions, warm-up included.
    #[serde(default)]
    pub payload_bytes: u64,
    /// The same of each pair, in the path's order, where several were loaded at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pair_payload_bytes: Vec<u64>,
    /// Those of them that went from the path's end to its beginning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub back_bytes: u64,
    /// Bytes that the tunnel devices carry in as long a time without the trial, where the nodes are shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_bytes: Option<u64>,
    /// Why something could not be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}
