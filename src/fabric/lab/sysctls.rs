//! The sysctls of the lab's network namespaces. A new one copies some from the host and defaults others, so that the
//! same lab would behave differently from host to host: all that matter are set, and what was set is recorded.

use crate::scenario::RpFilter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// What a network namespace of a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceKind {
    /// A node.
    Node,
    /// A pod.
    Pod,
    /// The router between subnets.
    Router,
    /// The subnets' bridges.
    Switch,
}

/// A sysctl that the lab set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SysctlSet {
    /// In which namespaces.
    pub namespace: NamespaceKind,
    /// Its name, without `net.`, `cali*` standing for each pod's device.
    pub name: String,
    /// What the lab wanted.
    pub wanted: String,
    /// What it is; `None`: this kernel has no such sysctl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}

/// All sysctls set so far, each once.
#[derive(Debug, Default)]
pub(super) struct Record(BTreeMap<(NamespaceKind, String), SysctlSet>);

impl Record {
    pub(super) fn into_list(self) -> Vec<SysctlSet> {
        self.0.into_values().collect()
    }

    /// Sets a sysctl in the calling thread's network namespace. Does not fail: a kernel may lack one, or refuse a
    /// value (a congestion control that is not there); the record shows it.
    fn set(&mut self, namespace: NamespaceKind, name: &str, shown: &str, wanted: &str) {
        // As sysctl(8) has it: in a name, a slash is a device's dot.
        let path: String = name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect();
        let file = format!("/proc/sys/net/{path}");
        let refused = fs::write(&file, wanted).err();
        self.0.entry((namespace, shown.to_owned())).or_insert_with(|| {
            // As the kernel shows it, with blanks for tabs.
            let is = fs::read_to_string(&file)
                .ok()
                .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
            if let (Some(error), true) = (refused, is.is_some()) {
                tracing::debug!("net.{name} stays {is:?} in the lab: {error}");
            }
            SysctlSet {
                namespace,
                name: shown.to_owned(),
                wanted: wanted.to_owned(),
                is,
            }
        });
    }

    /// What is set before a namespace has devices, which take over `default`.
    pub(super) fn set_first(&mut self, namespace: NamespaceKind) {
        use NamespaceKind::{Node, Pod, Router, Switch};
        let mut set = |name: &str, value: &str| self.set(namespace, name, name, value);
        // IPv4 only: no neighbour discovery between the measured packets.
        set("ipv6.conf.all.disable_ipv6", "1");
        set("ipv6.conf.default.disable_ipv6", "1");
        // For a routing namespace these come first: changing forwarding resets the rest of `conf`.
        let forwards = matches!(namespace, Node | Router);
        set("ipv4.conf.all.forwarding", if forwards { "1" } else { "0" });
        set("ipv4.conf.default.forwarding", if forwards { "1" } else { "0" });
        // `all` 0, since the larger of `all` and the device's counts. What nodes' devices have is theirs to say.
        set("ipv4.conf.all.rp_filter", "0");
        if namespace != Node {
            set("ipv4.conf.default.rp_filter", "0");
        }
        set("ipv4.conf.all.proxy_arp", "0");
        set("ipv4.conf.default.proxy_arp", "0");
        set("ipv4.conf.all.send_redirects", "0");
        set("ipv4.conf.default.send_redirects", "0");
        set("ipv4.conf.all.accept_redirects", "0");
        set("ipv4.conf.default.accept_redirects", "0");
        if namespace == Switch {
            // Where br_netfilter is loaded, bridged packets would run through iptables.
            set("bridge.bridge-nf-call-iptables", "0");
            set("bridge.bridge-nf-call-arptables", "0");
        }
        if matches!(namespace, Node | Pod) {
            set("ipv4.tcp_congestion_control", "cubic");
            // The kernel's own on a machine with some memory.
            set("ipv4.tcp_rmem", "4096 131072 6291456");
            set("ipv4.tcp_wmem", "4096 16384 4194304");
            set("ipv4.tcp_moderate_rcvbuf", "1");
            set("ipv4.tcp_window_scaling", "1");
            set("ipv4.tcp_timestamps", "1");
            set("ipv4.tcp_sack", "1");
            set("ipv4.tcp_ecn", "2");
            set("ipv4.tcp_mtu_probing", "0");
            set("ipv4.ip_no_pmtu_disc", "0");
            set("ipv4.tcp_slow_start_after_idle", "1");
            // No trial may inherit the congestion window that another left behind.
            set("ipv4.tcp_no_metrics_save", "1");
            // Many short connections (tcp-crr) must not run out of ports.
            set("ipv4.ip_local_port_range", "1024 65535");
            set("ipv4.tcp_tw_reuse", "1");
            // So that ping works in a lab that an ordinary user made.
            set("ipv4.ping_group_range", "0 0");
        }
    }

    /// The host's own `rp_filter`, which devices made from now on take over: loose as systemd sets it, or as the
    /// scenario says. Felix makes the pods' devices strict.
    pub(super) fn set_default_rp_filter(&mut self, node: &str, wanted: RpFilter) {
        let name = "ipv4.conf.default.rp_filter";
        let shown = if wanted == RpFilter::default() {
            name.to_owned()
        } else {
            format!("{name} of {node}")
        };
        self.set(NamespaceKind::Node, name, &shown, wanted.value());
    }

    /// Sets `rp_filter` of a node's device.
    pub(super) fn set_rp_filter(&mut self, device: &str, value: &str) {
        let name = format!("ipv4.conf.{}.rp_filter", device.replace('.', "/"));
        self.set(NamespaceKind::Node, &name, &name, value);
    }

    /// What Felix sets on the node's end of a pod's veth (`felix/dataplane/linux/endpoint_mgr.go`).
    pub(super) fn set_pod_device(&mut self, device: &str) {
        for (what, value) in [
            ("ipv4.conf.DEVICE.rp_filter", "1"),
            ("ipv4.conf.DEVICE.route_localnet", "1"),
            ("ipv4.conf.DEVICE.proxy_arp", "1"),
            ("ipv4.conf.DEVICE.forwarding", "1"),
            // Else the answer to the pod's first ARP request is put off by up to 0.8 s.
            ("ipv4.neigh.DEVICE.proxy_delay", "0"),
        ] {
            self.set(
                NamespaceKind::Node,
                &what.replace("DEVICE", device),
                &what.replace("DEVICE", "cali*"),
                value,
            );
        }
    }
}
