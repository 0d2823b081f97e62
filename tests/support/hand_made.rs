//! Run folders with a known truth, written by the documented format: two paths, `direct` and `tunnel`, and any number
//! of workloads whose figures are independent of each other.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(dead_code, reason = "each test file uses a part")]

use encapbench::measure::LatencyHistogram;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// The direct path's throughput in MB/s.
const DIRECT: f64 = 1000.0;
/// The tunnel's over it.
pub(crate) const RATIO: f64 = 0.8;
/// The direct path's middle round trip in nanoseconds.
const ROUND_TRIP: f64 = 50_000.0;
/// The tunnel's over it.
pub(crate) const SLOWER: f64 = 1.3;
/// How round trips of one trial scatter: of the logarithm.
const TAIL: f64 = 0.25;
/// Round trips of a trial: as many as its p99 needs.
const SAMPLES: u32 = 1000;
/// One trial in ten is an outlier.
const OUTLIERS: f64 = 0.1;
/// How far a run drifts from its beginning to its end, as a share.
const DRIFT: f64 = 0.5;
/// Draws that make a truth.
const MANY: usize = 200_000;

/// A named generator with a fixed seed.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn uniform(&mut self) -> f64 {
        self.0
            .random::<f64>()
            .clamp(f64::MIN_POSITIVE, 1.0 - f64::EPSILON)
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lognormal.
    Plain,
    /// Lognormal, but one trial in ten of either path collapses to a third (its round trips: to three times).
    Outliers,
    /// Lognormal, but all figures grow by half from the run's begin to its end.
    Drifting,
}

/// How trials scatter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) cv: f64,
}

/// What is to be covered, of the tunnel.
pub(crate) struct Truth {
    /// In MB/s; without drift.
    pub(crate) throughput: f64,
    pub(crate) ratio: f64,
    /// In microseconds; without drift.
    pub(crate) latency_p50: f64,
    pub(crate) latency_p99: f64,
    pub(crate) difference_p50: f64,
    pub(crate) difference_p99: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// A standard normal's value at a share: by bisection of a plain series, so that this file needs no statistics.
fn normal_at(share: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF as _, Normal};
    Normal::standard().inverse_cdf(share)
}

/// A trial's round trips in nanoseconds at a factor of 1: the lognormal's own quantiles, so that each trial's
/// percentiles are known exactly.
fn round_trips() -> impl Iterator<Item = f64> {
    (0..SAMPLES)
        .map(|step| ROUND_TRIP * (TAIL * normal_at((f64::from(step) + 0.5) / f64::from(SAMPLES))).exp())
}

/// Their p50 and p99 in microseconds.
pub(crate) fn quantiles_of() -> (f64, f64) {
    let all: Vec<f64> = round_trips().collect();
    let at = |quantile: f64| all[(quantile * f64::from(SAMPLES)).ceil() as usize - 1] / 1e3;
    (at(0.5), at(0.99))
}

impl World {
    fn factor(self, collapse: f64, draws: &mut Draws) -> f64 {
        let sigma = self.cv.powi(2).ln_1p().sqrt();
        let outlier = self.kind == Kind::Outliers && draws.uniform() < OUTLIERS;
        (sigma * draws.normal()).exp() * if outlier { collapse } else { 1.0 }
    }

    fn throughput(self, draws: &mut Draws) -> f64 {
        DIRECT * self.factor(1.0 / 3.0, draws)
    }

    /// What drifts at a time of the run, from 0 to 1.
    fn drift(self, time: f64) -> f64 {
        if self.kind == Kind::Drifting {
            DRIFT * time
        } else {
            0.0
        }
    }

    /// The medians of many draws.
    pub(crate) fn truth(self, draws: &mut Draws) -> Truth {
        let (p50, p99) = quantiles_of();
        let rates: Vec<(f64, f64)> = (0..MANY)
            .map(|_| (self.throughput(draws), RATIO * self.throughput(draws)))
            .collect();
        let slow: Vec<(f64, f64)> = (0..MANY)
            .map(|_| (self.factor(3.0, draws), SLOWER * self.factor(3.0, draws)))
            .collect();
        Truth {
            throughput: median(rates.iter().map(|(_, tunnel)| *tunnel).collect()),
            ratio: median(rates.iter().map(|(direct, tunnel)| tunnel / direct).collect()),
            latency_p50: p50 * median(slow.iter().map(|(_, tunnel)| *tunnel).collect()),
            latency_p99: p99 * median(slow.iter().map(|(_, tunnel)| *tunnel).collect()),
            difference_p50: p50 * median(slow.iter().map(|(direct, tunnel)| tunnel - direct).collect()),
            difference_p99: p99 * median(slow.iter().map(|(direct, tunnel)| tunnel - direct).collect()),
        }
    }
}

/// A run that is being made up.
pub(crate) struct Run {
    blocks: u32,
    planned: Value,
    workloads: Vec<Value>,
    pub(crate) gates: Vec<Value>,
    /// The day of January on which it began.
    pub(crate) day: usize,
    lines: String,
}

impl Run {
    pub(crate) fn new(blocks: u32, planned: Value) -> Self {
        Self {
            blocks,
            planned,
            workloads: Vec::new(),
            gates: Vec::new(),
            day: 1,
            lines: String::new(),
        }
    }

    /// Both paths' trials of one block, in random order; each is given when it ran, from 0 to 1 of the run.
    fn block(
        &mut self,
        block: u32,
        draws: &mut Draws,
        mut trial: impl FnMut(&str, f64, &mut Draws) -> (String, Value),
    ) {
        let mut paths = ["direct", "tunnel"];
        if draws.uniform() < 0.5 {
            paths.reverse();
        }
        for (position, path) in paths.into_iter().enumerate() {
            let time = (f64::from(block - 1) + position as f64 / 2.0) / f64::from(self.blocks);
            let (workload, result) = trial(path, time, draws);
            let mut line = json!({
                "block": block, "case": format!("{path}--{workload}"), "started": "2026-01-01T00:00:00Z",
                "outcome": { "state": "measured" }, "verdict": { "state": "confirmed" },
            });
            for (key, value) in result.as_object().unwrap() {
                line[key] = value.clone();
            }
            self.lines.push_str(&line.to_string());
            self.lines.push('\n');
        }
    }

    pub(crate) fn throughput(&mut self, name: &str, world: World, draws: &mut Draws) {
        self.shifted_throughput(name, world, 1.0, draws);
    }

    /// As [`Self::throughput`], with all of both paths' figures times `shift`.
    pub(crate) fn shifted_throughput(&mut self, name: &str, world: World, shift: f64, draws: &mut Draws) {
        self.workloads
            .push(json!({ "name": name, "throughput": { "duration": "1s" } }));
        for block in 1..=self.blocks {
            self.block(block, draws, |path, time, draws| {
                let ratio = if path == "tunnel" { RATIO } else { 1.0 };
                let rate = shift * ratio * world.throughput(draws) * (1.0 + world.drift(time));
                let stream = json!({ "received_bytes": (rate * 1e6).round() as u64, "seconds": 1.0 });
                (name.to_owned(), json!({ "throughput": { "streams": [stream] } }))
            });
        }
    }

    pub(crate) fn latency(&mut self, name: &str, world: World, draws: &mut Draws) {
        self.workloads
            .push(json!({ "name": name, "latency": { "kind": "tcp-rr", "duration": "1s" } }));
        let trips: Vec<f64> = round_trips().collect();
        for block in 1..=self.blocks {
            self.block(block, draws, |path, time, draws| {
                let slower = if path == "tunnel" { SLOWER } else { 1.0 };
                let factor = slower * world.factor(3.0, draws);
                // What drifts adds the same to every round trip of either path, so that differences stay.
                let added = ROUND_TRIP * world.drift(time);
                let mut histogram = LatencyHistogram::new().unwrap();
                for trip in &trips {
                    histogram.record((trip * factor + added).round() as u64);
                }
                let latency = json!({
                    "transactions": SAMPLES, "seconds": 1.0, "latency": histogram.encode().unwrap(),
                });
                (name.to_owned(), json!({ "latency": latency }))
            });
        }
    }

    /// Writes `manifest.json` and `trials.jsonl`.
    pub(crate) fn write(&self, folder: &Path) {
        let path = |name: &str| {
            let mut path = json!({
                "name": name, "from": "a", "to": "b", "expected": "none", "same-node": false, "same-subnet": true,
            });
            if name == "tunnel" {
                path["from"] = "pod@a/Always".into();
                path["to"] = "pod@b/Always".into();
                path["expected"] = "vxlan".into();
                path["vxlan-mode"] = "Always".into();
            }
            path
        };
        let cases: Vec<Value> = ["direct", "tunnel"]
            .iter()
            .flat_map(|name| {
                self.workloads.iter().map(move |workload| {
                    let slug = format!("{name}--{}", workload["name"].as_str().unwrap());
                    json!({ "slug": slug, "path": path(name), "workload": workload })
                })
            })
            .collect();
        let manifest = json!({
            "format": 1,
            "started": format!("2026-01-{:02}T00:00:00Z", self.day),
            "scenario": {
                "name": "by-hand",
                "fabric": { "lab": { "clusters": [ { "name": "c", "subnets": [ { "nodes": ["a", "b"] } ] } ] } },
                "paths": [
                    { "name": "direct", "from": "a", "to": "b" },
                    { "name": "tunnel", "from": "pod@a", "to": "pod@b", "vxlan-mode": "Always" },
                ],
                "workloads": self.workloads,
                "blocks": self.planned,
                "relative-to": "direct",
                "gates": self.gates,
            },
            "cases": cases,
        });
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        fs::write(folder.join("trials.jsonl"), &self.lines).unwrap();
    }
}
