//! What the nodes' CPUs did during the trials of each path: those of its ends, and those of gateways on its way.

use super::super::{Inputs, digits, labels::plain};
use crate::{
    measure::{CpuSeconds, MachineCpu},
    run::Trial,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One machine during the trials of a path. Means over the trials, warm-up and connecting included.
#[derive(Debug, Clone, Serialize)]
pub(in crate::report) struct NodeLine {
    pub path: String,
    /// The nodes that are on the machine.
    pub nodes: String,
    /// Cores' worth of work of all kinds.
    pub busy: String,
    /// Of these, in soft interrupts.
    pub softirq: String,
    pub cores: String,
    /// How much of its time the busiest core was busy.
    pub busiest: String,
}

#[derive(Default)]
struct Sum {
    trials: u32,
    busy: f64,
    softirq: f64,
    busiest: f64,
    cores: BTreeSet<u32>,
}

/// Nothing in runs whose nodes are not known by name.
pub(super) fn by_path(inputs: &Inputs<'_>) -> Vec<NodeLine> {
    let cases = inputs.cases();
    let mut sums: BTreeMap<(&str, String), Sum> = BTreeMap::new();
    for trial in inputs.trials.iter().filter(|trial| trial.is_valid()) {
        let Some(case) = cases.get(trial.case.as_str()) else {
            continue;
        };
        for machine in known(trial) {
            let key = (case.path.name.as_str(), machine.nodes.join(", "));
            let sum = sums.entry(key).or_default();
            sum.trials += 1;
            sum.busy += machine.cpu.busy() / machine.seconds;
            sum.softirq += machine.cpu.softirq / machine.seconds;
            sum.busiest += busiest(machine);
            sum.cores.insert(machine.cores);
        }
    }
    let mut seen = BTreeSet::new();
    let paths = inputs.manifest.cases.iter().map(|case| &case.path);
    paths
        .filter(|path| seen.insert(path.name.as_str()))
        .flat_map(|path| {
            let of_path = sums.iter().filter(|((name, _), _)| *name == path.name);
            of_path.map(|((_, nodes), sum)| {
                let mean = |total: f64| total / f64::from(sum.trials);
                let cores: Vec<String> = sum.cores.iter().map(u32::to_string).collect();
                NodeLine {
                    path: plain(&path.label()),
                    nodes: plain(nodes),
                    busy: digits::fixed(mean(sum.busy), 2),
                    softirq: digits::fixed(mean(sum.softirq), 2),
                    cores: cores.join(", "),
                    busiest: digits::percent(mean(sum.busiest)),
                }
            })
        })
        .collect()
}

fn known(trial: &Trial) -> impl Iterator<Item = &MachineCpu> {
    let machines = trial.cpu.iter();
    machines.filter(|machine| !machine.nodes.is_empty() && machine.seconds > 0.0)
}

fn busiest(machine: &MachineCpu) -> f64 {
    let cores = machine.per_core.iter().map(CpuSeconds::busy);
    cores.fold(0.0, f64::max) / machine.seconds
}
