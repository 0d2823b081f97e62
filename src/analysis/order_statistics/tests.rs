use super::*;
use proptest::prelude::*;

/// P(B <= most) for B of Binomial(count, 1/2), in whole numbers.
fn exact_tail(count: u32, most: u32) -> f64 {
    let mut term = 1_u128;
    let mut sum = 0_u128;
    for k in 0..=most {
        sum += term;
        term = term * u128::from(count - k) / u128::from(k + 1);
    }
    sum as f64 / 2_f64.powi(count as i32)
}

#[test]
fn ranks_are_those_of_the_tables() {
    // Hahn & Meeker, table A.14 and Conover, table A3: two-sided 95 % for the median.
    for (count, lower) in [
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 2),
        (10, 2),
        (11, 2),
        (12, 3),
        (15, 4),
        (17, 5),
        (20, 6),
        (25, 8),
        (30, 10),
        (100, 40),
    ] {
        let ranks = median_ranks(count, 0.95).unwrap();
        assert_eq!((ranks.lower, ranks.upper), (lower, count + 1 - lower), "{count}");
    }
    assert!((median_ranks(6, 0.95).unwrap().coverage - 0.968_75).abs() < 1e-12);
    assert!((median_ranks(20, 0.95).unwrap().coverage - 0.958_610_534_667_968_8).abs() < 1e-12);
}

#[test]
fn fewer_than_six_give_no_interval() {
    for count in 0..LEAST_FOR_INTERVAL {
        assert_eq!(median_ranks(count, CONFIDENCE), None, "{count}");
    }
    assert!(median_ranks(LEAST_FOR_INTERVAL, CONFIDENCE).is_some());
    let five = estimate(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
    assert_eq!(five.interval, None);
    assert_eq!(
        (five.median, five.range, five.count, five.coverage),
        (3.0, (1.0, 5.0), 5, 0.0)
    );
}

#[test]
fn odd_ends_are_no_trouble() {
    assert_eq!(estimate(&[]), None);
    assert_eq!(estimate(&[f64::NAN, f64::INFINITY]), None);
    assert_eq!(estimate(&[f64::NAN, 2.0]).unwrap().count, 1);
    assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
    assert_eq!(median(&[1.0, 2.0]), Some(1.5));
    let ties = estimate(&[3.0; 9]).unwrap();
    assert_eq!((ties.median, ties.interval), (3.0, Some((3.0, 3.0))));
    // More values than 2^-n has room for.
    let many = median_ranks(10_000, 0.95).unwrap();
    assert_eq!(many.lower, 4902);
    assert!(many.coverage >= 0.95 && many.coverage < 0.953);
    assert_eq!(median_ranks(6, 1.0), None);
}

proptest! {
    #[test]
    fn coverage_is_the_binomial_sum(count in 6_u32..=120, confidence in 0.5_f64..0.999) {
        let Some(ranks) = median_ranks(count as usize, confidence) else {
            prop_assert!(1.0 - 2.0 * exact_tail(count, 0) < confidence);
            return Ok(());
        };
        let lower = ranks.lower as u32;
        prop_assert!((ranks.coverage - (1.0 - 2.0 * exact_tail(count, lower - 1))).abs() < 1e-12);
        prop_assert!(ranks.coverage >= confidence);
        // The narrowest that does.
        prop_assert!(1.0 - 2.0 * exact_tail(count, lower) < confidence);
        prop_assert_eq!(ranks.lower + ranks.upper, count as usize + 1);
        prop_assert!(ranks.lower <= ranks.upper);
    }

    #[test]
    fn the_interval_holds_the_median_and_lies_in_the_range(values in prop::collection::vec(-1e9_f64..1e9, 6..60)) {
        let estimate = estimate(&values).unwrap();
        let (low, high) = estimate.interval.unwrap();
        prop_assert!(estimate.range.0 <= low && low <= estimate.median);
        prop_assert!(estimate.median <= high && high <= estimate.range.1);
        prop_assert!(values.contains(&low) && values.contains(&high));
    }

    #[test]
    fn larger_values_never_make_a_smaller_estimate(
        values in prop::collection::vec((-1e6_f64..1e6, 0.0_f64..1e6), 6..40),
    ) {
        let before: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
        let after: Vec<f64> = values.iter().map(|(value, more)| value + more).collect();
        let (before, after) = (estimate(&before).unwrap(), estimate(&after).unwrap());
        prop_assert!(before.median <= after.median);
        let (before, after) = (before.interval.unwrap(), after.interval.unwrap());
        prop_assert!(before.0 <= after.0 && before.1 <= after.1);
    }

    #[test]
    fn order_does_not_matter(values in prop::collection::vec(any::<f64>(), 0..30), turn in 0_usize..30) {
        let mut turned = values.clone();
        if !turned.is_empty() {
            let by = turn % turned.len();
            turned.rotate_left(by);
        }
        prop_assert_eq!(estimate(&values), estimate(&turned));
        if let Some(estimate) = estimate(&values) {
            prop_assert!(estimate.median.is_finite());
        }
    }
}
