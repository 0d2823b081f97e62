//! What the packet filter would do with a packet: the base chains of a hook in order, their rules, the chains that
//! these jump to, and the policy (nft(8)). Where a rule asks for what can't be told of a packet, the answer is "maybe".

use crate::evidence::{FilterChain, FilterHook, FilterMatch, FilterRule, FilterVerdict, Inspection};
use std::net::Ipv4Addr;

/// A packet to be filtered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) port: u16,
    pub(super) input: Option<&'a str>,
    pub(super) output: Option<&'a str>,
    /// Whether it belongs to a connection that is known already.
    pub(super) established: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    Passes,
    /// Dropped by a rule, or where there is none by the policy.
    Drops(&'a FilterChain, Option<&'a FilterRule>),
    /// The same, unless something unknown lets it through.
    MayDrop(&'a FilterChain, Option<&'a FilterRule>),
}

/// What becomes of `packet` at `hook`, and how many rules are asked for that.
pub(super) fn fate<'a>(seen: &'a Inspection, hook: FilterHook, packet: &Packet<'_>) -> (Fate<'a>, u32) {
    let mut bases: Vec<&FilterChain> = seen
        .chains
        .iter()
        .filter(|chain| chain.hook == Some(hook) && !chain.nat)
        .collect();
    bases.sort_by_key(|chain| chain.priority);
    let mut asked = 0;
    let mut worst = Fate::Passes;
    for base in bases {
        let mut walk = Walk {
            chains: &seen.chains,
            packet,
            asked: 0,
            maybe_accepted: false,
            maybe_dropped: None,
        };
        let end = walk.chain(base, 0);
        asked += walk.asked;
        let fate = match end {
            Some(Fate::Drops(chain, rule)) if walk.maybe_accepted => Fate::MayDrop(chain, rule),
            Some(fate) => fate,
            None if base.drops && walk.maybe_accepted => Fate::MayDrop(base, None),
            None if base.drops => Fate::Drops(base, None),
            None => Fate::Passes,
        };
        match (fate, walk.maybe_dropped) {
            (Fate::Drops(..), _) => return (fate, asked),
            (Fate::MayDrop(..), _) => worst = fate,
            (Fate::Passes, Some((chain, rule))) => worst = Fate::MayDrop(chain, Some(rule)),
            (Fate::Passes, None) => {}
        }
    }
    (worst, asked)
}

struct Walk<'a, 'p> {
    chains: &'a [FilterChain],
    packet: &'p Packet<'p>,
    asked: u32,
    maybe_accepted: bool,
    maybe_dropped: Option<(&'a FilterChain, &'a FilterRule)>,
}

impl<'a> Walk<'a, '_> {
    /// `None`: no rule decided.
    fn chain(&mut self, chain: &'a FilterChain, depth: u8) -> Option<Fate<'a>> {
        // The kernel allows 16 (NFT_JUMP_STACK_SIZE).
        if depth > 16 {
            return None;
        }
        for rule in &chain.rules {
            self.asked += 1;
            let Some(certain) = holds(rule, self.packet) else {
                continue;
            };
            match &rule.verdict {
                FilterVerdict::None => {}
                FilterVerdict::Return => {
                    if certain {
                        return None;
                    }
                }
                FilterVerdict::Accept => {
                    if certain {
                        return Some(Fate::Passes);
                    }
                    self.maybe_accepted = true;
                }
                FilterVerdict::Drop => {
                    if certain {
                        return Some(Fate::Drops(chain, Some(rule)));
                    }
                    // One that counts, and counted nothing, dropped nothing.
                    if rule.hits != Some(0) {
                        self.maybe_dropped.get_or_insert((chain, rule));
                    }
                }
                FilterVerdict::Jump(name) | FilterVerdict::Goto(name) => {
                    let next = self.chains.iter().find(|other| {
                        other.table == chain.table && other.family == chain.family && other.name == *name
                    });
                    let end = next.and_then(|next| self.chain(next, depth + 1));
                    match end {
                        Some(fate) if certain => return Some(fate),
                        Some(Fate::Drops(chain, Some(rule))) => {
                            self.maybe_dropped.get_or_insert((chain, rule));
                        }
                        Some(Fate::Passes) => self.maybe_accepted = true,
                        _ => {}
                    }
                    if certain && matches!(rule.verdict, FilterVerdict::Goto(_)) {
                        return None;
                    }
                }
            }
        }
        None
    }
}

/// Whether a rule may be for `packet`.
pub(super) fn may_match(rule: &FilterRule, packet: &Packet<'_>) -> bool {
    holds(rule, packet).is_some()
}

/// `Some(true)`: the rule is for this packet; `Some(false)`: maybe; `None`: it is not.
fn holds(rule: &FilterRule, packet: &Packet<'_>) -> Option<bool> {
    let mut certain = true;
    for asked in &rule.matches {
        match answer(asked, packet) {
            Some(true) => {}
            Some(false) => return None,
            None => certain = false,
        }
    }
    Some(certain)
}

/// `None`: it can't be told.
fn answer(asked: &FilterMatch, packet: &Packet<'_>) -> Option<bool> {
    let device = |name: &str, own: Option<&str>| {
        own.map(|own| match name.strip_suffix('*') {
            Some(start) => own.starts_with(start),
            None => own == name,
        })
    };
    match asked {
        FilterMatch::Protocol(protocol) => Some(packet.protocol == *protocol),
        FilterMatch::From(block) => Some(block.contains(packet.from)),
        FilterMatch::To(block) => Some(block.contains(packet.to)),
        FilterMatch::FromRange(first, last) => Some((*first..=*last).contains(&packet.from)),
        FilterMatch::ToRange(first, last) => Some((*first..=*last).contains(&packet.to)),
        FilterMatch::Any(some) => {
            let answers: Vec<_> = some.iter().map(|one| answer(one, packet)).collect();
            if answers.contains(&Some(true)) {
                Some(true)
            } else if answers.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        FilterMatch::Port(first, last) => Some((*first..=*last).contains(&packet.port)),
        // Any of these, but not a certain one.
        FilterMatch::SourcePort(first, last) => (*first == 0 && *last == u16::MAX).then_some(true),
        FilterMatch::Input(name) => device(name, packet.input),
        FilterMatch::Output(name) => device(name, packet.output),
        FilterMatch::Established => Some(packet.established),
        FilterMatch::New => Some(true),
        FilterMatch::Not(inner) => answer(inner, packet).map(|holds| !holds),
        FilterMatch::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::FilterTool;

    fn chain(name: &str, hook: Option<FilterHook>, drops: bool, rules: Vec<FilterRule>) -> FilterChain {
        FilterChain {
            tool: FilterTool::Nft,
            family: "ip".to_owned(),
            table: "filter".to_owned(),
            name: name.to_owned(),
            hook,
            priority: 0,
            drops,
            nat: false,
            rules,
        }
    }

    fn rule(matches: Vec<FilterMatch>, verdict: FilterVerdict) -> FilterRule {
        FilterRule {
            handle: 1,
            text: String::new(),
            matches,
            verdict,
            hits: None,
        }
    }

    const PACKET: Packet<'static> = Packet {
        from: Ipv4Addr::new(10, 0, 0, 1),
        to: Ipv4Addr::new(10, 0, 0, 2),
        protocol: 17,
        port: 4800,
        input: Some("cali0"),
        output: Some("eth0"),
        established: false,
    };

    fn decide(chains: Vec<FilterChain>) -> String {
        let seen = Inspection {
            chains,
            ..Inspection::default()
        };
        match fate(&seen, FilterHook::Forward, &PACKET).0 {
            Fate::Passes => "passes".to_owned(),
            Fate::Drops(chain, rule) => format!(
                "{} {}",
                chain.name,
                if rule.is_some() { "rule" } else { "policy" }
            ),
            Fate::MayDrop(chain, _) => format!("{} maybe", chain.name),
        }
    }

    #[test]
    fn policies_rules_and_jumps() {
        let hook = Some(FilterHook::Forward);
        let accept_calico = rule(
            vec![FilterMatch::Input("cali*".to_owned())],
            FilterVerdict::Accept,
        );
        let marked = rule(vec![FilterMatch::Unknown], FilterVerdict::Accept);
        let drop_port = rule(vec![FilterMatch::Port(4800, 4800)], FilterVerdict::Drop);
        assert_eq!(decide(vec![chain("F", hook, true, vec![])]), "F policy");
        assert_eq!(
            decide(vec![chain("F", hook, true, vec![accept_calico.clone()])]),
            "passes"
        );
        assert_eq!(decide(vec![chain("F", hook, true, vec![marked])]), "F maybe");
        let jump = rule(vec![], FilterVerdict::Jump("S".to_owned()));
        let sub = chain("S", None, false, vec![drop_port]);
        assert_eq!(
            decide(vec![chain("F", hook, false, vec![jump.clone()]), sub.clone()]),
            "S rule"
        );
        assert_eq!(
            decide(vec![chain("F", hook, false, vec![accept_calico, jump]), sub]),
            "passes",
            "the first rule that decides, decides"
        );
        assert_eq!(decide(vec![]), "passes");
    }
}
