//! Breaks a lab on purpose, once it is built.

use super::{HOST_TABLE, Site, TUNNEL, Through, UNDERLAY, step};
use crate::fabric::lab::namespaces;
use crate::fabric::lab::netlink::{FELIX, NetlinkError};
use crate::fabric::lab::topology::Topology;
use crate::scenario::{BrokenRoute, BrokenTable, Fault, Firewall};
use crate::units::Cidr4;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FilterHook, PayloadBase, Policy, Priority, Register, Rule, Verdict,
};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::rule::RuleBuilder;
use nlink::netlink::types::route::{RouteProtocol, RouteScope, RouteType};
use nlink::netlink::{Connection, Nftables};
use std::fs;

/// The table that stands in for what hardware does; the doctor does not look into it.
const SIMULATION: &str = "encapbench-simulation";
/// The table that iptables-nft uses.
const FILTER: &str = "filter";

/// Makes the faults of `topology`.
pub(super) async fn apply(topology: &Topology, nodes: &[Site], switch: &Site) -> Result<(), NetlinkError> {
    let find = |name: &str| topology.nodes.iter().position(|node| node.name == name);
    for fault in &topology.faults {
        // Validation has refused a fault of a node that is not there.
        let Some(index) = find(fault.node()) else { continue };
        let site = &nodes[index];
        let peer = fault.peer().and_then(find);
        make(fault, topology, index, peer, site, switch).await?;
    }
    Ok(())
}

async fn make(
    fault: &Fault,
    topology: &Topology,
    index: usize,
    peer: Option<usize>,
    site: &Site,
    switch: &Site,
) -> Result<(), NetlinkError> {
    let failed = |what: &str| site.failed(format!("make the fault {} ({what})", fault.name()));
    match fault {
        Fault::ForwardDrop { .. } => {
            let nft = nftables(site)?;
            let base = BaseChain::filter(FilterHook::Forward, Priority::Filter).policy(Policy::Drop);
            let chain = Chain::new(FILTER, "FORWARD").map_err(failed("chain"))?;
            nft.transaction()
                .add_table(FILTER, Family::Ip)
                .add_chain(chain.family(Family::Ip).base(base))
                .commit(&nft)
                .await
                .map_err(failed("FORWARD policy"))
        }
        Fault::UdpBlocked { port, .. } => {
            let nft = nftables(site)?;
            let base = BaseChain::filter(FilterHook::Input, Priority::Filter).policy(Policy::Accept);
            let chain = Chain::new(FILTER, "INPUT").map_err(failed("chain"))?;
            let rule = Rule::new(FILTER, "INPUT")
                .family(Family::Ip)
                .match_udp_dport(*port)
                .drop();
            nft.transaction()
                .add_table(FILTER, Family::Ip)
                .add_chain(chain.family(Family::Ip).base(base))
                .add_rule(rule)
                .commit(&nft)
                .await
                .map_err(failed("INPUT rule"))
        }
        Fault::MtuBlackHole { mtu, .. } => {
            // A bridge's port drops a longer frame silently, but lets pass what the NIC is still to cut.
            let ethtool = site.ethtool().await?;
            site.set_features(
                &ethtool,
                UNDERLAY,
                &["tx-tcp-segmentation", "tx-generic-segmentation"],
            )
            .await?;
            let port = switch.index(&format!("node{index}")).await?;
            switch
                .route
                .set_link_mtu_by_index(port, u32::from(mtu.get()))
                .await
                .map_err(failed("MTU of the switch's port"))
        }
        Fault::ChecksumOffload { .. } => checksum_offload(topology.nic.mtu.get(), site, fault).await,
        Fault::NoIpForwarding { .. } => sysctl(site, "ipv4/ip_forward", "0"),
        Fault::RemoteRoute { broken, .. } => remote_route(*broken, topology, index, site).await,
        Fault::HostTable { broken, .. } => host_table(*broken, topology, index, site, fault).await,
        Fault::StrictRpFilter { .. } => sysctl(site, &format!("ipv4/conf/{UNDERLAY}/rp_filter"), "1"),
        Fault::NodePrefix32 { .. } => node_prefix(topology, index, site, fault).await,
        Fault::RuleLoad { rules, .. } => {
            site.add_firewall(&Firewall {
                conntrack: false,
                rules: *rules,
            })
            .await
        }
        Fault::StaleFdb { .. } => {
            let Some(peer) = peer.map(|peer| &topology.nodes[peer]) else {
                return Ok(());
            };
            let subnet = topology.subnets[peer.subnet].cidr;
            // The last host of the subnet: no node has it, since they are given out from the first on.
            let gone = subnet
                .address(subnet.addresses().saturating_sub(2))
                .unwrap_or(peer.address);
            let tunnel = site.index(TUNNEL).await?;
            let entry = FdbEntryBuilder::new(peer.vtep_mac)
                .ifindex(tunnel)
                .dst(gone.into())
                .permanent()
                .self_();
            site.route.replace_fdb(entry).await.map_err(failed("FDB entry"))
        }
        Fault::StaleNeighbour { .. } => {
            let Some(peer) = peer.map(|peer| &topology.nodes[peer]) else {
                return Ok(());
            };
            let tunnel = site.index(TUNNEL).await?;
            let [a, b, c, _, high, low] = peer.vtep_mac;
            let entry = Neighbor::with_index_v4(tunnel, peer.vtep)
                .lladdr([a, b, c, 0xff, high, low])
                .permanent();
            site.route
                .replace_neighbor(entry)
                .await
                .map_err(failed("neighbour entry"))
        }
    }
}

fn nftables(site: &Site) -> Result<Connection<Nftables>, NetlinkError> {
    namespaces::enter_network(&site.namespace)?;
    Connection::<Nftables>::new().map_err(site.failed("open nftables' netlink socket"))
}

fn sysctl(site: &Site, name: &str, value: &str) -> Result<(), NetlinkError> {
    namespaces::enter_network(&site.namespace)?;
    fs::write(format!("/proc/sys/net/{name}"), value)
        .map_err(|error| step(format!("set {name}"), &site.name, error.into()))
}

/// Whatever leaves the VXLAN device longer than a packet of the wire is left for the NIC to cut, with its checksum
/// unfinished: it is lost. With the offload off, the kernel cuts before it encapsulates.
async fn checksum_offload(mtu: u16, site: &Site, fault: &Fault) -> Result<(), NetlinkError> {
    let failed = |what: &str| site.failed(format!("make the fault {} ({what})", fault.name()));
    let ethtool = site.ethtool().await?;
    ethtool
        .set_features_by_name(TUNNEL, |features| features.enable("tx-checksum-ip-generic"))
        .await
        .map_err(failed("offload"))?;
    let nft = nftables(site)?;
    let base = BaseChain::filter(FilterHook::Postrouting, Priority::Filter).policy(Policy::Accept);
    let chain = Chain::new(SIMULATION, "lost").map_err(failed("chain"))?;
    let register = Register::R0;
    let load = |base, offset| Expr::Payload {
        dreg: register,
        base,
        offset,
        len: 2,
    };
    let compare = |op, value: u16| Expr::Cmp {
        sreg: register,
        op,
        data: value.to_be_bytes().to_vec(),
    };
    let rule = Rule::new(SIMULATION, "lost").family(Family::Ip).expressions(vec![
        Expr::Payload {
            dreg: register,
            base: PayloadBase::Network,
            offset: 9,
            len: 1,
        },
        Expr::Cmp {
            sreg: register,
            op: CmpOp::Eq,
            data: vec![libc::IPPROTO_UDP as u8],
        },
        load(PayloadBase::Transport, 2),
        compare(CmpOp::Eq, super::VXLAN_PORT),
        // The IP packet's length.
        load(PayloadBase::Network, 2),
        compare(CmpOp::Gt, mtu),
        Expr::Verdict(Verdict::Drop),
    ]);
    nft.transaction()
        .add_table(SIMULATION, Family::Ip)
        .add_chain(chain.family(Family::Ip).base(base))
        .add_rule(rule)
        .commit(&nft)
        .await
        .map_err(failed("rule"))
}

/// The node's address as some clouds give it, and the routes that Felix makes of that.
async fn node_prefix(
    topology: &Topology,
    index: usize,
    site: &Site,
    fault: &Fault,
) -> Result<(), NetlinkError> {
    let failed = |what: &str| site.failed(format!("make the fault {} ({what})", fault.name()));
    let node = &topology.nodes[index];
    let subnet = &topology.subnets[node.subnet];
    let device = site.index(UNDERLAY).await?;
    let route = &site.route;
    // The new one first: the device's routes go with its last address.
    route
        .add_address(Ipv4Address::with_index(device, node.address, 32))
        .await
        .map_err(failed("address"))?;
    route
        .del_address_config(super::subnet_address(device, node.address, subnet))
        .await
        .map_err(failed("old address"))?;
    let cidr = subnet.cidr;
    let to_subnet = Ipv4Route::from_addr(cidr.network(), cidr.prefix())
        .scope(RouteScope::Link)
        .prefsrc(node.address);
    site.run(
        "route to the subnet",
        route.batch().add_route(Through(to_subnet, device)),
    )
    .await?;
    let tunnel = site.index(TUNNEL).await?;
    let peers = topology
        .nodes
        .iter()
        .filter(|peer| peer.cluster == node.cluster && peer.subnet == node.subnet && peer.name != node.name);
    for peer in peers {
        let block = peer.cross_subnet;
        let to = || Ipv4Route::from_addr(block.network(), block.prefix()).protocol(FELIX);
        site.run(
            "route to a block through the tunnel",
            route
                .batch()
                .del_route(Through(to().gateway(peer.address).onlink(), device))
                .add_route(Through(to().gateway(peer.vtep).onlink(), tunnel)),
        )
        .await?;
    }
    Ok(())
}

/// The pools of other clusters, as a node routes to them.
fn remote_pools(topology: &Topology, index: usize) -> Vec<Cidr4> {
    topology
        .remote_clusters(topology.nodes[index].cluster)
        .flat_map(|(_, pools)| pools.iter().copied())
        .collect()
}

fn to(pool: Cidr4) -> Ipv4Route {
    Ipv4Route::from_addr(pool.network(), pool.prefix())
}

async fn remote_route(
    broken: BrokenRoute,
    topology: &Topology,
    index: usize,
    site: &Site,
) -> Result<(), NetlinkError> {
    let node = &topology.nodes[index];
    for pool in remote_pools(topology, index) {
        // Whatever its device and next hop.
        let old = site.route.batch().del_route(Through(to(pool), 0));
        site.run("take Submariner's route away", old).await?;
        let batch = site.route.batch();
        let batch = match broken {
            BrokenRoute::Missing => continue,
            // As the kernel's `unreachable` of another program: BIRD writes what it can't reach so.
            BrokenRoute::Unreachable => batch.add_route(
                to(pool)
                    .route_type(RouteType::Unreachable)
                    .protocol(RouteProtocol::Bird),
            ),
            BrokenRoute::Blackhole => batch.add_route(to(pool).route_type(RouteType::Blackhole)),
            BrokenRoute::Bird => {
                let uplink = site.index(UNDERLAY).await?;
                let router = topology.subnets[node.subnet].router;
                batch.add_route(Through(
                    to(pool).gateway(router).protocol(RouteProtocol::Bird),
                    uplink,
                ))
            }
        };
        site.run("put another route in its place", batch).await?;
    }
    Ok(())
}

async fn host_table(
    broken: BrokenTable,
    topology: &Topology,
    index: usize,
    site: &Site,
    fault: &Fault,
) -> Result<(), NetlinkError> {
    let failed = |what: &str| site.failed(format!("make the fault {} ({what})", fault.name()));
    if broken == BrokenTable::NoRule {
        return site
            .route
            .del_rule(RuleBuilder::v4().priority(HOST_TABLE).table(HOST_TABLE))
            .await
            .map_err(failed("rule"));
    }
    let uplink = site.index(UNDERLAY).await?;
    for pool in remote_pools(topology, index) {
        let route = || {
            to(pool)
                .table(HOST_TABLE)
                .scope(RouteScope::Link)
                .protocol(RouteProtocol::Static)
        };
        let old = route().prefsrc(topology.nodes[index].vtep).dev_index(uplink);
        site.route.del_route(old).await.map_err(failed("routes"))?;
        if broken == BrokenTable::WrongSource {
            let new = Through(route().prefsrc(topology.nodes[index].address), uplink);
            site.run("add a route to table 150", site.route.batch().add_route(new))
                .await?;
        }
    }
    Ok(())
}
