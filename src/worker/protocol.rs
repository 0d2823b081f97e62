//! What coordinator and worker say to each other, one JSON object a line.
//!
//! Both sides begin with `hello`; an unknown version is an error. Each side sends a heartbeat every second; a worker
//! that hears nothing for ten ends, a coordinator that hears nothing fails the trial. `quit` is the ordinary end; end
//! of input is only the second way, since `exec` on older Kubernetes can't half-close it.
//!
//! A coordinator starts *jobs*, each under an id of its choice; a worker answers with messages that carry the id.
//! Several jobs may run at once.

use crate::{
    evidence::{Inspection, KnockTarget, Observation, ObservationRequest, ProbeSeen, ProbeTarget},
    measure::{CpuReading, LatencyResult, ThroughputResult},
    scenario::{LatencyKind, Throughput},
    units::{Bytes, EventRate, Span},
};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, time::Duration};

/// The version of this protocol. Coordinator and worker are one binary, so there is no need to speak older ones.
pub const VERSION: u32 = 1;
/// How often each side says that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long a side may be silent before it counts as gone.
pub const SILENCE: Duration = Duration::from_secs(10);
/// The longest line either side accepts, in bytes: a result with an hour of 100 ms samples of 128 streams.
pub const LONGEST_LINE: usize = 1 << 30;

/// From the coordinator to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum Request {
    /// The first line.
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// The coordinator lives.
    Heartbeat,
    /// Starts a job.
    Start {
        /// The coordinator's number for it.
        id: u64,
        /// What to do.
        job: Box<Job>,
    },
    /// Ends a job early; it still answers with `done` or `failed`.
    Stop {
        /// The job's number.
        id: u64,
    },
    /// Ends the worker.
    Quit,
}

/// What a worker can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Job {
    /// Listens for one iperf3 test: answers `listening`, then `done` with a throughput.
    ServeThroughput {
        /// The address to listen on.
        address: IpAddr,
        /// The port; 0: one that the kernel picks.
        port: u16,
        /// The test's name (its iperf3 cookie): others are refused.
        name: String,
        /// How often to sample.
        sample_interval: Span,
    },
    /// Runs an iperf3 test as its client: answers `running` when data flows, then `done` with a throughput.
    RunThroughput {
        /// The address to bind to.
        bind: IpAddr,
        /// The server's address.
        address: IpAddr,
        /// The server's port.
        port: u16,
        /// The test's name.
        name: String,
        /// The test.
        test: Throughput,
        /// The congestion control to use.
        congestion: Option<String>,
        /// How often to sample.
        sample_interval: Span,
    },
    /// Answers requests: answers `listening`, then `done` with nothing when it is stopped.
    ServeLatency {
        /// The address to listen on.
        address: IpAddr,
        /// The port; 0: one that the kernel picks.
        port: u16,
        /// What a client must know, so that strangers are told from it.
        token: String,
    },
    /// Measures latency: answers `running` when the first request goes out, then `done` with a latency.
    RunLatency {
        /// The address to bind to.
        bind: IpAddr,
        /// The server's address.
        address: IpAddr,
        /// The server's port.
        port: u16,
        /// The server's token.
        token: String,
        /// What one transaction is.
        kind: LatencyKind,
        /// How long is measured.
        duration: Span,
        /// Warm-up before it.
        omit: Span,
        /// Transactions a second; closed loop if `None`.
        rate: Option<EventRate>,
        /// Bytes of a request.
        request: Bytes,
        /// Bytes of a response.
        response: Bytes,
        /// The congestion control to use.
        congestion: Option<String>,
    },
    /// Asks this place's resolver for a name: answers `done` with its first address of IPv4.
    Resolve {
        /// The name.
        name: String,
    },
    /// Looks at devices, routes and the CPU of this place: answers `done` with what it saw.
    Observe {
        /// What to look at.
        request: ObservationRequest,
    },
    /// Finds out which of these congestion controls a socket can use here: answers `done` with those.
    ProbeCongestion {
        /// The algorithms.
        wanted: Vec<String>,
    },
    /// Reads all that decides here where packets go: answers `done` with an inspection.
    Inspect,
    /// Answers probes: answers `listening`, then `done` with nothing when it is stopped.
    ServeProbe {
        /// The address to listen on.
        address: IpAddr,
        /// What a prober must know.
        token: u64,
    },
    /// Probes paths to other places, all at once: answers `done` with what came of each, in their order.
    Probe {
        /// The paths.
        targets: Vec<ProbeTarget>,
        /// What their servers want to know.
        token: u64,
    },
    /// Takes in what knocks at this place's VXLAN devices: answers `running`, then `done` with tokens when stopped.
    ListenKnock,
    /// Knocks at the VXLAN devices of others: answers `done` with why each could not be sent.
    Knock {
        /// The devices.
        targets: Vec<KnockTarget>,
    },
}

/// From a worker to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say")]
pub enum Message {
    /// The first line.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The worker's encapbench.
        encapbench: String,
        /// The machine it runs on: its kernel's boot id.
        machine: String,
        /// The kernel's release.
        kernel: String,
    },
    /// The worker lives.
    Heartbeat,
    /// A server waits.
    Listening {
        /// The job's number.
        id: u64,
        /// Where.
        port: u16,
    },
    /// Traffic flows.
    Running {
        /// The job's number.
        id: u64,
    },
    /// A job is done.
    Done {
        /// Its number.
        id: u64,
        /// What came of it.
        result: Box<JobResult>,
    },
    /// A job failed.
    Failed {
        /// Its number.
        id: u64,
        /// Why, with its causes.
        error: String,
    },
}

/// What comes of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum JobResult {
    /// Nothing to tell.
    Nothing,
    /// Of a throughput test, at this end.
    Throughput(ThroughputResult),
    /// Of a latency test.
    Latency(LatencyResult),
    /// A name's address.
    Address(IpAddr),
    /// What was seen.
    Observation(Snapshot),
    /// The algorithms that can be used.
    Congestion(Vec<String>),
    /// What a place's kernel holds.
    Inspection(Box<Inspection>),
    /// What came of probes.
    Probes(Vec<ProbeSeen>),
    /// The tokens of knocks that arrived.
    Knocks(Vec<u64>),
    /// Why each knock could not be sent, if so.
    Knocked(Vec<Option<String>>),
}

/// What a worker saw of its place at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Devices and routes; the coordinator fills in the node's name.
    pub seen: Observation,
    /// CPU time of the machine since it was booted, and when that was read.
    pub cpu: CpuReading,
}

/// An error with all its causes, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        // thiserror's `{0}` of a source already has it in the text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text
}
