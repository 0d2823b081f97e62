//! IPsec in the kernel: its policies, which say what is wrapped and by which template, and its states, which hold keys
//! and counters (`ip xfrm`). Neither has a device. IPv4, ESP in tunnel mode; keys are never read.

use crate::units::Cidr4;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;

/// Stands for the kernel's IPsec where a device's name is asked for: it has none, and no device's name has a space.
pub const KERNEL_IPSEC: &str = "ip xfrm";

/// Where a policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IpsecDirection {
    /// Of what is for the place itself.
    In,
    /// Of what leaves it.
    Out,
    /// Of what goes through it, once it has come out of its wrapping.
    Forward,
}

impl fmt::Display for IpsecDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "fwd",
        })
    }
}

/// What a policy wraps packets in, or wants them to have been wrapped in: ESP in tunnel mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpsecTemplate {
    /// The outer source address.
    pub from: Ipv4Addr,
    /// The outer destination address.
    pub to: Ipv4Addr,
    /// States of this number are meant; 0: any.
    pub reqid: u32,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpsecPolicy {
    /// Where it is asked.
    pub direction: IpsecDirection,
    /// Source addresses that it is for.
    pub from: Cidr4,
    /// Destinations that it is for.
    pub to: Cidr4,
    /// The lower is asked first.
    pub priority: u32,
    /// Whether it drops.
    pub blocks: bool,
    /// Whether it asks for something that is not known of a packet here: a protocol, a port, a device, a mark.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub particular: bool,
    /// How packets are wrapped; `None`: not at all, or not by ESP in tunnel mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<IpsecTemplate>,
}

/// As `ip xfrm policy add` takes it.
impl fmt::Display for IpsecPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src {} dst {} dir {}", self.from, self.to, self.direction)?;
        if self.blocks {
            f.write_str(" action block")?;
        }
        write!(f, " priority {}", self.priority)?;
        if self.particular {
            f.write_str(" (and more)")?;
        }
        if let Some(IpsecTemplate { from, to, reqid }) = &self.template {
            write!(f, " tmpl src {from} dst {to} proto esp reqid {reqid} mode tunnel")?;
        }
        Ok(())
    }
}

/// A state (security association) of ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpsecState {
    /// The outer source address.
    pub from: Ipv4Addr,
    /// The outer destination address.
    pub to: Ipv4Addr,
    /// The security parameter index.
    pub spi: u32,
    /// What templates name it by.
    pub reqid: u32,
    /// The UDP ports that ESP is wrapped in, from and to (RFC 3948).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<(u16, u16)>,
    /// Bytes of the integrity check value.
    pub icv: u32,
    /// Bytes that went through it.
    pub bytes: u64,
    /// Packets that went through it.
    pub packets: u64,
}

impl fmt::Display for IpsecState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, spi, .. } = self;
        write!(
            f,
            "src {from} dst {to} proto esp spi {spi:#010x} reqid {}",
            self.reqid
        )?;
        if let Some((sport, dport)) = self.udp {
            write!(f, " encap espinudp {sport} {dport}")?;
        }
        Ok(())
    }
}

/// All that the kernel of a place has of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IpsecSeen {
    /// Policies; those of single sockets left out.
    pub policies: Vec<IpsecPolicy>,
    /// States.
    pub states: Vec<IpsecState>,
}

impl IpsecSeen {
    /// The policy that decides on packets from one address to another. What a protocol, port or mark decides can't be
    /// told of a packet here.
    pub fn policy(&self, direction: IpsecDirection, from: Ipv4Addr, to: Ipv4Addr) -> Option<&IpsecPolicy> {
        self.policies
            .iter()
            .filter(|policy| policy.direction == direction && !policy.particular)
            .filter(|policy| policy.from.contains(from) && policy.to.contains(to))
            .min_by_key(|policy| policy.priority)
    }

    /// The state by which a template wraps; without one, its packets are dropped.
    pub fn state(&self, template: &IpsecTemplate) -> Option<&IpsecState> {
        self.states.iter().find(|state| {
            state.from == template.from
                && state.to == template.to
                && (template.reqid == 0 || state.reqid == template.reqid)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(direction: IpsecDirection, to: &str, priority: u32) -> IpsecPolicy {
        IpsecPolicy {
            direction,
            from: "10.0.0.0/8".parse().unwrap(),
            to: to.parse().unwrap(),
            priority,
            blocks: false,
            particular: false,
            template: Some(IpsecTemplate {
                from: [192, 0, 2, 1].into(),
                to: [192, 0, 2, 2].into(),
                reqid: 7,
            }),
        }
    }

    #[test]
    fn the_lowest_priority_decides_not_the_longest_prefix() {
        let seen = IpsecSeen {
            policies: vec![
                policy(IpsecDirection::Out, "10.2.3.0/24", 9),
                policy(IpsecDirection::Out, "10.2.0.0/16", 8),
                policy(IpsecDirection::In, "10.0.0.0/8", 1),
                IpsecPolicy {
                    particular: true,
                    ..policy(IpsecDirection::Out, "10.2.0.0/16", 0)
                },
            ],
            states: Vec::new(),
        };
        let ask = |to: [u8; 4]| {
            seen.policy(IpsecDirection::Out, [10, 1, 1, 1].into(), to.into())
                .map(|policy| policy.priority)
        };
        assert_eq!(ask([10, 2, 3, 4]), Some(8));
        assert_eq!(ask([10, 3, 3, 4]), None);
        assert_eq!(
            seen.policies[1].to_string(),
            "src 10.0.0.0/8 dst 10.2.0.0/16 dir out priority 8 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel"
        );
    }

    #[test]
    fn a_template_names_its_states_by_their_number() {
        let template = policy(IpsecDirection::Out, "10.2.0.0/16", 0).template.unwrap();
        let state = |reqid| IpsecState {
            from: template.from,
            to: template.to,
            spi: 0x100,
            reqid,
            udp: Some((4500, 4500)),
            icv: 16,
            bytes: 0,
            packets: 0,
        };
        let mut seen = IpsecSeen {
            policies: Vec::new(),
            states: vec![state(6)],
        };
        assert_eq!(seen.state(&template), None);
        seen.states.push(state(7));
        assert_eq!(
            seen.state(&template).unwrap().to_string(),
            "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00000100 reqid 7 encap espinudp 4500 4500"
        );
    }
}
