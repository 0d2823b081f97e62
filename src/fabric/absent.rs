//! Stands for a fabric that this encapbench was built without: it can't be made.

use super::{Fabric, FabricError, Transport};
use crate::{
    evidence::ObservationRequest,
    scenario::{Path, Place},
};
use std::{collections::BTreeMap, net::IpAddr};

/// A fabric that there is none of.
#[derive(Debug)]
pub enum AbsentFabric {}

impl Fabric for AbsentFabric {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        match *self {}
    }

    async fn launch(&mut self, _: &Place) -> Result<Transport, FabricError> {
        match *self {}
    }

    fn address(&self, _: &Path, _: &Place) -> Result<IpAddr, FabricError> {
        match *self {}
    }

    fn observe(&self, _: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        match *self {}
    }

    fn describe(&self) -> BTreeMap<String, String> {
        match *self {}
    }

    async fn release(&mut self) {
        match *self {}
    }
}
