//! The verdict over pairs that were loaded at once: each node's devices carry the bytes of all pairs that end there.

use super::{EvidenceState, Verdict, judge, once_each};
use crate::{evidence::RawEvidence, scenario::Path};

/// Judges node by node, each against the payload of the pairs that it has an end of. Confirmed takes all of them.
pub(super) fn judge_together(path: &Path, seen: &RawEvidence) -> Verdict {
    let expect = |evidence: &RawEvidence| judge(path.expected, path.same_node, evidence);
    if seen.pair_payload_bytes.len() != path.pairs().count() || seen.before.len() != seen.after.len() {
        let mut verdict = expect(&RawEvidence::default());
        verdict
            .reasons
            .push("what each pair carried is not known".to_owned());
        return verdict;
    }
    let mut verdicts = Vec::new();
    for (index, (before, after)) in seen.before.iter().zip(&seen.after).enumerate() {
        let ends_here = |path: &Path| {
            [&path.from, &path.to]
                .into_iter()
                .any(|place| place.node() == after.node)
        };
        let payload = path
            .pairs()
            .zip(&seen.pair_payload_bytes)
            .filter(|(pair, _)| ends_here(pair))
            .map(|(_, bytes)| bytes)
            .sum();
        // Connections and what could not be seen are of all pairs: once is enough.
        let first = index == 0;
        verdicts.push(expect(&RawEvidence {
            before: vec![before.clone()],
            after: vec![after.clone()],
            connections: if first {
                seen.connections.clone()
            } else {
                Vec::new()
            },
            unseen: if first { seen.unseen.clone() } else { Vec::new() },
            payload_bytes: payload,
            noise_bytes: seen.noise_bytes,
            ..RawEvidence::default()
        }));
    }
    if seen.pair_payload_bytes.contains(&0) {
        verdicts.push(expect(&RawEvidence::default()));
    }
    let Some(state) = verdicts.iter().map(|verdict| verdict.state).max() else {
        return expect(seen);
    };
    let reasons = verdicts.iter().filter(|verdict| verdict.state == state);
    Verdict {
        state,
        tunnel_share: verdicts.first().and_then(|verdict| verdict.tunnel_share),
        underlay_share: verdicts.first().and_then(|verdict| verdict.underlay_share),
        reasons: match state {
            EvidenceState::Confirmed => Vec::new(),
            _ => once_each(reasons.flat_map(|verdict| verdict.reasons.clone()).collect()),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        evidence::{DeviceRole, DeviceSeen, EvidenceState, Observation, RawEvidence, judge_path},
        scenario::{Encapsulation, Path},
    };

    fn path(expected: Encapsulation, pairs: &[(&str, &str)]) -> Path {
        let mut all: Vec<Path> = pairs
            .iter()
            .map(|(from, to)| Path {
                name: "pairs".to_owned(),
                from: from.parse().unwrap(),
                to: to.parse().unwrap(),
                vxlan_mode: None,
                expected,
                same_node: false,
                same_subnet: true,
                crossing: None,
                user_space: None,
                by: crate::scenario::By::Address,
                expect: crate::scenario::Expect::Reachable,
                together_with: Vec::new(),
            })
            .collect();
        let rest = all.split_off(1);
        Path {
            together_with: rest,
            ..all.remove(0)
        }
    }

    /// A node whose devices carried so many bytes since they were made.
    fn node(name: &str, underlay: u64, tunnel: u64) -> Observation {
        let device = |device: &str, role, tx_bytes| DeviceSeen {
            device: device.to_owned(),
            role,
            rx_bytes: 0,
            tx_bytes,
            dropped: 0,
            mtu: 1500,
            offloads: Vec::new(),
            rp_filter: None,
        };
        Observation {
            node: name.to_owned(),
            devices: vec![
                device("eth0", DeviceRole::Underlay, underlay),
                device("vxlan.calico", DeviceRole::Tunnel, tunnel),
            ],
            routes: Vec::new(),
        }
    }

    fn seen(payloads: &[u64], nodes: &[(&str, u64, u64)]) -> RawEvidence {
        RawEvidence {
            before: nodes.iter().map(|(name, ..)| node(name, 0, 0)).collect(),
            after: nodes
                .iter()
                .map(|(name, underlay, tunnel)| node(name, *underlay, *tunnel))
                .collect(),
            payload_bytes: payloads.iter().sum(),
            pair_payload_bytes: payloads.to_vec(),
            ..RawEvidence::default()
        }
    }

    #[test]
    fn a_node_answers_for_all_pairs_that_end_there() {
        let path = path(Encapsulation::Vxlan, &[("a", "b"), ("a", "c")]);
        let payloads = [1_000_000, 1_000_000];
        let whole = [
            ("a", 2_200_000, 2_100_000),
            ("b", 1_100_000, 1_050_000),
            ("c", 1_100_000, 1_050_000),
        ];
        assert_eq!(
            judge_path(&path, &seen(&payloads, &whole)).state,
            EvidenceState::Confirmed
        );
        // One pair's bytes went plain: the other's would hide it from a node that looked at its own pair only.
        let half = [
            ("a", 2_200_000, 1_050_000),
            ("b", 1_100_000, 1_050_000),
            ("c", 1_100_000, 0),
        ];
        let verdict = judge_path(&path, &seen(&payloads, &half));
        assert_eq!(verdict.state, EvidenceState::Contradicted);
        assert!(
            verdict.reasons.iter().any(|reason| reason.starts_with("a: ")),
            "{:?}",
            verdict.reasons
        );
        assert!(
            verdict.reasons.iter().any(|reason| reason.starts_with("c: ")),
            "{:?}",
            verdict.reasons
        );
    }

    #[test]
    fn a_pair_that_carried_nothing_proves_nothing() {
        let path = path(Encapsulation::None, &[("a", "b"), ("c", "d")]);
        let nodes = [("a", 1_100_000, 0), ("b", 1_100_000, 0), ("c", 9, 0), ("d", 9, 0)];
        assert_eq!(
            judge_path(&path, &seen(&[1_000_000, 0], &nodes)).state,
            EvidenceState::Unknown
        );
        let unrecorded = RawEvidence {
            pair_payload_bytes: Vec::new(),
            ..seen(&[1, 1], &nodes)
        };
        assert_eq!(judge_path(&path, &unrecorded).state, EvidenceState::Unknown);
    }
}
