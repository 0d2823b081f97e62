use super::super::{
    fixtures::{manifest, throughput},
    simulation::{Draws, runs},
    summarise,
};
use super::*;

/// How often a series of `length` figures without a change shows one.
fn false_changes(length: usize, draw: impl Fn(&mut Draws) -> f64) -> f64 {
    let runs = runs(2000);
    let mut draws = Draws::new(length as u64);
    let shown = (0..runs)
        .filter(|_| {
            let logs: Vec<f64> = (0..length).map(|_| draw(&mut draws)).collect();
            !segment(&logs, ERROR).is_empty()
        })
        .count();
    shown as f64 / runs as f64
}

#[test]
fn a_history_without_a_change_seldom_shows_one() {
    for length in [5, 10, 30, 60] {
        let normal = false_changes(length, Draws::normal);
        // 2000 histories: 5 % come out below 6.5 % in all but one case in a thousand.
        assert!(normal < 0.065, "{length} runs: {normal}");
    }
}

#[test]
fn outliers_make_false_changes_hardly_more_frequent() {
    for length in [10, 30] {
        let heavy = false_changes(length, |draws| {
            let wide = if draws.uniform() < 0.1 { 5.0 } else { 1.0 };
            wide * draws.normal()
        });
        assert!(heavy < 0.08, "{length} runs: {heavy}");
    }
}

#[test]
fn the_run_where_a_change_began_is_found() {
    let runs = runs(300);
    let mut draws = Draws::new(5);
    let mut exact = 0;
    for _ in 0..runs {
        // 2 % scatter between runs, and 20 % less from the ninth on.
        let logs: Vec<f64> = (0..12)
            .map(|run| 0.02 * draws.normal() + if run >= 8 { -0.2 } else { 0.0 })
            .collect();
        let found = segment(&logs, ERROR / 10.0);
        exact += usize::from(found.len() == 1 && found[0].at == 8);
    }
    assert!(exact as f64 > 0.97 * runs as f64, "{exact} of {runs}");
}

#[test]
fn two_changes_are_told_apart() {
    let logs: Vec<f64> = (0..18)
        .map(|run| 0.01 * f64::from(run % 3) + if (6..12).contains(&run) { -1.0 } else { 0.0 })
        .collect();
    let mut at: Vec<usize> = segment(&logs, 0.001).iter().map(|split| split.at).collect();
    at.sort_unstable();
    assert_eq!(at, [6, 12]);
}

#[test]
fn one_odd_run_and_too_few_runs_are_no_change() {
    assert_eq!(segment(&[0.0, 0.01, 0.0, 0.01, 0.0, 0.01, 0.0, -1.0], ERROR), []);
    assert_eq!(split(&[0.0, 0.0, 1.0, 1.0]), None);
    // Figures that don't scatter at all don't divide by nothing.
    assert_eq!(segment(&[0.0; 10], ERROR), []);
}

#[test]
fn a_history_has_each_case_with_its_gates_and_says_what_else_changed() {
    let mut manifests = Vec::new();
    let mut summaries = Vec::new();
    for run in 0..10_u32 {
        let mut manifest = manifest(None);
        let rate = if run < 6 { 1000.0 } else { 700.0 } + f64::from(run % 3);
        manifest.host.kernel = if run < 6 { "Linux 6.1" } else { "Linux 6.5" }.to_owned();
        manifest.scenario.gates = serde_json::from_value(serde_json::json!([{
            "name": "fast", "path": "node-to-node", "workload": "tcp", "metric": "throughput",
            "at-least": "900MB/s",
        }]))
        .unwrap();
        let log: Vec<_> = (1..=6)
            .map(|block| throughput(block, "node-to-node", rate + f64::from(block)))
            .collect();
        summaries.push(summarise(&manifest, &log));
        manifests.push(manifest);
    }
    let runs: Vec<ComparedRun<'_>> = manifests
        .iter()
        .zip(&summaries)
        .map(|(manifest, summary)| ComparedRun { manifest, summary })
        .collect();
    let series = history(&runs);
    let tcp = series
        .iter()
        .find(|one| one.path == "node-to-node" && one.metric == Metric::Throughput)
        .unwrap();
    assert_eq!(tcp.points.len(), 10);
    assert_eq!(tcp.limits.len(), 1);
    assert!((tcp.limits[0].value - 900.0).abs() < 1e-9 && tcp.limits[0].at_least);
    let [change] = &tcp.changes[..] else {
        panic!("{:?}", tcp.changes);
    };
    assert_eq!(change.run, 6);
    assert!((change.after / change.before - 0.7).abs() < 0.01);
    assert_eq!(change.unlike.len(), 1);
    assert_eq!(change.unlike[0].what, "kernel");
    assert!(!tcp.is_better(change));
}
