//! The run folder: its manifest, its trial log, its events.
//!
//! `manifest.json` and `trials.jsonl` are the truth; all else in the folder is made from them and can be made again.

mod event;
mod manifest;
mod trial;

pub use event::Event;
pub use manifest::{CongestionChoice, Host, Manifest, ManifestError};
pub use trial::{Outcome, Trial};
