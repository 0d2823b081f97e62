//! One trial: observe, run, observe, and put together what both ends say.

use super::{
    GLANCE, Link, LinkError, Workers,
    idle::Idle,
    search::{Next, RateSearch},
};
use crate::{
    evidence::{ConnectionSeen, Observation},
    fabric::{Fabric, FabricError, Target},
    measure::{
        Direction, LatencyResult, MachineCpu, SearchStep, StreamResult, ThroughputResult, process_seconds,
    },
    run::{HopCpu, Trial},
    scenario::{Case, HighestRate, Latency, Path, Place, Plan, Throughput, WorkloadKind},
    units::{BitRate, Percent, Span},
    worker::protocol::{Job, JobResult, Snapshot},
};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long setting up a connection, or ending one, may take on top of what is measured.
pub(super) const GRACE: Duration = Duration::from_secs(15);
/// How often throughput is sampled.
const SAMPLE_INTERVAL: Span = Span::from_millis(100);

/// Why a trial failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    /// A worker could not be started.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// A worker did not do what it was asked to.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A worker answered with something else than was asked for.
    #[error("{place}: the worker answered with something else than {expected}")]
    Answer {
        /// Where.
        place: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// The load was over before the probe under it was.
    #[error("the load ended before the latency probe did: {0}")]
    LoadEnded(String),
    /// A node on the way would drop the packets.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// What should not be reached does not answer at all.
    #[error("{0} does not even answer itself, so that nothing gets through to it says nothing")]
    NoControl(String),
    /// A search found no rate.
    #[error(
        "no rate was found at which at most {0} of the datagrams are lost: the path drops at any rate, or nearly any"
    )]
    NoRate(Percent),
    /// A worker was needed that was not started.
    #[error("no worker runs in {0}")]
    NotStarted(String),
    /// What several pairs measured can't be put together.
    #[error("the pairs' latencies can't be put together: {0}")]
    Merge(crate::measure::HistogramError),
    /// The case has no workload.
    #[error("workload {0} measures nothing")]
    NoWorkload(String),
}

/// One end of a trial.
pub(super) struct End<'a> {
    pub(super) link: &'a Link,
    /// Its own address.
    pub(super) address: IpAddr,
    /// Where the other end finds it.
    reached: IpAddr,
    /// Where it listens for throughput and for latency; 0: anywhere.
    ports: (u16, u16),
    pub(super) place: &'a Place,
}

/// Both ends of a path, the sender's first. Their workers must run.
pub(super) fn ends<'a, F: Fabric>(
    fabric: &F,
    workers: &'a Workers,
    path: &'a Path,
) -> Result<(End<'a>, End<'a>), TrialError> {
    let end = |place: &'a Place| -> Result<End<'a>, TrialError> {
        let address = fabric.address(path, place)?;
        Ok(End {
            link: workers.running(place)?,
            address,
            reached: address,
            ports: (0, 0),
            place,
        })
    };
    let (from, mut to) = (end(&path.from)?, end(&path.to)?);
    if let Some(service) = fabric.service(path)? {
        to.ports = service.ports;
        to.reached = match service.target {
            Target::Address(address) => address,
            Target::Name(name) => workers
                .address_of(&name)
                .ok_or_else(|| TrialError::Unreachable(format!("{name} has no address")))?,
        };
    }
    Ok((from, to))
}

/// Measures a case into `trial`.
pub(super) async fn measure<F: Fabric>(
    fabric: &mut F,
    workers: &mut Workers,
    case: &Case,
    congestion: Option<&str>,
    trial: &mut Trial,
) -> Result<(), TrialError> {
    if !case.path.together_with.is_empty() {
        return super::pairs::measure(fabric, workers, case, congestion, trial).await;
    }
    let mut watched = fabric.observe(&case.path)?;
    for place in [&case.path.from, &case.path.to]
        .into_iter()
        .chain(watched.iter().map(|(place, _)| place))
    {
        workers.start(fabric, place).await?;
    }
    let judged = watched.len();
    for (place, request) in fabric.on_the_way(&case.path) {
        match workers.start(fabric, &place).await {
            Ok(()) => watched.push((place, request)),
            Err(error) => tracing::warn!("{place} is not looked at: {error}"),
        }
    }
    let workers = &*workers;
    let (from, to) = ends(fabric, workers, &case.path)?;
    let idle = Idle::watch(fabric, workers, &watched[..judged]).await?;
    let before = glance(workers, &watched).await?;
    // No use to wait for answers that can't come.
    if case.path.crossing.is_some()
        && let Some(why) = no_way(&before)
    {
        trial.evidence.before = before.into_iter().map(|snapshot| snapshot.seen).collect();
        return Err(TrialError::Unreachable(why));
    }
    let tunnels = fabric.tunnels(&case.path);
    let busy = hops(&tunnels);
    let begun = Instant::now();
    let kind = case
        .workload
        .kind()
        .ok_or_else(|| TrialError::NoWorkload(case.workload.name.clone()))?;
    match kind {
        WorkloadKind::Throughput(test) => {
            let (client, server) = match &test.highest_rate {
                None => throughput(&from, &to, test, congestion).await?,
                Some(wanted) => highest_rate(&from, &to, test, wanted, congestion, trial).await?,
            };
            let (there, back) = carried(&client, &server);
            trial.evidence.payload_bytes += there + back;
            trial.evidence.back_bytes += back;
            trial.evidence.connections = stream_connections(&client, &server, from.address);
            // The receiving end's view is the truth; with both directions at once each end has half of it, and the
            // exchanged results are the same at both.
            let (receiving, sending) = if test.reverse {
                (client, server)
            } else {
                (server, client)
            };
            trial.throughput = Some(receiving);
            trial.sender = Some(sending);
        }
        WorkloadKind::Latency(probe) => {
            let (prober, answerer) = if probe.reverse { (&to, &from) } else { (&from, &to) };
            let latency = match &case.load {
                None => latency(prober, answerer, probe, congestion).await?,
                Some(load) => {
                    let load = Throughput {
                        duration: Span(Plan::load_time(probe)),
                        ..load.clone()
                    };
                    let (latency, client, server) =
                        under_load(&from, &to, &load, prober, answerer, probe, congestion).await?;
                    let (there, back) = carried(&client, &server);
                    trial.evidence.payload_bytes += there + back;
                    trial.evidence.back_bytes += back;
                    trial.load = Some(if load.reverse { client } else { server });
                    latency
                }
            };
            trial.evidence.payload_bytes += latency.total_bytes;
            trial.evidence.back_bytes += answers(probe, latency.total_bytes);
            trial.evidence.connections.push(ConnectionSeen {
                source: latency.peer_address,
                expected_source: prober.address,
                mss: latency.mss,
                path_mtu: latency.path_mtu,
            });
            trial.latency = Some(latency);
        }
    }
    let after = glance(workers, &watched).await?;
    let took = begun.elapsed();
    if let Some(idle) = idle {
        let watched = &watched[..judged];
        trial.evidence.noise_bytes = Some(idle.noise(workers, watched, &before, &after, took).await?);
    }
    trial.evidence.unseen.extend(fabric.unseen(&case.path));
    trial.cpu = machines(workers, &watched, &before, &after);
    trial.hops = hops(&tunnels)
        .into_iter()
        .zip(busy)
        .filter_map(|(after, before)| {
            let seconds = after.seconds - before.seconds;
            (after.node == before.node && seconds >= 0.0).then_some(HopCpu { seconds, ..after })
        })
        .collect();
    let parted = |snapshots: Vec<Snapshot>| -> (Vec<Observation>, Vec<Observation>) {
        let mut seen: Vec<Observation> = snapshots.into_iter().map(|snapshot| snapshot.seen).collect();
        let way = seen.split_off(judged);
        (seen, way)
    };
    (trial.evidence.before, trial.evidence.way_before) = parted(before);
    (trial.evidence.after, trial.evidence.way_after) = parted(after);
    Ok(())
}

/// Looks at all nodes of the path at once.
pub(super) async fn glance(
    workers: &Workers,
    watched: &[(Place, crate::evidence::ObservationRequest)],
) -> Result<Vec<Snapshot>, TrialError> {
    let mut snapshots = Vec::with_capacity(watched.len());
    let mut asked = Vec::with_capacity(watched.len());
    for (place, request) in watched {
        let job = Job::Observe {
            request: request.clone(),
        };
        asked.push(workers.running(place)?.start(job));
    }
    for ((place, _), answer) in watched.iter().zip(asked) {
        match answer.done(GLANCE).await? {
            JobResult::Observation(snapshot) => {
                let seen = Observation {
                    node: place.to_string(),
                    ..snapshot.seen
                };
                snapshots.push(Snapshot { seen, ..snapshot });
            }
            _ => {
                return Err(TrialError::Answer {
                    place: place.to_string(),
                    expected: "an observation",
                });
            }
        }
    }
    Ok(snapshots)
}

/// The first node on the way that has no route for the packets, and why.
fn no_way(seen: &[Snapshot]) -> Option<String> {
    seen.iter().find_map(|snapshot| {
        let route = snapshot.seen.routes.iter().find(|route| route.device.is_none())?;
        let query = &route.query;
        let came = query
            .input_device
            .as_ref()
            .map_or_else(String::new, |device| format!(" that come in by {device}"));
        let from = query
            .source
            .map_or_else(String::new, |source| format!(" from {source}"));
        Some(format!(
            "{} drops packets{from} to {}{came}: {}",
            snapshot.seen.node,
            query.destination,
            route.error.as_deref().unwrap_or("no route")
        ))
    })
}

/// CPU time so far of the tunnels in user space, each a process of a node.
fn hops(tunnels: &[(String, u32)]) -> Vec<HopCpu> {
    tunnels
        .iter()
        .filter_map(|(node, pid)| {
            Some(HopCpu {
                node: node.clone(),
                seconds: process_seconds(*pid)?,
            })
        })
        .collect()
}

/// CPU time of each machine that the watched nodes are on, once a machine.
pub(super) fn machines(
    workers: &Workers,
    watched: &[(Place, crate::evidence::ObservationRequest)],
    before: &[Snapshot],
    after: &[Snapshot],
) -> Vec<MachineCpu> {
    let mut machines: Vec<MachineCpu> = Vec::new();
    for (((place, _), before), after) in watched.iter().zip(before).zip(after) {
        let Ok(link) = workers.running(place) else {
            continue;
        };
        let known = machines.iter().position(|known| known.machine == link.machine());
        let index = known.unwrap_or_else(|| {
            machines.push(after.cpu.since(&before.cpu, link.machine().to_owned()));
            machines.len() - 1
        });
        if let Some(machine) = machines.get_mut(index) {
            machine.nodes.push(place.to_string());
        }
    }
    machines
}

pub(super) fn server_job(server: &End<'_>, name: &str) -> Job {
    Job::ServeThroughput {
        address: server.address,
        port: server.ports.0,
        name: name.to_owned(),
        sample_interval: SAMPLE_INTERVAL,
    }
}

pub(super) fn client_job(
    client: &End<'_>,
    server: &End<'_>,
    port: u16,
    name: &str,
    test: &Throughput,
    congestion: Option<&str>,
) -> Job {
    Job::RunThroughput {
        bind: client.address,
        address: server.reached,
        port,
        name: name.to_owned(),
        test: test.clone(),
        congestion: test.congestion.clone().or_else(|| congestion.map(str::to_owned)),
        sample_interval: SAMPLE_INTERVAL,
    }
}

pub(super) fn as_throughput(end: &End<'_>, result: JobResult) -> Result<ThroughputResult, TrialError> {
    match result {
        JobResult::Throughput(result) => Ok(result),
        _ => Err(TrialError::Answer {
            place: end.place.to_string(),
            expected: "a throughput",
        }),
    }
}

/// How long a throughput test may take before it counts as stuck.
pub(super) fn limit(test: &Throughput) -> Duration {
    test.duration.get() + test.omit.get() + GRACE
}

/// Runs an iperf3 test; the client's and the server's results.
async fn throughput(
    from: &End<'_>,
    to: &End<'_>,
    test: &Throughput,
    congestion: Option<&str>,
) -> Result<(ThroughputResult, ThroughputResult), TrialError> {
    let name = token();
    let mut server = to.link.start(server_job(to, &name));
    let port = server.listening(GRACE).await?;
    let client = from
        .link
        .start(client_job(from, to, port, &name, test, congestion));
    let client = as_throughput(from, client.done(limit(test)).await?)?;
    let server = as_throughput(to, server.done(GRACE).await?)?;
    Ok((client, server))
}

/// Searches for the highest rate that loses no more than wanted; the client's and the server's results at that rate.
/// All that was tried is put into `trial`, with the bytes of what was not the result.
async fn highest_rate(
    from: &End<'_>,
    to: &End<'_>,
    test: &Throughput,
    wanted: &HighestRate,
    congestion: Option<&str>,
    trial: &mut Trial,
) -> Result<(ThroughputResult, ThroughputResult), TrialError> {
    let mut search = RateSearch::new(wanted);
    let mut last = None;
    let mut best: Option<(f64, ThroughputResult, ThroughputResult)> = None;
    while let Next::Try(rate) = search.next(last) {
        let streams = u64::from(test.streams.max(1));
        let test = Throughput {
            bitrate: rate.map(|rate| BitRate((rate / streams).max(1))),
            ..test.clone()
        };
        let (client, server) = throughput(from, to, &test, congestion).await?;
        let (receiving, sending) = if test.reverse {
            (&client, &server)
        } else {
            (&server, &client)
        };
        let tried = SearchStep {
            asked: rate,
            sent: bits_per_second(sending, |stream| stream.sent_bytes),
            arrived: bits_per_second(receiving, |stream| stream.received_bytes),
            loss: receiving.loss_percent().unwrap_or(100.0) / 100.0,
        };
        let kept = search.record(tried);
        trial.search.push(tried);
        last = Some(tried);
        let better = kept && best.as_ref().is_none_or(|(sent, ..)| tried.sent > *sent);
        let set_aside = if better {
            best.replace((tried.sent, client, server))
        } else {
            Some((0.0, client, server))
        };
        if let Some((_, client, server)) = set_aside {
            let (there, back) = carried(&client, &server);
            trial.evidence.payload_bytes += there + back;
            trial.evidence.back_bytes += back;
        }
    }
    let (_, client, server) = best.ok_or(TrialError::NoRate(wanted.loss_at_most))?;
    Ok((client, server))
}

fn bits_per_second(result: &ThroughputResult, bytes: impl Fn(&StreamResult) -> u64) -> f64 {
    let rates = result.streams.iter().filter(|stream| stream.seconds > 0.0);
    rates
        .map(|stream| bytes(stream) as f64 * 8.0 / stream.seconds)
        .sum()
}

pub(super) fn answer_job(answerer: &End<'_>, token: &str) -> Job {
    Job::ServeLatency {
        address: answerer.address,
        port: answerer.ports.1,
        token: token.to_owned(),
    }
}

pub(super) fn probe_job(
    prober: &End<'_>,
    answerer: &End<'_>,
    port: u16,
    token: &str,
    probe: &Latency,
    congestion: Option<&str>,
) -> Job {
    Job::RunLatency {
        bind: prober.address,
        address: answerer.reached,
        port,
        token: token.to_owned(),
        kind: probe.kind,
        duration: probe.duration,
        omit: probe.omit,
        rate: probe.rate,
        request: probe.request,
        response: probe.response,
        congestion: congestion.map(str::to_owned),
    }
}

/// Runs a latency test.
pub(super) async fn latency(
    prober: &End<'_>,
    answerer: &End<'_>,
    probe: &Latency,
    congestion: Option<&str>,
) -> Result<LatencyResult, TrialError> {
    let token = token();
    let mut server = answerer.link.start(answer_job(answerer, &token));
    let port = server.listening(GRACE).await?;
    let client = prober
        .link
        .start(probe_job(prober, answerer, port, &token, probe, congestion));
    let result = client
        .done(probe.duration.get() + probe.omit.get() + GRACE)
        .await?;
    server.stop();
    server.done(GRACE).await?;
    match result {
        JobResult::Latency(result) => Ok(result),
        _ => Err(TrialError::Answer {
            place: prober.place.to_string(),
            expected: "a latency",
        }),
    }
}

/// Runs a latency test while a throughput test runs: it begins after the load's warm-up and ends before the load.
async fn under_load(
    from: &End<'_>,
    to: &End<'_>,
    load: &Throughput,
    prober: &End<'_>,
    answerer: &End<'_>,
    probe: &Latency,
    congestion: Option<&str>,
) -> Result<(LatencyResult, ThroughputResult, ThroughputResult), TrialError> {
    let name = token();
    let mut server = to.link.start(server_job(to, &name));
    let port = server.listening(GRACE).await?;
    let mut client = from
        .link
        .start(client_job(from, to, port, &name, load, congestion));
    client.running(GRACE).await?;
    tokio::time::sleep(load.omit.get()).await;
    let mut client = Box::pin(client.done(limit(load)));
    let latency = tokio::select! {
        latency = latency(prober, answerer, probe, congestion) => latency?,
        ended = &mut client => {
            let how = match ended {
                Ok(_) => "it was too short".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(TrialError::LoadEnded(how));
        }
    };
    let client = as_throughput(from, client.await?)?;
    let server = as_throughput(to, server.done(GRACE).await?)?;
    Ok((latency, client, server))
}

/// Bytes that a test's sockets carried, warm-up included: of each stream, the end that counted less. What a sender
/// counted may still lie in its socket when the test ends, or have been dropped before it came to any device.
/// First those from the client to the server, then those back.
pub(super) fn carried(client: &ThroughputResult, server: &ThroughputResult) -> (u64, u64) {
    let mut carried = (0, 0);
    for stream in &client.streams {
        let other = server.streams.iter().find(|other| other.id == stream.id);
        let bytes = other.map_or(stream.total_bytes, |other| {
            stream.total_bytes.min(other.total_bytes)
        });
        match stream.direction {
            Direction::Forward => carried.0 += bytes,
            Direction::Reverse => carried.1 += bytes,
        }
    }
    carried
}

/// Those of a latency probe's bytes that went from the path's end to its beginning.
fn answers(probe: &Latency, bytes: u64) -> u64 {
    let (request, response) = (probe.request.get(), probe.response.get());
    let back = if probe.reverse { request } else { response };
    let both = u128::from(request) + u128::from(response);
    let part = (u128::from(bytes) * u128::from(back))
        .checked_div(both)
        .unwrap_or(0);
    u64::try_from(part).unwrap_or(bytes)
}

/// What the server saw of each data connection, with the sender's TCP_INFO.
pub(super) fn stream_connections(
    client: &ThroughputResult,
    server: &ThroughputResult,
    expected_source: IpAddr,
) -> Vec<ConnectionSeen> {
    server
        .streams
        .iter()
        .map(|stream| {
            let at_client = client.streams.iter().find(|other| other.id == stream.id);
            let tcp = [at_client, Some(stream)]
                .into_iter()
                .flatten()
                .find_map(|end| end.samples.iter().rev().find_map(|sample| sample.tcp));
            ConnectionSeen {
                source: stream.peer_address,
                expected_source,
                mss: tcp.map(|tcp| tcp.mss).filter(|mss| *mss > 0),
                path_mtu: tcp.map(|tcp| tcp.path_mtu).filter(|mtu| *mtu > 0),
            }
        })
        .collect()
}

/// What only the two ends of a test know, so that strangers are told from them.
pub(super) fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}
