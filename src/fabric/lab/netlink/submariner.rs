//! Submariner's data path, as its route agent and its cable drivers program it. It has a way out of each cluster only:
//! what comes in for a pod goes on by Calico's routes to the pod's block.

use super::cable::Secrets;
use super::user_space::{Made, UserSpace};
use super::{NetlinkError, Site, TUNNEL, Through, UNDERLAY};
use crate::fabric::lab::namespaces;
use crate::fabric::lab::sysctls::Record;
use crate::fabric::lab::topology::{Topology, VX_SUBMARINER_PREFIX};
use crate::scenario::Cable;
use crate::units::Cidr4;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::link::VxlanLink;
use nlink::netlink::nftables::{
    BaseChain, Chain, Family, FilterHook, NatHook, Policy, Priority, Rule, TcpFlags,
};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::rule::RuleBuilder;
use nlink::netlink::types::route::{RouteProtocol, RouteScope};
use nlink::netlink::{Connection, Nftables};
use std::net::Ipv4Addr;

/// The device that leads from each node to its cluster's gateway, and its peer there.
pub const VX_SUBMARINER: &str = "vx-submariner";
/// Its VXLAN network identifier.
pub const VX_SUBMARINER_VNI: u32 = 100;
/// Its UDP port.
pub const VX_SUBMARINER_PORT: u16 = 4800;
/// The VXLAN cable's device.
pub const VXLAN_CABLE: &str = "vxlan-tunnel";
/// Its VXLAN network identifier.
pub const VXLAN_CABLE_VNI: u32 = 1000;
/// The UDP port of all cables.
pub const CABLE_PORT: u16 = 4500;
/// The routing table of the cable, and the priority of its rule.
pub const CABLE_TABLE: u32 = 100;
/// The routing table for packets of a gateway's own, and the priority of its rule.
pub const HOST_TABLE: u32 = 150;
/// The nftables table with what Submariner has in iptables.
pub const SUBMARINER_NFT_TABLE: &str = "submariner";

/// The name of a cable's device.
pub const fn cable_device(cable: Cable) -> &'static str {
    match cable {
        Cable::Vxlan => VXLAN_CABLE,
        Cable::Wireguard => "submariner",
        Cable::Ipsec => "ipsec-tunnel",
    }
}

/// Gives each of `nodes` its part. Says how the cable is made, where there is one, and adds to `user_space` what is to
/// be started for it.
pub(super) async fn join(
    topology: &Topology,
    nodes: &[Site],
    user_space: &mut UserSpace,
    record: &mut Record,
) -> Result<Option<Made>, NetlinkError> {
    let Some(plan) = &topology.submariner else {
        return Ok(None);
    };
    let secrets = Secrets::draw(&plan.gateways, &plan.gateways);
    let mut made = Made::InKernel;
    for (node, site) in nodes.iter().enumerate() {
        namespaces::enter_network(&site.namespace)?;
        // The route agent does so on the device with an address of the pods' range.
        record.set_rp_filter(TUNNEL, "2");
        if plan.gateways.contains(&node) {
            be_gateway(topology, node, site, record).await?;
            made = add_cable(topology, plan.cable, node, site, &secrets, user_space, record).await?;
        } else {
            be_worker(topology, node, plan.gateways[topology.nodes[node].cluster], site).await?;
        }
        filter(topology, node, site).await?;
    }
    Ok(Some(made))
}

/// What a worker has: all packets for other clusters go to the gateway.
async fn be_worker(
    topology: &Topology,
    node: usize,
    gateway: usize,
    site: &Site,
) -> Result<(), NetlinkError> {
    let link = vx_submariner(topology).remote(topology.nodes[gateway].address);
    let device = add_device(site, VX_SUBMARINER, link, topology.vx_submariner_address(node)).await?;
    let via = topology.vx_submariner_address(gateway);
    let batch = remote_pools(topology, node).fold(site.route.batch(), |batch, (_, pool)| {
        batch.add_route(Through(to(pool).gateway(via), device))
    });
    site.run("route other clusters' pools to the gateway", batch)
        .await
}

/// What a gateway has for its workers and for itself.
async fn be_gateway(
    topology: &Topology,
    node: usize,
    site: &Site,
    record: &mut Record,
) -> Result<(), NetlinkError> {
    let own = vx_submariner(topology);
    let device = add_device(site, VX_SUBMARINER, own, topology.vx_submariner_address(node)).await?;
    for worker in topology.workers_of(node) {
        flood(site, device, topology.nodes[worker].address).await?;
    }
    record.set_rp_filter(VX_SUBMARINER, "2");
    Ok(())
}

/// The cable to all other gateways, with the routes that lead into it. Says how it is made.
async fn add_cable(
    topology: &Topology,
    cable: Cable,
    node: usize,
    site: &Site,
    secrets: &Secrets,
    user_space: &mut UserSpace,
    record: &mut Record,
) -> Result<Made, NetlinkError> {
    let own = &topology.nodes[node];
    let mut device = site.index(UNDERLAY).await?;
    let mut made = Made::InKernel;
    match cable {
        Cable::Vxlan => {
            let mtu = u32::from(topology.nic.mtu.inside_vxlan());
            let link = VxlanLink::new(VXLAN_CABLE, VXLAN_CABLE_VNI)
                .mtu(mtu)
                .port(CABLE_PORT)
                .learning(false);
            let tunnel = add_device(site, VXLAN_CABLE, link, topology.cable_address(node)).await?;
            record.set_rp_filter(VXLAN_CABLE, "2");
            let mut batch = site.route.batch();
            for (gateway, pools) in topology.remote_clusters(own.cluster) {
                flood(site, tunnel, topology.nodes[gateway].address).await?;
                for pool in pools {
                    let route = to(*pool)
                        .gateway(topology.cable_address(gateway))
                        .prefsrc(own.vtep)
                        .table(CABLE_TABLE)
                        .metric(100);
                    batch = batch.add_route(Through(route, tunnel));
                }
            }
            site.run("route other clusters' pools into the cable", batch)
                .await?;
            add_rule(site, CABLE_TABLE).await?;
        }
        Cable::Wireguard | Cable::Ipsec => {
            let end = super::cable::add(topology, cable, node, site, secrets, record).await?;
            // As the route agent has it; for others the kernel's policies take over where packets leave by the uplink.
            if cable == Cable::Wireguard {
                device = end.device.unwrap_or(device);
            }
            user_space.tunnels.extend(end.spec.map(|tunnel| (node, tunnel)));
            user_space.sockets.extend(end.socket);
            made = end.made;
        }
    }
    // Of the node's own packets: they go out with an address that the other side can answer to.
    let batch = remote_pools(topology, node).fold(site.route.batch(), |batch, (_, pool)| {
        let route = to(pool)
            .scope(RouteScope::Link)
            .prefsrc(own.vtep)
            .table(HOST_TABLE);
        batch.add_route(Through(route, device))
    });
    site.run("route other clusters' pools for the gateway's own packets", batch)
        .await?;
    add_rule(site, HOST_TABLE).await?;
    Ok(made)
}

fn vx_submariner(topology: &Topology) -> VxlanLink {
    VxlanLink::new(VX_SUBMARINER, VX_SUBMARINER_VNI)
        .mtu(u32::from(topology.nic.mtu.inside_vxlan()))
        .port(VX_SUBMARINER_PORT)
        .learning(false)
}

/// Makes a VXLAN device with an address of a /8.
async fn add_device(
    site: &Site,
    name: &str,
    link: VxlanLink,
    address: Ipv4Addr,
) -> Result<u32, NetlinkError> {
    site.add_up(&format!("make {name}"), link).await?;
    let device = site.index(name).await?;
    site.run(
        &format!("give {name} its address"),
        site.route
            .batch()
            .add_address(Ipv4Address::with_index(device, address, 8), device),
    )
    .await?;
    Ok(device)
}

/// An FDB entry for whatever has none: Submariner has one for each peer, and learns no addresses.
async fn flood(site: &Site, device: u32, peer: Ipv4Addr) -> Result<(), NetlinkError> {
    let entry = FdbEntryBuilder::new([0; 6])
        .ifindex(device)
        .dst(peer.into())
        .permanent()
        .self_();
    site.route
        .append_fdb(entry)
        .await
        .map_err(site.failed("add an FDB entry of Submariner"))
}

pub(super) async fn add_rule(site: &Site, table: u32) -> Result<(), NetlinkError> {
    let rule = RuleBuilder::v4().priority(table).table(table);
    site.route
        .add_rule(rule)
        .await
        .map_err(site.failed(format!("add the rule for table {table}")))
}

/// Pools of other clusters, each with its gateway.
pub(super) fn remote_pools(topology: &Topology, node: usize) -> impl Iterator<Item = (usize, Cidr4)> {
    topology
        .remote_clusters(topology.nodes[node].cluster)
        .flat_map(|(gateway, pools)| pools.iter().map(move |pool| (gateway, *pool)))
}

pub(super) fn to(pool: Cidr4) -> Ipv4Route {
    Ipv4Route::from_addr(pool.network(), pool.prefix()).protocol(RouteProtocol::Static)
}

/// What the route agent has in iptables: its ports open, no masquerade between clusters, an answerable source for
/// packets of nodes, and TCP segments no larger than the way takes.
async fn filter(topology: &Topology, node: usize, site: &Site) -> Result<(), NetlinkError> {
    const TABLE: &str = SUBMARINER_NFT_TABLE;
    let own = &topology.nodes[node];
    namespaces::enter_network(&site.namespace)?;
    let nftables = Connection::<Nftables>::new().map_err(site.failed("open nftables' netlink socket"))?;
    let what = || site.failed("add Submariner's packet filter rules (nftables)");
    let chain = |name: &str, base: BaseChain| {
        Chain::new(TABLE, name)
            .map(|chain| chain.family(Family::Ip).base(base))
            .map_err(what())
    };
    let rule = |chain: &str| Rule::new(TABLE, chain).family(Family::Ip);
    let input = BaseChain::filter(FilterHook::Input, Priority::Filter).policy(Policy::Accept);
    let forward = BaseChain::filter(FilterHook::Forward, Priority::Mangle).policy(Policy::Accept);
    let nat = BaseChain::nat(NatHook::Postrouting, Priority::SrcNat).policy(Policy::Accept);
    let mut transaction = nftables
        .transaction()
        .add_table(TABLE, Family::Ip)
        .add_chain(chain("SUBMARINER-INPUT", input)?)
        .add_chain(chain("SUBMARINER-FORWARD", forward)?)
        .add_chain(chain("SUBMARINER-POSTROUTING", nat)?)
        .add_rule(
            rule("SUBMARINER-INPUT")
                .match_udp_dport(VX_SUBMARINER_PORT)
                .accept(),
        );
    let syn = |rule: Rule| rule.match_tcp_flags(TcpFlags::SYN, TcpFlags::SYN | TcpFlags::RST);
    for (_, remote) in remote_pools(topology, node) {
        let (network, prefix) = (remote.network(), remote.prefix());
        for matched in [
            rule("SUBMARINER-FORWARD").match_daddr_v4(network, prefix),
            rule("SUBMARINER-FORWARD").match_saddr_v4(network, prefix),
        ] {
            transaction = transaction.add_rule(syn(matched).clamp_tcp_mss_to_pmtu());
        }
        for local in &topology.pools[own.cluster] {
            transaction = transaction
                .add_rule(
                    rule("SUBMARINER-POSTROUTING")
                        .match_saddr_v4(local.network(), local.prefix())
                        .match_daddr_v4(network, prefix)
                        .accept(),
                )
                .add_rule(
                    rule("SUBMARINER-POSTROUTING")
                        .match_saddr_v4(network, prefix)
                        .match_daddr_v4(local.network(), local.prefix())
                        .accept(),
                );
        }
    }
    transaction
        .add_rule(
            rule("SUBMARINER-POSTROUTING")
                .match_saddr_v4(Ipv4Addr::new(VX_SUBMARINER_PREFIX, 0, 0, 0), 8)
                .match_oif(VX_SUBMARINER)
                .snat(own.vtep, None),
        )
        .commit(&nftables)
        .await
        .map_err(what())
}
