//! Submariner's part of the nodes: routes to other clusters on workers, the cable's on the gateway, table 150 with its
//! rule for the gateway's own packets (preflight list, 3 and 4). Its devices are in `devices`.

mod devices;
mod ipsec;

use super::links;
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib::{self, Decision, Packet};
use crate::doctor::finding::{Finding, Severity, Step};
use crate::evidence::{KernelRule, MAIN_TABLE, RouteKind, RuleAction, SubmarinerSetup, protocol_name};
use crate::units::Cidr4;
use std::net::Ipv4Addr;

/// The route agent makes its routes, rules and entries anew when it starts.
pub(super) const RESTART: &str = "kubectl delete pods -n submariner-operator -l app=submariner-routeagent";
/// The gateway makes its cable's devices and routes anew when it starts.
pub(super) const RESTART_GATEWAY: &str =
    "kubectl delete pods -n submariner-operator -l app=submariner-gateway";
/// The table of the VXLAN cable driver's routes, and the priority of its rule.
const CABLE_TABLE: u32 = 100;
/// Cables that the kernel's IPsec policies are, where they have no device: the lab's name for it, and the driver's.
const POLICY_CABLES: [&str; 2] = ["ipsec", "libreswan"];
/// RT_TABLE_LOCAL.
const LOCAL_TABLE: u32 = 255;
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
        // The routes of a device that is not there, or down, went with it: they are in its finding's remedy.
        let whole = devices::check(case, &view, submariner, findings);
        if links::uplink_is_down(&view) {
            continue;
        }
        if submariner.gateway == view.node.name {
            if POLICY_CABLES.contains(&submariner.cable.as_str()) && submariner.cable_device.is_empty() {
                ipsec::check(case, &view, submariner, &remote, findings);
                let routes = remote.iter();
                tell(
                    routes.filter_map(|cidr| policy_route(case, &view, submariner, *cidr)),
                    findings,
                );
            } else if whole.cable && !submariner.cable_device.is_empty() {
                cable_rule(case, &view, submariner, &remote, findings);
                let routes = remote.iter();
                tell(
                    routes.filter_map(|cidr| cable_route(case, &view, submariner, *cidr)),
                    findings,
                );
            }
            host_table(&view, submariner, &remote, findings);
        } else {
            if whole.tunnel {
                let routes = remote.iter();
                tell(
                    routes.filter_map(|cidr| worker_route(case, &view, submariner, *cidr)),
                    findings,
                );
            }
            stale_gateway(&view, submariner, &remote, findings);
        }
    }
}

/// Adds findings; a rule that drops packets is one fault, however many ranges and blocks it is for.
fn tell(found: impl Iterator<Item = Finding>, findings: &mut Vec<Finding>) {
    for finding in found {
        let told = |step: &Step| {
            step.command.starts_with("ip rule del")
                && findings.iter().any(|other| other.remedy.contains(step))
        };
        if !finding.remedy.iter().any(told) {
            findings.push(finding);
        }
    }
}

/// A device's first address on `view`.
pub(super) fn address_on(view: &NodeView<'_>, device: &str) -> Option<Ipv4Addr> {
    view.seen.link(device)?.addresses.first().map(|own| own.address)
}

/// Where packets for another cluster should go.
struct Way<'a> {
    /// The device; `None`: any.
    device: Option<&'a str>,
    /// The next hop, where it is known.
    via: Option<Ipv4Addr>,
}

/// The first decision for an address of `cidr` that does not go that way.
fn astray<'a>(
    view: &NodeView<'a>,
    cidr: Cidr4,
    from: Option<Ipv4Addr>,
    input: Option<&str>,
    way: &Way<'_>,
) -> Option<(Ipv4Addr, Decision<'a>)> {
    fib::parts(view.seen, cidr)
        .into_iter()
        .map(|to| (to, fib::look_up(view.seen, &Packet { from, to, input })))
        .find(|(_, decision)| {
            decision.route().is_none_or(|route| {
                way.device
                    .is_some_and(|device| route.device.as_deref() != Some(device))
                    || way.via.is_some_and(|via| route.gateway != Some(via))
            })
        })
}

/// A command that succeeds where packets to `to` go that way.
fn goes(to: Ipv4Addr, course: &Course<'_>) -> String {
    let way = &course.way;
    let via = way.via.map_or_else(String::new, |via| format!("via {via} "));
    match (way.device, course.from, course.input) {
        (Some(device), ..) => format!("ip route get {to} | grep -q '{via}dev {device} '"),
        (None, Some(from), Some(input)) => format!("ip route get {to} from {from} iif {input} >/dev/null"),
        (None, ..) => format!("ip route get {to} >/dev/null"),
    }
}

/// The command that takes away what leads packets astray; `None` where it is a route that others need.
fn remove(decision: Decision<'_>, cidr: Cidr4, submariner: &SubmarinerSetup) -> Option<String> {
    match decision {
        // Of a gateway's own traffic, where it belongs.
        Decision::Route(route) if route.table == submariner.host_table => None,
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
        Decision::Refused(route) if route.kind == RouteKind::Throw => {
            "a route ends the search (throw)".to_owned()
        }
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

/// What packets for a range of another cluster should do at a node.
struct Course<'a> {
    /// Where they come from.
    from: Option<Ipv4Addr>,
    /// The device that they come in by; `None`: the node's own, or its pods'.
    input: Option<&'a str>,
    way: Way<'a>,
    /// Where that leads, in words.
    goal: &'static str,
    /// The route that does it, as `ip route` takes it; `None`: not known.
    right: Option<String>,
}

/// The finding where packets for `cidr` don't follow `course`, unless `told` says that another finding is of it.
fn remote_route(
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
    course: &Course<'_>,
    told: impl FnOnce(Ipv4Addr, Decision<'_>) -> bool,
) -> Option<Finding> {
    let (to, decision) = astray(view, cidr, course.from, course.input, &course.way)?;
    if told(to, decision) {
        return None;
    }
    let came = course
        .input
        .map_or_else(String::new, |input| format!(", in by {input}"));
    let mut finding = Finding::new(
        "remote-route",
        Severity::Error,
        &view.node.name,
        format!(
            "packets for {cidr} of another cluster don't go {}: {}",
            course.goal,
            what(decision)
        ),
    )
    .seen(format!("to {to}{came}: {}", decision.text()));
    if let Some(right) = &course.right {
        finding = finding.seen(format!("expected: {right}"));
    }
    finding = finding.why(why(decision));
    if let Some(command) = remove(decision, cidr, submariner) {
        finding = finding.remedy(command);
    }
    if let Some(right) = &course.right {
        finding = finding.remedy(format!("ip route replace {right}"));
    }
    Some(on_a_cluster(finding, decision).verify(goes(to, course)))
}

/// The table of the route that decided.
fn table_of(decision: Decision<'_>) -> Option<u32> {
    match decision {
        Decision::Route(route) | Decision::Refused(route) => Some(route.table),
        Decision::RefusedByRule(_) | Decision::Nowhere => None,
    }
}

/// On workers packets for another cluster go to the gateway.
fn worker_route(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
) -> Option<Finding> {
    let device = &submariner.tunnel.device;
    let via = case
        .node(&submariner.gateway)
        .and_then(|gateway| address_on(&gateway, device));
    let course = Course {
        from: view.node.blocks.first().and_then(|block| block.cidr.address(1)),
        input: None,
        way: Way {
            device: Some(device),
            via,
        },
        goal: "to the gateway",
        right: via.map(|via| format!("{cidr} via {via} dev {device} proto static")),
    };
    // What is left of having been the gateway is a finding of its own.
    remote_route(view, submariner, cidr, &course, |_, decision| {
        table_of(decision) == Some(submariner.host_table)
    })
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

/// An address of a pod of another node, whose packets come in by Submariner's device.
fn workers_pod(case: &Examination, view: &NodeView<'_>) -> Option<Ipv4Addr> {
    case.peers(view)
        .find_map(|worker| worker.node.blocks.first().and_then(|block| block.cidr.address(1)))
}

/// On gateways they go into the cable's device.
fn cable_route(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
) -> Option<Finding> {
    let device = &submariner.cable_device;
    let CableWay { way, table, text } = cable_way(case, view, submariner, cidr);
    let course = Course {
        from: workers_pod(case, view),
        input: Some(&submariner.tunnel.device),
        way,
        goal: "into the cable",
        right: Some(text),
    };
    let has_rule = view.seen.rules.iter().any(|rule| leads_to(rule, table));
    let found = remote_route(view, submariner, cidr, &course, |to, _| {
        let is_there =
            fib::longest(view.seen, table, to).is_some_and(|route| route.device.as_ref() == Some(device));
        // The rule is one fault, however many ranges it leads to.
        table != MAIN_TABLE && !has_rule && is_there
    })?;
    Some(found.on_a_cluster(RESTART_GATEWAY))
}

/// A cable of IPsec policies takes packets whatever the route, but without any they are dropped before.
fn policy_route(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    cidr: Cidr4,
) -> Option<Finding> {
    let course = Course {
        from: workers_pod(case, view),
        input: Some(&submariner.tunnel.device),
        way: Way {
            device: None,
            via: None,
        },
        goal: "as far as the cable's IPsec policies",
        right: None,
    };
    // Table 150 has a finding of its own.
    remote_route(view, submariner, cidr, &course, |_, decision| {
        table_of(decision) == Some(submariner.host_table)
    })
}

/// How a gateway should route a range of another cluster.
pub(super) struct CableWay<'a> {
    way: Way<'a>,
    /// The table of the cable's routes.
    pub(super) table: u32,
    /// As `ip route` takes it.
    pub(super) text: String,
}

pub(super) fn cable_way<'a>(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &'a SubmarinerSetup,
    cidr: Cidr4,
) -> CableWay<'a> {
    let device = &submariner.cable_device;
    let via = case
        .setup
        .clusters
        .iter()
        .find(|cluster| cluster.cidrs.contains(&cidr))
        .and_then(|cluster| case.node(&cluster.submariner.as_ref()?.gateway))
        .filter(|_| submariner.cable_tunnel.is_some())
        .and_then(|there| address_on(&there, device));
    // Where the cable's other routes are, as far as there are some; the VXLAN driver has a table of its own.
    let table = view
        .seen
        .routes
        .iter()
        .find(|route| {
            route.device.as_ref() == Some(device)
                && route.table != LOCAL_TABLE
                && route.table != submariner.host_table
                && route.protocol == 4
        })
        .map_or(CABLE_TABLE, |route| route.table);
    let next = via.map_or_else(String::new, |via| format!(" via {via}"));
    let place = if table == MAIN_TABLE {
        String::new()
    } else {
        format!(" table {table} metric 100")
    };
    let source = address_on(view, &view.cluster.tunnel.device)
        .map_or_else(String::new, |source| format!(" src {source}"));
    CableWay {
        way: Way {
            device: Some(device),
            via,
        },
        table,
        text: format!("{cidr}{next} dev {device} proto static{place}{source}"),
    }
}

/// Nothing leads to the table of the cable's routes.
fn cable_rule(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    remote: &[Cidr4],
    findings: &mut Vec<Finding>,
) {
    let Some(first) = remote.first() else { return };
    let table = cable_way(case, view, submariner, *first).table;
    let rules: Vec<&KernelRule> = view
        .seen
        .rules
        .iter()
        .filter(|rule| rule.table == table)
        .collect();
    if table == MAIN_TABLE || rules.iter().any(|rule| leads_to(rule, table)) {
        return;
    }
    let device = &submariner.cable_device;
    let mut finding = Finding::new(
        "remote-route",
        Severity::Error,
        &view.node.name,
        format!("nothing leads to table {table}, where the cable's routes are"),
    );
    if rules.is_empty() {
        finding = finding.seen(format!("no rule leads to table {table} (ip rule)"));
    }
    for rule in &rules {
        finding = finding
            .seen(format!("rule {rule}: not for all packets before the main table"))
            .remedy(format!("ip rule del priority {} lookup {table}", rule.priority));
    }
    finding = finding
        .why(
            "the gateway's other tables know no way into the cable: packets for other clusters leave by the uplink, where \
             nobody knows pods' addresses",
        )
        .remedy(format!("ip rule add priority {table} lookup {table}"))
        .on_a_cluster(RESTART_GATEWAY)
        .verify(format!("ip rule | grep -q '^{table}:.*from all lookup {table}'"));
    findings.push(finding.seen(format!(
        "expected: {table}: from all lookup {table} (for {device})"
    )));
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
    let node_device = view.uplink().map(|link| link.name.as_str());
    // WireGuard routes into its device; for libreswan the kernel takes what leaves by the uplink.
    let uplink = if submariner.cable == "wireguard" && !submariner.cable_device.is_empty() {
        submariner.cable_device.as_str()
    } else {
        node_device.unwrap_or("eth0")
    };
    let default = view
        .seen
        .routes
        .iter()
        .find(|route| route.table == MAIN_TABLE && route.destination.prefix() == 0)
        .and_then(|route| route.device.as_deref());
    for cidr in remote {
        let right = format!("{cidr} dev {uplink} table {table} proto static scope link src {own}");
        let mut wrong = false;
        for to in fib::parts(view.seen, *cidr) {
            let Some(route) = fib::longest(view.seen, table, to) else {
                seen.push(format!("table {table} has no route to {cidr}"));
                wrong = true;
                break;
            };
            let device = route.device.as_deref();
            let leaves =
                device.is_some() && (device == Some(uplink) || device == default || device == node_device);
            let fault = if route.kind != RouteKind::Unicast {
                "expected a route that leads on".to_owned()
            } else if route.source != Some(own) {
                format!(
                    "expected src {own}, the address of {}",
                    view.cluster.tunnel.device
                )
            } else if leaves {
                continue;
            } else {
                format!("expected dev {uplink}")
            };
            let text = format!("{route}: {fault}");
            if !seen.contains(&text) {
                seen.push(text);
                remedy.push(format!("ip route del {route}"));
            }
            wrong = true;
        }
        if wrong {
            remedy.push(format!("ip route replace {right}"));
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
