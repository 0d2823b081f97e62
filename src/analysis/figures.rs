//! From a trial to its figures: one number for each metric that its workload has.

use super::{TrialPoint, order_statistics::median};
use crate::{
    measure::{LatencyHistogram, ThroughputResult},
    run::Trial,
    scenario::{Metric, Protocol, WorkloadKind},
};

/// How many samples must be expected beyond a percentile for it to be shown.
const SAMPLES_BEYOND: u64 = 10;
/// A sender that sends less of its rate has missed it.
const RATE_HELD: f64 = 0.95;
/// The percentile of a send lag that is shown.
const LAG_QUANTILE: f64 = 0.99;

/// Whether `count` samples are enough for a percentile: 10 expected beyond it.
fn enough(count: u64, quantile: f64) -> bool {
    // 1/(1 - q) is whole for all percentiles that there are; rounding takes off what binary fractions put on.
    let one_in = (1.0 / (1.0 - quantile)).round() as u64;
    count >= SAMPLES_BEYOND.saturating_mul(one_in)
}

/// How many samples a trial needs for a percentile's row, 10 expected beyond it; `None` where the metric is no
/// percentile.
pub fn samples_needed(metric: Metric) -> Option<u64> {
    let quantile = match metric {
        Metric::SendLagP99 => LAG_QUANTILE,
        _ => metric.latency_quantile()?,
    };
    Some(SAMPLES_BEYOND * (1.0 / (1.0 - quantile)).round() as u64)
}

fn microseconds(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// A percentile in microseconds, where there are samples enough for it.
fn percentile(histogram: &LatencyHistogram, quantile: f64) -> Option<f64> {
    enough(histogram.count(), quantile)
        .then(|| histogram.quantile(quantile).map(microseconds))
        .flatten()
}

fn megabytes_per_second(result: &ThroughputResult) -> Option<f64> {
    result.bytes_per_second().map(|rate| rate / 1e6)
}

/// CPU-seconds a GB. The machines' counters were read before and after the whole trial, so its warm-up is in them;
/// hence all bytes of the trial are counted, those of the warm-up and of a search's other tests too. What set-up costs stays in, which is little against seconds of
/// load.
fn cpu_seconds_per_gb(trial: &Trial) -> Option<f64> {
    let bytes = trial
        .throughput
        .as_ref()?
        .total_bytes()
        .max(trial.evidence.payload_bytes);
    let gigabytes = bytes as f64 / 1e9;
    if trial.cpu.is_empty() || gigabytes <= 0.0 {
        return None;
    }
    Some(trial.cpu.iter().map(|machine| machine.cpu.busy()).sum::<f64>() / gigabytes)
}

/// Bytes a second of each of several pairs; `None` where there are not several, or one's is not known.
fn pair_rates(trial: &Trial) -> Option<Vec<f64>> {
    if trial.pairs.len() < 2 {
        return None;
    }
    trial.pairs.iter().map(|pair| pair.bytes_per_second).collect()
}

/// Jain's fairness index: the square of the sum over n times the sum of the squares; `None` where nobody got anything.
fn fairness(rates: &[f64]) -> Option<f64> {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    (squares > 0.0).then(|| sum * sum / (rates.len() as f64 * squares))
}

fn latency_of(metric: Metric, latency: &LatencyHistogram) -> Option<f64> {
    if metric == Metric::LatencyMax {
        return latency.max().map(microseconds);
    }
    percentile(latency, metric.latency_quantile()?)
}

/// A trial's figure of a metric, in the metric's unit; `None` where its kind of workload has no such figure or it is
/// not known. Never NaN.
pub(super) fn figure(kind: WorkloadKind<'_>, trial: &Trial, metric: Metric) -> Option<f64> {
    let value = match kind {
        WorkloadKind::Throughput(_) => {
            let received = trial.throughput.as_ref()?;
            match metric {
                Metric::Throughput => megabytes_per_second(received)?,
                Metric::Retransmits => received
                    .retransmits()
                    .or_else(|| trial.sender.as_ref()?.retransmits())?
                    as f64,
                Metric::CpuSecondsPerGb => cpu_seconds_per_gb(trial)?,
                Metric::LossPercent => received.loss_percent()?,
                Metric::ReorderedPercent => received.reordered_percent()?,
                Metric::Jitter => received.jitter()? * 1e6,
                Metric::Fairness => fairness(&pair_rates(trial)?)?,
                Metric::SlowestPair => pair_rates(trial)?.into_iter().reduce(f64::min)? / 1e6,
                _ => return None,
            }
        }
        WorkloadKind::Latency(_) => {
            let result = trial.latency.as_ref()?;
            match metric {
                Metric::SendLagP99 => percentile(result.send_lag.as_ref()?, LAG_QUANTILE)?,
                Metric::TransactionsPerSecond => result.transactions as f64 / result.seconds,
                Metric::LoadThroughput => megabytes_per_second(trial.load.as_ref()?)?,
                _ => latency_of(metric, &result.latency)?,
            }
        }
    };
    value.is_finite().then_some(value)
}

/// A metric's figure of each trial, in the order of blocks.
///
/// A percentile is given for all trials or for none: the trials with too few samples for it are the slow ones, and
/// leaving just those out would flatter the path.
pub(super) fn points(kind: WorkloadKind<'_>, trials: &[&Trial], metric: Metric) -> Vec<TrialPoint> {
    let points: Vec<TrialPoint> = trials
        .iter()
        .filter_map(|trial| {
            Some(TrialPoint {
                block: trial.block,
                value: figure(kind, trial, metric)?,
            })
        })
        .collect();
    if samples_needed(metric).is_some() && points.len() < trials.len() {
        return Vec::new();
    }
    points
}

/// A metric's figure of all trials' histograms merged.
pub(super) fn merged(
    metric: Metric,
    latency: Option<&LatencyHistogram>,
    send_lag: Option<&LatencyHistogram>,
) -> Option<f64> {
    match metric {
        Metric::SendLagP99 => percentile(send_lag?, LAG_QUANTILE),
        _ => latency_of(metric, latency?),
    }
}

/// What was sent of the rate that was asked of each UDP stream, as a share; `None` where none was asked, or it is not
/// known. TCP slows down for a path by design, so of it this says nothing.
fn rate_share(kind: WorkloadKind<'_>, trial: &Trial) -> Option<f64> {
    let WorkloadKind::Throughput(workload) = kind else {
        return None;
    };
    let asked = workload.bitrate.filter(|_| workload.protocol == Protocol::Udp)?;
    let result = trial.throughput.as_ref()?;
    let sent: u64 = result.streams.iter().map(|stream| stream.sent_bytes).sum();
    let share = sent as f64 * 8.0 / (asked.0 as f64 * result.seconds * result.streams.len() as f64);
    (sent > 0 && share.is_finite()).then_some(share)
}

/// What the median trial's senders sent of the rate that was asked, where it is so little that the path was never put to
/// the question.
pub(super) fn short_of_rate(kind: WorkloadKind<'_>, trials: &[&Trial]) -> Option<f64> {
    let shares: Vec<f64> = trials
        .iter()
        .filter_map(|trial| rate_share(kind, trial))
        .collect();
    median(&shares).filter(|share| *share < RATE_HELD)
}

/// Whether the generator bounds the latency: requests were sent so late against their schedule (p99) that it is more
/// than half of the latency's p99.
pub(super) fn generator_bound(
    latency: Option<&LatencyHistogram>,
    send_lag: Option<&LatencyHistogram>,
) -> bool {
    let p99 = |histogram: Option<&LatencyHistogram>| histogram?.quantile(LAG_QUANTILE);
    matches!((p99(send_lag), p99(latency)), (Some(lag), Some(latency)) if lag > latency / 2)
}
