//! Reads what the kernel of the calling thread's network namespace holds: netlink for devices, routes, rules,
//! neighbours and the packet filter, /proc/sys for sysctls, /proc/net for sockets and counters. Nothing is changed.
//! What can't be read, for want of rights or of a part of the kernel, is said in [`Inspection::unseen`].

mod filter;
mod legacy;
mod sets;
mod tables;

use super::ipsec;
use super::network::{NetworkError, apart, connect};
use crate::evidence::{Inspection, device_sysctl};
use std::collections::BTreeMap;
use std::fs;

/// Sysctls of the place as a whole that decide where packets go.
const SYSCTLS: [&str; 8] = [
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.all.src_valid_mark",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.ip_no_pmtu_disc",
    "net.ipv4.ip_forward_use_pmtu",
    "net.netfilter.nf_conntrack_max",
];

/// Those of each device.
const DEVICE_SYSCTLS: [&str; 6] = [
    "rp_filter",
    "forwarding",
    "proxy_arp",
    "accept_local",
    "send_redirects",
    "arp_ignore",
];

/// Reads all of it. Blocks for some milliseconds; may be called with and without a tokio runtime.
///
/// # Errors
/// Where routes and devices can't be read at all.
pub fn inspect() -> Result<Inspection, NetworkError> {
    let mut seen = apart(async || {
        let route = connect()?;
        let mut seen = tables::read(&route).await?;
        filter::read(&mut seen).await;
        match ipsec::read().await {
            Ok(ipsec) => seen.ipsec = Some(ipsec),
            // Told where it matters: at gateways with such a cable.
            Err(error) => tracing::debug!("IPsec's policies are left out: {error}"),
        }
        Ok(seen)
    })?;
    legacy::read(&mut seen);
    super::machine::kernel_release().clone_into(&mut seen.kernel);
    for name in SYSCTLS {
        read_sysctl(name.to_owned(), &mut seen.sysctls);
    }
    for link in &seen.links {
        for what in DEVICE_SYSCTLS {
            read_sysctl(device_sysctl(&link.name, what), &mut seen.sysctls);
        }
    }
    seen.udp_ports = fs::read_to_string("/proc/self/net/udp")
        .map(|text| listening(&text))
        .unwrap_or_default();
    // The kernel's own VXLAN sockets are in no list.
    let vxlan = seen
        .links
        .iter()
        .filter(|link| link.up)
        .filter_map(|link| Some(link.vxlan.as_ref()?.port));
    seen.udp_ports.extend(vxlan);
    seen.udp_ports.sort_unstable();
    seen.udp_ports.dedup();
    for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
        if let Ok(text) = fs::read_to_string(file) {
            seen.counters.extend(counters(&text));
        }
    }
    if let Ok(text) = fs::read_to_string("/proc/thread-self/net/xfrm_stat") {
        seen.counters.extend(ipsec::counters(&text));
    }
    Ok(seen)
}

/// The file of a sysctl: dots part directories, and a slash is a dot of a name (sysctl(8)).
fn file_of(name: &str) -> String {
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect();
    format!("/proc/sys/{path}")
}

fn read_sysctl(name: String, into: &mut BTreeMap<String, String>) {
    // A kernel may lack one.
    if let Ok(value) = fs::read_to_string(file_of(&name)) {
        into.insert(name, value.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

/// Local ports of /proc/net/udp.
fn listening(text: &str) -> Vec<u16> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
            u16::from_str_radix(port, 16).ok()
        })
        .collect()
}

/// Pairs of lines, `Ip: names` and `Ip: values`, of /proc/net/snmp and netstat.
fn counters(text: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else {
            continue;
        };
        let Some((_, values)) = values.split_once(':') else {
            continue;
        };
        found.extend(
            names
                .split_whitespace()
                .zip(values.split_whitespace())
                // Some are settings, and may be negative.
                .filter_map(|(name, value)| Some((format!("{group}.{name}"), value.parse().ok()?))),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_of_a_device_stays_a_dot() {
        assert_eq!(
            file_of("net.ipv4.conf.vxlan/calico.rp_filter"),
            "/proc/sys/net/ipv4/conf/vxlan.calico/rp_filter"
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        let seen = inspect().unwrap();
        let lo = seen.link("lo").unwrap();
        assert!(lo.addresses.iter().any(|own| own.to_string() == "127.0.0.1/8"));
        assert!(
            seen.rules
                .iter()
                .any(|rule| rule.table == crate::evidence::MAIN_TABLE)
        );
        assert!(
            seen.routes
                .iter()
                .any(|route| route.destination.to_string() == "127.0.0.0/8")
        );
        assert!(seen.counters.contains_key("TcpExt.IPReversePathFilter"));
        assert!(seen.sysctl("net.ipv4.ip_forward").is_some());
    }

    #[test]
    fn sockets_and_counters() {
        let udp = "  sl  local_address rem_address   st\n  12: 00000000:12B5 00000000:0000 07\n";
        assert_eq!(listening(udp), [4789]);
        let snmp = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoMax MaxConn\nTcp: 120000 -1\n";
        assert_eq!(
            counters(snmp),
            [
                ("Ip.Forwarding".to_owned(), 1),
                ("Ip.DefaultTTL".to_owned(), 64),
                ("Tcp.RtoMax".to_owned(), 120_000)
            ]
        );
    }
}
