//! Tunnels that the kernel lacks: a TUN device each, for a process in user space to serve.

use super::{NetlinkError, Site, step};
use crate::fabric::lab::namespaces;
use crate::sys::tun;
use crate::tunnel::TunnelSpec;
use std::io;
use std::net::UdpSocket;

/// How the tunnels of one kind are made in a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// By the kernel.
    InKernel,
    /// By processes of user space, since the kernel lacks it.
    InUserSpace {
        /// What does it.
        by: &'static str,
    },
    /// Not at all: neither does the kernel have it, nor can user space make it here.
    Missing {
        /// Why, and what to do about it.
        why: String,
    },
}

/// The tunnels of a lab that are not there by netlink alone.
#[derive(Debug, Default)]
pub(in crate::fabric::lab) struct UserSpace {
    /// Processes to start, each with the index of its node.
    pub(in crate::fabric::lab) tunnels: Vec<(usize, TunnelSpec)>,
    /// Sockets by which the kernel takes ESP out of UDP, as long as they are open.
    pub(super) sockets: Vec<UdpSocket>,
}

/// Makes the TUN device `name`, up, to be served by a process later. `Ok(Err)`: this machine has none to give.
pub(super) async fn add_tun(site: &Site, name: &str, mtu: u32) -> Result<Result<u32, String>, NetlinkError> {
    namespaces::enter_network(&site.namespace)?;
    let opened = tun::open(name).and_then(|device| tun::keep(&device));
    if let Err(error) = opened {
        return Ok(Err(missing(&error)));
    }
    let device = site.index(name).await?;
    site.route
        .set_link_mtu_by_index(device, mtu)
        .await
        .map_err(site.failed(format!("set the MTU of {name}")))?;
    site.up(device, name).await?;
    Ok(Ok(device))
}

/// What to do where no TUN device can be had.
fn missing(error: &io::Error) -> String {
    let file = tun::FILE;
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => format!(
            "user space needs {file}, which is not there: load its module (`modprobe tun`), or give the container \
             the device (`--device {file}`)"
        ),
        Some(libc::EACCES | libc::EPERM) => format!(
            "user space needs {file}, which this user may not use ({error}): run as root, or let everyone open it \
             (`chmod 666 {file}`)"
        ),
        _ => format!("user space needs {file}: {error}"),
    }
}

/// Whether the kernel refused a link since it lacks its kind.
pub(super) fn lacks(error: &nlink::Error) -> bool {
    error.is_not_supported() || matches!(error.errno().map(i32::abs), Some(libc::EOPNOTSUPP | libc::ENOENT))
}

/// A device that the kernel may lack: its index, or `None`.
pub(super) async fn add_if_there(
    site: &Site,
    name: &str,
    link: impl nlink::netlink::link::LinkConfig,
) -> Result<Option<u32>, NetlinkError> {
    use nlink::netlink::link::LinkCreateExt as _;
    match site.route.add_link(link.up()).await {
        Ok(()) => Ok(Some(site.index(name).await?)),
        Err(error) if lacks(&error) => Ok(None),
        Err(error) => Err(step(format!("make {name}"), &site.name, error)),
    }
}
