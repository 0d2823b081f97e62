use super::*;
use crate::analysis::{
    estimate,
    simulation::{Draws, runs},
};
use proptest::prelude::*;

const AT_LEAST_1: Limits = Limits {
    at_least: Some(1.0),
    at_most: None,
};

#[test]
fn clear_cases_are_decided_at_the_sixth_block() {
    let plan = Plan::new(6, 20).unwrap();
    assert_eq!((plan.first(), plan.last()), (6, 20));
    assert_eq!(plan.needed(6), Some(6));
    assert_eq!(plan.decide(&[2.0; 6], AT_LEAST_1), (Decision::Pass, 6));
    assert_eq!(plan.decide(&[0.5; 6], AT_LEAST_1), (Decision::Fail, 6));
    assert_eq!(plan.decide(&[2.0; 5], AT_LEAST_1), (Decision::Continue, 5));
    assert_eq!(plan.decide(&[], AT_LEAST_1), (Decision::Continue, 0));
}

#[test]
fn a_plan_needs_room() {
    assert_eq!(Plan::new(6, 6), None);
    assert_eq!(Plan::new(6, 5), None);
    assert_eq!(Plan::new(0, 5), None);
}

#[test]
fn too_few_trials_decide_nothing_however_early_one_looks() {
    let plan = Plan::new(1, 12).unwrap();
    for count in 1..=5 {
        assert_eq!(plan.needed(count), None, "{count}");
    }
    assert_eq!(plan.decide(&[2.0; 5], AT_LEAST_1), (Decision::Continue, 5));
}

#[test]
fn a_decision_stands() {
    let plan = Plan::new(6, 20).unwrap();
    let mut figures = vec![2.0; 6];
    figures.extend([0.5; 14]);
    assert_eq!(plan.decide(&figures, AT_LEAST_1), (Decision::Pass, 6));
    // What is beyond the plan is not looked at.
    let alternating: Vec<f64> = (0..20).map(|step| f64::from(step % 2) * 2.0).collect();
    let mut beyond = alternating.clone();
    beyond.extend([2.0; 100]);
    assert_eq!(plan.decide(&alternating, AT_LEAST_1), (Decision::Continue, 20));
    assert_eq!(plan.decide(&beyond, AT_LEAST_1), (Decision::Continue, 20));
}

#[test]
fn both_limits_are_kept() {
    let plan = Plan::new(6, 20).unwrap();
    let within = Limits {
        at_least: Some(1.0),
        at_most: Some(2.0),
    };
    assert_eq!(plan.decide(&[1.5; 6], within), (Decision::Pass, 6));
    assert_eq!(plan.decide(&[2.5; 6], within), (Decision::Fail, 6));
    assert_eq!(plan.decide(&[0.5; 6], within), (Decision::Fail, 6));
    // The limits themselves are good, as a count of nothing where nothing is allowed.
    assert_eq!(plan.decide(&[2.0; 6], within), (Decision::Pass, 6));
    let none = Limits {
        at_least: None,
        at_most: Some(0.0),
    };
    assert_eq!(plan.decide(&[0.0; 6], none), (Decision::Pass, 6));
    let straddling = [0.5, 1.5, 2.5, 1.5, 0.5, 2.5];
    assert_eq!(plan.decide(&straddling, within), (Decision::Continue, 6));
}

#[test]
fn the_error_is_spent_and_never_overspent() {
    for (first, last) in [
        (1, 6),
        (5, 20),
        (6, 7),
        (6, 20),
        (6, 30),
        (8, 40),
        (10, 200),
        (30, 1000),
    ] {
        let plan = Plan::new(first, last).unwrap();
        assert!(plan.error() <= ERROR, "{first}..{last}: {}", plan.error());
        assert!(plan.error() > ERROR / 2.0, "{first}..{last}: {}", plan.error());
    }
}

/// Figures around a limit that is the median; lognormal, since network figures are skewed.
fn at_the_limit(count: usize, draws: &mut Draws) -> Vec<f64> {
    (0..count).map(|_| (0.2 * draws.normal()).exp()).collect()
}

#[test]
fn errors_at_the_limit_are_as_computed() {
    let runs = runs(4000);
    for (first, last) in [(5, 20), (6, 12), (6, 30)] {
        let plan = Plan::new(first, last).unwrap();
        let mut draws = Draws::new(u64::from(last));
        let (mut passed, mut failed) = (0, 0);
        for _ in 0..runs {
            match plan
                .decide(&at_the_limit(last as usize, &mut draws), AT_LEAST_1)
                .0
            {
                Decision::Pass => passed += 1,
                Decision::Fail => failed += 1,
                Decision::Continue => {}
            }
        }
        let error = (plan.error() * (1.0 - plan.error()) / runs as f64).sqrt();
        for (what, count) in [("passed", passed), ("failed", failed)] {
            let seen = f64::from(count) / runs as f64;
            assert!(
                (seen - plan.error()).abs() < 4.5 * error,
                "{first}..{last} {what}: {seen:.4} seen, {:.4} computed",
                plan.error()
            );
        }
    }
}

#[test]
fn an_ordinary_interval_would_err_far_more_often() {
    let runs = runs(1000);
    let mut draws = Draws::new(3);
    let peeked = (0..runs)
        .filter(|_| {
            let figures = at_the_limit(20, &mut draws);
            (5..=20).any(|count| {
                let interval = estimate(&figures[..count]).and_then(|estimate| estimate.interval);
                interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
            })
        })
        .count();
    assert!(peeked as f64 / runs as f64 > 0.1, "{peeked} of {runs}");
}

#[test]
fn what_is_off_the_limit_is_decided_sooner_the_farther_it_is() {
    let runs = runs(500);
    let plan = Plan::new(6, 30).unwrap();
    let mean_trials = |centre: f64| {
        let mut draws = Draws::new(9);
        let mut trials = 0;
        let mut right = 0;
        for _ in 0..runs {
            let figures: Vec<f64> = (0..30).map(|_| (centre + 0.2 * draws.normal()).exp()).collect();
            let (decision, at) = plan.decide(&figures, AT_LEAST_1);
            trials += at;
            right += usize::from(decision == Decision::Pass);
        }
        (trials as f64 / runs as f64, right as f64 / runs as f64)
    };
    let (near, near_right) = mean_trials(0.2);
    let (far, far_right) = mean_trials(0.6);
    assert!(far < 6.5 && near > 8.0, "{far} {near}");
    assert!(far_right > 0.99 && near_right > 0.8, "{far_right} {near_right}");
}

proptest! {
    /// Turning every figure round at the limit turns the decision round.
    #[test]
    fn pass_and_fail_mirror(figures in prop::collection::vec(0.01_f64..100.0, 0..40)) {
        prop_assume!(figures.iter().all(|figure| (figure - 1.0).abs() > 1e-9));
        let plan = Plan::new(6, 30).unwrap();
        let turned: Vec<f64> = figures.iter().map(|figure| 1.0 / figure).collect();
        let (decision, at) = plan.decide(&figures, AT_LEAST_1);
        let mirrored = match decision {
            Decision::Pass => Decision::Fail,
            Decision::Fail => Decision::Pass,
            Decision::Continue => Decision::Continue,
        };
        prop_assert_eq!(plan.decide(&turned, AT_LEAST_1), (mirrored, at));
    }

    /// Looking after each block gives what looking once at the end gives.
    #[test]
    fn a_look_never_changes_its_mind(figures in prop::collection::vec(0.5_f64..1.6, 0..40)) {
        let plan = Plan::new(6, 30).unwrap();
        let mut standing = (Decision::Continue, 0);
        for count in 0..=figures.len() {
            let now = plan.decide(&figures[..count], AT_LEAST_1);
            if standing.0 == Decision::Continue {
                standing = now;
            }
            prop_assert_eq!(now, standing);
        }
    }
}
