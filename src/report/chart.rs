//! Charts, one question each.

use super::{Inputs, view::View};

/// A chart.
pub(super) struct Drawing;

pub(super) fn draw_all(_: &Inputs<'_>, _: &View) -> Vec<Drawing> {
    Vec::new()
}
#[cfg(feature = "plots")]
pub(super) fn files(_: &Drawing) -> Result<Vec<super::ReportFile>, super::ReportError> {
    Ok(Vec::new())
}
