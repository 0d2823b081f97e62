//! The kernel's ESP as a cable, as Submariner's libreswan programs it: policies between the clusters' pools, which take
//! packets whatever their route, states with AES-GCM (RFC 4106), and ESP in UDP on port 4500 (RFC 3948). No device.

use super::cable::Secrets;
use super::submariner::{CABLE_PORT, remote_pools};
use super::{NetlinkError, Site};
use crate::fabric::lab::namespaces;
use crate::fabric::lab::topology::Topology;
use crate::sys::udp;
use crate::units::Cidr4;
use nlink::netlink::xfrm::{
    IpsecProtocol, PolicyDirection, XfrmAddress, XfrmMode, XfrmSaBuilder, XfrmSelector, XfrmSpBuilder,
    XfrmUserTmpl,
};
use nlink::netlink::{Connection, Xfrm};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The integrity check value's length in bits.
const ICV: u32 = 128;
/// The policies' priority: behind any that somebody adds without one.
const PRIORITY: u32 = 1 << 20;
/// The states' numbers begin where libreswan's do.
const FIRST_REQID: u32 = 16389;

/// Makes a gateway's end of the cable. Gives the socket by which the kernel takes ESP out of UDP, as long as it is open;
/// `None` where the kernel lacks a part: IPsec, ESP or AES-GCM.
pub(super) async fn add(
    topology: &Topology,
    node: usize,
    site: &Site,
    secrets: &Secrets,
) -> Result<Option<UdpSocket>, NetlinkError> {
    namespaces::enter_network(&site.namespace)?;
    let own = topology.nodes[node].address;
    let Ok(connection) = Connection::<Xfrm>::new() else {
        return Ok(None);
    };
    for (gateway, reqid) in peers(topology, node) {
        let there = topology.nodes[gateway].address;
        let states = [(node, gateway, own, there), (gateway, node, there, own)];
        for (from, to, source, destination) in states {
            let (spi, key) = secrets.association(from, to);
            let state = XfrmSaBuilder::new(source.into(), destination.into(), spi, IpsecProtocol::Esp)
                .mode(XfrmMode::Tunnel)
                .reqid(reqid)
                .aead_aes_gcm(&key, ICV)
                .nat_t_udp_encap(CABLE_PORT, CABLE_PORT);
            match connection.add_sa(state).await {
                Ok(()) => {}
                Err(error) if lacks(&error) => {
                    tracing::debug!("no ESP in the kernel: {error}");
                    return Ok(None);
                }
                Err(error) => return Err(site.failed("add an IPsec state")(error)),
            }
        }
    }
    let socket = match open(own) {
        Ok(socket) => socket,
        Err(error) => return Err(site.failed("open the socket for ESP in UDP")(error.into())),
    };
    let own_pools = &topology.pools[topology.nodes[node].cluster];
    for (gateway, reqid) in peers(topology, node) {
        let there = topology.nodes[gateway].address;
        let theirs = remote_pools(topology, node).filter(|(other, _)| *other == gateway);
        for (remote, local) in
            theirs.flat_map(|(_, remote)| own_pools.iter().map(move |local| (remote, *local)))
        {
            let template = |from: Ipv4Addr, to: Ipv4Addr| {
                let (from, to) = (IpAddr::V4(from), IpAddr::V4(to));
                XfrmUserTmpl::match_any(from, to, IpsecProtocol::Esp, XfrmMode::Tunnel, reqid)
            };
            let policies = [
                (PolicyDirection::Out, local, remote, template(own, there)),
                (PolicyDirection::In, remote, local, template(there, own)),
                (PolicyDirection::Forward, remote, local, template(there, own)),
            ];
            for (direction, from, to, template) in policies {
                let policy = XfrmSpBuilder::new(selector(from, to), direction)
                    .priority(PRIORITY)
                    .template(template);
                connection
                    .add_sp(policy)
                    .await
                    .map_err(site.failed("add an IPsec policy"))?;
            }
        }
    }
    Ok(Some(socket))
}

/// The other gateways, each with the number of the states between.
fn peers(topology: &Topology, node: usize) -> impl Iterator<Item = (usize, u32)> {
    topology
        .remote_clusters(topology.nodes[node].cluster)
        .map(|(gateway, _)| gateway)
        .zip((FIRST_REQID..).step_by(4))
}

fn selector(from: Cidr4, to: Cidr4) -> XfrmSelector {
    XfrmSelector {
        saddr: XfrmAddress::from_v4(from.network()),
        daddr: XfrmAddress::from_v4(to.network()),
        family: libc::AF_INET as u16,
        prefixlen_s: from.prefix(),
        prefixlen_d: to.prefix(),
        ..XfrmSelector::default()
    }
}

fn open(own: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((own, CABLE_PORT))?;
    udp::take_esp(&socket)?;
    Ok(socket)
}

/// Whether the kernel refused a state since it lacks a part: no ESP (EPROTONOSUPPORT), no such cipher (ENOSYS as a name,
/// ENOENT as code), no IPsec at all.
fn lacks(error: &nlink::Error) -> bool {
    error.is_not_supported()
        || matches!(
            error.errno().map(i32::abs),
            Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOENT | libc::EAFNOSUPPORT)
        )
}
