//! The process of a tunnel: takes packets from its TUN device and sends them wrapped, takes wrapped ones from its
//! sockets and gives their inside to the device, on one thread.

use super::esp::{EspError, Inbound, Outbound};
use super::inner;
use super::spec::{PeerKind, PeerSpec, TunnelSpec, bytes};
use crate::sys::tun;
use crate::units::Cidr4;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The longest packet there is.
const ROOM: usize = 1 << 16;
/// Packets handled of one descriptor before the others get their turn.
const TURN: usize = 64;
/// How often WireGuard's timers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// What a socket may hold, in bytes; the kernel may allow less.
const BUFFER: usize = 4 << 20;

/// Why a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The TUN device can't be had.
    #[error("can't open the TUN device {device} by {}", tun::FILE)]
    Device {
        /// Its name.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No socket to a peer.
    #[error("can't make a socket to {peer}")]
    Socket {
        /// The peer's address.
        peer: Ipv4Addr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key that is none.
    #[error("the keys of {0} are malformed")]
    Keys(Ipv4Addr),
    /// A security association that can't be used.
    #[error("ESP with {peer} can't be used")]
    Esp {
        /// The peer's address.
        peer: Ipv4Addr,
        /// Why.
        #[source]
        source: EspError,
    },
    /// Waiting for packets failed.
    #[error("can't wait for packets")]
    Wait(#[source] io::Error),
}

/// Carries packets until standard input ends. Calls `ready` once packets can pass.
///
/// # Errors
/// Where the device, a socket or a key can't be had, or sequence numbers are used up.
pub fn run(spec: &TunnelSpec, ready: impl FnOnce()) -> Result<(), TunnelError> {
    let device = tun::open(&spec.device).map_err(|source| TunnelError::Device {
        device: spec.device.clone(),
        source,
    })?;
    let mut peers = spec
        .peers
        .iter()
        .zip(1_u32..)
        .map(|(peer, index)| Peer::new(spec, peer, index))
        .collect::<Result<Vec<_>, _>>()?;
    ready();
    let mut packet = vec![0; ROOM];
    let mut wrapped = Vec::with_capacity(ROOM);
    let stdin = io::stdin();
    loop {
        let ready = wait(&device, &peers, stdin.as_fd())?;
        if ready.stdin && !more(&stdin) {
            return Ok(());
        }
        for (peer, readable) in peers.iter_mut().zip(&ready.peers) {
            peer.tick(&mut wrapped);
            if *readable {
                peer.receive(&device, &mut packet, &mut wrapped);
            }
        }
        if ready.device {
            for _ in 0..TURN {
                let Ok(length) = rustix::io::read(&device, &mut packet) else {
                    break;
                };
                let Some(inner) = inner::read(&packet[..length]) else {
                    continue;
                };
                let behind = |peer: &&mut Peer| contains(&peer.inner, inner.destination);
                if let Some(peer) = peers.iter_mut().find(behind) {
                    peer.send(&packet[..inner.length], &mut wrapped)?;
                }
            }
        }
    }
}

struct Ready {
    device: bool,
    stdin: bool,
    peers: Vec<bool>,
}

fn wait(device: &OwnedFd, peers: &[Peer], stdin: BorrowedFd<'_>) -> Result<Ready, TunnelError> {
    let mut fds = vec![
        PollFd::new(device, PollFlags::IN),
        PollFd::from_borrowed_fd(stdin, PollFlags::IN),
    ];
    fds.extend(peers.iter().map(|peer| PollFd::new(&peer.socket, PollFlags::IN)));
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: TICK.as_nanos() as _,
    };
    match poll(&mut fds, Some(&tick)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(TunnelError::Wait(error.into())),
    }
    let mut readable = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(Ready {
        device: readable.next().unwrap_or(false),
        stdin: readable.next().unwrap_or(false),
        peers: readable.collect(),
    })
}

/// Whether standard input goes on. What is said there is of no interest.
fn more(stdin: &io::Stdin) -> bool {
    stdin.lock().read(&mut [0; 64]).is_ok_and(|read| read > 0)
}

fn contains(ranges: &[Cidr4], address: Ipv4Addr) -> bool {
    ranges.iter().any(|range| range.contains(address))
}

/// Another end of the tunnel.
struct Peer {
    address: Ipv4Addr,
    inner: Vec<Cidr4>,
    socket: Socket,
    wrapping: Wrapping,
}

enum Wrapping {
    Esp(Box<(Outbound, Inbound)>),
    Wireguard(Box<Tunn>),
    Ipip,
}

impl Peer {
    fn new(tunnel: &TunnelSpec, spec: &PeerSpec, index: u32) -> Result<Self, TunnelError> {
        let socket =
            connect(tunnel.local, spec.address, tunnel.port).map_err(|source| TunnelError::Socket {
                peer: spec.address,
                source,
            })?;
        let malformed = || TunnelError::Keys(spec.address);
        let wrapping = match &spec.kind {
            PeerKind::Ipip => Wrapping::Ipip,
            PeerKind::Esp(keys) => {
                let material = |text: &str| bytes::<36>(text).ok_or_else(malformed);
                let failed = |source| TunnelError::Esp {
                    peer: spec.address,
                    source,
                };
                let outbound = Outbound::new(keys.spi_out, &material(&keys.key_out)?).map_err(failed)?;
                let inbound = Inbound::new(keys.spi_in, &material(&keys.key_in)?).map_err(failed)?;
                Wrapping::Esp(Box::new((outbound, inbound)))
            }
            PeerKind::Wireguard(keys) => {
                let private: [u8; 32] = bytes(&keys.private).ok_or_else(malformed)?;
                let public: [u8; 32] = bytes(&keys.public).ok_or_else(malformed)?;
                Wrapping::Wireguard(Box::new(Tunn::new(
                    StaticSecret::from(private),
                    PublicKey::from(public),
                    None,
                    Some(keys.keepalive).filter(|seconds| *seconds > 0),
                    index,
                    None,
                )))
            }
        };
        Ok(Self {
            address: spec.address,
            inner: spec.inner.clone(),
            socket,
            wrapping,
        })
    }

    /// Sends a packet of the device.
    fn send(&mut self, packet: &[u8], wrapped: &mut Vec<u8>) -> Result<(), TunnelError> {
        match &mut self.wrapping {
            Wrapping::Ipip => transmit(&self.socket, packet),
            Wrapping::Esp(pair) => {
                pair.0.seal(packet, wrapped).map_err(|source| TunnelError::Esp {
                    peer: self.address,
                    source,
                })?;
                transmit(&self.socket, wrapped);
            }
            Wrapping::Wireguard(tunnel) => {
                wrapped.resize(ROOM, 0);
                if let TunnResult::WriteToNetwork(datagram) = tunnel.encapsulate(packet, wrapped) {
                    transmit(&self.socket, datagram);
                }
            }
        }
        Ok(())
    }

    /// Takes what has come, and gives what is in it to the device. What is not authentic, or not from an address behind
    /// this peer, is dropped.
    fn receive(&mut self, device: &OwnedFd, packet: &mut [u8], wrapped: &mut Vec<u8>) {
        for _ in 0..TURN {
            let Some(length) = take(&self.socket, packet) else {
                return;
            };
            let received = &mut packet[..length];
            let allowed = &self.inner;
            let deliver = |inside: &[u8]| {
                if let Some(inner) = inner::read(inside)
                    && contains(allowed, inner.source)
                {
                    // A full device drops, as any does.
                    let _ = rustix::io::write(device, &inside[..inner.length]);
                }
            };
            match &mut self.wrapping {
                Wrapping::Ipip => {
                    // A raw socket gives the outer header, too.
                    if let Some(outer) = inner::read(received) {
                        deliver(&received[outer.header..outer.length]);
                    }
                }
                Wrapping::Esp(pair) => match pair.1.open(received) {
                    Ok(inside) => inside.into_iter().for_each(deliver),
                    Err(error) => tracing::debug!("dropped a packet of {}: {error}", self.address),
                },
                Wrapping::Wireguard(tunnel) => {
                    wrapped.resize(ROOM, 0);
                    let mut result = tunnel.decapsulate(None, received, wrapped);
                    loop {
                        match result {
                            TunnResult::WriteToNetwork(datagram) => {
                                transmit(&self.socket, datagram);
                                // Packets may have waited for the session that this one made.
                                result = tunnel.decapsulate(None, &[], wrapped);
                                continue;
                            }
                            TunnResult::WriteToTunnelV4(inside, _) => deliver(inside),
                            TunnResult::WriteToTunnelV6(..) | TunnResult::Done => {}
                            TunnResult::Err(error) => {
                                tracing::debug!("dropped a packet of {}: {error:?}", self.address);
                            }
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Lets WireGuard renew its session and keep the way open.
    fn tick(&mut self, wrapped: &mut Vec<u8>) {
        if let Wrapping::Wireguard(tunnel) = &mut self.wrapping {
            wrapped.resize(ROOM, 0);
            if let TunnResult::WriteToNetwork(datagram) = tunnel.update_timers(wrapped) {
                transmit(&self.socket, datagram);
            }
        }
    }
}

/// A socket that sends to one peer and hears it only.
fn connect(local: Ipv4Addr, peer: Ipv4Addr, port: Option<u16>) -> io::Result<Socket> {
    let (kind, protocol) = if port.is_some() {
        (Type::DGRAM, Protocol::UDP)
    } else {
        (Type::RAW, Protocol::from(libc::IPPROTO_IPIP))
    };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    // One for each peer, on one port.
    socket.set_reuse_address(true)?;
    // As much as the kernel allows.
    let _ = (
        socket.set_recv_buffer_size(BUFFER),
        socket.set_send_buffer_size(BUFFER),
    );
    let port = port.unwrap_or(0);
    socket.bind(&SockAddr::from(SocketAddrV4::new(local, port)))?;
    socket.connect(&SockAddr::from(SocketAddrV4::new(peer, port)))?;
    Ok(socket)
}

/// Sends, waiting while the NIC's queue is full. What can't be sent is lost, as on any wire: the peer may not be there
/// yet.
fn transmit(socket: &Socket, datagram: &[u8]) {
    if let Err(error) = socket.send(datagram) {
        tracing::debug!("a packet was not sent: {error}");
    }
}

/// What has come, if anything; does not wait.
fn take(socket: &Socket, packet: &mut [u8]) -> Option<usize> {
    loop {
        match rustix::net::recv(socket, &mut *packet, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) => return Some(length),
            // The peer's port was closed when something was sent to it: told once.
            Err(Errno::CONNREFUSED | Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
