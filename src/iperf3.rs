//! The iperf3 protocol: [`wire`] is its messages and states without sockets; [`client`] and [`server`] speak it.
//!
//! Interoperates with stock iperf3 3.0 to 3.21 over TCP and UDP, either role. Client and server are blocking code on plain
//! threads: one thread polls the control connection and takes samples, one thread a stream moves data.

mod association;
pub mod auth;
pub mod client;
mod link;
pub mod output;
pub mod server;
mod session;
pub mod wire;

pub use link::{ConnectError, SCTP_ADVICE, SocketOptions};
pub use session::{IntervalSample, StreamEnds, TestEvent, TestOutcome};
