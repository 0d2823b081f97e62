//! The protocol of iperf3 without sockets: bytes in, events and bytes out.
//!
//! Everything here is a pure function or a state machine that is fed bytes and a time (a [`std::time::Duration`]
//! since the connection began), so that it can be tested by replaying captures and by fuzzing.

pub mod client;
pub mod code;
pub mod cookie;
pub mod datagram;
pub mod frame;
pub mod json;
pub mod parameters;
pub mod results;
pub mod server;
pub mod state;

pub use code::ErrorCode;
pub use cookie::{COOKIE_LENGTH, Cookie};
pub use parameters::{Parameters, Transport};
pub use results::{Results, StreamReport, stream_id};
pub use state::State;

/// The port iperf3 listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 5201;
