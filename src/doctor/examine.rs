//! Looks into every place of a fabric, and probes the paths between them: workers do both, so that it is the same in
//! a lab's namespaces, in pods and over ssh.

use super::examination::{Examination, KnockResult, ProbeResult};
use crate::coordinator::{JobHandle, Link};
use crate::evidence::{ClusterSetup, Inspection, KnockTarget, ProbeTarget, Setup, TunnelSetup};
use crate::fabric::{Fabric, FabricError};
use crate::scenario::Place;
use crate::worker::protocol::{Job, JobResult};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long looking into a place may take.
const GLANCE: Duration = Duration::from_secs(30);
/// How long a place's probes may take: each of them some seconds where nothing gets through, sixteen at once.
const PROBES: Duration = Duration::from_mins(2);
/// Paths that are probed from one place. A cluster of hundreds of nodes is probed as a ring with chords.
const MOST_TARGETS: usize = 24;
/// Bytes of bulk data: some hundred full segments.
const BULK: u64 = 1 << 20;
/// How long WireGuard waits until it tries a handshake again (REKEY_TIMEOUT, 5 s), and a little.
const HANDSHAKE: Duration = Duration::from_millis(5500);
/// How long frames may be on their way.
const FLIGHT: Duration = Duration::from_millis(300);

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The fabric.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The fabric does not say what should be.
    #[error("this fabric can't say what its set-up should be")]
    NoSetup,
    /// Not one worker could be started.
    #[error("no place could be looked into: {0}")]
    Nothing(String),
}

/// The workers of all places.
struct Ward {
    links: BTreeMap<Place, Link>,
}

/// Examines what `fabric` provides, which must have been prepared.
///
/// # Errors
/// Where nothing can be examined; what fails of it is said in [`Examination::unseen`].
pub async fn examine<F: Fabric>(fabric: &mut F) -> Result<Examination, ExamineError> {
    let setup = fabric.setup().ok_or(ExamineError::NoSetup)?;
    let mut case = Examination {
        unseen: setup.left_out.clone(),
        setup,
        ..Examination::default()
    };
    let ward = admit(fabric, &mut case).await?;
    // Probes first, so that counters show what became of them.
    probe(&ward, &mut case).await;
    inspect(&ward, &mut case).await;
    knock(&ward, &mut case).await;
    Ok(case)
}

async fn admit<F: Fabric>(fabric: &mut F, case: &mut Examination) -> Result<Ward, ExamineError> {
    let mut greetings = JoinSet::new();
    for place in case.setup.places().collect::<Vec<_>>() {
        match fabric.launch(&place).await {
            Ok(transport) => {
                greetings.spawn(async move {
                    let greeted = Link::greet(&place.to_string(), transport).await;
                    (place, greeted)
                });
            }
            Err(error) => case.unseen.push(format!("{place}: {error}")),
        }
    }
    let mut links = BTreeMap::new();
    while let Some(joined) = greetings.join_next().await {
        match joined {
            Ok((place, Ok(link))) => {
                links.insert(place, link);
            }
            Ok((place, Err(error))) => case.unseen.push(format!("{place}: {error}")),
            Err(error) => case.unseen.push(error.to_string()),
        }
    }
    if links.is_empty() {
        return Err(ExamineError::Nothing(case.unseen.join("; ")));
    }
    Ok(Ward { links })
}

impl Ward {
    /// Asks several places at once; what each says.
    async fn ask(
        &self,
        jobs: impl IntoIterator<Item = (Place, Job)>,
        limit: Duration,
        unseen: &mut Vec<String>,
    ) -> Vec<(Place, JobResult)> {
        // All are started before the first is waited for.
        let asked: Vec<_> = jobs
            .into_iter()
            .filter_map(|(place, job)| Some((self.links.get(&place)?.start(job), place)))
            .collect();
        let mut answers = Vec::new();
        for (handle, place) in asked {
            match handle.done(limit).await {
                Ok(answer) => answers.push((place, answer)),
                Err(error) => unseen.push(error.to_string()),
            }
        }
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        answers
    }
}

async fn inspect(ward: &Ward, case: &mut Examination) {
    let jobs: Vec<_> = ward
        .links
        .keys()
        .map(|place| (place.clone(), Job::Inspect))
        .collect();
    for (place, answer) in ward.ask(jobs, GLANCE, &mut case.unseen).await {
        if let JobResult::Inspection(seen) = answer {
            case.inspections.insert(place, *seen);
        }
    }
}

/// Whom a place probes: nodes the nodes of their cluster, and gateways each other; pods all pods that are of the same
/// kind of pool.
fn targets_of(setup: &Setup, from: &Place) -> Vec<Place> {
    let Some((own, _)) = setup.node(from.node()) else {
        return Vec::new();
    };
    let all: Vec<Place> = setup.places().collect();
    let position = all.iter().position(|place| place == from).unwrap_or(0);
    let gateway = |cluster: &ClusterSetup| cluster.submariner.as_ref().map(|own| own.gateway.clone());
    let wanted = |to: &&Place| {
        let Some((other, _)) = setup.node(to.node()) else {
            return false;
        };
        match (from, *to) {
            _ if from == *to || from.node() == to.node() => false,
            (Place::Node(a), Place::Node(b)) => {
                own.name == other.name
                    || (gateway(own).as_ref() == Some(a) && gateway(other).as_ref() == Some(b))
            }
            (Place::Pod { mode: a, .. }, Place::Pod { mode: b, .. }) => {
                a == b && (own.name == other.name || (own.submariner.is_some() && other.submariner.is_some()))
            }
            _ => false,
        }
    };
    // Each begins with the next after itself, so that in a large cluster all are somebody's.
    all.iter()
        .cycle()
        .skip(position + 1)
        .take(all.len())
        .filter(wanted)
        .take(MOST_TARGETS)
        .cloned()
        .collect()
}

async fn probe(ward: &Ward, case: &mut Examination) {
    let token: u64 = rand::random();
    let mut servers: Vec<JobHandle<'_>> = Vec::new();
    let mut ports: BTreeMap<Place, u16> = BTreeMap::new();
    for (place, link) in &ward.links {
        let Some(address) = case.setup.address(place) else {
            continue;
        };
        let mut server = link.start(Job::ServeProbe {
            address: address.into(),
            token,
        });
        match server.listening(GLANCE).await {
            Ok(port) => {
                ports.insert(place.clone(), port);
                servers.push(server);
            }
            Err(error) => case.unseen.push(format!("no probes of {place}: {error}")),
        }
    }
    let mut wanted: BTreeMap<Place, Vec<Place>> = BTreeMap::new();
    for from in ward.links.keys() {
        let to: Vec<Place> = targets_of(&case.setup, from)
            .into_iter()
            .filter(|to| ports.contains_key(to))
            .collect();
        wanted.insert(from.clone(), to);
    }
    case.probes = ask_probes(ward, case, &ports, token, &wanted).await;
    let lost = |probe: &ProbeResult| !probe.is_reachable();
    if case.setup.has_wireguard() && case.probes.iter().any(lost) {
        // A session that broke off is made anew by the next attempt only, however well the way is by now.
        tokio::time::sleep(HANDSHAKE).await;
        let mut again: BTreeMap<Place, Vec<Place>> = BTreeMap::new();
        for probe in case.probes.iter().filter(|probe| lost(probe)) {
            again
                .entry(probe.from.clone())
                .or_default()
                .push(probe.to.clone());
        }
        for probe in ask_probes(ward, case, &ports, token, &again).await {
            let first = case
                .probes
                .iter_mut()
                .find(|first| first.from == probe.from && first.to == probe.to);
            if let Some(first) = first {
                *first = probe;
            }
        }
    }
}

/// Lets places probe others, all at once.
async fn ask_probes(
    ward: &Ward,
    case: &mut Examination,
    ports: &BTreeMap<Place, u16>,
    token: u64,
    wanted: &BTreeMap<Place, Vec<Place>>,
) -> Vec<ProbeResult> {
    let mut jobs = Vec::new();
    for (from, to) in wanted {
        let Some(bind) = case.setup.address(from) else {
            continue;
        };
        let targets: Vec<_> = to
            .iter()
            .filter_map(|to| {
                Some(ProbeTarget {
                    bind: IpAddr::V4(bind),
                    address: IpAddr::V4(case.setup.address(to)?),
                    port: *ports.get(to)?,
                    bulk: BULK,
                })
            })
            .collect();
        if !targets.is_empty() {
            jobs.push((from.clone(), Job::Probe { targets, token }));
        }
    }
    let mut probes = Vec::new();
    for (from, answer) in ward.ask(jobs, PROBES, &mut case.unseen).await {
        if let (JobResult::Probes(seen), Some(to)) = (answer, wanted.get(&from)) {
            probes.extend(to.iter().zip(seen).map(|(to, seen)| ProbeResult {
                from: from.clone(),
                to: to.clone(),
                seen,
            }));
        }
    }
    probes
}

/// A VXLAN device that two nodes share.
struct Door<'a> {
    from: &'a str,
    to: &'a str,
    tunnel: &'a TunnelSetup,
}

fn doors(setup: &Setup) -> Vec<Door<'_>> {
    let mut doors = Vec::new();
    for cluster in &setup.clusters {
        for (index, from) in cluster.nodes.iter().enumerate() {
            let others = cluster
                .nodes
                .iter()
                .cycle()
                .skip(index + 1)
                .take(cluster.nodes.len() - 1);
            doors.extend(others.take(MOST_TARGETS).map(|to| Door {
                from: &from.name,
                to: &to.name,
                tunnel: &cluster.tunnel,
            }));
        }
        let Some(submariner) = &cluster.submariner else {
            continue;
        };
        for node in cluster
            .nodes
            .iter()
            .filter(|node| node.name != submariner.gateway)
        {
            for (from, to) in [
                (&node.name, &submariner.gateway),
                (&submariner.gateway, &node.name),
            ] {
                doors.push(Door {
                    from,
                    to,
                    tunnel: &submariner.tunnel,
                });
            }
        }
        for other in setup.clusters.iter().filter(|other| other.name != cluster.name) {
            if let (Some(there), Some(tunnel)) = (&other.submariner, &submariner.cable_tunnel) {
                doors.push(Door {
                    from: &submariner.gateway,
                    to: &there.gateway,
                    tunnel,
                });
            }
        }
    }
    doors
}

fn mac(seen: &Inspection, device: &str) -> Option<[u8; 6]> {
    let text = &seen.link(device)?.mac;
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    bytes.try_into().ok()
}

async fn knock(ward: &Ward, case: &mut Examination) {
    let mut listeners: Vec<(String, JobHandle<'_>)> = Vec::new();
    for (place, link) in &ward.links {
        let Place::Node(name) = place else { continue };
        let mut listener = link.start(Job::ListenKnock);
        match listener.running(GLANCE).await {
            Ok(_) => listeners.push((name.clone(), listener)),
            Err(error) => case
                .unseen
                .push(format!("frames at the tunnels of {place}: {error}")),
        }
    }
    // Tokens of different runs of the doctor don't meet.
    let first = rand::random::<u64>() & !0xffff_ffff;
    let mut results = Vec::new();
    let mut targets: BTreeMap<Place, Vec<(usize, KnockTarget)>> = BTreeMap::new();
    for door in doors(&case.setup) {
        let inspection = |name: &str| case.inspections.get(&Place::Node(name.to_owned()));
        let (Some(from), Some(to)) = (inspection(door.from), inspection(door.to)) else {
            continue;
        };
        let device = &door.tunnel.device;
        // A device that is not there is another finding.
        let (Some(own_mac), Some(mac)) = (mac(from, device), mac(to, device)) else {
            continue;
        };
        let (Some((_, node)), Some(vxlan)) = (
            case.setup.node(door.to),
            to.link(device)
                .filter(|link| link.up)
                .and_then(|link| link.vxlan.as_ref()),
        ) else {
            continue;
        };
        let index = results.len();
        targets
            .entry(Place::Node(door.from.to_owned()))
            .or_default()
            .push((
                index,
                KnockTarget {
                    address: node.address,
                    port: vxlan.port,
                    vni: vxlan.vni,
                    mac,
                    own_mac,
                    token: first + index as u64,
                },
            ));
        results.push(KnockResult {
            from: door.from.to_owned(),
            to: door.to.to_owned(),
            port: vxlan.port,
            device: device.clone(),
            heard: None,
            error: None,
        });
    }
    let jobs: Vec<_> = targets
        .iter()
        .map(|(place, targets)| {
            let targets = targets.iter().map(|(_, target)| target.clone()).collect();
            (place.clone(), Job::Knock { targets })
        })
        .collect();
    for (place, answer) in ward.ask(jobs, GLANCE, &mut case.unseen).await {
        if let (JobResult::Knocked(errors), Some(targets)) = (answer, targets.get(&place)) {
            for ((index, _), error) in targets.iter().zip(errors) {
                results[*index].error = error;
            }
        }
    }
    tokio::time::sleep(FLIGHT).await;
    for (name, listener) in listeners {
        listener.stop();
        match listener.done(GLANCE).await {
            Ok(JobResult::Knocks(tokens)) => {
                for (index, result) in results
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, result)| result.to == name)
                {
                    result.heard = Some(tokens.contains(&(first + index as u64)));
                }
            }
            Ok(_) => {}
            Err(error) => case.unseen.push(error.to_string()),
        }
    }
    case.knocks = results;
}
