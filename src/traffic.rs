//! The data plane, one file a workload, and what they share.

mod bursts;
pub mod disk_file;
mod event_loop;
pub mod knock;
pub mod latency;
pub mod pacer;
pub mod payload;
pub mod probe;
pub mod rr_server;
pub mod rr_wire;
pub mod schedule;
pub mod stream;
pub mod tcp_crr;
pub mod tcp_rr;
mod tcp_stream;
pub mod udp_rr;
mod udp_stream;
