//! The reverse-path filter (RFC 3704): a packet that comes in by another device than its answer would leave by is
//! dropped where the filter is strict. The kernel takes the larger of `all` and the device's value, 2 being loose
//! (preflight list, 2).

use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib::{self, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::units::Cidr4;
use std::collections::BTreeMap;

/// A stream of packets that comes in by one device and would be answered by another.
struct Asymmetry {
    sources: Cidr4,
    answer: String,
    sender: String,
}

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        let mut by_device: BTreeMap<String, Vec<Asymmetry>> = BTreeMap::new();
        for (device, found) in asymmetries(case, &view) {
            by_device.entry(device).or_default().push(found);
        }
        for (device, streams) in by_device {
            let all = view.seen.sysctl("net.ipv4.conf.all.rp_filter").unwrap_or(0);
            let (name, own) = view.seen.device_sysctl(&device, "rp_filter");
            if all.max(own.unwrap_or(0)) == 1 {
                findings.push(finding(&view, &device, &name, all, own.unwrap_or(0), &streams));
            }
        }
    }
}

fn finding(
    view: &NodeView<'_>,
    device: &str,
    name: &str,
    all: i64,
    own: i64,
    streams: &[Asymmetry],
) -> Finding {
    let mut finding = Finding::new(
        "rp-filter",
        Severity::Error,
        &view.node.name,
        format!("{device} drops packets whose answer would leave by another device"),
    )
    .seen(format!(
        "{name} = {own}, net.ipv4.conf.all.rp_filter = {all}: the larger counts, 1 is strict"
    ));
    for stream in streams {
        finding = finding.seen(format!(
            "packets from {} come in by {device} (from {}), the answer goes: {}",
            stream.sources, stream.sender, stream.answer
        ));
    }
    let dropped = view
        .seen
        .counters
        .get("TcpExt.IPReversePathFilter")
        .copied()
        .unwrap_or(0);
    if dropped > 0 {
        finding = finding.seen(format!(
            "{dropped} packets dropped so since the node was up (nstat IPReversePathFilter)"
        ));
    }
    finding
        .why(
            "Calico's CrossSubnet brings packets of a subnet in as they are, by the uplink, while Submariner answers by \
             vx-submariner: a strict filter takes that for spoofing, silently. Always hides it, for then they come \
             in by vxlan.calico, whose filter the route agent makes loose",
        )
        .remedy(format!("sysctl -w {name}=2"))
        .on_a_cluster(format!(
            "echo 'net.ipv4.conf.{}.rp_filter = 2' > /etc/sysctl.d/99-submariner.conf  # on each node, so that it stays",
            device.replace('.', "/")
        ))
        .on_a_cluster(
            "# only where the network itself drops pods' addresses (anti-spoofing), encapsulate all: \
             kubectl patch ippool default-ipv4-ippool --type merge -p '{\"spec\":{\"vxlanMode\":\"Always\"}}'",
        )
        .verify(format!("sysctl -n {name} | grep -qx 2"))
}

/// Where packets come in from other nodes and clusters, and where their answers go, as far as the two differ.
fn asymmetries(case: &Examination, view: &NodeView<'_>) -> Vec<(String, Asymmetry)> {
    let mut found = Vec::new();
    let mut compare = |sender: &NodeView<'_>, sources: Cidr4, input: Option<&str>, device: Option<String>| {
        let Some(device) = device else { return };
        let _ = input;
        let Some(source) = sources.address(1).or_else(|| sources.address(0)) else {
            return;
        };
        let answer = fib::look_up(
            view.seen,
            &Packet {
                from: None,
                to: source,
                input: None,
            },
        );
        // Where there is no answer at all, that is another finding.
        let Some(leaves) = answer.device() else { return };
        if leaves != device {
            found.push((
                device,
                Asymmetry {
                    sources,
                    answer: answer.text(),
                    sender: sender.node.name.clone(),
                },
            ));
        }
    };
    for peer in case.peers(view) {
        for block in &view.node.blocks {
            for own in &peer.node.blocks {
                // Pods of one pool speak to each other.
                if own.mode == block.mode {
                    let from = own.cidr.address(1);
                    let device = arrives_by(&peer, view, block.cidr, from, None);
                    compare(&peer, own.cidr, None, device);
                }
            }
        }
    }
    let Some(submariner) = &view.cluster.submariner else {
        return found;
    };
    let remote = case.setup.remote_cidrs(view.cluster);
    if submariner.gateway == view.node.name {
        // What workers send to other clusters.
        for peer in case.peers(view) {
            let device = view
                .seen
                .link(&submariner.tunnel.device)
                .map(|link| link.name.clone());
            for own in &peer.node.blocks {
                compare(&peer, own.cidr, None, device.clone());
            }
        }
        return found;
    }
    let Some(gateway) = case.node(&submariner.gateway) else {
        return found;
    };
    let cable = submariner
        .cable_tunnel
        .as_ref()
        .map(|tunnel| tunnel.device.as_str());
    for block in &view.node.blocks {
        for cidr in &remote {
            let device = arrives_by(&gateway, view, block.cidr, cidr.address(1), cable);
            compare(&gateway, *cidr, cable, device);
        }
    }
    found
}

/// The device of `view` by which packets for `block` come in from `sender`.
fn arrives_by(
    sender: &NodeView<'_>,
    view: &NodeView<'_>,
    block: Cidr4,
    from: Option<std::net::Ipv4Addr>,
    input: Option<&str>,
) -> Option<String> {
    let to = block.address(1)?;
    let leaves = fib::look_up(sender.seen, &Packet { from, to, input }).device()?;
    if Some(leaves) == sender.tunnel().map(|link| link.name.as_str()) {
        return view.tunnel().map(|link| link.name.clone());
    }
    if Some(leaves) == sender.uplink().map(|link| link.name.as_str()) {
        return view.uplink().map(|link| link.name.clone());
    }
    None
}
