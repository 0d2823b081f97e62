//! Tunnels in user space, for what a kernel lacks: WireGuard (boringtun), ESP in UDP, IP in IP. Each is a process in a
//! node's network namespace between a TUN device and a socket.
//!
//! Their figures are those of these implementations, on one thread, with two copies through the kernel a packet. They
//! are never those of the kernel's own, and every place that shows them says so.

pub mod esp;
mod inner;
mod process;
mod spec;

pub use process::{TunnelError, run};
pub use spec::{EspKeys, PeerKind, PeerSpec, READY, TunnelSpec, WireguardKeys, hex, public_key};
