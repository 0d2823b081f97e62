//! Joining a lab that another process runs. A lab is described by a file in that process's memory, found in
//! /proc/PID/fd by its name, which says by which descriptor each namespace is held: nothing is on disk.

use super::coordinated::{failed, transport, worker_command};
use super::netlink::Network;
use super::processes::{Command, LabProcess, ProcessError, Processes};
use super::topology::Topology;
use super::{LabError, unknown_place};
use crate::evidence::{ObservationRequest, Setup};
use crate::fabric::{Fabric, FabricError, Transport};
use crate::scenario::Place;
use crate::sys::namespace::{self, Namespace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the description.
const FILE: &str = "encapbench-lab";

/// Why a lab can't be offered or joined.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Neither a process id nor a run's folder.
    #[error("{run:?} is neither a process id nor the folder of a run that is going on (no {file})")]
    NoRun {
        /// What was given.
        run: String,
        /// The file that would name the process.
        file: String,
    },
    /// The process has no lab.
    #[error("process {0} has no lab: is it an encapbench that runs one, and still running?")]
    NoLab(u32),
    /// The process can't be looked into.
    #[error("can't look into process {pid}: join as the user who started it, or as root")]
    Process {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A description of another version.
    #[error("can't read how process {pid} describes its lab: is it the same version of encapbench?")]
    Description {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The description could not be made.
    #[error("can't write the lab's description to memory")]
    Offer(#[source] io::Error),
    /// One of its namespaces could not be entered.
    #[error("can't enter the {kind} namespace of process {pid}")]
    Enter {
        /// Which.
        kind: &'static str,
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its PID namespace could not be entered.
    #[error("can't start processes in the lab of process {pid}")]
    Processes {
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: ProcessError,
    },
}

/// The description.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    scenario: String,
    /// Whether the lab is in a user namespace of its own.
    user_namespace: bool,
    /// The descriptor that holds the PID namespace.
    pid_namespace_fd: RawFd,
    places: BTreeMap<Place, DescribedPlace>,
    /// The places in their order.
    order: Vec<Place>,
    /// What it should be.
    setup: Setup,
}

#[derive(Debug, Serialize, Deserialize)]
struct DescribedPlace {
    netns_fd: RawFd,
    address: IpAddr,
}

/// Keeps the description in memory, as long as the lab is up.
#[derive(Debug)]
pub(super) struct Attachment(#[expect(dead_code, reason = "held open for others to find")] File);

impl Attachment {
    pub(super) fn offer(
        scenario: &str,
        topology: &Topology,
        network: &Network,
        processes: &Processes,
    ) -> Result<Self, AttachError> {
        let description = Description {
            scenario: scenario.to_owned(),
            user_namespace: !in_first_user_namespace(),
            pid_namespace_fd: processes.pid_namespace().as_raw_fd(),
            places: topology
                .places()
                .filter_map(|(place, address)| {
                    let netns_fd = network.places.get(&place)?.as_raw_fd();
                    let address = address.into();
                    Some((place, DescribedPlace { netns_fd, address }))
                })
                .collect(),
            order: topology.places().map(|(place, _)| place).collect(),
            setup: super::setup::setup(topology, network.cable.as_ref()),
        };
        let text = serde_json::to_vec(&description).map_err(|e| AttachError::Offer(e.into()))?;
        let mut file: File = rustix::fs::memfd_create(FILE, rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| AttachError::Offer(e.into()))?
            .into();
        file.write_all(&text).map_err(AttachError::Offer)?;
        Ok(Self(file))
    }
}

/// Whether all ids are mapped to themselves, which is so in the first user namespace only.
fn in_first_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// A lab of another process, joined.
#[derive(Debug)]
pub struct AttachedLab {
    scenario: String,
    places: Vec<(Place, IpAddr)>,
    networks: BTreeMap<Place, Arc<OwnedFd>>,
    processes: Processes,
    setup: Setup,
}

impl AttachedLab {
    /// Joins the lab of `run`: a process id, or a run's folder, whose `run.lock` begins with one. Must be called before
    /// the process has a second thread, and not after [`super::enter_user_namespace`].
    ///
    /// # Errors
    /// Where there is no such lab, or it is another user's.
    pub fn join(run: &str) -> Result<Self, AttachError> {
        let pid = process_of(run)?;
        let process = |source| AttachError::Process { pid, source };
        let description = describe(pid)?;
        let open = |fd: RawFd| -> Result<OwnedFd, AttachError> {
            Ok(File::open(format!("/proc/{pid}/fd/{fd}"))
                .map_err(process)?
                .into())
        };
        let networks = description
            .places
            .iter()
            .map(|(place, described)| Ok((place.clone(), Arc::new(open(described.netns_fd)?))))
            .collect::<Result<_, _>>()?;
        let pid_namespace = open(description.pid_namespace_fd)?;
        if description.user_namespace && !same_user_namespace(pid) {
            let user = File::open(format!("/proc/{pid}/ns/user")).map_err(process)?;
            namespace::enter(user.as_fd(), Namespace::User).map_err(|source| AttachError::Enter {
                kind: "user",
                pid,
                source,
            })?;
        }
        let processes =
            Processes::join(pid_namespace).map_err(|source| AttachError::Processes { pid, source })?;
        let addresses = &description.places;
        Ok(Self {
            scenario: description.scenario,
            places: description
                .order
                .iter()
                .filter_map(|place| Some((place.clone(), addresses.get(place)?.address)))
                .collect(),
            networks,
            processes,
            setup: description.setup,
        })
    }

    /// What it should be.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The name of its scenario.
    pub fn scenario(&self) -> &str {
        &self.scenario
    }

    /// All places with their addresses, nodes first.
    pub fn places(&self) -> impl Iterator<Item = (Place, IpAddr)> {
        self.places.iter().cloned()
    }

    /// Starts `command` in `place`. It dies with the lab, and with this process.
    ///
    /// # Errors
    /// Where there is no such place or program, or the kernel refuses.
    pub fn spawn(&self, place: &Place, command: &Command) -> Result<LabProcess, LabError> {
        let network = self
            .networks
            .get(place)
            .ok_or_else(|| unknown_place(place, self.places().map(|(place, _)| place)))?;
        self.processes
            .spawn(network, command)
            .map_err(|source| LabError::Process {
                place: place.to_string(),
                source,
            })
    }
}

/// A running lab as a fabric: its places are there already, and stay.
#[derive(Debug)]
pub struct AttachedFabric {
    lab: AttachedLab,
    program: PathBuf,
}

impl AttachedFabric {
    /// Starts workers of this program in `lab`.
    ///
    /// # Errors
    /// Where this program's own file is not known.
    pub fn new(lab: AttachedLab) -> Result<Self, FabricError> {
        let program = std::env::current_exe()
            .map_err(|error| FabricError::Unable(format!("can't find encapbench's own file: {error}")))?;
        Ok(Self { lab, program })
    }
}

impl Fabric for AttachedFabric {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        Ok(())
    }

    async fn launch(&mut self, place: &Place) -> Result<Transport, FabricError> {
        let process = self.lab.spawn(place, &worker_command(&self.program));
        transport(place, process.map_err(|error| failed(&error))?)
    }

    fn address(&self, _: &crate::scenario::Path, place: &Place) -> Result<IpAddr, FabricError> {
        self.lab
            .setup
            .address(place)
            .map(IpAddr::V4)
            .ok_or_else(|| FabricError::Failed(format!("the lab has no place {place}")))
    }

    fn observe(&self, _: &crate::scenario::Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        Ok(Vec::new())
    }

    fn setup(&self) -> Option<Setup> {
        Some(self.lab.setup.clone())
    }

    fn describe(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("kind".to_owned(), "lab".to_owned())])
    }

    async fn release(&mut self) {}
}

fn same_user_namespace(pid: u32) -> bool {
    let link = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    link("self") == link(&pid.to_string())
}

fn process_of(run: &str) -> Result<u32, AttachError> {
    if let Ok(pid) = run.parse() {
        return Ok(pid);
    }
    let file = Path::new(run).join("run.lock");
    fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.lines().next()?.trim().parse().ok())
        .ok_or_else(|| AttachError::NoRun {
            run: run.to_owned(),
            file: file.display().to_string(),
        })
}

/// The newest lab's description: while one is taken down the next may be up already.
fn describe(pid: u32) -> Result<Description, AttachError> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => AttachError::NoLab(pid),
        _ => AttachError::Process { pid, source },
    })?;
    let mut found = Err(AttachError::NoLab(pid));
    for entry in entries.flatten() {
        let path = entry.path();
        let named = fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().starts_with(&format!("/memfd:{FILE}")));
        if !named {
            continue;
        }
        let text = fs::read(&path).map_err(|source| AttachError::Process { pid, source })?;
        found = serde_json::from_slice(&text).map_err(|source| AttachError::Description { pid, source });
    }
    found
}
