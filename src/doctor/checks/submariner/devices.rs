//! Submariner's devices: vx-submariner on every node, the cable's on gateways. There, up, of the right VXLAN, and
//! sending to whom they should (preflight list, 10 and 12).

use super::{RESTART, RESTART_GATEWAY, address_on, cable_way};
use crate::doctor::checks::rebuild;
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{LinkSeen, SubmarinerSetup, TunnelSetup};
use std::net::Ipv4Addr;

/// Which of a node's devices are there and up, so that their routes can be judged.
pub(super) struct Whole {
    pub(super) tunnel: bool,
    pub(super) cable: bool,
}

pub(super) fn check(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    findings: &mut Vec<Finding>,
) -> Whole {
    let is_gateway = submariner.gateway == view.node.name;
    let peers: Vec<NodeView<'_>> = case
        .peers(view)
        .filter(|peer| is_gateway || peer.node.name == submariner.gateway)
        .collect();
    let remote = case.setup.remote_cidrs(view.cluster);
    let gateway = case
        .node(&submariner.gateway)
        .and_then(|gateway| address_on(&gateway, &submariner.tunnel.device));
    let routes: Vec<String> = match gateway {
        Some(via) if !is_gateway => remote
            .iter()
            .map(|cidr| format!("{cidr} via {via} dev {} proto static", submariner.tunnel.device))
            .collect(),
        _ => Vec::new(),
    };
    let tunnel = device(
        view,
        &Wanted {
            tunnel: &submariner.tunnel,
            // The last three octets of the node's address (Submariner's vxlan.go).
            network: 240,
            peers: &peers,
            routes,
            restart: RESTART,
        },
        findings,
    );
    if !is_gateway {
        return Whole { tunnel, cable: true };
    }
    let Some(cable) = &submariner.cable_tunnel else {
        let name = &submariner.cable_device;
        let is_there = name.is_empty() || view.seen.link(name).is_some_and(|link| link.up);
        if !is_there {
            findings.push(absent(view, name).on_a_cluster(RESTART_GATEWAY));
        }
        return Whole {
            tunnel,
            cable: is_there,
        };
    };
    let there: Vec<NodeView<'_>> = case
        .setup
        .clusters
        .iter()
        .filter(|cluster| cluster.name != view.cluster.name)
        .filter_map(|cluster| case.node(&cluster.submariner.as_ref()?.gateway))
        .collect();
    let routes = remote
        .iter()
        .map(|cidr| cable_way(case, view, submariner, *cidr).text)
        .collect();
    let wanted = Wanted {
        tunnel: cable,
        network: 241,
        peers: &there,
        routes,
        restart: RESTART_GATEWAY,
    };
    Whole {
        tunnel,
        cable: device(view, &wanted, findings),
    }
}

/// What a device should be.
struct Wanted<'a> {
    tunnel: &'a TunnelSetup,
    /// The first octet of its addresses.
    network: u8,
    peers: &'a [NodeView<'a>],
    /// The routes that lead into it, as `ip route` takes them.
    routes: Vec<String>,
    restart: &'a str,
}

impl Wanted<'_> {
    /// Its address, as `ip addr` takes it.
    fn address(&self, view: &NodeView<'_>) -> String {
        let [_, b, c, d] = view.node.address.octets();
        format!("{}/8", Ipv4Addr::new(self.network, b, c, d))
    }

    /// The commands that make it anew, with all that goes with it.
    fn commands(&self, view: &NodeView<'_>) -> Vec<String> {
        let mut commands = rebuild::device(view, self.tunnel, &[self.address(view)], None);
        let name = &self.tunnel.device;
        commands.extend(self.peers.iter().map(|peer| {
            format!(
                "bridge fdb append {ANY} dev {name} dst {} self permanent",
                peer.node.address
            )
        }));
        commands.extend(self.routes());
        commands
    }

    fn routes(&self) -> impl Iterator<Item = String> {
        self.routes
            .iter()
            .map(|route| format!("ip route replace {route}"))
    }
}

fn finding(view: &NodeView<'_>, title: String) -> Finding {
    Finding::new("submariner-device", Severity::Error, &view.node.name, title)
        .why("packets for other clusters have no way out of this node, or none that their peers understand")
}

fn absent(view: &NodeView<'_>, device: &str) -> Finding {
    let mut finding = finding(
        view,
        format!("{} has no device {device} that is up", view.node.name),
    )
    .seen(format!("devices: {}", rebuild::names(view)));
    if view.seen.link(device).is_some() {
        finding = finding
            .seen(format!("{device}: down"))
            .remedy(format!("ip link set dev {device} up"));
    }
    finding
        .on_a_cluster("subctl show connections")
        .verify(format!("ip -o link show dev {device} up | grep -q ."))
}

/// Whether a device is there, up and of the right VXLAN; the findings where it is not, and of its entries where it is.
fn device(view: &NodeView<'_>, wanted: &Wanted<'_>, findings: &mut Vec<Finding>) -> bool {
    if wanted.peers.is_empty() {
        return true;
    }
    let name = &wanted.tunnel.device;
    let link = view.seen.link(name);
    let other = link
        .and_then(|link| link.vxlan.as_ref())
        .filter(|vxlan| (vxlan.vni, vxlan.port) != (wanted.tunnel.vni, wanted.tunnel.port));
    let mut found = match (link, other) {
        (None, _) => absent(view, name),
        (_, Some(vxlan)) => finding(view, format!("{name} speaks another VXLAN than its peers"))
            .seen(format!(
                "{name}: VNI {} and UDP port {}, where {} and {} are expected",
                vxlan.vni, vxlan.port, wanted.tunnel.vni, wanted.tunnel.port
            ))
            .remedy(format!("ip link del dev {name}"))
            .verify(rebuild::verify(wanted.tunnel)),
        (Some(link), None) if !link.up => {
            let mut finding = absent(view, name);
            for command in wanted.routes() {
                finding = finding.remedy(command);
            }
            findings.push(finding.on_a_cluster(format!("# its routes went with it: {}", wanted.restart)));
            return false;
        }
        (Some(link), None) if link.addresses.is_empty() => {
            let address = wanted.address(view);
            let mut finding = finding(view, format!("{name} has no address"))
                .seen(format!("{name}: no IPv4 address, where {address} is expected"))
                .remedy(format!("ip addr add {address} dev {name}"))
                .verify(format!(
                    "ip -4 -o addr show dev {name} | grep -q 'inet {address} '"
                ));
            for command in wanted.routes() {
                finding = finding.remedy(command);
            }
            findings.push(finding.on_a_cluster(wanted.restart));
            return false;
        }
        (Some(link), None) => {
            entries(view, link, wanted.peers, findings);
            return true;
        }
    };
    for command in wanted.commands(view) {
        found = found.remedy(command);
    }
    findings.push(found.on_a_cluster(wanted.restart));
    false
}

const ANY: &str = "00:00:00:00:00:00";

/// Submariner's devices have a default entry for each peer, and find the rest by ARP.
fn entries(view: &NodeView<'_>, link: &LinkSeen, peers: &[NodeView<'_>], findings: &mut Vec<Finding>) {
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
