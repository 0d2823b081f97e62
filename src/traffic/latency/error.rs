//! Why latency tests fail.

use super::super::rr_wire::{Refusal, WireError};
use crate::measure::{HistogramError, LatencyResult};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// Why a latency test or its server failed. Where something had been measured, it is in `partial`: times up to the
/// failure, never to be taken for a whole test.
#[derive(Debug, thiserror::Error)]
pub enum LatencyError {
    /// The server's address could not be had.
    #[error("failed to listen on {address}; is the address this machine's, and the port free?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The source address could not be had.
    #[error("failed to send from {address}; is it an address of this place?")]
    Bind {
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error(
        "failed to connect to {address}; is the answering worker running there, and is there a route to it?"
    )]
    Connect {
        /// The server's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The congestion control algorithm could not be set.
    #[error("failed to set congestion control to {algorithm:?}; see net.ipv4.tcp_allowed_congestion_control")]
    Congestion {
        /// The algorithm.
        algorithm: String,
        /// Why.
        source: io::Error,
    },
    /// A size that can't be.
    #[error(
        "requests of {request} and responses of {response} bytes can't be sent: each is {lowest} to {highest}"
    )]
    Size {
        /// Bytes of a request.
        request: u32,
        /// Bytes of a response.
        response: u32,
        /// The fewest that can be.
        lowest: u32,
        /// The most that can be.
        highest: u32,
    },
    /// The server said no.
    #[error("the latency server at {address} refused: {refusal}")]
    Refused {
        /// The server's address.
        address: SocketAddr,
        /// Its reason.
        refusal: Refusal,
    },
    /// Something else listens there.
    #[error("what listens at {address} did not answer as a latency server; is the port another program's?")]
    NotOurs {
        /// The server's address.
        address: SocketAddr,
        /// What was wrong.
        source: WireError,
    },
    /// It accepted the connection and never agreed.
    #[error("what listens at {address} did not agree to the test; is the port another program's?")]
    Agree {
        /// The server's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke while the test ran.
    #[error("the connection to {address} broke during the test; see why the worker there ended")]
    PeerGone {
        /// The server's address.
        address: SocketAddr,
        /// How it broke.
        source: io::Error,
        /// What had been measured.
        partial: Box<LatencyResult>,
    },
    /// No local port was left for another `tcp-crr` connection.
    #[error("no local port is left for a connection to {address}; see net.ipv4.ip_local_port_range")]
    Ports {
        /// The server's address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What had been measured.
        partial: Box<LatencyResult>,
    },
    /// Not one answer in the measured time.
    #[error(
        "{address} agreed to the test but answered nothing in the measured time; is the path cut, or too slow?"
    )]
    Silent {
        /// The server's address.
        address: SocketAddr,
        /// What had been measured: only what was not answered.
        partial: Box<LatencyResult>,
    },
    /// The test was stopped.
    #[error("the latency test to {address} was stopped before its end")]
    Stopped {
        /// The server's address.
        address: SocketAddr,
        /// What had been measured.
        partial: Box<LatencyResult>,
    },
    /// A histogram could not be made.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// A system call that doesn't fail, failed.
    #[error("failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl LatencyError {
    /// What had been measured before it failed.
    pub fn partial(&self) -> Option<&LatencyResult> {
        match self {
            Self::PeerGone { partial, .. }
            | Self::Ports { partial, .. }
            | Self::Silent { partial, .. }
            | Self::Stopped { partial, .. } => Some(partial),
            _ => None,
        }
    }

    pub(in crate::traffic) const fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
