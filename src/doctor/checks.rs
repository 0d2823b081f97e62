//! The checks, one family a file. To add one: its file here, one line in [`diagnose`].

mod cluster;
mod encapsulation;
mod forwarding;
mod kube_proxy;
mod links;
mod mtu;
mod offload;
mod packet_filter;
mod ports;
mod reachability;
mod rebuild;
mod rp_filter;
mod source;
mod submariner;
mod vxlan;

pub use cluster::of_clusters;

use super::examination::Examination;
use super::finding::{Diagnosis, Finding, Severity};

/// All that is wrong with what was seen, the worst first.
pub fn diagnose(case: &Examination) -> Diagnosis {
    let mut findings = Vec::new();
    for check in [
        links::check,
        forwarding::check,
        packet_filter::check,
        ports::check,
        vxlan::check,
        encapsulation::check,
        submariner::check,
        rp_filter::check,
        mtu::check,
        offload::check,
        source::check,
        kube_proxy::check,
    ] {
        check(case, &mut findings);
    }
    findings.extend(case.told.iter().cloned());
    // What remains unexplained, so it comes last.
    reachability::check(case, &mut findings);
    notes(case, &mut findings);
    findings.sort_by(|a, b| (a.severity, &a.place, &a.id).cmp(&(b.severity, &b.place, &b.id)));
    Diagnosis {
        findings,
        places: case.inspections.len(),
        paths: case.probes.len(),
        reachable: case.probes.iter().filter(|probe| probe.is_reachable()).count(),
    }
}

/// What a note says of a node of which not all could be read.
const UNREAD: &str = "something could not be read";

/// A note that faults may be missed.
fn not_seen(place: &str, what: &str, seen: impl Into<String>) -> Finding {
    Finding::new("not-seen", Severity::Note, place, what)
        .seen(seen)
        .why("a fault that shows there only is not found")
}

/// What could not be looked at.
fn notes(case: &Examination, findings: &mut Vec<Finding>) {
    for text in &case.unseen {
        findings.push(not_seen("all", "something could not be looked at", text.clone()));
    }
    for view in case.nodes() {
        for text in &view.seen.unseen {
            findings.push(not_seen(&view.node.name, UNREAD, text.clone()));
        }
    }
}

/// The nodes that a finding is about.
fn nodes_of(finding: &Finding) -> impl Iterator<Item = &str> {
    finding.place.split(" <-> ")
}
