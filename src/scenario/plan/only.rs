//! The patterns of `--only`.

use super::PlanError;
use crate::scenario::{Case, problem::nearest};
use std::collections::BTreeSet;

/// A pattern. With a `/` it is matched against `path/workload`; without, it matches a case whose path, workload or
/// `path/workload` it matches whole (`tcp` is not `tcp-crr`). `*`, `?` and `[…]` as in a shell; `*` crosses `/`.
pub(super) struct Only {
    text: String,
    pattern: glob::Pattern,
}

impl Only {
    pub(super) fn parse(text: &str) -> Result<Self, PlanError> {
        let pattern = glob::Pattern::new(text).map_err(|error| PlanError::Pattern {
            pattern: quoted(text),
            reason: error.msg.to_owned(),
        })?;
        Ok(Self {
            text: text.to_owned(),
            pattern,
        })
    }

    pub(super) fn matches(&self, case: &Case) -> bool {
        let (path, workload) = (&case.path.name, &case.workload.name);
        self.pattern.matches(&full_name(case))
            || !self.text.contains('/') && (self.pattern.matches(path) || self.pattern.matches(workload))
    }

    /// That it matches none of `cases`.
    pub(super) fn no_match(&self, cases: &[Case]) -> PlanError {
        let full: Vec<String> = cases.iter().map(full_name).collect();
        let names: BTreeSet<&str> = cases
            .iter()
            .flat_map(|case| [case.path.name.as_str(), case.workload.name.as_str()])
            .chain(full.iter().map(String::as_str))
            .collect();
        PlanError::NoMatch {
            pattern: quoted(&self.text),
            hint: nearest(&self.text, names)
                .map_or_else(String::new, |near| format!(" (did you mean {}?)", quoted(near))),
            available: full
                .iter()
                .map(|name| quoted(name))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

fn full_name(case: &Case) -> String {
    format!("{}/{}", case.path.name, case.workload.name)
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    format!("'{text}'")
}
