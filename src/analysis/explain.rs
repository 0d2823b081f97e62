//! Which observed facts go with a path that is slower than the one it is compared to. Each is tied to its numbers, and
//! only what the other path has not is told: what holds for both explains nothing. That a fact goes with a difference
//! does not prove that it causes it; nothing is said that was not observed.

use super::{CaseSummary, Estimate, Summary, order_statistics::median};
use crate::{
    evidence::DeviceRole,
    run::{Manifest, Trial},
    scenario::{Case, Metric, WorkloadKind},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A device carries a path where so much of the payload went through it, both directions together.
const CARRIES: f64 = 0.5;
/// A core or a process that uses so much of a core's time has none left.
const BOUND: f64 = 0.9;
/// Of a core's time, in soft interrupts: most of what it does.
const MOSTLY: f64 = 0.5;
/// Segments sent again per GB that are worth a word.
const RETRANSMITS: f64 = 10.0;
/// How many times the other path's figure is more.
const MORE: f64 = 1.25;

/// What kind of fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FactKind {
    /// Segments are cut by the CPU, for want of an offload.
    SoftwareSegmentation,
    /// Checksums are computed by the CPU.
    ChecksumOffload,
    /// More nodes carry it.
    ExtraHops,
    /// Its packets are smaller.
    Mtu,
    /// The sending process has no CPU time left.
    SenderCpu,
    /// The receiving process has no CPU time left.
    ReceiverCpu,
    /// A core is full, most of it soft interrupts.
    SoftirqCpu,
    /// A core is full.
    BusyCore,
    /// Segments are sent again.
    Retransmits,
    /// Devices drop packets.
    Drops,
    /// It takes more CPU time.
    CpuCost,
}

/// A fact with its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What kind.
    pub kind: FactKind,
    /// In a sentence without its full stop.
    pub text: String,
}

/// What goes with a slower path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The slower path's name.
    pub path: String,
    /// The workload's name.
    pub workload: String,
    /// The path that it is compared to.
    pub base: String,
    /// Its throughput over the other's; the whole interval is below 1.
    pub ratio: Estimate,
    /// What it has and the other has not; may be empty.
    pub facts: Vec<Fact>,
}

/// What was seen of a case over its trials that count. Figures are medians over them.
#[derive(Default)]
struct Seen {
    trials: usize,
    /// Offloads that are off at devices which carried it: role, device and offload, with the nodes.
    off: BTreeMap<(DeviceRole, String, String), BTreeSet<String>>,
    /// Bytes through devices that encapsulate, over the payload.
    encapsulated: Option<f64>,
    nodes: usize,
    path_mtu: Option<f64>,
    sender: Option<f64>,
    receiver: Option<f64>,
    busiest: Option<BusyMachine>,
    retransmits_per_gb: Option<f64>,
    dropped: f64,
    cpu_per_gb: Option<f64>,
}

/// The busiest core, as shares of its time, and where it is.
#[derive(Clone, Copy)]
struct BusyMachine {
    busy: f64,
    softirq: f64,
    place: &'static str,
}

/// What goes with each path whose throughput is surely below that of the path it is compared to.
pub fn explain(manifest: &Manifest, trials: &[Trial], summary: &Summary) -> Vec<Explanation> {
    let mut by_case: BTreeMap<&str, Vec<&Trial>> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.is_valid()) {
        by_case.entry(&trial.case).or_default().push(trial);
    }
    let cases: BTreeMap<(&str, &str), &Case> = manifest
        .cases
        .iter()
        .map(|case| ((case.path.name.as_str(), case.workload.name.as_str()), case))
        .collect();
    let summaries: BTreeMap<&str, &CaseSummary> = summary
        .cases
        .iter()
        .map(|case| (case.case.as_str(), case))
        .collect();
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut explanations = Vec::new();
    for row in summary.rows.iter().filter(|row| row.metric == Metric::Throughput) {
        let (Some(base), Some(ratio)) = (&row.relative_to, row.relative) else {
            continue;
        };
        let slower = ratio.interval.is_some_and(|(_, high)| high < 1.0);
        let pair = (
            cases.get(&(row.path.as_str(), row.workload.as_str())),
            cases.get(&(base.as_str(), row.workload.as_str())),
        );
        let (true, (Some(case), Some(base_case))) = (slower, pair) else {
            continue;
        };
        if !matches!(case.workload.kind(), Some(WorkloadKind::Throughput(_))) {
            continue;
        }
        for slug in [case.slug.as_str(), base_case.slug.as_str()] {
            seen.entry(slug).or_insert_with(|| {
                let trials = by_case.get(slug).map_or(&[][..], Vec::as_slice);
                look(trials, summaries.get(slug).copied())
            });
        }
        if let (Some(of), Some(under)) = (seen.get(case.slug.as_str()), seen.get(base_case.slug.as_str())) {
            explanations.push(Explanation {
                path: row.path.clone(),
                workload: row.workload.clone(),
                base: base.clone(),
                ratio,
                facts: facts(of, under, base),
            });
        }
    }
    explanations
}

fn middle(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    median(&values.flatten().collect::<Vec<_>>())
}

fn look(trials: &[&Trial], summary: Option<&CaseSummary>) -> Seen {
    let process = |result: Option<&crate::measure::ThroughputResult>| {
        let result = result.filter(|result| result.seconds > 0.0)?;
        // CPU time is of the whole test, its warm-up included.
        let whole = result
            .streams
            .iter()
            .flat_map(|stream| &stream.samples)
            .map(|sample| sample.end)
            .fold(result.seconds, f64::max);
        Some((result.process_user_seconds + result.process_system_seconds) / whole)
    };
    let mut seen = Seen {
        trials: trials.len(),
        nodes: trials
            .iter()
            .map(|trial| trial.evidence.before.len())
            .max()
            .unwrap_or(0),
        path_mtu: middle(trials.iter().map(|trial| {
            let connections = trial.evidence.connections.iter();
            connections.filter_map(|of| of.path_mtu).min().map(f64::from)
        })),
        sender: middle(trials.iter().map(|trial| process(trial.sender.as_ref()))),
        receiver: middle(trials.iter().map(|trial| process(trial.throughput.as_ref()))),
        busiest: busiest(trials),
        retransmits_per_gb: middle(trials.iter().map(|trial| {
            let result = trial.throughput.as_ref()?;
            let again = result
                .retransmits()
                .or_else(|| trial.sender.as_ref()?.retransmits())?;
            let bytes = result.all_received_bytes() as f64;
            (bytes > 0.0).then(|| again as f64 / (bytes / 1e9))
        })),
        cpu_per_gb: summary.and_then(|case| {
            let points = case.points(Metric::CpuSecondsPerGb);
            median(&points.iter().map(|point| point.value).collect::<Vec<_>>())
        }),
        ..Seen::default()
    };
    let mut shares = Vec::new();
    for trial in trials {
        shares.push(Some(devices(trial, &mut seen)));
    }
    seen.encapsulated = middle(shares.into_iter());
    seen
}

/// Looks at the devices that carried a trial; returns what went through those that encapsulate, over the payload.
fn devices(trial: &Trial, seen: &mut Seen) -> f64 {
    let payload = trial.evidence.payload_bytes as f64;
    let mut encapsulated: f64 = 0.0;
    for (before, after) in trial.evidence.before.iter().zip(&trial.evidence.after) {
        for device in &after.devices {
            let Some(earlier) = before.devices.iter().find(|of| of.device == device.device) else {
                continue;
            };
            seen.dropped += device.dropped.saturating_sub(earlier.dropped) as f64;
            let bytes = device.rx_bytes.saturating_sub(earlier.rx_bytes)
                + device.tx_bytes.saturating_sub(earlier.tx_bytes);
            if payload <= 0.0 || (bytes as f64) < CARRIES * payload {
                continue;
            }
            if device.role != DeviceRole::Underlay {
                encapsulated = encapsulated.max(bytes as f64 / payload);
            }
            for (offload, on) in &device.offloads {
                if !on {
                    let key = (device.role, device.device.clone(), offload.clone());
                    seen.off.entry(key).or_default().insert(after.node.clone());
                }
            }
        }
    }
    encapsulated
}

/// The median trial's busiest core.
fn busiest(trials: &[&Trial]) -> Option<BusyMachine> {
    let mut cores: Vec<BusyMachine> = trials
        .iter()
        .filter_map(|trial| {
            let machines = trial.cpu.len();
            trial
                .cpu
                .iter()
                .enumerate()
                .flat_map(|(index, machine)| {
                    let place = match (machines, index) {
                        (1, _) => "the machine that all nodes of the path share",
                        (_, 0) => "the sender's machine",
                        (2, _) => "the receiver's machine",
                        _ => "a machine on the way or at its end",
                    };
                    machine.per_core.iter().map(move |core| (place, core))
                })
                .filter_map(|(place, core)| {
                    let all = core.busy() + core.steal + core.idle;
                    (all > 0.0).then(|| BusyMachine {
                        busy: core.busy() / all,
                        softirq: core.softirq / all,
                        place,
                    })
                })
                .max_by(|a, b| a.busy.total_cmp(&b.busy))
        })
        .collect();
    cores.sort_by(|a, b| a.busy.total_cmp(&b.busy));
    cores.get(cores.len() / 2).copied()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn facts(of: &Seen, base: &Seen, base_name: &str) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |kind: FactKind, text: String| facts.push(Fact { kind, text });
    offloads(of, base, &mut fact);
    if of.nodes > base.nodes && base.nodes > 0 {
        fact(
            FactKind::ExtraHops,
            format!("{} nodes carry it; {} carry `{base_name}`", of.nodes, base.nodes),
        );
    }
    if let (Some(mtu), Some(other)) = (of.path_mtu, base.path_mtu)
        && mtu < other
    {
        fact(
            FactKind::Mtu,
            format!("its path MTU is {mtu:.0} bytes; that of `{base_name}` is {other:.0}"),
        );
    }
    let bound = |share: Option<f64>, other: Option<f64>| {
        share.filter(|share| *share >= BOUND && other.is_none_or(|other| other < BOUND))
    };
    let against = |other: Option<f64>| {
        other.map_or_else(String::new, |other| {
            format!("; {} on `{base_name}`", percent(other))
        })
    };
    if let Some(share) = bound(of.sender, base.sender) {
        fact(
            FactKind::SenderCpu,
            format!(
                "the sending process used {} of a core's time{}",
                percent(share),
                against(base.sender)
            ),
        );
    }
    if let Some(share) = bound(of.receiver, base.receiver) {
        fact(
            FactKind::ReceiverCpu,
            format!(
                "the receiving process used {} of a core's time{}",
                percent(share),
                against(base.receiver)
            ),
        );
    }
    if let Some(core) = of
        .busiest
        .filter(|core| core.busy >= BOUND && base.busiest.is_none_or(|other| other.busy < BOUND))
    {
        let kind = if core.softirq >= MOSTLY {
            FactKind::SoftirqCpu
        } else {
            FactKind::BusyCore
        };
        fact(
            kind,
            format!(
                "the busiest core, of {}, was busy {} of the time, {} in soft interrupts{}",
                core.place,
                percent(core.busy),
                percent(core.softirq),
                base.busiest.map_or_else(String::new, |other| format!(
                    "; {} and {} on `{base_name}`",
                    percent(other.busy),
                    percent(other.softirq)
                ))
            ),
        );
    }
    if let Some(again) = of.retransmits_per_gb.filter(|again| {
        *again >= RETRANSMITS && base.retransmits_per_gb.is_none_or(|other| *again > MORE * other)
    }) {
        fact(
            FactKind::Retransmits,
            format!(
                "{again:.0} segments were sent again per GB{}",
                base.retransmits_per_gb
                    .map_or_else(String::new, |other| format!("; {other:.0} on `{base_name}`"))
            ),
        );
    }
    let per_trial = |seen: &Seen| seen.dropped / seen.trials.max(1) as f64;
    if per_trial(of) >= 1.0 && per_trial(of) > MORE * per_trial(base) {
        fact(
            FactKind::Drops,
            format!(
                "devices on it dropped {:.0} packets a trial; {:.0} on `{base_name}`",
                per_trial(of),
                per_trial(base)
            ),
        );
    }
    if let (Some(cost), Some(other)) = (of.cpu_per_gb, base.cpu_per_gb)
        && other > 0.0
        && cost > MORE * other
    {
        fact(
            FactKind::CpuCost,
            format!(
                "a GB took {cost:.2} CPU-seconds, {:.1} times the {other:.2} of `{base_name}`",
                cost / other
            ),
        );
    }
    facts.sort_by_key(|fact| fact.kind);
    facts
}

/// Offloads that are off where it went, and that matter there.
fn offloads(of: &Seen, base: &Seen, fact: &mut dyn FnMut(FactKind, String)) {
    let through = of.encapsulated.filter(|share| *share >= CARRIES);
    // Offloads that are off together at one device, with the same effect, are one fact.
    let mut together: BTreeMap<OffAt<'_>, Vec<&str>> = BTreeMap::new();
    for ((role, device, offload), nodes) in &of.off {
        let tunnel = *role != DeviceRole::Underlay;
        let inside = offload.starts_with("tx-udp_tnl-");
        // Offloads for tunnels matter to the devices below a tunnel that was used, and to no others.
        if inside && (tunnel || through.is_none()) {
            continue;
        }
        // What is off where the other path went too goes with both; below a tunnel only one of them used it.
        let both = base.off.contains_key(&(*role, device.clone(), offload.clone()));
        if both && !(inside && base.encapsulated.is_none_or(|share| share < CARRIES)) {
            continue;
        }
        let (kind, what) = match offload.as_str() {
            "tx-udp_tnl-segmentation" | "tx-udp_tnl-csum-segmentation" => (
                FactKind::SoftwareSegmentation,
                "segments inside the tunnel are cut in software",
            ),
            "tx-tcp-segmentation" | "tx-generic-segmentation" => (
                FactKind::SoftwareSegmentation,
                "TCP segments are cut in software before it",
            ),
            "tx-checksum-ip-generic" => (
                FactKind::ChecksumOffload,
                "checksums are computed in software before it",
            ),
            _ => continue,
        };
        let key = (kind, what, device.as_str(), nodes);
        together.entry(key).or_default().push(offload);
    }
    for ((kind, what, device, nodes), offloads) in together {
        let share = through.map_or_else(String::new, |share| {
            format!(", {} of the payload went through the tunnel", percent(share))
        });
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        fact(
            kind,
            format!(
                "{} {} off at {device} of {}: {what}{share}",
                offloads.join(" and "),
                if offloads.len() == 1 { "is" } else { "are" },
                nodes.join(", ")
            ),
        );
    }
}

/// What offloads do when they are off, at which device of which nodes.
type OffAt<'a> = (FactKind, &'static str, &'a str, &'a BTreeSet<String>);

#[cfg(test)]
mod tests;
