//! Submariner: what joins the lab's clusters, and the way that a path takes between two of them.

use super::path::Encapsulation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Submariner joins all clusters of the lab: each has a gateway node, and the gateways are joined by a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Submariner {
    /// What the gateways are joined by.
    #[serde(default)]
    pub cable: Cable,
}

/// Submariner's cable driver: what packets are wrapped in between two gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    /// VXLAN, not encrypted: device `vxlan-tunnel`, VNI 1000, UDP 4500.
    #[default]
    Vxlan,
    /// WireGuard: device `submariner`, UDP 4500.
    Wireguard,
    /// IPsec: ESP in tunnel mode with AES-GCM, in UDP 4500.
    Ipsec,
}

impl Cable {
    /// All drivers.
    pub const ALL: [Self; 3] = [Self::Vxlan, Self::Wireguard, Self::Ipsec];
}

impl fmt::Display for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Wireguard => "wireguard",
            Self::Ipsec => "ipsec",
        })
    }
}

/// How strictly a device checks that packets come in where answers would go out (`rp_filter`, RFC 3704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RpFilter {
    /// 0: not at all.
    Off,
    /// 1: a packet must come in by the device that the route back to its source leads out by.
    Strict,
    /// 2, as systemd sets it: there must be a route back by some device.
    #[default]
    Loose,
}

impl RpFilter {
    /// The sysctl's value.
    pub const fn value(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Strict => "1",
            Self::Loose => "2",
        }
    }
}

/// The way of a path between two clusters: from a node to its gateway by `vx-submariner`, from gateway to gateway by
/// the cable, and from there to the receiver's node as the cluster's own network has it. Answers take the same way
/// from the other side, so that neither direction comes in where it goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Crossing {
    /// What the gateways are joined by.
    pub cable: Cable,
    /// The gateway of the sender's cluster.
    pub from_gateway: String,
    /// The gateway of the receiver's cluster.
    pub to_gateway: String,
    /// What packets are wrapped in from the receiver's gateway to the receiver's node.
    pub arrival: Encapsulation,
    /// What answers are wrapped in from the sender's gateway to the sender's node.
    pub return_arrival: Encapsulation,
}
