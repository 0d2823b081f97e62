//! Hosts: names, addresses, and what ssh is told.

use super::{Problems, empty, name_fault};
use crate::scenario::{Encapsulation, Fabric, Hosts, PathSpec, PlaceRef, Scenario, Ssh, problem::Step};
use std::collections::BTreeSet;

/// Options of ssh that are ours to set: the transport stands on them.
const OURS: [&str; 9] = [
    "BatchMode",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
    "EscapeChar",
    "ForkAfterAuthentication",
    "RemoteCommand",
    "RequestTTY",
    "SessionType",
];

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    let Fabric::Hosts(hosts) = &scenario.fabric else {
        return;
    };
    let root: [Step; 2] = ["fabric".into(), "hosts".into()];
    let at = |more: &[Step]| [&root[..], more].concat();
    if hosts.nodes.is_empty() {
        problems.say(&at(&["nodes".into()]), empty("nodes"), None);
    }
    if !hosts.folder.starts_with('/') || hosts.folder.chars().any(char::is_control) {
        problems.say(
            &at(&["folder".into()]),
            format!("`folder` is a whole path on each host, not `{}`", hosts.folder),
            "for instance `/tmp` or `/var/tmp`".to_owned(),
        );
    }
    if hosts.ssh.host.is_some() {
        problems.say(
            &at(&["ssh".into(), "host".into()]),
            "`host` is said for one host, and this is for all of them",
            "move it into that node's own `ssh`".to_owned(),
        );
    }
    ssh(&hosts.ssh, &at(&["ssh".into()]), problems);
    let mut names = BTreeSet::new();
    for (index, host) in hosts.nodes.iter().enumerate() {
        let at = |key: &'static str| at(&["nodes".into(), index.into(), key.into()]);
        if let Some(fault) = name_fault(&host.name) {
            problems.say(&at("name"), format!("a node's name {fault}"), None);
        }
        if !names.insert(host.name.as_str()) {
            problems.say(
                &at("name"),
                format!("another node is named `{}` too", host.name),
                None,
            );
        }
        if host.address.is_unspecified() || host.address.is_multicast() {
            problems.say(
                &at("address"),
                format!("{} is not the address of a host", host.address),
                "give the one that the other hosts reach it at".to_owned(),
            );
        }
        if let Some(device) = &host.device
            // IFNAMSIZ is 16, its closing zero included (netdevice(7)).
            && (device.is_empty()
                || device.len() > 15
                || device.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()))
        {
            problems.say(
                &at("device"),
                format!("`{device}` can't be a network device"),
                "`ip link` on the host lists them: eth0, ens192 and others".to_owned(),
            );
        }
        ssh(&host.ssh, &at("ssh"), problems);
    }
}

fn ssh(ssh: &Ssh, at: &[Step], problems: &mut Problems) {
    let at = |key: &'static str| [at, &[key.into()]].concat();
    if ssh.port == Some(0) {
        problems.say(&at("port"), "port must be from 1 to 65535, not 0", None);
    }
    for (key, value) in [("host", &ssh.host), ("user", &ssh.user)] {
        if let Some(value) = value
            && (value.is_empty()
                || value.starts_with('-')
                || value.contains(|c: char| c.is_whitespace() || c.is_control()))
        {
            problems.say(
                &at(key),
                format!("`{value}` can't be a {key}"),
                "no blanks, and no `-` in front: ssh would take it for an option".to_owned(),
            );
        }
    }
    if ssh.identity.as_deref() == Some("") {
        problems.say(
            &at("identity"),
            "the file of the private key is missing here",
            None,
        );
    }
    for (name, value) in &ssh.options {
        if !name.chars().all(|c| c.is_ascii_alphanumeric()) || name.is_empty() {
            problems.say(
                &at("options"),
                format!("`{name}` can't be an option of ssh"),
                "options have the names that ssh_config(5) gives them, such as `ProxyJump`".to_owned(),
            );
        } else if let Some(ours) = OURS.iter().find(|ours| ours.eq_ignore_ascii_case(name)) {
            problems.say(
                &at("options"),
                format!("`{ours}` is set by encapbench"),
                "leave it out".to_owned(),
            );
        } else if value.chars().any(char::is_control) {
            problems.say(
                &at("options"),
                format!("the value of `{name}` has a control character"),
                None,
            );
        }
    }
}

/// What holds of a path between hosts. Says whether it can be looked at further.
pub(super) fn path(
    scenario: &Scenario,
    hosts: &Hosts,
    spec: &PathSpec,
    at: &impl Fn(&'static str) -> Vec<Step>,
    problems: &mut Problems,
) -> bool {
    let mut fine = true;
    for (key, place) in [("from", &spec.from), ("to", &spec.to)] {
        if let PlaceRef::Pod { node, .. } = place {
            problems.say(
                &at(key),
                format!("`{place}` is a pod, and this fabric has hosts only"),
                format!("write `{node}`"),
            );
            fine = false;
        } else if spec.encapsulation.is_some_and(Encapsulation::is_tunnel)
            && hosts
                .nodes
                .iter()
                .any(|host| host.name == place.node() && host.device.is_none())
        {
            problems.say(
                &at(key),
                format!(
                    "the path is said to be encapsulated, so `{}` must name the device that carries what leaves it",
                    place.node()
                ),
                "add `device: eth0`, or whatever its name is, to the node: the proof compares its bytes with the \
                 tunnel's"
                    .to_owned(),
            );
            fine = false;
        }
    }
    if spec.vxlan_mode.is_some() {
        problems.say(
            &at("vxlan-mode"),
            "`vxlan-mode` is a setting of pods' addresses, and this fabric has hosts only",
            "say `encapsulation: vxlan` where the hosts' own network wraps packets".to_owned(),
        );
        fine = false;
    }
    let address = |place: &PlaceRef| {
        let host = hosts.nodes.iter().find(|host| host.name == place.node());
        host.map(|host| host.address)
    };
    if let (Some(from), Some(to)) = (address(&spec.from), address(&spec.to))
        && from.is_ipv4() != to.is_ipv4()
    {
        problems.say(
            &at("to"),
            format!("`{}` has the address {from}, `{}` has {to}", spec.from, spec.to),
            "both ends of a path need addresses of one kind, IPv4 or IPv6".to_owned(),
        );
        fine = false;
    }
    fine && scenario.node(spec.from.node()).is_some()
}
