//! The worker: the process inside a place. Requests come in as JSON lines on stdin, messages go out as JSON lines on
//! stdout, logs go to stderr. That one transport serves every fabric: the lab spawns it in a network namespace,
//! Kubernetes reaches it through `exec`, plain hosts through `ssh`.

mod jobs;
mod process;
pub mod protocol;
mod standby;
mod throughput;

pub use process::{WorkerError, run};
pub use standby::stand_by;
