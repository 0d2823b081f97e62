//! Plain machines, reached by the `ssh` program: places are hosts, and a worker's stdio is an ssh session's.
//!
//! Each host has one connection, held by a *guard*: a line of shell on the host that makes a folder for encapbench's
//! binary and removes it when its input ends. The kernel ends that input however the coordinator goes, so that even
//! `kill -9` leaves neither process nor file on a host. Workers are further sessions of the same connection.

mod blame;
mod session;

use super::{Fabric, FabricError, Transport};
use crate::{
    evidence::{DeviceRole, ObservationRequest, RouteQuery},
    scenario::{Case, Host, Hosts, Path, Place, Ssh},
};
use session::{Binary, Session};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path as FilePath, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::{sync::oneshot, task::JoinSet};

/// Connections that are set up at once: sshd begins to refuse at 10 (MaxStartups), and hosts may be behind one jump host.
const AT_ONCE: usize = 8;

/// A host with all that is said of reaching it.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    address: IpAddr,
    device: Option<String>,
    ssh: Ssh,
    folder: String,
}

impl Target {
    /// What ssh is given as the host.
    fn host(&self) -> &str {
        self.ssh.host.as_deref().unwrap_or(&self.name)
    }

    /// How a person would write it.
    fn written(&self) -> String {
        let user = self
            .ssh
            .user
            .as_ref()
            .map_or_else(String::new, |user| format!("{user}@"));
        let port = self
            .ssh
            .port
            .map_or_else(String::new, |port| format!(" -p {port}"));
        format!("{user}{}{port}", self.host())
    }
}

/// The hosts of a run.
#[derive(Debug)]
pub struct HostsFabric {
    targets: BTreeMap<String, Target>,
    sessions: BTreeMap<String, Session>,
    program: PathBuf,
}

impl HostsFabric {
    /// The hosts that `cases` need. Reaches none yet.
    ///
    /// # Errors
    /// Where a case names a place that is no host.
    pub fn new(spec: &Hosts, cases: &[Case]) -> Result<Self, FabricError> {
        let needed: BTreeSet<&Place> = cases.iter().flat_map(|case| case.path.places()).collect();
        let mut targets = BTreeMap::new();
        for place in needed {
            let host = spec
                .nodes
                .iter()
                .find(|host| matches!(place, Place::Node(name) if *name == host.name))
                .ok_or_else(|| FabricError::Scenario(format!("{place} is none of the scenario's hosts")))?;
            targets.insert(host.name.clone(), target(spec, host));
        }
        Ok(Self {
            targets,
            sessions: BTreeMap::new(),
            // Not the file's name: it may have been replaced since this process began.
            program: PathBuf::from("/proc/self/exe"),
        })
    }

    /// Copies another file than this program's own, as a test must.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    fn target(&self, place: &Place) -> Result<&Target, FabricError> {
        match place {
            Place::Node(name) => self.targets.get(name),
            Place::Pod { .. } => None,
        }
        .ok_or_else(|| FabricError::Failed(format!("there is no host {place}")))
    }

    fn question(&self, from: &Place, to: &Place) -> Result<(Place, ObservationRequest), FabricError> {
        let target = self.target(from)?;
        let request = ObservationRequest {
            underlay_of: None,
            devices: target
                .device
                .iter()
                .map(|device| (device.clone(), DeviceRole::Underlay))
                .collect(),
            routes: vec![RouteQuery {
                destination: self.target(to)?.address,
                source: Some(target.address),
                input_device: None,
            }],
            route_devices: true,
        };
        Ok((from.clone(), request))
    }
}

fn target(spec: &Hosts, host: &Host) -> Target {
    Target {
        name: host.name.clone(),
        address: host.address,
        device: host.device.clone(),
        ssh: host.ssh.or(&spec.ssh),
        folder: spec.folder.clone(),
    }
}

impl Fabric for HostsFabric {
    /// Connects to the hosts that are not connected yet; a run's first block does that, the others find it done.
    async fn prepare(&mut self) -> Result<(), FabricError> {
        self.sessions.retain(|_, session| session.is_alive());
        let mut waiting: Vec<Target> = self
            .targets
            .values()
            .filter(|target| !self.sessions.contains_key(&target.name))
            .cloned()
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let binary = Arc::new(read(&self.program)?);
        waiting.reverse();
        let mut opening = JoinSet::new();
        let mut refused = Vec::new();
        loop {
            while opening.len() < AT_ONCE
                && let Some(target) = waiting.pop()
            {
                let binary = Arc::clone(&binary);
                opening.spawn_blocking(move || Session::open(target, &binary));
            }
            match opening.join_next().await {
                None => break,
                Some(Ok(Ok(session))) => {
                    self.sessions.insert(session.name().to_owned(), session);
                }
                Some(Ok(Err(error))) => refused.push(error),
                Some(Err(error)) => refused.push(format!("a connection's set-up broke off: {error}")),
            }
        }
        if refused.is_empty() {
            return Ok(());
        }
        refused.sort();
        Err(FabricError::Unable(refused.join("\n")))
    }

    async fn launch(&mut self, place: &Place) -> Result<Transport, FabricError> {
        let target = self.target(place)?;
        let session = self
            .sessions
            .get(&target.name)
            .ok_or_else(|| FabricError::Failed(format!("there is no connection to {place}")))?;
        let broken = |what: &str| FabricError::Failed(format!("can't start ssh to {place}: {what}"));
        let mut process = tokio::process::Command::from(session.worker())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken(&error.to_string()))?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(broken("it has no pipes"));
        };
        // Ending ssh ends the session, by which the worker's input ends.
        let (kill, killed) = oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                _ = process.wait() => {}
                _ = killed => {
                    // It may have ended meanwhile.
                    let _ = process.kill().await;
                }
            }
        });
        Ok(Transport {
            input: Box::new(input),
            output: Box::new(output),
            errors: Box::new(errors),
            kill: Box::new(move || {
                // Nobody listens any more once the process has ended.
                let _ = kill.send(());
            }),
        })
    }

    fn address(&self, _: &Path, place: &Place) -> Result<IpAddr, FabricError> {
        self.target(place).map(|target| target.address)
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        Ok(vec![
            self.question(&path.from, &path.to)?,
            self.question(&path.to, &path.from)?,
        ])
    }

    fn describe(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from([("kind".to_owned(), "hosts".to_owned())]);
        for target in self.targets.values() {
            facts.insert(format!("address {}", target.name), target.address.to_string());
            facts.insert(format!("ssh {}", target.name), target.written());
            if let Some(session) = self.sessions.get(&target.name) {
                facts.insert(format!("system {}", target.name), session.system().to_owned());
                facts.insert(format!("encapbench {}", target.name), session.origin());
            }
        }
        facts
    }

    /// Connections stay for the next block; dropping the fabric ends them.
    async fn release(&mut self) {}
}

impl Drop for HostsFabric {
    fn drop(&mut self) {
        // All guards clean up at once; each is waited for after.
        for session in self.sessions.values_mut() {
            session.hang_up();
        }
    }
}

fn read(program: &FilePath) -> Result<Binary, FabricError> {
    Binary::read(program)
        .map_err(|error| FabricError::Unable(format!("can't read encapbench's own file: {error}")))
}
