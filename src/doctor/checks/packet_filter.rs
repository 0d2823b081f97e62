//! The packet filter: what it drops of pods' packets that go through a node, and how many rules every packet is held
//! against (preflight list, 6).

use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::fib;
use crate::doctor::filter::{self, Fate, Packet};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{FilterChain, FilterHook, FilterRule, FilterTool, Inspection};
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
}

/// How a finding names a rule or policy.
pub(super) fn named(chain: &FilterChain, rule: Option<&FilterRule>) -> String {
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
pub(super) fn undo(chain: &FilterChain, rule: Option<&FilterRule>) -> (String, String) {
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

/// The hooks that a forwarded packet goes through, in this order.
const THROUGH: [FilterHook; 4] = [
    FilterHook::Ingress,
    FilterHook::Prerouting,
    FilterHook::Forward,
    FilterHook::Postrouting,
];

/// What certainly drops pods' packets; and what may, where it has counted packets and some don't get through.
fn forward(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    let fails = case.probes.iter().any(|probe| {
        probe.from.is_pod()
            && !probe.is_reachable()
            && case.nodes_of(probe).contains(&view.node.name.as_str())
    });
    drops(case, view, findings, |fate| match fate {
        Fate::Drops(chain, rule) => Some((chain, rule)),
        Fate::MayDrop(chain, Some(rule)) if fails && rule.hits.is_some_and(|hits| hits > 0) => {
            Some((chain, Some(rule)))
        }
        _ => None,
    });
}

/// What may drop pods' packets at a node, for failures that nothing else explains.
pub(super) fn suspects(case: &Examination, view: &NodeView<'_>, findings: &mut Vec<Finding>) {
    drops(case, view, findings, |fate| match fate {
        Fate::MayDrop(chain, rule) => Some((chain, rule)),
        _ => None,
    });
}

fn drops<'a>(
    case: &Examination,
    view: &NodeView<'a>,
    findings: &mut Vec<Finding>,
    counts: impl Fn(Fate<'a>) -> Option<(&'a FilterChain, Option<&'a FilterRule>)>,
) {
    let mut told: BTreeSet<(String, u64)> = BTreeSet::new();
    for (from, to) in through(case, view) {
        let (input, output) = devices(view, from, to);
        for (hook, protocol) in THROUGH.into_iter().flat_map(|hook| [(hook, TCP), (hook, UDP)]) {
            let packet = Packet {
                from,
                to,
                protocol,
                port: 8080,
                input,
                output: output.filter(|_| matches!(hook, FilterHook::Forward | FilterHook::Postrouting)),
                established: false,
            };
            let Some((chain, rule)) = counts(filter::fate(view.seen, hook, &packet).0) else {
                continue;
            };
            if !told.insert((chain.path(), rule.map_or(0, |rule| rule.handle))) {
                continue;
            }
            let (remedy, verify) = undo(chain, rule);
            let title = match (rule, hook) {
                (Some(_), _) => "a packet filter rule drops pods' packets that go through this node",
                (None, FilterHook::Forward) => {
                    "the FORWARD policy drops pods' packets that go through this node"
                }
                (None, _) => "a chain's policy drops pods' packets that go through this node",
            };
            let mut finding = Finding::new("forward-drop", Severity::Error, &view.node.name, title)
                .seen(named(chain, rule));
            if let Some(hits) = rule.and_then(|rule| rule.hits) {
                finding = finding.seen(format!("it has counted {hits} packets"));
            }
            finding = finding
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
