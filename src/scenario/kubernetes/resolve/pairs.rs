//! Paths of all pairs: which pairs these are, and the scenario in which each is said.

use super::{Chosen, ResolveError};
use crate::scenario::{
    AllPairs, Fabric, GateRule, NodeChoice, PairSpec, PathSpec, PlaceRef, ResolvedNode, Scenario, Which,
};
use std::collections::{BTreeMap, BTreeSet};

/// `scenario` with each choice of several nodes replaced by the nodes that were chosen for it, each path of all pairs by
/// its pairs, and what gates and references say of such a path said of each pair.
pub(super) fn expanded(
    scenario: &Scenario,
    chosen: &Chosen,
    notes: &mut Vec<String>,
) -> Result<Scenario, ResolveError> {
    let mut all = scenario.clone();
    if chosen.groups.is_empty() {
        return Ok(all);
    }
    if let Fabric::Kubernetes(spec) = &mut all.fabric {
        spec.nodes = spec
            .nodes
            .iter()
            .flat_map(|choice| members(choice, chosen))
            .collect();
    }
    let mut spread: BTreeMap<&str, Vec<Spelled>> = BTreeMap::new();
    all.paths = Vec::new();
    for path in &scenario.paths {
        let is_group = |place: &PlaceRef| chosen.groups.contains_key(place.node());
        let Some(pairs) = path
            .all_pairs
            .as_ref()
            .filter(|_| is_group(&path.from) || is_group(&path.to))
        else {
            all.paths.push(path.clone());
            continue;
        };
        let found = pairs_of(path, pairs, chosen, notes)?;
        if pairs.together {
            all.paths.push(together(path, found));
        } else {
            let spelled = found.into_iter().map(|pair| Spelled::new(path, pair));
            let spelled: Vec<Spelled> = spelled.collect();
            all.paths.extend(spelled.iter().map(|pair| pair.path.clone()));
            spread.insert(&path.name, spelled);
        }
    }
    all.reference = Vec::new();
    for reference in &scenario.reference {
        match spread.get(reference.path.as_str()) {
            None => all.reference.push(reference.clone()),
            Some(pairs) => all.reference.extend(pairs.iter().map(|pair| {
                let mut reference = reference.clone();
                reference.path.clone_from(&pair.path.name);
                reference
            })),
        }
    }
    all.gates = Vec::new();
    for gate in &scenario.gates {
        match spread.get(gate.path.as_str()) {
            None => all.gates.push(gate.clone()),
            Some(pairs) => {
                for pair in pairs {
                    all.gates.push(of_pair(gate, pair, &spread)?);
                }
            }
        }
    }
    Ok(all)
}

/// A pair of a path that was spelled out.
struct Spelled {
    /// Its nodes, as the path's name has them.
    nodes: String,
    path: PathSpec,
}

impl Spelled {
    fn new(of: &PathSpec, pair: PairSpec) -> Self {
        let nodes = format!("{} to {}", pair.from.node(), pair.to.node());
        Self {
            path: PathSpec {
                name: format!("{}, {nodes}", of.name),
                from: pair.from,
                to: pair.to,
                all_pairs: None,
                ..of.clone()
            },
            nodes,
        }
    }
}

fn members(choice: &NodeChoice, chosen: &Chosen) -> Vec<NodeChoice> {
    let Some(names) = chosen.groups.get(&choice.name) else {
        return vec![choice.clone()];
    };
    let node = |name: &String| {
        let found = chosen.nodes.iter().find(|node| node.name == *name);
        found.map(|node| node.node.clone())
    };
    let each = names.iter().map(|name| NodeChoice {
        name: name.clone(),
        node: node(name),
        up_to: None,
        ..choice.clone()
    });
    each.collect()
}

/// All pairs that are loaded at once, as one path.
fn together(path: &PathSpec, pairs: Vec<PairSpec>) -> PathSpec {
    let mut pairs = pairs.into_iter();
    let mut one = PathSpec {
        all_pairs: None,
        ..path.clone()
    };
    if let Some(first) = pairs.next() {
        (one.from, one.to) = (first.from, first.to);
    }
    one.together_with = pairs.collect();
    one
}

/// A gate on one pair: where it compares with another path of all pairs, with the pair of the same nodes there.
fn of_pair(
    gate: &GateRule,
    pair: &Spelled,
    spread: &BTreeMap<&str, Vec<Spelled>>,
) -> Result<GateRule, ResolveError> {
    let mut one = gate.clone();
    one.name = format!("{}, {}", gate.name, pair.nodes);
    one.path.clone_from(&pair.path.name);
    let Some(base) = &gate.relative_to else {
        return Ok(one);
    };
    if let Some(others) = spread.get(base.as_str()) {
        let Some(other) = others.iter().find(|other| other.nodes == pair.nodes) else {
            return Err(ResolveError::Unfit(format!(
                "the gate `{}` compares `{}` pair by pair with `{base}`, which has no pair {}; give both paths the same \
                 nodes and the same `all-pairs`",
                gate.name, gate.path, pair.nodes
            )));
        };
        one.relative_to = Some(other.path.name.clone());
    }
    Ok(one)
}

/// The pairs of a path, in the order of their nodes: those that are wanted, up to the limit, with each node in about as
/// many as any other.
fn pairs_of(
    path: &PathSpec,
    wanted: &AllPairs,
    chosen: &Chosen,
    notes: &mut Vec<String>,
) -> Result<Vec<PairSpec>, ResolveError> {
    let (from, to) = (nodes_of(&path.from, chosen), nodes_of(&path.to, chosen));
    let indices = if wanted.only == Some(Which::SameNode) {
        (0..from.len()).map(|index| (index, index)).collect()
    } else if path.from.node() == path.to.node() {
        within(from.len())
    } else {
        across(from.len(), to.len())
    };
    let mut all = Vec::new();
    for (index, other) in indices {
        let (Some(a), Some(b)) = (from.get(index), to.get(other)) else {
            continue;
        };
        let same_subnet = (&a.cluster, a.subnet) == (&b.cluster, b.subnet);
        let fits = match wanted.only {
            None | Some(Which::SameNode) => true,
            Some(Which::SameSubnet) => same_subnet,
            Some(Which::OtherSubnet) => !same_subnet,
        };
        if !fits {
            continue;
        }
        let (one, another) = (on(&path.from, a), on(&path.to, b));
        all.push((index, other, one.clone(), another.clone()));
        if wanted.both_ways {
            all.push((index, other, another, one));
        }
    }
    if all.is_empty() {
        return Err(ResolveError::Unfit(none(path, wanted, [&from, &to])));
    }
    let most = usize::try_from(wanted.at_most).unwrap_or(usize::MAX);
    if all.len() > most {
        notes.push(format!(
            "{} has {} pairs, of which {most} are measured, so that each node is in about as many as any other; \
             `all-pairs: {{ at-most: ... }}` takes more",
            path.name,
            all.len()
        ));
        all.truncate(most);
    }
    all.sort_by_key(|(index, other, ..)| (*index, *other));
    let pairs = all.into_iter().map(|(_, _, from, to)| PairSpec { from, to });
    Ok(pairs.collect())
}

/// The nodes that a place stands for.
fn nodes_of<'a>(place: &PlaceRef, chosen: &'a Chosen) -> Vec<&'a ResolvedNode> {
    let group = chosen.groups.get(place.node());
    let named = |node: &&ResolvedNode| match group {
        Some(names) => names.contains(&node.name),
        None => node.name == place.node(),
    };
    chosen.nodes.iter().filter(named).collect()
}

/// The place as it is on one of the nodes that it stands for.
fn on(place: &PlaceRef, node: &ResolvedNode) -> PlaceRef {
    let node = node.name.clone();
    match place {
        PlaceRef::Node(_) => PlaceRef::Node(node),
        PlaceRef::Pod { pod, .. } => PlaceRef::Pod {
            pod: pod.clone(),
            node,
        },
    }
}

fn none(path: &PathSpec, wanted: &AllPairs, ends: [&[&ResolvedNode]; 2]) -> String {
    let which = match wanted.only {
        None | Some(Which::SameNode) => "of two nodes",
        Some(Which::SameSubnet) => "of nodes of one subnet",
        Some(Which::OtherSubnet) => "of nodes of different subnets",
    };
    let mut nodes: Vec<String> = ends
        .into_iter()
        .flatten()
        .map(|node| format!("{} ({} in {})", node.name, node.node, node.subnet))
        .collect();
    nodes.dedup();
    let nodes: BTreeSet<String> = nodes.into_iter().collect();
    let nodes: Vec<String> = nodes.into_iter().collect();
    format!(
        "{} has no pair {which}: its nodes are {}",
        path.name,
        nodes.join(", ")
    )
}

/// All pairs of `count` nodes, each once, by rounds in which every node is in one pair at most: the rounds of a tournament,
/// where one player stays and the others go round. Who is first changes, so that each node is about as often.
fn within(count: usize) -> Vec<(usize, usize)> {
    // One that isn't there makes an odd number even: whoever would meet it rests.
    let players = count + count % 2;
    let Some(seats) = players.checked_sub(1).filter(|seats| *seats > 0) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for round in 0..seats {
        let fixed = if round % 2 == 0 {
            (seats, round)
        } else {
            (round, seats)
        };
        let others = (1..players / 2).map(|seat| ((round + seat) % seats, (round + seats - seat) % seats));
        all.extend(std::iter::once(fixed).chain(others));
    }
    all.retain(|(one, other)| *one < count && *other < count);
    all
}

/// All pairs of one of `these` with one of `those`, by rounds in which each of the more numerous is in one pair.
fn across(these: usize, those: usize) -> Vec<(usize, usize)> {
    let most = these.max(those);
    let round = |shift: usize| (0..most).map(move |index| (index, (index + shift) % most));
    let all = (0..most).flat_map(round);
    all.filter(|(one, other)| *one < these && *other < those)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{across, within};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn each_pair_is_met_once(count in 0..40_usize) {
            let all = within(count);
            let unordered: BTreeSet<_> = all.iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            prop_assert_eq!(unordered.len(), count * count.saturating_sub(1) / 2);
            prop_assert_eq!(all.len(), unordered.len());
            prop_assert!(all.iter().all(|(a, b)| a != b && *a < count && *b < count));
        }

        /// Wherever the limit cuts, no node is in more than one pair more than any other.
        #[test]
        fn nodes_share_the_pairs(count in 2..40_usize, limit in 1..200_usize) {
            let mut times = BTreeMap::new();
            for (a, b) in within(count).into_iter().take(limit) {
                *times.entry(a).or_insert(0) += 1;
                *times.entry(b).or_insert(0) += 1;
            }
            let least = (0..count).map(|node| times.get(&node).copied().unwrap_or(0)).min().unwrap();
            let most = times.values().max().unwrap();
            // With an odd number one node rests in each round.
            prop_assert!(most - least <= 1 + count % 2, "{} {}", least, most);
        }

        #[test]
        fn groups_are_crossed_whole(these in 0..20_usize, those in 0..20_usize) {
            let all = across(these, those);
            let distinct: BTreeSet<_> = all.iter().collect();
            prop_assert_eq!((all.len(), distinct.len()), (these * those, these * those));
        }
    }
}
