//! Choices against made-up clusters.

mod pairs;

use super::*;
use crate::scenario::{CalicoApi, CalicoFacts, Encapsulation, Overrides, Plan, PoolFacts, Range, parse};

const SCENARIO: &str = include_str!("../../../../scenarios/kubernetes-calico.yaml");

fn scenario(nodes: &str) -> Scenario {
    let text = SCENARIO.replace(
        "      - { name: a }\n      - { name: b, same-subnet-as: a }\n",
        &format!("      - {nodes}\n").replace(" | ", "\n      - "),
    );
    parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
}

fn node(name: &str, address: &str, prefix: u8) -> NodeFacts {
    let zone = if name.ends_with('3') { "far" } else { "near" };
    NodeFacts {
        name: name.to_owned(),
        labels: BTreeMap::from([
            ("topology.kubernetes.io/zone".to_owned(), zone.to_owned()),
            ("node-role.kubernetes.io/worker".to_owned(), String::new()),
        ]),
        internal_ip: address.parse().ok(),
        calico_address: address.parse().ok().map(|address| (address, prefix)),
        ..NodeFacts::default()
    }
}

fn pool_of(name: &str, cidr: &str, mode: Option<VxlanMode>) -> PoolFacts {
    PoolFacts {
        name: name.to_owned(),
        cidr: cidr.parse().unwrap(),
        vxlan_mode: mode,
        ipip: false,
        disabled: false,
        block_size: 26,
        made_by: None,
        nat_outgoing: true,
        disable_bgp_export: false,
        of_submariner: false,
    }
}

/// Nodes 1 and 2 in one subnet, 3 in another; a CrossSubnet pool.
fn cluster() -> ClusterFacts {
    ClusterFacts {
        name: Kubernetes::ONLY.to_owned(),
        version: "v1.30.0".to_owned(),
        nodes: vec![
            node("n1", "10.0.1.11", 24),
            node("n2", "10.0.1.12", 24),
            node("n3", "10.0.2.13", 24),
        ],
        calico: Some(CalicoFacts {
            api: CalicoApi::Crd,
            pools: vec![pool_of("default", "10.244.0.0/16", Some(VxlanMode::CrossSubnet))],
            felix: BTreeMap::new(),
            version: None,
        }),
        ..ClusterFacts::default()
    }
}

fn own_pools() -> Permissions {
    Permissions {
        own_pools: true,
        ..Permissions::default()
    }
}

fn resolved(scenario: &Scenario, facts: ClusterFacts, permissions: &Permissions) -> Resolved {
    let resolved =
        resolve(scenario, &[facts], permissions, |_| true).unwrap_or_else(|error| panic!("{error}"));
    let Fabric::Kubernetes(spec) = resolved.fabric else {
        panic!("no cluster")
    };
    spec.resolved.unwrap()
}

fn refused(scenario: &Scenario, facts: ClusterFacts, permissions: &Permissions) -> ResolveError {
    resolve(scenario, &[facts], permissions, |_| true).unwrap_err()
}

fn chosen(nodes: &str) -> Vec<String> {
    let resolved = resolved(&scenario(nodes), cluster(), &own_pools());
    resolved.nodes.into_iter().map(|node| node.node).collect()
}

#[test]
fn nodes_are_chosen_by_all_that_is_said() {
    assert_eq!(
        chosen("{ name: a } | { name: b, same-subnet-as: a }"),
        ["n1", "n2"]
    );
    assert_eq!(
        chosen("{ name: a } | { name: b, other-subnet-than: a }"),
        ["n1", "n3"]
    );
    assert_eq!(chosen("{ name: a, zone: far } | { name: b }"), ["n3", "n1"]);
    assert_eq!(
        chosen("{ name: a, node: n2 } | { name: b, role: worker }"),
        ["n2", "n1"]
    );
    let labels = "{ name: a, labels: { topology.kubernetes.io/zone: far } } | { name: b }";
    assert_eq!(chosen(labels), ["n3", "n1"]);
}

#[test]
fn why_no_node_fits_is_said_of_each() {
    let mut facts = cluster();
    facts.nodes[1].unusable = Some("is cordoned".to_owned());
    let text = refused(
        &scenario("{ name: a } | { name: b, same-subnet-as: a }"),
        facts,
        &own_pools(),
    )
    .to_string();
    assert_eq!(
        text,
        "no node of the cluster fits b (n1: is a already; n2: is cordoned; n3: is in 10.0.2.0/24, not in 10.0.1.0/24 of \
         a)"
    );
}

#[test]
fn a_run_that_goes_on_keeps_its_nodes() {
    let first = scenario("{ name: a, node: n2 } | { name: b }");
    let first = resolve(&first, &[cluster()], &own_pools(), |_| true).unwrap();
    let mut again = first.clone();
    if let Fabric::Kubernetes(spec) = &mut again.fabric {
        spec.nodes[0].node = None;
    }
    let again = resolve(&again, &[cluster()], &own_pools(), |_| true).unwrap();
    let nodes = |scenario: &Scenario| match &scenario.fabric {
        Fabric::Kubernetes(spec) => spec.resolved.clone().unwrap().nodes,
        Fabric::Lab(_) | Fabric::Hosts(_) => Vec::new(),
    };
    assert_eq!(nodes(&first), nodes(&again));
}

fn expectations(nodes: &str, facts: ClusterFacts) -> Vec<Encapsulation> {
    let resolved = resolve(&scenario(nodes), &[facts], &own_pools(), |_| true).unwrap();
    let plan = Plan::new(&resolved, &Overrides::default(), 1).unwrap();
    let mut paths: Vec<_> = plan.cases.iter().map(|case| &case.path).collect();
    paths.dedup_by_key(|path| &path.name);
    paths.into_iter().map(|path| path.expected).collect()
}

#[test]
fn what_is_expected_follows_the_subnets_of_the_cluster() {
    use Encapsulation::{None, Vxlan};
    assert_eq!(
        expectations("{ name: a } | { name: b, same-subnet-as: a }", cluster()),
        [None, None, Vxlan]
    );
    assert_eq!(
        expectations("{ name: a } | { name: b, node: n3 }", cluster()),
        [None, Vxlan, Vxlan]
    );
}

/// Calico takes a /32 for a subnet of its own and encapsulates everything; what is expected is what the subnet that
/// the node is really in makes of CrossSubnet, so that the evidence contradicts it.
#[test]
fn a_node_alone_in_its_subnet_is_told_of() {
    let mut facts = cluster();
    facts.nodes[0].calico_address = "10.0.1.11".parse().ok().map(|address| (address, 32));
    let scenario = scenario("{ name: a, node: n1 } | { name: b, same-subnet-as: a }");
    let found = resolved(&scenario, facts.clone(), &own_pools());
    assert_eq!(found.nodes[0].subnet, found.nodes[1].subnet);
    assert_eq!(
        found.notes,
        [
            "Calico has node n1 as 10.0.1.11/32, alone in its subnet: CrossSubnet then encapsulates everything to and \
             from it; it is taken to be in 10.0.1.0/24"
        ]
    );
    assert_eq!(
        expectations("{ name: a } | { name: b, same-subnet-as: a }", facts),
        [Encapsulation::None, Encapsulation::None, Encapsulation::Vxlan]
    );
}

const PAIR: &str = "{ name: a } | { name: b, same-subnet-as: a }";

#[test]
fn pools_that_are_there_are_used() {
    let mut facts = cluster();
    let calico = facts.calico.as_mut().unwrap();
    calico
        .pools
        .push(pool_of("big", "10.200.0.0/16", Some(VxlanMode::Always)));
    let found = resolved(&scenario(PAIR), facts, &Permissions::default());
    let pools: Vec<_> = found
        .pools
        .iter()
        .map(|pool| (pool.mode, pool.name.as_str(), pool.own))
        .collect();
    assert_eq!(
        pools,
        [
            (VxlanMode::CrossSubnet, "default", false),
            (VxlanMode::Always, "big", false)
        ]
    );
}

#[test]
fn pools_of_our_own_take_leave() {
    let told = refused(&scenario(PAIR), cluster(), &Permissions::default());
    assert!(matches!(&told, ResolveError::NotAllowed(text) if text.contains("--allow-ippools")));
    let found = resolved(&scenario(PAIR), cluster(), &own_pools());
    let own = &found.pools[1];
    assert_eq!(
        (own.cidr.to_string().as_str(), own.block_size, own.own),
        ("198.18.0.0/24", 28, true)
    );
}

#[test]
fn a_disabled_pool_or_one_of_another_run_is_not_used() {
    for spoil in [
        (|pool| pool.disabled = true) as fn(&mut PoolFacts),
        |pool| pool.made_by = Some("other".to_owned()),
        |pool| pool.ipip = true,
    ] {
        let mut facts = cluster();
        let mut always = pool_of("big", "10.200.0.0/16", Some(VxlanMode::Always));
        spoil(&mut always);
        facts.calico.as_mut().unwrap().pools.push(always);
        let found = resolved(&scenario(PAIR), facts, &own_pools());
        assert!(found.pools[1].own, "{:?}", found.pools);
    }
}

#[test]
fn own_pools_stay_clear_of_everything() {
    let mut facts = cluster();
    facts.ranges = vec![Range {
        cidr: "198.18.0.0/16".parse().unwrap(),
        what: "services".to_owned(),
    }];
    let found = resolved(&scenario(PAIR), facts.clone(), &own_pools());
    assert_eq!(found.pools[1].cidr.to_string(), "198.19.0.0/24");
    facts.ranges[0].cidr = "198.18.0.0/15".parse().unwrap();
    let told = refused(&scenario(PAIR), facts, &own_pools()).to_string();
    assert!(told.contains("services is there (198.18.0.0/15)"), "{told}");
}

#[test]
fn the_first_vxlan_pool_takes_an_option_of_its_own() {
    let mut facts = cluster();
    facts.calico.as_mut().unwrap().pools = vec![pool_of("plain", "10.244.0.0/16", None)];
    let told = refused(&scenario(PAIR), facts.clone(), &own_pools());
    assert!(matches!(&told, ResolveError::NotAllowed(text) if text.contains("--allow-first-vxlan-pool")));
    let both = Permissions {
        first_vxlan_pool: true,
        ..own_pools()
    };
    let found = resolved(&scenario(PAIR), facts, &both);
    assert!(found.pools.iter().all(|pool| pool.own));
    assert!(!found.pools[0].cidr.overlaps(found.pools[1].cidr));
}

#[test]
fn a_pool_that_is_changed_stands_for_what_it_becomes() {
    let change = Permissions {
        change: BTreeMap::from([("default".to_owned(), VxlanMode::Always)]),
        ..Permissions::default()
    };
    let told = refused(&scenario(PAIR), cluster(), &change).to_string();
    assert!(
        told.contains("no enabled IPPool with vxlanMode CrossSubnet"),
        "{told}"
    );
}

#[test]
fn without_calico_only_nodes_are_measured() {
    let mut facts = cluster();
    facts.calico = None;
    facts.no_calico = Some("the API has no IPPools of Calico".to_owned());
    let told = refused(&scenario(PAIR), facts, &own_pools()).to_string();
    assert!(told.contains("the API has no IPPools of Calico"), "{told}");
    assert!(told.contains("--only"), "{told}");
}

#[test]
fn only_what_is_run_must_be_there() {
    let mut facts = cluster();
    facts.calico = None;
    let nodes = "{ name: a } | { name: b, same-subnet-as: a } | { name: c, zone: nowhere }";
    let only = |path: &PathSpec| path.name == "node-to-node";
    let found = resolve(&scenario(nodes), &[facts], &Permissions::default(), only).unwrap();
    let Fabric::Kubernetes(spec) = found.fabric else {
        panic!("no cluster")
    };
    let found = spec.resolved.unwrap();
    assert_eq!((found.nodes.len(), found.pools.len()), (2, 0));
}

#[test]
fn nodes_are_chosen_by_what_submariner_says_of_them() {
    let of = |nodes: &str, facts: ClusterFacts| {
        let resolved = resolved(&scenario(nodes), facts, &own_pools());
        resolved
            .nodes
            .into_iter()
            .map(|node| node.node)
            .collect::<Vec<_>>()
    };
    let nodes = "{ name: a, submariner: gateway } | { name: b, submariner: non-gateway }";
    let mut facts = cluster();
    let gateway = |node: &str, active| super::super::GatewayFacts {
        node: node.to_owned(),
        active,
        ..super::super::GatewayFacts::default()
    };
    facts.submariner = Some(SubmarinerFacts {
        // One that stands by is no gateway to packets.
        gateways: vec![gateway("n1", false), gateway("n2", true)],
        ..SubmarinerFacts::default()
    });
    assert_eq!(of(nodes, facts.clone()), ["n2", "n1"]);
    facts.submariner = None;
    let error = refused(&scenario(nodes), facts, &own_pools()).to_string();
    assert!(error.contains("is no active gateway of Submariner"), "{error}");
}
