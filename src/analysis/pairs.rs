//! Two cases, paired within blocks: what drifts from block to block hits both and cancels.

use super::{
    CaseSummary, Estimate, TrialPoint,
    order_statistics::{CONFIDENCE, estimate, median_ranks},
};
use crate::scenario::Metric;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// How often a difference of the size of [`smallest_difference`] would have been shown.
const POWER: f64 = 0.8;
/// Logarithms that scatter less than this are the same but for rounding.
const LEAST_SCATTER: f64 = 1e-9;

/// The ratio of `of` to `base` in each block that has both, in the order of `of`.
///
/// Where a base figure of such a block is not above zero, there is none at all: leaving out just the blocks without
/// (say) retransmissions would bias what is left.
pub fn paired_ratios(base: &[TrialPoint], of: &[TrialPoint]) -> Vec<TrialPoint> {
    let mut ratios = Vec::with_capacity(of.len());
    for point in of {
        let Some(under) = base.iter().find(|under| under.block == point.block) else {
            continue;
        };
        let value = point.value / under.value;
        if under.value <= 0.0 || !value.is_finite() {
            return Vec::new();
        }
        ratios.push(TrialPoint {
            block: point.block,
            value,
        });
    }
    ratios
}

/// The median of the paired ratios of a metric of `of` to that of `base`, with its interval; `None` without a pair.
pub fn relative(base: &CaseSummary, of: &CaseSummary, metric: Metric) -> Option<Estimate> {
    estimate(&values(&paired_ratios(base.points(metric), of.points(metric))))
}

/// The difference of `of` from `base` in each block that has both, in the order of `of` and the metric's unit: how much
/// latency a path adds at a percentile, say.
pub fn paired_differences(base: &[TrialPoint], of: &[TrialPoint]) -> Vec<TrialPoint> {
    of.iter()
        .filter_map(|point| {
            let under = base.iter().find(|under| under.block == point.block)?;
            Some(TrialPoint {
                block: point.block,
                value: point.value - under.value,
            })
        })
        .collect()
}

/// The median of the paired differences of a metric of `of` from `base`, with its interval; `None` without a pair.
pub fn difference(base: &CaseSummary, of: &CaseSummary, metric: Metric) -> Option<Estimate> {
    estimate(&values(&paired_differences(
        base.points(metric),
        of.points(metric),
    )))
}

/// The values of points.
pub(super) fn values(points: &[TrialPoint]) -> Vec<f64> {
    points.iter().map(|point| point.value).collect()
}

/// Mean and standard deviation (n - 1) of the logarithms; `None` with fewer than two ratios or one not above zero.
pub(super) fn log_moments(ratios: &[f64]) -> Option<(f64, f64)> {
    let logs: Option<Vec<f64>> = ratios
        .iter()
        .map(|&ratio| (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln()))
        .collect();
    let logs = logs?;
    if logs.len() < 2 {
        return None;
    }
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, variance.sqrt()))
}

/// The parametric interval beside the order statistics': Student's t over the logarithms of paired ratios, for the
/// geometric mean of the ratio, at `confidence` (0 to 1). It assumes that the logarithms are normal, which outliers
/// break. `None` with fewer than two ratios or one not above zero.
pub fn log_ratio_interval(ratios: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let (mean, deviation) = log_moments(ratios)?;
    let n = ratios.len() as f64;
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    if !(0.0..1.0).contains(&confidence) {
        return None;
    }
    let reach = student.inverse_cdf(f64::midpoint(1.0, confidence)) * deviation / n.sqrt();
    Some(((mean - reach).exp(), (mean + reach).exp()))
}

/// The smallest difference from a ratio of 1 that a comparison over so many blocks with this scatter would have
/// shown, as a share: 0.03 says that 3 % more (or 1/1.03) would have been told from nothing with a probability of
/// 80 %.
///
/// The interval of the median excludes 1 where at least `upper` of the n ratios ([`median_ranks`]) lie on one side
/// of it. Each does with probability Φ(δ/σ), where δ is the true logarithm of the ratio and σ the logarithms'
/// standard deviation: so P(Binomial(n, Φ(δ/σ)) >= upper) = 0.8 gives δ. That is the sign test's power (Lehmann,
/// *Nonparametrics*, section 4) for normal logarithms, with σ taken from the data. `None` where there is no interval
/// to begin with, and without scatter: figures that are all the same (a count, say) don't tell how they scatter.
pub fn smallest_difference(ratios: &[f64]) -> Option<f64> {
    let (_, deviation) = log_moments(ratios)?;
    if deviation < LEAST_SCATTER {
        return None;
    }
    detectable(ratios.len(), deviation).map(f64::exp_m1)
}

/// The logarithm of the ratio that `count` blocks show with a probability of [`POWER`], at a known deviation of the
/// logarithms.
pub(super) fn detectable(count: usize, deviation: f64) -> Option<f64> {
    let ranks = median_ranks(count, CONFIDENCE)?;
    let power = |side: f64| {
        Binomial::new(side, count as u64).map_or(0.0, |binomial| binomial.sf(ranks.upper as u64 - 1))
    };
    // Bisection: the power rises with the probability of lying on the right side.
    let (mut low, mut high) = (0.5, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if power(middle) < POWER {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(deviation * Normal::standard().inverse_cdf(low))
}

#[cfg(test)]
mod tests;
