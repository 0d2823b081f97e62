//! Probes that failed. Where a finding of a node on the way explains one, it is listed there; where none does, it is a
//! finding itself.

use super::{nodes_of, packet_filter};
use crate::doctor::examination::{Examination, ProbeResult};
use crate::doctor::finding::{Finding, Severity};
use crate::scenario::Place;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    let failed: Vec<&ProbeResult> = case.probes.iter().filter(|probe| !probe.is_reachable()).collect();
    // What no check is sure of is asked where nothing else explains a failure: a rule by a mark, by an address list.
    let mut nodes: BTreeSet<&str> = BTreeSet::new();
    for probe in failed.iter().filter(|probe| probe.from.is_pod()) {
        if !findings.iter().any(|finding| explains(case, finding, probe)) {
            nodes.extend(case.nodes_of(probe));
        }
    }
    for view in nodes.iter().filter_map(|name| case.node(name)) {
        packet_filter::suspects(case, &view, findings);
    }
    let mut unexplained: BTreeMap<(String, String), Vec<&ProbeResult>> = BTreeMap::new();
    for probe in failed {
        let mut explained = false;
        for finding in findings.iter_mut() {
            if explains(case, finding, probe) {
                explained = true;
                finding.affects.push(probe.path());
            }
        }
        if !explained {
            let mut ends = [probe.from.node().to_owned(), probe.to.node().to_owned()];
            ends.sort();
            let [a, b] = ends;
            unexplained.entry((a, b)).or_default().push(probe);
        }
    }
    for ((a, b), probes) in unexplained {
        findings.push(finding(case, &a, &b, &probes));
    }
}

/// Whether a finding says why a probe failed.
fn explains(case: &Examination, finding: &Finding, probe: &ProbeResult) -> bool {
    let nodes = case.nodes_of(probe);
    finding.severity == Severity::Error
        // Table 150 is for what the gateway itself sends.
        && !(finding.id == "host-table" && probe.from.is_pod())
        && nodes_of(finding).any(|place| {
            // A pod's own trouble is that of its own paths.
            nodes.contains(&place) || probe.from.to_string() == place || probe.to.to_string() == place
        })
}

fn finding(case: &Examination, a: &str, b: &str, probes: &[&ProbeResult]) -> Finding {
    let place = if a == b {
        a.to_owned()
    } else {
        format!("{a} <-> {b}")
    };
    let mut finding = Finding::new(
        "unreachable",
        Severity::Error,
        &place,
        "packets don't get through, and none of the checks says why",
    );
    for probe in probes {
        let seen = &probe.seen;
        finding = finding.seen(format!(
            "{}: {}{}",
            probe.path(),
            match (seen.datagram, seen.connection) {
                (false, false) => "neither UDP nor TCP is answered",
                (true, _) => "UDP is answered, TCP is not",
                (false, true) => "TCP is answered, UDP is not",
            },
            seen.error
                .as_ref()
                .map_or_else(String::new, |error| format!(" ({error})")),
        ));
        finding.affects.push(probe.path());
    }
    let between_nodes = case.probes.iter().any(|probe| {
        matches!((&probe.from, &probe.to), (Place::Node(from), Place::Node(to)) if [from.as_str(), to.as_str()] == [a, b])
            && probe.is_reachable()
    });
    let pods_only = between_nodes && probes.iter().all(|probe| probe.from.is_pod());
    let blind = probes.iter().any(|probe| {
        case.nodes_of(probe)
            .iter()
            .filter_map(|name| case.node(name))
            .any(|view| view.seen.unseen.iter().any(|text| text.contains("packet filter")))
    });
    let why = if blind {
        "the packet filter of a node on the way could not be read (see the notes), and may drop them; so may what is between \
         the nodes (anti-spoofing, security group, firewall)"
    } else if pods_only {
        "the nodes reach each other and the pods don't: what is between drops pods' addresses (anti-spoofing, source and \
         destination check, security group), or a node drops them in a way that is not read here (eBPF, tc)"
    } else {
        "what is between the nodes (security group, firewall, switch) drops packets, or a node does in a way that is not \
         read here (eBPF, tc)"
    };
    let watch = probes.first().map_or_else(String::new, |probe| {
        let address = case
            .setup
            .address(&probe.to)
            .map(|address| address.to_string())
            .unwrap_or_default();
        format!("tcpdump -ni any host {address}")
    });
    finding.why(why).on_a_cluster(format!(
        "# on each node of the path, to see where packets end: {watch}"
    ))
}
