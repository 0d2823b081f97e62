//! A trial of many pairs at once: all servers listen before the first client is told to begin, then all are told at once.
//! Each pair's traffic says when it flows; how far apart that was is recorded.

use super::{
    Workers,
    idle::Idle,
    trial::{
        End, GRACE, TrialError, answer_job, as_throughput, carried, client_job, ends, glance, limit,
        machines, probe_job, server_job, stream_connections, token,
    },
};
use crate::{
    coordinator::JobHandle,
    evidence::{ConnectionSeen, ObservationRequest},
    fabric::Fabric,
    measure::{HistogramError, LatencyResult, Techniques, ThroughputResult},
    run::{PairResult, Trial},
    scenario::{Case, Latency, Path, Place, Plan, Throughput, WorkloadKind},
    units::Span,
    worker::protocol::JobResult,
};
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;

/// What is added to the ids of a pair's streams so that those of all pairs stay apart; no test has as many streams.
const ID_STEP: u32 = 1000;
/// Round trips that a 99th percentile takes: ten beyond it.
const LEAST_FOR_P99: u64 = 1000;

/// A pair with its ends.
struct Pair<'a> {
    path: &'a Path,
    from: End<'a>,
    to: End<'a>,
}

impl<'a> Pair<'a> {
    /// Who asks, and who answers.
    const fn prober(&self, probe: &Latency) -> (&End<'a>, &End<'a>) {
        if probe.reverse {
            (&self.to, &self.from)
        } else {
            (&self.from, &self.to)
        }
    }
}

/// Measures a case of many pairs into `trial`.
pub(super) async fn measure<F: Fabric>(
    fabric: &mut F,
    workers: &mut Workers,
    case: &Case,
    congestion: Option<&str>,
    trial: &mut Trial,
) -> Result<(), TrialError> {
    let watched = watched(fabric, &case.path)?;
    let places: BTreeSet<&Place> = case
        .path
        .places()
        .chain(watched.iter().map(|(place, _)| place))
        .collect();
    workers.start_all(fabric, &places).await?;
    let workers = &*workers;
    let mut pairs = Vec::new();
    for path in case.path.pairs() {
        let (from, to) = ends(fabric, workers, path)?;
        pairs.push(Pair { path, from, to });
    }
    let idle = Idle::watch(fabric, workers, &watched).await?;
    let before = glance(workers, &watched).await?;
    let begun = Instant::now();
    let kind = case
        .workload
        .kind()
        .ok_or_else(|| TrialError::NoWorkload(case.workload.name.clone()))?;
    match kind {
        WorkloadKind::Throughput(test) => {
            let mut load = Load::begin(&pairs, test, congestion).await?;
            let began = load.flowing().await?;
            let results = load.done(&pairs).await?;
            record_pairs(&pairs, &began, trial);
            record_load(&pairs, test, results, trial, false);
        }
        WorkloadKind::Latency(probe) => {
            let (began, latencies) = match &case.load {
                None => probe_all(&pairs, probe, congestion).await?,
                Some(load) => {
                    let load = Throughput {
                        duration: Span(Plan::load_time(probe)),
                        ..load.clone()
                    };
                    let mut running = Load::begin(&pairs, &load, congestion).await?;
                    running.flowing().await?;
                    tokio::time::sleep(load.omit.get()).await;
                    let probed = probe_all(&pairs, probe, congestion).await?;
                    let results = running.done(&pairs).await?;
                    record_pairs(&pairs, &probed.0, trial);
                    record_load(&pairs, &load, results, trial, true);
                    probed
                }
            };
            record_pairs(&pairs, &began, trial);
            record_latency(&pairs, probe, latencies, trial)?;
        }
    }
    let after = glance(workers, &watched).await?;
    let took = begun.elapsed();
    if let Some(idle) = idle {
        trial.evidence.noise_bytes = Some(idle.noise(workers, &watched, &before, &after, took).await?);
    }
    for pair in case.path.pairs() {
        for unseen in fabric.unseen(pair) {
            if !trial.evidence.unseen.contains(&unseen) {
                trial.evidence.unseen.push(unseen);
            }
        }
    }
    trial.cpu = machines(workers, &watched, &before, &after);
    trial.evidence.payload_bytes = trial.evidence.pair_payload_bytes.iter().sum();
    trial.evidence.before = before.into_iter().map(|snapshot| snapshot.seen).collect();
    trial.evidence.after = after.into_iter().map(|snapshot| snapshot.seen).collect();
    Ok(())
}

/// What to look at on each node, once a node: what all pairs that touch it ask for.
fn watched<F: Fabric>(fabric: &F, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, TrialError> {
    let mut all: Vec<(Place, ObservationRequest)> = Vec::new();
    let mut index = HashMap::new();
    for pair in path.pairs() {
        for (place, request) in fabric.observe(pair)? {
            let Some(known) = index.get(&place).and_then(|at: &usize| all.get_mut(*at)) else {
                index.insert(place.clone(), all.len());
                all.push((place, request));
                continue;
            };
            for device in request.devices {
                if !known.1.devices.contains(&device) {
                    known.1.devices.push(device);
                }
            }
            for route in request.routes {
                if !known.1.routes.contains(&route) {
                    known.1.routes.push(route);
                }
            }
        }
    }
    Ok(all)
}

/// A throughput test on each pair.
struct Load<'a> {
    test: Throughput,
    servers: Vec<JobHandle<'a>>,
    clients: Vec<JobHandle<'a>>,
}

impl<'a> Load<'a> {
    /// Waits until all servers listen, then tells all clients to begin.
    async fn begin(
        pairs: &'a [Pair<'a>],
        test: &Throughput,
        congestion: Option<&str>,
    ) -> Result<Self, TrialError> {
        let names: Vec<String> = pairs.iter().map(|_| token()).collect();
        let mut servers: Vec<_> = pairs
            .iter()
            .zip(&names)
            .map(|(pair, name)| pair.to.link.start(server_job(&pair.to, name)))
            .collect();
        let mut jobs = Vec::with_capacity(pairs.len());
        for ((pair, name), server) in pairs.iter().zip(&names).zip(&mut servers) {
            let port = server.listening(GRACE).await?;
            jobs.push(client_job(&pair.from, &pair.to, port, name, test, congestion));
        }
        let clients = pairs
            .iter()
            .zip(jobs)
            .map(|(pair, job)| pair.from.link.start(job))
            .collect();
        Ok(Self {
            test: test.clone(),
            servers,
            clients,
        })
    }

    /// Waits until the traffic of all pairs flows; when each began.
    async fn flowing(&mut self) -> Result<Vec<Instant>, TrialError> {
        let mut began = Vec::with_capacity(self.clients.len());
        for client in &mut self.clients {
            began.push(client.running(GRACE).await?);
        }
        Ok(began)
    }

    /// The client's and the server's result of each pair.
    async fn done(self, pairs: &[Pair<'_>]) -> Result<Vec<(ThroughputResult, ThroughputResult)>, TrialError> {
        let mut results = Vec::with_capacity(pairs.len());
        for ((pair, client), server) in pairs.iter().zip(self.clients).zip(self.servers) {
            let client = as_throughput(&pair.from, client.done(limit(&self.test)).await?)?;
            let server = as_throughput(&pair.to, server.done(GRACE).await?)?;
            results.push((client, server));
        }
        Ok(results)
    }
}

/// Probes the latency of all pairs at once; when each began, and what it measured.
async fn probe_all(
    pairs: &[Pair<'_>],
    probe: &Latency,
    congestion: Option<&str>,
) -> Result<(Vec<Instant>, Vec<LatencyResult>), TrialError> {
    let tokens: Vec<String> = pairs.iter().map(|_| token()).collect();
    let mut servers: Vec<_> = pairs
        .iter()
        .zip(&tokens)
        .map(|(pair, token)| {
            let (_, answerer) = pair.prober(probe);
            answerer.link.start(answer_job(answerer, token))
        })
        .collect();
    let mut jobs = Vec::with_capacity(pairs.len());
    for ((pair, token), server) in pairs.iter().zip(&tokens).zip(&mut servers) {
        let port = server.listening(GRACE).await?;
        let (prober, answerer) = pair.prober(probe);
        jobs.push((
            prober,
            probe_job(prober, answerer, port, token, probe, congestion),
        ));
    }
    let mut clients: Vec<_> = jobs
        .into_iter()
        .map(|(prober, job)| prober.link.start(job))
        .collect();
    let mut began = Vec::with_capacity(pairs.len());
    for client in &mut clients {
        began.push(client.running(GRACE).await?);
    }
    let most = probe.duration.get() + probe.omit.get() + GRACE;
    let mut results = Vec::with_capacity(pairs.len());
    for (pair, client) in pairs.iter().zip(clients) {
        match client.done(most).await? {
            JobResult::Latency(result) => results.push(result),
            _ => {
                return Err(TrialError::Answer {
                    place: pair.prober(probe).0.place.to_string(),
                    expected: "a latency",
                });
            }
        }
    }
    for server in &servers {
        server.stop();
    }
    for server in servers {
        server.done(GRACE).await?;
    }
    Ok((began, results))
}

/// Makes the pairs' entries in `trial`, where there are none yet, with when each began.
fn record_pairs(pairs: &[Pair<'_>], began: &[Instant], trial: &mut Trial) {
    if !trial.pairs.is_empty() {
        return;
    }
    let first = began.iter().min().copied();
    trial.evidence.pair_payload_bytes = vec![0; pairs.len()];
    trial.pairs = pairs
        .iter()
        .zip(began)
        .map(|(pair, began)| PairResult {
            from: pair.path.from.clone(),
            to: pair.path.to.clone(),
            began: first.map_or(0.0, |first| began.duration_since(first).as_secs_f64()),
            bytes_per_second: None,
            retransmits: None,
            loss_percent: None,
            latency_p50: None,
            latency_p99: None,
        })
        .collect();
}

/// Puts together what a load's pairs measured; `is_load`: it ran under a latency probe.
fn record_load(
    pairs: &[Pair<'_>],
    test: &Throughput,
    results: Vec<(ThroughputResult, ThroughputResult)>,
    trial: &mut Trial,
    is_load: bool,
) {
    let (mut received, mut sent) = (ThroughputResult::default(), ThroughputResult::default());
    for (index, (pair, (client, server))) in pairs.iter().zip(results).enumerate() {
        if let Some(bytes) = trial.evidence.pair_payload_bytes.get_mut(index) {
            let (there, back) = carried(&client, &server);
            *bytes += there + back;
        }
        trial
            .evidence
            .connections
            .extend(stream_connections(&client, &server, pair.from.address));
        let (receiving, sending) = if test.reverse {
            (client, server)
        } else {
            (server, client)
        };
        if let Some(of_pair) = trial.pairs.get_mut(index) {
            of_pair.bytes_per_second = receiving.bytes_per_second();
            of_pair.retransmits = receiving.retransmits().or_else(|| sending.retransmits());
            of_pair.loss_percent = receiving.loss_percent();
        }
        let step = ID_STEP.saturating_mul(u32::try_from(index).unwrap_or(u32::MAX));
        merge_throughput(&mut received, receiving, step);
        merge_throughput(&mut sent, sending, step);
    }
    if is_load {
        trial.load = Some(received);
    } else {
        trial.throughput = Some(received);
        trial.sender = Some(sent);
    }
}

/// Adds a pair's result to that of all.
fn merge_throughput(all: &mut ThroughputResult, one: ThroughputResult, step: u32) {
    all.streams.extend(one.streams.into_iter().map(|mut stream| {
        stream.id = stream.id.saturating_add(step);
        stream
    }));
    all.seconds = all.seconds.max(one.seconds);
    if all.techniques == Techniques::default() {
        all.techniques = one.techniques;
    }
    all.process_user_seconds += one.process_user_seconds;
    all.process_system_seconds += one.process_system_seconds;
}

/// Puts together what the pairs' probes measured.
fn record_latency(
    pairs: &[Pair<'_>],
    probe: &Latency,
    results: Vec<LatencyResult>,
    trial: &mut Trial,
) -> Result<(), TrialError> {
    let mut all: Option<LatencyResult> = None;
    for (index, (pair, result)) in pairs.iter().zip(results).enumerate() {
        if let Some(bytes) = trial.evidence.pair_payload_bytes.get_mut(index) {
            *bytes += result.total_bytes;
        }
        trial.evidence.connections.push(ConnectionSeen {
            source: result.peer_address,
            expected_source: pair.prober(probe).0.address,
            mss: result.mss,
            path_mtu: result.path_mtu,
        });
        if let Some(of_pair) = trial.pairs.get_mut(index) {
            let micros = |quantile| result.latency.quantile(quantile).map(|nanos| nanos as f64 / 1e3);
            of_pair.latency_p50 = micros(0.5);
            of_pair.latency_p99 = micros(0.99).filter(|_| result.latency.count() >= LEAST_FOR_P99);
        }
        match &mut all {
            None => all = Some(result),
            Some(all) => merge_latency(all, &result).map_err(TrialError::Merge)?,
        }
    }
    trial.latency = all;
    Ok(())
}

fn merge_latency(all: &mut LatencyResult, one: &LatencyResult) -> Result<(), HistogramError> {
    all.latency.add(&one.latency)?;
    match (&mut all.send_lag, &one.send_lag) {
        (Some(all), Some(one)) => all.add(one)?,
        (all @ None, Some(one)) => *all = Some(one.clone()),
        (_, None) => {}
    }
    all.transactions += one.transactions;
    all.seconds = all.seconds.max(one.seconds);
    all.saturated += one.saturated;
    all.unanswered += one.unanswered;
    all.total_bytes += one.total_bytes;
    all.process_user_seconds += one.process_user_seconds;
    all.process_system_seconds += one.process_system_seconds;
    Ok(())
}
