//! What the kernel of a place holds that decides where packets go: devices, routes, rules, neighbours, packet filter,
//! sysctls and counters. A worker reads it (`measure::inspect`), the doctor judges it. IPv4.

use super::IpsecSeen;
use crate::units::Cidr4;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

/// The main routing table (RT_TABLE_MAIN).
pub const MAIN_TABLE: u32 = 254;

/// All that was read of a place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inspection {
    /// The kernel's release.
    pub kernel: String,
    /// Network devices.
    pub links: Vec<LinkSeen>,
    /// Neighbour entries.
    pub neighbours: Vec<NeighbourSeen>,
    /// Forwarding entries of VXLAN devices.
    pub fdb: Vec<FdbSeen>,
    /// Routes of all tables.
    pub routes: Vec<KernelRoute>,
    /// Routing policy rules, by priority.
    pub rules: Vec<KernelRule>,
    /// Sysctls, by the name that `sysctl` takes: a dot within a device's name is a slash.
    pub sysctls: BTreeMap<String, String>,
    /// IPsec's policies and states; `None`: they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipsec: Option<IpsecSeen>,
    /// Packet filter chains.
    pub chains: Vec<FilterChain>,
    /// UDP ports that a socket of the place's network namespace listens on, VXLAN's included.
    pub udp_ports: Vec<u16>,
    /// Counters of the IP stack, such as `TcpExt.IPReversePathFilter` (`nstat`).
    pub counters: BTreeMap<String, u64>,
    /// What could not be read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

impl Inspection {
    /// The device named `name`.
    pub fn link(&self, name: &str) -> Option<&LinkSeen> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The device with `address`.
    pub fn link_with(&self, address: Ipv4Addr) -> Option<&LinkSeen> {
        self.links
            .iter()
            .find(|link| link.addresses.iter().any(|own| own.address == address))
    }

    /// A sysctl as a number.
    pub fn sysctl(&self, name: &str) -> Option<i64> {
        self.sysctls.get(name)?.trim().parse().ok()
    }

    /// A sysctl of a device (`net.ipv4.conf.DEVICE.WHAT`), and its name.
    pub fn device_sysctl(&self, device: &str, what: &str) -> (String, Option<i64>) {
        let name = device_sysctl(device, what);
        let value = self.sysctl(&name);
        (name, value)
    }
}

/// The name of a device's sysctl, as `sysctl` takes it: `net.ipv4.conf.vxlan/calico.rp_filter`.
pub fn device_sysctl(device: &str, what: &str) -> String {
    format!("net.ipv4.conf.{}.{what}", device.replace('.', "/"))
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkSeen {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its kind (`veth`, `vxlan`, `wireguard`, ...); empty for a physical one.
    pub kind: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it asks no ARP of its neighbours (IFF_NOARP).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_arp: bool,
    /// Its MAC; empty where it has none.
    pub mac: String,
    /// Its IPv4 addresses.
    pub addresses: Vec<AddressSeen>,
    /// What it is, where it is a VXLAN device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<VxlanSeen>,
    /// The offloads that matter here, by ethtool's names; empty where they could not be read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offloads: BTreeMap<String, bool>,
    /// Its driver; empty where there is none to read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped, received and sent together.
    pub dropped: u64,
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSeen {
    /// The address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

impl fmt::Display for AddressSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The attributes of a VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VxlanSeen {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The address that it sends from.
    pub local: Option<Ipv4Addr>,
    /// The device that it sends by.
    pub device: Option<String>,
    /// Where it sends what no FDB entry is for.
    pub group: Option<Ipv4Addr>,
    /// Whether it learns from what it receives.
    pub learning: bool,
}

/// A neighbour entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourSeen {
    /// The device.
    pub device: String,
    /// The neighbour's address.
    pub address: Ipv4Addr,
    /// Its MAC; `None`: not resolved.
    pub mac: Option<String>,
    /// Whether it was set by hand or program, and stays.
    pub permanent: bool,
}

/// A forwarding entry of a VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbSeen {
    /// The device.
    pub device: String,
    /// The MAC that frames go to; all zero: the default.
    pub mac: String,
    /// The node that they are sent to.
    pub destination: Option<Ipv4Addr>,
}

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Takes it in.
    Local,
    /// Takes it in as broadcast.
    Broadcast,
    /// Drops it silently.
    Blackhole,
    /// Drops it with ICMP "host unreachable".
    Unreachable,
    /// Drops it with ICMP "administratively prohibited".
    Prohibit,
    /// Goes on with the next rule.
    Throw,
    /// Something else.
    Other,
}

impl RouteKind {
    /// As `ip route` writes it; nothing for unicast.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unicast | Self::Other => "",
            Self::Local => "local ",
            Self::Broadcast => "broadcast ",
            Self::Blackhole => "blackhole ",
            Self::Unreachable => "unreachable ",
            Self::Prohibit => "prohibit ",
            Self::Throw => "throw ",
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRoute {
    /// Its table.
    pub table: u32,
    /// Where it leads.
    pub destination: Cidr4,
    /// What it does.
    pub kind: RouteKind,
    /// Who made it: RTPROT_*, 4 is static, 12 is BIRD, 80 is Felix's.
    pub protocol: u8,
    /// RT_SCOPE_*.
    pub scope: u8,
    /// The next hop.
    pub gateway: Option<Ipv4Addr>,
    /// The device.
    pub device: Option<String>,
    /// The source address that a socket without one gets.
    pub source: Option<Ipv4Addr>,
    /// The metric; the lower wins.
    pub metric: u32,
    /// Whether the next hop counts as on the link.
    pub onlink: bool,
    /// The TOS that it is for; 0: any.
    #[serde(default)]
    pub tos: u8,
    /// Further next hops (multipath), each `gateway device`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
}

/// The name of a routing protocol, as iproute2 writes it.
pub fn protocol_name(protocol: u8) -> String {
    match protocol {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        11 => "zebra".to_owned(),
        12 => "bird".to_owned(),
        16 => "dhcp".to_owned(),
        186 => "bgp".to_owned(),
        188 => "ospf".to_owned(),
        other => other.to_string(),
    }
}

/// As `ip route show table all` writes it, and as `ip route add` and `del` take it.
impl fmt::Display for KernelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.word())?;
        match (self.destination.prefix(), self.destination) {
            (0, _) => f.write_str("default")?,
            (32, to) => write!(f, "{}", to.network())?,
            (_, to) => write!(f, "{to}")?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        for other in &self.others {
            write!(f, " nexthop {other}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        write!(f, " proto {}", protocol_name(self.protocol))?;
        match self.scope {
            253 => f.write_str(" scope link")?,
            254 => f.write_str(" scope host")?,
            _ => {}
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}

/// What a routing policy rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Looks into a table.
    Lookup,
    /// Ends the search: no route.
    Refuse,
    /// Something else.
    Other,
}

/// A routing policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRule {
    /// The lower is asked first.
    pub priority: u32,
    /// Source addresses that it is for.
    pub from: Option<Cidr4>,
    /// Destinations that it is for.
    pub to: Option<Cidr4>,
    /// The device that packets come in by.
    pub input_device: Option<String>,
    /// Whether it asks for something that is not known of a packet here (a mark, ports, a user, an output device).
    pub particular: bool,
    /// Whether it is for all others than it says.
    pub inverted: bool,
    /// What it does.
    pub action: RuleAction,
    /// The table that it looks into.
    pub table: u32,
    /// Results of this prefix length or less don't count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress_prefix: Option<u32>,
}

impl fmt::Display for KernelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        if self.inverted {
            f.write_str(" not")?;
        }
        match self.from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(device) = &self.input_device {
            write!(f, " iif {device}")?;
        }
        if self.particular {
            f.write_str(" (and more)")?;
        }
        match self.action {
            RuleAction::Lookup => write!(f, " lookup {}", self.table),
            RuleAction::Refuse => f.write_str(" unreachable"),
            RuleAction::Other => f.write_str(" (other)"),
        }
    }
}

/// Where a base chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterHook {
    /// What comes in by one device, before all else (nft's `netdev` family).
    Ingress,
    /// All that comes in.
    Prerouting,
    /// What is for this place.
    Input,
    /// What goes through.
    Forward,
    /// What this place sends.
    Output,
    /// All that goes out.
    Postrouting,
}

/// Through which of the kernel's interfaces a chain was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterTool {
    /// nftables, iptables-nft included.
    Nft,
    /// iptables-legacy.
    IptablesLegacy,
}

/// A chain of the packet filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterChain {
    /// Where it was read.
    pub tool: FilterTool,
    /// The table's family: `ip`, `inet`; `ip` for iptables-legacy.
    pub family: String,
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
    /// Where it stands; `None`: it is only jumped to.
    pub hook: Option<FilterHook>,
    /// Its place among the chains of a hook; the lower comes first.
    pub priority: i32,
    /// Whether what no rule decides on is dropped.
    pub drops: bool,
    /// Whether it is a NAT chain: it sees the first packet of a connection only.
    pub nat: bool,
    /// Its rules in order.
    pub rules: Vec<FilterRule>,
}

impl FilterChain {
    /// `inet filter forward`.
    pub fn path(&self) -> String {
        format!("{} {} {}", self.family, self.table, self.name)
    }
}

/// What a rule does with a packet that it matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterVerdict {
    /// Lets it through this chain's table.
    Accept,
    /// Drops or rejects it.
    Drop,
    /// Goes on in another chain, and comes back.
    Jump(String),
    /// Goes on in another chain.
    Goto(String),
    /// Ends this chain.
    Return,
    /// Counts, marks, logs, translates; and goes on.
    None,
}

/// What a rule asks of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterMatch {
    /// The IP protocol.
    Protocol(u8),
    /// From a block of addresses.
    From(Cidr4),
    /// To a block of addresses.
    To(Cidr4),
    /// From one of these addresses, first and last.
    FromRange(Ipv4Addr, Ipv4Addr),
    /// To one of these addresses, first and last.
    ToRange(Ipv4Addr, Ipv4Addr),
    /// One of these at least.
    Any(Vec<FilterMatch>),
    /// From one of these ports, first and last.
    SourcePort(u16, u16),
    /// To one of these ports, first and last.
    Port(u16, u16),
    /// It came in by this device; with a `*` at the end by any whose name begins so.
    Input(String),
    /// It goes out by this device.
    Output(String),
    /// The connection is tracked as established or related.
    Established,
    /// The connection is new, or in any state.
    New,
    /// The opposite of another.
    Not(Box<FilterMatch>),
    /// What is not understood here.
    Unknown,
}

/// A rule of the packet filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRule {
    /// The kernel's number for it; for iptables-legacy its place in the chain, from 1.
    pub handle: u64,
    /// As `nft` or `iptables-save` writes it, as far as can be told.
    pub text: String,
    /// All of which must hold.
    pub matches: Vec<FilterMatch>,
    /// What it does then.
    pub verdict: FilterVerdict,
    /// Packets that it was for, where it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
}
