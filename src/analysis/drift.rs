//! Whether a case's figures rise or fall over the run: the Mann-Kendall test (Mann 1945; Kendall, *Rank Correlation
//! Methods*).
//!
//! Under drift the median of all trials has no fixed true value, and its interval promises nothing. Ratios within
//! blocks keep their promise.

use super::TrialPoint;
use statrs::distribution::{ContinuousCDF, Normal};
use std::cmp::Ordering;

/// Fewer points than this can't show a trend worth a word.
const LEAST_POINTS: usize = 8;
/// Above this many points the normal approximation is as good as the exact distribution.
const MOST_EXACT: usize = 40;
/// How seldom a warning comes without drift: case by case, since a run has many.
const SIGNIFICANCE: f64 = 0.01;

/// A trend over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Kendall's tau: from -1, always falling, to 1, always rising.
    pub tau: f64,
    /// How probable as strong a trend would be without drift, both directions together.
    pub p: f64,
}

/// A trend over the points in the order of blocks, if there is one at 1 % significance; never with fewer than 8
/// points.
pub fn trend(points: &[TrialPoint]) -> Option<Trend> {
    let trend = kendall(points)?;
    (trend.p < SIGNIFICANCE).then_some(trend)
}

/// Mann-Kendall's statistic with its probability; exact without ties, else normal with the ties' correction.
fn kendall(points: &[TrialPoint]) -> Option<Trend> {
    let n = points.len();
    if n < LEAST_POINTS {
        return None;
    }
    let mut ordered = points.to_vec();
    ordered.sort_by_key(|point| point.block);
    let (mut concordant, mut discordant) = (0_i64, 0_i64);
    for (index, earlier) in ordered.iter().enumerate() {
        for later in ordered.iter().skip(index + 1) {
            match later.value.partial_cmp(&earlier.value) {
                Some(Ordering::Greater) => concordant += 1,
                Some(Ordering::Less) => discordant += 1,
                _ => {}
            }
        }
    }
    let pairs = (n * (n - 1) / 2) as f64;
    let score = concordant - discordant;
    let tied = concordant + discordant < (n * (n - 1) / 2) as i64;
    let p = if !tied && n <= MOST_EXACT {
        exact_p(n, concordant.min(discordant) as usize)
    } else {
        normal_p(&ordered, score)
    };
    Some(Trend {
        tau: score as f64 / pairs,
        p,
    })
}

/// Twice the probability that a random permutation of `n` has at most `inversions` inversions.
fn exact_p(n: usize, inversions: usize) -> f64 {
    let most = n * (n - 1) / 2;
    // The distribution of inversions of k items is that of k - 1 items, shifted evenly by 0 to k - 1.
    let mut distribution = vec![0.0; most + 1];
    distribution[0] = 1.0;
    for k in 2..=n {
        let mut next = vec![0.0; most + 1];
        let mut window = 0.0;
        for (count, slot) in next.iter_mut().enumerate() {
            window += distribution[count];
            if count >= k {
                window -= distribution[count - k];
            }
            *slot = window / k as f64;
        }
        distribution = next;
    }
    let tail: f64 = distribution.iter().take(inversions + 1).sum();
    (2.0 * tail).min(1.0)
}

/// The normal approximation with continuity correction and the ties' correction of the variance.
fn normal_p(ordered: &[TrialPoint], score: i64) -> f64 {
    let spread = |t: f64| t * (t - 1.0) * (2.0 * t + 5.0);
    let mut values: Vec<f64> = ordered.iter().map(|point| point.value).collect();
    values.sort_by(f64::total_cmp);
    let ties: f64 = values
        .chunk_by(|a, b| a.total_cmp(b) == Ordering::Equal)
        .map(|run| spread(run.len() as f64))
        .sum();
    let variance = (spread(ordered.len() as f64) - ties) / 18.0;
    if variance <= 0.0 {
        return 1.0;
    }
    let z = (score.abs() - 1).max(0) as f64 / variance.sqrt();
    (2.0 * Normal::standard().sf(z)).min(1.0)
}

#[cfg(test)]
mod tests;
