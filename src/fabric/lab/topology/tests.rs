use super::{BlockRoute, Topology, TopologyError};
use crate::scenario::RpFilter;
use crate::scenario::{
    Cable, Calico, Cluster, Firewall, Lab, NicProfile, Place, Submariner, Subnet, VxlanMode,
};
use crate::units::{Bytes, Cidr4, Mtu};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;

/// A lab of clusters, each a list of its subnets' node counts.
fn lab(clusters: &[&[usize]]) -> Lab {
    let cluster = |(number, subnets): (usize, &&[usize])| Cluster {
        name: format!("c{number}"),
        subnets: subnets
            .iter()
            .enumerate()
            .map(|(subnet, nodes)| Subnet {
                nodes: (0..*nodes)
                    .map(|node| format!("c{number}-{subnet}-{node}"))
                    .collect(),
                cidr: None,
            })
            .collect(),
        gateway: None,
        rp_filter: RpFilter::default(),
        rp_filter_of: BTreeMap::new(),
        calico: Calico::default(),
        firewall: None,
    };
    Lab {
        nic: NicProfile::default(),
        submariner: None,
        faults: Vec::new(),
        clusters: clusters.iter().enumerate().map(cluster).collect(),
    }
}

fn pods(lab: &Lab, each: usize) -> BTreeSet<Place> {
    lab.clusters
        .iter()
        .flat_map(|c| &c.subnets)
        .flat_map(|s| &s.nodes)
        .flat_map(|node| {
            VxlanMode::ALL.into_iter().flat_map(move |mode| {
                (0..each).map(move |pod| Place::Pod {
                    pod: format!("pod-{pod}"),
                    node: node.clone(),
                    mode,
                })
            })
        })
        .collect()
}

fn cidr(text: &str) -> Cidr4 {
    text.parse().unwrap()
}

fn refused(lab: &Lab) -> String {
    Topology::plan(lab, &pods(lab, 1)).unwrap_err().to_string()
}

#[test]
fn submariner_takes_its_addresses_from_the_nodes() {
    let mut lab = lab(&[&[2], &[2]]);
    lab.submariner = Some(Submariner { cable: Cable::Vxlan });
    lab.clusters[1].gateway = Some("c1-0-1".to_owned());
    let plan = Topology::plan(&lab, &BTreeSet::new()).unwrap();
    assert_eq!(plan.submariner.as_ref().unwrap().gateways, [0, 3]);
    assert_eq!(plan.vx_submariner_address(1), Ipv4Addr::new(240, 1, 0, 3));
    assert_eq!(plan.cable_address(3), Ipv4Addr::new(241, 2, 0, 3));
    assert_eq!(plan.workers_of(3).collect::<Vec<_>>(), [2]);
    let remote: Vec<_> = plan.remote_clusters(0).collect();
    assert_eq!(remote, [(3, plan.pools[1].as_slice())]);
    lab.clusters[1].gateway = Some("c0-0-0".to_owned());
    assert!(matches!(
        Topology::plan(&lab, &BTreeSet::new()),
        Err(TopologyError::UnknownGateway { .. })
    ));
    // Two gateways whose addresses differ in the first octet only.
    lab.clusters[1].gateway = None;
    lab.clusters[0].subnets[0].cidr = Some(cidr("10.9.9.0/24"));
    lab.clusters[1].subnets[0].cidr = Some(cidr("172.9.9.0/24"));
    assert!(matches!(
        Topology::plan(&lab, &BTreeSet::new()),
        Err(TopologyError::SameTunnelAddress { .. })
    ));
}

#[test]
fn the_usual_lab_has_the_usual_addresses() {
    let lab = lab(&[&[2, 1]]);
    let plan = Topology::plan(&lab, &pods(&lab, 1)).unwrap();
    let places: Vec<String> = plan.places().map(|(p, a)| format!("{p} {a}")).collect();
    assert_eq!(
        places,
        [
            "c0-0-0 10.1.0.2",
            "c0-0-1 10.1.0.3",
            "c0-1-0 10.1.1.2",
            "pod-0@c0-0-0/CrossSubnet 10.244.0.1",
            "pod-0@c0-0-0/Always 10.245.0.1",
            "pod-0@c0-0-1/CrossSubnet 10.244.0.65",
            "pod-0@c0-0-1/Always 10.245.0.65",
            "pod-0@c0-1-0/CrossSubnet 10.244.0.129",
            "pod-0@c0-1-0/Always 10.245.0.129",
        ]
    );
    assert_eq!(
        plan.block_routes(0),
        [
            BlockRoute::Blackhole {
                block: cidr("10.244.0.0/26")
            },
            BlockRoute::Blackhole {
                block: cidr("10.245.0.0/26")
            },
            BlockRoute::Underlay {
                block: cidr("10.244.0.64/26"),
                node: [10, 1, 0, 3].into()
            },
            BlockRoute::Tunnel {
                block: cidr("10.245.0.64/26"),
                vtep: [10, 245, 0, 64].into()
            },
            BlockRoute::Tunnel {
                block: cidr("10.244.0.128/26"),
                vtep: [10, 245, 0, 128].into()
            },
            BlockRoute::Tunnel {
                block: cidr("10.245.0.128/26"),
                vtep: [10, 245, 0, 128].into()
            },
        ]
    );
    let device = &plan.pods[0].host_device;
    assert!(device.starts_with("cali") && device.len() == 15, "{device}");
}

#[test]
fn blocks_that_overlap_are_both_named() {
    let mut lab = lab(&[&[1], &[1]]);
    lab.clusters[0].subnets[0].cidr = Some(cidr("10.7.0.0/16"));
    lab.clusters[1].calico.always_pool = Some(cidr("10.7.128.0/20"));
    assert_eq!(
        refused(&lab),
        "Always pool of cluster \"c1\" 10.7.128.0/20 overlaps subnet 1 of cluster \"c0\" 10.7.0.0/16"
    );
    lab.clusters[1].calico.always_pool = Some(cidr("169.254.0.0/20"));
    assert!(refused(&lab).contains("link-local"), "{}", refused(&lab));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut small = lab(&[&[6]]);
    small.clusters[0].subnets[0].cidr = Some(cidr("10.9.0.0/29"));
    assert_eq!(
        refused(&small),
        "subnet 1 of cluster \"c0\" 10.9.0.0/29 has room for 5 nodes, not for 6"
    );
    small.clusters[0].subnets[0].nodes.pop();
    assert!(Topology::plan(&small, &BTreeSet::new()).is_ok());

    let mut pool = lab(&[&[3]]);
    pool.clusters[0].calico.cross_subnet_pool = Some(cidr("10.20.0.0/25"));
    assert_eq!(
        refused(&pool),
        "CrossSubnet pool 10.20.0.0/25 of cluster \"c0\" has 2 blocks of /26, one a node, but the cluster has 3 nodes"
    );

    let mut block = lab(&[&[1]]);
    block.clusters[0].calico.block_size = 30;
    assert!(Topology::plan(&block, &pods(&block, 3)).is_ok());
    assert!(matches!(
        Topology::plan(&block, &pods(&block, 4)),
        Err(TopologyError::BlockFull { .. })
    ));
    block.clusters[0].calico.block_size = 31;
    assert!(refused(&block).contains("block-size 31"));

    let mut rules = lab(&[&[1]]);
    rules.clusters[0].firewall = Some(Firewall {
        conntrack: true,
        rules: 10_001,
    });
    assert!(refused(&rules).contains("10001 packet filter rules"));
}

#[test]
fn nodes_are_unique_and_places_on_them() {
    let mut twice = lab(&[&[1], &[1]]);
    let name = twice.clusters[0].subnets[0].nodes[0].clone();
    twice.clusters[1].subnets[0].nodes[0].clone_from(&name);
    assert!(refused(&twice).starts_with("two nodes are named \"c0-0-0\""));
    let places = BTreeSet::from(["pod@nowhere/Always".parse().unwrap()]);
    let error = Topology::plan(&lab(&[&[2]]), &places).unwrap_err().to_string();
    assert_eq!(
        error,
        "pod@nowhere/Always is on node \"nowhere\", which no cluster of the lab has (nodes: c0-0-0, c0-0-1)"
    );
    assert_eq!(refused(&lab(&[])), TopologyError::Empty.to_string());
}

#[test]
fn a_burst_holds_packets() {
    let mut lab = lab(&[&[1]]);
    lab.nic.burst = Bytes(3027);
    assert!(refused(&lab).starts_with("a burst of 3027 bytes is less than two packets of MTU 1500"));
    lab.nic.burst = Bytes(3028);
    assert!(Topology::plan(&lab, &BTreeSet::new()).is_ok());
    lab.nic.burst = Bytes(0);
    lab.nic.rate = None;
    assert!(Topology::plan(&lab, &BTreeSet::new()).is_ok());
}

#[test]
fn every_mtu_there_is_leaves_room_inside() {
    let mut lab = lab(&[&[1]]);
    lab.nic.mtu = Mtu::new(576).unwrap();
    assert!(Topology::plan(&lab, &BTreeSet::new()).is_ok());
}

fn any_lab() -> impl Strategy<Value = Lab> {
    let subnets = prop::collection::vec(0_usize..8, 1..4);
    let clusters = prop::collection::vec((subnets, 20_u8..=29, any::<[bool; 3]>()), 1..4);
    clusters.prop_map(|clusters| {
        let sizes: Vec<&[usize]> = clusters.iter().map(|(subnets, ..)| subnets.as_slice()).collect();
        let mut lab = lab(&sizes);
        for (number, (cluster, (_, block_size, explicit))) in
            (0_u8..).zip(lab.clusters.iter_mut().zip(&clusters))
        {
            cluster.calico.block_size = *block_size;
            let [subnet, cross_subnet, always] = *explicit;
            // Where the lab would itself put things, to be in its way.
            cluster.subnets[0].cidr = subnet.then(|| cidr(&format!("10.{}.1.0/24", number + 1)));
            cluster.calico.cross_subnet_pool =
                cross_subnet.then(|| cidr(&format!("10.{}.0.0/15", 246 + 2 * number)));
            cluster.calico.always_pool = always.then(|| cidr(&format!("172.{}.0.0/15", 16 + 2 * number)));
        }
        lab
    })
}

proptest! {
    #[test]
    fn addresses_never_collide_and_routes_reach_every_block(lab in any_lab(), each in 0_usize..4) {
        let places = pods(&lab, each);
        let plan = match Topology::plan(&lab, &places) {
            Ok(plan) => plan,
            Err(error) => {
                prop_assert_eq!(error, TopologyError::Empty);
                return Ok(());
            }
        };
        prop_assert_eq!(plan.pods.len(), places.len());

        // All blocks and subnets are apart.
        let mut ranges: Vec<Cidr4> = plan.subnets.iter().map(|s| s.cidr).collect();
        ranges.extend(plan.nodes.iter().flat_map(|n| [n.cross_subnet, n.always]));
        for (index, one) in ranges.iter().enumerate() {
            for other in &ranges[index + 1..] {
                prop_assert!(!one.overlaps(*other), "{} and {}", one, other);
            }
        }

        // No address is given twice.
        let mut seen = HashSet::new();
        let given = plan.places().map(|(_, address)| address)
            .chain(plan.nodes.iter().map(|n| n.vtep))
            .chain(plan.subnets.iter().map(|s| s.router));
        for address in given {
            prop_assert!(seen.insert(address), "{} twice", address);
        }
        let devices: HashSet<_> = plan.pods.iter().map(|p| &p.host_device).collect();
        prop_assert_eq!(devices.len(), plan.pods.len());

        // Each is where it belongs, and what the scenario says is kept.
        for pod in &plan.pods {
            let Place::Pod { mode, .. } = &pod.place else { unreachable!() };
            prop_assert!(plan.nodes[pod.node].block(*mode).contains(pod.address));
        }
        let mut subnet = plan.subnets.iter();
        for cluster in &lab.clusters {
            for spec in &cluster.subnets {
                let made = subnet.next().unwrap();
                prop_assert!(spec.cidr.is_none_or(|cidr| cidr == made.cidr));
            }
        }
        for node in &plan.nodes {
            let spec = &lab.clusters[node.cluster];
            prop_assert!(plan.subnets[node.subnet].cidr.contains(node.address));
            prop_assert!(node.always.contains(node.vtep));
            prop_assert_eq!(node.always.prefix(), spec.calico.block_size);
            for (pool, block) in [
                (spec.calico.cross_subnet_pool, node.cross_subnet),
                (spec.calico.always_pool, node.always),
            ] {
                prop_assert!(pool.is_none_or(|pool| pool.overlaps(block)));
            }
        }

        // Each node has one route to each block of its cluster, by the way that the modes say.
        for (index, node) in plan.nodes.iter().enumerate() {
            let mut routes = plan.block_routes(index);
            for peer in plan.nodes.iter().filter(|peer| peer.cluster == node.cluster) {
                let expected = |block: Cidr4, mode: VxlanMode| match mode {
                    _ if peer.name == node.name => BlockRoute::Blackhole { block },
                    VxlanMode::CrossSubnet if peer.subnet == node.subnet => {
                        BlockRoute::Underlay { block, node: peer.address }
                    }
                    _ => BlockRoute::Tunnel { block, vtep: peer.vtep },
                };
                for mode in VxlanMode::ALL {
                    let wanted = expected(peer.block(mode), mode);
                    let at = routes.iter().position(|route| *route == wanted);
                    prop_assert!(at.is_some(), "{} lacks {:?}", node.name, wanted);
                    routes.remove(at.unwrap_or(0));
                }
            }
            prop_assert_eq!(routes, []);
        }
    }
}
