//! Plans a lab: every address, block, route and neighbour entry, as Calico would program them. Pure.
//!
//! What is left out of the scenario is chosen here, always in the same way: subnets from 10.1.0.0 on (10.2.0.0 for
//! the second cluster, and so on), pools from 10.244.0.0 on.

mod submariner;

pub use submariner::{CABLE_PREFIX, SubmarinerPlan, VX_SUBMARINER_PREFIX};

use crate::scenario::{Fault, Firewall, Lab, NicProfile, Overlay, Place, RpFilter, VxlanMode};
use crate::units::Cidr4;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// Why a lab can't be planned. All are mistakes in the scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A lab without a node.
    #[error("the lab has no nodes")]
    Empty,
    /// Two nodes of one name.
    #[error("two nodes are named {0:?}: names are unique over all clusters")]
    DuplicateNode(String),
    /// A place on a node that is not there.
    #[error("{place} is on node {node:?}, which no cluster of the lab has (nodes: {nodes})")]
    UnknownNode {
        /// The place.
        place: String,
        /// Its node.
        node: String,
        /// The nodes there are, separated by commas.
        nodes: String,
    },
    /// Two blocks of addresses with addresses in common.
    #[error("{first} overlaps {second}")]
    Overlap {
        /// One, with what it is for.
        first: String,
        /// The other.
        second: String,
    },
    /// More nodes than a subnet has addresses.
    #[error("{subnet} has room for {room} nodes, not for {nodes}")]
    SubnetTooSmall {
        /// The subnet, with what it is for.
        subnet: String,
        /// How many fit.
        room: u64,
        /// How many there are.
        nodes: usize,
    },
    /// More nodes than a pool has blocks.
    #[error("{pool} has {blocks} blocks of /{block_size}, one a node, but the cluster has {nodes} nodes")]
    PoolTooSmall {
        /// The pool, with what it is for.
        pool: String,
        /// How many blocks it has.
        blocks: u64,
        /// Their prefix length.
        block_size: u8,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A block size that Calico would refuse.
    #[error("cluster {cluster:?} has block-size {block_size}: Calico takes 20 to 32, the lab 20 to 30")]
    BlockSize {
        /// The cluster.
        cluster: String,
        /// The prefix length.
        block_size: u8,
    },
    /// More pods on a node than its block has addresses.
    #[error("block {block} of node {node:?} has no address left for {place}")]
    BlockFull {
        /// The place that got none.
        place: String,
        /// Its node.
        node: String,
        /// The node's block of the place's pool.
        block: Cidr4,
    },
    /// No free range.
    #[error("10.0.0.0/8 has no free /{prefix} for {what}: say in the scenario which block to use")]
    NoRoom {
        /// What it was for.
        what: String,
        /// The prefix length that was looked for.
        prefix: u8,
    },
    /// An MTU that leaves less than IPv4 asks for inside the tunnel.
    #[error(
        "an MTU of {mtu} leaves {inside} bytes inside VXLAN: every IPv4 link carries at least 68 (RFC 791)"
    )]
    MtuTooSmall {
        /// The NIC's MTU.
        mtu: u16,
        /// What is left.
        inside: u16,
    },
    /// A burst that lets no packet through.
    #[error(
        "a burst of {burst} bytes is less than two packets of MTU {mtu}: the NIC would send nothing or in fits"
    )]
    BurstTooSmall {
        /// The NIC's burst in bytes.
        burst: u64,
        /// Its MTU.
        mtu: u16,
    },
    /// More packet filter rules than the lab makes.
    #[error("cluster {cluster:?} asks for {rules} packet filter rules: 10000 at most")]
    TooManyRules {
        /// The cluster.
        cluster: String,
        /// How many it asks for.
        rules: u32,
    },
    /// A gateway that is no node of its cluster.
    #[error("cluster {cluster:?} has no node {gateway:?} to be Submariner's gateway")]
    UnknownGateway {
        /// The cluster.
        cluster: String,
        /// The name given.
        gateway: String,
    },
    /// Submariner takes the addresses inside its tunnels from the nodes' last three octets, which must differ.
    #[error(
        "Submariner would give {first:?} and {second:?} one address, {address}: the last three octets of the nodes' \
         addresses must differ, so choose other subnets (`cidr`)"
    )]
    SameTunnelAddress {
        /// A node.
        first: String,
        /// Another.
        second: String,
        /// What both would have.
        address: Ipv4Addr,
    },
}

/// A layer 2 segment, its addresses, and the router's one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetPlan {
    /// The subnet.
    pub cidr: Cidr4,
    /// The router's address, the first.
    pub router: Ipv4Addr,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Index of its cluster.
    pub cluster: usize,
    /// Index of its subnet.
    pub subnet: usize,
    /// Address of `eth0`.
    pub address: Ipv4Addr,
    /// Its block of the CrossSubnet pool.
    pub cross_subnet: Cidr4,
    /// Its block of the Always pool; the first address is `vtep`.
    pub always: Cidr4,
    /// Address of `vxlan.calico`, out of the Always block, so that replies to Always pods go encapsulated.
    pub vtep: Ipv4Addr,
    /// MAC of `vxlan.calico`.
    pub vtep_mac: [u8; 6],
    /// How strictly its uplink checks where packets come in.
    pub rp_filter: RpFilter,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// Where it is.
    pub place: Place,
    /// Index of its node.
    pub node: usize,
    /// Its address.
    pub address: Ipv4Addr,
    /// The name of its veth on the node, `cali` and 11 hexadecimal digits.
    pub host_device: String,
}

/// A block's route on a node, as Felix programs it (protocol 80).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockRoute {
    /// The node's own block: `blackhole`, since each pod has a route of its own.
    Blackhole {
        /// The block.
        block: Cidr4,
    },
    /// `<block> via <node> dev eth0 onlink`.
    Underlay {
        /// The block.
        block: Cidr4,
        /// The node that owns it.
        node: Ipv4Addr,
    },
    /// `<block> via <VTEP> dev vxlan.calico onlink`.
    Tunnel {
        /// The block.
        block: Cidr4,
        /// The tunnel address of the node that owns it.
        vtep: Ipv4Addr,
    },
}

/// Another node of the cluster, as a node's static neighbour and FDB entries name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address on the underlay.
    pub node: Ipv4Addr,
    /// Its tunnel address.
    pub vtep: Ipv4Addr,
    /// The MAC of its tunnel device.
    pub vtep_mac: [u8; 6],
}

/// A planned lab.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// The NIC of each node.
    pub nic: NicProfile,
    /// All subnets.
    pub subnets: Vec<SubnetPlan>,
    /// All nodes.
    pub nodes: Vec<NodePlan>,
    /// All pods.
    pub pods: Vec<PodPlan>,
    /// Each cluster's packet filter load.
    pub firewalls: Vec<Option<Firewall>>,
    /// Whether `vxlan.calico` computes checksums in hardware, by cluster.
    pub vxlan_checksum_offload: Vec<bool>,
    /// What each cluster's packets are wrapped in.
    pub overlays: Vec<Overlay>,
    /// Each cluster's pools.
    pub pools: Vec<Vec<Cidr4>>,
    /// What joins the clusters.
    pub submariner: Option<SubmarinerPlan>,
    /// The clusters' names.
    pub cluster_names: Vec<String>,
    /// What is broken on purpose.
    pub faults: Vec<Fault>,
    addresses: HashMap<Place, Ipv4Addr>,
}

impl Topology {
    /// Plans `lab` with a pod at each of `places` that names one; nodes are there anyway.
    ///
    /// # Errors
    /// What in the scenario stands against it.
    pub fn plan(lab: &Lab, places: &BTreeSet<Place>) -> Result<Self, TopologyError> {
        let inside = lab.nic.mtu.inside_vxlan();
        if inside < 68 {
            return Err(TopologyError::MtuTooSmall {
                mtu: lab.nic.mtu.get(),
                inside,
            });
        }
        // With its Ethernet header; the kernel rounds the burst down by some bytes.
        let packets = 2 * (u64::from(lab.nic.mtu.get()) + 14);
        if lab.nic.rate.is_some() && lab.nic.burst.get() < packets {
            return Err(TopologyError::BurstTooSmall {
                burst: lab.nic.burst.get(),
                mtu: lab.nic.mtu.get(),
            });
        }
        let ranges = Ranges::choose(lab)?;
        let mut topology = Self {
            nic: lab.nic.clone(),
            subnets: Vec::new(),
            nodes: Vec::new(),
            pods: Vec::new(),
            firewalls: lab.clusters.iter().map(|c| c.firewall.clone()).collect(),
            vxlan_checksum_offload: lab
                .clusters
                .iter()
                .map(|c| c.calico.vxlan_checksum_offload)
                .collect(),
            overlays: lab.clusters.iter().map(|c| c.calico.encapsulation).collect(),
            pools: ranges
                .clusters
                .iter()
                .map(|range| vec![range.cross_subnet, range.always])
                .collect(),
            submariner: None,
            cluster_names: lab.clusters.iter().map(|c| c.name.clone()).collect(),
            faults: lab.faults.clone(),
            addresses: HashMap::new(),
        };
        for (cluster, (spec, range)) in lab.clusters.iter().zip(&ranges.clusters).enumerate() {
            let mut in_cluster = 0;
            for (subnet, cidr) in spec.subnets.iter().zip(&range.subnets) {
                topology.add_subnet(*cidr, &subnet.nodes, |address, index, name| {
                    let block_size = spec.calico.block_size;
                    let node_in_cluster = in_cluster;
                    in_cluster += 1;
                    let cross_subnet = range.cross_subnet.block(block_size, node_in_cluster)?;
                    let always = range.always.block(block_size, node_in_cluster)?;
                    let [high, low] = u16::try_from(index).ok()?.to_be_bytes();
                    Some(NodePlan {
                        name: name.to_owned(),
                        cluster,
                        subnet: 0,
                        address,
                        cross_subnet,
                        always,
                        vtep: always.network(),
                        // Locally administered, and beginning as Felix's do.
                        vtep_mac: [0x66, 0xec, 0xab, 0x00, high, low],
                        rp_filter: spec.rp_filter_of.get(name).copied().unwrap_or(spec.rp_filter),
                    })
                })?;
            }
        }
        if topology.nodes.is_empty() {
            return Err(TopologyError::Empty);
        }
        topology.add_pods(places)?;
        topology.add_submariner(lab)?;
        Ok(topology)
    }

    fn add_subnet(
        &mut self,
        cidr: Cidr4,
        nodes: &[String],
        mut node: impl FnMut(Ipv4Addr, usize, &str) -> Option<NodePlan>,
    ) -> Result<(), TopologyError> {
        let too_small = || TopologyError::SubnetTooSmall {
            subnet: format!("subnet {cidr}"),
            room: room(cidr),
            nodes: nodes.len(),
        };
        let router = cidr.address(1).ok_or_else(too_small)?;
        let subnet = self.subnets.len();
        self.subnets.push(SubnetPlan { cidr, router });
        for (host, name) in (2..).zip(nodes) {
            let address = cidr.address(host).ok_or_else(too_small)?;
            let plan = node(address, self.nodes.len(), name).ok_or_else(too_small)?;
            self.addresses.insert(Place::Node(name.clone()), address);
            self.nodes.push(NodePlan { subnet, ..plan });
        }
        Ok(())
    }

    fn add_pods(&mut self, places: &BTreeSet<Place>) -> Result<(), TopologyError> {
        let by_name: BTreeMap<&str, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (n.name.as_str(), i))
            .collect();
        // The first address of each block is kept: in the Always block it is the tunnel's.
        let mut next: HashMap<(usize, VxlanMode), u64> = HashMap::new();
        for place in places {
            let node = *by_name
                .get(place.node())
                .ok_or_else(|| TopologyError::UnknownNode {
                    place: place.to_string(),
                    node: place.node().to_owned(),
                    nodes: by_name.keys().copied().collect::<Vec<_>>().join(", "),
                })?;
            let Place::Pod { mode, .. } = place else {
                continue;
            };
            let block = self.nodes[node].block(*mode);
            let used = next.entry((node, *mode)).or_insert(1);
            let address = block.address(*used).ok_or_else(|| TopologyError::BlockFull {
                place: place.to_string(),
                node: place.node().to_owned(),
                block,
            })?;
            *used += 1;
            self.addresses.insert(place.clone(), address);
            self.pods.push(PodPlan {
                place: place.clone(),
                node,
                address,
                host_device: format!("cali{:011x}", fnv1a(&place.to_string()) & ((1 << 44) - 1)),
            });
        }
        Ok(())
    }

    /// The address of a place.
    pub fn address(&self, place: &Place) -> Option<Ipv4Addr> {
        self.addresses.get(place).copied()
    }

    /// All places with their addresses: nodes first, in the scenario's order.
    pub fn places(&self) -> impl Iterator<Item = (Place, Ipv4Addr)> {
        self.nodes
            .iter()
            .map(|node| (Place::Node(node.name.clone()), node.address))
            .chain(self.pods.iter().map(|pod| (pod.place.clone(), pod.address)))
    }

    /// The other nodes of a node's cluster.
    pub fn peers(&self, node: usize) -> impl Iterator<Item = Peer> {
        self.others(node).map(|peer| Peer {
            node: peer.address,
            vtep: peer.vtep,
            vtep_mac: peer.vtep_mac,
        })
    }

    /// What packets between a node and the others of its cluster are wrapped in.
    pub fn overlay(&self, node: usize) -> Overlay {
        self.overlays[self.nodes[node].cluster]
    }

    /// The other nodes of a node's cluster, as indices.
    pub fn peer_indices(&self, node: usize) -> impl Iterator<Item = usize> {
        let cluster = self.nodes[node].cluster;
        (0..self.nodes.len()).filter(move |other| *other != node && self.nodes[*other].cluster == cluster)
    }

    /// A node's routes to all blocks of its cluster, its own included.
    pub fn block_routes(&self, node: usize) -> Vec<BlockRoute> {
        let own = &self.nodes[node];
        let mut routes = vec![
            BlockRoute::Blackhole {
                block: own.cross_subnet,
            },
            BlockRoute::Blackhole { block: own.always },
        ];
        for peer in self.others(node) {
            routes.push(if peer.subnet == own.subnet {
                BlockRoute::Underlay {
                    block: peer.cross_subnet,
                    node: peer.address,
                }
            } else {
                BlockRoute::Tunnel {
                    block: peer.cross_subnet,
                    vtep: peer.vtep,
                }
            });
            routes.push(BlockRoute::Tunnel {
                block: peer.always,
                vtep: peer.vtep,
            });
        }
        routes
    }

    fn others(&self, node: usize) -> impl Iterator<Item = &NodePlan> {
        let cluster = self.nodes[node].cluster;
        self.nodes
            .iter()
            .enumerate()
            .filter(move |(index, other)| *index != node && other.cluster == cluster)
            .map(|(_, other)| other)
    }
}

impl NodePlan {
    /// Its block of the pool of `mode`.
    pub const fn block(&self, mode: VxlanMode) -> Cidr4 {
        match mode {
            VxlanMode::CrossSubnet => self.cross_subnet,
            VxlanMode::Always => self.always,
        }
    }
}

/// How many nodes a subnet has room for, beside its network, broadcast and router addresses.
const fn room(cidr: Cidr4) -> u64 {
    cidr.addresses().saturating_sub(3)
}

/// FNV-1a: short names out of long ones, the same on every machine.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The subnets and pools of a cluster.
struct ClusterRanges {
    subnets: Vec<Cidr4>,
    cross_subnet: Cidr4,
    always: Cidr4,
}

/// All subnets and pools, none overlapping another.
struct Ranges {
    taken: Vec<(Cidr4, String)>,
    clusters: Vec<ClusterRanges>,
}

impl Ranges {
    fn choose(lab: &Lab) -> Result<Self, TopologyError> {
        let mut names = BTreeSet::new();
        for node in lab
            .clusters
            .iter()
            .flat_map(|c| &c.subnets)
            .flat_map(|s| &s.nodes)
        {
            if !names.insert(node) {
                return Err(TopologyError::DuplicateNode(node.clone()));
            }
        }
        let mut ranges = Self {
            taken: [
                ("0.0.0.0/8", "this network"),
                ("127.0.0.0/8", "loopback"),
                (
                    "169.254.0.0/16",
                    "link-local addresses, the pods' gateway among them",
                ),
                ("224.0.0.0/3", "multicast and reserved addresses"),
            ]
            .into_iter()
            .filter_map(|(cidr, what)| Some((cidr.parse().ok()?, format!("{cidr} ({what})"))))
            .collect(),
            clusters: Vec::new(),
        };
        // What the scenario says is kept; the rest goes around it.
        for cluster in &lab.clusters {
            let name = &cluster.name;
            let calico = &cluster.calico;
            if !(20..=30).contains(&calico.block_size) {
                return Err(TopologyError::BlockSize {
                    cluster: name.clone(),
                    block_size: calico.block_size,
                });
            }
            if let Some(rules) = cluster.firewall.as_ref().map(|f| f.rules).filter(|r| *r > 10_000) {
                return Err(TopologyError::TooManyRules {
                    cluster: name.clone(),
                    rules,
                });
            }
            for (index, subnet) in cluster.subnets.iter().enumerate() {
                if let Some(cidr) = subnet.cidr {
                    ranges.take(cidr, &subnet_name(name, index))?;
                }
            }
            let nodes = cluster.subnets.iter().map(|s| s.nodes.len()).sum();
            for mode in VxlanMode::ALL {
                if let Some(pool) = pool_of(cluster, mode) {
                    let blocks = pool.blocks(calico.block_size);
                    if blocks < nodes as u64 {
                        return Err(TopologyError::PoolTooSmall {
                            pool: format!("{mode} pool {pool} of cluster {name:?}"),
                            blocks,
                            block_size: calico.block_size,
                            nodes,
                        });
                    }
                    ranges.take(pool, &pool_name(name, mode))?;
                }
            }
        }
        for (number, cluster) in (1u8..).zip(&lab.clusters) {
            let mut subnets = Vec::new();
            for (index, subnet) in cluster.subnets.iter().enumerate() {
                let what = subnet_name(&cluster.name, index);
                let cidr = if let Some(cidr) = subnet.cidr {
                    cidr
                } else {
                    let width = 32 - (subnet.nodes.len() + 3).next_power_of_two().ilog2() as u8;
                    ranges.find(width.min(24), &[Ipv4Addr::new(10, number, 0, 0)], &what)?
                };
                if room(cidr) < subnet.nodes.len() as u64 {
                    return Err(TopologyError::SubnetTooSmall {
                        subnet: format!("{what} {cidr}"),
                        room: room(cidr),
                        nodes: subnet.nodes.len(),
                    });
                }
                subnets.push(cidr);
            }
            let nodes: usize = cluster.subnets.iter().map(|s| s.nodes.len()).sum();
            let blocks = nodes.max(1).next_power_of_two().ilog2() as u8;
            let width = cluster.calico.block_size.saturating_sub(blocks).min(16);
            let mut pool = |mode| match pool_of(cluster, mode) {
                Some(pool) => Ok(pool),
                None => ranges.find(
                    width,
                    &[Ipv4Addr::new(10, 244, 0, 0), Ipv4Addr::new(10, 128, 0, 0)],
                    &pool_name(&cluster.name, mode),
                ),
            };
            let cross_subnet = pool(VxlanMode::CrossSubnet)?;
            let always = pool(VxlanMode::Always)?;
            ranges.clusters.push(ClusterRanges {
                subnets,
                cross_subnet,
                always,
            });
        }
        Ok(ranges)
    }

    fn take(&mut self, cidr: Cidr4, what: &str) -> Result<(), TopologyError> {
        let name = format!("{what} {cidr}");
        if let Some((_, other)) = self.taken.iter().find(|(other, _)| other.overlaps(cidr)) {
            return Err(TopologyError::Overlap {
                first: name,
                second: other.clone(),
            });
        }
        self.taken.push((cidr, name));
        Ok(())
    }

    /// The first free block of `prefix` in 10.0.0.0/8 at or after one of `starts`, tried in turn, or anywhere.
    fn find(&mut self, prefix: u8, starts: &[Ipv4Addr], what: &str) -> Result<Cidr4, TopologyError> {
        let no_room = || TopologyError::NoRoom {
            what: what.to_owned(),
            prefix,
        };
        let ten = Cidr4::new(Ipv4Addr::new(10, 0, 0, 0), 8).ok_or_else(no_room)?;
        let width = 32_u8.saturating_sub(prefix);
        let free = starts
            .iter()
            .map(|start| u64::from(start.to_bits() - ten.network().to_bits()) >> width)
            .chain([0])
            .flat_map(|first| first..ten.blocks(prefix))
            .filter_map(|index| ten.block(prefix, index))
            .find(|block| self.taken.iter().all(|(other, _)| !other.overlaps(*block)))
            .ok_or_else(no_room)?;
        self.take(free, what)?;
        Ok(free)
    }
}

const fn pool_of(cluster: &crate::scenario::Cluster, mode: VxlanMode) -> Option<Cidr4> {
    match mode {
        VxlanMode::CrossSubnet => cluster.calico.cross_subnet_pool,
        VxlanMode::Always => cluster.calico.always_pool,
    }
}

fn subnet_name(cluster: &str, index: usize) -> String {
    format!("subnet {} of cluster {cluster:?}", index + 1)
}

fn pool_name(cluster: &str, mode: VxlanMode) -> String {
    format!("{mode} pool of cluster {cluster:?}")
}

#[cfg(test)]
mod tests;
