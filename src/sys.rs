//! Thin wrappers of system calls: the only room with `unsafe`.

pub mod clock;
pub mod stop;
pub mod usage;
