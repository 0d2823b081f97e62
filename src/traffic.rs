//! The data plane, one file a workload, and what they share.

pub mod latency;
pub mod rr_server;
pub mod rr_wire;
pub mod schedule;
pub mod tcp_rr;
