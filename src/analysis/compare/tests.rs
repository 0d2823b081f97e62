use super::*;
use crate::{
    analysis::{
        fixtures::{latency, manifest, throughput},
        simulation::{Draws, runs},
        summarise,
    },
    run::Trial,
};

/// A run of six blocks of three paths, at a multiple of the usual throughput.
fn trials(scale: f64) -> Vec<Trial> {
    (1..=6)
        .flat_map(|block| {
            let wobble = 1.0 + 0.004 * (f64::from(block * 7 % 5) - 2.0);
            [
                ("node-to-node", 1000.0),
                ("CrossSubnet", 950.0),
                ("Always", 200.0),
            ]
            .map(|(path, rate)| throughput(block, path, rate * scale * wobble))
        })
        .collect()
}

fn of<'a>(manifest: &'a Manifest, summaries: &'a [Summary]) -> Vec<ComparedRun<'a>> {
    summaries
        .iter()
        .map(|summary| ComparedRun { manifest, summary })
        .collect()
}

/// Compares runs at these multiples of the usual throughput.
fn compared(base: &[f64], new: &[f64], history: &[f64]) -> Comparison {
    let manifest = manifest(None);
    let summaries = |scales: &[f64]| -> Vec<Summary> {
        scales
            .iter()
            .map(|scale| summarise(&manifest, &trials(*scale)))
            .collect()
    };
    let (base, new, history) = (summaries(base), summaries(new), summaries(history));
    compare(
        &of(&manifest, &base),
        &of(&manifest, &new),
        &of(&manifest, &history),
        0.05,
    )
}

fn of_throughput(comparison: &Comparison) -> Vec<ChangeState> {
    comparison
        .changes
        .iter()
        .filter(|change| change.metric == Metric::Throughput)
        .map(|change| change.state)
        .collect()
}

#[test]
fn several_runs_a_side_tell_small_differences() {
    use ChangeState::{Better, CantTell, Same, Worse};
    let steady = [1.0, 1.004, 0.997, 1.002];
    let scaled = |by: f64| steady.map(|run| run * by);
    for (by, state) in [(1.0, Same), (0.8, Worse), (1.2, Better), (1.05, Better)] {
        let comparison = compared(&steady, &scaled(by), &[]);
        assert_eq!(of_throughput(&comparison), [state; 3], "{by}");
    }
    // CPU a GB goes the other way.
    let cpu = compared(&steady, &scaled(0.8), &[]);
    let cpu = cpu
        .changes
        .iter()
        .find(|change| change.metric == Metric::CpuSecondsPerGb);
    assert_eq!(
        cpu.map(|change| (change.state, change.ratio > 1.2)),
        Some((Worse, true))
    );
    // Where runs scatter, the same difference is none.
    let scattered = [1.0, 1.15, 0.85, 1.05];
    let comparison = compared(&scattered, &scattered.map(|run| run * 1.05), &[]);
    assert_eq!(of_throughput(&comparison), [CantTell; 3]);
    assert_eq!(comparison.changes[0].degrees, 6);
}

#[test]
fn one_run_a_side_tells_large_differences_only() {
    use ChangeState::{CantTell, Same, Worse};
    assert_eq!(of_throughput(&compared(&[1.0], &[1.0], &[])), [CantTell; 3]);
    assert_eq!(of_throughput(&compared(&[1.0], &[0.85], &[])), [CantTell; 3]);
    let cliff = compared(&[1.0], &[0.2], &[]);
    assert_eq!(of_throughput(&cliff), [Worse; 3]);
    assert_eq!(cliff.changes[0].degrees, 0, "the scatter is assumed");
    assert!(cliff.changes[0].smallest_difference.unwrap() > 0.3);
    // A history tells how runs scatter.
    let history = [1.0, 1.004, 0.997, 1.002, 0.999];
    assert_eq!(of_throughput(&compared(&[1.0], &[0.85], &history)), [Worse; 3]);
    assert_eq!(of_throughput(&compared(&[1.0], &[1.0], &history)), [Same; 3]);
}

#[test]
fn the_verdict_over_all_is_the_most_alarming() {
    use ChangeState::{Better, CantTell, Same, Worse};
    let change = compared(&[1.0], &[1.0], &[]).changes.remove(0);
    for (states, state) in [
        (&[][..], CantTell),
        (&[Same, Same], Same),
        (&[Same, Better], Better),
        (&[Better, CantTell], CantTell),
        (&[CantTell, Worse, Better], Worse),
    ] {
        let comparison = Comparison {
            changes: states
                .iter()
                .map(|&state| Change {
                    state,
                    ..change.clone()
                })
                .collect(),
            ..Comparison::default()
        };
        assert_eq!(comparison.state(), state, "{states:?}");
    }
}

#[test]
fn unlike_conditions_are_named_and_unlike_cases_left_out() {
    let before = manifest(None);
    let mut after = manifest(None);
    after.host.kernel = "Linux 6.12".to_owned();
    after.congestion.used = Some("bbr".to_owned());
    after.encapbench = "0.2.0".to_owned();
    after.cases[0].workload.throughput.as_mut().unwrap().streams = 4;
    after.cases.retain(|case| case.path.name != "Always");
    let mut log = trials(1.0);
    log.extend((1..=6).map(|block| latency(block, "CrossSubnet", 50.0, 1000)));
    let (base, new) = (summarise(&before, &log), summarise(&after, &log));
    let comparison = compare(
        &[ComparedRun {
            manifest: &before,
            summary: &base,
        }],
        &[ComparedRun {
            manifest: &after,
            summary: &new,
        }],
        &[],
        0.05,
    );
    let text: Vec<String> = comparison
        .unlike
        .iter()
        .map(|unlike| format!("{}: {:?} {:?}", unlike.what, unlike.base, unlike.new))
        .chain(comparison.left_out.clone())
        .chain(comparison.changes.iter().map(|change| {
            format!(
                "{} {} {}: {:.3} {}",
                change.path, change.workload, change.metric, change.ratio, change.state
            )
        }))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn nothing_is_compared_with_nothing() {
    assert_eq!(compare(&[], &[], &[], 0.05).state(), ChangeState::CantTell);
}

#[test]
fn the_adjustment_is_holms_with_shaffers_count() {
    // Two figures: four hypotheses of which two can be true.
    // Steps: twice 0.01, twice 0.02, twice 0.8, once 0.9; and never less than the step before.
    let adjusted = adjust(&[0.01, 0.9, 0.02, 0.8], 2);
    for (adjusted, expected) in adjusted.iter().zip([0.02, 1.0, 0.04, 1.0]) {
        assert!((adjusted - expected).abs() < 1e-12, "{adjusted} {expected}");
    }
    assert_eq!(adjust(&[0.03, 1.0], 1), [0.03, 1.0]);
}

/// Verdicts over `figures` figures of three runs a side that scatter by 3 % between runs, at a true ratio.
fn verdicts(figures: usize, ratio: f64, draws: &mut Draws) -> Vec<(bool, bool)> {
    let mut probabilities = Vec::new();
    for _ in 0..figures {
        let mut side = |centre: f64| -> Vec<Observation> {
            (0..3)
                .map(|_| Observation {
                    log: centre + 0.03 * draws.normal(),
                    variance: None,
                    trials: 6,
                })
                .collect()
        };
        let of = difference(&side(0.0), &side(ratio.ln()), &[]).unwrap();
        probabilities.extend([of.p_different(), of.p_same(0.05_f64.ln_1p())]);
    }
    let adjusted = adjust(&probabilities, figures);
    adjusted
        .chunks_exact(2)
        .map(|of| (of[0] < ERROR, of[1] < ERROR))
        .collect()
}

#[test]
fn any_wrong_verdict_over_all_figures_is_as_seldom_as_promised() {
    let runs = runs(1500);
    let most = ERROR + 4.5 * (ERROR * (1.0 - ERROR) / runs as f64).sqrt();
    let share = |ratio: f64, wrong: fn(&(bool, bool)) -> bool| {
        let mut draws = Draws::new(21);
        let count = (0..runs)
            .filter(|_| verdicts(12, ratio, &mut draws).iter().any(wrong))
            .count();
        count as f64 / runs as f64
    };
    // Nothing differs: better or worse is wrong. All differ by the margin: the same is wrong.
    let different = share(1.0, |(different, _)| *different);
    let same = share(1.05, |(_, same)| *same);
    assert!(different < most && same < most, "{different} {same}");
}
