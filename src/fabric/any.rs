//! Any fabric that this encapbench was built with, as one type.

#[cfg(feature = "kubernetes")]
use super::kubernetes::KubernetesFabric;
#[cfg(feature = "lab")]
use super::lab::LabFabric;
use super::{Fabric, FabricError, Transport, hosts::HostsFabric};
use crate::{
    evidence::{ObservationRequest, Setup},
    scenario::{Path, Place},
};
use std::{collections::BTreeMap, net::IpAddr};

/// A fabric of some kind.
#[derive(Debug)]
pub enum AnyFabric {
    /// Namespaces of this machine.
    #[cfg(feature = "lab")]
    Lab(Box<LabFabric>),
    /// Kubernetes clusters.
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<KubernetesFabric>),
    /// Machines reached over ssh.
    Hosts(Box<HostsFabric>),
}

/// The same on whichever fabric it is.
macro_rules! each {
    ($any:expr, $fabric:ident => $does:expr) => {
        match $any {
            #[cfg(feature = "lab")]
            AnyFabric::Lab($fabric) => $does,
            #[cfg(feature = "kubernetes")]
            AnyFabric::Kubernetes($fabric) => $does,
            AnyFabric::Hosts($fabric) => $does,
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

    fn service(&self, path: &Path) -> Result<Option<super::Service>, FabricError> {
        each!(self, fabric => fabric.service(path))
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        each!(self, fabric => fabric.observe(path))
    }

    fn on_the_way(&self, path: &Path) -> Vec<(Place, ObservationRequest)> {
        each!(self, fabric => fabric.on_the_way(path))
    }

    fn setup(&self) -> Option<Setup> {
        each!(self, fabric => fabric.setup())
    }

    fn user_space(&self, path: &Path) -> Option<String> {
        each!(self, fabric => fabric.user_space(path))
    }

    fn tunnels(&self, path: &Path) -> Vec<(String, u32)> {
        each!(self, fabric => fabric.tunnels(path))
    }

    fn unseen(&self, path: &Path) -> Vec<String> {
        each!(self, fabric => fabric.unseen(path))
    }

    fn crosses(&self, path: &Path) -> bool {
        each!(self, fabric => fabric.crosses(path))
    }

    fn keeps_places(&self) -> bool {
        each!(self, fabric => fabric.keeps_places())
    }

    fn is_shared(&self) -> bool {
        each!(self, fabric => fabric.is_shared())
    }

    fn describe(&self) -> BTreeMap<String, String> {
        each!(self, fabric => fabric.describe())
    }

    async fn release(&mut self) {
        each!(self, fabric => fabric.release().await);
    }

    async fn finish(&mut self) -> Result<(), FabricError> {
        each!(self, fabric => fabric.finish().await)
    }

    fn left_behind(&self) -> Option<String> {
        each!(self, fabric => fabric.left_behind())
    }
}
