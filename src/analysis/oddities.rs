//! Trials that deserve a look: unlike the others, or not steady while they were measured. They are flagged and count
//! all the same, since what is dropped for its looks biases what is left.

use super::{Flag, FlagKind, TrialPoint, order_statistics::median};
use crate::{measure::ThroughputResult, run::Trial, scenario::Metric};

/// Beyond this modified Z-score a value is flagged (Iglewicz & Hoaglin, *How to Detect and Handle Outliers*, 1993).
const FAR: f64 = 3.5;
/// 0.6745 times the median absolute deviation's reciprocal is a normal distribution's.
const MAD_SCALE: f64 = 0.6745;
/// The same for the mean absolute deviation, which stands in where more than half of all values are equal.
const MEAN_DEVIATION_SCALE: f64 = 0.797_884_6;
/// Values nearer to the median than this share of it are not worth a word, however close together the others lie.
const NEAR: f64 = 0.02;
/// Fewer trials don't tell what is usual.
const LEAST_TRIALS: usize = 6;
/// Fewer samples don't tell a trial's beginning from its end.
const LEAST_SAMPLES: usize = 9;
/// How far the last third of a trial may lie from its first: the slope that SNIA's Performance Test Specification
/// calls steady.
const STEADY: f64 = 0.1;

/// Trials whose figure lies far from the others'.
fn outliers(metric: Metric, points: &[TrialPoint]) -> Vec<Flag> {
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let Some(middle) = median(&values).filter(|_| values.len() >= LEAST_TRIALS) else {
        return Vec::new();
    };
    let deviations: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    let scale = match median(&deviations) {
        Some(deviation) if deviation > 0.0 => MAD_SCALE / deviation,
        _ => {
            let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
            if mean <= 0.0 {
                return Vec::new();
            }
            MEAN_DEVIATION_SCALE / mean
        }
    };
    points
        .iter()
        .map(|point| (point, scale * (point.value - middle)))
        .filter(|(point, score)| {
            score.abs() > FAR && (point.value - middle).abs() > NEAR * middle.abs()
        })
        .map(|(point, score)| Flag {
            block: point.block,
            kind: FlagKind::Outlier,
            message: format!(
                "block {}: {metric} of {:.1} {} lies far from the others' {:.1} (modified Z-score {score:.1})",
                point.block,
                point.value,
                metric.unit(),
                middle
            ),
        })
        .collect()
}

/// The rate of each interval after the warm-up over all streams, in bytes a second.
fn rates(result: &ThroughputResult) -> Vec<f64> {
    let mut rates: Vec<f64> = Vec::new();
    for stream in &result.streams {
        let measured = stream
            .samples
            .iter()
            .filter(|sample| !sample.omitted && sample.seconds > 0.0);
        for (index, sample) in measured.enumerate() {
            let rate = sample.bytes as f64 / sample.seconds;
            match rates.get_mut(index) {
                Some(sum) => *sum += rate,
                None => rates.push(rate),
            }
        }
    }
    rates
}

/// A trial that still rose or fell: the median rate of its last third lies more than 10 % from that of its first.
fn unsteady(trial: &Trial) -> Option<Flag> {
    let mut rates = rates(trial.throughput.as_ref()?);
    // The last interval is cut short by the test's end, and by little data its rate is wild.
    rates.pop();
    if rates.len() < LEAST_SAMPLES {
        return None;
    }
    let third = rates.len() / 3;
    let first = median(rates.get(..third)?)?;
    let last = median(rates.get(rates.len() - third..)?)?;
    if first <= 0.0 {
        return None;
    }
    let change = last / first - 1.0;
    (change.abs() > STEADY).then(|| Flag {
        block: trial.block,
        kind: FlagKind::Unsteady,
        message: format!(
            "block {}: throughput {} by {:.0} % from the trial's first third to its last ({:.1} to {:.1} MB/s): a longer \
             `omit` or `duration` may be needed",
            trial.block,
            if change > 0.0 { "rose" } else { "fell" },
            change.abs() * 100.0,
            first / 1e6,
            last / 1e6
        ),
    })
}

/// All that is odd about a case's trials, in the order of blocks. `points` are its main metric's.
pub(super) fn flags(metric: Metric, points: &[TrialPoint], trials: &[&Trial]) -> Vec<Flag> {
    let mut flags = outliers(metric, points);
    flags.extend(trials.iter().filter_map(|trial| unsteady(trial)));
    flags.sort_by_key(|flag| (flag.block, flag.kind));
    flags
}

#[cfg(test)]
mod tests;
