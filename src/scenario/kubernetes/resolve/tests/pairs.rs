//! Choices of several nodes, and the pairs of paths between them.

use super::*;

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
