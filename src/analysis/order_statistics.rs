//! The median and its distribution-free interval from order statistics.
//!
//! Of n independent values from one continuous distribution, the number below its median is binomial (n, 1/2). So
//! the interval from the l-th smallest to the l-th largest value misses the median with probability
//! 2 P(B < l) whatever the distribution: David & Nagaraja, *Order Statistics*, 3rd ed., section 7.1; Hahn & Meeker,
//! *Statistical Intervals*, section 5. With ties it covers at least as often. Fewer than 6 values can't give 95 %.
//! A percentile bootstrap would print something there, and be wrong too often; it is not used.

use super::Estimate;

/// The least coverage that an interval is printed with.
pub(super) const CONFIDENCE: f64 = 0.95;
/// Fewer values than this can't give an interval of a median: 2 / 2^5 is more than 5 %.
pub const LEAST_FOR_INTERVAL: usize = 6;

/// Which values in ascending order are the ends of a median's interval, and how surely it covers the median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MedianRanks {
    /// The lower end's rank, from 1.
    pub lower: usize,
    /// The upper end's rank, from 1: as far from the top as `lower` is from the bottom.
    pub upper: usize,
    /// The probability of covering the median.
    pub coverage: f64,
}

/// The narrowest symmetric ranks over `count` values that cover the median with at least `confidence` (0 to 1);
/// `None` where not even the smallest and the largest value do.
pub fn median_ranks(count: usize, confidence: f64) -> Option<MedianRanks> {
    let n = count as f64;
    // P(B = k) in logarithms, since 2^-n is no number any more above n = 1074.
    let mut log_term = -n * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut best = None;
    for lower in 1..=count / 2 {
        let k = (lower - 1) as f64;
        below += log_term.exp();
        let coverage = 1.0 - 2.0 * below;
        if coverage < confidence {
            break;
        }
        best = Some(MedianRanks {
            lower,
            upper: count + 1 - lower,
            coverage,
        });
        log_term += ((n - k) / (k + 1.0)).ln();
    }
    best
}

/// The finite ones, ascending.
pub(super) fn ascending(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of ascending values.
fn middle(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// The median of the finite values; `None` without one.
pub fn median(values: &[f64]) -> Option<f64> {
    middle(&ascending(values))
}

/// The median of the finite values with its range and, from 6 values on, its interval; `None` without one.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let sorted = ascending(values);
    let ranks = median_ranks(sorted.len(), CONFIDENCE);
    let at = |rank: usize| sorted.get(rank - 1).copied();
    Some(Estimate {
        median: middle(&sorted)?,
        interval: ranks.and_then(|ranks| Some((at(ranks.lower)?, at(ranks.upper)?))),
        range: (*sorted.first()?, *sorted.last()?),
        count: sorted.len(),
        coverage: ranks.map_or(0.0, |ranks| ranks.coverage),
    })
}

#[cfg(test)]
mod tests;
