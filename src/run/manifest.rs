//! `manifest.json`: what was to be measured, and the environment it was measured in.

use crate::{
    measure::machine::Host,
    scenario::{Case, Plan, Scenario},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of this shape.
    #[error("the manifest can't be read: {0}")]
    Parse(#[from] serde_json::Error),
    /// The same, of a file that another encapbench wrote.
    #[error(
        "the manifest can't be read: {source}; encapbench {wrote} wrote it, this is {here}: use that version or a newer one"
    )]
    Other {
        /// What wrote it.
        wrote: String,
        /// This version.
        here: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// Not text at all.
    #[error("the manifest is not UTF-8 text")]
    NotText,
    /// A case whose name would break files, or that is not the only one of its name.
    #[error(
        "the case {slug:?} {fault}: slugs are of a to z, 0 to 9, dot, underscore and dash, and each case has its own"
    )]
    Slug {
        /// Its slug.
        slug: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// Of a format that this version does not know.
    #[error("the manifest has format {found}, this encapbench reads up to {known}: use a newer one")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
}

/// The congestion control that all workers use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CongestionChoice {
    /// What was wanted, the first best.
    #[serde(default)]
    pub wanted: Vec<String>,
    /// What all workers could set.
    #[serde(default)]
    pub used: Option<String>,
}

/// `manifest.json`. Written before the first trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The run folder's format: [`Self::FORMAT`].
    pub format: u32,
    /// encapbench's version.
    #[serde(default)]
    pub encapbench: String,
    /// When the run began.
    pub started: Timestamp,
    /// The command line, to do it again.
    #[serde(default)]
    pub command: Vec<String>,
    /// The scenario as resolved, overrides applied.
    pub scenario: Scenario,
    /// The seed that the order of trials is drawn from (ChaCha8).
    #[serde(default)]
    pub seed: u64,
    /// The cases, in the plan's order.
    pub cases: Vec<Case>,
    /// Gates that were left out by `--only`, with the reason.
    #[serde(default)]
    pub skipped_gates: BTreeMap<String, String>,
    /// The coordinator's machine.
    #[serde(default)]
    pub host: Host,
    /// Congestion control.
    #[serde(default)]
    pub congestion: CongestionChoice,
    /// What the fabric tells of itself: for the lab, whether it is rootless, and the sysctls that were set.
    #[serde(default)]
    pub fabric: BTreeMap<String, String>,
}

impl Manifest {
    /// The format that this version writes.
    pub const FORMAT: u32 = 1;

    /// The plan that it was made from.
    pub fn plan(&self) -> Plan {
        Plan {
            scenario: self.scenario.clone(),
            cases: self.cases.clone(),
            blocks: self.scenario.blocks,
            seed: self.seed,
            skipped_gates: self.skipped_gates.clone(),
        }
    }

    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// Where it is no JSON of this shape or of a newer format, or two cases have one slug.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            encapbench: String,
        }
        let text = std::str::from_utf8(text).map_err(|_| ManifestError::NotText)?;
        // Some editors begin a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        let head: Head = serde_json::from_str(text)?;
        if head.format > Self::FORMAT {
            return Err(ManifestError::Newer {
                found: head.format,
                known: Self::FORMAT,
            });
        }
        let here = env!("CARGO_PKG_VERSION");
        let manifest: Self = serde_json::from_str(text).map_err(|source| {
            if head.encapbench.is_empty() || head.encapbench == here {
                ManifestError::Parse(source)
            } else {
                ManifestError::Other {
                    wrote: head.encapbench,
                    here,
                    source,
                }
            }
        })?;
        manifest.check_slugs()?;
        Ok(manifest)
    }

    /// Slugs join trials with their cases, name files and tag lines of logs.
    fn check_slugs(&self) -> Result<(), ManifestError> {
        let mut seen = BTreeSet::new();
        for case in &self.cases {
            let bare = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            let fault = if case.slug.is_empty() || !case.slug.chars().all(bare) {
                "has a slug that can't be one"
            } else if !seen.insert(case.slug.as_str()) {
                "stands twice"
            } else {
                continue;
            };
            return Err(ManifestError::Slug {
                slug: case.slug.clone(),
                fault,
            });
        }
        Ok(())
    }
}
