//! Whether the far end of a path between clusters can be reached at all: found out once a block, before it is measured.

use super::{
    Workers,
    trial::{End, TrialError, latency},
};
use crate::{
    fabric::Fabric,
    scenario::{Latency, LatencyKind, Path},
    units::{Bytes, Span},
};
use std::collections::HashMap;

/// What is known of paths by their names: why the far end can't be reached, or that it can.
pub(super) type Reached = HashMap<String, Option<String>>;

/// One request after another, for a moment.
fn probe() -> Latency {
    Latency {
        kind: LatencyKind::TcpRr,
        duration: Span::from_millis(50),
        omit: Span::from_millis(0),
        rate: None,
        during: None,
        request: Bytes(1),
        response: Bytes(1),
        reverse: false,
    }
}

/// Makes sure that the far end answers, where the path leads to another cluster.
///
/// # Errors
/// Where it does not, with what to look at.
pub(super) async fn check<F: Fabric>(
    fabric: &mut F,
    workers: &mut Workers,
    path: &Path,
    reached: &mut Reached,
) -> Result<(), TrialError> {
    if !fabric.crosses(path) {
        return Ok(());
    }
    if let Some(known) = reached.get(&path.name) {
        return known
            .clone()
            .map_or(Ok(()), |why| Err(TrialError::Unreachable(why)));
    }
    workers.start(fabric, &path.from).await?;
    workers.start(fabric, &path.to).await?;
    let from = End {
        link: workers.running(&path.from)?,
        address: fabric.address(path, &path.from)?,
        place: &path.from,
    };
    let to = End {
        link: workers.running(&path.to)?,
        address: fabric.address(path, &path.to)?,
        place: &path.to,
    };
    let answer = latency(&from, &to, &probe(), None).await;
    let why = answer.err().map(|error| {
        format!(
            "{} does not reach {} ({}) in the other cluster: {error}. Either nothing joins the networks of the two \
             clusters, or something on the way drops the packets: look at the routes to {} on both sides, with \
             Submariner at `subctl show connections` and UDP 4500 and 4800, at rp_filter, and at network policies",
            path.from, path.to, to.address, to.address
        )
    });
    reached.insert(path.name.clone(), why.clone());
    why.map_or(Ok(()), |why| Err(TrialError::Unreachable(why)))
}
