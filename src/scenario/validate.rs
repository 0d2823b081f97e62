//! What must hold of a scenario as a whole, beyond each element being readable. Everything that is wrong is found,
//! not only the first of it.

mod cases;
mod faults;
mod gates;
mod hosts;
mod kubernetes;
mod lab;
mod paths;

use super::{
    Scenario,
    problem::{Problem, Step, suggest},
};
use crate::units::Span;
use std::collections::BTreeSet;
use std::time::Duration;

/// All that is wrong with `scenario`; nothing if it can be planned.
pub fn validate(scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Problems::default();
    if let Some(fault) = name_fault(&scenario.name) {
        problems.say(
            &["name".into()],
            format!("a scenario's name {fault}: it becomes part of a folder's name"),
            Some("for instance `calico-vxlan`".to_owned()),
        );
    }
    lab::check(scenario, &mut problems);
    hosts::check(scenario, &mut problems);
    kubernetes::check(scenario, &mut problems);
    cases::check(scenario, &mut problems);
    gates::check(scenario, &mut problems);
    problems.0
}

/// All that is wrong with the gates of `scenario`, as those of a policy file.
pub(super) fn validate_gates(scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Problems::default();
    if scenario.gates.is_empty() {
        problems.say(&["gates".into()], empty("gates"), None);
    }
    gates::check_gates(scenario, &mut problems);
    problems.0
}

/// What was found so far.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn say(&mut self, at: &[Step], message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.0.push(Problem {
            at: at.to_vec(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Complains unless `name` is one of `known`; says whether it is.
    fn known(&mut self, at: &[Step], what: &str, plural: &str, name: &str, known: &[&str]) -> bool {
        let found = known.contains(&name);
        if !found {
            self.say(
                at,
                format!("no {what} is named `{name}`"),
                suggest(name, plural, known),
            );
        }
        found
    }

    /// Complains of every name of a list that was there before.
    fn unique<'a>(&mut self, list: &'static str, names: impl IntoIterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                self.say(
                    &[list.into(), index.into(), "name".into()],
                    format!("a name is unique, but `{name}` is the name of more than one of the {list}"),
                    None,
                );
            }
        }
    }

    /// Complains unless `least <= span <= most`.
    fn span(&mut self, at: &[Step], what: &str, span: Span, least: Duration, most: Duration) {
        if span.get() < least || span.get() > most {
            self.say(
                at,
                format!(
                    "{what} must be from {} to {}, not {}",
                    Span(least),
                    in_hours(most),
                    in_hours(span.get())
                ),
                None,
            );
        }
    }

    /// Complains unless `value` is in `range`.
    fn number(&mut self, at: &[Step], what: &str, value: u64, range: std::ops::RangeInclusive<u64>) {
        if !range.contains(&value) {
            self.say(
                at,
                format!(
                    "{what} must be from {} to {}, not {value}",
                    range.start(),
                    range.end()
                ),
                None,
            );
        }
    }
}

/// Whole hours as hours, whole minutes as minutes, the rest as it is: `24h`, `10min`.
fn in_hours(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        _ if time.subsec_nanos() != 0 || seconds == 0 => Span(time).to_string(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}min", seconds / 60),
        _ => Span(time).to_string(),
    }
}

/// What a name of a scenario, cluster or node must be and isn't.
fn name_fault(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 {
        Some("has 1 to 63 characters")
    } else if !name.chars().all(plain) {
        Some("has only letters, digits, `-`, `_` and `.`")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("begins with a letter or digit")
    } else {
        None
    }
}

/// What a name of a path, workload or gate must be and isn't. Blanks and most else is allowed, since people read it.
fn title_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.chars().count() > 100 {
        Some("has 1 to 100 characters")
    } else if name.trim() != name || name.chars().any(char::is_control) {
        Some("has no blank at either end and no control character")
    } else {
        None
    }
}

/// The same for names that `--only` matches: without the characters of a pattern.
fn case_name_fault(name: &str) -> Option<&'static str> {
    title_fault(name).or_else(|| {
        name.contains(['/', '*', '?', '[', ']'])
            .then_some("has none of `/ * ? [ ]`, which mean something in a pattern of --only")
    })
}

/// What to say where a list that needs elements has none.
fn empty(what: &str) -> String {
    format!("`{what}` needs at least one element")
}
