//! Whether the far end of a path between clusters, or behind a Service, can be reached at all: found out once a block,
//! before it is measured.

use super::{
    Workers,
    trial::{TrialError, ends, latency},
};
use crate::{
    fabric::{Fabric, Service, Target},
    scenario::{By, Latency, LatencyKind, Path},
    units::{Bytes, Span},
    worker::protocol::{Job, JobResult},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

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

/// How long a Service that was just made may take until every node knows it, and its name every resolver.
const SERVICE_KNOWN: Duration = Duration::from_secs(30);
/// The pause before it is asked for again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a resolver may take to answer.
const RESOLVED: Duration = Duration::from_secs(15);

/// Makes sure that the far end answers, where the path leads to another cluster or to a Service.
///
/// # Errors
/// Where it does not, with what to look at.
pub(super) async fn check<F: Fabric>(
    fabric: &mut F,
    workers: &mut Workers,
    path: &Path,
    reached: &mut Reached,
) -> Result<(), TrialError> {
    if !fabric.crosses(path) && path.by.is_address() {
        return Ok(());
    }
    if let Some(known) = reached.get(&path.name) {
        return known
            .clone()
            .map_or(Ok(()), |why| Err(TrialError::Unreachable(why)));
    }
    workers.start(fabric, &path.from).await?;
    workers.start(fabric, &path.to).await?;
    let begun = Instant::now();
    let why = loop {
        match knock(fabric, workers, path).await {
            Ok(()) => break None,
            // The kernel of a node refuses a Service as long as its kube-proxy has not told it where that leads.
            Err(_) if !path.by.is_address() && begun.elapsed() < SERVICE_KNOWN => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => break Some(advice(fabric, path, &error)?),
        }
    };
    reached.insert(path.name.clone(), why.clone());
    why.map_or(Ok(()), |why| Err(TrialError::Unreachable(why)))
}

/// Asks for the name, if there is one, and then the far end for answers.
async fn knock<F: Fabric>(fabric: &F, workers: &mut Workers, path: &Path) -> Result<(), TrialError> {
    if let Some(Service {
        target: Target::Name(name),
        ..
    }) = fabric.service(path)?
    {
        let job = Job::Resolve { name: name.clone() };
        let found = workers.running(&path.from)?.start(job).done(RESOLVED).await?;
        let JobResult::Address(address) = found else {
            return Err(TrialError::Answer {
                place: path.from.to_string(),
                expected: "an address",
            });
        };
        workers.note(name, address);
    }
    let (from, to) = ends(fabric, workers, path)?;
    latency(&from, &to, &probe(), None).await.map(|_| ())
}

/// Why a far end is not reached, and what to look at.
fn advice<F: Fabric>(fabric: &F, path: &Path, error: &TrialError) -> Result<String, TrialError> {
    let address = fabric.address(path, &path.to)?;
    let (from, to) = (&path.from, &path.to);
    let elsewhere = if fabric.crosses(path) {
        " in the other cluster"
    } else {
        ""
    };
    let joined = format!(
        "Either nothing joins the networks of the two clusters, or something on the way drops the packets: look at the \
         routes to {address} on both sides, with Submariner at `subctl show connections` and UDP 4500 and 4800, at \
         rp_filter, and at network policies"
    );
    let how = match fabric.service(path)?.map(|service| service.target) {
        None => String::new(),
        Some(Target::Address(service)) => format!(" by the Service at {service}"),
        Some(Target::Name(name)) => format!(" by the Service {name}"),
    };
    let look = match path.by {
        By::Address => joined,
        By::ClusterIp if fabric.crosses(path) => {
            format!("{joined}; the addresses of services must be routed as those of pods are")
        }
        By::ClusterIp => "Look at kube-proxy, or what stands for it, on the node of the first, at the Service's endpoints, \
                          and at network policies"
            .to_owned(),
        By::ExportedService => format!(
            "Where the name has no address, nothing answers for clusterset.local there: look at the ServiceExport's \
             conditions, at the ServiceImports, and at the DNS server's forward to Submariner's lighthouse-coredns. {joined}"
        ),
    };
    Ok(format!(
        "{from} does not reach {to} ({address}){elsewhere}{how}: {error}. {look}"
    ))
}

#[cfg(test)]
mod tests;
