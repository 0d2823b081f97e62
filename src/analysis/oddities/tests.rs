use super::*;
use crate::{
    analysis::fixtures::{manifest, run, slug, throughput},
    measure::Sample,
};

fn points(values: &[f64]) -> Vec<TrialPoint> {
    values
        .iter()
        .zip(1..)
        .map(|(&value, block)| TrialPoint { block, value })
        .collect()
}

fn blocks(flags: &[Flag]) -> Vec<u32> {
    flags.iter().map(|flag| flag.block).collect()
}

#[test]
fn what_lies_far_out_is_flagged() {
    let of = |values: &[f64]| blocks(&outliers(Metric::Throughput, &points(values)));
    assert_eq!(of(&[100.0, 101.0, 99.0, 100.5, 40.0, 99.5]), [5]);
    assert_eq!(of(&[100.0, 101.0, 99.0, 100.5, 40.0, 180.0]), [5, 6]);
    assert_eq!(of(&[90.0, 110.0, 100.0, 95.0, 105.0, 85.0]), [0; 0]);
    assert_eq!(of(&[100.0, 101.0, 99.0, 100.5, 40.0]), [0; 0], "five are too few");
    assert_eq!(
        of(&[100.0, 100.0001, 100.0, 100.0002, 101.0, 100.0]),
        [0; 0],
        "1 % is near"
    );
    // More than half are equal: the mean absolute deviation stands in.
    assert_eq!(of(&[3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 30.0]), [10]);
    assert_eq!(of(&[3.0; 8]), [0; 0]);
}

/// A trial of 100 ms intervals at these rates in MB/s, after a warm-up at 1 MB/s.
fn sampled(rates: &[f64]) -> Trial {
    let mut trial = throughput(4, "Always", 200.0);
    let stream = &mut trial.throughput.as_mut().unwrap().streams[0];
    stream.samples = [1.0; 5]
        .iter()
        .chain(rates)
        .enumerate()
        .map(|(index, rate)| Sample {
            end: 0.1 * (index as f64 + 1.0),
            seconds: 0.1,
            bytes: (rate * 1e5) as u64,
            omitted: index < 5,
            tcp: None,
            udp: None,
        })
        .collect();
    trial
}

#[test]
fn what_rises_or_falls_within_a_trial_is_flagged() {
    let ramp = |from: f64, to: f64| -> Vec<f64> {
        (0..20)
            .map(|step| from + (to - from) * f64::from(step) / 19.0)
            .collect()
    };
    assert_eq!(unsteady(&sampled(&ramp(100.0, 110.0))), None);
    let rising = unsteady(&sampled(&ramp(100.0, 200.0))).unwrap();
    assert_eq!((rising.block, rising.kind), (4, FlagKind::Unsteady));
    assert!(rising.message.contains("rose by"), "{}", rising.message);
    assert!(
        unsteady(&sampled(&ramp(200.0, 100.0)))
            .unwrap()
            .message
            .contains("fell by")
    );
    // A single stall is no trend, nor is a last interval cut short, and a few intervals tell nothing.
    let mut stalled = vec![100.0; 20];
    stalled[18] = 0.0;
    stalled[19] = 900.0;
    assert_eq!(unsteady(&sampled(&stalled)), None);
    assert_eq!(unsteady(&sampled(&ramp(100.0, 200.0)[..9])), None);
    assert_eq!(unsteady(&throughput(1, "Always", 200.0)), None, "no samples");
}

#[test]
fn streams_are_taken_together() {
    // One stream gives way to another: the sum is steady.
    let mut trial = sampled(&(0..20).map(f64::from).collect::<Vec<_>>());
    let other = sampled(&(0..20).rev().map(f64::from).collect::<Vec<_>>());
    trial
        .throughput
        .as_mut()
        .unwrap()
        .streams
        .extend(other.throughput.unwrap().streams);
    assert_eq!(unsteady(&trial), None);
}

#[test]
fn flagged_trials_count_all_the_same() {
    let mut log = run(7);
    for trial in log.iter_mut().filter(|trial| trial.case == slug("Always", "tcp")) {
        if trial.block == 3 {
            *trial = throughput(3, "Always", 2000.0);
        }
    }
    let summary = crate::analysis::summarise(&manifest(None), &log);
    let case = summary.case("Always", "tcp").unwrap();
    assert_eq!(case.valid, 7);
    assert!((case.points(Metric::Throughput)[2].value - 2000.0).abs() < 1e-9);
    assert_eq!(case.flags.len(), 1);
    let warning = summary
        .warnings
        .iter()
        .find(|warning| warning.contains("counts all the same"));
    insta::assert_snapshot!(warning.unwrap());
}
