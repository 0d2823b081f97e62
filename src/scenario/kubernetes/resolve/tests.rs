//! Choices against made-up clusters.

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

/// Five nodes: three in one subnet, two in another.
fn five() -> ClusterFacts {
    let mut facts = cluster();
    facts
        .nodes
        .extend([node("n4", "10.0.2.14", 24), node("n5", "10.0.1.15", 24)]);
    facts
}

/// The scenario with `up-to: N` nodes called w, and paths between them.
fn of_groups(nodes: &str, paths: &str) -> Scenario {
    let start = SCENARIO.split("paths:\n").next().unwrap().replace(
        "      - { name: a }\n      - { name: b, same-subnet-as: a }\n",
        &format!("      - {nodes}\n"),
    );
    let text =
        format!("{start}paths:\n{paths}workloads:\n  - {{ name: tcp, throughput: {{ protocol: tcp }} }}\n");
    parse(&text, "test.yaml").unwrap_or_else(|error| panic!("{error}"))
}

/// Each pair of a run, as `path: from -> to`.
fn pairs(scenario: &Scenario, facts: ClusterFacts) -> Vec<String> {
    let resolved = resolve(scenario, &[facts], &own_pools(), |_| true).unwrap();
    let plan = Plan::new(&resolved, &Overrides::default(), 1).unwrap_or_else(|error| panic!("{error}"));
    let paths = plan.cases.iter().map(|case| &case.path);
    paths
        .flat_map(|path| {
            path.pairs()
                .map(|pair| format!("{}: {} -> {}", path.name, pair.from, pair.to))
        })
        .collect()
}

const GROUP: &str = "{ name: w, up-to: 4 }";

#[test]
fn all_pairs_of_several_nodes_are_spelled_out() {
    let path = "  - { name: mesh, from: pod@w, to: pod@w, vxlan-mode: Always, all-pairs: {} }\n";
    let scenario = of_groups(GROUP, path);
    let resolved = resolve(&scenario, &[five()], &own_pools(), |_| true).unwrap();
    let Fabric::Kubernetes(spec) = &resolved.fabric else {
        panic!("no cluster")
    };
    let names: Vec<_> = spec
        .nodes
        .iter()
        .map(|choice| (choice.name.as_str(), choice.node.as_deref()))
        .collect();
    assert_eq!(
        names,
        [
            ("w-1", Some("n1")),
            ("w-2", Some("n2")),
            ("w-3", Some("n3")),
            ("w-4", Some("n4"))
        ]
    );
    assert_eq!(spec.resolved.as_ref().unwrap().notes, [""; 0]);
    let all = pairs(&scenario, five());
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(
        all.contains(&"mesh, w-1 to w-2: pod@w-1/Always -> pod@w-2/Always".to_owned())
            || all.contains(&"mesh, w-2 to w-1: pod@w-2/Always -> pod@w-1/Always".to_owned()),
        "{all:?}"
    );
    // A run that goes on has the same, and so has whoever resolves what is resolved.
    assert_eq!(
        resolve(&resolved, &[five()], &own_pools(), |_| true).unwrap(),
        resolved
    );
}

#[test]
fn there_are_as_many_nodes_as_fit() {
    let path = "  - { name: mesh, from: w, to: w, all-pairs: {} }\n";
    assert_eq!(
        pairs(&of_groups("{ name: w, up-to: 20 }", path), five()).len(),
        10
    );
    assert_eq!(
        pairs(&of_groups("{ name: w, up-to: 20, zone: near }", path), five()).len(),
        6
    );
    let refused = refused(
        &of_groups("{ name: w, up-to: 20, zone: far }", path),
        five(),
        &own_pools(),
    );
    assert_eq!(
        refused.to_string(),
        "mesh has no pair of two nodes: its nodes are w-1 (n3 in 10.0.2.0/24)"
    );
}

#[test]
fn pairs_are_of_one_subnet_of_two_or_of_one_node() {
    let of = |only: &str, to: &str| {
        let path = format!(
            "  - {{ name: m, from: pod@w, to: {to}, vxlan-mode: CrossSubnet, all-pairs: {{ only: {only} }} }}\n"
        );
        pairs(&of_groups("{ name: w, up-to: 5 }", &path), five())
    };
    assert_eq!(
        of("same-subnet", "pod@w").len(),
        4,
        "three of one subnet, two of the other"
    );
    assert_eq!(of("other-subnet", "pod@w").len(), 6);
    let same = of("same-node", "pod-2@w");
    assert_eq!(same.len(), 5);
    assert_eq!(
        same[0],
        "m, w-1 to w-1: pod@w-1/CrossSubnet -> pod-2@w-1/CrossSubnet"
    );
}

#[test]
fn one_node_meets_all_others_and_both_ways() {
    let path = "  - { name: star, from: a, to: w, all-pairs: { both-ways: true } }\n";
    let all = pairs(
        &of_groups(
            "{ name: a, zone: far }\n      - { name: w, up-to: 3, zone: near }",
            path,
        ),
        five(),
    );
    let expected = [
        "star, a to w-1: a -> w-1",
        "star, w-1 to a: w-1 -> a",
        "star, a to w-2: a -> w-2",
    ];
    assert_eq!(all[..3], expected);
    assert_eq!(all.len(), 6);
}

#[test]
fn the_limit_is_said_and_shares_the_pairs() {
    let path = "  - { name: mesh, from: w, to: w, all-pairs: { at-most: 5 } }\n";
    let scenario = of_groups("{ name: w, up-to: 5 }", path);
    let all = pairs(&scenario, five());
    assert_eq!(all.len(), 5);
    for number in 1..=5 {
        let name = format!("w-{number}");
        let times = all
            .iter()
            .filter(|pair| pair.split(": ").nth(1).unwrap().contains(&name))
            .count();
        assert!((1..=3).contains(&times), "{name} is in {times} of {all:?}");
    }
    let notes = resolved(&scenario, five(), &own_pools()).notes;
    assert!(
        notes[0].starts_with("mesh has 10 pairs, of which 5 are measured"),
        "{notes:?}"
    );
}

#[test]
fn all_pairs_may_be_loaded_at_once() {
    let path =
        "  - { name: mesh, from: pod@w, to: pod@w, vxlan-mode: Always, all-pairs: { together: true } }\n";
    let scenario = of_groups(GROUP, path);
    let all = pairs(&scenario, five());
    assert_eq!(all.len(), 6);
    assert!(all.iter().all(|pair| pair.starts_with("mesh: ")), "{all:?}");
    // Packets of CrossSubnet go two ways between subnets and within them, which can't be told apart.
    let mixed = of_groups(GROUP, &path.replace("Always", "CrossSubnet"));
    let mixed = resolve(&mixed, &[five()], &own_pools(), |_| true).unwrap();
    let told = Plan::new(&mixed, &Overrides::default(), 1)
        .unwrap_err()
        .to_string();
    assert!(told.contains("could not be told apart"), "{told}");
    let within = path
        .replace("Always", "CrossSubnet")
        .replace("together", "only: same-subnet, together");
    assert_eq!(pairs(&of_groups(GROUP, &within), five()).len(), 2);
}

#[test]
fn gates_and_references_are_of_each_pair() {
    let paths = "  - { name: plain, from: w, to: w, all-pairs: {} }\n  - { name: pods, from: pod@w, to: pod@w, \
                 vxlan-mode: Always, all-pairs: {} }\n";
    let mut scenario = of_groups("{ name: w, up-to: 3 }", paths);
    let more = "reference: [ { path: pods, workload: tcp, throughput: 1MB/s } ]\ngates: [ { name: near, path: pods, \
                workload: tcp, metric: throughput, relative-to: plain, at-least: 0.1 } ]\n";
    let more = format!("{}{more}", SCENARIO.split("reference:").next().unwrap());
    let more: Scenario = serde_saphyr::from_str(&more).unwrap();
    (scenario.gates, scenario.reference) = (more.gates, more.reference);
    let resolved = resolve(&scenario, &[five()], &own_pools(), |_| true).unwrap();
    assert_eq!(
        (
            resolved.paths.len(),
            resolved.gates.len(),
            resolved.reference.len()
        ),
        (6, 3, 3)
    );
    for gate in &resolved.gates {
        let pair = gate.name.strip_prefix("near, ").unwrap();
        assert_eq!(gate.path, format!("pods, {pair}"));
        assert_eq!(
            gate.relative_to.as_deref(),
            Some(format!("plain, {pair}").as_str())
        );
    }
    Plan::new(&resolved, &Overrides::default(), 1).unwrap();
    // Pair by pair takes the same pairs.
    scenario.paths[0].all_pairs = Some(crate::scenario::AllPairs {
        at_most: 1,
        ..Default::default()
    });
    let told = refused(&scenario, five(), &own_pools()).to_string();
    assert!(
        told.contains("compares `pods` pair by pair with `plain`, which has no pair"),
        "{told}"
    );
}

#[test]
fn what_makes_no_sense_of_several_nodes_is_refused() {
    let told = |nodes: &str, paths: &str| {
        let start = SCENARIO.split("paths:\n").next().unwrap().replace(
            "      - { name: a }\n      - { name: b, same-subnet-as: a }\n",
            &format!("      - {nodes}\n"),
        );
        let text = format!(
            "{start}paths:\n  - {{ name: p, {paths} }}\nworkloads:\n  - {{ name: tcp, throughput: {{ protocol: tcp }} }}\n"
        );
        parse(&text, "test.yaml")
            .err()
            .map_or_else(String::new, |error| error.to_string())
    };
    let group = "{ name: w, up-to: 4 }";
    let two = "{ name: a }\n      - { name: b }";
    let cases = [
        (group, "from: w, to: w", "the path must say which pairs it is of"),
        (
            two,
            "from: a, to: b, all-pairs: {}",
            "give a node of Kubernetes `up-to: 6`",
        ),
        (
            group,
            "from: w, to: w, all-pairs: { at-most: 0 }",
            "from 1 to 1000, not 0",
        ),
        (
            group,
            "from: w, to: w, all-pairs: { only: same-node }",
            "are not two pods of the same nodes",
        ),
        (
            "{ name: w, up-to: 1 }",
            "from: w, to: w, all-pairs: {}",
            "from 2 to 256, not 1",
        ),
        (
            "{ name: w, up-to: 2, node: n1 }",
            "from: w, to: w, all-pairs: {}",
            "is the name of one node",
        ),
        (
            "{ name: w, up-to: 2 }\n      - { name: w-2 }",
            "from: w, to: w, all-pairs: {}",
            "is called `w-2`, as another",
        ),
        (
            "{ name: w, up-to: 2 }\n      - { name: b, same-subnet-as: w }",
            "from: b, to: w, all-pairs: {}",
            "may be in several subnets",
        ),
        (
            group,
            "from: w, to: w, all-pairs: {}, together-with: [ { from: w, to: w } ]",
            "stands for several nodes",
        ),
        (
            group,
            "from: pod@w, to: pod@w, vxlan-mode: Always, by: cluster-ip, all-pairs: { together: true }",
            "can't go by Services",
        ),
    ];
    for (nodes, paths, why) in cases {
        let told = told(nodes, paths);
        assert!(told.contains(why), "{nodes}, {paths}: {told}");
    }
    assert_eq!(told(group, "from: w, to: w, all-pairs: { at-most: 3 }"), "");
}
