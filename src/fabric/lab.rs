//! The lab: a scenario's clusters as network namespaces of this machine, with the data paths that Calico programs
//! into the kernel. Nothing of it has a name on disk; however the coordinator ends, the kernel takes all of it back.
//!
//! `main` calls [`enter_user_namespace`] before any thread starts; then [`RunningLab::build`] makes a lab, as often
//! as wanted, and dropping it takes it down.

mod attach;
mod coordinated;
mod namespaces;
mod netlink;
mod processes;
mod setup;
mod sysctls;
mod topology;
mod tunnels;

pub use attach::{AttachError, AttachedFabric, AttachedLab};
pub use coordinated::LabFabric;
pub use namespaces::{Kind, NamespaceError, enter_user_namespace};
pub use netlink::{
    CABLE_PORT, CABLE_TABLE, HOST_TABLE, Made, NetlinkError, POD_GATEWAY, SUBMARINER_NFT_TABLE, TUNNEL,
    UNDERLAY, VNI, VX_SUBMARINER, VX_SUBMARINER_PORT, VX_SUBMARINER_VNI, VXLAN_CABLE, VXLAN_CABLE_VNI,
    VXLAN_PORT, cable_device,
};
pub use netlink::{WIREGUARD_PORT, WIREGUARD_PRIORITY, WIREGUARD_TABLE, overlay_device};
pub use processes::{Command, LabProcess, ProcessError, Stdio};
pub use sysctls::{NamespaceKind, SysctlSet};
pub use topology::{
    BlockRoute, CABLE_PREFIX, NodePlan, Peer, PodPlan, SubmarinerPlan, SubnetPlan, Topology, TopologyError,
    VX_SUBMARINER_PREFIX,
};

use crate::scenario::{Fabric, Lab, Place, PlaceRef, Scenario, VxlanMode};
use attach::Attachment;
use netlink::Network;
use processes::Processes;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tunnels::Tunnel;

/// Why a lab could not be built or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The scenario asks for what can't be.
    #[error("the scenario's lab can't be built")]
    Topology(#[from] TopologyError),
    /// The kernel gives no namespaces.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Devices, routes or rules could not be made.
    #[error("can't build the lab's network")]
    Network(#[source] NetlinkError),
    /// A process could not be started.
    #[error("can't start a process in {place}")]
    Process {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// The lab's PID namespace could not be made.
    #[error("can't make the lab's PID namespace")]
    Processes(#[source] ProcessError),
    /// The lab can't be offered to others.
    #[error("can't offer the lab to `encapbench lab --attach`")]
    Offer(#[source] AttachError),
    /// A tunnel of user space did not come up.
    #[error("the tunnel {device} of {node}, in user space, does not come up: {why}")]
    Tunnel {
        /// Its device.
        device: String,
        /// Its node.
        node: String,
        /// What it said, or did.
        why: String,
    },
    /// No such place.
    #[error("the lab has no place {place:?}; it has {places}")]
    UnknownPlace {
        /// What was asked for.
        place: String,
        /// What there is, separated by commas.
        places: String,
    },
}

impl LabError {
    /// Whether the scenario is at fault, rather than this machine: exit code 2, not 3.
    pub const fn is_scenario(&self) -> bool {
        matches!(self, Self::Topology(_) | Self::UnknownPlace { .. })
    }

    /// What to do about it, where the message itself doesn't say.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Network(error) if error.is_missing_module() => Some(
                "the kernel lacks a part of the lab: load its modules (veth, bridge, vxlan, sch_tbf, and nf_tables \
                 and nf_conntrack for a firewall load), for instance by `modprobe vxlan`",
            ),
            _ => None,
        }
    }
}

/// The pods and nodes that a scenario's paths name.
pub fn places_of_paths(scenario: &Scenario) -> BTreeSet<Place> {
    scenario
        .paths
        .iter()
        .flat_map(|path| {
            path.pairs()
                .flat_map(move |(from, to)| [(path, from), (path, to)])
        })
        .filter_map(|(path, place)| match (place, path.vxlan_mode) {
            (PlaceRef::Node(node), _) => Some(Place::Node(node.clone())),
            (PlaceRef::Pod { pod, node }, Some(mode)) => Some(Place::Pod {
                pod: pod.clone(),
                node: node.clone(),
                mode,
            }),
            (PlaceRef::Pod { .. }, None) => None,
        })
        .collect()
}

/// A pod named `pod` of each pool on each node: what `encapbench lab` offers beside the scenario's own.
pub fn pods_everywhere(lab: &Lab) -> BTreeSet<Place> {
    lab.clusters
        .iter()
        .flat_map(|cluster| &cluster.subnets)
        .flat_map(|subnet| &subnet.nodes)
        .flat_map(|node| {
            VxlanMode::ALL.map(|mode| Place::Pod {
                pod: "pod".to_owned(),
                node: node.clone(),
                mode,
            })
        })
        .collect()
}

/// The lab of a scenario, where it has one.
pub const fn lab_of(scenario: &Scenario) -> Option<&Lab> {
    match &scenario.fabric {
        Fabric::Lab(lab) => Some(lab),
        Fabric::Hosts(_) | Fabric::Kubernetes(_) => None,
    }
}

/// A lab that is up. Dropping it kills its processes, waits for their end, and lets go of its namespaces.
#[derive(Debug)]
pub struct RunningLab {
    // In the order of their end.
    _attachment: Attachment,
    tunnels: Vec<Tunnel>,
    processes: Processes,
    network: Network,
    topology: Topology,
}

impl RunningLab {
    /// Builds `lab`, with a pod at each of `places` that names one. Blocks for some milliseconds a place: call it by
    /// `spawn_blocking` in an async program. `name` is what `--attach` shows.
    ///
    /// # Errors
    /// Where the scenario or this machine doesn't allow it ([`LabError::is_scenario`] tells which).
    pub fn build(name: &str, lab: &Lab, places: &BTreeSet<Place>) -> Result<Self, LabError> {
        let program = std::env::current_exe().unwrap_or_else(|_| "encapbench".into());
        Self::build_with(&program, name, lab, places)
    }

    /// The same with `program`, an encapbench, for what runs in user space; a test's own file is none.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_with(
        program: &std::path::Path,
        name: &str,
        lab: &Lab,
        places: &BTreeSet<Place>,
    ) -> Result<Self, LabError> {
        let topology = Topology::plan(lab, places)?;
        let network = netlink::build(&topology).map_err(|error| match error {
            NetlinkError::Namespace(error) => LabError::Namespace(error),
            error => LabError::Network(error),
        })?;
        let processes = Processes::start().map_err(|error| match error {
            ProcessError::PidNamespace(source) => namespaces::refused(Kind::Pid, &source).into(),
            error => LabError::Processes(error),
        })?;
        let tunnels = tunnels::start(program, &topology, &network, &processes)?;
        let attachment = Attachment::offer(name, &topology, &network, &processes).map_err(LabError::Offer)?;
        Ok(Self {
            _attachment: attachment,
            tunnels,
            processes,
            network,
            topology,
        })
    }

    /// What was built.
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The sysctls that were set.
    pub fn sysctls(&self) -> &[SysctlSet] {
        &self.network.sysctls
    }

    /// How Submariner's cable is made; `None` without Submariner.
    pub const fn cable(&self) -> Option<&Made> {
        self.network.cable.as_ref()
    }

    /// How the tunnels between a node and the others of its cluster are made.
    pub fn overlay(&self, node: &str) -> Option<&Made> {
        let node = self.topology.nodes.iter().find(|plan| plan.name == node)?;
        self.network.overlays.get(node.cluster)
    }

    /// The processes of tunnels in user space: node, device, process id.
    pub fn tunnels(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        self.tunnels
            .iter()
            .map(|tunnel| (tunnel.node.as_str(), tunnel.device.as_str(), tunnel.process.pid()))
    }

    /// All places with their addresses, nodes first.
    pub fn places(&self) -> impl Iterator<Item = (Place, IpAddr)> {
        self.topology
            .places()
            .map(|(place, address)| (place, address.into()))
    }

    /// A place's address.
    pub fn address(&self, place: &Place) -> Option<IpAddr> {
        self.topology.address(place).map(IpAddr::V4)
    }

    /// Calls `work` in a thread of its own that is in `place`'s network namespace: sockets made there are the place's,
    /// and `measure::network` sees the place's devices.
    ///
    /// # Errors
    /// Where there is no such place, or its namespace can't be entered.
    pub fn within<T: Send>(&self, place: &Place, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let network = self.network_of(place)?;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("lab-within".to_owned())
                .spawn_scoped(scope, || {
                    namespaces::enter_network(network)?;
                    Ok(work())
                })
                .map_err(|source| LabError::Network(NetlinkError::Thread(source)))?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn network_of(&self, place: &Place) -> Result<&Arc<OwnedFd>, LabError> {
        self.network
            .places
            .get(place)
            .ok_or_else(|| unknown_place(place, self.topology.places().map(|(place, _)| place)))
    }

    /// Starts `command` in `place`; returns once the program runs. It dies with the lab.
    ///
    /// # Errors
    /// Where there is no such place or program, or the kernel refuses.
    pub fn spawn(&self, place: &Place, command: &Command) -> Result<LabProcess, LabError> {
        self.processes
            .spawn(self.network_of(place)?, command)
            .map_err(|source| LabError::Process {
                place: place.to_string(),
                source,
            })
    }
}

fn unknown_place(place: &Place, places: impl Iterator<Item = Place>) -> LabError {
    LabError::UnknownPlace {
        place: place.to_string(),
        places: places
            .map(|place| place.to_string())
            .collect::<Vec<_>>()
            .join(", "),
    }
}
