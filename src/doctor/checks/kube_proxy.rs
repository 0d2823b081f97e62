//! kube-proxy's mode, as its traces on nodes tell it: Submariner works with iptables alone (preflight list, 9).

use crate::doctor::examination::Examination;
use crate::doctor::finding::{Finding, Severity};

/// The device of the addresses of all Services in IPVS mode.
const IPVS: &str = "kube-ipvs0";
/// The table of nftables mode.
const NFTABLES: &str = "kube-proxy";

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes().filter(|view| view.cluster.submariner.is_some()) {
        let ipvs = view.seen.link(IPVS).is_some();
        let nftables = view.seen.chains.iter().any(|chain| chain.table == NFTABLES);
        let (mode, seen) = match (ipvs, nftables) {
            (true, _) => ("ipvs", format!("device {IPVS}")),
            (_, true) => ("nftables", format!("nftables table {NFTABLES}")),
            (false, false) => continue,
        };
        let mut finding = Finding::new(
            "kube-proxy-mode",
            Severity::Warning,
            &view.node.name,
            format!("kube-proxy runs in {mode} mode, or has left its traces"),
        )
        .seen(seen)
        .why(
            "Submariner is made for kube-proxy's iptables mode: in others packets from other clusters to a Service's \
             address miss its chains",
        )
        .on_a_cluster(
            "# first, so that it is not made again: set `mode: iptables` in `kubectl -n kube-system edit configmap \
             kube-proxy`, then kubectl -n kube-system rollout restart daemonset kube-proxy",
        );
        finding = if ipvs {
            finding
                .remedy(format!("ip link del dev {IPVS}"))
                .verify(format!("! ip link show dev {IPVS} 2>/dev/null"))
        } else {
            finding
                .remedy(format!("nft delete table ip {NFTABLES}"))
                .verify(format!("! nft list table ip {NFTABLES} 2>/dev/null"))
        };
        findings.push(finding);
    }
}
