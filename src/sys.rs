//! Thin wrappers of system calls: the only room with `unsafe`.

pub mod clock;
pub mod descriptors;
pub mod event;
pub mod flow_label;
pub mod fork;
pub mod namespace;
pub mod sctp;
pub mod socket;
pub mod stop;
pub mod tun;
pub mod udp;
pub mod usage;
pub mod watch;
