//! A node routes its pods' packets: without forwarding they end there (preflight list, beside 6).

use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::finding::{Finding, Severity};

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        let all = "net.ipv4.ip_forward";
        if view.seen.sysctl(all) == Some(0) {
            findings.push(
                Finding::new(
                    "no-ip-forwarding",
                    Severity::Error,
                    &view.node.name,
                    format!("{} does not forward packets", view.node.name),
                )
                .seen(format!("{all} = 0"))
                .why(
                    "a node is the router of its pods, and a gateway that of its cluster: what is not for the node \
                     itself is dropped",
                )
                .remedy(format!("sysctl -w {all}=1"))
                .on_a_cluster(format!("echo '{all} = 1' > /etc/sysctl.d/99-kubernetes.conf  # so that it stays"))
                .verify(format!("sysctl -n {all} | grep -qx 1")),
            );
            continue;
        }
        for device in devices(&view) {
            let (name, value) = view.seen.device_sysctl(&device, "forwarding");
            if value == Some(0) {
                findings.push(
                    Finding::new(
                        "no-ip-forwarding",
                        Severity::Error,
                        &view.node.name,
                        format!(
                            "{} does not forward packets that come in by {device}",
                            view.node.name
                        ),
                    )
                    .seen(format!("{name} = 0"))
                    .why("a node is the router of its pods; for what comes in by this device it is none")
                    .remedy(format!("sysctl -w {name}=1"))
                    .verify(format!("sysctl -n {name} | grep -qx 1")),
                );
            }
        }
    }
}

/// The devices by which packets come in that go on.
fn devices(view: &NodeView<'_>) -> Vec<String> {
    let mut devices: Vec<String> = [view.uplink(), view.tunnel()]
        .into_iter()
        .flatten()
        .map(|link| link.name.clone())
        .collect();
    if let Some(submariner) = &view.cluster.submariner {
        devices.push(submariner.tunnel.device.clone());
        devices.extend(
            submariner
                .cable_tunnel
                .as_ref()
                .map(|tunnel| tunnel.device.clone()),
        );
    }
    devices.extend(
        view.node
            .pods
            .iter()
            .map(|pod| pod.host_device.clone())
            .filter(|device| !device.is_empty()),
    );
    devices
}
