//! Checksum and segmentation offload of the tunnel: bulk data stalls while small packets pass (preflight list, 7).

use crate::doctor::examination::{Examination, ProbeResult};
use crate::doctor::fib;
use crate::doctor::finding::{Finding, Severity};
use std::collections::BTreeMap;

const OFFLOAD: &str = "tx-checksum-ip-generic";
/// Fewer lost segments than this may be chance.
const LOSSES: u32 = 3;

/// Whether bulk data stalled by loss.
fn stalls(probe: &ProbeResult) -> bool {
    probe.is_reachable()
        && probe.seen.passing_mtu == probe.seen.believed_mtu
        && probe
            .seen
            .bulk
            .is_some_and(|bulk| !bulk.is_whole() && bulk.retransmits >= LOSSES)
}

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    let mut by_sender: BTreeMap<(&str, &str), Vec<&ProbeResult>> = BTreeMap::new();
    for probe in case.probes.iter().filter(|probe| stalls(probe)) {
        let (Some(view), Some(to)) = (case.node(probe.from.node()), case.setup.address(&probe.to)) else {
            continue;
        };
        let from = case.setup.address(&probe.from);
        let device = fib::look_up(
            view.seen,
            &fib::Packet {
                from,
                to,
                input: None,
            },
        )
        .device();
        let tunnel = device
            .and_then(|device| view.seen.link(device))
            .filter(|link| link.vxlan.is_some());
        if let Some(link) = tunnel {
            by_sender
                .entry((probe.from.node(), link.name.as_str()))
                .or_default()
                .push(probe);
        }
    }
    for ((node, device), probes) in by_sender {
        let Some(view) = case.node(node) else { continue };
        let link = view.seen.link(device);
        let is_on = link.and_then(|link| link.offloads.get(OFFLOAD).copied());
        let mut finding = Finding::new(
            "checksum-offload",
            Severity::Error,
            node,
            format!("bulk data that {node} sends by {device} stalls, while small packets get through"),
        );
        for probe in probes.iter().take(3) {
            if let Some(bulk) = probe.seen.bulk {
                finding = finding.seen(format!(
                    "{}: {} of {} bytes by TCP within {} ms, {} segments sent again",
                    probe.path(),
                    bulk.arrived,
                    bulk.bytes,
                    bulk.milliseconds,
                    bulk.retransmits
                ));
            }
        }
        let uplink = view.uplink();
        finding = finding.seen(format!(
            "{OFFLOAD} of {device}: {}; kernel {}; {} by {}",
            match is_on {
                Some(true) => "on",
                Some(false) => "off",
                None => "not known",
            },
            view.seen.kernel,
            uplink.map_or("no uplink", |link| link.name.as_str()),
            uplink
                .map(|link| if link.driver.is_empty() {
                    link.kind.as_str()
                } else {
                    link.driver.as_str()
                })
                .unwrap_or_default()
        ));
        finding = finding.why(
            "with the offload on, packets leave the tunnel with their checksum unfinished, for the NIC to complete; some \
             kernels and NICs (vmxnet3 with UDP 4789, kernels 6.12 and later with some drivers) corrupt or drop them. \
             ICMP and small requests work, so that the path looks healthy",
        );
        findings.push(if is_on == Some(false) {
            finding
                .on_a_cluster("# the offload is off already: look at the uplink's own, `ethtool -K UPLINK tx off`, and at its driver")
        } else {
            finding
                .remedy(format!("ethtool -K {device} {OFFLOAD} off"))
                .on_a_cluster(
                    "kubectl patch felixconfiguration default --type merge -p \
                     '{\"spec\":{\"featureDetectOverride\":\"ChecksumOffloadBroken=true\"}}'  # Felix sets it when it makes the device",
                )
                .verify(format!("ethtool -k {device} | grep -q '{OFFLOAD}: off'"))
        });
    }
}
