//! Kubernetes: names that the API takes, and choices that can be made one after another.

use super::{Problems, empty, name_fault, suggest};
use crate::scenario::{Fabric, Kubernetes, NodeChoice, Scenario, problem::Step};
use std::{collections::BTreeSet, time::Duration};

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    let Fabric::Kubernetes(spec) = &scenario.fabric else {
        return;
    };
    let at = |keys: &[Step]| [&["fabric".into(), "kubernetes".into()], keys].concat();
    clusters(spec, &at, problems);
    if spec.nodes.is_empty() {
        problems.say(
            &at(&["nodes".into()]),
            empty("nodes"),
            "for instance `- { name: a }` and `- { name: b, same-subnet-as: a }`".to_owned(),
        );
    }
    let mut names = BTreeSet::new();
    for (index, choice) in spec.nodes.iter().enumerate() {
        let at = |key: &'static str| at(&["nodes".into(), index.into(), key.into()]);
        if let Some(fault) = name_fault(&choice.name) {
            problems.say(&at("name"), format!("a node's name {fault}"), None);
        }
        if !names.insert(choice.name.as_str()) {
            problems.say(
                &at("name"),
                format!("another node is named `{}` too", choice.name),
                None,
            );
        }
        node(spec, choice, &spec.nodes[..index], at, problems);
        group(spec, choice, at, problems);
    }
    let texts = [
        ("image", spec.image.as_deref()),
        ("priority-class", spec.priority_class.as_deref()),
        ("context", spec.context.as_deref()),
    ];
    for (key, text) in texts {
        if text.is_some_and(|text| text.is_empty() || text.contains(char::is_whitespace)) {
            problems.say(
                &at(&[key.into()]),
                format!("{key} is a name without blanks"),
                "leave it out for the default".to_owned(),
            );
        }
    }
    namespace(spec.namespace.as_deref(), &at(&["namespace".into()]), problems);
    for (key, text) in [("cpu", &spec.resources.cpu), ("memory", &spec.resources.memory)] {
        if !is_quantity(text) {
            problems.say(
                &at(&["resources".into(), key.into()]),
                format!("`{text}` is no quantity of Kubernetes"),
                "for instance `500m` of CPU, `128Mi` of memory".to_owned(),
            );
        }
    }
    if let Some(range) = spec.pools.own_range
        && range.prefix() > 24
    {
        problems.say(
            &at(&["pools".into(), "own-range".into()]),
            format!("{range} is too small to cut pools from"),
            "a /24 or wider".to_owned(),
        );
    }
    problems.span(
        &at(&["start-within".into()]),
        "start-within",
        spec.start_within,
        Duration::from_secs(1),
        Duration::from_hours(1),
    );
}

fn clusters(spec: &Kubernetes, at: &impl Fn(&[Step]) -> Vec<Step>, problems: &mut Problems) {
    let mut names = BTreeSet::new();
    for (index, cluster) in spec.clusters.iter().enumerate() {
        let at = |key: &'static str| at(&["clusters".into(), index.into(), key.into()]);
        if let Some(fault) = name_fault(&cluster.name) {
            problems.say(&at("name"), format!("a cluster's name {fault}"), None);
        }
        if !names.insert(cluster.name.as_str()) {
            problems.say(
                &at("name"),
                format!("another cluster is named `{}` too", cluster.name),
                None,
            );
        }
        namespace(cluster.namespace.as_deref(), &at("namespace"), problems);
    }
    if spec.clusters.is_empty() {
        return;
    }
    for (key, set) in [
        ("context", spec.context.is_some()),
        ("namespace", spec.namespace.is_some()),
    ] {
        if set {
            problems.say(
                &at(&[key.into()]),
                format!("`{key}` is of the one cluster where `clusters` is left out"),
                "say it in each of `clusters`".to_owned(),
            );
        }
    }
}

fn node(
    spec: &Kubernetes,
    choice: &NodeChoice,
    before: &[NodeChoice],
    at: impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) {
    if let Some(cluster) = &choice.cluster {
        let known: Vec<&str> = spec
            .clusters
            .iter()
            .map(|cluster| cluster.name.as_str())
            .collect();
        problems.known(&at("cluster"), "cluster", "clusters", cluster, &known);
    }
    let known: Vec<&str> = before.iter().map(|choice| choice.name.as_str()).collect();
    for (key, other) in [
        ("same-subnet-as", &choice.same_subnet_as),
        ("other-subnet-than", &choice.other_subnet_than),
    ] {
        let Some(other) = other else { continue };
        match before.iter().find(|choice| choice.name == *other) {
            None => problems.say(
                &at(key),
                format!("no node before this one is named `{other}`: nodes are chosen in their order"),
                suggest(other, "nodes before it", &known),
            ),
            Some(other) if spec.cluster_of(other) != spec.cluster_of(choice) => problems.say(
                &at(key),
                format!("`{}` is of another cluster", other.name),
                "a subnet is one cluster's".to_owned(),
            ),
            Some(other) if other.up_to.is_some() => problems.say(
                &at(key),
                format!(
                    "`{}` stands for several nodes, which may be in several subnets",
                    other.name
                ),
                "name a single node".to_owned(),
            ),
            Some(_) => {}
        }
    }
}

/// What holds of a choice of several nodes.
fn group(
    spec: &Kubernetes,
    choice: &NodeChoice,
    at: impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) {
    let Some(most) = choice.up_to else { return };
    problems.number(
        &at("up-to"),
        "the number of nodes",
        u64::from(most),
        2..=u64::from(NodeChoice::MOST),
    );
    if let Some(node) = &choice.node {
        problems.say(
            &at("node"),
            format!("`{node}` is the name of one node, and `up-to: {most}` asks for more"),
            "choose them by `labels`, `zone` or `role`, or leave `node` out".to_owned(),
        );
    }
    let number = |other: &NodeChoice| {
        let rest = other.name.strip_prefix(&choice.name)?.strip_prefix('-')?;
        rest.parse::<u32>()
            .ok()
            .filter(|number| (1..=most).contains(number))
    };
    if let Some(other) = spec.nodes.iter().find(|other| number(other).is_some()) {
        problems.say(
            &at("name"),
            format!(
                "one of the nodes of `{}` is called `{}`, as another choice is",
                choice.name, other.name
            ),
            "give one of them another name".to_owned(),
        );
    }
}

/// A DNS label (RFC 1123), as namespaces are named.
fn namespace(name: Option<&str>, at: &[Step], problems: &mut Problems) {
    let Some(name) = name else { return };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty()
        || name.len() > 63
        || !name.bytes().all(plain)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        problems.say(
            at,
            format!("`{name}` can't be a namespace: lowercase letters, digits and `-`, 1 to 63 of them"),
            None,
        );
    }
}

/// A quantity as the API takes it: digits with an optional fraction, and a suffix.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let fraction = digits.strip_prefix('.').map_or(digits, |rest| {
        rest.trim_start_matches(|c: char| c.is_ascii_digit())
    });
    text.starts_with(|c: char| c.is_ascii_digit())
        && ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&fraction)
}
