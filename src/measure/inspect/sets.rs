//! Sets and verdict maps of the packet filter: `udp dport { 4800, 9000-9100 }`, `ip saddr @pods`,
//! `iifname vmap { "eth0" : drop }`. Each element is turned into what it asks of a packet.

use super::filter::{Loaded, compared, judged, number};
use crate::evidence::{FilterMatch, FilterVerdict};
use nlink::netlink::nftables::{CmpOp, Family, RuleExpr, RuleInfo, SetElement, SetElementData};
use nlink::netlink::{Connection, Nftables};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// Sets by name.
pub(super) type Sets = HashMap<String, Vec<SetElement>>;
/// A set of more elements is not read: IP sets of some policies have tens of thousands, and none of them matters here
/// as much as the time.
const MOST: usize = 4096;

/// The sets of a table that its rules ask. One that can't be read is left out: its rules may or may not match.
pub(super) async fn of(
    nft: &Connection<Nftables>,
    table: &str,
    family: Family,
    rules: impl Iterator<Item = &RuleInfo>,
) -> Sets {
    let names: HashSet<String> = rules
        .flat_map(RuleInfo::expressions)
        .filter_map(|expression| match expression {
            RuleExpr::Lookup { set, .. } => Some(set),
            _ => None,
        })
        .collect();
    let mut sets = Sets::new();
    for name in names {
        match nft.list_set_elements(table, &name, family).await {
            Ok(elements) if elements.len() <= MOST => {
                sets.insert(name, elements);
            }
            Ok(elements) => tracing::debug!("set {name} of table {table} has {} elements", elements.len()),
            Err(error) => tracing::debug!("can't read set {name} of table {table}: {error}"),
        }
    }
    sets
}

/// What membership in a set asks.
pub(super) fn member(loaded: Loaded, elements: &[SetElement]) -> FilterMatch {
    let asked: Vec<FilterMatch> = elements.iter().filter_map(|one| element(loaded, one)).collect();
    if asked.contains(&FilterMatch::Unknown) {
        FilterMatch::Unknown
    } else {
        FilterMatch::Any(asked)
    }
}

/// What each element of a verdict map asks, and what it decides.
pub(super) fn verdicts(loaded: Loaded, elements: &[SetElement]) -> Vec<(Vec<FilterMatch>, FilterVerdict)> {
    elements
        .iter()
        .filter_map(|one| {
            let Some(SetElementData::Verdict(verdict)) = one.data() else {
                return None;
            };
            let asked = if one.is_catchall() {
                Vec::new()
            } else {
                vec![element(loaded, one)?]
            };
            Some((asked, judged(verdict)))
        })
        .collect()
}

/// `None`: it can't be of IPv4.
fn element(loaded: Loaded, one: &SetElement) -> Option<FilterMatch> {
    let key = one.key();
    let last = one.key_end().unwrap_or(key);
    let address = |bytes: &[u8]| bytes.first_chunk::<4>().copied().map(Ipv4Addr::from);
    Some(match (loaded, key.len()) {
        (Loaded::Source(None), 4) => range(address(key), address(last), FilterMatch::FromRange),
        (Loaded::Destination(None), 4) => range(address(key), address(last), FilterMatch::ToRange),
        (Loaded::Port, 2) => range(number(key), number(last), FilterMatch::Port),
        (Loaded::SourcePort, 2) => range(number(key), number(last), FilterMatch::SourcePort),
        (Loaded::Protocol, 1) if key == last => FilterMatch::Protocol(key[0]),
        (Loaded::Input | Loaded::Output, _) if key == last => {
            // Names in sets are whole, filled up with zeros.
            compared(loaded, CmpOp::Eq, key)?
        }
        _ => FilterMatch::Unknown,
    })
}

fn range<T>(first: Option<T>, last: Option<T>, found: impl FnOnce(T, T) -> FilterMatch) -> FilterMatch {
    match (first, last) {
        (Some(first), Some(last)) => found(first, last),
        _ => FilterMatch::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_what_they_ask() {
        let ports = [SetElement::port(4800), SetElement::port_range(9000, 9100)];
        assert_eq!(
            member(Loaded::Port, &ports),
            FilterMatch::Any(vec![FilterMatch::Port(4800, 4800), FilterMatch::Port(9000, 9100)])
        );
        let [first, last] = ["10.244.0.1", "10.244.0.9"].map(|text| text.parse().unwrap());
        assert_eq!(
            member(Loaded::Source(None), &[SetElement::ipv4_range(first, last)]),
            FilterMatch::Any(vec![FilterMatch::FromRange(first, last)])
        );
        let mut name = b"eth0".to_vec();
        name.resize(16, 0);
        assert_eq!(
            member(Loaded::Output, &[SetElement::new(name)]),
            FilterMatch::Any(vec![FilterMatch::Output("eth0".to_owned())])
        );
        // Of a concatenation.
        assert_eq!(
            member(
                Loaded::Source(None),
                &[SetElement::new(vec![10, 0, 0, 1, 0, 0, 18, 192])]
            ),
            FilterMatch::Unknown
        );
    }

    #[test]
    fn verdict_maps_are_many_rules() {
        let map = [
            SetElement::port(80).verdict(nlink::netlink::nftables::Verdict::Accept),
            SetElement::port(4500).verdict(nlink::netlink::nftables::Verdict::Drop),
        ];
        assert_eq!(
            verdicts(Loaded::Port, &map),
            [
                (vec![FilterMatch::Port(80, 80)], FilterVerdict::Accept),
                (vec![FilterMatch::Port(4500, 4500)], FilterVerdict::Drop)
            ]
        );
    }
}
