//! The plan of the ready scenario, its order, and what the overrides do to it.

use super::{Overrides, Plan, PlanError, slug};
use crate::scenario::{Blocks, Encapsulation, Scenario, parse};
use crate::units::Span;
use proptest::prelude::*;
use std::time::Duration;

fn scenario() -> Scenario {
    parse(
        include_str!("../../../scenarios/calico-vxlan.yaml"),
        "calico-vxlan.yaml",
    )
    .unwrap()
}

fn subnets() -> Scenario {
    parse(
        include_str!("../../../scenarios/calico-subnets.yaml"),
        "calico-subnets.yaml",
    )
    .unwrap()
}

fn plan(overrides: &Overrides) -> Result<Plan, PlanError> {
    Plan::new(&scenario(), overrides, 7)
}

fn only(patterns: &[&str]) -> Overrides {
    Overrides {
        only: patterns.iter().map(|&text| text.to_owned()).collect(),
        ..Overrides::default()
    }
}

fn slugs(plan: &Plan) -> Vec<&str> {
    plan.cases.iter().map(|case| case.slug.as_str()).collect()
}

#[test]
fn every_path_with_every_workload() {
    let plan = plan(&Overrides::default()).unwrap();
    assert_eq!(
        slugs(&plan),
        [
            "node-to-node--tcp",
            "node-to-node--rr",
            "node-to-node--rr-under-load",
            "node-to-node--crr",
            "pod-to-pod-crosssubnet--tcp",
            "pod-to-pod-crosssubnet--rr",
            "pod-to-pod-crosssubnet--rr-under-load",
            "pod-to-pod-crosssubnet--crr",
            "pod-to-pod-always--tcp",
            "pod-to-pod-always--rr",
            "pod-to-pod-always--rr-under-load",
            "pod-to-pod-always--crr",
        ]
    );
    assert_eq!(
        plan.blocks,
        Blocks {
            at_least: 6,
            at_most: None
        }
    );
    let always = &plan.cases[10];
    assert_eq!(always.path.from.to_string(), "pod@east-1/Always");
    assert_eq!(
        always.load.as_ref(),
        plan.scenario.workloads[0].throughput.as_ref()
    );
    assert!(plan.cases[9].load.is_none());
}

#[test]
fn encapsulation_follows_mode_and_subnets() {
    let plan = Plan::new(&subnets(), &only(&["tcp"]), 0).unwrap();
    let expected: Vec<_> = plan
        .cases
        .iter()
        .map(|case| {
            (
                case.path.name.as_str(),
                case.path.expected,
                case.path.same_node,
                case.path.same_subnet,
            )
        })
        .collect();
    assert_eq!(
        expected,
        [
            ("nodes within a subnet", Encapsulation::None, false, true),
            ("nodes between subnets", Encapsulation::None, false, false),
            ("CrossSubnet on one node", Encapsulation::None, true, true),
            ("CrossSubnet within a subnet", Encapsulation::None, false, true),
            ("CrossSubnet between subnets", Encapsulation::Vxlan, false, false),
            ("Always on one node", Encapsulation::None, true, true),
            ("Always within a subnet", Encapsulation::Vxlan, false, true),
            ("Always between subnets", Encapsulation::Vxlan, false, false),
        ]
    );
}

#[test]
fn paths_between_clusters_go_by_the_gateways() {
    let text = include_str!("../../../scenarios/submariner-matrix.yaml");
    let plan = Plan::new(&parse(text, "s.yaml").unwrap(), &only(&["tcp"]), 0).unwrap();
    let path = |name: &str| {
        let case = plan.cases.iter().find(|case| case.path.name == name);
        case.unwrap().path.clone()
    };
    let nodes = path("node to node");
    assert_eq!((nodes.expected, nodes.crossing), (Encapsulation::None, None));
    for (name, arrival, back) in [
        (
            "CrossSubnet worker to worker",
            Encapsulation::None,
            Encapsulation::None,
        ),
        (
            "Always worker to worker",
            Encapsulation::Vxlan,
            Encapsulation::Vxlan,
        ),
        (
            "Always gateway to worker",
            Encapsulation::Vxlan,
            Encapsulation::None,
        ),
        (
            "Always gateway to gateway",
            Encapsulation::None,
            Encapsulation::None,
        ),
    ] {
        let path = path(name);
        assert_eq!(path.expected, Encapsulation::SubmarinerVxlan);
        let crossing = path.crossing.unwrap();
        assert_eq!(
            (crossing.from_gateway.as_str(), crossing.to_gateway.as_str()),
            ("east-1", "west-1")
        );
        assert_eq!(
            (crossing.arrival, crossing.return_arrival),
            (arrival, back),
            "{name}"
        );
    }
}

#[test]
fn patterns() {
    let kept = |patterns: &[&str]| {
        slugs(&plan(&only(patterns)).unwrap())
            .iter()
            .map(|slug| (*slug).to_owned())
            .collect::<Vec<_>>()
    };
    // A bare word is a whole name: `rr` is not `rr-under-load`.
    assert_eq!(
        kept(&["rr"]),
        [
            "node-to-node--rr",
            "pod-to-pod-crosssubnet--rr",
            "pod-to-pod-always--rr"
        ]
    );
    assert_eq!(kept(&["node-to-node"]).len(), 4);
    assert_eq!(kept(&["*/tcp"]).len(), 3);
    assert_eq!(kept(&["rr*"]).len(), 6);
    assert_eq!(
        kept(&["pod-to-pod Always/crr", "node-to-node/tcp"]),
        ["node-to-node--tcp", "pod-to-pod-always--crr"]
    );
    assert_eq!(kept(&["*"]).len(), 12);
    let error = plan(&only(&["tcp", "node-to-nod"])).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "--only 'node-to-nod' matches no case (did you mean 'node-to-node'?); there are: 'node-to-node/tcp', "
        ),
        "{error}"
    );
    assert!(matches!(plan(&only(&["[a"])), Err(PlanError::Pattern { .. })));
}

/// What is left keeps its slug, whatever else is left out.
#[test]
fn slugs_are_unique_and_stay() {
    let mut scenario = scenario();
    scenario.paths[1].name = "Node to node".to_owned();
    scenario.paths[2].name = "ノード".to_owned();
    scenario.reference.clear();
    scenario.gates.clear();
    let plan = |overrides| Plan::new(&scenario, &overrides, 0).unwrap();
    let all = plan(Overrides::default());
    assert_eq!(slugs(&all)[0], "node-to-node--tcp");
    assert_eq!(slugs(&all)[4], "node-to-node--tcp-2");
    assert_eq!(slugs(&all)[8], "path--tcp");
    assert_eq!(slugs(&plan(only(&["Node to node/tcp"]))), ["node-to-node--tcp-2"]);
}

#[test]
fn gates_over_what_is_left_out_are_skipped() {
    assert!(plan(&Overrides::default()).unwrap().skipped_gates.is_empty());
    assert!(plan(&only(&["tcp"])).unwrap().skipped_gates.is_empty());
    // The judged case is there, but not the one it is compared to.
    let plan = plan(&only(&["pod-to-pod CrossSubnet"])).unwrap();
    let (name, reason) = plan.skipped_gates.iter().next().unwrap();
    assert_eq!(name, "CrossSubnet is near bare metal");
    assert_eq!(reason, "--only leaves out node-to-node/tcp");
}

#[test]
fn overrides_of_blocks_and_durations() {
    let plan = plan(&Overrides {
        blocks: Some(3),
        duration: Some(Span::from_millis(700)),
        only: Vec::new(),
    })
    .unwrap();
    assert_eq!((plan.blocks.at_least, plan.blocks.most()), (3, 3));
    assert_eq!(plan.least_time(), plan.most_time());
    let tcp = plan.cases[0].workload.throughput.as_ref().unwrap();
    assert_eq!(
        (tcp.duration, tcp.omit),
        (Span::from_millis(700), Span::from_millis(500))
    );
    let probe = plan.cases[2].workload.latency.as_ref().unwrap();
    assert_eq!(probe.duration, Span::from_millis(700));
    // Overrides must make sense too.
    let error = Plan::new(
        &scenario(),
        &Overrides {
            blocks: Some(0),
            ..Overrides::default()
        },
        0,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the scenario can't be planned: blocks.at-least: at-least must be from 1 to 10000, not 0"
    );
}

#[test]
fn times_add_up() {
    let mut scenario = scenario();
    scenario.blocks.at_most = Some(60);
    let plan = Plan::new(&scenario, &Overrides::default(), 0).unwrap();
    let millis = Duration::from_millis;
    assert_eq!(
        Plan::trial_time(&plan.cases[0]),
        millis(500 + 2000) + Plan::TRIAL_OVERHEAD
    );
    assert_eq!(
        Plan::trial_time(&plan.cases[1]),
        millis(100 + 1000) + Plan::TRIAL_OVERHEAD
    );
    // Under load: the load's warm-up, then as long as the probe needs, whatever the load's own duration.
    let under_load = millis(500 + 100 + 1000) + Plan::LOAD_TAIL + Plan::TRIAL_OVERHEAD;
    assert_eq!(Plan::trial_time(&plan.cases[2]), under_load);
    let block: Duration = plan.cases.iter().map(Plan::trial_time).sum();
    assert_eq!(plan.least_time(), (block + Plan::BLOCK_OVERHEAD) * 6);
    assert_eq!(plan.most_time(), plan.least_time() * 10);
}

/// The order is written down here, so that no change of a library can change it for recorded seeds unnoticed.
#[test]
fn the_order_of_a_seed_is_forever() {
    let plan = plan(&Overrides::default()).unwrap();
    assert_eq!(plan.order(1), [2, 4, 0, 5, 1, 8, 10, 6, 7, 9, 3, 11]);
    assert_eq!(plan.order(2), [10, 7, 8, 3, 4, 11, 1, 6, 5, 9, 2, 0]);
}

#[test]
fn json_of_a_plan_reads_back() {
    let plan = plan(&only(&["rr-under-load"])).unwrap();
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
}

proptest! {
    /// Each block has every case once.
    #[test]
    fn orders_are_permutations(seed in any::<u64>(), block in any::<u32>()) {
        let plan = Plan { seed, ..plan(&Overrides::default()).unwrap() };
        let mut order = plan.order(block);
        prop_assert_eq!(&order, &plan.order(block));
        order.sort_unstable();
        prop_assert_eq!(order, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn slugs_are_plain(name in r"\PC{0,40}") {
        let slug = slug(&name, "fallback");
        prop_assert!(!slug.is_empty() && !slug.contains("--"));
        prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
    }
}

/// Every place in the order is drawn about as often by every case: with 12 000 blocks each of the 144 counts is
/// 1000 in the mean with a deviation of 30; six deviations are never seen by chance.
#[test]
fn orders_are_even() {
    let plan = plan(&Overrides::default()).unwrap();
    let mut counts = [[0_u32; 12]; 12];
    for block in 1..=12_000 {
        for (place, case) in plan.order(block).into_iter().enumerate() {
            counts[place][case] += 1;
        }
    }
    assert!(
        counts.iter().flatten().all(|count| (820..=1180).contains(count)),
        "{counts:?}"
    );
}
