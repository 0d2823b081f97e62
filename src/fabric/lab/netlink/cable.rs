//! The cables that encrypt: WireGuard and ESP, each the kernel's where it has it.

use super::submariner::{CABLE_PORT, CABLE_TABLE, add_rule, cable_device, remote_pools, to};
use super::user_space::{Made, add_if_there, add_tun};
use super::{NetlinkError, Site, Through};
use crate::fabric::lab::namespaces;
use crate::fabric::lab::sysctls::Record;
use crate::fabric::lab::topology::Topology;
use crate::scenario::Cable;
use crate::tunnel::{EspKeys, PeerKind, PeerSpec, TunnelSpec, WireguardKeys, esp, hex, public_key};
use crate::units::Cidr4;
use nlink::netlink::genl::wireguard::{AllowedIp, WireguardConfig};
use nlink::netlink::link::WireguardLink;
use nlink::netlink::types::route::RouteScope;
use nlink::netlink::{Connection, Wireguard};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How often WireGuard keeps the way open, in seconds, as Submariner sets it.
const KEEPALIVE: u16 = 10;
/// What Linux takes off for WireGuard: enough for IPv6 outside (`drivers/net/wireguard`).
const WIREGUARD_OVERHEAD: u16 = 80;
/// The outer headers of ESP in UDP over IPv4.
const UDP_HEADERS: u16 = 28;

/// The secrets of a lab's cables, drawn anew for each.
pub(super) struct Secrets {
    /// Curve25519, by gateway.
    private: HashMap<usize, [u8; 32]>,
    /// Key and salt, with the SPI, of what one gateway sends to another.
    associations: HashMap<(usize, usize), (u32, [u8; 36])>,
}

impl Secrets {
    /// Keys of WireGuard for `nodes`, and security associations between all of `gateways`.
    pub(super) fn draw(nodes: &[usize], gateways: &[usize]) -> Self {
        let private = nodes.iter().map(|node| (*node, rand::random())).collect();
        let pairs = gateways
            .iter()
            .flat_map(|from| gateways.iter().map(move |to| (*from, *to)))
            .filter(|(from, to)| from != to);
        let associations = pairs
            .zip(256_u32..)
            .map(|(pair, spi)| {
                let mut material = [0; 36];
                rand::fill(&mut material);
                (pair, (spi, material))
            })
            .collect();
        Self {
            private,
            associations,
        }
    }

    /// The keys of one node towards another.
    pub(super) fn wireguard(&self, node: usize, peer: usize, keepalive: u16) -> WireguardKeys {
        WireguardKeys {
            private: hex(&self.private(node)),
            public: hex(&public_key(self.private(peer))),
            keepalive,
        }
    }

    fn private(&self, gateway: usize) -> [u8; 32] {
        self.private.get(&gateway).copied().unwrap_or_default()
    }

    /// SPI, and key with salt, of what one gateway sends to another.
    pub(super) fn association(&self, from: usize, to: usize) -> (u32, [u8; 36]) {
        self.associations
            .get(&(from, to))
            .copied()
            .unwrap_or((0, [0; 36]))
    }
}

/// What was made of a gateway's end.
pub(super) struct End {
    /// By whom.
    pub(super) made: Made,
    /// The process to start for it.
    pub(super) spec: Option<TunnelSpec>,
    /// Its device, where it has one.
    pub(super) device: Option<u32>,
    /// What must stay open for it.
    pub(super) socket: Option<UdpSocket>,
}

/// Makes a gateway's end of an encrypting cable, and the routes into it.
pub(super) async fn add(
    topology: &Topology,
    cable: Cable,
    node: usize,
    site: &Site,
    secrets: &Secrets,
    record: &mut Record,
) -> Result<End, NetlinkError> {
    let name = cable_device(cable);
    let underlay = topology.nic.mtu.get();
    let (mtu, by) = match cable {
        Cable::Wireguard => (underlay - WIREGUARD_OVERHEAD, "boringtun"),
        Cable::Ipsec | Cable::Vxlan => {
            let room = usize::from(underlay - UDP_HEADERS) - esp::OVERHEAD;
            // The trailer's two bytes end at a multiple of four, so that much more fits.
            ((room + 2) as u16 / 4 * 4 + 2, "encapbench's own ESP")
        }
    };
    let mtu = u32::from(mtu);
    if cable == Cable::Wireguard
        && let Some(device) = add_if_there(site, name, WireguardLink::new(name).mtu(mtu)).await?
    {
        let peers: Vec<_> = peers(topology, node).collect();
        secrets
            .configure_wireguard(topology, node, site, name, CABLE_PORT, &peers)
            .await?;
        route(topology, cable, node, site, device, record).await?;
        return Ok(End {
            made: Made::InKernel,
            spec: None,
            device: Some(device),
            socket: None,
        });
    }
    if cable == Cable::Ipsec
        && let Some(socket) = super::esp::add(topology, node, site, secrets).await?
    {
        return Ok(End {
            made: Made::InKernel,
            spec: None,
            device: None,
            socket: Some(socket),
        });
    }
    let device = match add_tun(site, name, mtu).await? {
        Ok(device) => device,
        Err(why) => {
            let why = format!("the kernel has no {cable} for a cable, and {why}");
            return Ok(End {
                made: Made::Missing { why },
                spec: None,
                device: None,
                socket: None,
            });
        }
    };
    route(topology, cable, node, site, device, record).await?;
    let peers = peers(topology, node)
        .map(|(gateway, inner)| PeerSpec {
            address: topology.nodes[gateway].address,
            inner,
            kind: match cable {
                Cable::Wireguard => PeerKind::Wireguard(secrets.wireguard(node, gateway, KEEPALIVE)),
                Cable::Ipsec | Cable::Vxlan => {
                    let (spi_out, key_out) = secrets.association(node, gateway);
                    let (spi_in, key_in) = secrets.association(gateway, node);
                    PeerKind::Esp(EspKeys {
                        spi_out,
                        key_out: hex(&key_out),
                        spi_in,
                        key_in: hex(&key_in),
                    })
                }
            },
        })
        .collect();
    let spec = TunnelSpec {
        device: name.to_owned(),
        local: topology.nodes[node].address,
        port: Some(CABLE_PORT),
        peers,
    };
    Ok(End {
        made: Made::InUserSpace { by },
        spec: Some(spec),
        device: Some(device),
        socket: None,
    })
}

/// The other gateways, with what is behind each.
fn peers(topology: &Topology, node: usize) -> impl Iterator<Item = (usize, Vec<Cidr4>)> {
    topology
        .remote_clusters(topology.nodes[node].cluster)
        .map(|(gateway, pools)| (gateway, pools.to_vec()))
}

impl Secrets {
    /// Gives the kernel's WireGuard device `name` of a node its keys and peers.
    pub(super) async fn configure_wireguard(
        &self,
        topology: &Topology,
        node: usize,
        site: &Site,
        name: &str,
        port: u16,
        peers: &[(usize, Vec<Cidr4>)],
    ) -> Result<(), NetlinkError> {
        namespaces::enter_network(&site.namespace)?;
        let connection = Connection::<Wireguard>::new_async()
            .await
            .map_err(site.failed("open WireGuard's netlink family"))?;
        let config = WireguardConfig::new().device(name, |device| {
            let device = device.private_key(self.private(node)).listen_port(port);
            peers.iter().fold(device, |device, (peer, inner)| {
                let address = IpAddr::V4(topology.nodes[*peer].address);
                device.peer(public_key(self.private(*peer)), |peer| {
                    let peer = peer
                        .endpoint(SocketAddr::new(address, port))
                        .persistent_keepalive(Duration::from_secs(u64::from(KEEPALIVE)));
                    inner.iter().fold(peer, |peer, pool| {
                        peer.allowed_ip(AllowedIp::v4(pool.network(), pool.prefix()))
                    })
                })
            })
        });
        config
            .apply(&connection)
            .await
            .map(drop)
            .map_err(site.failed(format!("give {name} its keys and peers")))
    }
}

/// WireGuard's driver has its routes in the main table. Those of ESP stand in for the policies by which the kernel picks
/// packets for it before any routing: in a table of their own, asked before all others.
async fn route(
    topology: &Topology,
    cable: Cable,
    node: usize,
    site: &Site,
    device: u32,
    record: &mut Record,
) -> Result<(), NetlinkError> {
    namespaces::enter_network(&site.namespace)?;
    record.set_rp_filter(cable_device(cable), "2");
    let batch = remote_pools(topology, node).fold(site.route.batch(), |batch, (_, pool)| {
        let route = to(pool).scope(RouteScope::Link);
        let route = if cable == Cable::Wireguard {
            route
        } else {
            route.prefsrc(topology.nodes[node].vtep).table(CABLE_TABLE)
        };
        batch.add_route(Through(route, device))
    });
    site.run("route other clusters' pools into the cable", batch)
        .await?;
    if cable != Cable::Wireguard {
        add_rule(site, CABLE_TABLE).await?;
    }
    Ok(())
}
