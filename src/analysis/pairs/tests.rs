use super::*;
use proptest::prelude::*;

fn points(values: &[(u32, f64)]) -> Vec<TrialPoint> {
    values
        .iter()
        .map(|&(block, value)| TrialPoint { block, value })
        .collect()
}

#[test]
fn only_blocks_with_both_are_paired() {
    let base = points(&[(1, 10.0), (3, 20.0), (4, 40.0)]);
    let of = points(&[(1, 5.0), (2, 7.0), (4, 10.0)]);
    assert_eq!(paired_ratios(&base, &of), points(&[(1, 0.5), (4, 0.25)]));
    assert_eq!(paired_ratios(&base, &[]), []);
}

#[test]
fn differences_are_paired_too() {
    let base = points(&[(1, 0.0), (3, 20.0), (4, 40.0)]);
    let of = points(&[(1, 5.0), (2, 7.0), (4, 10.0)]);
    assert_eq!(paired_differences(&base, &of), points(&[(1, 5.0), (4, -30.0)]));
}

#[test]
fn a_base_of_zero_leaves_no_ratio_at_all() {
    let of = points(&[(1, 5.0), (2, 5.0)]);
    assert_eq!(paired_ratios(&points(&[(1, 1.0), (2, 0.0)]), &of), []);
    assert_eq!(paired_ratios(&points(&[(1, 1.0), (2, -1.0)]), &of), []);
    // But a zero in a block that is not paired does no harm.
    assert_eq!(paired_ratios(&points(&[(1, 1.0), (9, 0.0)]), &of).len(), 1);
}

#[test]
fn the_t_interval_is_the_textbooks() {
    // Logarithms 0, 1, 2: mean 1, deviation 1, t(0.975; 2) = 4.302653.
    let ratios = [1.0, 1.0_f64.exp(), 2.0_f64.exp()];
    let (low, high) = log_ratio_interval(&ratios, 0.95).unwrap();
    let reach = 4.302_652_73 / 3.0_f64.sqrt();
    assert!((low.ln() - (1.0 - reach)).abs() < 1e-6, "{low}");
    assert!((high.ln() - (1.0 + reach)).abs() < 1e-6, "{high}");
    assert_eq!(log_ratio_interval(&[1.0], 0.95), None);
    assert_eq!(log_ratio_interval(&[1.0, 0.0], 0.95), None);
    assert_eq!(log_ratio_interval(&[1.0, 2.0], 1.0), None);
}

#[test]
fn the_smallest_difference_is_that_of_the_sign_tests_power() {
    // Six logarithms of deviation 0.01: all six must lie on one side, p^6 = 0.8, so p = 0.96349 and z = 1.7931.
    let unit = [-1.0_f64, -1.0, -1.0, 1.0, 1.0, 1.0];
    let deviation = (6.0_f64 / 5.0).sqrt();
    let ratios: Vec<f64> = unit.iter().map(|side| (0.01 * side / deviation).exp()).collect();
    let smallest = smallest_difference(&ratios).unwrap();
    assert!((smallest.ln_1p() - 0.017_931).abs() < 2e-5, "{smallest}");
    assert_eq!(smallest_difference(&ratios[..5]), None, "no interval, no claim");
    assert_eq!(smallest_difference(&[1.0; 6]), None, "no scatter, no claim");
    // More blocks show less.
    let twice: Vec<f64> = ratios.iter().chain(&ratios).copied().collect();
    assert!(smallest_difference(&twice).unwrap() < smallest);
}

proptest! {
    /// What drifts from block to block hits both paths and cancels.
    #[test]
    fn scaling_blocks_leaves_ratios_alone(
        blocks in prop::collection::vec((1.0_f64..1e4, 1.0_f64..1e4, 0.01_f64..100.0), 1..30),
    ) {
        let of = |f: fn(&(f64, f64, f64)) -> f64| -> Vec<TrialPoint> {
            blocks.iter().zip(1..).map(|(values, block)| TrialPoint { block, value: f(values) }).collect()
        };
        let still = paired_ratios(&of(|b| b.0), &of(|b| b.1));
        let drifting = paired_ratios(&of(|b| b.0 * b.2), &of(|b| b.1 * b.2));
        prop_assert_eq!(still.len(), drifting.len());
        for (still, drifting) in still.iter().zip(&drifting) {
            prop_assert!((still.value / drifting.value - 1.0).abs() < 1e-12);
        }
    }

    /// The ratio the other way round is the reciprocal, interval included.
    #[test]
    fn turning_the_pair_turns_the_parametric_interval(ratios in prop::collection::vec(0.01_f64..100.0, 2..30)) {
        let turned: Vec<f64> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
        let (low, high) = log_ratio_interval(&ratios, 0.95).unwrap();
        let (turned_low, turned_high) = log_ratio_interval(&turned, 0.95).unwrap();
        prop_assert!((low * turned_high).ln().abs() < 1e-6 && (high * turned_low).ln().abs() < 1e-6);
    }
}
