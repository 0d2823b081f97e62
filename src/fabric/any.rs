//! Whichever fabric a scenario names: one type over all of them, since the trait's futures have no common one.

use super::{Fabric, FabricError, Transport, hosts::HostsFabric};
use crate::{
    evidence::ObservationRequest,
    scenario::{Path, Place},
};
use std::{collections::BTreeMap, net::IpAddr};

/// One of the fabrics.
pub enum AnyFabric {
    /// Namespaces of this machine.
    #[cfg(feature = "lab")]
    Lab(Box<super::lab::LabFabric>),
    /// Machines reached over ssh.
    Hosts(Box<HostsFabric>),
}

/// The same call on whichever it is.
macro_rules! each {
    ($self:ident, $fabric:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "lab")]
            Self::Lab($fabric) => $call,
            Self::Hosts($fabric) => $call,
        }
    };
}

impl Fabric for AnyFabric {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        each!(self, fabric => fabric.prepare().await)
    }

    async fn launch(&mut self, place: &Place) -> Result<Transport, FabricError> {
        each!(self, fabric => fabric.launch(place).await)
    }

    fn address(&self, path: &Path, place: &Place) -> Result<IpAddr, FabricError> {
        each!(self, fabric => fabric.address(path, place))
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        each!(self, fabric => fabric.observe(path))
    }

    fn describe(&self) -> BTreeMap<String, String> {
        each!(self, fabric => fabric.describe())
    }

    async fn release(&mut self) {
        each!(self, fabric => fabric.release().await);
    }
}
