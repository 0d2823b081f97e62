//! Why a client's test gave no result.

use crate::{
    iperf3::{
        link::ConnectError,
        session::TestOutcome,
        wire::{ErrorCode, client::Failure},
    },
    sys::descriptors::TooFewDescriptors,
    traffic::stream::End,
};
use std::{io, net::SocketAddr};

/// Why a client's test gave no result. Where data had flowed, what was measured is there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A parameter is out of range.
    #[error("{0} is out of range: {1}")]
    OutOfRange(&'static str, &'static str),
    /// A parameter is one that servers refuse.
    #[error("a server would refuse the parameters: {0}")]
    Parameters(ErrorCode),
    /// The control connection could not be made.
    #[error("failed to make the control connection")]
    Connect(#[source] ConnectError),
    /// A stream could not be made.
    #[error("failed to make stream {id}")]
    Stream {
        /// The stream's id.
        id: u32,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// The conversation with the server failed.
    #[error("the test with {address} failed")]
    Protocol {
        /// The server.
        address: SocketAddr,
        /// How.
        #[source]
        source: Failure,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// A stream broke in the middle.
    #[error("stream {id} to {address} broke: {}", describe(*.end))]
    StreamBroken {
        /// The stream's id.
        id: u32,
        /// The server.
        address: SocketAddr,
        /// How.
        end: End,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// Nothing came from the server for too long.
    #[error("no data came from {address} for {after:?}")]
    NoData {
        /// The server.
        address: SocketAddr,
        /// How long.
        after: std::time::Duration,
        /// What was measured until then.
        measured: Option<Box<TestOutcome>>,
    },
    /// More streams than a stock server takes.
    #[error(
        "the server at {address} began the test with one stream: it is no encapbench, and iperf3 takes 128 streams at \
         most; ask for no more, or run encapbench at both ends"
    )]
    StockServer {
        /// The server.
        address: SocketAddr,
    },
    /// This process may not open as many streams.
    #[error(transparent)]
    Descriptors(TooFewDescriptors),
    /// The system refused something.
    #[error("failed to {0}")]
    System(&'static str, #[source] io::Error),
}

/// How a stream broke, in words.
pub(in crate::iperf3) fn describe(end: End) -> String {
    match end {
        End::Failed(errno) => io::Error::from_raw_os_error(errno).to_string(),
        End::Closed => "the peer closed it".to_owned(),
        End::Stopped | End::Limit => "it ended".to_owned(),
    }
}

impl ClientError {
    /// What was measured before the test failed.
    pub fn measured(&self) -> Option<&TestOutcome> {
        match self {
            Self::Protocol { measured, .. }
            | Self::StreamBroken { measured, .. }
            | Self::NoData { measured, .. } => measured.as_deref(),
            _ => None,
        }
    }
}
