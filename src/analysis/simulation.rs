//! Seeded simulations: do the intervals cover what they say they cover?
//!
//! Each world draws runs whose true median is known, and counts how often the interval holds it. The order statistics'
//! coverage is exact for any continuous distribution, so what is counted must agree with what [`estimate`] says, not
//! just be above 95 %. `SIMULATION_RUNS=100000` in the compiler's environment makes a finer count than the quick one.

use super::{
    TrialPoint, estimate, log_ratio_interval, median_ranks, paired_differences, paired_ratios,
    pairs::{detectable, values},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF as _, Normal};

/// A named generator with a fixed seed, so that every machine draws the same.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Between 0 and 1, both excluded.
    pub(crate) fn uniform(&mut self) -> f64 {
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

/// How many runs a world draws.
pub(crate) fn runs(quick: usize) -> usize {
    option_env!("SIMULATION_RUNS")
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(quick)
}

/// The coefficients of variation that benchmarks of networks have.
const VARIATIONS: [f64; 4] = [0.01, 0.05, 0.15, 0.35];
/// Numbers of blocks.
const BLOCKS: [usize; 5] = [6, 8, 12, 20, 30];
/// One trial in ten is an outlier.
const OUTLIERS: f64 = 0.1;
/// What an outlier has of the throughput that it should have.
const COLLAPSE: f64 = 0.3;

/// How a trial's figure is distributed.
#[derive(Debug, Clone, Copy)]
enum World {
    /// Around 1.
    Normal,
    /// The logarithm around 0.
    Lognormal,
    /// Lognormal, but one trial in ten collapses: the median moves with it, and must be covered where it is.
    Collapsing,
    /// Normal, but one trial in ten has ten times the scatter.
    HeavyTails,
}

impl World {
    const ALL: [Self; 4] = [Self::Normal, Self::Lognormal, Self::Collapsing, Self::HeavyTails];

    fn draw(self, variation: f64, draws: &mut Draws) -> f64 {
        let normal = draws.normal();
        match self {
            Self::Normal => 1.0 + variation * normal,
            Self::Lognormal => (sigma(variation) * normal).exp(),
            Self::Collapsing => {
                let collapse = if draws.uniform() < OUTLIERS { COLLAPSE } else { 1.0 };
                (sigma(variation) * normal).exp() * collapse
            }
            Self::HeavyTails => {
                let wider = if draws.uniform() < OUTLIERS { 10.0 } else { 1.0 };
                1.0 + variation * normal * wider
            }
        }
    }

    fn median(self, variation: f64) -> f64 {
        if !matches!(self, Self::Collapsing) {
            return 1.0;
        }
        let below = |log: f64| {
            let part = |centre: f64| Normal::standard().cdf((log - centre) / sigma(variation));
            (1.0 - OUTLIERS) * part(0.0) + OUTLIERS * part(COLLAPSE.ln())
        };
        let (mut low, mut high) = (-2.0_f64, 1.0_f64);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if below(middle) < 0.5 {
                low = middle;
            } else {
                high = middle;
            }
        }
        low.exp()
    }
}

/// The deviation of the logarithm that gives a coefficient of variation.
fn sigma(variation: f64) -> f64 {
    (variation * variation).ln_1p().sqrt()
}

/// Whether a count agrees with a probability: within 4.5 standard errors, which of all the worlds here one in a
/// thousand seeds would fail.
#[track_caller]
fn assert_agrees(hits: usize, runs: usize, probability: f64, what: &str) {
    let seen = hits as f64 / runs as f64;
    let error = (probability * (1.0 - probability) / runs as f64).sqrt();
    assert!(
        (seen - probability).abs() < 4.5 * error,
        "{what}: {seen:.4} seen, {probability:.4} said, standard error {error:.4}"
    );
}

#[test]
fn the_medians_interval_covers_as_often_as_it_says() {
    let runs = runs(300);
    let (mut all_hits, mut all_runs) = (0, 0);
    for (seed, world) in World::ALL.into_iter().enumerate() {
        for blocks in BLOCKS {
            let said = median_ranks(blocks, 0.95).unwrap().coverage;
            let (mut hits, mut count) = (0, 0);
            for variation in VARIATIONS {
                let truth = world.median(variation);
                let mut draws = Draws::new((seed * 100 + blocks) as u64);
                for _ in 0..runs {
                    let drawn: Vec<f64> = (0..blocks).map(|_| world.draw(variation, &mut draws)).collect();
                    let (low, high) = estimate(&drawn).unwrap().interval.unwrap();
                    hits += usize::from(low <= truth && truth <= high);
                    count += 1;
                }
            }
            assert_agrees(hits, count, said, &format!("{world:?}, {blocks} blocks"));
            all_hits += hits;
            all_runs += count;
        }
    }
    assert!(all_hits as f64 / all_runs as f64 >= 0.95);
}

#[test]
fn the_interval_of_a_percentiles_paired_differences_covers_as_often_as_it_says() {
    let runs = runs(300);
    for blocks in BLOCKS {
        let (mut hits, mut count) = (0, 0);
        for variation in VARIATIONS {
            let mut draws = Draws::new(11 + blocks as u64);
            for _ in 0..runs {
                let [mut base, mut of] = [Vec::new(), Vec::new()];
                for block in 1..=blocks as u32 {
                    // A block's state moves the percentile of both paths; the longer path adds 30 us to it.
                    let state = 40.0 * (sigma(variation) * draws.normal()).exp();
                    let mut point = |added: f64| TrialPoint {
                        block,
                        value: state + added + 2.0 * World::HeavyTails.draw(variation, &mut draws),
                    };
                    base.push(point(0.0));
                    of.push(point(30.0));
                }
                let differences = values(&paired_differences(&base, &of));
                let (low, high) = estimate(&differences).unwrap().interval.unwrap();
                hits += usize::from(low <= 30.0 && 30.0 <= high);
                count += 1;
            }
        }
        let said = median_ranks(blocks, 0.95).unwrap().coverage;
        assert_agrees(hits, count, said, &format!("{blocks} blocks"));
    }
}

/// Two cases over a run that loses a third on its way, with a jump in its middle.
fn drifting_pair(blocks: usize, ratio: f64, variation: f64, draws: &mut Draws) -> [Vec<TrialPoint>; 2] {
    let [mut base, mut of] = [Vec::new(), Vec::new()];
    for block in 0..blocks {
        let share = block as f64 / blocks as f64;
        let drift = (1.0 - 0.33 * share) * if share > 0.5 { 0.8 } else { 1.0 };
        let mut point = |level: f64| TrialPoint {
            block: block as u32 + 1,
            value: level * drift * (sigma(variation) * draws.normal()).exp(),
        };
        base.push(point(1000.0));
        of.push(point(1000.0 * ratio));
    }
    [base, of]
}

#[test]
fn paired_ratios_keep_their_promise_under_drift() {
    let runs = runs(300);
    for blocks in BLOCKS {
        let (mut hits, mut parametric, mut absolute, mut count) = (0, 0, 0, 0);
        for variation in VARIATIONS {
            let mut draws = Draws::new(7 + blocks as u64);
            for _ in 0..runs {
                let [base, of] = drifting_pair(blocks, 0.2, variation, &mut draws);
                let ratios = values(&paired_ratios(&base, &of));
                let holds = |(low, high): (f64, f64), truth: f64| usize::from(low <= truth && truth <= high);
                hits += holds(estimate(&ratios).unwrap().interval.unwrap(), 0.2);
                parametric += holds(log_ratio_interval(&ratios, 0.95).unwrap(), 0.2);
                absolute += holds(estimate(&values(&base)).unwrap().interval.unwrap(), 1000.0);
                count += 1;
            }
        }
        let what = format!("{blocks} blocks");
        assert_agrees(hits, count, median_ranks(blocks, 0.95).unwrap().coverage, &what);
        // The logarithms are normal here, so Student's interval covers what it says as well.
        assert_agrees(parametric, count, 0.95, &format!("parametric, {what}"));
        // An absolute median has nothing to hold on to under drift: hence its warning.
        assert!(
            (absolute as f64) < 0.9 * count as f64,
            "{what}: {absolute} of {count}"
        );
    }
}

#[test]
fn the_smallest_difference_is_shown_four_times_in_five() {
    let runs = runs(1500);
    for blocks in BLOCKS {
        let deviation = 0.05;
        let delta = detectable(blocks, deviation).unwrap();
        let mut draws = Draws::new(blocks as u64);
        let shown = (0..runs)
            .filter(|_| {
                let ratios: Vec<f64> = (0..blocks)
                    .map(|_| (delta + deviation * draws.normal()).exp())
                    .collect();
                let (low, high) = estimate(&ratios).unwrap().interval.unwrap();
                low > 1.0 || high < 1.0
            })
            .count();
        assert_agrees(shown, runs, 0.8, &format!("{blocks} blocks"));
    }
}
