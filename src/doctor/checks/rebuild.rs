//! The commands that make a VXLAN device anew where it is missing or another's.

use crate::doctor::examination::NodeView;
use crate::evidence::TunnelSetup;
use crate::units::Mtu;

/// Makes the device, without entries and routes. Where no MAC is given the kernel draws one.
pub(super) fn device(
    view: &NodeView<'_>,
    tunnel: &TunnelSetup,
    addresses: &[String],
    mac: Option<&str>,
) -> Vec<String> {
    let name = &tunnel.device;
    let (uplink, mtu) = view
        .uplink()
        .map_or(("eth0", 1500), |link| (link.name.as_str(), link.mtu));
    // Calico's entries are static, and its device learns nothing; Submariner's finds its peers by ARP.
    let made = mac.map_or_else(String::new, |mac| format!(" address {mac}"));
    let learns = if mac.is_some() { " nolearning" } else { "" };
    let mut commands = vec![format!(
        "ip link add {name}{made} type vxlan id {} dstport {} local {} dev {uplink}{learns}",
        tunnel.vni, tunnel.port, view.node.address
    )];
    commands.extend(
        addresses
            .iter()
            .map(|address| format!("ip addr add {address} dev {name}")),
    );
    commands.push(format!(
        "ip link set dev {name} mtu {} up",
        mtu.saturating_sub(u32::from(Mtu::VXLAN_OVERHEAD))
    ));
    commands.push(format!(
        "sysctl -w {}=2",
        crate::evidence::device_sysctl(name, "rp_filter")
    ));
    commands
}

/// A command that succeeds where the device is what it should be.
pub(super) fn verify(tunnel: &TunnelSetup) -> String {
    format!(
        "ip -d link show dev {} | grep -q 'vxlan id {} .*dstport {} '",
        tunnel.device, tunnel.vni, tunnel.port
    )
}

/// The devices that a node has.
pub(super) fn names(view: &NodeView<'_>) -> String {
    view.seen
        .links
        .iter()
        .map(|link| link.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
