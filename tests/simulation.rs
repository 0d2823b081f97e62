//! Do intervals, gates and comparisons keep what they promise, through the program? Run folders with a known truth are
//! written by the format of docs/run-folder.md, in plain JSON; the program reports, judges and compares them, and what
//! its files say is held against the truth. The generator's seeds are fixed: every machine counts the same.
//!
//! `SIMULATION=20 cargo test --release --test simulation -- --nocapture` draws twenty times as many runs and prints what
//! it counts. `src/analysis/simulation.rs` does the same without files, for single statistics.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail where it stands, and says what it counted"
)]

#[path = "support/hand_made.rs"]
mod hand_made;
#[path = "support/program.rs"]
mod program;

use hand_made::{Draws, Kind, Run, World, quantiles_of};
use program::{code, encapbench, finish, said};
use serde_json::{Value, json};
use statrs::distribution::{Binomial, DiscreteCDF as _};
use std::{collections::BTreeMap, fs, path::Path, process::Output, time::Duration};

const LIMIT: Duration = Duration::from_mins(2);

/// How many times the quick number of runs.
fn scale() -> usize {
    std::env::var("SIMULATION")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

fn run(arguments: &[&str], folders: &[(&str, &Path)]) -> Output {
    let mut command = encapbench();
    command.args(arguments);
    for (option, folder) in folders {
        if !option.is_empty() {
            command.arg(option);
        }
        command.arg(folder);
    }
    finish(&mut command, LIMIT)
}

/// How often something that promised to happen rarely did happen.
#[derive(Default)]
struct Count {
    happened: usize,
    of: usize,
}

impl Count {
    fn add(&mut self, happened: bool) {
        self.happened += usize::from(happened);
        self.of += 1;
    }

    /// Fails where so many would come in less than one in a thousand simulations of something that happens with
    /// `probability`: then it happens more often.
    #[track_caller]
    fn at_most(&self, probability: f64, what: &str) {
        let share = self.happened as f64 / self.of as f64;
        println!("{what}: {} of {}, {:.2} %", self.happened, self.of, share * 100.0);
        let chance = Binomial::new(probability, self.of as u64)
            .unwrap()
            .sf((self.happened as u64).saturating_sub(1));
        assert!(
            self.happened == 0 || chance > 0.001,
            "{what}: {} of {} where at most {probability} is promised",
            self.happened,
            self.of
        );
    }
}

/// The lines of a CSV file by (case, metric), each by column.
fn table(file: &Path) -> BTreeMap<(String, String), BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    reader
        .records()
        .map(|record| {
            let line: BTreeMap<String, String> = columns
                .iter()
                .cloned()
                .zip(record.unwrap().iter().map(str::to_owned))
                .collect();
            ((line["case"].clone(), line["metric"].clone()), line)
        })
        .collect()
}

/// Whether the interval that a line prints misses the truth; `None` where it prints none.
fn misses(line: &BTreeMap<String, String>, low: &str, high: &str, truth: f64) -> Option<bool> {
    let number = |column: &str| line[column].parse::<f64>().ok();
    Some(!(number(low)?..=number(high)?).contains(&truth))
}

const THROUGHPUTS: usize = 12;
const LATENCIES: usize = 3;

/// One run's intervals and gates at the limit against the truth.
#[derive(Default)]
struct Counts {
    median: Count,
    ratio: Count,
    percentile: Count,
    difference: Count,
    absolute_pass: Count,
    absolute_fail: Count,
    relative_pass: Count,
    relative_fail: Count,
}

fn gate(name: &str, workload: &str, metric: &str, limit: (&str, f64), relative: bool) -> Value {
    let mut gate = json!({ "name": name, "path": "tunnel", "workload": workload, "metric": metric });
    gate[limit.0] = limit.1.into();
    if relative {
        gate["relative-to"] = "direct".into();
    }
    gate
}

impl Counts {
    fn of_world(&mut self, world: World, blocks: u32, seed: u64, scratch: &Path) {
        let mut draws = Draws::new(seed);
        let truth = world.truth(&mut draws);
        let steady = world.kind != Kind::Drifting;
        let mut written = Run::new(blocks, json!({ "at-least": blocks }));
        for number in 0..THROUGHPUTS {
            let name = format!("tcp{number}");
            written.throughput(&name, world, &mut draws);
            written.gates.push(gate(
                &format!("relative {name}"),
                &name,
                "throughput",
                ("at-least", truth.ratio),
                true,
            ));
            if steady {
                let limit = ("at-least", truth.throughput);
                written.gates.push(gate(
                    &format!("absolute {name}"),
                    &name,
                    "throughput",
                    limit,
                    false,
                ));
            }
        }
        for number in 0..LATENCIES {
            let name = format!("rr{number}");
            written.latency(&name, world, &mut draws);
            if steady {
                let limit = ("at-most", truth.latency_p99);
                written.gates.push(gate(
                    &format!("absolute {name}"),
                    &name,
                    "latency_p99",
                    limit,
                    false,
                ));
            }
        }
        let folder = scratch.join(format!("{seed}"));
        written.write(&folder);
        let output = run(&["report", "--quiet", "--tables"], &[("", &folder)]);
        assert_eq!(code(output.status), 0, "{}", said(&output));

        let summary = table(&folder.join("summary.csv"));
        let comparisons = table(&folder.join("comparisons.csv"));
        let line = |of: &BTreeMap<_, BTreeMap<String, String>>, case: String, metric: &str| {
            of[&(case, metric.to_owned())].clone()
        };
        for number in 0..THROUGHPUTS {
            let case = format!("tunnel--tcp{number}");
            let seen = line(&summary, case.clone(), "throughput");
            let missed = misses(&seen, "ci_low", "ci_high", truth.throughput);
            assert_eq!(missed.is_some(), blocks >= 6, "{blocks} blocks: {seen:?}");
            if let (Some(missed), true) = (missed, steady) {
                self.median.add(missed);
            }
            let seen = line(&comparisons, case, "throughput");
            let missed = misses(&seen, "ratio_low", "ratio_high", truth.ratio);
            assert_eq!(missed.is_some(), blocks >= 6, "{blocks} blocks: {seen:?}");
            if let Some(missed) = missed {
                self.ratio.add(missed);
            }
        }
        for number in 0..LATENCIES {
            let case = format!("tunnel--rr{number}");
            let percentiles = [
                ("latency_p50", truth.latency_p50, truth.difference_p50),
                ("latency_p99", truth.latency_p99, truth.difference_p99),
            ];
            for (metric, percentile, difference) in percentiles {
                let seen = line(&summary, case.clone(), metric);
                if let (Some(missed), true) = (misses(&seen, "ci_low", "ci_high", percentile), steady) {
                    self.percentile.add(missed);
                }
                let seen = line(&comparisons, case.clone(), metric);
                if let Some(missed) = misses(&seen, "difference_low", "difference_high", difference) {
                    self.difference.add(missed);
                }
            }
        }
        let gates: Value = serde_json::from_slice(&fs::read(folder.join("gate.json")).unwrap()).unwrap();
        for verdict in gates["verdicts"].as_array().unwrap() {
            let (passed, failed) = (verdict["state"] == "pass", verdict["state"] == "fail");
            assert!(
                blocks >= 6 || !(passed || failed),
                "a verdict from {blocks} blocks: {verdict}"
            );
            if verdict["gate"].as_str().unwrap().starts_with("relative") {
                self.relative_pass.add(passed);
                self.relative_fail.add(failed);
            } else {
                self.absolute_pass.add(passed);
                self.absolute_fail.add(failed);
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn intervals_cover_the_truth_and_gates_at_the_limit_decide_falsely_in_one_of_twenty_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let mut counts = Counts::default();
    let mut seed = 1;
    for _ in 0..scale() {
        for kind in [Kind::Plain, Kind::Outliers, Kind::Drifting] {
            for cv in [0.01, 0.05, 0.15, 0.35] {
                for blocks in [5, 6, 8, 12, 20, 30] {
                    counts.of_world(World { kind, cv }, blocks, seed, scratch.path());
                    seed += 1;
                }
            }
        }
    }
    counts.median.at_most(0.05, "a median's interval misses it");
    counts.ratio.at_most(0.05, "a paired ratio's interval misses it");
    counts
        .percentile
        .at_most(0.05, "a percentile's interval misses it");
    counts
        .difference
        .at_most(0.05, "the interval of a difference of percentiles misses it");
    counts
        .absolute_pass
        .at_most(0.025, "an absolute gate at its limit passes");
    counts
        .absolute_fail
        .at_most(0.025, "an absolute gate at its limit fails");
    counts
        .relative_pass
        .at_most(0.025, "a relative gate at its limit passes");
    counts
        .relative_fail
        .at_most(0.025, "a relative gate at its limit fails");
}

#[test]
fn gates_that_look_after_each_block_decide_falsely_no_more_often() {
    let scratch = tempfile::tempdir().unwrap();
    let (mut passes, mut fails) = (Count::default(), Count::default());
    for seed in 0..(12 * scale() as u64) {
        let world = World {
            kind: Kind::Plain,
            cv: if seed % 2 == 0 { 0.05 } else { 0.35 },
        };
        let mut draws = Draws::new(1000 + seed);
        let truth = world.truth(&mut draws);
        let mut written = Run::new(20, json!({ "at-least": 5, "at-most": 20 }));
        for number in 0..30 {
            let name = format!("tcp{number}");
            written.throughput(&name, world, &mut draws);
            let limit = ("at-least", truth.ratio);
            written.gates.push(gate(&name, &name, "throughput", limit, true));
        }
        let folder = scratch.path().join(format!("{seed}"));
        written.write(&folder);
        let output = run(&["gate", "--json"], &[("", &folder)]);
        let gates: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        for verdict in gates["verdicts"].as_array().unwrap() {
            passes.add(verdict["state"] == "pass");
            fails.add(verdict["state"] == "fail");
        }
    }
    passes.at_most(0.025, "a sequential gate at its limit passes");
    fails.at_most(0.025, "a sequential gate at its limit fails");
}

/// The runs of one repetition: each case of each run has a shift of its own.
fn runs(names: &[&str], factor: &dyn Fn(&str) -> f64, scatter: f64, draws: &mut Draws, scratch: &Path) {
    for (day, name) in names.iter().enumerate() {
        let mut written = Run::new(6, json!({ "at-least": 6 }));
        written.day = day + 1;
        for number in 0..5 {
            let shift = factor(name) * (scatter * draws.normal()).exp();
            let world = World {
                kind: if number % 2 == 0 {
                    Kind::Plain
                } else {
                    Kind::Outliers
                },
                cv: [0.01, 0.05, 0.15][number % 3],
            };
            written.shifted_throughput(&format!("tcp{number}"), world, shift, draws);
        }
        written.write(&scratch.join(name));
    }
}

#[test]
fn gates_against_earlier_runs_at_the_limit_decide_falsely_in_one_of_twenty_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let allowed = 0.1;
    let gates: Vec<Value> = (0..5)
        .flat_map(|number| {
            ["direct", "tunnel"].map(|path| {
                json!({ "name": format!("{path} {number}"), "path": path, "workload": format!("tcp{number}"),
                    "metric": "throughput", "not-worse-by": { "more-than": "10%" } })
            })
        })
        .collect();
    let policy = scratch.path().join("policy.yaml");
    fs::write(&policy, json!({ "gates": gates }).to_string()).unwrap();
    for (between, scatter) in [
        ("none between runs", 0.0),
        ("3 % between runs", 0.03),
        ("10 % between runs", 0.1),
    ] {
        let mut counts: BTreeMap<usize, (Count, Count)> = BTreeMap::new();
        for seed in 0..(15 * scale() as u64) {
            let mut draws = Draws::new(2000 + 10_000 * (scatter * 100.0) as u64 + seed);
            let names = ["base1", "base2", "base3", "base4", "new"];
            let factor = |name: &str| if name == "new" { 1.0 - allowed } else { 1.0 };
            runs(&names, &factor, scatter, &mut draws, scratch.path());
            for count in [1, 2, 4] {
                let new = scratch.path().join("new");
                let bases: Vec<_> = names[..count]
                    .iter()
                    .map(|name| scratch.path().join(name))
                    .collect();
                let mut folders: Vec<(&str, &Path)> = vec![("", &new), ("--policy", &policy)];
                folders.extend(bases.iter().map(|base| ("--baseline", base.as_path())));
                let output = run(&["gate", "--json"], &folders);
                let gates: Value =
                    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
                let (passes, fails) = counts.entry(count).or_default();
                for verdict in gates["verdicts"].as_array().unwrap() {
                    passes.add(verdict["state"] == "pass");
                    fails.add(verdict["state"] == "fail");
                }
            }
            for name in names {
                fs::remove_dir_all(scratch.path().join(name)).unwrap();
            }
        }
        for (count, (passes, fails)) in counts {
            passes.at_most(
                0.025,
                &format!("a gate at its limit against {count} runs passes, {between}"),
            );
            fails.at_most(
                0.025,
                &format!("a gate at its limit against {count} runs fails, {between}"),
            );
        }
    }
}

#[test]
fn runs_of_one_thing_are_told_apart_in_one_of_twenty_comparisons() {
    let scratch = tempfile::tempdir().unwrap();
    let names = ["a1", "a2", "a3", "b1", "b2", "b3"];
    let sides: [(&str, &[(&str, &str)]); 4] = [
        ("1 run a side", &[("", "a1"), ("", "b1")]),
        (
            "2 runs a side",
            &[("", "a1"), ("", "b1"), ("--base", "a2"), ("--run", "b2")],
        ),
        (
            "3 runs a side",
            &[
                ("", "a1"),
                ("", "b1"),
                ("--base", "a2"),
                ("--run", "b2"),
                ("--base", "a3"),
                ("--run", "b3"),
            ],
        ),
        (
            "1 run a side and a history of 2",
            &[("", "a1"), ("", "b1"), ("--history", "a2"), ("--history", "a3")],
        ),
    ];
    for (between, scatter) in [
        ("none between runs", 0.0),
        ("3 % between runs", 0.03),
        ("10 % between runs", 0.1),
    ] {
        let mut apart: BTreeMap<&str, Count> = BTreeMap::new();
        for seed in 0..(20 * scale() as u64) {
            let mut draws = Draws::new(500_000 + 10_000 * (scatter * 100.0) as u64 + seed);
            runs(&names, &|_| 1.0, scatter, &mut draws, scratch.path());
            for (side, folders) in sides {
                let folders: Vec<_> = folders
                    .iter()
                    .map(|(option, name)| (*option, scratch.path().join(name)))
                    .collect();
                let folders: Vec<(&str, &Path)> = folders
                    .iter()
                    .map(|(option, folder)| (*option, folder.as_path()))
                    .collect();
                let output = run(&["compare", "--json"], &folders);
                let comparison: Value =
                    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
                let changes = comparison["changes"].as_array().unwrap();
                assert_eq!(changes.len(), 10);
                let told = changes
                    .iter()
                    .any(|change| change["state"] == "better" || change["state"] == "worse");
                // The exit code follows the verdicts.
                let worse = changes.iter().any(|change| change["state"] == "worse");
                assert_eq!(code(output.status) == 1, worse, "{}", said(&output));
                apart.entry(side).or_default().add(told);
            }
            for name in names {
                fs::remove_dir_all(scratch.path().join(name)).unwrap();
            }
        }
        for (side, count) in apart {
            count.at_most(0.05, &format!("runs of one thing told apart, {side}, {between}"));
        }
    }
}

#[test]
fn the_truth_that_is_drawn_for_is_the_truth() {
    let mut draws = Draws::new(1);
    let truth = World {
        kind: Kind::Plain,
        cv: 0.05,
    }
    .truth(&mut draws);
    let (p50, p99) = quantiles_of();
    assert!((truth.ratio / hand_made::RATIO - 1.0).abs() < 0.002);
    assert!((truth.latency_p50 / p50 / hand_made::SLOWER - 1.0).abs() < 0.002);
    assert!((truth.latency_p99 / p99 / hand_made::SLOWER - 1.0).abs() < 0.002);
}
