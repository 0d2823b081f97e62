//! The source address that the receiver saw (preflight list, 11).

use crate::doctor::examination::{Examination, ProbeResult};
use crate::doctor::filter::{self, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::FilterRule;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    // One finding a place and address: a rule that rewrites sources does so for all that pass it.
    let mut rewritten: BTreeMap<(&str, IpAddr), Vec<&ProbeResult>> = BTreeMap::new();
    for probe in &case.probes {
        let (Some(own), Some(source)) = (case.setup.address(&probe.from), probe.seen.source) else {
            continue;
        };
        if IpAddr::V4(own) != source {
            // Whoever has the address that was seen is where it was rewritten.
            let place = case
                .nodes()
                .find(|view| {
                    let mut own = view.seen.links.iter().flat_map(|link| &link.addresses);
                    own.any(|own| IpAddr::V4(own.address) == source)
                })
                .map_or(probe.from.node(), |view| view.node.name.as_str());
            rewritten.entry((place, source)).or_default().push(probe);
        }
    }
    for ((place, source), paths) in rewritten {
        let nodes: BTreeSet<&str> = paths.iter().map(|path| path.from.node()).collect();
        let nodes: Vec<&str> = nodes.into_iter().collect();
        // An address that others can't answer to loses packets, too.
        let loses = case
            .probes
            .iter()
            .any(|probe| !probe.is_reachable() && case.nodes_of(probe).contains(&place));
        let severity = if loses { Severity::Error } else { Severity::Warning };
        let mut finding = Finding::new(
            "source-rewritten",
            severity,
            place,
            format!("packets of pods on {} arrive as {source}", nodes.join(" and ")),
        );
        for path in paths.iter().take(3) {
            let own = case
                .setup
                .address(&path.from)
                .map_or_else(String::new, |own| own.to_string());
            finding = finding.seen(format!("{}: sent from {own}, seen as {source}", path.path()));
        }
        // Whether a rule that translates may be for these packets: others are left alone.
        let is_theirs = |rule: &FilterRule| {
            paths.iter().any(|path| {
                let ends = (case.setup.address(&path.from), case.setup.address(&path.to));
                let (Some(from), Some(to)) = ends else {
                    return false;
                };
                let packet = |protocol| Packet {
                    from,
                    to,
                    protocol,
                    port: 0,
                    input: None,
                    output: None,
                    established: false,
                };
                [TCP, UDP]
                    .into_iter()
                    .any(|protocol| filter::may_match(rule, &packet(protocol)))
            })
        };
        let translating: Vec<_> = case
            .node(place)
            .map(|view| {
                view.seen
                    .chains
                    .iter()
                    .filter(|chain| chain.nat)
                    .flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
                    .filter(|(_, rule)| {
                        rule.text.contains("masquerade")
                            || rule.text.contains("snat")
                            || rule.text.contains("MASQUERADE")
                    })
                    .filter(|(_, rule)| is_theirs(rule))
                    .collect()
            })
            .unwrap_or_default();
        for (chain, rule) in &translating {
            finding = finding.seen(format!(
                "{}: {} (handle {})",
                chain.path(),
                rule.text,
                rule.handle
            ));
        }
        finding = finding.why(
            "receivers, and network policies there, see another sender than the pod: Submariner keeps pods' addresses, \
             and so does Calico within its pools (natOutgoing is for addresses outside)",
        );
        if let [(chain, rule)] = translating.as_slice() {
            finding = finding
                .remedy(format!("nft delete rule {} handle {}", chain.path(), rule.handle))
                .verify(format!(
                    "! nft -a list chain {} | grep -q 'handle {}$'",
                    chain.path(),
                    rule.handle
                ));
        }
        findings.push(finding.on_a_cluster(
            "kubectl get ippools -o custom-columns=NAME:.metadata.name,CIDR:.spec.cidr,NAT:.spec.natOutgoing  # pools of remote clusters: natOutgoing false, disabled true",
        ));
    }
}
