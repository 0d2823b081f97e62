//! Where compared runs were measured under unlike conditions.

use super::ComparedRun;
use crate::run::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A condition that differs between the sides, or among the runs of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlike {
    /// What differs: `kernel`.
    pub what: String,
    /// What the base runs have.
    pub base: Vec<String>,
    /// What the new runs have.
    pub new: Vec<String>,
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// All that a run was measured under, by name.
fn conditions_of(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut fabric = serde_json::to_value(&manifest.scenario.fabric).unwrap_or_default();
    let nic = fabric.pointer_mut("/lab/nic").map(serde_json::Value::take);
    let host = &manifest.host;
    let mut conditions = BTreeMap::from([
        ("encapbench".to_owned(), manifest.encapbench.clone()),
        ("scenario".to_owned(), manifest.scenario.name.clone()),
        ("fabric".to_owned(), fabric.to_string()),
        ("host".to_owned(), host.name.clone()),
        ("kernel".to_owned(), host.kernel.clone()),
        ("processor".to_owned(), host.cpu.clone()),
        ("cores".to_owned(), host.cores.to_string()),
        (
            "congestion control".to_owned(),
            manifest.congestion.used.clone().unwrap_or_default(),
        ),
    ]);
    if let Some(nic) = nic {
        conditions.insert("NIC profile".to_owned(), nic.to_string());
    }
    for (what, value) in &manifest.fabric {
        conditions.insert(format!("fabric, {what}"), value.clone());
    }
    conditions
}

/// The conditions that are not the same for all runs of both sides.
pub(super) fn conditions(base: &[ComparedRun<'_>], new: &[ComparedRun<'_>]) -> Vec<Unlike> {
    let of = |side: &[ComparedRun<'_>]| -> Vec<BTreeMap<String, String>> {
        side.iter().map(|run| conditions_of(run.manifest)).collect()
    };
    let (base, new) = (of(base), of(new));
    let names: BTreeSet<&String> = base.iter().chain(&new).flat_map(BTreeMap::keys).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let values = |side: &[BTreeMap<String, String>]| -> BTreeSet<String> {
                let absent = String::new();
                side.iter()
                    .map(|run| run.get(name).unwrap_or(&absent).clone())
                    .collect()
            };
            let (base, new) = (values(&base), values(&new));
            (base.union(&new).count() > 1).then(|| Unlike {
                what: name.clone(),
                base: base.into_iter().collect(),
                new: new.into_iter().collect(),
            })
        })
        .collect()
}

/// A case by the names of its path and workload.
type CaseName = (String, String);

/// Cases that can't be compared, with the reason: not in every run, or not measured in the same way.
pub(super) fn cases(base: &[ComparedRun<'_>], new: &[ComparedRun<'_>]) -> BTreeMap<CaseName, String> {
    let runs: Vec<&ComparedRun<'_>> = base.iter().chain(new).collect();
    let mut ways: BTreeMap<CaseName, Vec<(String, String)>> = BTreeMap::new();
    for run in &runs {
        for case in &run.manifest.cases {
            let name = (case.path.name.clone(), case.workload.name.clone());
            let way = (json(&case.path), json(&(&case.workload, &case.load)));
            ways.entry(name).or_default().push(way);
        }
    }
    let mut refused = BTreeMap::new();
    for (name, ways) in ways {
        let unlike =
            |what: fn(&(String, String)) -> &String| ways.iter().map(what).collect::<BTreeSet<_>>().len() > 1;
        let reason = if ways.len() < runs.len() {
            "not every run has it"
        } else if unlike(|(path, _)| path) {
            "its path is not the same in all runs"
        } else if unlike(|(_, workload)| workload) {
            "its workload has not the same parameters in all runs"
        } else {
            continue;
        };
        let sentence = format!("`{}`, `{}`: {reason}, so it is not compared.", name.0, name.1);
        refused.insert(name, sentence);
    }
    refused
}
