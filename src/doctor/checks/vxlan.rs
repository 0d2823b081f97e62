//! The network plugin's VXLAN device on each node: that it is there, and that its forwarding and neighbour entries
//! name what the peers have (preflight list, 1 and 10).

use super::{encapsulation, rebuild};
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::finding::{Finding, Severity};

/// Felix makes the entries anew when it starts.
const RESTART_CALICO: &str = "kubectl delete pods -n calico-system -l k8s-app=calico-node \
                              --field-selector spec.nodeName=";

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        let encapsulates = view.node.blocks.iter().any(|block| block.mode.is_some());
        if !encapsulates || case.peers(&view).next().is_none() {
            continue;
        }
        device(case, &view, findings);
        if !is_whole(&view) {
            continue;
        }
        for peer in case.peers(&view).filter(is_whole) {
            entries(&view, &peer, findings);
        }
    }
}

/// Whether the device is there, up, with an address, and what the cluster's other nodes have.
pub(super) fn is_whole(view: &NodeView<'_>) -> bool {
    let wanted = &view.cluster.tunnel;
    view.tunnel().is_some_and(|link| {
        link.up
            && !link.addresses.is_empty()
            && link
                .vxlan
                .as_ref()
                .is_none_or(|own| (own.vni, own.port) == (wanted.vni, wanted.port))
    })
}

/// What goes with the device: the routes into it, and the entries of its peers.
fn contents(case: &Examination, view: &NodeView<'_>) -> Vec<String> {
    let name = &view.cluster.tunnel.device;
    let mut commands = Vec::new();
    for peer in case.peers(view).filter(is_whole) {
        let Some(theirs) = peer.tunnel() else { continue };
        commands.push(format!(
            "bridge fdb replace {} dev {name} dst {} self permanent",
            theirs.mac, peer.node.address
        ));
        commands.extend(theirs.addresses.iter().map(|own| {
            format!(
                "ip neigh replace {} lladdr {} dev {name} nud permanent",
                own.address, theirs.mac
            )
        }));
    }
    commands.extend(
        encapsulation::tunnel_routes(case, view)
            .into_iter()
            .map(|route| format!("ip route replace {route}")),
    );
    commands
}

/// The MAC and the addresses that a node's device had, as a peer still knows it.
fn remembered(case: &Examination, view: &NodeView<'_>) -> Option<(String, Vec<String>)> {
    let name = &view.cluster.tunnel.device;
    case.peers(view).find_map(|peer| {
        let entry = peer
            .seen
            .fdb
            .iter()
            .find(|entry| entry.device == *name && entry.destination == Some(view.node.address))?;
        let addresses: Vec<String> = peer
            .seen
            .neighbours
            .iter()
            .filter(|known| known.device == *name && known.mac.as_ref() == Some(&entry.mac))
            .map(|known| format!("{}/32", known.address))
            .collect();
        (!addresses.is_empty()).then(|| (entry.mac.clone(), addresses))
    })
}

/// The commands that make the device anew, as its peers know it.
fn anew(case: &Examination, view: &NodeView<'_>) -> Vec<String> {
    let Some((mac, addresses)) = remembered(case, view) else {
        return Vec::new();
    };
    let mut commands = rebuild::device(view, &view.cluster.tunnel, &addresses, Some(&mac));
    commands.extend(contents(case, view));
    commands
}

fn device(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let tunnel = &view.cluster.tunnel;
    let name = &tunnel.device;
    let finding = |title: String| {
        Finding::new("vxlan-device", Severity::Error, &view.node.name, title)
            .why("encapsulated packets from and to this node get lost")
    };
    let with = |finding: Finding, commands: Vec<String>| commands.into_iter().fold(finding, Finding::remedy);
    let Some(link) = view.tunnel() else {
        let found = finding(format!("{} has no device {name}", view.node.name))
            .seen(format!("devices: {}", rebuild::names(view)));
        findings.push(
            with(found, anew(case, view))
                .on_a_cluster(format!("{RESTART_CALICO}{}", view.node.name))
                .verify(format!("ip link show dev {name}")),
        );
        return;
    };
    if !link.up {
        let found = finding(format!("{name} is down"))
            .seen(format!("{name}: down"))
            .remedy(format!("ip link set dev {name} up"));
        findings.push(
            with(found, contents(case, view))
                .on_a_cluster(format!(
                    "# its routes went with it; let Felix make them again: {RESTART_CALICO}{}",
                    view.node.name
                ))
                .verify(format!("ip -o link show dev {name} up | grep -q .")),
        );
        return;
    }
    if link.addresses.is_empty()
        && let Some((_, addresses)) = remembered(case, view)
    {
        let mut found = finding(format!("{name} has no address")).seen(format!(
            "{name}: no IPv4 address, where its peers know it by {}",
            addresses.join(" and ")
        ));
        for address in &addresses {
            found = found
                .remedy(format!("ip addr add {address} dev {name}"))
                .verify(format!(
                    "ip -4 -o addr show dev {name} | grep -q 'inet {address} '"
                ));
        }
        findings.push(
            with(found, contents(case, view)).on_a_cluster(format!("{RESTART_CALICO}{}", view.node.name)),
        );
        return;
    }
    let Some(vxlan) = &link.vxlan else { return };
    let uplink = view.uplink().map_or("eth0", |link| link.name.as_str());
    if (vxlan.vni, vxlan.port) != (tunnel.vni, tunnel.port) {
        let mut found = finding(format!(
            "{name} speaks another VXLAN than the cluster's other nodes"
        ))
        .seen(format!(
            "{name}: VNI {} and UDP port {}, where {} and {} are expected",
            vxlan.vni, vxlan.port, tunnel.vni, tunnel.port
        ));
        let commands = anew(case, view);
        if !commands.is_empty() {
            found = found.remedy(format!("ip link del dev {name}"));
        }
        findings.push(
            with(found, commands)
                .on_a_cluster(format!(
                    "# let Felix make it anew: ip link del {name}; {RESTART_CALICO}{}",
                    view.node.name
                ))
                .verify(rebuild::verify(tunnel)),
        );
    }
    if let Some(local) = vxlan.local.filter(|local| *local != view.node.address) {
        findings.push(
            finding(format!(
                "{name} sends from {local}, which is not the node's address"
            ))
            .seen(format!(
                "{name}: local {local}, the node is {}",
                view.node.address
            ))
            .why("peers send back to the node's address, and filters on the way may know no other")
            .remedy(format!(
                "ip link set dev {name} type vxlan id {} local {} dev {uplink}",
                vxlan.vni, view.node.address
            ))
            .verify(format!(
                "ip -d link show dev {name} | grep -q 'local {} '",
                view.node.address
            )),
        );
    }
}

/// What the node knows of a peer's device.
fn entries(view: &NodeView<'_>, peer: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let (Some(own), Some(theirs)) = (view.tunnel(), peer.tunnel()) else {
        return;
    };
    let name = &own.name;
    let mac = &theirs.mac;
    let restart = format!("{RESTART_CALICO}{}", view.node.name);
    let sends_to: Vec<_> = view
        .seen
        .fdb
        .iter()
        .filter(|entry| entry.device == *name && entry.mac == *mac)
        .filter_map(|entry| entry.destination)
        .collect();
    if !sends_to.contains(&peer.node.address) {
        let seen = match sends_to.first() {
            Some(address) => format!(
                "{mac} dev {name} dst {address}, where {} is {} (bridge fdb show dev {name})",
                peer.node.name, peer.node.address
            ),
            None => format!("no entry for {mac} dev {name}, which is {}'s", peer.node.name),
        };
        findings.push(
            Finding::new(
                "stale-fdb",
                Severity::Error,
                &view.node.name,
                format!("{name} sends what is for {} somewhere else", peer.node.name),
            )
            .seen(seen)
            .why("each encapsulated packet goes to the address of this entry: to a node that is gone, or to none")
            .remedy(format!(
                "bridge fdb replace {mac} dev {name} dst {} self permanent",
                peer.node.address
            ))
            .on_a_cluster(restart.clone())
            .verify(format!(
                "bridge fdb show dev {name} | grep -q '^{mac} dst {} '",
                peer.node.address
            )),
        );
    }
    for address in &theirs.addresses {
        let known = view
            .seen
            .neighbours
            .iter()
            .find(|entry| entry.device == *name && entry.address == address.address);
        if known.is_some_and(|entry| entry.mac.as_ref() == Some(mac)) {
            continue;
        }
        let seen = match known {
            Some(entry) => format!(
                "{} dev {name} lladdr {}, where {}'s {name} has {mac} (ip neigh)",
                address.address,
                entry.mac.as_deref().unwrap_or("(none)"),
                peer.node.name
            ),
            None => format!(
                "no entry for {} dev {name}, which is {}'s",
                address.address, peer.node.name
            ),
        };
        findings.push(
            Finding::new(
                "stale-neighbour",
                Severity::Error,
                &view.node.name,
                format!("{name} frames what is for {} with another MAC", peer.node.name),
            )
            .seen(seen)
            .why("the peer's device drops frames that are not for its MAC, and the sender may have no forwarding entry for the wrong one")
            .remedy(format!(
                "ip neigh replace {} lladdr {mac} dev {name} nud permanent",
                address.address
            ))
            .on_a_cluster(restart.clone())
            .verify(format!(
                "ip neigh show {} dev {name} | grep -q 'lladdr {mac}'",
                address.address
            )),
        );
    }
}
