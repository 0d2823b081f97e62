//! A cable of the kernel's IPsec (libreswan's): it has no device and no routes. Policies take packets between the
//! clusters' ranges, whatever their route, and states hold the keys (ip-xfrm(8)).

use super::{RESTART_GATEWAY, fib};
use crate::doctor::examination::{Examination, NodeView};
use crate::doctor::finding::{Finding, Severity};
use crate::evidence::{IpsecDirection, IpsecPolicy, IpsecSeen, IpsecState, IpsecTemplate, SubmarinerSetup};
use crate::units::Cidr4;
use std::net::Ipv4Addr;

/// What is needed to say how a policy should be.
struct Wanted<'a> {
    ipsec: &'a IpsecSeen,
    own: Ipv4Addr,
    /// The other gateway, where it is known.
    peer: Option<Ipv4Addr>,
    local: Cidr4,
    remote: Cidr4,
}

pub(super) fn check(
    case: &Examination,
    view: &NodeView<'_>,
    submariner: &SubmarinerSetup,
    remote: &[Cidr4],
    findings: &mut Vec<Finding>,
) {
    let Some(ipsec) = &view.seen.ipsec else {
        findings.push(
            Finding::new(
                "not-seen",
                Severity::Note,
                &view.node.name,
                "something could not be read",
            )
            .seen("IPsec's policies and states (ip xfrm), of which the cable is made")
            .why("a fault that shows there only is not found"),
        );
        return;
    };
    let mut faults = Faults::default();
    for cidr in remote {
        let peer = case
            .setup
            .clusters
            .iter()
            .find(|cluster| cluster.cidrs.contains(cidr))
            .and_then(|cluster| {
                let gateway = &cluster.submariner.as_ref()?.gateway;
                Some(case.setup.node(gateway)?.1.address)
            });
        for local in &view.cluster.cidrs {
            let wanted = Wanted {
                ipsec,
                own: view.node.address,
                peer,
                local: *local,
                remote: *cidr,
            };
            wanted.judge(&mut faults);
        }
    }
    let wrapped = ipsec.states.iter().any(|state| state.udp.is_some());
    if wrapped && !view.seen.udp_ports.contains(&submariner.cable_port) {
        faults.seen.push(format!(
            "no socket on UDP {}, where the kernel is to take ESP out of UDP",
            submariner.cable_port
        ));
    }
    if faults.seen.is_empty() {
        return;
    }
    for (name, count) in &view.seen.counters {
        if name.starts_with("Xfrm.") && *count > 0 {
            faults
                .seen
                .push(format!("{}: {count}", name.trim_start_matches("Xfrm.")));
        }
    }
    let mut finding = Finding::new(
        "ipsec",
        Severity::Error,
        &view.node.name,
        "IPsec does not take all packets between the clusters",
    )
    .why(
        "the cable is made of policies and states alone: what no policy takes leaves by the uplink in clear, where nobody \
         knows pods' addresses, and what has no state, or comes wrapped and is expected by no policy, is dropped",
    );
    finding.seen = faults.seen;
    for command in faults.remedy {
        finding = finding.remedy(command);
    }
    finding = finding.on_a_cluster(RESTART_GATEWAY);
    for command in faults.verify {
        finding = finding.verify(command);
    }
    findings.push(finding);
}

#[derive(Default)]
struct Faults {
    seen: Vec<String>,
    remedy: Vec<String>,
    verify: Vec<String>,
}

impl Faults {
    fn add(list: &mut Vec<String>, text: String) {
        if !list.contains(&text) {
            list.push(text);
        }
    }
}

impl Wanted<'_> {
    fn judge(&self, faults: &mut Faults) {
        for direction in [IpsecDirection::Out, IpsecDirection::Forward, IpsecDirection::In] {
            let (from, to) = if direction == IpsecDirection::Out {
                (self.local, self.remote)
            } else {
                (self.remote, self.local)
            };
            for (source, destination) in self.pairs(direction, from, to) {
                self.judge_pair(direction, (from, to), source, destination, faults);
            }
        }
    }

    /// One address out of each part of the two ranges that a policy may treat differently.
    fn pairs(&self, direction: IpsecDirection, from: Cidr4, to: Cidr4) -> Vec<(Ipv4Addr, Ipv4Addr)> {
        let policies = || {
            self.ipsec
                .policies
                .iter()
                .filter(|policy| policy.direction == direction)
        };
        let sources = fib::parts_of(from, policies().map(|policy| policy.from));
        let destinations = fib::parts_of(to, policies().map(|policy| policy.to));
        sources
            .iter()
            .flat_map(|source| destinations.iter().map(|destination| (*source, *destination)))
            .collect()
    }

    fn judge_pair(
        &self,
        direction: IpsecDirection,
        (from, to): (Cidr4, Cidr4),
        source: Ipv4Addr,
        destination: Ipv4Addr,
        faults: &mut Faults,
    ) {
        let policy = self.ipsec.policy(direction, source, destination);
        let template = policy.and_then(|policy| policy.template.as_ref());
        let what = match (policy, template) {
            (None, _) => format!("no policy for dir {direction} src {from} dst {to}"),
            (Some(policy), _) if policy.blocks => format!("a policy drops them: {policy}"),
            (Some(policy), None) => format!("a policy lets them by unwrapped: {policy}"),
            (Some(policy), Some(template)) if !self.fits(direction, template) => {
                format!("a policy names another gateway: {policy}")
            }
            (Some(policy), Some(template)) => {
                if self.ipsec.state(template).is_none() {
                    Faults::add(&mut faults.seen, format!("no state for the policy: {policy}"));
                }
                return;
            }
        };
        Faults::add(&mut faults.seen, what);
        if let Some(policy) = policy {
            let (from, to) = (policy.from, policy.to);
            let name = format!("src {from} dst {to} dir {direction}");
            Faults::add(&mut faults.remedy, format!("ip xfrm policy delete {name}"));
        }
        let Some(right) = self.right(direction, from, to) else {
            return;
        };
        // One of lower priority was in its way, and it is there.
        if self.ipsec.policies.contains(&right) {
            let policy = policy.map(|policy| format!("src {} dst {}", policy.from, policy.to));
            if let Some(policy) = policy {
                let verify = format!("! ip xfrm policy get {policy} dir {direction} >/dev/null 2>&1");
                Faults::add(&mut faults.verify, verify);
            }
            return;
        }
        Faults::add(&mut faults.remedy, format!("ip xfrm policy update {right}"));
        Faults::add(
            &mut faults.verify,
            format!("ip xfrm policy get src {from} dst {to} dir {direction} | grep -q 'mode tunnel'"),
        );
    }

    /// Whether a template is between these gateways.
    fn fits(&self, direction: IpsecDirection, template: &IpsecTemplate) -> bool {
        let (near, far) = if direction == IpsecDirection::Out {
            (template.from, template.to)
        } else {
            (template.to, template.from)
        };
        near == self.own && self.peer.is_none_or(|peer| peer == far)
    }

    /// The policy that should be there, with the number of the states and the priority of others with this peer.
    fn right(&self, direction: IpsecDirection, from: Cidr4, to: Cidr4) -> Option<IpsecPolicy> {
        let is_with_peer = |far: Ipv4Addr| self.peer.is_none_or(|peer| peer == far);
        let state: &IpsecState = self
            .ipsec
            .states
            .iter()
            .find(|state| state.from == self.own && is_with_peer(state.to))?;
        let (near, far) = (state.from, state.to);
        let like = self
            .ipsec
            .policies
            .iter()
            .filter(|policy| {
                policy
                    .template
                    .as_ref()
                    .is_some_and(|template| template.reqid == state.reqid)
            })
            .map(|policy| policy.priority)
            .max();
        Some(IpsecPolicy {
            direction,
            from,
            to,
            priority: like.unwrap_or(0),
            blocks: false,
            particular: false,
            template: Some(IpsecTemplate {
                from: if direction == IpsecDirection::Out {
                    near
                } else {
                    far
                },
                to: if direction == IpsecDirection::Out {
                    far
                } else {
                    near
                },
                reqid: state.reqid,
            }),
        })
    }
}
