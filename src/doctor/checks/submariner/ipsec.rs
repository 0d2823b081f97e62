//! A cable of the kernel's IPsec (libreswan's): it has no device and no routes. Policies take packets between the
//! clusters' ranges, whatever their route, and states hold the keys (ip-xfrm(8)).

use super::{RESTART_GATEWAY, fib};
use crate::doctor::checks::{UNREAD, not_seen};
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
        findings.push(not_seen(
            &view.node.name,
            UNREAD,
            "IPsec's policies and states (ip xfrm), of which the cable is made",
        ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{ClusterSetup, Inspection, NodeSetup, Setup, TunnelSetup};
    use crate::scenario::Place;

    const NEAR: [u8; 4] = [192, 0, 2, 1];
    const FAR: [u8; 4] = [192, 0, 2, 2];

    fn cluster(name: &str, cidr: &str, address: [u8; 4]) -> ClusterSetup {
        let tunnel = |device: &str, vni, port| TunnelSetup {
            device: device.to_owned(),
            vni,
            port,
        };
        ClusterSetup {
            name: name.to_owned(),
            cidrs: vec![cidr.parse().unwrap()],
            tunnel: tunnel("vxlan.calico", 4096, 4789),
            nodes: vec![NodeSetup {
                name: format!("{name}-1"),
                address: address.into(),
                subnet: None,
                router: None,
                blocks: Vec::new(),
                pods: Vec::new(),
            }],
            submariner: Some(SubmarinerSetup {
                gateway: format!("{name}-1"),
                tunnel: tunnel("vx-submariner", 100, 4800),
                host_table: 150,
                cable: "libreswan".to_owned(),
                cable_port: 4500,
                cable_device: String::new(),
                cable_tunnel: None,
                remote: Vec::new(),
            }),
        }
    }

    fn policy(direction: IpsecDirection) -> IpsecPolicy {
        let (near, far) = ("10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap());
        let is_out = direction == IpsecDirection::Out;
        IpsecPolicy {
            direction,
            from: if is_out { near } else { far },
            to: if is_out { far } else { near },
            priority: 100,
            blocks: false,
            particular: false,
            template: Some(IpsecTemplate {
                from: if is_out { NEAR } else { FAR }.into(),
                to: if is_out { FAR } else { NEAR }.into(),
                reqid: 7,
            }),
        }
    }

    fn healthy() -> IpsecSeen {
        let state = |from: [u8; 4], to: [u8; 4]| IpsecState {
            from: from.into(),
            to: to.into(),
            spi: 0x100,
            reqid: 7,
            udp: Some((4500, 4500)),
            icv: 16,
            bytes: 0,
            packets: 0,
        };
        IpsecSeen {
            policies: [IpsecDirection::Out, IpsecDirection::In, IpsecDirection::Forward]
                .map(policy)
                .to_vec(),
            states: vec![state(NEAR, FAR), state(FAR, NEAR)],
        }
    }

    fn found(ipsec: Option<IpsecSeen>, ports: &[u16]) -> Vec<Finding> {
        let seen = Inspection {
            ipsec,
            udp_ports: ports.to_vec(),
            ..Inspection::default()
        };
        let case = Examination {
            setup: Setup {
                clusters: vec![
                    cluster("east", "10.1.0.0/16", NEAR),
                    cluster("west", "10.2.0.0/16", FAR),
                ],
                left_out: Vec::new(),
            },
            inspections: [(Place::Node("east-1".to_owned()), seen)].into(),
            ..Examination::default()
        };
        let view = case.node("east-1").unwrap();
        let submariner = view.cluster.submariner.as_ref().unwrap();
        let remote = case.setup.remote_cidrs(view.cluster);
        let mut findings = Vec::new();
        check(&case, &view, submariner, &remote, &mut findings);
        findings
    }

    /// What was seen, and the remedy's commands.
    fn told(change: impl FnOnce(&mut IpsecSeen)) -> (Vec<String>, Vec<String>) {
        let mut ipsec = healthy();
        change(&mut ipsec);
        let mut findings = found(Some(ipsec), &[4500]);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let finding = findings.remove(0);
        assert_eq!((finding.id.as_str(), finding.place.as_str()), ("ipsec", "east-1"));
        let remedy = finding.remedy.into_iter().map(|step| step.command).collect();
        (finding.seen, remedy)
    }

    #[test]
    fn policies_and_states_that_are_as_they_should_be_give_no_finding() {
        assert_eq!(found(Some(healthy()), &[4500]), []);
        let unread = found(None, &[4500]);
        assert_eq!(unread[0].severity, Severity::Note, "{unread:#?}");
    }

    #[test]
    fn a_missing_policy_is_made_as_the_others_are() {
        let (seen, remedy) = told(|ipsec| {
            ipsec
                .policies
                .retain(|policy| policy.direction != IpsecDirection::Out);
        });
        assert_eq!(seen, ["no policy for dir out src 10.1.0.0/16 dst 10.2.0.0/16"]);
        assert_eq!(
            remedy,
            [format!("ip xfrm policy update {}", policy(IpsecDirection::Out))]
        );
    }

    #[test]
    fn a_narrower_policy_before_the_right_one_is_taken_away() {
        for (blocks, what) in [
            (true, "a policy drops them"),
            (false, "a policy lets them by unwrapped"),
        ] {
            let (seen, remedy) = told(|ipsec| {
                ipsec.policies.push(IpsecPolicy {
                    from: "10.2.3.0/24".parse().unwrap(),
                    priority: 5,
                    blocks,
                    template: None,
                    ..policy(IpsecDirection::Forward)
                });
            });
            assert!(seen.len() == 1 && seen[0].starts_with(what), "{seen:?}");
            assert_eq!(
                remedy,
                ["ip xfrm policy delete src 10.2.3.0/24 dst 10.1.0.0/16 dir fwd"]
            );
        }
    }

    #[test]
    fn a_template_of_another_gateway_is_replaced() {
        let (seen, remedy) = told(|ipsec| {
            let template = ipsec.policies[2].template.as_mut().unwrap();
            template.from = [192, 0, 2, 9].into();
        });
        assert!(seen[0].starts_with("a policy names another gateway"), "{seen:?}");
        assert_eq!(
            remedy,
            [
                "ip xfrm policy delete src 10.2.0.0/16 dst 10.1.0.0/16 dir fwd".to_owned(),
                format!("ip xfrm policy update {}", policy(IpsecDirection::Forward))
            ]
        );
    }

    /// A key can't be read off: the gateway makes states anew.
    #[test]
    fn a_missing_state_and_a_closed_socket_are_the_gateways_to_mend() {
        let (seen, remedy) = told(|ipsec| ipsec.states.truncate(1));
        assert!(
            seen.iter()
                .all(|text| text.starts_with("no state for the policy")),
            "{seen:?}"
        );
        assert_eq!((seen.len(), remedy.len()), (2, 0));
        let findings = found(Some(healthy()), &[]);
        assert!(
            findings[0].seen[0].starts_with("no socket on UDP 4500"),
            "{findings:#?}"
        );
        assert_eq!(findings[0].on_a_cluster, [RESTART_GATEWAY]);
    }
}
