//! What the kernel would do with a packet: the rules in their order, in each table the longest prefix, of equals the
//! lowest metric (ip-rule(8), ip-route(8)). Worked out from what was read, so that every step can be named.

use crate::evidence::{Inspection, KernelRoute, KernelRule, RouteKind, RuleAction};
use crate::units::Cidr4;
use std::net::Ipv4Addr;

/// A packet to be routed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    /// Its source; `None`: it is the place's own and has none yet.
    pub(super) from: Option<Ipv4Addr>,
    /// Its destination.
    pub(super) to: Ipv4Addr,
    /// The device that it came in by; `None`: it is the place's own.
    pub(super) input: Option<&'a str>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision<'a> {
    /// It goes by this route.
    Route(&'a KernelRoute),
    /// This route drops it.
    Refused(&'a KernelRoute),
    /// This rule drops it.
    RefusedByRule(&'a KernelRule),
    /// Nothing says where it goes.
    Nowhere,
}

impl<'a> Decision<'a> {
    /// The route that it goes by.
    pub(super) const fn route(self) -> Option<&'a KernelRoute> {
        match self {
            Self::Route(route) => Some(route),
            _ => None,
        }
    }

    /// The device that it leaves by.
    pub(super) fn device(self) -> Option<&'a str> {
        self.route()?.device.as_deref()
    }

    /// As a finding shows it.
    pub(super) fn text(self) -> String {
        match self {
            Self::Route(route) | Self::Refused(route) => route.to_string(),
            Self::RefusedByRule(rule) => format!("rule {rule}"),
            Self::Nowhere => "no route".to_owned(),
        }
    }
}

/// Where `packet` goes.
pub(super) fn look_up<'a>(seen: &'a Inspection, packet: &Packet<'_>) -> Decision<'a> {
    let mut thrown = None;
    for rule in seen.rules.iter().filter(|rule| is_for(rule, packet)) {
        match rule.action {
            RuleAction::Refuse => return Decision::RefusedByRule(rule),
            RuleAction::Other => {}
            RuleAction::Lookup => {
                let Some(route) = longest(seen, rule.table, packet.to) else {
                    continue;
                };
                if rule
                    .suppress_prefix
                    .is_some_and(|length| u32::from(route.destination.prefix()) <= length)
                {
                    continue;
                }
                match route.kind {
                    // It ends the search in this table only. Where no other has a route, it is to blame.
                    RouteKind::Throw => thrown = Some(route),
                    RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => {
                        return Decision::Refused(route);
                    }
                    _ => return Decision::Route(route),
                }
            }
        }
    }
    thrown.map_or(Decision::Nowhere, Decision::Refused)
}

fn is_for(rule: &KernelRule, packet: &Packet<'_>) -> bool {
    // What a mark or a port decides can't be told of a packet here.
    if rule.particular {
        return false;
    }
    let from = rule
        .from
        .is_none_or(|from| packet.from.is_some_and(|address| from.contains(address)));
    let to = rule.to.is_none_or(|to| to.contains(packet.to));
    let input = rule
        .input_device
        .as_deref()
        // A place's own packets come in by lo.
        .is_none_or(|device| device == packet.input.unwrap_or("lo"));
    (from && to && input) != rule.inverted
}

/// The route of a table for an address.
pub(super) fn longest(seen: &Inspection, table: u32, to: Ipv4Addr) -> Option<&KernelRoute> {
    seen.routes
        .iter()
        .filter(|route| route.table == table && route.tos == 0 && route.destination.contains(to))
        .filter(|route| {
            route
                .device
                .as_deref()
                .is_none_or(|name| seen.link(name).is_none_or(|link| link.up))
        })
        .max_by_key(|route| (route.destination.prefix(), u32::MAX - route.metric))
}

/// One address out of every part of `cidr` that the rules and routes of a place may treat differently: its own first,
/// and the first of each more special route or rule inside.
pub(super) fn parts(seen: &Inspection, cidr: Cidr4) -> Vec<Ipv4Addr> {
    let routes = seen.routes.iter().map(|route| route.destination);
    parts_of(cidr, routes.chain(seen.rules.iter().filter_map(|rule| rule.to)))
}

/// One address of `cidr` that none of `blocks` covers, where there is one, and the first of each block inside.
pub(super) fn parts_of(cidr: Cidr4, blocks: impl Iterator<Item = Cidr4>) -> Vec<Ipv4Addr> {
    // The network address itself may be nobody's, but is routed as the others are.
    let first = |block: Cidr4| block.address(1).unwrap_or_else(|| block.network());
    let inside = |block: Cidr4| cidr.overlaps(block) && block.prefix() > cidr.prefix();
    let mut blocks: Vec<Cidr4> = blocks.filter(|block| inside(*block)).collect();
    blocks.sort_unstable();
    blocks.dedup();
    // An address that no part covers, where there is one: the first, the last, or between.
    let free = [cidr.address(1), Some(cidr.last())]
        .into_iter()
        .flatten()
        .chain((1..64).filter_map(|part| cidr.address(cidr.addresses() / 64 * part + 1)))
        .find(|address| blocks.iter().all(|block| !block.contains(*address)));
    free.into_iter().chain(blocks.into_iter().map(first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::MAIN_TABLE;

    fn route(text: &str, kind: RouteKind, table: u32, device: Option<&str>, metric: u32) -> KernelRoute {
        KernelRoute {
            table,
            destination: text.parse().unwrap(),
            kind,
            protocol: 4,
            scope: 0,
            gateway: None,
            device: device.map(str::to_owned),
            source: None,
            metric,
            onlink: false,
            tos: 0,
            others: Vec::new(),
        }
    }

    fn rule(priority: u32, table: u32, from: Option<&str>) -> KernelRule {
        KernelRule {
            priority,
            from: from.map(|cidr| cidr.parse().unwrap()),
            to: None,
            input_device: None,
            particular: false,
            inverted: false,
            action: RuleAction::Lookup,
            table,
            suppress_prefix: None,
        }
    }

    fn to(address: &str, from: Option<&str>) -> Packet<'static> {
        Packet {
            from: from.map(|address| address.parse().unwrap()),
            to: address.parse().unwrap(),
            input: None,
        }
    }

    #[test]
    fn rules_come_in_order_and_the_longest_prefix_wins() {
        let seen = Inspection {
            routes: vec![
                route("10.9.0.0/16", RouteKind::Unicast, MAIN_TABLE, Some("vx"), 0),
                route("10.9.128.0/17", RouteKind::Unreachable, MAIN_TABLE, None, 0),
                route("10.9.0.0/16", RouteKind::Unreachable, MAIN_TABLE, None, 1024),
                route("10.9.0.0/16", RouteKind::Unicast, 77, Some("eth0"), 0),
            ],
            rules: vec![rule(150, 77, Some("10.1.0.0/16")), rule(32766, MAIN_TABLE, None)],
            ..Inspection::default()
        };
        assert_eq!(look_up(&seen, &to("10.9.1.1", None)).device(), Some("vx"));
        assert_eq!(
            look_up(&seen, &to("10.9.1.1", Some("10.1.2.3"))).device(),
            Some("eth0")
        );
        assert!(matches!(
            look_up(&seen, &to("10.9.200.1", None)),
            Decision::Refused(_)
        ));
        assert_eq!(look_up(&seen, &to("10.8.0.1", None)), Decision::Nowhere);
        let parts: Vec<_> = parts(&seen, "10.9.0.0/16".parse().unwrap())
            .iter()
            .map(Ipv4Addr::to_string)
            .collect();
        assert_eq!(parts, ["10.9.0.1", "10.9.128.1"]);
    }
}
