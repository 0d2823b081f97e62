//! The run folder: its manifest, its trial log, its events.
//!
//! `manifest.json` and `trials.jsonl` are the truth; all else in the folder is made from them and can be made again.

mod event;
mod folder;
mod hlog;
mod manifest;
mod schema;
mod trial;

pub use event::Event;
pub use folder::{Folder, FolderError, LOCK, MANIFEST, Recorded, TRIALS, read, write_whole};
pub use hlog::{LogError, LogInterval, log_intervals, write_log};
pub use manifest::{CongestionChoice, Manifest, ManifestError};
pub use schema::{json_schema_of, manifest_json_schema, trial_json_schema};
pub use trial::{BusyCore, HopCpu, Outcome, PairResult, Trial};
