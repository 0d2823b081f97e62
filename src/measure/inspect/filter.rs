//! The packet filter, over nftables' netlink family, which iptables-nft uses too. The kernel keeps a rule as steps
//! that load a field into a register and compare it; they are read back into what they ask of a packet. What isn't
//! understood makes the rule one that may or may not match.

use super::sets::{self, Sets};
use crate::evidence::{
    FilterChain, FilterHook, FilterMatch, FilterRule, FilterTool, FilterVerdict, Inspection,
};
use crate::units::Cidr4;
use nlink::netlink::nftables::{
    ChainType, CmpOp, CtKey, MetaKey, PayloadBase, RangeOp, Register, RuleExpr, RuleInfo, Verdict,
};
use nlink::netlink::{Connection, Nftables};
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// A table of this name stands in for what hardware would do in a lab; it is no packet filter of the node.
pub(super) const SIMULATION: &str = "encapbench-simulation";

/// Adds the chains; says where they can't be read.
pub(super) async fn read(seen: &mut Inspection) {
    match chains().await {
        Ok(chains) => seen.chains = chains,
        Err(error) => seen.unseen.push(format!("the packet filter (nftables): {error}")),
    }
}

async fn chains() -> nlink::Result<Vec<FilterChain>> {
    let nft = Connection::<Nftables>::new()?;
    let mut found = Vec::new();
    let all = nft.list_chains().await?;
    for table in nft.list_tables().await? {
        let family = match table.family {
            nlink::netlink::nftables::Family::Ip => "ip",
            nlink::netlink::nftables::Family::Inet => "inet",
            nlink::netlink::nftables::Family::Netdev => "netdev",
            _ => continue,
        };
        if table.name == SIMULATION {
            continue;
        }
        let mut rules: HashMap<String, Vec<RuleInfo>> = HashMap::new();
        for rule in nft.list_rules(&table.name, table.family).await? {
            rules.entry(rule.chain.clone()).or_default().push(rule);
        }
        let sets = sets::of(&nft, &table.name, table.family, rules.values().flatten()).await;
        let is_netdev = family == "netdev";
        for chain in all
            .iter()
            .filter(|chain| chain.table == table.name && chain.family == table.family)
        {
            // What comes in by a device, before all else; a chain of several devices is taken to be of any.
            let device = chain
                .device
                .clone()
                .filter(|_| is_netdev && chain.hook == Some(0))
                .map(FilterMatch::Input);
            found.push(FilterChain {
                tool: FilterTool::Nft,
                family: family.to_owned(),
                table: table.name.clone(),
                name: chain.name.clone(),
                // NF_INET_* (linux/netfilter.h).
                hook: chain.hook.and_then(|hook| match hook {
                    // NF_NETDEV_INGRESS; what leaves by NF_NETDEV_EGRESS is not judged.
                    0 if is_netdev => Some(FilterHook::Ingress),
                    _ if is_netdev => None,
                    0 => Some(FilterHook::Prerouting),
                    1 => Some(FilterHook::Input),
                    2 => Some(FilterHook::Forward),
                    3 => Some(FilterHook::Output),
                    4 => Some(FilterHook::Postrouting),
                    _ => None,
                }),
                priority: chain.priority.unwrap_or(0),
                // NF_DROP is 0.
                drops: chain.hook.is_some() && chain.policy == Some(0),
                nat: matches!(chain.chain_type, Some(ChainType::Nat)),
                rules: rules
                    .remove(&chain.name)
                    .unwrap_or_default()
                    .iter()
                    .flat_map(|info| rules_of(info, &sets))
                    .map(|mut rule| {
                        rule.matches.extend(device.clone());
                        rule
                    })
                    .collect(),
            });
        }
    }
    Ok(found)
}

/// One rule, or as many as its verdict map has elements.
fn rules_of(info: &RuleInfo, sets: &Sets) -> Vec<FilterRule> {
    let expressions = info.expressions();
    let read = read_back(&expressions, sets);
    let does = |is: fn(&RuleExpr) -> bool| expressions.iter().any(is);
    // iptables has it as a target of its own, which nftables carries as it is.
    let masquerades = |expression: &RuleExpr| match expression {
        RuleExpr::Masq { .. } => true,
        RuleExpr::Unknown { data, .. } => data.windows(10).any(|name| name == b"MASQUERADE"),
        _ => false,
    };
    let word = if expressions.iter().any(masquerades) {
        "masquerade"
    } else if does(|expression| matches!(expression, RuleExpr::Nat { .. })) {
        "snat or dnat"
    } else {
        word(&read.verdict)
    };
    let text = info
        .nft_syntax_stateless()
        .unwrap_or_else(|| format!("(a rule that encapbench can't read) {word}"));
    let hits = expressions.iter().find_map(|expression| match expression {
        RuleExpr::Counter { packets, .. } => Some(*packets),
        _ => None,
    });
    let rule = |asked: Vec<FilterMatch>, verdict| FilterRule {
        handle: info.handle,
        text: text.trim().to_owned(),
        matches: read.matches.iter().cloned().chain(asked).collect(),
        verdict,
        hits,
    };
    if read.map.is_empty() {
        return vec![rule(Vec::new(), read.verdict.clone())];
    }
    read.map
        .iter()
        .map(|(asked, verdict)| rule(asked.clone(), verdict.clone()))
        .collect()
}

fn word(verdict: &FilterVerdict) -> &str {
    match verdict {
        FilterVerdict::Accept => "accept",
        FilterVerdict::Drop => "drop",
        FilterVerdict::Jump(_) => "jump",
        FilterVerdict::Goto(_) => "goto",
        FilterVerdict::Return => "return",
        FilterVerdict::None => "",
    }
}

/// What a register holds.
#[derive(Clone, Copy)]
pub(super) enum Loaded {
    Protocol,
    NetworkProtocol,
    EtherType,
    Input,
    Output,
    Source(Option<u32>),
    Destination(Option<u32>),
    SourcePort,
    Port,
    /// Connection state under a mask.
    State(Option<u32>),
    Other,
}

// NF_CT_STATE_BIT of linux/netfilter/nf_conntrack_common.h: established is bit 1, related bit 2, new bit 3.
const ESTABLISHED: u32 = 1 << 1 | 1 << 2;
const NEW: u32 = 1 << 3;

/// A rule as it was read back.
struct ReadBack {
    matches: Vec<FilterMatch>,
    verdict: FilterVerdict,
    /// What the elements of its verdict map ask and decide.
    map: Vec<(Vec<FilterMatch>, FilterVerdict)>,
}

fn read_back(expressions: &[RuleExpr], sets: &Sets) -> ReadBack {
    let mut registers: HashMap<u32, Loaded> = HashMap::new();
    let mut matches = Vec::new();
    let mut verdict = FilterVerdict::None;
    let mut map = Vec::new();
    for expression in expressions {
        match expression {
            RuleExpr::Meta { dreg, key, .. } => {
                let loaded = match key {
                    MetaKey::L4Proto => Loaded::Protocol,
                    MetaKey::NfProto => Loaded::NetworkProtocol,
                    MetaKey::Protocol => Loaded::EtherType,
                    MetaKey::IifName => Loaded::Input,
                    MetaKey::OifName => Loaded::Output,
                    _ => Loaded::Other,
                };
                registers.insert(dreg.wire(), loaded);
            }
            RuleExpr::Payload {
                dreg,
                base,
                offset,
                len,
                ..
            } => {
                // A prefix of whole bytes is compared without a mask.
                let bits = |len: u32| (len < 4).then(|| u32::MAX << (32 - 8 * len));
                let loaded = match (base, offset, len) {
                    (PayloadBase::Network, 9, 1) => Loaded::Protocol,
                    (PayloadBase::Network, 12, 1..=4) => Loaded::Source(bits(*len)),
                    (PayloadBase::Network, 16, 1..=4) => Loaded::Destination(bits(*len)),
                    (PayloadBase::Transport, 0, 2) => Loaded::SourcePort,
                    (PayloadBase::Transport, 2, 2) => Loaded::Port,
                    _ => Loaded::Other,
                };
                registers.insert(dreg.wire(), loaded);
            }
            RuleExpr::Ct { dreg, key, .. } => {
                let loaded = if matches!(key, CtKey::State) {
                    Loaded::State(None)
                } else {
                    Loaded::Other
                };
                registers.insert(dreg.wire(), loaded);
            }
            RuleExpr::Bitwise { sreg, dreg, mask, .. } => {
                let bytes: Option<[u8; 4]> = mask.first_chunk().copied();
                let loaded = match (registers.get(&sreg.wire()), bytes) {
                    (Some(Loaded::Source(_)), Some(mask)) => Loaded::Source(Some(u32::from_be_bytes(mask))),
                    (Some(Loaded::Destination(_)), Some(mask)) => {
                        Loaded::Destination(Some(u32::from_be_bytes(mask)))
                    }
                    (Some(Loaded::State(_)), Some(mask)) => Loaded::State(Some(u32::from_ne_bytes(mask))),
                    _ => Loaded::Other,
                };
                registers.insert(dreg.wire(), loaded);
            }
            RuleExpr::Cmp { sreg, op, data, .. } => {
                let loaded = registers.get(&sreg.wire()).copied().unwrap_or(Loaded::Other);
                matches.extend(compared(loaded, *op, data));
            }
            RuleExpr::Range {
                sreg, op, from, to, ..
            } => {
                let found = match (registers.get(&sreg.wire()), number(from), number(to)) {
                    (Some(Loaded::Port), Some(from), Some(to)) => FilterMatch::Port(from, to),
                    (Some(Loaded::SourcePort), Some(from), Some(to)) => FilterMatch::SourcePort(from, to),
                    (Some(Loaded::Source(None)), ..) => addresses(from, to, FilterMatch::FromRange),
                    (Some(Loaded::Destination(None)), ..) => addresses(from, to, FilterMatch::ToRange),
                    _ => FilterMatch::Unknown,
                };
                matches.push(match op {
                    RangeOp::Eq => found,
                    _ => not(found),
                });
            }
            RuleExpr::Verdict(decided) => verdict = judged(decided),
            RuleExpr::Lookup {
                set,
                sreg,
                dreg,
                invert,
                ..
            } => {
                let loaded = registers.get(&sreg.wire()).copied().unwrap_or(Loaded::Other);
                match (sets.get(set), dreg) {
                    (Some(elements), None) => {
                        let found = sets::member(loaded, elements);
                        matches.push(if *invert { not(found) } else { found });
                    }
                    (Some(elements), Some(Register::Verdict)) => map = sets::verdicts(loaded, elements),
                    // A verdict map that can't be read may drop.
                    (None, Some(Register::Verdict)) => {
                        matches.push(FilterMatch::Unknown);
                        verdict = FilterVerdict::Drop;
                    }
                    (Some(_) | None, Some(register)) => {
                        registers.insert(register.wire(), Loaded::Other);
                    }
                    (None, None) => matches.push(FilterMatch::Unknown),
                }
            }
            RuleExpr::Reject { .. } => verdict = FilterVerdict::Drop,
            RuleExpr::Unknown { name, data, .. } => match compatible(name, data) {
                Compatible::Nothing => {}
                Compatible::Match(found) => matches.extend(found),
                Compatible::Drop => verdict = FilterVerdict::Drop,
            },
            // They count, log, mark or translate, and don't decide.
            RuleExpr::Counter { .. }
            | RuleExpr::Log(_)
            | RuleExpr::MetaSet { .. }
            | RuleExpr::CtSet { .. }
            | RuleExpr::Immediate { .. }
            | RuleExpr::PayloadSet { .. }
            | RuleExpr::ExthdrSet { .. }
            | RuleExpr::Masq { .. }
            | RuleExpr::Nat { .. }
            | RuleExpr::Redir { .. }
            | RuleExpr::Notrack => {}
            _ => matches.push(FilterMatch::Unknown),
        }
    }
    ReadBack {
        matches,
        verdict,
        map,
    }
}

pub(super) fn judged(verdict: &Verdict) -> FilterVerdict {
    match verdict {
        Verdict::Accept => FilterVerdict::Accept,
        Verdict::Drop => FilterVerdict::Drop,
        Verdict::Return => FilterVerdict::Return,
        Verdict::JumpTo(chain) => FilterVerdict::Jump(chain.to_string()),
        Verdict::GotoTo(chain) => FilterVerdict::Goto(chain.to_string()),
        _ => FilterVerdict::None,
    }
}

pub(super) fn number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().copied().map(u16::from_be_bytes)
}

fn addresses(
    first: &[u8],
    last: &[u8],
    found: impl FnOnce(Ipv4Addr, Ipv4Addr) -> FilterMatch,
) -> FilterMatch {
    match (first.first_chunk::<4>(), last.first_chunk::<4>()) {
        (Some(first), Some(last)) => found(Ipv4Addr::from(*first), Ipv4Addr::from(*last)),
        _ => FilterMatch::Unknown,
    }
}

fn not(found: FilterMatch) -> FilterMatch {
    match found {
        FilterMatch::Unknown => FilterMatch::Unknown,
        found => FilterMatch::Not(Box::new(found)),
    }
}

/// `Some` of what a comparison asks; `None` where it asks for what all packets here are.
pub(super) fn compared(loaded: Loaded, op: CmpOp, data: &[u8]) -> Option<FilterMatch> {
    let block = |mask: Option<u32>| {
        let mut bytes = [0; 4];
        for (byte, given) in bytes.iter_mut().zip(data) {
            *byte = *given;
        }
        let mask = mask.unwrap_or(u32::MAX);
        // A mask with holes is no block.
        (mask.leading_ones() + mask.trailing_zeros() >= 32)
            .then(|| Cidr4::new(Ipv4Addr::from(bytes), mask.leading_ones() as u8))
            .flatten()
    };
    let device = || {
        let name = String::from_utf8_lossy(data);
        match name.split_once('\0') {
            Some((name, _)) => name.to_owned(),
            // Without its final zero it is the beginning of a name.
            None => format!("{name}*"),
        }
    };
    let found = match loaded {
        // AF_INET, ETH_P_IP: all that is judged here is IPv4.
        Loaded::NetworkProtocol => match (data, op) {
            ([2], CmpOp::Eq) => return None,
            ([2], _) | (_, CmpOp::Eq) => FilterMatch::Not(Box::new(FilterMatch::New)),
            _ => return None,
        },
        Loaded::EtherType => match (data, op) {
            ([8, 0], CmpOp::Eq) => return None,
            _ => FilterMatch::Unknown,
        },
        Loaded::Protocol => data
            .first()
            .map_or(FilterMatch::Unknown, |p| FilterMatch::Protocol(*p)),
        Loaded::Input => FilterMatch::Input(device()),
        Loaded::Output => FilterMatch::Output(device()),
        Loaded::Source(mask) => block(mask).map_or(FilterMatch::Unknown, FilterMatch::From),
        Loaded::Destination(mask) => block(mask).map_or(FilterMatch::Unknown, FilterMatch::To),
        Loaded::SourcePort => number(data).map_or(FilterMatch::Unknown, |p| FilterMatch::SourcePort(p, p)),
        Loaded::Port => number(data).map_or(FilterMatch::Unknown, |p| FilterMatch::Port(p, p)),
        // `ct state established,related` is `(state & mask) != 0`.
        Loaded::State(Some(mask)) => {
            let asks = match (op, data.iter().all(|byte| *byte == 0)) {
                (CmpOp::Neq, true) if mask & NEW != 0 => FilterMatch::New,
                (CmpOp::Neq, true) if mask & ESTABLISHED != 0 => FilterMatch::Established,
                _ => FilterMatch::Unknown,
            };
            return Some(asks);
        }
        Loaded::State(None) | Loaded::Other => FilterMatch::Unknown,
    };
    Some(match op {
        CmpOp::Eq => found,
        CmpOp::Neq => not(found),
        CmpOp::Gte | CmpOp::Gt | CmpOp::Lt | CmpOp::Lte => bounded(&found, op),
        _ => FilterMatch::Unknown,
    })
}

/// Ports above or below one: `udp dport >= 4000`.
fn bounded(found: &FilterMatch, op: CmpOp) -> FilterMatch {
    let FilterMatch::Port(port, _) = *found else {
        return FilterMatch::Unknown;
    };
    match op {
        CmpOp::Gte => FilterMatch::Port(port, u16::MAX),
        CmpOp::Gt => port
            .checked_add(1)
            .map_or(FilterMatch::Unknown, |port| FilterMatch::Port(port, u16::MAX)),
        CmpOp::Lte => FilterMatch::Port(0, port),
        CmpOp::Lt => port
            .checked_sub(1)
            .map_or(FilterMatch::Unknown, |port| FilterMatch::Port(0, port)),
        _ => FilterMatch::Unknown,
    }
}

/// What a match or target of iptables, carried by nftables as it is, means.
enum Compatible {
    Nothing,
    Match(Vec<FilterMatch>),
    Drop,
}

/// NFTA_MATCH_* and NFTA_TARGET_* (linux/netfilter/nf_tables_compat.h): the name, its revision, its struct.
fn compatible(kind: &str, data: &[u8]) -> Compatible {
    let mut name = String::new();
    let mut info: &[u8] = &[];
    for (attribute, value) in nlink::netlink::AttrIter::new(data) {
        match attribute {
            1 => String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .clone_into(&mut name),
            3 => info = value,
            _ => {}
        }
    }
    match (kind, name.as_str()) {
        ("target", "REJECT" | "DROP") => Compatible::Drop,
        ("match", "comment") | ("target", _) => Compatible::Nothing,
        // struct xt_udp and the beginning of struct xt_tcp: source ports, destination ports.
        ("match", "udp" | "tcp") => {
            let port = |at: usize| {
                let bytes: Option<[u8; 2]> = info.get(at..at + 2)?.first_chunk().copied();
                bytes.map(u16::from_ne_bytes)
            };
            let inverted = info.get(if name == "udp" { 8 } else { 11 }).copied().unwrap_or(0);
            let (Some(s0), Some(s1), Some(d0), Some(d1)) = (port(0), port(2), port(4), port(6)) else {
                return Compatible::Match(vec![FilterMatch::Unknown]);
            };
            if inverted != 0 {
                return Compatible::Match(vec![FilterMatch::Unknown]);
            }
            let protocol = if name == "udp" { 17 } else { 6 };
            Compatible::Match(vec![
                FilterMatch::Protocol(protocol),
                FilterMatch::SourcePort(s0, s1),
                FilterMatch::Port(d0, d1),
            ])
        }
        _ => Compatible::Match(vec![FilterMatch::Unknown]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_devices_and_states_are_read_back() {
        assert_eq!(
            compared(Loaded::Source(Some(0xffff_ffc0)), CmpOp::Eq, &[10, 244, 0, 64]),
            Some(FilterMatch::From("10.244.0.64/26".parse().unwrap()))
        );
        assert_eq!(
            compared(Loaded::Source(Some(0xff00_ff00)), CmpOp::Eq, &[10, 0, 1, 0]),
            Some(FilterMatch::Unknown),
            "a mask with holes is no block"
        );
        assert_eq!(
            compared(Loaded::Input, CmpOp::Eq, b"cali"),
            Some(FilterMatch::Input("cali*".to_owned()))
        );
        assert_eq!(
            compared(Loaded::Output, CmpOp::Neq, b"eth0\0"),
            Some(FilterMatch::Not(Box::new(FilterMatch::Output("eth0".to_owned()))))
        );
        assert_eq!(
            compared(Loaded::State(Some(ESTABLISHED)), CmpOp::Neq, &[0; 4]),
            Some(FilterMatch::Established)
        );
        assert_eq!(compared(Loaded::NetworkProtocol, CmpOp::Eq, &[2]), None);
    }

    #[test]
    fn ports_of_iptables_are_read_back() {
        let mut data = vec![8, 0, 1, 0, b'u', b'd', b'p', 0];
        data.extend([8, 0, 2, 0, 0, 0, 0, 0]);
        data.extend([14, 0, 3, 0, 0, 0, 0xff, 0xff]);
        data.extend(4800_u16.to_ne_bytes());
        data.extend(4800_u16.to_ne_bytes());
        data.extend([0, 0, 0, 0]);
        let Compatible::Match(found) = compatible("match", &data) else {
            panic!("not a match");
        };
        assert_eq!(found[2], FilterMatch::Port(4800, 4800));
    }
}
