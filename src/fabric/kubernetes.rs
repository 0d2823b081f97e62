//! Kubernetes: one pod a place, workers in them by `exec`, addresses from the pools that a path's `vxlan-mode` wants.
//!
//! Nothing of production is changed: pods are labelled and end by themselves, pools of our own are selected by no
//! node, and changing a pool of others takes an option of its own. What a run made it removes when it ends, whichever
//! way; `encapbench cleanup` removes what a killed one left.

mod api;
mod coordinated;
mod describe;
mod exec;
#[cfg(test)]
mod fake;
mod objects;
mod pods;
mod pools;
mod read;
mod retry_after;
mod rights;
mod services;
mod setup;
mod submariner;
mod sweep;
mod wait;

pub use api::{ApiError, Cluster, Patience};
pub use coordinated::KubernetesFabric;
pub use objects::{PodPlan, RunMark, default_image, pod, pod_name, pool};
pub use read::read;
pub use rights::{Needs, Right, Subject, each_missing, explain, grant, missing, needed, rbac};
pub use sweep::{Left, LeftObject, left, sweep};
pub use wait::{PodState, state};

use super::FabricError;
use std::fmt::Write as _;

impl From<ApiError> for FabricError {
    fn from(error: ApiError) -> Self {
        match error {
            // Something is in the way that the user can put right: a context, a right, a quota, a policy.
            ApiError::Connect { .. } | ApiError::Silent { .. } => Self::Unable(error.to_string()),
            ApiError::Refused { .. } if matches!(error.code(), Some(400..=499)) => {
                Self::Unable(error.to_string())
            }
            ApiError::Refused { .. } | ApiError::Broken { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// Objects as one YAML stream, as `kubectl apply -f -` reads it.
///
/// # Errors
/// Where an object can't be written as YAML, which none of ours can't.
pub fn yaml(objects: &[serde_json::Value]) -> Result<String, FabricError> {
    let mut text = String::new();
    for object in objects {
        let one = serde_saphyr::to_string(object)
            .map_err(|error| FabricError::Failed(format!("can't write an object as YAML: {error}")))?;
        // Writing into a String does not fail.
        let _ = write!(text, "---\n{}\n", one.trim_end());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod whole_tests;
