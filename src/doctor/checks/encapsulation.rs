//! Which way packets between nodes really go: by the kernel's routes, not by what the pool's spec says (preflight
//! list, 1).

use super::{links, vxlan};
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib::{self, Decision, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::BlockSetup;
use crate::scenario::VxlanMode;

/// A block that is routed otherwise than it should be.
struct Misrouted<'a> {
    peer: NodeView<'a>,
    block: BlockSetup,
    decision: Decision<'a>,
    /// What `ip route` should have been told.
    right: String,
    tunnelled: bool,
}

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    // Where the uplink is down its routes went with it, and that is the finding.
    for view in case.nodes().filter(|view| !links::uplink_is_down(view)) {
        let wrong: Vec<Misrouted<'_>> = case
            .peers(&view)
            .flat_map(|peer| peer.node.blocks.iter().map(move |block| (peer, *block)))
            .filter_map(|(peer, block)| misrouted(&view, peer, block))
            .collect();
        let narrow = view.uplink().and_then(|link| {
            let own = link
                .addresses
                .iter()
                .find(|own| own.address == view.node.address)?;
            (own.prefix == 32 && view.node.subnet.is_some_and(|subnet| subnet.prefix() < 32))
                .then_some((link, own))
        });
        // With a /32, Felix takes all others as in another subnet: one cause, however many routes.
        let (by_prefix, others): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|wrong| {
            narrow.is_some() && wrong.decision.device() == Some(view.cluster.tunnel.device.as_str())
        });
        if let (Some((link, own)), Some(subnet), false) = (narrow, view.node.subnet, by_prefix.is_empty()) {
            let mut finding = Finding::new(
                "node-prefix-32",
                Severity::Warning,
                &view.node.name,
                format!(
                    "CrossSubnet encapsulates everything that {} sends",
                    view.node.name
                ),
            )
            .seen(format!(
                "{own} on {}: no other node is in a subnet of one address",
                link.name
            ));
            for wrong in &by_prefix {
                finding = finding.seen(format!("to {}: {}", wrong.peer.node.name, wrong.decision.text()));
            }
            finding = finding
                .why(
                    "Calico compares subnets by the prefix length of the node's address; with /32 every node is in \
                     another one, so that CrossSubnet costs what Always costs",
                )
                .remedy(format!(
                    "ip addr add {}/{} brd + dev {link} && ip addr del {own} dev {link}",
                    own.address,
                    subnet.prefix(),
                    link = link.name
                ));
            for wrong in &by_prefix {
                finding = finding.remedy(format!("ip route replace {}", wrong.right));
            }
            findings.push(
                finding
                    .on_a_cluster(format!(
                        "kubectl annotate node {} --overwrite projectcalico.org/IPv4Address={}/{}  # Felix then makes the routes",
                        view.node.name,
                        own.address,
                        subnet.prefix()
                    ))
                    .verify(format!("ip -o addr show dev {} | grep -q ' {}/{} '", link.name, own.address, subnet.prefix())),
            );
        }
        findings.extend(others.iter().map(|wrong| finding(&view, wrong)));
    }
}

/// Whether a block's packets should go through the tunnel, and what `ip route` should have been told; `None`: not known.
fn right(view: &NodeView<'_>, peer: &NodeView<'_>, block: &BlockSetup) -> Option<(bool, String)> {
    let tunnelled = match block.mode? {
        VxlanMode::Always => true,
        VxlanMode::CrossSubnet => !view.is_neighbour(peer.node),
    };
    let (via, device) = if tunnelled {
        let vtep = peer.tunnel()?.addresses.first()?;
        (vtep.address, view.cluster.tunnel.device.as_str())
    } else {
        (peer.node.address, view.uplink()?.name.as_str())
    };
    Some((
        tunnelled,
        format!("{} via {via} dev {device} onlink proto 80", block.cidr),
    ))
}

/// The routes into the tunnel that a node should have, as `ip route` takes them.
pub(super) fn tunnel_routes(case: &Examination, view: &NodeView<'_>) -> Vec<String> {
    routes(case, view, true)
}

/// The routes to blocks of its own subnet that a node should have, as `ip route` takes them.
pub(super) fn plain_routes(case: &Examination, view: &NodeView<'_>) -> Vec<String> {
    routes(case, view, false)
}

fn routes(case: &Examination, view: &NodeView<'_>, through_tunnel: bool) -> Vec<String> {
    case.peers(view)
        .flat_map(|peer| {
            let of = |block: &BlockSetup| right(view, &peer, block);
            peer.node.blocks.iter().filter_map(of).collect::<Vec<_>>()
        })
        .filter(|(tunnelled, _)| *tunnelled == through_tunnel)
        .map(|(_, route)| route)
        .collect()
}

fn misrouted<'a>(view: &NodeView<'a>, peer: NodeView<'a>, block: BlockSetup) -> Option<Misrouted<'a>> {
    let (tunnelled, right) = right(view, &peer, &block)?;
    // Without the device it has no routes, and that is the finding.
    if tunnelled && !vxlan::is_whole(view) {
        return None;
    }
    let uplink = view.uplink()?;
    let vteps = peer
        .tunnel()
        .map(|link| link.addresses.as_slice())
        .unwrap_or_default();
    let from = view
        .node
        .blocks
        .iter()
        .find(|own| own.mode == block.mode)
        .and_then(|own| own.cidr.address(1));
    fib::parts(view.seen, block.cidr)
        .into_iter()
        .map(|to| {
            fib::look_up(
                view.seen,
                &Packet {
                    from,
                    to,
                    input: None,
                },
            )
        })
        .find(|decision| {
            let Some(route) = decision.route() else {
                return true;
            };
            let (device, gateway) = (route.device.as_deref(), route.gateway);
            if tunnelled {
                device != Some(view.cluster.tunnel.device.as_str())
                    || gateway.is_some_and(|gateway| vteps.iter().all(|vtep| vtep.address != gateway))
            } else {
                device != Some(uplink.name.as_str())
                    || gateway.is_some_and(|gateway| gateway != peer.node.address)
            }
        })
        .map(|decision| Misrouted {
            peer,
            block,
            decision,
            right,
            tunnelled,
        })
}

fn finding(view: &NodeView<'_>, wrong: &Misrouted<'_>) -> Finding {
    let peer = &wrong.peer.node.name;
    let mode = wrong.block.mode.map_or_else(String::new, |mode| mode.to_string());
    // The default route's next hop knows no pods.
    let lost = wrong
        .decision
        .route()
        .is_none_or(|route| route.destination.prefix() == 0);
    let elsewhere = wrong.decision.device() != Some(view.cluster.tunnel.device.as_str());
    let (id, severity, title, why) = if lost {
        (
            "block-route",
            Severity::Error,
            format!("{} has no way to the {mode} pods of {peer}", view.node.name),
            "packets for these pods are dropped here",
        )
    } else if wrong.tunnelled {
        (
            "encapsulation",
            Severity::Error,
            format!(
                "what {} sends to the {mode} pods of {peer} does not go through the tunnel as it should",
                view.node.name
            ),
            "the network between the nodes may not know pods' addresses, and a figure for this path would be another's",
        )
    } else {
        (
            "encapsulation",
            if elsewhere {
                Severity::Error
            } else {
                Severity::Warning
            },
            format!(
                "what {} sends to the {mode} pods of {peer} does not go plainly to that node as it should",
                view.node.name
            ),
            if elsewhere {
                "who gets these packets instead does not know pods' addresses"
            } else {
                "encapsulation costs throughput that CrossSubnet is there to save within a subnet"
            },
        )
    };
    let mut finding = Finding::new(id, severity, &view.node.name, title)
        .seen(format!("to {}: {}", wrong.block.cidr, wrong.decision.text()))
        .seen(format!("expected: {}", wrong.right))
        .why(why);
    // A route of another's making is taken away, not only gone around.
    finding = match wrong.decision {
        Decision::RefusedByRule(rule) => finding.remedy(format!("ip rule del priority {}", rule.priority)),
        Decision::Route(route) | Decision::Refused(route)
            if route.destination.prefix() >= wrong.block.cidr.prefix() =>
        {
            finding.remedy(format!("ip route del {route}"))
        }
        _ => finding,
    };
    finding
        .remedy(format!("ip route replace {}", wrong.right))
        .on_a_cluster(format!(
            "kubectl delete pods -n calico-system -l k8s-app=calico-node --field-selector spec.nodeName={}",
            view.node.name
        ))
        .verify(format!(
            "ip route get {} | grep -q 'dev {} '",
            wrong
                .block
                .cidr
                .address(1)
                .unwrap_or_else(|| wrong.block.cidr.network()),
            if wrong.tunnelled {
                view.cluster.tunnel.device.as_str()
            } else {
                view.uplink().map_or("eth0", |link| link.name.as_str())
            }
        ))
}
