//! What each job does. To add a workload: its file in `traffic/`, its kind in `scenario/workload.rs`, one arm here.

use super::{
    process::{Answer, Outbox},
    protocol::{Job, JobResult, Snapshot, chain},
    throughput::{self, Target},
};
use crate::{
    evidence::{DeviceRole, Observation, ObservationRequest, ProbeSeen, ProbeTarget},
    measure::{inspect, machine_cpu, network},
    scenario::LatencyKind,
    sys::stop::Stop,
    traffic::{
        knock::{KnockListener, knock},
        latency::{LatencyError, LatencyEvent, LatencyOptions},
        probe::{ProbeServer, probe},
        rr_server::LatencyServer,
        tcp_crr, tcp_rr, udp_rr,
    },
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

fn text(error: impl Error) -> String {
    chain(&error)
}

/// Runs a job to its end.
pub(super) fn run(id: u64, job: Job, stop: &Stop, outbox: &Outbox) -> Answer {
    match job {
        Job::ServeLatency { address, port, token } => {
            let token = token.parse().map_err(text)?;
            let server = LatencyServer::bind(SocketAddr::new(address, port), token).map_err(text)?;
            outbox.listening(id, server.port())?;
            let served = server.serve(stop).map_err(text)?;
            if served.strangers > 0 {
                tracing::warn!(
                    "{} connections were none of this test's and were refused",
                    served.strangers
                );
            }
            Ok(JobResult::Nothing)
        }
        Job::RunLatency {
            bind,
            address,
            port,
            token,
            kind,
            duration,
            omit,
            rate,
            request,
            response,
            congestion,
        } => {
            let size = |bytes: crate::units::Bytes| u32::try_from(bytes.get()).unwrap_or(u32::MAX);
            let options = LatencyOptions {
                address: SocketAddr::new(address, port),
                bind: Some(bind),
                token: token.parse().map_err(text)?,
                request: size(request),
                response: size(response),
                duration: duration.get(),
                omit: omit.get(),
                rate,
                connect_timeout: CONNECT_TIMEOUT,
                congestion,
            };
            let mut on_event = |event: LatencyEvent| {
                if matches!(event, LatencyEvent::Connected { .. }) {
                    outbox.running(id);
                }
            };
            let run: fn(&_, &_, &mut dyn FnMut(LatencyEvent)) -> Result<_, LatencyError> = match kind {
                LatencyKind::TcpRr => tcp_rr::run,
                LatencyKind::TcpCrr => tcp_crr::run,
                LatencyKind::UdpRr => udp_rr::run,
            };
            run(&options, stop, &mut on_event)
                .map(JobResult::Latency)
                .map_err(text)
        }
        Job::ServeThroughput {
            address,
            port,
            name,
            sample_interval,
        } => throughput::serve(
            id,
            SocketAddr::new(address, port),
            &name,
            sample_interval,
            stop,
            outbox,
        ),
        Job::RunThroughput {
            bind,
            address,
            port,
            name,
            test,
            congestion,
            sample_interval,
        } => {
            let target = Target {
                bind,
                server: SocketAddr::new(address, port),
                name,
            };
            throughput::run(id, &target, &test, congestion, sample_interval, stop, outbox)
        }
        Job::Resolve { name } => resolve(&name).map(JobResult::Address),
        Job::Observe { request } => observe(&request).map(JobResult::Observation),
        Job::ProbeCongestion { wanted } => Ok(JobResult::Congestion(usable(wanted))),
        Job::Inspect => inspect::inspect()
            .map(|seen| JobResult::Inspection(Box::new(seen)))
            .map_err(text),
        Job::ServeProbe { address, token } => {
            let server = ProbeServer::bind(address, token).map_err(text)?;
            outbox.listening(id, server.port().map_err(text)?)?;
            server.serve(stop);
            Ok(JobResult::Nothing)
        }
        Job::Probe { targets, token } => Ok(JobResult::Probes(probe_all(&targets, token, stop))),
        Job::ListenKnock => {
            let listener = KnockListener::open().map_err(text)?;
            outbox.running(id);
            let tokens = listener.listen(stop).map_err(text)?;
            Ok(JobResult::Knocks(tokens.into_iter().collect()))
        }
        Job::Knock { targets } => Ok(JobResult::Knocked(knock(&targets))),
    }
}

/// The first address of IPv4 that a name has. Whoever asked waits no longer than its own limit; resolvers mostly give
/// up after ten seconds.
fn resolve(name: &str) -> Result<IpAddr, String> {
    let found = (name, 0).to_socket_addrs();
    let mut found = found.map_err(|error| format!("{name} has no address here: {error}"))?;
    found
        .find(SocketAddr::is_ipv4)
        .map(|address| address.ip())
        .ok_or_else(|| format!("{name} has no address of IPv4"))
}

/// Probes that run at once: more would be in each other's way.
const PROBES: usize = 16;

fn probe_all(targets: &[ProbeTarget], token: u64, stop: &Stop) -> Vec<ProbeSeen> {
    let mut seen = Vec::new();
    for some in targets.chunks(PROBES) {
        std::thread::scope(|scope| {
            let probes: Vec<_> = some
                .iter()
                .map(|target| scope.spawn(|| probe(target, token, stop)))
                .collect();
            seen.extend(probes.into_iter().map(|probe| {
                probe.join().unwrap_or_else(|_| ProbeSeen {
                    error: Some("the probe panicked".to_owned()),
                    ..ProbeSeen::default()
                })
            }));
        });
    }
    seen
}

/// Looks at devices, routes and CPU. What can't be seen is left out of the answer; the verdict says what is missing.
fn observe(request: &ObservationRequest) -> Result<Snapshot, String> {
    let routes = network::routes(&request.routes).map_err(text)?;
    let mut devices = request.devices.clone();
    if request.route_devices {
        let found = network::roles(&routes).map_err(text)?;
        devices.extend(
            found
                .into_iter()
                .filter(|(name, _)| !request.devices.iter().any(|(known, _)| known == name)),
        );
    }
    if let Some(address) = request.underlay_of
        && let Some(name) = network::device_of(address).map_err(text)?
        && !devices.iter().any(|(known, _)| *known == name)
    {
        devices.push((name, DeviceRole::Underlay));
    }
    let seen = Observation {
        node: String::new(),
        devices: network::devices(&devices).map_err(text)?,
        routes,
    };
    let reading = machine_cpu().map_err(text)?;
    Ok(Snapshot { seen, cpu: reading })
}

/// Those of `wanted` that a socket in this place can be set to.
fn usable(wanted: Vec<String>) -> Vec<String> {
    let Ok(socket) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None) else {
        return Vec::new();
    };
    wanted
        .into_iter()
        .filter(|name| socket.set_tcp_congestion(name.as_bytes()).is_ok())
        .collect()
}
