//! Nodes that others use as well: what their tunnel devices carry without the trial.

use super::{
    Workers,
    trial::{TrialError, glance},
};
use crate::{
    evidence::{DeviceRole, ObservationRequest},
    fabric::Fabric,
    scenario::Place,
    worker::protocol::Snapshot,
};
use std::time::Duration;

/// How long the nodes are watched without the trial, before it and after it, where others use them too.
const IDLE: Duration = Duration::from_millis(300);

/// The begin of the idle window before a trial.
pub(super) struct Idle(Vec<Snapshot>);

impl Idle {
    /// Watches the nodes for a while before a trial, where others use them as well.
    ///
    /// # Errors
    /// Where a node can't be looked at.
    pub(super) async fn watch<F: Fabric>(
        fabric: &F,
        workers: &Workers,
        watched: &[(Place, ObservationRequest)],
    ) -> Result<Option<Self>, TrialError> {
        if !fabric.is_shared() || watched.is_empty() {
            return Ok(None);
        }
        let first = glance(workers, watched).await?;
        tokio::time::sleep(IDLE).await;
        Ok(Some(Self(first)))
    }

    /// Watches them for a while after the trial too: bytes of others on the tunnel devices in as long a time as the
    /// trial took.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub(super) async fn noise(
        self,
        workers: &Workers,
        watched: &[(Place, ObservationRequest)],
        before: &Vec<Snapshot>,
        after: &Vec<Snapshot>,
        took: Duration,
    ) -> Result<u64, TrialError> {
        tokio::time::sleep(IDLE).await;
        let last = glance(workers, watched).await?;
        Ok(carried(&[(&self.0, before), (after, &last)], took))
    }
}

/// What the nodes' tunnel devices carry in as long a time as the trial took, by the busiest node of the busier idle
/// window.
fn carried(windows: &[(&Vec<Snapshot>, &Vec<Snapshot>)], took: Duration) -> u64 {
    let tunnel = |snapshot: &Snapshot| -> u64 {
        let devices = snapshot.seen.devices.iter();
        devices
            .filter(|device| device.role == DeviceRole::Tunnel)
            .map(|device| device.rx_bytes.saturating_add(device.tx_bytes))
            .sum()
    };
    let carried = windows
        .iter()
        .flat_map(|(begin, end)| begin.iter().zip(end.iter()))
        .map(|(begin, end)| tunnel(end).saturating_sub(tunnel(begin)))
        .max()
        .unwrap_or(0);
    (carried as f64 * took.as_secs_f64() / IDLE.as_secs_f64()) as u64
}
