//! Paths and workloads.

use super::{Problems, case_name_fault, empty};
use crate::scenario::{
    AllPairs, Fabric, HighestRate, Latency, LatencyKind, PathSpec, PlaceRef, Protocol, Scenario, Throughput,
    Which, Workload, WorkloadKind,
    plan::{crossing, expected},
    problem::Step,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest that anything is measured.
const LONGEST: Duration = Duration::from_hours(24);
/// The most pairs that are loaded at once.
const MOST_PAIRS: u64 = 2_000;
/// The longest warm-up.
const LONGEST_OMIT: Duration = Duration::from_mins(10);

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    if scenario.paths.is_empty() {
        problems.say(&["paths".into()], empty("paths"), None);
    }
    if scenario.workloads.is_empty() {
        problems.say(&["workloads".into()], empty("workloads"), None);
    }
    problems.unique("paths", scenario.paths.iter().map(|path| path.name.as_str()));
    problems.unique(
        "workloads",
        scenario.workloads.iter().map(|workload| workload.name.as_str()),
    );
    for (index, spec) in scenario.paths.iter().enumerate() {
        path(scenario, spec, &["paths".into(), index.into()], problems);
    }
    for (index, spec) in scenario.workloads.iter().enumerate() {
        workload(scenario, spec, &["workloads".into(), index.into()], problems);
    }
}

fn path(scenario: &Scenario, spec: &PathSpec, at: &[Step; 2], problems: &mut Problems) {
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

/// Nodes reach each other anyway; pods only by Submariner, which carries packets to pods, not to other clusters' nodes.
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

fn workload(scenario: &Scenario, spec: &Workload, at: &[Step; 2], problems: &mut Problems) {
    let name = [at[0], at[1], "name".into()];
    if let Some(fault) = case_name_fault(&spec.name) {
        problems.say(&name, format!("a workload's name {fault}"), None);
    }
    match spec.kind() {
        Some(WorkloadKind::Throughput(throughput)) => {
            check_throughput(
                throughput,
                |key| [at[0], at[1], "throughput".into(), key.into()],
                problems,
            );
        }
        Some(WorkloadKind::Latency(latency)) => {
            let at = |key: &'static str| [at[0], at[1], "latency".into(), key.into()];
            check_latency(latency, at, problems);
            if let Some(load) = &latency.during {
                during(scenario, spec, load, &at("during"), problems);
            }
        }
        None => {
            let count = if spec.throughput.is_some() {
                "both"
            } else {
                "neither"
            };
            problems.say(
                &name,
                format!(
                    "a workload has either `throughput` or `latency`, and `{}` has {count}",
                    spec.name
                ),
                "for instance `throughput: { protocol: tcp }` or `latency: { kind: tcp-rr }`".to_owned(),
            );
        }
    }
}

/// A search sets the rate itself, one way, and needs datagrams that can be lost.
fn check_search(
    spec: &Throughput,
    search: &HighestRate,
    at: &impl Fn(&'static str) -> [Step; 4],
    problems: &mut Problems,
) {
    let clashes = [
        (
            spec.protocol != Protocol::Udp,
            "TCP sends what is lost again; `highest-rate` is of UDP",
            "set `protocol: udp`",
        ),
        (
            spec.bitrate.is_some(),
            "`highest-rate` searches for what `bitrate` would set",
            "leave one of the two out",
        ),
        (
            spec.bidirectional,
            "`highest-rate` searches one way at a time",
            "leave `bidirectional` out",
        ),
    ];
    for (_, why, remedy) in clashes.into_iter().filter(|(clash, ..)| *clash) {
        problems.say(&at("highest-rate"), why, remedy.to_owned());
    }
    if search.loss_at_most.percent() > 50.0 {
        problems.say(
            &at("highest-rate"),
            "`loss-at-most` is above 50%, where a rate says nothing about a path",
            "0.1% is what people ask for".to_owned(),
        );
    }
    if !(0.1..=50.0).contains(&search.within.percent()) {
        problems.say(
            &at("highest-rate"),
            "`within` is outside 0.1% to 50%",
            "2% if left out".to_owned(),
        );
    }
}

fn check_throughput(spec: &Throughput, at: impl Fn(&'static str) -> [Step; 4], problems: &mut Problems) {
    let most = if spec.protocol == Protocol::Udp {
        128
    } else {
        16_384
    };
    problems.number(&at("streams"), "streams", u64::from(spec.streams), 1..=most);
    times(spec.duration, spec.omit, &at, problems);
    if spec.reverse && spec.bidirectional {
        problems.say(
            &at("reverse"),
            "`reverse` and `bidirectional` exclude each other: both ways at once have no direction to turn round",
            "leave one of the two out".to_owned(),
        );
    }
    let udp = spec.protocol == Protocol::Udp;
    if let Some(length) = spec.length {
        // What iperf3 takes: a datagram has a header of up to 16 bytes, and fits into IPv4.
        let range = if udp { 16..=65_507 } else { 1..=1 << 20 };
        problems.number(&at("length"), "length", length.get(), range);
    }
    if udp {
        let set = [
            ("mss", spec.mss.is_some()),
            ("no-delay", spec.no_delay),
            ("congestion", spec.congestion.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            problems.say(
                &at(key),
                format!("`{key}` is an option of TCP, and this is UDP"),
                "leave it out".to_owned(),
            );
        }
    }
    if let Some(both) = spec
        .with
        .iter()
        .find(|technique| spec.without.contains(technique))
    {
        problems.say(
            &at("without"),
            format!("`{both}` is in `with` and in `without`"),
            "leave it out of one of the two".to_owned(),
        );
    }
    if let Some(search) = &spec.highest_rate {
        check_search(spec, search, &at, problems);
    }
    if let Some(window) = spec.window {
        // What iperf3 takes (MAX_TCP_BUFFER).
        problems.number(&at("window"), "window", window.get(), 1..=512 << 20);
    }
    if let Some(mss) = spec.mss {
        // iperf3's own bounds (MAX_MSS); below 88 Linux refuses.
        problems.number(&at("mss"), "mss", u64::from(mss), 88..=9 * 1024);
    }
    if let Some(name) = &spec.congestion {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        // TCP_CA_NAME_MAX is 16, its closing zero included.
        if name.is_empty() || name.len() > 15 || !name.bytes().all(plain) {
            problems.say(
                &at("congestion"),
                format!("`{name}` can't be a congestion control algorithm"),
                "`sysctl net.ipv4.tcp_available_congestion_control` lists them: cubic, reno, bbr and others"
                    .to_owned(),
            );
        }
    }
}

fn check_latency(spec: &Latency, at: impl Fn(&'static str) -> [Step; 4], problems: &mut Problems) {
    times(spec.duration, spec.omit, &at, problems);
    // 65535 bytes of an IPv4 packet less 20 of IP and 8 of UDP.
    let largest = if spec.kind == LatencyKind::UdpRr {
        65507
    } else {
        65536
    };
    problems.number(&at("request"), "request", spec.request.get(), 1..=largest);
    problems.number(&at("response"), "response", spec.response.get(), 1..=largest);
}

fn times(
    duration: crate::units::Span,
    omit: crate::units::Span,
    at: impl Fn(&'static str) -> [Step; 4],
    problems: &mut Problems,
) {
    problems.span(
        &at("duration"),
        "duration",
        duration,
        Duration::from_millis(1),
        LONGEST,
    );
    problems.span(&at("omit"), "omit", omit, Duration::ZERO, LONGEST_OMIT);
}

fn during(scenario: &Scenario, spec: &Workload, load: &str, at: &[Step], problems: &mut Problems) {
    let loads: Vec<&str> = scenario
        .workloads
        .iter()
        .filter(|other| other.throughput.is_some())
        .map(|other| other.name.as_str())
        .collect();
    let what = "during names the load that runs meanwhile, a throughput workload";
    if load == spec.name {
        problems.say(
            at,
            format!("{what}, not itself"),
            super::suggest("", "there are", &loads),
        );
    } else if scenario.workloads.iter().any(|other| other.name == load) && !loads.contains(&load) {
        problems.say(
            at,
            format!("{what}; `{load}` measures latency"),
            super::suggest("", "there are", &loads),
        );
    } else {
        problems.known(at, "workload", "throughput workloads", load, &loads);
    }
}
