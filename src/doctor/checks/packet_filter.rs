//! The packet filter: what it drops of pods' packets in FORWARD, of tunnels in INPUT and OUTPUT, and how many rules
//! every packet is held against (preflight list, 6 and 10).

use crate::doctor::examination::{Examination, KnockResult, NodeView};
use crate::doctor::fib;
use crate::doctor::filter::{self, Fate, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{FilterChain, FilterHook, FilterRule, FilterTool, Inspection};
use crate::scenario::Place;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// More rules than this for every packet cost a share of throughput that can be measured.
const MANY_RULES: u32 = 500;

pub(super) fn check(case: &Examination, findings: &mut Vec<Finding>) {
    for view in case.nodes() {
        forward(case, &view, findings);
        load(case, &view, findings);
    }
    ports(case, findings);
}

/// How a finding names a rule or policy.
fn named(chain: &FilterChain, rule: Option<&FilterRule>) -> String {
    match (rule, chain.tool) {
        (Some(rule), FilterTool::Nft) => {
            format!("chain {}: {} (handle {})", chain.path(), rule.text, rule.handle)
        }
        (Some(rule), FilterTool::IptablesLegacy) => {
            format!("iptables-legacy -A {} {}", chain.name, rule.text)
        }
        (None, FilterTool::Nft) => format!("chain {}: policy drop", chain.path()),
        (None, FilterTool::IptablesLegacy) => format!("iptables-legacy -P {} DROP", chain.name),
    }
}

/// The commands that take a rule or a policy away, and that show that it is gone.
fn undo(chain: &FilterChain, rule: Option<&FilterRule>) -> (String, String) {
    let path = chain.path();
    let name = &chain.name;
    match (rule, chain.tool) {
        (Some(rule), FilterTool::Nft) => (
            format!("nft delete rule {path} handle {}", rule.handle),
            format!("! nft -a list chain {path} | grep -q 'handle {}$'", rule.handle),
        ),
        (None, FilterTool::Nft) => (
            format!("nft chain {path} '{{ policy accept; }}'"),
            format!("nft list chain {path} | grep -q 'policy accept'"),
        ),
        (Some(rule), FilterTool::IptablesLegacy) => (
            format!("iptables-legacy -t {} -D {name} {}", chain.table, rule.handle),
            format!("! iptables-legacy -t {} -C {name} {}", chain.table, rule.text),
        ),
        (None, FilterTool::IptablesLegacy) => (
            format!("iptables-legacy -P {name} ACCEPT"),
            format!("iptables-legacy -S {name} | grep -qx -- '-P {name} ACCEPT'"),
        ),
    }
}

/// What goes through a node for its pods, and for its cluster where it is the gateway.
fn through<'a>(case: &'a Examination, view: &NodeView<'a>) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let own: Vec<Ipv4Addr> = view
        .node
        .blocks
        .iter()
        .filter_map(|block| {
            let pod = view.node.pods.iter().find(|pod| block.cidr.contains(pod.address));
            pod.map(|pod| pod.address).or_else(|| block.cidr.address(1))
        })
        .collect();
    let mut others: Vec<Ipv4Addr> = case
        .peers(view)
        .flat_map(|peer| peer.node.blocks.iter().filter_map(|block| block.cidr.address(1)))
        .collect();
    let remote: Vec<Ipv4Addr> = case
        .setup
        .remote_cidrs(view.cluster)
        .iter()
        .filter_map(|cidr| cidr.address(1))
        .collect();
    others.extend(&remote);
    let mut pairs: Vec<(Ipv4Addr, Ipv4Addr)> = own
        .iter()
        .flat_map(|own| others.iter().map(move |other| (*own, *other)))
        .collect();
    if view
        .cluster
        .submariner
        .as_ref()
        .is_some_and(|submariner| submariner.gateway == view.node.name)
    {
        let workers = case
            .peers(view)
            .flat_map(|peer| peer.node.blocks.iter().filter_map(|block| block.cidr.address(1)))
            .collect::<Vec<_>>();
        pairs.extend(
            workers
                .iter()
                .flat_map(|worker| remote.iter().map(move |remote| (*worker, *remote))),
        );
    }
    pairs.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect()
}

/// The devices of a packet that goes through.
fn devices<'a>(view: &NodeView<'a>, from: Ipv4Addr, to: Ipv4Addr) -> (Option<&'a str>, Option<&'a str>) {
    let by = |to: Ipv4Addr| {
        let own = view.node.pods.iter().find(|pod| pod.address == to);
        match own {
            Some(pod) if !pod.host_device.is_empty() => Some(pod.host_device.as_str()),
            _ => fib::look_up(
                view.seen,
                &fib::Packet {
                    from: None,
                    to,
                    input: None,
                },
            )
            .device(),
        }
    };
    (by(from), by(to))
}

fn forward(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let fails = case.probes.iter().any(|probe| {
        probe.from.is_pod()
            && !probe.is_reachable()
            && case.nodes_of(probe).contains(&view.node.name.as_str())
    });
    let mut told: BTreeSet<(String, u64)> = BTreeSet::new();
    for (from, to) in through(case, view) {
        let (input, output) = devices(view, from, to);
        for protocol in [TCP, UDP] {
            let packet = Packet {
                from,
                to,
                protocol,
                port: 8080,
                input,
                output,
                established: false,
            };
            let (chain, rule) = match filter::fate(view.seen, FilterHook::Forward, &packet).0 {
                Fate::Drops(chain, rule) => (chain, rule),
                Fate::MayDrop(chain, rule) if fails => (chain, rule),
                _ => continue,
            };
            if !told.insert((chain.path(), rule.map_or(0, |rule| rule.handle))) {
                continue;
            }
            let (remedy, verify) = undo(chain, rule);
            let title = match rule {
                Some(_) => "a packet filter rule drops pods' packets that go through this node",
                None => "the FORWARD policy drops pods' packets that go through this node",
            };
            let finding = Finding::new("forward-drop", Severity::Error, &view.node.name, title)
                .seen(named(chain, rule))
                .seen(format!(
                    "a packet from {from} to {to} (in {}, out {}) ends there",
                    input.unwrap_or("?"),
                    output.unwrap_or("?")
                ))
                .why(
                    "pods' packets are forwarded packets: what FORWARD drops never leaves the node, or never arrives; \
                     Docker and some hardenings leave the policy at DROP",
                )
                .remedy(remedy)
                .verify(verify);
            findings.push(match rule {
                Some(_) => finding,
                None => finding
                    .on_a_cluster("iptables -P FORWARD ACCEPT  # on the node; and in what sets it at boot"),
            });
        }
    }
}

/// The base chains that hold a packet against many rules, with how many.
fn long_chains<'a>(
    seen: &'a Inspection,
    hook: FilterHook,
    packet: &Packet<'_>,
) -> Vec<(&'a FilterChain, u32)> {
    seen.chains
        .iter()
        .filter(|chain| chain.hook == Some(hook) && !chain.nat)
        .filter_map(|chain| {
            let alone = Inspection {
                chains: seen
                    .chains
                    .iter()
                    .filter(|other| other.hook.is_none() || std::ptr::eq(*other, chain))
                    .cloned()
                    .collect(),
                ..Inspection::default()
            };
            let asked = filter::fate(&alone, hook, packet).1;
            (asked > MANY_RULES).then_some((chain, asked))
        })
        .collect()
}

fn load(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let rules: usize = view.seen.chains.iter().map(|chain| chain.rules.len()).sum();
    if rules <= MANY_RULES as usize {
        return;
    }
    let Some((from, to)) = through(case, view).into_iter().next() else {
        return;
    };
    let (input, output) = devices(view, from, to);
    let established = Packet {
        from,
        to,
        protocol: TCP,
        port: 8080,
        input,
        output,
        established: true,
    };
    let port = view.cluster.tunnel.port;
    let tunnelled = Packet {
        from: case.peers(view).next().map_or(from, |peer| peer.node.address),
        to: view.node.address,
        protocol: UDP,
        port,
        input: view.uplink().map(|link| link.name.as_str()),
        output: None,
        // The answer comes from another port, so that connection tracking sees no answer.
        established: false,
    };
    let mut finding = Finding::new(
        "rule-load",
        Severity::Warning,
        &view.node.name,
        "every packet is held against many packet filter rules",
    );
    let mut found = false;
    for (hook, packet, what, insert) in [
        (
            FilterHook::Forward,
            &established,
            "a packet of a known connection between pods",
            "ct state established,related accept".to_owned(),
        ),
        (
            FilterHook::Input,
            &tunnelled,
            "an encapsulated packet",
            format!("udp dport {port} accept"),
        ),
    ] {
        for (chain, asked) in long_chains(view.seen, hook, packet) {
            found = true;
            finding = finding.seen(format!(
                "chain {}: {what} is held against {asked} rules",
                chain.path()
            ));
            finding = match chain.tool {
                FilterTool::Nft => finding
                    .remedy(format!("nft insert rule {} {insert}", chain.path()))
                    .verify(format!("nft list chain {} | grep -q '{insert}'", chain.path())),
                FilterTool::IptablesLegacy if hook == FilterHook::Forward => finding.remedy(
                    "iptables-legacy -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
                ),
                FilterTool::IptablesLegacy => finding.remedy(format!(
                    "iptables-legacy -I INPUT -p udp --dport {port} -j ACCEPT"
                )),
            };
        }
    }
    if found {
        findings.push(
            finding
                .why(
                    "rules are asked one after the other, for each packet anew, and a tunnel's packets go through twice: \
                     a few thousand rules cost a large share of the throughput",
                )
                .on_a_cluster(
                    "# kube-proxy's nftables mode asks a map instead of a list (its ipvs mode does not work with Submariner): \
                     kubectl -n kube-system edit configmap kube-proxy  # mode: nftables",
                ),
        );
    }
}

/// Whether the nodes reach each other at all.
fn nodes_reach(case: &Examination, from: &str, to: &str) -> bool {
    case.probes.iter().any(|probe| {
        matches!((&probe.from, &probe.to), (Place::Node(a), Place::Node(b)) if a == from && b == to)
            && probe.seen.datagram
    })
}

/// Cables whose port can't be knocked at (WireGuard, IPsec), where no packet crosses them: their rules are all there is.
fn unheard_cables(case: &Examination) -> Vec<KnockResult> {
    let mut found = Vec::new();
    for view in case.nodes() {
        let Some(own) = view
            .cluster
            .submariner
            .as_ref()
            .filter(|own| own.gateway == view.node.name && own.cable_tunnel.is_none())
        else {
            continue;
        };
        for other in case
            .setup
            .clusters
            .iter()
            .filter(|other| other.name != view.cluster.name)
        {
            let Some(there) = &other.submariner else { continue };
            let crosses = case.probes.iter().any(|probe| {
                let nodes = case.nodes_of(probe);
                probe.is_reachable()
                    && probe.from.is_pod()
                    && nodes.contains(&own.gateway.as_str())
                    && nodes.contains(&there.gateway.as_str())
            });
            if !crosses {
                found.push(KnockResult {
                    from: there.gateway.clone(),
                    to: own.gateway.clone(),
                    port: own.cable_port,
                    device: own.cable_device.clone(),
                    heard: None,
                    error: None,
                });
            }
        }
    }
    found
}

/// UDP ports of tunnels.
fn ports(case: &Examination, findings: &mut Vec<Finding>) {
    let mut told: BTreeSet<(String, u16, String)> = BTreeSet::new();
    let mut on_the_way: Vec<&KnockResult> = Vec::new();
    let cables = unheard_cables(case);
    for knock in case
        .knocks
        .iter()
        .chain(&cables)
        .filter(|knock| knock.heard != Some(true))
    {
        let (Some(from), Some(to)) = (case.node(&knock.from), case.node(&knock.to)) else {
            continue;
        };
        let packet = |input, output| Packet {
            from: from.node.address,
            to: to.node.address,
            protocol: UDP,
            port: knock.port,
            input,
            output,
            established: false,
        };
        let failed = knock.heard == Some(false);
        let ends = [
            (
                &to,
                FilterHook::Input,
                packet(to.uplink().map(|link| link.name.as_str()), None),
            ),
            (
                &to,
                FilterHook::Prerouting,
                packet(to.uplink().map(|link| link.name.as_str()), None),
            ),
            (
                &from,
                FilterHook::Output,
                packet(None, from.uplink().map(|link| link.name.as_str())),
            ),
            (
                &from,
                FilterHook::Postrouting,
                packet(None, from.uplink().map(|link| link.name.as_str())),
            ),
        ];
        let culprit =
            ends.iter().find_map(
                |(view, hook, packet)| match filter::fate(view.seen, *hook, packet).0 {
                    Fate::Drops(chain, rule) => Some((*view, chain, rule)),
                    Fate::MayDrop(chain, rule) if failed => Some((*view, chain, rule)),
                    _ => None,
                },
            );
        match culprit {
            Some((view, chain, rule)) => {
                let key = (view.node.name.clone(), knock.port, named(chain, rule));
                if told.insert(key) {
                    findings.push(blocked(view, knock, chain, rule));
                }
            }
            None if failed && nodes_reach(case, &knock.from, &knock.to) => on_the_way.push(knock),
            None => {}
        }
    }
    let mut pairs: BTreeSet<(String, u16)> = BTreeSet::new();
    for knock in on_the_way {
        let mut ends = [knock.from.as_str(), knock.to.as_str()];
        ends.sort_unstable();
        let place = ends.join(" <-> ");
        if !pairs.insert((place.clone(), knock.port)) {
            continue;
        }
        let port = knock.port;
        findings.push(
            Finding::new(
                "udp-blocked",
                Severity::Error,
                &place,
                format!("UDP {port} does not get through between these nodes"),
            )
            .seen(format!(
                "frames from {} to {} of {} ({}/udp) did not arrive, while other UDP does{}",
                knock.from,
                knock.device,
                knock.to,
                port,
                knock.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
            ))
            .seen("no rule of either node drops it")
            .why(why(port))
            .on_a_cluster(format!(
                "# open {port}/udp between the nodes, both ways: security group, firewall, network policy of the cloud"
            )),
        );
    }
}

const fn why(port: u16) -> &'static str {
    match port {
        4789 => {
            "Calico's VXLAN packets go there: pods of other subnets, and all pods under Always, are out of reach"
        }
        4800 => "what workers send to other clusters goes to the gateway by this port (vx-submariner)",
        4500 => "the cable between the clusters' gateways uses this port: no packet leaves the cluster",
        _ => "a tunnel uses this port",
    }
}

fn blocked(
    view: &NodeView<'_>,
    knock: &KnockResult,
    chain: &FilterChain,
    rule: Option<&FilterRule>,
) -> Finding {
    let port = knock.port;
    let (mut remedy, mut verify) = undo(chain, rule);
    if rule.is_none() {
        // A policy of INPUT is the administrator's; one port is opened in it.
        (remedy, verify) = match chain.tool {
            FilterTool::Nft => (
                format!("nft insert rule {} udp dport {port} accept", chain.path()),
                format!(
                    "nft list chain {} | grep -q 'udp dport {port} accept'",
                    chain.path()
                ),
            ),
            FilterTool::IptablesLegacy => (
                format!(
                    "iptables-legacy -I {} -p udp --dport {port} -j ACCEPT",
                    chain.name
                ),
                format!(
                    "iptables-legacy -C {} -p udp --dport {port} -j ACCEPT",
                    chain.name
                ),
            ),
        };
    }
    Finding::new(
        "udp-blocked",
        Severity::Error,
        &view.node.name,
        format!("the packet filter of {} drops UDP {port}", view.node.name),
    )
    .seen(named(chain, rule))
    .seen(match knock.heard {
        Some(_) => format!(
            "frames from {} to {} of {} ({port}/udp) did not arrive",
            knock.from, knock.device, knock.to
        ),
        None => format!(
            "{} could not listen for frames, so this is by its rules alone",
            knock.to
        ),
    })
    .why(why(port))
    .remedy(remedy)
    .verify(verify)
}
