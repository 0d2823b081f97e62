//! Devices, addresses, neighbours, forwarding entries, routes and rules, over rtnetlink (rtnetlink(7)).

use super::super::network::{NetworkError, OFFLOADS, failed};
use crate::evidence::{
    AddressSeen, FdbSeen, Inspection, KernelRoute, KernelRule, LinkSeen, NeighbourSeen, RouteKind,
    RuleAction, VxlanSeen,
};
use crate::units::Cidr4;
use nlink::netlink::messages::{LinkMessage, LinkStats, RouteMessage, RuleMessage};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::types::rule::FibRuleAction;
use nlink::netlink::{AttrIter, Connection, Ethtool, Route};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

type Names = HashMap<u32, String>;

pub(super) async fn read(route: &Connection<Route>) -> Result<Inspection, NetworkError> {
    let links = route.get_links().await.map_err(failed("devices"))?;
    let names: Names = links
        .iter()
        .map(|link| (link.ifindex(), link.name_or("?").to_owned()))
        .collect();
    let mut seen = Inspection::default();
    let ethtool = Connection::<Ethtool>::new_async().await.ok();
    for link in &links {
        let mut found = device(link, &names);
        found.offloads = offloads(ethtool.as_ref(), &found.name).await;
        seen.links.push(found);
    }
    for address in route.get_addresses().await.map_err(failed("addresses"))? {
        let link = seen.links.iter_mut().find(|link| link.index == address.ifindex());
        // Of a peer's address, IFA_LOCAL is the own one.
        if let (Some(link), Some(IpAddr::V4(own))) = (link, address.local().or(address.address())) {
            link.addresses.push(AddressSeen {
                address: *own,
                prefix: address.prefix_len(),
            });
        }
    }
    let neighbours = route.get_neighbors().await.map_err(failed("neighbours"))?;
    seen.neighbours = neighbours
        .iter()
        .filter_map(|entry| {
            let Some(IpAddr::V4(address)) = entry.destination() else {
                return None;
            };
            Some(NeighbourSeen {
                device: names.get(&entry.ifindex())?.clone(),
                address: *address,
                mac: entry
                    .lladdr()
                    .filter(|mac| !mac.is_empty() && !entry.is_incomplete() && !entry.is_failed())
                    .map(mac),
                permanent: entry.is_permanent(),
            })
        })
        .collect();
    for link in seen.links.iter().filter(|link| link.vxlan.is_some()) {
        let what = failed(format!("forwarding entries of {}", link.name));
        for entry in route.get_fdb_by_index(link.index).await.map_err(what)? {
            seen.fdb.push(FdbSeen {
                device: link.name.clone(),
                mac: mac(&entry.mac()),
                destination: match entry.dst() {
                    Some(IpAddr::V4(address)) => Some(address),
                    _ => None,
                },
            });
        }
    }
    let routes = route.get_routes().await.map_err(failed("routes"))?;
    seen.routes = routes
        .iter()
        .filter_map(|route| kernel_route(route, &names))
        .collect();
    let rules = route.get_rules_v4().await.map_err(failed("rules"))?;
    seen.rules = rules.iter().map(kernel_rule).collect();
    seen.rules.sort_by_key(|rule| rule.priority);
    Ok(seen)
}

/// `66:ec:ab:00:00:01`.
fn mac(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

fn device(link: &LinkMessage, names: &Names) -> LinkSeen {
    let name = link.name_or("?").to_owned();
    let kind = link.kind().unwrap_or_default().to_owned();
    let vxlan = link
        .link_info()
        .filter(|_| kind == "vxlan")
        .and_then(|info| info.data())
        .map(|data| vxlan(data, names));
    let mac = link.address().map(mac).unwrap_or_default();
    // /sys shows the devices of the namespace that it was mounted in, which may have others of these names.
    let sys = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}")).unwrap_or_default();
    let is_same = sys("ifindex").trim() == link.ifindex().to_string() && sys("address").trim() == mac;
    let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver"))
        .ok()
        .filter(|_| is_same)
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default();
    let stats = link.stats();
    LinkSeen {
        index: link.ifindex(),
        mtu: link.mtu().unwrap_or(0),
        up: link.is_up(),
        no_arp: link.flags() & libc::IFF_NOARP as u32 != 0,
        mac,
        addresses: Vec::new(),
        vxlan,
        offloads: BTreeMap::new(),
        driver,
        rx_packets: stats.map_or(0, LinkStats::rx_packets),
        tx_packets: stats.map_or(0, LinkStats::tx_packets),
        dropped: stats.map_or(0, LinkStats::total_dropped),
        kind,
        name,
    }
}

/// IFLA_VXLAN_* (linux/if_link.h), of which nlink reads none.
fn vxlan(data: &[u8], names: &Names) -> VxlanSeen {
    let mut seen = VxlanSeen {
        vni: 0,
        port: 0,
        local: None,
        device: None,
        group: None,
        learning: false,
    };
    let number = |bytes: &[u8]| bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes);
    let address = |bytes: &[u8]| bytes.first_chunk::<4>().copied().map(Ipv4Addr::from);
    for (attribute, value) in AttrIter::new(data) {
        match attribute {
            1 => seen.vni = number(value),
            2 => seen.group = address(value).filter(|group| !group.is_unspecified()),
            3 => seen.device = names.get(&number(value)).cloned(),
            4 => seen.local = address(value).filter(|local| !local.is_unspecified()),
            7 => seen.learning = value.first().is_some_and(|on| *on != 0),
            15 => seen.port = value.first_chunk().copied().map_or(0, u16::from_be_bytes),
            _ => {}
        }
    }
    seen
}

async fn offloads(ethtool: Option<&Connection<Ethtool>>, device: &str) -> BTreeMap<String, bool> {
    let Some(ethtool) = ethtool else {
        return BTreeMap::new();
    };
    match ethtool.get_features_by_name(device).await {
        Ok(features) => OFFLOADS
            .iter()
            .map(|name| ((*name).to_owned(), features.is_active(name)))
            .collect(),
        Err(error) => {
            tracing::debug!("can't read the offloads of {device}: {error}");
            BTreeMap::new()
        }
    }
}

fn kernel_route(route: &RouteMessage, names: &Names) -> Option<KernelRoute> {
    if !route.is_ipv4() {
        return None;
    }
    let destination = match route.destination() {
        Some(IpAddr::V4(address)) => *address,
        None => Ipv4Addr::UNSPECIFIED,
        Some(IpAddr::V6(_)) => return None,
    };
    let v4 = |address: Option<&IpAddr>| match address {
        Some(IpAddr::V4(address)) => Some(*address),
        _ => None,
    };
    let hops = route.multipath().unwrap_or_default();
    let first = hops.first();
    Some(KernelRoute {
        table: route.table_id(),
        destination: Cidr4::new(destination, route.dst_len())?,
        kind: match route.route_type() {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::Broadcast => RouteKind::Broadcast,
            RouteType::Blackhole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Prohibit => RouteKind::Prohibit,
            RouteType::Throw => RouteKind::Throw,
            _ => RouteKind::Other,
        },
        protocol: route.protocol().into(),
        scope: route.scope() as u8,
        gateway: v4(route.gateway()).or_else(|| v4(first.and_then(|hop| hop.gateway.as_ref()))),
        device: route
            .oif()
            .or_else(|| first.map(|hop| hop.ifindex))
            .and_then(|index| names.get(&index).cloned()),
        source: v4(route.prefsrc()),
        metric: route.priority().unwrap_or(0),
        onlink: route.is_onlink() || first.is_some_and(|hop| u32::from(hop.flags) & 4 != 0),
        tos: 0,
        others: hops
            .iter()
            .skip(1)
            .map(|hop| {
                let device = names.get(&hop.ifindex).map_or("?", String::as_str);
                match hop.gateway {
                    Some(gateway) => format!("via {gateway} dev {device}"),
                    None => format!("dev {device}"),
                }
            })
            .collect(),
    })
}

fn kernel_rule(rule: &RuleMessage) -> KernelRule {
    let block = |address: Option<IpAddr>, length: u8| match address {
        Some(IpAddr::V4(address)) if length > 0 => Cidr4::new(address, length),
        _ => None,
    };
    KernelRule {
        priority: rule.priority(),
        from: block(rule.source(), rule.src_len()),
        to: block(rule.destination(), rule.dst_len()),
        input_device: rule.iifname().map(str::to_owned),
        particular: rule.fwmark().is_some_and(|mark| mark != 0)
            || rule.oifname().is_some()
            || rule.ip_proto().is_some_and(|protocol| protocol != 0)
            || rule.sport_range().is_some()
            || rule.dport_range().is_some()
            || rule.uid_range().is_some()
            || rule.tun_id().is_some_and(|id| id != 0)
            || rule.l3mdev().is_some_and(|on| on != 0),
        inverted: rule.is_invert(),
        action: match rule.action() {
            FibRuleAction::ToTbl => RuleAction::Lookup,
            FibRuleAction::Blackhole | FibRuleAction::Unreachable | FibRuleAction::Prohibit => {
                RuleAction::Refuse
            }
            _ => RuleAction::Other,
        },
        table: rule.table(),
        suppress_prefix: rule.suppress_prefixlen().filter(|length| *length != u32::MAX),
    }
}
