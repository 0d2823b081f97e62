//! What Calico wraps packets in besides VXLAN: IP in IP and WireGuard, each the kernel's where it has it.

use super::cable::Secrets;
use super::submariner::to;
use super::user_space::{Made, add_if_there, add_tun};
use super::{FELIX, NetlinkError, Site, TUNNEL, Through};
use crate::fabric::lab::namespaces;
use crate::fabric::lab::sysctls::Record;
use crate::fabric::lab::topology::Topology;
use crate::scenario::Overlay;
use crate::tunnel::{PeerKind, PeerSpec, TunnelSpec};
use crate::units::Cidr4;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::{IpipLink, WireguardLink};
use nlink::netlink::rule::RuleBuilder;
use nlink::netlink::types::route::RouteScope;

/// The UDP port of Calico's WireGuard.
pub const WIREGUARD_PORT: u16 = 51820;
/// The routing table of Calico's WireGuard.
pub const WIREGUARD_TABLE: u32 = 1;
/// The priority of its rule.
pub const WIREGUARD_PRIORITY: u32 = 99;

/// The name of an overlay's device.
pub const fn overlay_device(overlay: Overlay) -> &'static str {
    match overlay {
        Overlay::Vxlan => TUNNEL,
        Overlay::Ipip => "tunl0",
        Overlay::Wireguard => "wireguard.cali",
    }
}

/// What was made of a node's tunnel: by whom, what is to be started for it, and its index where it is there.
pub(super) struct Tunnel {
    pub(super) made: Made,
    pub(super) spec: Option<TunnelSpec>,
    pub(super) device: Option<u32>,
}

/// Makes a node's tunnel device of an overlay other than VXLAN, with its address.
pub(super) async fn add(
    topology: &Topology,
    node: usize,
    site: &Site,
    secrets: &Secrets,
    record: &mut Record,
) -> Result<Tunnel, NetlinkError> {
    let overlay = topology.overlay(node);
    let name = overlay_device(overlay);
    let mtu = u32::from(topology.nic.mtu.get().saturating_sub(overlay.overhead()));
    let in_kernel = match overlay {
        // Where the kernel has it, each new namespace has one.
        Overlay::Ipip => match site.route.get_link_by_name(name).await {
            Ok(Some(link)) => {
                let device = link.ifindex();
                set_up(site, device, name, mtu).await?;
                Some(device)
            }
            _ => add_if_there(site, name, IpipLink::new(name).mtu(mtu)).await?,
        },
        Overlay::Wireguard | Overlay::Vxlan => {
            add_if_there(site, name, WireguardLink::new(name).mtu(mtu)).await?
        }
    };
    let peers = || {
        topology.peer_indices(node).map(|peer| {
            let plan = &topology.nodes[peer];
            (peer, vec![plan.cross_subnet, plan.always])
        })
    };
    let (device, made, spec) = if let Some(device) = in_kernel {
        if overlay == Overlay::Wireguard {
            let peers: Vec<_> = peers().collect();
            secrets
                .configure_wireguard(topology, node, site, name, WIREGUARD_PORT, &peers)
                .await?;
        }
        (device, Made::InKernel, None)
    } else {
        let device = match add_tun(site, name, mtu).await? {
            Ok(device) => device,
            Err(why) => {
                let why = format!("the kernel has no {overlay}, and {why}");
                return Ok(Tunnel {
                    made: Made::Missing { why },
                    spec: None,
                    device: None,
                });
            }
        };
        let peer = |(peer, inner): (usize, Vec<Cidr4>)| PeerSpec {
            address: topology.nodes[peer].address,
            inner,
            kind: match overlay {
                Overlay::Wireguard => PeerKind::Wireguard(secrets.wireguard(node, peer, 0)),
                Overlay::Ipip | Overlay::Vxlan => PeerKind::Ipip,
            },
        };
        let spec = TunnelSpec {
            device: name.to_owned(),
            local: topology.nodes[node].address,
            port: (overlay == Overlay::Wireguard).then_some(WIREGUARD_PORT),
            peers: peers().map(peer).collect(),
        };
        let by = if overlay == Overlay::Wireguard {
            "boringtun"
        } else {
            "encapbench's own IP in IP"
        };
        (device, Made::InUserSpace { by }, Some(spec))
    };
    site.run(
        &format!("give {name} its address"),
        site.route.batch().add_address(
            Ipv4Address::with_index(device, topology.nodes[node].vtep, 32),
            device,
        ),
    )
    .await?;
    if overlay == Overlay::Wireguard {
        namespaces::enter_network(&site.namespace)?;
        record.set_rp_filter(name, "2");
        route_into_wireguard(topology, node, site, device).await?;
    }
    Ok(Tunnel {
        made,
        spec,
        device: Some(device),
    })
}

async fn set_up(site: &Site, device: u32, name: &str, mtu: u32) -> Result<(), NetlinkError> {
    site.route
        .set_link_mtu_by_index(device, mtu)
        .await
        .map_err(site.failed(format!("set the MTU of {name}")))?;
    site.up(device, name).await
}

/// Felix has WireGuard's routes in a table of its own, asked before main; packets that WireGuard itself sends have its
/// mark, and go by main.
async fn route_into_wireguard(
    topology: &Topology,
    node: usize,
    site: &Site,
    device: u32,
) -> Result<(), NetlinkError> {
    let batch = topology
        .peer_indices(node)
        .flat_map(|peer| [topology.nodes[peer].cross_subnet, topology.nodes[peer].always])
        .fold(site.route.batch(), |batch, block| {
            let route = to(block)
                .protocol(FELIX)
                .scope(RouteScope::Link)
                .table(WIREGUARD_TABLE);
            batch.add_route(Through(route, device))
        });
    site.run("route the other nodes' blocks into WireGuard", batch)
        .await?;
    let rule = RuleBuilder::v4()
        .priority(WIREGUARD_PRIORITY)
        .table(WIREGUARD_TABLE);
    site.route
        .add_rule(rule)
        .await
        .map_err(site.failed("add the rule for WireGuard's table"))
}
