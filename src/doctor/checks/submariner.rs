//! Submariner's part of the nodes: routes to other clusters on workers, the cable's on the gateway, table 150 with its
//! rule for the gateway's own packets, and the tunnels' forwarding entries (preflight list, 3, 4, 10 and 12).

use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib::{self, Decision, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{
    KernelRule, LinkSeen, MAIN_TABLE, RouteKind, RuleAction, SubmarinerSetup, protocol_name,
};
use crate::units::Cidr4;
use std::net::Ipv4Addr;

/// The route agent makes its routes, rules and entries anew when it starts.
const RESTART: &str = "kubectl delete pods -n submariner-operator -l app=submariner-routeagent";
/// The priority of the rule for the main table (ip-rule(8)).
const MAIN_PRIORITY: u32 = 32766;

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        let Some(submariner) = &view.cluster.submariner else {
            continue;
        };
        let remote = case.setup.remote_cidrs(view.cluster);
        if remote.is_empty() {
            continue;
        }
        tunnels(case, &view, submariner, findings);
        if submariner.gateway == view.node.name {
            for cidr in &remote {
                cable_route(case, &view, submariner, *cidr, findings);
            }
            host_table(&view, submariner, &remote, findings);
        } else {
            for cidr in &remote {
                worker_route(case, &view, submariner, *cidr, findings);
            }
            stale_gateway(&view, submariner, &remote, findings);
        }
    }
}

/// A device's first address on `view`.
fn address_on(view: &NodeView<'_>, device: &str) -> Option<Ipv4Addr> {
    view.seen.link(device)?.addresses.first().map(|own| own.address)
}

/// The first decision for an address of `cidr` that does not lead into `device`.
fn astray<'a>(
    view: &NodeView<'a>,
    cidr: Cidr4,
    from: Option<Ipv4Addr>,
    input: Option<&str>,
    device: &str,
) -> Option<(Ipv4Addr, Decision<'a>)> {
    fib::parts(view.seen, cidr)
        .into_iter()
        .map(|to| (to, fib::look_up(view.seen, &Packet { from, to, input })))
        .find(|(_, decision)| decision.device() != Some(device))
}

/// The command that takes away what leads packets astray; `None` where it is a route that others need.
fn remove(decision: Decision<'_>, cidr: Cidr4) -> Option<String> {
    match decision {
        Decision::RefusedByRule(rule) => Some(format!("ip rule del priority {}", rule.priority)),
        Decision::Route(route) | Decision::Refused(route) => {
            let special = route.destination.prefix() >= cidr.prefix();
            let apart = route.table != MAIN_TABLE && route.destination.prefix() > 0;
            (special || apart).then(|| format!("ip route del {route}"))
        }
        Decision::Nowhere => None,
    }
}

fn what(decision: Decision<'_>) -> String {
    match decision {
        Decision::Nowhere => "there is no route".to_owned(),
        Decision::Refused(route) => format!("a route of {} drops them", protocol_name(route.protocol)),
        Decision::RefusedByRule(_) => "a rule drops them".to_owned(),
        Decision::Route(route) if route.destination.prefix() == 0 => {
            "there is only the default route".to_owned()
        }
        Decision::Route(route) => format!("a route of {} leads elsewhere", protocol_name(route.protocol)),
    }
}

/// What made the route, told by its protocol.
fn why(decision: Decision<'_>) -> &'static str {
    let protocol = match decision {
        Decision::Route(route) | Decision::Refused(route) => route.protocol,
        _ => 0,
    };
    if matches!(protocol, 12 | 186) {
        "Calico's BIRD announces the IPPools of remote clusters where these lack disableBGPExport (Submariner before \
         0.17.3, 0.18.1 and 0.19), and its routes take the place of Submariner's"
    } else {
        "Submariner brings packets out of the cluster by this route alone; without it they are dropped, or leave by the \
         default route to where nobody knows pods' addresses"
    }
}

fn worker_route(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
    findings: &mut Vec<Finding>,
) {
    let device = &submariner.tunnel.device;
    let from = view.node.blocks.first().and_then(|block| block.cidr.address(1));
    let Some((to, decision)) = astray(view, cidr, from, None, device) else {
        return;
    };
    let via = case
        .node(&submariner.gateway)
        .and_then(|gateway| address_on(&gateway, device));
    let mut finding = Finding::new(
        "remote-route",
        Severity::Error,
        &view.node.name,
        format!(
            "packets for {cidr} of another cluster don't go to the gateway: {}",
            what(decision)
        ),
    )
    .seen(format!("to {to}: {}", decision.text()));
    if let Some(via) = via {
        finding = finding.seen(format!("expected: {cidr} via {via} dev {device} proto static"));
    }
    finding = finding.why(why(decision));
    if let Some(command) = remove(decision, cidr) {
        finding = finding.remedy(command);
    }
    if let Some(via) = via {
        finding = finding.remedy(format!(
            "ip route replace {cidr} via {via} dev {device} proto static"
        ));
    }
    findings
        .push(on_a_cluster(finding, decision).verify(format!("ip route get {to} | grep -q 'dev {device} '")));
}

fn on_a_cluster(finding: Finding, decision: Decision<'_>) -> Finding {
    let bgp = matches!(decision, Decision::Route(route) | Decision::Refused(route) if matches!(route.protocol, 12 | 186));
    let finding = if bgp {
        finding.on_a_cluster(
            "kubectl get ippools -l submariner.io/ippool=true -o name | xargs -I{} kubectl patch {} --type merge -p \
             '{\"spec\":{\"disableBGPExport\":true}}'",
        )
    } else {
        finding
    };
    finding.on_a_cluster(RESTART)
}

fn cable_route(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
    findings: &mut Vec<Finding>,
) {
    let device = &submariner.cable_device;
    // A cable of IPsec policies has no device and no routes.
    if device.is_empty() || view.seen.link(device).is_none() {
        return;
    }
    let from = case
        .peers(view)
        .find_map(|worker| worker.node.blocks.first().and_then(|block| block.cidr.address(1)));
    let Some((to, decision)) = astray(view, cidr, from, Some(&submariner.tunnel.device), device) else {
        return;
    };
    let there = case
        .setup
        .clusters
        .iter()
        .find(|cluster| cluster.cidrs.contains(&cidr))
        .and_then(|cluster| case.node(&cluster.submariner.as_ref()?.gateway));
    let via = there.and_then(|there| address_on(&there, device));
    // Where the cable's other routes are, as far as there are some.
    let table = view
        .seen
        .routes
        .iter()
        .find(|route| route.device.as_ref() == Some(device) && route.table != 255 && route.protocol == 4)
        .map_or(100, |route| route.table);
    let next = via
        .filter(|_| submariner.cable_tunnel.is_some())
        .map_or_else(String::new, |via| format!(" via {via}"));
    let place = if table == MAIN_TABLE {
        String::new()
    } else {
        format!(" table {table} metric 100")
    };
    let source = address_on(view, &view.cluster.tunnel.device)
        .map_or_else(String::new, |source| format!(" src {source}"));
    let right = format!("{cidr}{next} dev {device} proto static{place}{source}");
    let mut finding = Finding::new(
        "remote-route",
        Severity::Error,
        &view.node.name,
        format!(
            "packets for {cidr} of another cluster don't go into the cable: {}",
            what(decision)
        ),
    )
    .seen(format!(
        "to {to}, in by {}: {}",
        submariner.tunnel.device,
        decision.text()
    ))
    .seen(format!("expected: {right}"))
    .why(why(decision));
    if let Some(command) = remove(decision, cidr) {
        finding = finding.remedy(command);
    }
    finding = finding.remedy(format!("ip route replace {right}"));
    let has_rule = view.seen.rules.iter().any(|rule| leads_to(rule, table));
    if table != MAIN_TABLE && !has_rule {
        finding = finding
            .seen(format!("no rule leads to table {table} (ip rule)"))
            .remedy(format!("ip rule add priority {table} lookup {table}"));
    }
    findings.push(
        on_a_cluster(finding, decision)
            .on_a_cluster("kubectl delete pods -n submariner-operator -l app=submariner-gateway")
            .verify(format!("ip route get {to} | grep -q 'dev {device} '")),
    );
}

/// Whether a rule sends all packets to `table`, before the main table is asked.
const fn leads_to(rule: &KernelRule, table: u32) -> bool {
    matches!(rule.action, RuleAction::Lookup)
        && rule.table == table
        && rule.priority < MAIN_PRIORITY
        && !rule.particular
        && !rule.inverted
        && rule.from.is_none()
        && rule.to.is_none()
        && rule.input_device.is_none()
}

/// Table 150: what the gateway itself sends to other clusters, with an address that these can answer to.
fn host_table(
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    remote: &[Cidr4],
    findings: &mut Vec<Finding>,
) {
    let table = submariner.host_table;
    let Some(own) = address_on(view, &view.cluster.tunnel.device) else {
        return;
    };
    let mut seen = Vec::new();
    let mut remedy = Vec::new();
    let rules: Vec<&KernelRule> = view
        .seen
        .rules
        .iter()
        .filter(|rule| rule.table == table)
        .collect();
    if !rules.iter().any(|rule| leads_to(rule, table)) {
        match rules.as_slice() {
            [] => seen.push(format!("no rule leads to table {table} (ip rule)")),
            rules => {
                for rule in rules {
                    seen.push(format!(
                        "rule {rule}: {}",
                        if rule.priority >= MAIN_PRIORITY {
                            "the main table is asked before it"
                        } else {
                            "it is not for all packets"
                        }
                    ));
                    remedy.push(format!("ip rule del priority {} lookup {table}", rule.priority));
                }
            }
        }
        remedy.push(format!("ip rule add priority {table} lookup {table}"));
    }
    for cidr in remote {
        let Some(first) = cidr.address(1) else { continue };
        let right = format!(
            "{cidr} dev {} table {table} proto static scope link src {own}",
            view.uplink().map_or("eth0", |link| link.name.as_str())
        );
        match fib::longest(view.seen, table, first) {
            None => {
                seen.push(format!("table {table} has no route to {cidr}"));
                remedy.push(format!("ip route replace {right}"));
            }
            Some(route) if route.kind != RouteKind::Unicast || route.source != Some(own) => {
                seen.push(format!(
                    "{route}: expected src {own}, the address of {}",
                    view.cluster.tunnel.device
                ));
                remedy.push(format!("ip route del {route}"));
                remedy.push(format!("ip route replace {right}"));
            }
            Some(_) => {}
        }
    }
    if seen.is_empty() {
        return;
    }
    let mut finding = Finding::new(
        "host-table",
        Severity::Error,
        &view.node.name,
        format!("what the gateway itself sends to other clusters does not leave with {own}"),
    )
    .why(
        "pods in the host network and kubelet on the gateway send from the node's address, which the other cluster can't \
         answer to; table 150 gives them the address of the network plugin's device. It belongs on the gateway alone",
    );
    finding.seen = seen;
    for command in remedy {
        finding = finding.remedy(command);
    }
    finding = finding
        .on_a_cluster(RESTART)
        .verify(format!("ip rule | grep -q '^{table}:.*from all lookup {table}'"));
    for cidr in remote {
        finding = finding.verify(format!(
            "ip route show table {table} {cidr} | grep -q 'src {own}\\( \\|$\\)'"
        ));
    }
    findings.push(finding);
}

/// What a node keeps of having been the gateway.
fn stale_gateway(
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    remote: &[Cidr4],
    findings: &mut Vec<Finding>,
) {
    let table = submariner.host_table;
    let rules: Vec<&KernelRule> = view
        .seen
        .rules
        .iter()
        .filter(|rule| rule.table == table && rule.priority < MAIN_PRIORITY)
        .collect();
    let routes: Vec<_> = view
        .seen
        .routes
        .iter()
        .filter(|route| route.table == table && remote.iter().any(|cidr| cidr.overlaps(route.destination)))
        .collect();
    if rules.is_empty() || routes.is_empty() {
        return;
    }
    let mut finding = Finding::new(
        "host-table-stale",
        Severity::Error,
        &view.node.name,
        format!(
            "{} routes as a gateway, and {} is the gateway",
            view.node.name, submariner.gateway
        ),
    );
    for rule in &rules {
        finding = finding.seen(format!("rule {rule}"));
    }
    for route in &routes {
        finding = finding.seen(route.to_string());
    }
    finding = finding.why(
        "the rule comes before the main table, so that packets for other clusters leave by the uplink instead of going to \
         the gateway: a node that was the gateway once, and was not cleaned up",
    );
    for rule in &rules {
        finding = finding.remedy(format!("ip rule del priority {} lookup {table}", rule.priority));
    }
    findings.push(
        finding
            .remedy(format!("ip route flush table {table}"))
            .on_a_cluster(RESTART)
            .verify(format!("! ip rule | grep -q 'lookup {table}'")),
    );
}

/// vx-submariner, and on gateways the cable: there, up, and sending to whom they should.
fn tunnels(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    findings: &mut Vec<Finding>,
) {
    let is_gateway = submariner.gateway == view.node.name;
    let peers: Vec<NodeView<'_>> = case
        .peers(view)
        .filter(|peer| is_gateway || peer.node.name == submariner.gateway)
        .collect();
    tunnel(view, &submariner.tunnel.device, &peers, findings);
    if let Some(cable) = submariner.cable_tunnel.as_ref().filter(|_| is_gateway) {
        let there: Vec<NodeView<'_>> = case
            .setup
            .clusters
            .iter()
            .filter(|cluster| cluster.name != view.cluster.name)
            .filter_map(|cluster| case.node(&cluster.submariner.as_ref()?.gateway))
            .collect();
        tunnel(view, &cable.device, &there, findings);
    } else if is_gateway
        && !submariner.cable_device.is_empty()
        && view.seen.link(&submariner.cable_device).is_none()
    {
        findings.push(missing(view, &submariner.cable_device));
    }
}

fn missing(view: &NodeView<'_>, device: &str) -> Finding {
    Finding::new(
        "submariner-device",
        Severity::Error,
        &view.node.name,
        format!("{} has no device {device}", view.node.name),
    )
    .seen(format!(
        "devices: {}",
        view.seen
            .links
            .iter()
            .map(|link| link.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    ))
    .why("packets for other clusters have no way out of this node")
    .on_a_cluster(RESTART)
    .on_a_cluster("subctl show connections")
    .verify(format!("ip link show dev {device}"))
}

fn tunnel(view: &NodeView<'_>, device: &str, peers: &[NodeView<'_>], findings: &mut Vec<Finding>) {
    if peers.is_empty() {
        return;
    }
    let Some(link) = view.seen.link(device) else {
        findings.push(missing(view, device));
        return;
    };
    if !link.up {
        findings.push(
            Finding::new(
                "submariner-device",
                Severity::Error,
                &view.node.name,
                format!("{device} is down"),
            )
            .seen(format!("{device}: down"))
            .why("packets for other clusters have no way out of this node")
            .remedy(format!("ip link set dev {device} up"))
            .on_a_cluster(format!("# its routes went with it: {RESTART}"))
            .verify(format!("ip -o link show dev {device} up | grep -q .")),
        );
        return;
    }
    entries(view, link, peers, findings);
}

/// Submariner's devices have a default entry for each peer, and find the rest by ARP.
fn entries(view: &NodeView<'_>, link: &LinkSeen, peers: &[NodeView<'_>], findings: &mut Vec<Finding>) {
    const ANY: &str = "00:00:00:00:00:00";
    let device = &link.name;
    let known: Vec<Ipv4Addr> = view
        .seen
        .fdb
        .iter()
        .filter(|entry| entry.device == *device && entry.mac == ANY)
        .filter_map(|entry| entry.destination)
        .collect();
    for peer in peers {
        if !known.contains(&peer.node.address) {
            let mut finding = Finding::new(
                "stale-fdb",
                Severity::Error,
                &view.node.name,
                format!("{device} has no entry for {}", peer.node.name),
            );
            finding = match known.as_slice() {
                [] => finding.seen(format!(
                    "no entry for {ANY} dev {device} (bridge fdb show dev {device})"
                )),
                known => known.iter().fold(finding, |finding, other| {
                    finding.seen(format!("{ANY} dev {device} dst {other}"))
                }),
            };
            finding = finding
                .seen(format!("expected: {ANY} dev {device} dst {}", peer.node.address))
                .why("frames that no other entry is for, ARP among them, go to the peers of these entries alone");
            finding = finding.remedy(format!(
                "bridge fdb append {ANY} dev {device} dst {} self permanent",
                peer.node.address
            ));
            let nobody = |address: &&Ipv4Addr| peers.iter().all(|peer| peer.node.address != **address);
            for other in known.iter().filter(nobody) {
                finding = finding.remedy(format!("bridge fdb del {ANY} dev {device} dst {other} self"));
            }
            findings.push(finding.on_a_cluster(RESTART).verify(format!(
                "bridge fdb show dev {device} | grep -q '^{ANY} dst {} '",
                peer.node.address
            )));
        }
        let Some(theirs) = peer.seen.link(device) else {
            continue;
        };
        for own in &theirs.addresses {
            let wrong = view.seen.neighbours.iter().find(|entry| {
                entry.device == *device
                    && entry.address == own.address
                    && entry.permanent
                    && entry.mac.as_ref() != Some(&theirs.mac)
            });
            if let Some(entry) = wrong {
                findings.push(
                    Finding::new(
                        "stale-neighbour",
                        Severity::Error,
                        &view.node.name,
                        format!("{device} frames what is for {} with another MAC", peer.node.name),
                    )
                    .seen(format!(
                        "{} dev {device} lladdr {} permanent, where {}'s {device} has {}",
                        own.address,
                        entry.mac.as_deref().unwrap_or("(none)"),
                        peer.node.name,
                        theirs.mac
                    ))
                    .why("the peer's device drops frames that are not for its MAC")
                    .remedy(format!(
                        "ip neigh replace {} lladdr {} dev {device} nud permanent",
                        own.address, theirs.mac
                    ))
                    .on_a_cluster(RESTART)
                    .verify(format!(
                        "ip neigh show {} dev {device} | grep -q 'lladdr {}'",
                        own.address, theirs.mac
                    )),
                );
            }
        }
    }
}
