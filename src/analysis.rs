//! Statistics over a run's trials. Pure.
//!
//! In: a run's manifest and its trial log. Out: a [`Summary`]. Each method is named where it stands, with its
//! reference.

pub mod compare;
mod drift;
mod explain;
mod figures;
pub mod history;
mod oddities;
mod order_statistics;
mod pairs;
mod summarise;
mod summary;
mod warnings;

pub use compare::compare;
pub use drift::{Trend, trend};
pub use explain::{Explanation, Fact, FactKind, explain};
pub use figures::samples_needed;
pub use order_statistics::{LEAST_FOR_INTERVAL, MedianRanks, estimate, median, median_ranks};
pub use pairs::{
    difference, log_ratio_interval, paired_differences, paired_ratios, relative, smallest_difference,
};
pub use summarise::summarise;
pub use summary::{CaseSummary, Estimate, Flag, FlagKind, Row, Summary, TrialPoint};

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
pub(crate) mod simulation;
#[cfg(test)]
mod tests;
