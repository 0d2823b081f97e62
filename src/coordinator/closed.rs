//! A path that is expected to be closed: makes sure that nothing gets through, neither a datagram nor a connection.

use super::{Workers, trial::TrialError};
use crate::{
    evidence::{ProbeSeen, ProbeTarget},
    fabric::Fabric,
    scenario::{Path, Place},
    worker::protocol::{Job, JobResult},
};
use std::{net::IpAddr, time::Duration};

/// How long a worker may take to begin, or to end its probe: some seconds where nothing gets through.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries the path, and its end's own way to itself: where not even that works, silence says nothing.
///
/// # Errors
/// Where a worker fails, or the end does not answer itself.
pub(super) async fn probe<F: Fabric>(
    fabric: &mut F,
    workers: &mut Workers,
    path: &Path,
) -> Result<ProbeSeen, TrialError> {
    workers.start(fabric, &path.from).await?;
    workers.start(fabric, &path.to).await?;
    let (from, to) = (fabric.address(path, &path.from)?, fabric.address(path, &path.to)?);
    let token: u64 = rand::random();
    let mut server = workers
        .running(&path.to)?
        .start(Job::ServeProbe { address: to, token });
    let port = server.listening(PATIENCE).await?;
    let own = ask(workers, &path.to, to, (to, port), token).await?;
    if !own.datagram || !own.connection {
        return Err(TrialError::NoControl(path.to.to_string()));
    }
    ask(workers, &path.from, from, (to, port), token).await
}

async fn ask(
    workers: &Workers,
    place: &Place,
    bind: IpAddr,
    (address, port): (IpAddr, u16),
    token: u64,
) -> Result<ProbeSeen, TrialError> {
    let target = ProbeTarget {
        bind,
        address,
        port,
        bulk: 0,
    };
    let job = Job::Probe {
        targets: vec![target],
        token,
    };
    let wrong = || TrialError::Answer {
        place: place.to_string(),
        expected: "what came of a probe",
    };
    match workers.running(place)?.start(job).done(PATIENCE).await? {
        JobResult::Probes(seen) => seen.into_iter().next().ok_or_else(wrong),
        _ => Err(wrong()),
    }
}
