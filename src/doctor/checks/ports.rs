//! The UDP ports of tunnels: whether frames arrive there, and what rule or policy drops them where not (preflight list,
//! 10). No ping between Submariner's devices, which it rewrites by design.

use super::packet_filter::{named, undo};
use crate::doctor::examination::{Examination, KnockResult, NodeView};
use crate::doctor::filter::{self, Fate, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{FilterChain, FilterHook, FilterRule, FilterTool};
use crate::scenario::Place;
use std::collections::{BTreeMap, BTreeSet};

const UDP: u8 = 17;

/// Whether the nodes reach each other at all.
fn nodes_reach(case: &Examination, from: &str, to: &str) -> bool {
    case.probes.iter().any(|probe| {
        matches!((&probe.from, &probe.to), (Place::Node(a), Place::Node(b)) if a == from && b == to)
            && probe.seen.datagram
    })
}

/// Cables whose port can't be knocked at (WireGuard, IPsec), where no packet crosses them: their rules are all there is.
fn unheard_cables(case: &Examination) -> Vec<KnockResult> {
    let mut found = Vec::new();
    for view in case.nodes() {
        let Some(own) = view
            .cluster
            .submariner
            .as_ref()
            .filter(|own| own.gateway == view.node.name && own.cable_tunnel.is_none())
        else {
            continue;
        };
        for other in case
            .setup
            .clusters
            .iter()
            .filter(|other| other.name != view.cluster.name)
        {
            let Some(there) = &other.submariner else { continue };
            let crosses = case.probes.iter().any(|probe| {
                let nodes = case.nodes_of(probe);
                probe.is_reachable()
                    && probe.from.is_pod()
                    && nodes.contains(&own.gateway.as_str())
                    && nodes.contains(&there.gateway.as_str())
            });
            if !crosses {
                found.push(KnockResult {
                    from: there.gateway.clone(),
                    to: own.gateway.clone(),
                    port: own.cable_port,
                    device: own.cable_device.clone(),
                    heard: None,
                    error: None,
                });
            }
        }
    }
    found
}

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    let mut told: BTreeMap<(String, String), Blocked<'_>> = BTreeMap::new();
    let mut on_the_way: Vec<&KnockResult> = Vec::new();
    let cables = unheard_cables(case);
    for knock in case
        .knocks
        .iter()
        .chain(&cables)
        .filter(|knock| knock.heard != Some(true))
    {
        let (Some(from), Some(to)) = (case.node(&knock.from), case.node(&knock.to)) else {
            continue;
        };
        let packet = |input, output| Packet {
            from: from.node.address,
            to: to.node.address,
            protocol: UDP,
            port: knock.port,
            input,
            output,
            established: false,
        };
        let failed = knock.heard == Some(false);
        let ends = [
            (
                &to,
                FilterHook::Input,
                packet(to.uplink().map(|link| link.name.as_str()), None),
            ),
            (
                &to,
                FilterHook::Prerouting,
                packet(to.uplink().map(|link| link.name.as_str()), None),
            ),
            (
                &to,
                FilterHook::Ingress,
                packet(to.uplink().map(|link| link.name.as_str()), None),
            ),
            (
                &from,
                FilterHook::Output,
                packet(None, from.uplink().map(|link| link.name.as_str())),
            ),
            (
                &from,
                FilterHook::Postrouting,
                packet(None, from.uplink().map(|link| link.name.as_str())),
            ),
        ];
        let culprit =
            ends.iter().find_map(
                |(view, hook, packet)| match filter::fate(view.seen, *hook, packet).0 {
                    Fate::Drops(chain, rule) => Some((*view, chain, rule)),
                    Fate::MayDrop(chain, rule) if failed => Some((*view, chain, rule)),
                    _ => None,
                },
            );
        match culprit {
            Some((view, chain, rule)) => {
                let key = (view.node.name.clone(), named(chain, rule));
                told.entry(key)
                    .or_insert_with(|| Blocked {
                        view: *view,
                        chain,
                        rule,
                        knocks: BTreeMap::new(),
                    })
                    .knocks
                    .entry(knock.port)
                    .or_insert(knock);
            }
            None if failed && nodes_reach(case, &knock.from, &knock.to) => on_the_way.push(knock),
            None => {}
        }
    }
    findings.extend(told.values().map(blocked));
    let mut pairs: BTreeSet<(String, u16)> = BTreeSet::new();
    for knock in on_the_way {
        let mut ends = [knock.from.as_str(), knock.to.as_str()];
        ends.sort_unstable();
        let place = ends.join(" <-> ");
        if !pairs.insert((place.clone(), knock.port)) {
            continue;
        }
        let port = knock.port;
        findings.push(
            Finding::new(
                "udp-blocked",
                Severity::Error,
                &place,
                format!("UDP {port} does not get through between these nodes"),
            )
            .seen(format!(
                "frames from {} to {} of {} ({}/udp) did not arrive, while other UDP does{}",
                knock.from,
                knock.device,
                knock.to,
                port,
                knock.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
            ))
            .seen("no rule of either node drops it")
            .why(why(port))
            .on_a_cluster(format!(
                "# open {port}/udp between the nodes, both ways: security group, firewall, network policy of the cloud"
            )),
        );
    }
}

const fn why(port: u16) -> &'static str {
    match port {
        4789 => {
            "Calico's VXLAN packets go there: pods of other subnets, and all pods under Always, are out of reach"
        }
        4800 => "what workers send to other clusters goes to the gateway by this port (vx-submariner)",
        4500 => "the cable between the clusters' gateways uses this port: no packet leaves the cluster",
        _ => "a tunnel uses this port",
    }
}

/// A rule or policy that drops tunnels' packets: one finding, however many ports.
struct Blocked<'a> {
    view: NodeView<'a>,
    chain: &'a FilterChain,
    rule: Option<&'a FilterRule>,
    knocks: BTreeMap<u16, &'a KnockResult>,
}

fn blocked(found: &Blocked<'_>) -> Finding {
    let Blocked {
        view,
        chain,
        rule,
        knocks,
    } = found;
    let ports = knocks
        .keys()
        .map(u16::to_string)
        .collect::<Vec<_>>()
        .join(" and ");
    let mut finding = Finding::new(
        "udp-blocked",
        Severity::Error,
        &view.node.name,
        format!("the packet filter of {} drops UDP {ports}", view.node.name),
    )
    .seen(named(chain, *rule));
    for (port, knock) in knocks {
        finding = finding.seen(match knock.heard {
            Some(_) => format!(
                "frames from {} to {} of {} ({port}/udp) did not arrive",
                knock.from, knock.device, knock.to
            ),
            None => format!(
                "nothing tells whether frames arrive at {port}/udp of {}, so this is by its rules alone",
                knock.to
            ),
        });
    }
    let reasons: Vec<&str> = knocks.keys().map(|port| why(*port)).collect();
    finding = finding.why(reasons.join("; "));
    if rule.is_some() {
        let (remedy, verify) = undo(chain, *rule);
        return finding.remedy(remedy).verify(verify);
    }
    // A policy of INPUT is the administrator's; ports are opened in it.
    for port in knocks.keys() {
        let (remedy, verify) = match chain.tool {
            FilterTool::Nft => (
                format!("nft insert rule {} udp dport {port} accept", chain.path()),
                format!(
                    "nft list chain {} | grep -q 'udp dport {port} accept'",
                    chain.path()
                ),
            ),
            FilterTool::IptablesLegacy => (
                format!(
                    "iptables-legacy -I {} -p udp --dport {port} -j ACCEPT",
                    chain.name
                ),
                format!(
                    "iptables-legacy -C {} -p udp --dport {port} -j ACCEPT",
                    chain.name
                ),
            ),
        };
        finding = finding.remedy(remedy).verify(verify);
    }
    finding
}
