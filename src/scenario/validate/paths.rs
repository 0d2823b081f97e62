//! Paths: their ends, what stands between these, and the pairs that they stand for.

use super::{Problems, case_name_fault};
use crate::scenario::{
    AllPairs, Fabric, PathSpec, PlaceRef, Scenario, Which, Workload,
    plan::{crossing, expected},
    problem::Step,
};
use std::collections::BTreeSet;

/// The most pairs that are loaded at once.
const MOST_PAIRS: u64 = 2_000;

pub(super) fn path(scenario: &Scenario, spec: &PathSpec, at: &[Step; 2], problems: &mut Problems) {
    let path_at = at;
    let at = |key: &'static str| vec![path_at[0], path_at[1], key.into()];
    if let Some(fault) = case_name_fault(&spec.name) {
        problems.say(&at("name"), format!("a path's name {fault}"), None);
    }
    let before = problems.0.len();
    groups(scenario, spec, &at, problems);
    ends(scenario, spec, &at, problems);
    for (index, pair) in spec.together_with.iter().enumerate() {
        let at = |key: &'static str| match key {
            "from" | "to" => vec![
                path_at[0],
                path_at[1],
                "together-with".into(),
                index.into(),
                key.into(),
            ],
            of_path => at(of_path),
        };
        ends(scenario, &spec.alone(pair), &at, problems);
    }
    if problems.0.len() == before {
        together(scenario, spec, path_at, problems);
    }
    if !spec.expect.is_reachable() && (!spec.by.is_address() || !spec.together_with.is_empty()) {
        problems.say(
            &at("expect"),
            "a path that nothing gets through is of one pair, by the address of its end",
            "leave `by` and `together-with` out, and give each pair a path of its own".to_owned(),
        );
    }
}

/// What holds of ends that stand for several nodes.
fn groups(
    scenario: &Scenario,
    spec: &PathSpec,
    at: &impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) {
    let group = |place: &PlaceRef| match &scenario.fabric {
        Fabric::Kubernetes(kubernetes) => kubernetes
            .choice(place.node())
            .filter(|choice| choice.up_to.is_some()),
        Fabric::Lab(_) | Fabric::Hosts(_) => None,
    };
    for (index, pair) in spec.together_with.iter().enumerate() {
        for (key, place) in [("from", &pair.from), ("to", &pair.to)] {
            if let Some(choice) = group(place) {
                problems.say(
                    &[&at("together-with")[..], &[index.into(), key.into()]].concat(),
                    format!("`{}` stands for several nodes", choice.name),
                    "a path of its own takes all pairs of them: `all-pairs: { together: true }`".to_owned(),
                );
            }
        }
    }
    let several = [("from", &spec.from), ("to", &spec.to)]
        .into_iter()
        .find_map(|(key, place)| Some((key, group(place)?)));
    let Some(pairs) = &spec.all_pairs else {
        if let Some((key, choice)) = several {
            problems.say(
                &at(key),
                format!(
                    "`{}` stands for several nodes, so the path must say which pairs it is of",
                    choice.name
                ),
                "for instance `all-pairs: { at-most: 12 }`".to_owned(),
            );
        }
        return;
    };
    let list = at("all-pairs");
    if several.is_none() {
        problems.say(
            &list,
            "`all-pairs` is of paths at whose ends are several nodes, and these are single ones",
            "give a node of Kubernetes `up-to: 6`, so that it stands for as many as fit".to_owned(),
        );
    }
    problems.number(
        &[&list[..], &["at-most".into()]].concat(),
        "the number of pairs",
        u64::from(pairs.at_most),
        1..=u64::from(AllPairs::MOST),
    );
    if !spec.together_with.is_empty() {
        problems.say(
            &list,
            "`all-pairs` says all of the pairs, and `together-with` says others",
            "leave one of them out".to_owned(),
        );
    }
    let only = [&list[..], &["only".into()]].concat();
    let one_group = spec.from.node() == spec.to.node();
    if pairs.only == Some(Which::SameNode) && !(one_group && spec.from != spec.to) {
        problems.say(
            &only,
            format!(
                "`{}` and `{}` are not two pods of the same nodes",
                spec.from, spec.to
            ),
            format!("for instance `from: pod@{0}`, `to: pod-2@{0}`", spec.from.node()),
        );
    }
}

/// What holds of the pairs of a path that are loaded at once.
fn together(scenario: &Scenario, spec: &PathSpec, at: &[Step; 2], problems: &mut Problems) {
    let list = [at[0], at[1], "together-with".into()];
    if spec.together_with.is_empty() {
        return;
    }
    problems.number(
        &list,
        "the number of pairs",
        spec.together_with.len() as u64 + 1,
        2..=MOST_PAIRS,
    );
    if let Some(search) = scenario.workloads.iter().find(|workload| {
        workload
            .throughput
            .as_ref()
            .is_some_and(|test| test.highest_rate.is_some())
    }) {
        problems.say(
            &list,
            format!(
                "the workload `{}` searches a rate, which pairs that are loaded at once can't do",
                search.name
            ),
            "give the search, or the pairs, a scenario of their own".to_owned(),
        );
    }
    let same_node = |from: &PlaceRef, to: &PlaceRef| from.node() == to.node();
    let mut seen = BTreeSet::from([(spec.from.to_string(), spec.to.to_string())]);
    for (index, pair) in spec.together_with.iter().enumerate() {
        let at = [list[0], list[1], list[2], index.into()];
        let alone = spec.alone(pair);
        if !seen.insert((pair.from.to_string(), pair.to.to_string())) {
            problems.say(
                &at,
                format!(
                    "the pair `{}` to `{}` is here for the second time",
                    pair.from, pair.to
                ),
                "for more load between the same places raise `streams` of the workload".to_owned(),
            );
        }
        let expected_alone = expected(scenario, &alone);
        if crossing(scenario, spec).is_some() || crossing(scenario, &alone).is_some() {
            problems.say(
                &at,
                "pairs of different clusters can't be loaded at once yet: what the gateways carry can't be told apart",
                "keep all pairs of the path in one cluster".to_owned(),
            );
        } else if expected_alone != expected(scenario, spec)
            || same_node(&pair.from, &pair.to) != same_node(&spec.from, &spec.to)
        {
            let words = |spec: &PathSpec| {
                if same_node(&spec.from, &spec.to) {
                    "stay on one node".to_owned()
                } else if expected(scenario, spec).is_tunnel() {
                    format!("are wrapped in {}", expected(scenario, spec))
                } else {
                    "go plain".to_owned()
                }
            };
            problems.say(
                &at,
                format!(
                    "packets of this pair {}, those of the path's first pair {}: the devices' bytes could not be told \
                     apart",
                    words(&alone),
                    words(spec)
                ),
                "make it a path of its own".to_owned(),
            );
        }
    }
}

/// What holds of the two ends of a path, or of one of its pairs. `at` is where the file says a key of it.
fn ends(
    scenario: &Scenario,
    spec: &PathSpec,
    at: &impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) {
    let nodes: Vec<&str> = scenario.nodes().map(|node| node.name).collect();
    let mut known = true;
    for (key, place) in [("from", &spec.from), ("to", &spec.to)] {
        known &= problems.known(&at(key), "node", "nodes", place.node(), &nodes);
    }
    if let Fabric::Hosts(hosts) = &scenario.fabric {
        if !super::hosts::path(scenario, hosts, spec, at, problems) {
            return;
        }
    } else if spec.encapsulation.is_some() && !matches!(scenario.fabric, Fabric::Kubernetes(_)) {
        problems.say(
            &at("encapsulation"),
            "`encapsulation` is said of paths between hosts or of clusters; a lab knows it",
            "leave it out".to_owned(),
        );
    }
    if !spec.by.is_address() {
        by_service(scenario, spec, &at("by"), problems);
    }
    let pod = [&spec.from, &spec.to].into_iter().find(|place| place.is_pod());
    match (pod, spec.vxlan_mode) {
        (Some(pod), None) => problems.say(
            &at(if spec.from.is_pod() { "from" } else { "to" }),
            format!("`{pod}` is a pod, so the path must say which pool its address is from"),
            "add `vxlan-mode: CrossSubnet` or `vxlan-mode: Always`".to_owned(),
        ),
        (None, Some(mode)) => problems.say(
            &at("vxlan-mode"),
            format!("both ends are nodes, and `vxlan-mode: {mode}` is a setting of pods' addresses"),
            format!(
                "leave it out, or go between pods: `from: pod@{}`, `to: pod@{}`",
                spec.from.node(),
                spec.to.node()
            ),
        ),
        _ => {}
    }
    if spec.from == spec.to && spec.all_pairs.is_none() {
        let hint = match &spec.to {
            PlaceRef::Pod { node, .. } => format!("for another pod of the same node write `pod-2@{node}`"),
            PlaceRef::Node(_) => "name another node, or go between pods of this one".to_owned(),
        };
        problems.say(
            &at("to"),
            format!("the path leads from `{}` to itself", spec.from),
            hint,
        );
        return;
    }
    if !known {
        return;
    }
    let cluster = |place: &PlaceRef| scenario.node(place.node()).map(|node| node.cluster);
    if cluster(&spec.from) != cluster(&spec.to) {
        between_clusters(scenario, spec, at, problems);
        return;
    }
    if spec.from.is_pod() && !spec.to.is_pod() && expected(scenario, spec).is_overlay() {
        problems.say(
            &at("to"),
            format!(
                "from the pod `{}` to the node `{}` packets go plain, and only the answers are encapsulated: \
                 encapsulation follows the destination's address",
                spec.from, spec.to
            ),
            format!(
                "turn the path round (`from: {}`, `to: {}`); `reverse: true` in a workload sends from the pod",
                spec.to, spec.from
            ),
        );
    }
}

/// What a path by a Service asks of the scenario.
fn by_service(scenario: &Scenario, spec: &PathSpec, at: &[Step], problems: &mut Problems) {
    let leave_out = || "leave `by` out: the end is then reached by its own address".to_owned();
    let asks_back = |workload: &Workload| workload.latency.as_ref().is_some_and(|latency| latency.reverse);
    if !matches!(scenario.fabric, Fabric::Kubernetes(_)) {
        problems.say(at, "only Kubernetes has Services", leave_out());
    } else if !spec.to.is_pod() {
        problems.say(
            at,
            format!("`{}` is a node, and a Service leads to pods", spec.to),
            leave_out(),
        );
    } else if !spec.together_with.is_empty() || spec.all_pairs.as_ref().is_some_and(|pairs| pairs.together) {
        problems.say(
            at,
            "pairs that are loaded at once can't go by Services: these lead to one port of a pod each",
            leave_out(),
        );
    } else if let Some(workload) = scenario.workloads.iter().find(|workload| asks_back(workload)) {
        problems.say(
            at,
            format!(
                "the probes of `{}` go from `{}`, which asks nothing of the Service: it stands before `{}` itself",
                workload.name, spec.to, spec.to
            ),
            format!("take `reverse` away from `{}`, or leave `by` out", workload.name),
        );
    }
}

/// Nodes reach each other anyway; pods only by Submariner, which carries packets to pods, not to other clusters' nodes.
fn between_clusters(
    scenario: &Scenario,
    spec: &PathSpec,
    at: &impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) {
    let Fabric::Lab(lab) = &scenario.fabric else {
        return;
    };
    let (from, to) = (&spec.from, &spec.to);
    if !from.is_pod() && !to.is_pod() {
        return;
    }
    if lab.submariner.is_none() {
        problems.say(
            &at("to"),
            format!("`{from}` and `{to}` are in different clusters, and nothing joins these"),
            "add `submariner: { cable: vxlan }` to the lab, or keep both ends of a path in one cluster"
                .to_owned(),
        );
    } else if !to.is_pod() {
        problems.say(
            &at("to"),
            format!("`{to}` is a node of another cluster: Submariner carries packets to pods only"),
            format!(
                "turn the path round (`from: {to}`, `to: {from}`); `reverse: true` in a workload sends from the pod"
            ),
        );
    }
}
