//! A line of the trial log.

use crate::{
    evidence::{EvidenceState, ProbeSeen, RawEvidence, Verdict},
    measure::{LatencyResult, MachineCpu, SearchStep, ThroughputResult},
    scenario::Place,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Outcome {
    /// It was measured to its end.
    Measured,
    /// Nothing got through, as its path says.
    Unreachable,
    /// It failed.
    Failed {
        /// What failed, with its causes.
        error: String,
    },
    /// It was interrupted; it is run again on resume.
    Interrupted,
}

/// What a tunnel in user space took on its node during a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HopCpu {
    /// The node.
    pub node: String,
    /// User and system time in seconds.
    pub seconds: f64,
}

/// What one of several pairs measured that were loaded at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairResult {
    /// The place that sent.
    pub from: Place,
    /// The place that received.
    pub to: Place,
    /// When its traffic began to flow, in seconds after that of the first pair, as the coordinator heard of it.
    #[serde(default)]
    pub began: f64,
    /// Bytes a second that its receiver read, warm-up excluded; of a throughput trial, or of the load under a latency
    /// trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    /// Segments sent again, warm-up excluded, where the sender can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u64>,
    /// Datagrams lost in percent of those sent; only of UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<f64>,
    /// The median round trip in microseconds; of a latency trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p50: Option<f64>,
    /// 99 % of round trips were shorter, in microseconds; of a latency trial with samples enough (1000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p99: Option<f64>,
}

/// One measured run of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// The block, from 1.
    pub block: u32,
    /// The place in the block's order, from 1; 0 where it is not known.
    #[serde(default)]
    pub position: u32,
    /// The case's slug.
    pub case: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, set-up included, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// What the receiving end of a throughput trial measured, completed with what the sender knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<ThroughputResult>,
    /// The same as the sending end had it: its samples have TCP_INFO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<ThroughputResult>,
    /// What a search for the highest rate tried, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<SearchStep>,
    /// What a latency trial measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyResult>,
    /// The load that ran meanwhile, as its receiver measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<ThroughputResult>,
    /// Of each pair, in the path's order, where several were loaded at once. `throughput`, `sender`, `latency` and `load`
    /// are of all pairs then: the streams of the n-th pair (from 0) have 1000 n added to their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairResult>,
    /// What came of trying a path that is expected to be unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSeen>,
    /// CPU time of the machines involved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<MachineCpu>,
    /// CPU time of tunnels in user space that packets came through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<HopCpu>,
    /// What was seen of the path.
    #[serde(default)]
    pub evidence: RawEvidence,
    /// The verdict over it.
    pub verdict: Verdict,
}

/// A core of a machine over a trial, by what it spent its time on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BusyCore {
    /// The share of its time that it was busy: 0 to 1.
    pub busy_share: f64,
    /// The share of its time in soft interrupts, where most of network receive is done.
    pub softirq_share: f64,
}

impl Trial {
    /// The busiest core of all machines involved; `None` where cores were not looked at.
    pub fn busiest_core(&self) -> Option<BusyCore> {
        self.cpu
            .iter()
            .flat_map(|machine| &machine.per_core)
            .filter_map(|core| {
                let all = core.busy() + core.steal + core.idle;
                (all > 0.0).then(|| BusyCore {
                    busy_share: core.busy() / all,
                    softirq_share: core.softirq / all,
                })
            })
            .max_by(|a, b| a.busy_share.total_cmp(&b.busy_share))
    }

    /// Whether it came to its end: measured, or tried where nothing should get through.
    pub const fn is_whole(&self) -> bool {
        matches!(self.outcome, Outcome::Measured | Outcome::Unreachable)
    }

    /// Whether it counts: whole, and not contradicted.
    pub fn is_valid(&self) -> bool {
        self.is_whole() && self.verdict.state != EvidenceState::Contradicted
    }
}
