//! The lab as a coordinator sees it: built afresh for each block, workers launched in its places.

use super::{
    Command, LabError, LabProcess, Made, RunningLab, Stdio, TUNNEL, Topology, UNDERLAY, VX_SUBMARINER,
    cable_device, overlay_device,
};
use crate::evidence::{DeviceRole, KERNEL_IPSEC, ObservationRequest, RouteQuery, Setup, nodes};
use crate::fabric::{Fabric, FabricError, Transport};
use crate::scenario::{Cable, Case, Crossing, Encapsulation, Lab, Path, Place};
use crate::worker::protocol::chain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::unix::pipe;

/// The lab of a run.
#[derive(Debug)]
pub struct LabFabric {
    name: String,
    lab: Lab,
    places: BTreeSet<Place>,
    topology: Topology,
    program: PathBuf,
    running: Option<RunningLab>,
    description: BTreeMap<String, String>,
}

impl LabFabric {
    /// The lab that `cases` need. Plans it, and builds nothing yet.
    ///
    /// # Errors
    /// Where the scenario's lab can't be built, or this program's own file is not known.
    pub fn new(name: &str, lab: &Lab, cases: &[Case]) -> Result<Self, FabricError> {
        let places: BTreeSet<Place> = cases
            .iter()
            .flat_map(|case| case.path.places().cloned())
            .collect();
        Self::with_places(name, lab, places)
    }

    /// The lab with a pod at each of `places` that names one. Plans it, and builds nothing yet.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_places(name: &str, lab: &Lab, places: BTreeSet<Place>) -> Result<Self, FabricError> {
        let topology = Topology::plan(lab, &places).map_err(|error| unable(&error.into()))?;
        let program = std::env::current_exe()
            .map_err(|error| FabricError::Unable(format!("can't find encapbench's own file: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            lab: lab.clone(),
            places,
            topology,
            program,
            running: None,
            description: BTreeMap::new(),
        })
    }

    /// Starts workers from another file than this program's own, as a test must.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// The lab, while it is up.
    pub const fn running(&self) -> Option<&RunningLab> {
        self.running.as_ref()
    }

    /// What to look at on the node of `from` for packets from `from` to `to`.
    fn question(
        &self,
        path: &Path,
        from: &Place,
        to: &Place,
    ) -> Result<(Place, ObservationRequest), FabricError> {
        // A pod's packets are routed by its node as they come in by its veth.
        let input_device = self.pod_device(from);
        let source = from.is_pod().then(|| self.address(path, from)).transpose()?;
        let request = ObservationRequest {
            devices: vec![
                (UNDERLAY.to_owned(), DeviceRole::Underlay),
                (self.tunnel_device(from).to_owned(), DeviceRole::Tunnel),
            ],
            underlay_of: None,
            routes: vec![RouteQuery {
                destination: self.address(path, to)?,
                source,
                input_device,
            }],
            ..ObservationRequest::default()
        };
        Ok((Place::Node(from.node().to_owned()), request))
    }

    /// The device that wraps packets on a place's node.
    fn tunnel_device(&self, place: &Place) -> &'static str {
        let nodes = &self.topology.nodes;
        let node = nodes.iter().position(|node| node.name == place.node());
        node.map_or(TUNNEL, |node| overlay_device(self.topology.overlay(node)))
    }

    /// The device of a cable: the kernel's ESP has none.
    fn cable_device(&self, cable: Cable) -> &'static str {
        match self.running.as_ref().and_then(RunningLab::cable) {
            Some(Made::InKernel) if cable == Cable::Ipsec => KERNEL_IPSEC,
            _ => cable_device(cable),
        }
    }

    /// The node's device that leads to a pod; `None` for a node.
    fn pod_device(&self, place: &Place) -> Option<String> {
        let pod = self.topology.pods.iter().find(|pod| pod.place == *place)?;
        Some(pod.host_device.clone())
    }

    /// What to look at on each node that packets between two clusters come by: where would they leave, coming in as
    /// they do? The kernel answers with its reverse path filter's word, too.
    fn questions_of_crossing(
        &self,
        path: &Path,
        crossing: &Crossing,
    ) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        let (from, to) = (self.address(path, &path.from)?, self.address(path, &path.to)?);
        let gateways = (&crossing.from_gateway, &crossing.to_gateway);
        let ways = [
            (
                (&path.from, from),
                gateways.0,
                gateways.1,
                (&path.to, to),
                crossing.arrival,
            ),
            (
                (&path.to, to),
                gateways.1,
                gateways.0,
                (&path.from, from),
                crossing.return_arrival,
            ),
        ];
        let cable = self.cable_device(crossing.cable);
        let devices = [
            (UNDERLAY, DeviceRole::Underlay),
            (TUNNEL, DeviceRole::Tunnel),
            (VX_SUBMARINER, DeviceRole::VxSubmariner),
            (cable, DeviceRole::Cable),
        ];
        let on_node = |node: &str| {
            let mut routes = Vec::new();
            for ((first, source), near, far, (last, destination), arrival) in ways {
                let mut ask = |input_device| {
                    routes.push(RouteQuery {
                        destination,
                        source: Some(source),
                        input_device,
                    });
                };
                if node == first.node() {
                    ask(self.pod_device(first));
                } else if node == near {
                    ask(Some(VX_SUBMARINER.to_owned()));
                }
                if node == far {
                    ask(Some(cable.to_owned()));
                } else if node == last.node() {
                    let by = if arrival == Encapsulation::None {
                        UNDERLAY
                    } else {
                        TUNNEL
                    };
                    ask(Some(by.to_owned()));
                }
            }
            ObservationRequest {
                devices: devices.map(|(name, role)| (name.to_owned(), role)).to_vec(),
                underlay_of: None,
                routes,
                ..ObservationRequest::default()
            }
        };
        Ok(nodes(path, crossing)
            .into_iter()
            .map(|node| (Place::Node(node.to_owned()), on_node(node)))
            .collect())
    }
}

impl Fabric for LabFabric {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        self.release().await;
        let (name, lab, places) = (self.name.clone(), self.lab.clone(), self.places.clone());
        let program = self.program.clone();
        let built =
            tokio::task::spawn_blocking(move || RunningLab::build_with(&program, &name, &lab, &places))
                .await
                .map_err(|error| FabricError::Failed(format!("the lab's build broke off: {error}")))?
                .map_err(|error| unable(&error))?;
        self.description = describe(&built);
        self.running = Some(built);
        Ok(())
    }

    async fn launch(&mut self, place: &Place) -> Result<Transport, FabricError> {
        let lab = self
            .running
            .as_ref()
            .ok_or_else(|| FabricError::Failed(format!("no lab is up to start a worker of {place} in")))?;
        let process = lab.spawn(place, &worker_command(&self.program));
        transport(place, process.map_err(|error| failed(&error))?)
    }

    fn address(&self, path: &Path, place: &Place) -> Result<IpAddr, FabricError> {
        // Towards a block behind the tunnel, or in another cluster, the kernel gives a node's socket the VTEP's address. Bound to eth0's, the
        // answers would come back plain.
        if let Place::Node(name) = place
            && (path.expected.is_overlay() || path.crossing.is_some())
            && let Some(node) = self.topology.nodes.iter().find(|node| node.name == *name)
        {
            return Ok(IpAddr::V4(node.vtep));
        }
        self.topology
            .address(place)
            .map(IpAddr::V4)
            .ok_or_else(|| FabricError::Failed(format!("the lab has no place {place}")))
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        if let Some(crossing) = &path.crossing {
            if let Some(Made::Missing { why }) = self.running.as_ref().and_then(RunningLab::cable) {
                return Err(FabricError::Unable(why.clone()));
            }
            return self.questions_of_crossing(path, crossing);
        }
        if path.expected.is_overlay()
            && let Some(Made::Missing { why }) = self
                .running
                .as_ref()
                .and_then(|lab| lab.overlay(path.from.node()))
        {
            return Err(FabricError::Unable(why.clone()));
        }
        let mut seen = vec![self.question(path, &path.from, &path.to)?];
        if path.from.node() != path.to.node() {
            seen.push(self.question(path, &path.to, &path.from)?);
        }
        Ok(seen)
    }

    fn setup(&self) -> Option<Setup> {
        let cable = self.running.as_ref().and_then(RunningLab::cable);
        Some(super::setup::setup(&self.topology, cable))
    }

    fn user_space(&self, path: &Path) -> Option<String> {
        let lab = self.running.as_ref()?;
        let made = match &path.crossing {
            Some(_) => lab.cable()?,
            None if path.expected.is_overlay() => lab.overlay(path.from.node())?,
            None => return None,
        };
        match made {
            Made::InUserSpace { by } => Some((*by).to_owned()),
            Made::InKernel | Made::Missing { .. } => None,
        }
    }

    fn tunnels(&self, path: &Path) -> Vec<(String, u32)> {
        let Some(lab) = &self.running else {
            return Vec::new();
        };
        let (wanted, nodes) = match &path.crossing {
            Some(crossing) => (
                cable_device(crossing.cable),
                [crossing.from_gateway.as_str(), &crossing.to_gateway],
            ),
            None if path.expected.is_overlay() => {
                (self.tunnel_device(&path.from), [path.from.node(), path.to.node()])
            }
            None => return Vec::new(),
        };
        lab.tunnels()
            .filter(|(node, device, _)| *device == wanted && nodes.contains(node))
            .map(|(node, _, pid)| (node.to_owned(), pid))
            .collect()
    }

    fn describe(&self) -> BTreeMap<String, String> {
        self.description.clone()
    }

    async fn release(&mut self) {
        if let Some(lab) = self.running.take()
            && let Err(error) = tokio::task::spawn_blocking(move || drop(lab)).await
        {
            tracing::warn!("taking down the lab broke off: {error}");
        }
    }
}

/// `encapbench worker`, with pipes.
pub(super) fn worker_command(program: &std::path::Path) -> Command {
    Command::new(program)
        .args(["worker"])
        .stdio(Stdio::Piped, Stdio::Piped, Stdio::Piped)
        .own_group()
}

/// The streams of a worker that runs in `place`.
pub(super) fn transport(place: &Place, mut process: LabProcess) -> Result<Transport, FabricError> {
    let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(FabricError::Failed(format!("the worker of {place} has no pipes")));
    };
    let broken = |error| FabricError::Failed(format!("can't speak to the worker of {place}: {error}"));
    let process = Arc::new(process);
    reap(Arc::clone(&process));
    Ok(Transport {
        input: Box::new(sender(stdin).map_err(broken)?),
        output: Box::new(receiver(stdout).map_err(broken)?),
        errors: Box::new(receiver(stderr).map_err(broken)?),
        kill: Box::new(move || {
            if let Err(error) = process.kill() {
                tracing::warn!("can't kill process {}: {error}", process.pid());
            }
        }),
    })
}

/// Waits for a worker in the background, so that it doesn't stay a zombie for the rest of the block.
fn reap(process: Arc<LabProcess>) {
    tokio::spawn(async move {
        match process.wait().await {
            Ok(status) => tracing::debug!("process {} ended: {status}", process.pid()),
            Err(error) => tracing::warn!("can't wait for process {}: {error}", process.pid()),
        }
    });
}

fn sender(fd: OwnedFd) -> std::io::Result<pipe::Sender> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    pipe::Sender::from_owned_fd(fd)
}

fn receiver(fd: OwnedFd) -> std::io::Result<pipe::Receiver> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    pipe::Receiver::from_owned_fd(fd)
}

/// What was built, for the manifest.
fn describe(lab: &RunningLab) -> BTreeMap<String, String> {
    let mut facts: BTreeMap<String, String> = lab
        .sysctls()
        .iter()
        .filter_map(|sysctl| {
            let kind = serde_json::to_value(sysctl.namespace).ok()?;
            let key = format!("sysctl {} net.{}", kind.as_str()?, sysctl.name);
            let value = match &sysctl.is {
                None => "not there".to_owned(),
                Some(is) if *is == sysctl.wanted => is.clone(),
                Some(is) => format!("{is} (asked for {})", sysctl.wanted),
            };
            Some((key, value))
        })
        .collect();
    let addresses = lab
        .places()
        .map(|(place, address)| (format!("address {place}"), address.to_string()));
    facts.extend(addresses);
    facts.extend(lab.topology().nodes.iter().map(|node| {
        let key = format!("address {}, {TUNNEL}", node.name);
        (key, node.vtep.to_string())
    }));
    if let (Some(plan), Some(made)) = (&lab.topology().submariner, lab.cable()) {
        let made = match made {
            Made::InKernel => "the kernel's".to_owned(),
            Made::InUserSpace { by } => format!("in user space ({by}), not the kernel's"),
            Made::Missing { why } => format!("missing: {why}"),
        };
        facts.insert("submariner cable".to_owned(), format!("{}, {made}", plan.cable));
    }
    for node in &lab.topology().nodes {
        if let Some(Made::InUserSpace { by }) = lab.overlay(&node.name) {
            let overlay = lab.topology().overlays[node.cluster];
            facts.insert(
                format!("overlay of {}", node.name),
                format!("{overlay}, in user space ({by}), not the kernel's"),
            );
        }
    }
    facts.insert("kind".to_owned(), "lab".to_owned());
    facts.insert("rights".to_owned(), rights().to_owned());
    facts
}

/// Whose rights the lab is made with.
fn rights() -> &'static str {
    // The initial user namespace maps every id to itself (user_namespaces(7)).
    let initial = std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    if initial {
        "root"
    } else {
        "an ordinary user, in a user namespace"
    }
}

fn unable(error: &LabError) -> FabricError {
    let text = told(error);
    if error.is_scenario() {
        FabricError::Scenario(text)
    } else {
        FabricError::Unable(text)
    }
}

pub(super) fn failed(error: &LabError) -> FabricError {
    FabricError::Failed(told(error))
}

/// An error with its causes, and what to do about it.
fn told(error: &LabError) -> String {
    let mut text = chain(error);
    if let Some(remedy) = error.remedy() {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text
}
