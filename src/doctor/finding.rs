//! What the doctor says: data of `evidence`, for reports to show.

pub use crate::evidence::{Diagnosis, Finding, Severity, Step};
