use super::*;

fn points(values: &[f64]) -> Vec<TrialPoint> {
    values
        .iter()
        .zip(1..)
        .map(|(&value, block)| TrialPoint { block, value })
        .collect()
}

#[test]
fn the_exact_distribution_is_that_of_the_tables() {
    // n = 8: 1/8! on either side without an inversion; P(S >= 18), that is at most 5 inversions, is 0.016 (Hollander &
    // Wolfe, table A.30).
    assert!((exact_p(8, 0) - 2.0 / 40_320.0).abs() < 1e-12);
    assert!((exact_p(8, 5) / 2.0 - 0.0156).abs() < 1e-4, "{}", exact_p(8, 5));
    assert!((exact_p(4, 6) - 1.0).abs() < 1e-12);
    // All permutations together.
    assert!((exact_p(30, 435) - 1.0).abs() < 1e-12);
}

#[test]
fn exact_and_normal_agree_where_one_takes_over() {
    for inversions in [250, 300, 350] {
        let n = MOST_EXACT;
        let score = (n * (n - 1) / 2) as i64 - 2 * inversions;
        let ordered = points(&(0..n).map(|i| i as f64).collect::<Vec<_>>());
        let (exact, normal) = (exact_p(n, inversions as usize), normal_p(&ordered, score));
        assert!((exact - normal).abs() < 0.05 * exact + 5e-4, "{exact} {normal}");
    }
}

#[test]
fn a_trend_is_seen_in_either_direction_whatever_the_order_of_the_log() {
    let rising: Vec<f64> = (0..10).map(f64::from).collect();
    let up = trend(&points(&rising)).unwrap();
    assert!((up.tau - 1.0).abs() < 1e-12 && up.p < 1e-5);
    let mut shuffled = points(&rising);
    shuffled.reverse();
    assert_eq!(trend(&shuffled), Some(up));
    let falling: Vec<f64> = rising.iter().map(|value| -value).collect();
    assert!((trend(&points(&falling)).unwrap().tau + 1.0).abs() < 1e-12);
}

#[test]
fn no_trend_where_there_is_none_or_too_little() {
    let rising: Vec<f64> = (0..7).map(f64::from).collect();
    assert_eq!(trend(&points(&rising)), None, "7 points are too few");
    assert_eq!(trend(&points(&[5.0; 20])), None, "ties all over");
    assert_eq!(trend(&points(&[1.0, 5.0, 2.0, 4.0, 3.0, 6.0, 2.5, 4.5])), None);
}

#[test]
fn ties_are_corrected_for() {
    // Two levels, all of the low ones first: significant; alternating: not.
    let step: Vec<f64> = (0..20).map(|i| f64::from(i / 10)).collect();
    assert!(trend(&points(&step)).is_some());
    let alternating: Vec<f64> = (0..20).map(|i| f64::from(i % 2)).collect();
    assert_eq!(trend(&points(&alternating)), None);
}
