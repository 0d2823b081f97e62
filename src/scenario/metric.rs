//! Metrics: what a case has figures of. Their names, units and order are those of `summary.csv`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A figure of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// MB/s (10^6 bytes a second) that the receivers read, warm-up excluded.
    Throughput,
    /// TCP segments sent again in a trial, warm-up excluded.
    Retransmits,
    /// CPU-seconds that the machines involved spent per GB (10^9 bytes) received.
    CpuSecondsPerGb,
    /// The median round trip, in microseconds.
    LatencyP50,
    /// 90 % of round trips were shorter, in microseconds.
    LatencyP90,
    /// 99 %, in microseconds.
    LatencyP99,
    /// 99.9 %, in microseconds.
    #[serde(rename = "latency_p99_9")]
    LatencyP99_9,
    /// 99.99 %, in microseconds.
    #[serde(rename = "latency_p99_99")]
    LatencyP99_99,
    /// The longest round trip, in microseconds.
    LatencyMax,
    /// 99 % of requests were sent less late than this, in microseconds.
    SendLagP99,
    /// Transactions completed a second.
    TransactionsPerSecond,
    /// MB/s of the load that ran while latency was probed.
    LoadThroughput,
    /// Datagrams lost, in percent of those sent.
    LossPercent,
    /// Datagrams that came late or twice, in percent of those sent.
    ReorderedPercent,
    /// Smoothed variation of the transit time (RFC 3550), in microseconds.
    Jitter,
    /// Jain's fairness index of the throughput of pairs that were loaded at once (Jain, Chiu, Hawe 1984): 1 where all
    /// got the same, 1/n where one of n got everything.
    Fairness,
    /// MB/s of the slowest of the pairs that were loaded at once.
    SlowestPair,
}

impl Metric {
    /// All of them, in the order of `summary.csv`.
    pub const ALL: [Self; 17] = [
        Self::Throughput,
        Self::Retransmits,
        Self::CpuSecondsPerGb,
        Self::LatencyP50,
        Self::LatencyP90,
        Self::LatencyP99,
        Self::LatencyP99_9,
        Self::LatencyP99_99,
        Self::LatencyMax,
        Self::SendLagP99,
        Self::TransactionsPerSecond,
        Self::LoadThroughput,
        Self::LossPercent,
        Self::ReorderedPercent,
        Self::Jitter,
        Self::Fairness,
        Self::SlowestPair,
    ];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Retransmits => "retransmits",
            Self::CpuSecondsPerGb => "cpu_seconds_per_gb",
            Self::LatencyP50 => "latency_p50",
            Self::LatencyP90 => "latency_p90",
            Self::LatencyP99 => "latency_p99",
            Self::LatencyP99_9 => "latency_p99_9",
            Self::LatencyP99_99 => "latency_p99_99",
            Self::LatencyMax => "latency_max",
            Self::SendLagP99 => "send_lag_p99",
            Self::TransactionsPerSecond => "transactions_per_second",
            Self::LoadThroughput => "load_throughput",
            Self::LossPercent => "loss_percent",
            Self::ReorderedPercent => "reordered_percent",
            Self::Jitter => "jitter",
            Self::Fairness => "fairness",
            Self::SlowestPair => "slowest_pair",
        }
    }

    /// Its unit, as `summary.csv` has it.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Throughput | Self::LoadThroughput | Self::SlowestPair => "MB/s",
            Self::Fairness => "1",
            Self::Retransmits => "segments",
            Self::CpuSecondsPerGb => "s/GB",
            Self::LatencyP50
            | Self::LatencyP90
            | Self::LatencyP99
            | Self::LatencyP99_9
            | Self::LatencyP99_99
            | Self::LatencyMax
            | Self::SendLagP99
            | Self::Jitter => "us",
            Self::TransactionsPerSecond => "1/s",
            Self::LossPercent | Self::ReorderedPercent => "%",
        }
    }

    /// Whether more of it is better.
    pub const fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::Throughput
                | Self::TransactionsPerSecond
                | Self::LoadThroughput
                | Self::Fairness
                | Self::SlowestPair
        )
    }

    /// The share of round trips below it (0 to 1), where it is a percentile of latency.
    pub const fn latency_quantile(self) -> Option<f64> {
        match self {
            Self::LatencyP50 => Some(0.5),
            Self::LatencyP90 => Some(0.9),
            Self::LatencyP99 => Some(0.99),
            Self::LatencyP99_9 => Some(0.999),
            Self::LatencyP99_99 => Some(0.9999),
            _ => None,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
