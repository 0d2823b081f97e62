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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::{DeviceSeen, Observation},
        measure::{CpuReading, CpuSeconds},
    };

    /// A node whose tunnel has carried so many bytes each way, and whose underlay a hundred times that.
    fn node(bytes: u64) -> Snapshot {
        let device = |role, bytes| DeviceSeen {
            device: format!("{role}"),
            role,
            rx_bytes: bytes,
            tx_bytes: bytes,
            dropped: 0,
            mtu: 1450,
            offloads: Vec::new(),
            rp_filter: None,
        };
        Snapshot {
            seen: Observation {
                node: "n".to_owned(),
                devices: vec![
                    device(DeviceRole::Tunnel, bytes),
                    device(DeviceRole::Underlay, bytes * 100),
                ],
                routes: Vec::new(),
            },
            cpu: CpuReading {
                cpu: CpuSeconds::default(),
                per_core: Vec::new(),
                clock_ns: 0,
            },
        }
    }

    fn nodes(bytes: [u64; 2]) -> Vec<Snapshot> {
        bytes.map(node).to_vec()
    }

    /// A trial ten times as long as an idle window meets ten times what the busiest node carried in the busier one.
    #[test]
    fn noise_is_that_of_the_busiest_node_as_long_as_the_trial() {
        let (first, before) = (nodes([1000, 5000]), nodes([1100, 5020]));
        let (after, last) = (nodes([9000, 7000]), nodes([9010, 7030]));
        let noise = |took| carried(&[(&first, &before), (&after, &last)], took);
        assert_eq!(
            noise(IDLE),
            200,
            "100 bytes each way, on the first node, before the trial"
        );
        assert_eq!(noise(IDLE * 10), 2000);
        // What the trial itself carried, between the windows, is none of it.
        let (quiet, busy) = (nodes([1000, 5000]), nodes([1_000_000, 5000]));
        assert_eq!(carried(&[(&quiet, &quiet), (&busy, &busy)], IDLE), 0);
    }

    #[test]
    fn a_device_that_was_made_anew_is_no_noise_below_zero() {
        let (first, before) = (nodes([1000, 0]), nodes([10, 0]));
        assert_eq!(carried(&[(&first, &before)], IDLE), 0);
        assert_eq!(carried(&[], IDLE), 0);
    }
}
