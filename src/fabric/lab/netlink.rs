//! Makes what a topology says, over netlink: the one module that makes anything by nlink.

mod cable;
mod esp;
mod overlay;
mod submariner;
mod user_space;

pub use submariner::{
    CABLE_PORT, CABLE_TABLE, HOST_TABLE, SUBMARINER_NFT_TABLE, VX_SUBMARINER, VX_SUBMARINER_PORT,
    VX_SUBMARINER_VNI, VXLAN_CABLE, VXLAN_CABLE_VNI, cable_device,
};
mod faults;

pub use overlay::{WIREGUARD_PORT, WIREGUARD_PRIORITY, WIREGUARD_TABLE, overlay_device};
pub use user_space::Made;

use super::namespaces::{self, NamespaceError};
use super::sysctls::{NamespaceKind, Record, SysctlSet};
use super::topology::{BlockRoute, NodePlan, PodPlan, SubnetPlan, Topology};
use crate::scenario::{Firewall, NicProfile, Overlay, Place};
use crate::units::Cidr4;
use cable::Secrets;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::link::{BridgeLink, LinkConfig, LinkCreateExt as _, VethLink, VxlanLink};
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::nftables::{BaseChain, Chain, CtState, Family, FilterHook, Policy, Priority, Rule};
use nlink::netlink::route::{Ipv4Route, ResolvedRouteInterfaces, RouteConfig};
use nlink::netlink::tc::TbfConfig;
use nlink::netlink::types::route::{RouteProtocol, RouteScope, RouteType};
use nlink::netlink::{Batch, Connection, Ethtool, InterfaceRef, MessageBuilder, Nftables, Route};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use user_space::UserSpace;

/// A node's link to its subnet.
pub const UNDERLAY: &str = "eth0";
/// Calico's VXLAN device.
pub const TUNNEL: &str = "vxlan.calico";
/// Calico's VXLAN network identifier.
pub const VNI: u32 = 4096;
/// Calico's VXLAN port.
pub const VXLAN_PORT: u16 = 4789;
/// The gateway that Calico gives to each pod.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Felix's route protocol.
const FELIX: RouteProtocol = RouteProtocol::Other(80);
/// The MAC of the node's end of each pod's veth.
const POD_GATEWAY_MAC: [u8; 6] = [0xee; 6];
/// Requests sent at once; the answers to more would overflow the socket's buffer.
const BATCH: usize = 100;
/// Packet filter rules in one transaction, which the socket's buffer must hold.
const RULES: usize = 250;

/// Why the lab's network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A namespace was refused.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A step failed.
    #[error("can't {step} in {place} of the lab")]
    Step {
        /// What was being done.
        step: String,
        /// Where.
        place: String,
        /// The kernel's answer.
        #[source]
        source: Box<nlink::Error>,
    },
    /// The thread that builds could not run.
    #[error("can't run the thread that builds the lab")]
    Thread(#[source] io::Error),
}

impl NetlinkError {
    /// Whether the kernel lacks a part: a module that is not there or not loaded.
    pub fn is_missing_module(&self) -> bool {
        match self {
            Self::Step { source, .. } => {
                source.is_not_supported()
                    || matches!(
                        source.errno().map(i32::abs),
                        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                    )
            }
            Self::Namespace(_) | Self::Thread(_) => false,
        }
    }
}

/// A lab's network namespaces, held open.
#[derive(Debug)]
pub(super) struct Network {
    /// Those of places.
    pub(super) places: HashMap<Place, Arc<OwnedFd>>,
    /// What else there is: router and switch. Held, for they end with their last descriptor.
    _between: Vec<Arc<OwnedFd>>,
    /// What was set in them.
    pub(super) sysctls: Vec<SysctlSet>,
    /// How Submariner's cable is made, where there is one.
    pub(super) cable: Option<Made>,
    /// How each cluster's overlay is made, where it is another than VXLAN.
    pub(super) overlays: Vec<Made>,
    /// What is to be started in user space.
    pub(super) user_space: UserSpace,
}

/// Makes the network of `topology`, in a thread of its own, since that goes through all its namespaces.
pub(super) fn build(topology: &Topology) -> Result<Network, NetlinkError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("lab-netlink".to_owned())
            .spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(NetlinkError::Thread)?;
                runtime.block_on(make(topology))
            })
            .map_err(NetlinkError::Thread)?
            .join()
            .map_err(|_| NetlinkError::Thread(io::Error::other("it panicked")))?
    })
}

/// Each place holds one descriptor while the lab is up, and three more while it is built.
fn allow_descriptors(topology: &Topology) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = 256 + 4 * (topology.nodes.len() + topology.pods.len()) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = Some(maximum.map_or(needed, |maximum| maximum.min(needed)));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, maximum }) {
        tracing::warn!("can't raise the limit of open files to {needed}: {error}");
    }
}

async fn make(topology: &Topology) -> Result<Network, NetlinkError> {
    allow_descriptors(topology);
    let mut record = Record::default();
    let switch = Site::new("the switch", NamespaceKind::Switch, &mut record)?;
    for index in 0..topology.subnets.len() {
        switch.add_bridge(index, &topology.nic).await?;
    }
    let router = Site::new("the router", NamespaceKind::Router, &mut record)?;
    for (index, subnet) in topology.subnets.iter().enumerate() {
        router.join_subnet(index, subnet, &topology.nic, &switch).await?;
    }
    let mut places = HashMap::new();
    let mut nodes = Vec::new();
    let mut user_space = UserSpace::default();
    let mut overlays = vec![Made::InKernel; topology.overlays.len()];
    let wrapped: Vec<usize> = (0..topology.nodes.len())
        .filter(|node| topology.overlay(*node) == Overlay::Wireguard)
        .collect();
    let secrets = Secrets::draw(&wrapped, &[]);
    for index in 0..topology.nodes.len() {
        let (node, tunnel) = make_node(topology, index, &switch, &secrets, &mut record).await?;
        if let Some(tunnel) = tunnel {
            user_space.tunnels.extend(tunnel.spec.map(|spec| (index, spec)));
            overlays[topology.nodes[index].cluster] = tunnel.made;
        }
        places.insert(
            Place::Node(topology.nodes[index].name.clone()),
            Arc::clone(&node.namespace),
        );
        nodes.push(node);
    }
    let cable = submariner::join(topology, &nodes, &mut user_space, &mut record).await?;
    for pod in &topology.pods {
        let made = make_pod(topology, pod, &nodes[pod.node], &mut record).await?;
        places.insert(pod.place.clone(), made.namespace);
    }
    for (index, node) in nodes.iter().enumerate() {
        namespaces::enter_network(&node.namespace)?;
        for pod in topology.pods.iter().filter(|pod| pod.node == index) {
            record.set_pod_device(&pod.host_device);
        }
    }
    faults::apply(topology, &nodes, &switch).await?;
    Ok(Network {
        places,
        _between: vec![switch.namespace, router.namespace],
        sysctls: record.into_list(),
        cable,
        overlays,
        user_space,
    })
}

async fn make_node(
    topology: &Topology,
    index: usize,
    switch: &Site,
    secrets: &Secrets,
    record: &mut Record,
) -> Result<(Site, Option<overlay::Tunnel>), NetlinkError> {
    let plan = &topology.nodes[index];
    let nic = &topology.nic;
    let site = Site::new(&plan.name, NamespaceKind::Node, record)?;
    record.set_default_rp_filter(&plan.name, plan.rp_filter);
    let underlay = site.join_switch(index, plan, topology, switch).await?;
    site.shape(underlay, nic).await?;
    let ethtool = site.ethtool().await?;
    if !nic.tunnel_offload {
        site.set_features(
            &ethtool,
            UNDERLAY,
            &["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"],
        )
        .await?;
    }
    let overlay = topology.overlay(index);
    let mut device = None;
    // WireGuard takes over where another overlay stays set up.
    if overlay != Overlay::Ipip {
        let tunnel = site.add_tunnel(plan, underlay, nic).await?;
        if !topology.vxlan_checksum_offload[plan.cluster] {
            site.set_features(&ethtool, TUNNEL, &["tx-checksum-ip-generic"])
                .await?;
        }
        site.add_peers(topology, index, tunnel).await?;
        device = Some(tunnel);
    }
    let mut made = None;
    if overlay != Overlay::Vxlan {
        let tunnel = overlay::add(topology, index, &site, secrets, record).await?;
        device = device.or(tunnel.device);
        made = Some(tunnel);
    }
    site.add_block_routes(topology, index, underlay, device).await?;
    if let Some(firewall) = &topology.firewalls[plan.cluster] {
        site.add_firewall(firewall).await?;
    }
    Ok((site, made))
}

async fn make_pod(
    topology: &Topology,
    pod: &PodPlan,
    node: &Site,
    record: &mut Record,
) -> Result<Site, NetlinkError> {
    let site = Site::new(&pod.place.to_string(), NamespaceKind::Pod, record)?;
    let mtu = u32::from(topology.nic.mtu.get() - topology.overlay(pod.node).overhead());
    site.add_up(
        "make eth0",
        VethLink::new(UNDERLAY, &pod.host_device)
            .mtu(mtu)
            .peer_address(POD_GATEWAY_MAC)
            .peer_netns_fd(&node.namespace),
    )
    .await?;
    let device = site.index(UNDERLAY).await?;
    site.run(
        "set up eth0 as Calico's CNI plugin does",
        site.route
            .batch()
            .add_address(Ipv4Address::with_index(device, pod.address, 32), device)
            .add_route(Through(
                Ipv4Route::from_addr(POD_GATEWAY, 32).scope(RouteScope::Link),
                device,
            ))
            .add_route(Through(Ipv4Route::default_route().gateway(POD_GATEWAY), device)),
    )
    .await?;
    let host = node.index(&pod.host_device).await?;
    node.up(host, &pod.host_device).await?;
    node.run(
        "route to a pod",
        node.route.batch().add_route(Through(
            Ipv4Route::from_addr(pod.address, 32)
                .scope(RouteScope::Link)
                .protocol(FELIX),
            host,
        )),
    )
    .await?;
    Ok(site)
}

/// A network namespace while it is being set up.
struct Site {
    name: String,
    namespace: Arc<OwnedFd>,
    route: Connection<Route>,
}

impl Site {
    /// A new namespace, which the calling thread is then in, its loopback device up.
    fn new(name: &str, kind: NamespaceKind, record: &mut Record) -> Result<Self, NetlinkError> {
        let namespace = namespaces::new_network()?;
        record.set_first(kind);
        // The socket belongs to the namespace that the thread is in now, whatever it enters next.
        let route =
            Connection::<Route>::new().map_err(|source| step("open a netlink socket", name, source))?;
        Ok(Self {
            name: name.to_owned(),
            namespace,
            route,
        })
    }

    fn failed(&self, what: impl Into<String>) -> impl FnOnce(nlink::Error) -> NetlinkError {
        let what = what.into();
        move |source| step(what, &self.name, source)
    }

    /// Ethtool's netlink family, of this namespace.
    async fn ethtool(&self) -> Result<Connection<Ethtool>, NetlinkError> {
        namespaces::enter_network(&self.namespace)?;
        Connection::<Ethtool>::new_async()
            .await
            .map_err(self.failed("open ethtool's netlink family"))
    }

    async fn index(&self, device: &str) -> Result<u32, NetlinkError> {
        let link = self
            .route
            .get_link_by_name(device)
            .await
            .map_err(self.failed(format!("look for {device}")))?;
        link.map(|link| link.ifindex()).ok_or_else(|| {
            step(
                format!("look for {device}"),
                &self.name,
                io::Error::from_raw_os_error(libc::ENODEV).into(),
            )
        })
    }

    async fn up(&self, index: u32, device: &str) -> Result<(), NetlinkError> {
        self.route
            .set_link_up_by_index(index)
            .await
            .map_err(self.failed(format!("bring up {device}")))
    }

    async fn add_up(&self, what: &str, link: impl LinkConfig) -> Result<(), NetlinkError> {
        // The loopback device goes first: index 1 in every namespace.
        self.up(1, "lo").await?;
        self.route.add_link(link.up()).await.map_err(self.failed(what))
    }

    async fn run(&self, what: &str, batch: Batch<'_>) -> Result<(), NetlinkError> {
        batch.execute_all().await.map_err(self.failed(what))
    }

    async fn add_bridge(&self, subnet: usize, nic: &NicProfile) -> Result<(), NetlinkError> {
        let name = format!("subnet{subnet}");
        self.add_up(
            "make a bridge",
            BridgeLink::new(name)
                .mtu(u32::from(nic.mtu.get()))
                .stp(false)
                .forward_delay_ms(0),
        )
        .await
    }

    /// The router's link to a subnet, by a veth: an address on the bridge itself makes routed VXLAN slow.
    async fn join_subnet(
        &self,
        index: usize,
        subnet: &SubnetPlan,
        nic: &NicProfile,
        switch: &Self,
    ) -> Result<(), NetlinkError> {
        let name = format!("lan{index}");
        let port = format!("router{index}");
        self.plug(&name, &port, index, nic, switch).await?;
        let device = self.index(&name).await?;
        self.run(
            "give the router an address",
            self.route
                .batch()
                .add_address(subnet_address(device, subnet.router, subnet), device),
        )
        .await
    }

    async fn join_switch(
        &self,
        index: usize,
        plan: &NodePlan,
        topology: &Topology,
        switch: &Self,
    ) -> Result<u32, NetlinkError> {
        let subnet = &topology.subnets[plan.subnet];
        self.plug(
            UNDERLAY,
            &format!("node{index}"),
            plan.subnet,
            &topology.nic,
            switch,
        )
        .await?;
        let device = self.index(UNDERLAY).await?;
        self.run(
            "give eth0 its address and default route",
            self.route
                .batch()
                .add_address(subnet_address(device, plan.address, subnet), device)
                .add_route(Through(Ipv4Route::default_route().gateway(subnet.router), device)),
        )
        .await?;
        Ok(device)
    }

    /// A veth `name`, whose other end `port` is a port of the bridge of `subnet`.
    async fn plug(
        &self,
        name: &str,
        port: &str,
        subnet: usize,
        nic: &NicProfile,
        switch: &Self,
    ) -> Result<(), NetlinkError> {
        self.add_up(
            "make a link to the switch",
            VethLink::new(name, port)
                .mtu(u32::from(nic.mtu.get()))
                .peer_netns_fd(&switch.namespace),
        )
        .await?;
        let bridge = switch.index(&format!("subnet{subnet}")).await?;
        let index = switch.index(port).await?;
        switch
            .route
            .set_link_master_by_index(index, bridge)
            .await
            .map_err(switch.failed(format!("plug in {port}")))?;
        switch.up(index, port).await
    }

    /// The NIC's rate, burst and queue.
    async fn shape(&self, underlay: u32, nic: &NicProfile) -> Result<(), NetlinkError> {
        let Some(rate) = nic.rate else {
            return Ok(());
        };
        let queued = nic.queue.as_secs_f64() * rate.bytes_per_second() as f64;
        let limit = nic.burst.get().saturating_add(queued as u64);
        self.run(
            "shape eth0 (tbf)",
            self.route.batch().add_qdisc(
                underlay,
                TbfConfig::new()
                    .rate(nlink::Rate::bits_per_sec(rate.bits_per_second()))
                    .burst(nlink::Bytes::new(nic.burst.get()))
                    .limit(nlink::Bytes::new(limit))
                    .build(),
            ),
        )
        .await
    }

    async fn set_features(
        &self,
        ethtool: &Connection<Ethtool>,
        device: &str,
        off: &[&str],
    ) -> Result<(), NetlinkError> {
        ethtool
            .set_features_by_name(device, |features| {
                off.iter().fold(features, |features, name| features.disable(name))
            })
            .await
            .map_err(self.failed(format!("turn off {} of {device}", off.join(" and "))))
    }

    async fn add_tunnel(
        &self,
        plan: &NodePlan,
        underlay: u32,
        nic: &NicProfile,
    ) -> Result<u32, NetlinkError> {
        self.add_up(
            "make vxlan.calico",
            VxlanLink::new(TUNNEL, VNI)
                .mtu(u32::from(nic.mtu.inside_vxlan()))
                .address(plan.vtep_mac)
                .local(plan.address)
                .dev_index(underlay)
                .port(VXLAN_PORT)
                .learning(false),
        )
        .await?;
        let tunnel = self.index(TUNNEL).await?;
        self.run(
            "give vxlan.calico its address",
            self.route
                .batch()
                .add_address(Ipv4Address::with_index(tunnel, plan.vtep, 32), tunnel),
        )
        .await?;
        Ok(tunnel)
    }

    /// Static neighbours and FDB entries to each other node of the cluster.
    async fn add_peers(&self, topology: &Topology, node: usize, tunnel: u32) -> Result<(), NetlinkError> {
        let peers: Vec<_> = topology.peers(node).collect();
        for some in peers.chunks(BATCH / 2) {
            let batch = some.iter().fold(self.route.batch(), |batch, peer| {
                batch
                    .add_neighbor(
                        Neighbor::with_index_v4(tunnel, peer.vtep)
                            .lladdr(peer.vtep_mac)
                            .permanent(),
                        tunnel,
                    )
                    .add_fdb(
                        FdbEntryBuilder::new(peer.vtep_mac)
                            .ifindex(tunnel)
                            .dst(peer.node.into())
                            .permanent()
                            // Of the device itself; without, the kernel looks for a bridge and says EOPNOTSUPP.
                            .self_(),
                        tunnel,
                        None,
                    )
            });
            self.run("add neighbour and FDB entries", batch).await?;
        }
        Ok(())
    }

    /// Routes to the blocks of each other node of the cluster; not to those behind a tunnel that could not be made.
    async fn add_block_routes(
        &self,
        topology: &Topology,
        node: usize,
        underlay: u32,
        tunnel: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let in_ip = topology.overlay(node) == Overlay::Ipip;
        for some in topology.block_routes(node).chunks(BATCH) {
            let batch = some.iter().fold(self.route.batch(), |batch, route| {
                let to = |block: Cidr4| Ipv4Route::from_addr(block.network(), block.prefix()).protocol(FELIX);
                match *route {
                    BlockRoute::Blackhole { block } => {
                        batch.add_route(to(block).route_type(RouteType::Blackhole))
                    }
                    BlockRoute::Underlay { block, node } => {
                        batch.add_route(Through(to(block).gateway(node).onlink(), underlay))
                    }
                    BlockRoute::Tunnel { block, vtep } => {
                        let Some(tunnel) = tunnel else {
                            return batch;
                        };
                        // IP in IP has no address of its own: its outer destination is the route's gateway.
                        let node = topology.peers(node).find(|peer| peer.vtep == vtep);
                        let via = node.filter(|_| in_ip).map_or(vtep, |peer| peer.node);
                        batch.add_route(Through(to(block).gateway(via).onlink(), tunnel))
                    }
                }
            });
            self.run("add routes to the blocks of other nodes", batch).await?;
        }
        Ok(())
    }

    /// Rules that match nothing, then one that accepts, in FORWARD and in INPUT.
    async fn add_firewall(&self, firewall: &Firewall) -> Result<(), NetlinkError> {
        const TABLE: &str = "encapbench";
        namespaces::enter_network(&self.namespace)?;
        let nftables = Connection::<Nftables>::new().map_err(self.failed("open nftables' netlink socket"))?;
        let what = || self.failed("add packet filter rules (nftables)");
        let mut transaction = nftables.transaction().add_table(TABLE, Family::Inet);
        let mut size = 0;
        for (chain, hook) in [("forward", FilterHook::Forward), ("input", FilterHook::Input)] {
            let base = BaseChain::filter(hook, Priority::Filter).policy(Policy::Accept);
            let made = Chain::new(TABLE, chain).map_err(what())?;
            transaction = transaction.add_chain(made.family(Family::Inet).base(base));
            let rule = || Rule::new(TABLE, chain).family(Family::Inet);
            // Addresses of TEST-NET-3 (RFC 5737), which no place of a lab has.
            let nothing = (0..=u8::MAX)
                .cycle()
                .take(firewall.rules as usize)
                .map(|host| rule().match_saddr_v4(Ipv4Addr::new(203, 0, 113, host), 32).drop());
            let last = if firewall.conntrack {
                rule().match_ct_state(CtState::NEW | CtState::ESTABLISHED | CtState::RELATED)
            } else {
                rule()
            };
            for rule in nothing.chain([last.accept()]) {
                transaction = transaction.add_rule(rule);
                size += 1;
                if size == RULES {
                    transaction.commit(&nftables).await.map_err(what())?;
                    transaction = nftables.transaction();
                    size = 0;
                }
            }
        }
        transaction.commit(&nftables).await.map_err(what())
    }
}

/// A route through a device. nlink's batch leaves a route's own `dev_index` out, so it is put in here.
struct Through(Ipv4Route, u32);

impl RouteConfig for Through {
    fn device_ref(&self) -> Option<&InterfaceRef> {
        None
    }
    fn multipath_device_refs(&self) -> Vec<Option<&InterfaceRef>> {
        Vec::new()
    }
    fn family(&self) -> u8 {
        self.0.family()
    }
    fn write_add(&self, builder: &mut MessageBuilder, _: &ResolvedRouteInterfaces) {
        let interfaces = ResolvedRouteInterfaces {
            oif: Some(self.1),
            multipath: Vec::new(),
        };
        self.0.write_add(builder, &interfaces);
    }
    fn write_delete(&self, builder: &mut MessageBuilder) {
        self.0.write_delete(builder);
    }
}

fn subnet_address(device: u32, address: Ipv4Addr, subnet: &SubnetPlan) -> Ipv4Address {
    Ipv4Address::with_index(device, address, subnet.cidr.prefix()).broadcast(subnet.cidr.last())
}

fn step(step: impl Into<String>, place: &str, source: nlink::Error) -> NetlinkError {
    NetlinkError::Step {
        step: step.into(),
        place: place.to_owned(),
        source: Box::new(source),
    }
}
