//! Devices that are down, pods without a way out, and neighbours that are known by a wrong MAC: what each path stands on.

use super::encapsulation;
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib::{self, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{Inspection, LinkSeen, PodSetup};
use std::net::Ipv4Addr;

/// What Calico gives its pods as gateway; the node's end of the pod's device answers for it.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        uplink(case, &view, findings);
        for peer in case.peers(&view).filter(|peer| view.is_neighbour(peer.node)) {
            if let (Some(own), Some(theirs)) = (view.uplink(), peer.uplink()) {
                let who = format!("{}'s {}", peer.node.name, theirs.name);
                neighbour(
                    &view.node.name,
                    view.seen,
                    &own.name,
                    peer.node.address,
                    (&theirs.mac, &who),
                    findings,
                );
            }
        }
        for pod in &view.node.pods {
            ends(case, &view, pod, findings);
        }
    }
}

/// Whether the device of the node's address is down.
pub(super) fn uplink_is_down(view: &NodeView<'_>) -> bool {
    view.uplink().is_some_and(|link| !link.up)
}

fn down(place: &str, device: &str, why: &str) -> Finding {
    Finding::new("link-down", Severity::Error, place, format!("{device} is down"))
        .seen(format!("{device}: down"))
        .why(why)
        .remedy(format!("ip link set dev {device} up"))
        .verify(format!("ip -o link show dev {device} up | grep -q ."))
}

fn uplink(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    if let Some(link) = view
        .uplink()
        .filter(|link| link.up && link.no_arp && !link.mac.is_empty())
    {
        let device = &link.name;
        findings.push(
            Finding::new(
                "arp-off",
                Severity::Error,
                &view.node.name,
                format!("{device} neither asks nor answers ARP"),
            )
            .seen(format!("{device}: NOARP (ip link)"))
            .why("the node finds none of its neighbours, and none of them finds it")
            .remedy(format!("ip link set dev {device} arp on"))
            .verify(format!("! ip -o link show dev {device} | grep -q NOARP")),
        );
    }
    let Some(link) = view.uplink().filter(|link| !link.up) else {
        return;
    };
    let mut finding = down(
        &view.node.name,
        &link.name,
        "the node has no network; its routes by this device went with it",
    );
    // Nodes of one subnet have one router.
    let by_peers = || {
        case.peers(view)
            .filter(|peer| view.is_neighbour(peer.node))
            .find_map(|peer| {
                let uplink = peer.uplink()?;
                peer.seen
                    .routes
                    .iter()
                    .find(|route| {
                        route.destination.prefix() == 0
                            && route.device.as_deref() == Some(uplink.name.as_str())
                    })?
                    .gateway
            })
    };
    let router = view.node.router.or_else(by_peers);
    if let Some(router) = router {
        finding = finding.remedy(format!("ip route replace default via {router} dev {}", link.name));
    }
    for route in encapsulation::plain_routes(case, view) {
        finding = finding.remedy(format!("ip route replace {route}"));
    }
    findings.push(
        finding.on_a_cluster(
            "# whatever makes the node's routes at boot makes them again: networkctl reconfigure",
        ),
    );
}

/// Calico's pods have a gateway that no device has as an address: the node's end of their device answers for it.
fn proxy_arp(view: &NodeView<'_>, outer: &LinkSeen, pod: &str, findings: &mut Vec<Finding>) {
    let (name, value) = view.seen.device_sysctl(&outer.name, "proxy_arp");
    if value != Some(0) {
        return;
    }
    findings.push(
        Finding::new(
            "proxy-arp",
            Severity::Error,
            &view.node.name,
            format!("nothing answers for the gateway of {pod}"),
        )
        .seen(format!("{name} = 0"))
        .why("the pod's gateway, 169.254.1.1, is on no device: the node's end of the pod's device answers ARP for it")
        .remedy(format!("sysctl -w {name}=1"))
        .on_a_cluster("# Felix sets it when it makes the device; look for what resets it (sysctl.d, tuned)")
        .verify(format!("sysctl -n {name} | grep -qx 1")),
    );
}

/// Both ends of a pod's device, and the pod's way out.
fn ends(case: &Examination, view: &NodeView<'_>, pod: &PodSetup, findings: &mut Vec<Finding>) {
    let place = pod.place.to_string();
    let outer = view.seen.link(&pod.host_device);
    if let Some(link) = outer.filter(|link| !link.up) {
        findings.push(
            down(
                &view.node.name,
                &link.name,
                "it is the node's end of a pod's device: the pod has no network",
            )
            .seen(format!("the pod: {place}, {}", pod.address))
            .remedy(format!(
                "ip route replace {} dev {} scope link proto 80",
                pod.address, link.name
            ))
            .on_a_cluster("# Felix makes its route again by itself"),
        );
        return;
    }
    if let Some(outer) = outer.filter(|outer| outer.name.starts_with("cali")) {
        proxy_arp(view, outer, &place, findings);
    }
    let Some(seen) = case.inspections.get(&pod.place) else {
        return;
    };
    let Some(link) = seen.link_with(pod.address) else {
        return;
    };
    let out = |finding: Finding| {
        finding
            .remedy(format!(
                "ip route replace {POD_GATEWAY} dev {} scope link",
                link.name
            ))
            .remedy(format!(
                "ip route replace default via {POD_GATEWAY} dev {}",
                link.name
            ))
            .on_a_cluster("# make the pod anew: kubectl delete pod NAME")
    };
    if !link.up {
        findings.push(out(down(&place, &link.name, "the pod has no network")));
        return;
    }
    if let Some(outer) = outer {
        let who = format!("{} of {place}", link.name);
        neighbour(
            &view.node.name,
            view.seen,
            &outer.name,
            pod.address,
            (&link.mac, &who),
            findings,
        );
    }
    let somewhere = case
        .peers(view)
        .find_map(|peer| peer.node.blocks.first().and_then(|block| block.cidr.address(1)));
    let Some(to) = somewhere else { return };
    let decision = fib::look_up(
        seen,
        &Packet {
            from: Some(pod.address),
            to,
            input: None,
        },
    );
    if decision.device() != Some(link.name.as_str()) {
        findings.push(
            out(
                Finding::new("pod-route", Severity::Error, &place, "the pod has no way out")
                    .seen(format!("to {to}: {}", decision.text()))
                    .seen(format!("expected: default via {POD_GATEWAY} dev {}", link.name))
                    .why("what the pod sends to other nodes never leaves it"),
            )
            .verify(format!("ip route get {to} | grep -q 'dev {} '", link.name)),
        );
    }
}

/// An entry that was set for good, with a MAC that is not `whose`. One that the kernel found by itself heals by itself.
fn neighbour(
    place: &str,
    seen: &Inspection,
    device: &str,
    address: Ipv4Addr,
    (mac, whose): (&str, &str),
    findings: &mut Vec<Finding>,
) {
    let wrong = seen.neighbours.iter().find(|entry| {
        entry.device == device
            && entry.address == address
            && entry.permanent
            && entry.mac.as_deref().is_some_and(|known| known != mac)
    });
    let Some(entry) = wrong else { return };
    findings.push(
        Finding::new(
            "stale-neighbour",
            Severity::Error,
            place,
            format!("{device} frames what is for {address} with another MAC"),
        )
        .seen(format!(
            "{address} dev {device} lladdr {} permanent, where {whose} has {mac} (ip neigh)",
            entry.mac.as_deref().unwrap_or("(none)")
        ))
        .why("a device drops frames that are not for its MAC")
        .remedy(format!("ip neigh del {address} dev {device}"))
        .on_a_cluster("# the kernel finds the right one by itself; look for what set this one")
        .verify(format!(
            "! ip neigh show {address} dev {device} | grep -q PERMANENT"
        )),
    );
}
