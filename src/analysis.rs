//! Statistics over a run's trials. Pure.

mod summary;

pub use summary::{CaseSummary, Estimate, Row, Summary, TrialPoint};
