//! The doctor: what is wrong with a set-up, where, why it matters, what to do about it, and how to see that it helped.
//!
//! [`examine`] looks into every place and probes the paths between them through workers; all that it saw is an
//! [`Examination`]. [`diagnose`] is pure: it compares that with what the set-up should be, one check a file in
//! `checks/`. A probe that fails is a symptom; it becomes a finding of its own only where nothing found explains it.

mod checks;
mod examination;
mod examine;
mod fib;
mod filter;
mod finding;
pub mod machine;
mod schema;
mod show;

pub use checks::{diagnose, of_clusters};
pub use examination::{Examination, KnockResult, ProbeResult};
pub use examine::{ExamineError, examine};
pub use finding::{Diagnosis, Finding, Severity, Step};
pub use schema::json_schema;
pub use show::text;
