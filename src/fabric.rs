//! What provides places and launches workers in them.

mod any;
pub mod hosts;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "lab")]
pub mod lab;

pub use any::AnyFabric;

use crate::{
    evidence::{ObservationRequest, Setup},
    scenario::{Path, Place},
};
use std::{collections::BTreeMap, future::Future, net::IpAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a fabric could not do something.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The scenario asks for what can't be.
    #[error("{0}")]
    Scenario(String),
    /// This machine or cluster can't do it. The message says what to do about it.
    #[error("{0}")]
    Unable(String),
    /// It should have worked.
    #[error("{0}")]
    Failed(String),
}

/// The three streams of a worker's process.
pub struct Transport {
    /// The worker's stdin.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its stdout.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Its stderr: logs.
    pub errors: Box<dyn AsyncRead + Send + Unpin>,
    /// Ends the process when called, at once; harmless when it has ended.
    pub kill: Box<dyn FnOnce() + Send>,
}

/// A Service that stands between the ends of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where the path's end is reached.
    pub target: Target,
    /// The ports that it leads to, of which the end must listen on the first for throughput and on the second for
    /// latency.
    pub ports: (u16, u16),
}

/// Where a Service is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// At an address.
    Address(IpAddr),
    /// By a name, which the other end's own resolver knows.
    Name(String),
}

/// Something that provides places. A block begins with [`Fabric::prepare`] and ends with [`Fabric::release`].
pub trait Fabric: Send {
    /// Makes the places ready for a block, afresh where that is cheap enough.
    fn prepare(&mut self) -> impl Future<Output = Result<(), FabricError>> + Send;

    /// Starts `encapbench worker` in a place.
    fn launch(&mut self, place: &Place) -> impl Future<Output = Result<Transport, FabricError>> + Send;

    /// The address that a path's end has on this path: at it the other end reaches it, and to it it binds.
    ///
    /// # Errors
    /// Where there is no such place.
    fn address(&self, path: &Path, place: &Place) -> Result<IpAddr, FabricError>;

    /// The Service by which a path's end is reached; `None`: by its own address.
    ///
    /// # Errors
    /// Where there should be one, and there is none.
    fn service(&self, _path: &Path) -> Result<Option<Service>, FabricError> {
        Ok(None)
    }

    /// The nodes whose devices and routes tell which way a path's packets go, the sender's first, each with what to
    /// look at there.
    ///
    /// # Errors
    /// Where there is no such place.
    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError>;

    /// Further nodes that a path's packets pass, each with what to look at there: the gateways of clusters. What is seen
    /// of them is recorded and not judged, their CPU with that of the others.
    fn on_the_way(&self, _path: &Path) -> Vec<(Place, ObservationRequest)> {
        Vec::new()
    }

    /// What its clusters, nodes and pods should be, for the doctor; `None`: it can't say.
    fn setup(&self) -> Option<Setup> {
        None
    }

    /// What wraps a path's packets in user space since the kernel can't, as a reader of the results should know it.
    /// Known once the fabric is prepared.
    fn user_space(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }

    /// The processes on this machine that wrap a path's packets: each one's node and process id.
    fn tunnels(&self, path: &Path) -> Vec<(String, u32)> {
        let _ = path;
        Vec::new()
    }

    /// What of a path can't be seen here, each a sentence; evidence is unknown then.
    fn unseen(&self, _path: &Path) -> Vec<String> {
        Vec::new()
    }

    /// Whether the path leads to another cluster, so that its end must be shown to be reachable before it is measured.
    fn crosses(&self, _path: &Path) -> bool {
        false
    }

    /// Whether its places stay until [`Self::finish`], so that a run's own can be looked into when it is done.
    fn keeps_places(&self) -> bool {
        false
    }

    /// Whether others use its nodes meanwhile, so that their traffic must be told from a trial's.
    fn is_shared(&self) -> bool {
        false
    }

    /// What a reader of the results should know of it.
    fn describe(&self) -> BTreeMap<String, String>;

    /// Takes the places down, as far as each block has its own.
    fn release(&mut self) -> impl Future<Output = ()> + Send;

    /// Takes down whatever is left when a run ends, however it ends. Harmless where nothing was made.
    ///
    /// # Errors
    /// What could not be taken down, and what to do about it.
    fn finish(&mut self) -> impl Future<Output = Result<(), FabricError>> + Send {
        async { Ok(()) }
    }

    /// What stays behind if this process ends now, and what to do about it; `None`: nothing.
    fn left_behind(&self) -> Option<String> {
        None
    }
}
