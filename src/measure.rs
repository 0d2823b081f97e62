//! What is measured and sampled: throughput over time, latency histograms, CPU, TCP_INFO, interfaces and routes.
//!
//! The types here are what workers report and what the trial log keeps.

mod cpu;
pub mod inspect;
mod ipsec;
mod latency;
pub mod machine;
pub mod network;
pub mod sctp_status;
pub mod tcp_info;
mod throughput;

pub use cpu::{
    CpuError, CpuReading, CpuSeconds, MachineCpu, ProcessCpu, machine_cpu, parse_stat, process_cpu,
    process_seconds,
};
pub use latency::{HistogramError, LatencyHistogram, LatencyResult};
pub use throughput::{
    BurstLength, Direction, Sample, SearchStep, StreamResult, TcpSample, Techniques, ThroughputResult,
    UdpResult, UdpSample,
};
