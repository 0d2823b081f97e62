//! encapbench measures what a network encapsulation costs, and says whether a cluster is fit for production.
//!
//! The map of the house. Rooms stand in one order, and each may import only those above it; a test reads the
//! `use crate::` lines and fails on any other (`tests/rooms.rs`). *Pure* rooms touch no socket, clock, process
//! or runtime: they take data and return data.
//!
//! | room | what lives there | pure |
//! | --- | --- | --- |
//! | [`units`] | newtypes of every quantity | yes |
//! | [`scenario`] | the scenario file, its validation, and the plan it expands to | yes |
//! | [`evidence`] | what was seen of a path, and the verdict over it | yes |
//! | [`iperf3`] | `iperf3::wire`: the protocol without sockets; `iperf3::{client, server}`: with them | wire |
//! | [`sys`] | the only room with `unsafe`: thin wrappers of system calls | no |
//! | [`measure`] | histograms, intervals, CPU, interface counters, TCP_INFO | no |
//! | [`traffic`] | the data plane, one file a workload | no |
//! | [`run`] | the run folder: events, manifest, trial log, histogram log | no |
//! | [`analysis`] | statistics over a run's trials | yes |
//! | [`gate`] | rules and verdicts | yes |
//! | [`report`] | one file an output | yes |
//! | [`worker`] | the process inside a place: requests in, events out, over stdio | no |
//! | [`tunnel`] | tunnels in user space, for what a kernel lacks: ESP, WireGuard, IP in IP | no |
//! | [`fabric`] | what provides places and launches workers in them | no |
//! | [`coordinator`] | drives a plan over a fabric | no |
//! | [`doctor`] | what is wrong with a set-up, why, and what to do | no |
//! | [`cli`] | one file a subcommand | no |

pub mod analysis;
pub mod cli;
pub mod coordinator;
pub mod doctor;
pub mod evidence;
pub mod fabric;
pub mod gate;
pub mod iperf3;
pub mod measure;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sys;
pub mod traffic;
#[cfg(feature = "lab")]
pub mod tunnel;
pub mod units;
pub mod worker;

#[cfg(test)]
mod skip;
