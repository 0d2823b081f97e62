//! Starts the processes of tunnels in user space, in their nodes, and waits until packets can pass.

use super::netlink::Network;
use super::processes::{Command, LabProcess, Processes, Stdio};
use super::{LabError, Topology};
use crate::scenario::Place;
use crate::tunnel::READY;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one may take to come up, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tunnel's process. It ends when its standard input does, and with the lab.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) node: String,
    pub(super) device: String,
    pub(super) process: LabProcess,
}

/// Starts them all, then waits for each.
pub(super) fn start(
    program: &Path,
    topology: &Topology,
    network: &Network,
    processes: &Processes,
) -> Result<Vec<Tunnel>, LabError> {
    let mut tunnels = Vec::new();
    for (node, spec) in &network.user_space.tunnels {
        let node = topology.nodes[*node].name.clone();
        let failed = |why: String| LabError::Tunnel {
            device: spec.device.clone(),
            node: node.clone(),
            why,
        };
        let place = Place::Node(node.clone());
        let namespace = network
            .places
            .get(&place)
            .ok_or_else(|| failed("its node is not there".to_owned()))?;
        let command = Command::new(program)
            .args(["tunnel"])
            .stdio(Stdio::Piped, Stdio::Piped, Stdio::Inherit)
            .own_group();
        let mut process = processes
            .spawn(namespace, &command)
            .map_err(|source| LabError::Process {
                place: node.clone(),
                source,
            })?;
        let mut text = serde_json::to_string(spec).map_err(|error| failed(error.to_string()))?;
        text.push('\n');
        if let Some(stdin) = process.stdin.take() {
            let mut stdin = File::from(stdin);
            stdin
                .write_all(text.as_bytes())
                .map_err(|error| failed(error.to_string()))?;
            // It ends when this is closed.
            process.stdin = Some(stdin.into());
        }
        tunnels.push(Tunnel {
            node,
            device: spec.device.clone(),
            process,
        });
    }
    let deadline = Instant::now() + PATIENCE;
    for tunnel in &mut tunnels {
        let stdout = tunnel.process.stdout.take();
        if let Err(why) = stdout.map_or(Ok(()), |stdout| wait(stdout, deadline)) {
            return Err(LabError::Tunnel {
                device: tunnel.device.clone(),
                node: tunnel.node.clone(),
                why,
            });
        }
    }
    Ok(tunnels)
}

/// Waits for the word that it is ready.
fn wait(stdout: OwnedFd, deadline: Instant) -> Result<(), String> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut said = Vec::new();
    let mut stdout = File::from(stdout);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it did nothing for {} s", PATIENCE.as_secs()));
        }
        let timeout = Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut buffer = [0; 64];
        match stdout.read(&mut buffer) {
            Ok(0) => return Err("it ended at once; its own words are above".to_owned()),
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(error.to_string()),
        }
        if said.ends_with(b"\n") {
            let line = String::from_utf8_lossy(&said);
            return if line.trim() == READY {
                Ok(())
            } else {
                Err(format!("it said {:?}", line.trim()))
            };
        }
    }
}
