//! The source address that the receiver saw (preflight list, 11).

use crate::doctor::examination::Examination;
use crate::doctor::finding::{Finding, Severity};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    // One finding a node and address: a rule that rewrites sources does so for all its pods.
    let mut rewritten: BTreeMap<(&str, IpAddr), Vec<String>> = BTreeMap::new();
    for probe in &case.probes {
        let (Some(own), Some(source)) = (case.setup.address(&probe.from), probe.seen.source) else {
            continue;
        };
        if IpAddr::V4(own) != source {
            rewritten
                .entry((probe.from.node(), source))
                .or_default()
                .push(format!("{}: sent from {own}, seen as {source}", probe.path()));
        }
    }
    for ((node, source), paths) in rewritten {
        // Whoever has the address that was seen is where it was rewritten.
        let place = case
            .nodes()
            .find(|view| {
                view.seen
                    .links
                    .iter()
                    .any(|link| link.addresses.iter().any(|own| IpAddr::V4(own.address) == source))
            })
            .map_or(node, |view| view.node.name.as_str());
        let mut finding = Finding::new(
            "source-rewritten",
            Severity::Warning,
            place,
            format!("packets of pods on {node} arrive as {source}"),
        );
        for path in paths.iter().take(3) {
            finding = finding.seen(path.clone());
        }
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
