//! From the text of a scenario file to a scenario, or to complaints with lines.

use super::{
    Scenario,
    locate::{Positions, stretch},
    problem::{Complaint, Problem, ScenarioError, Stretch, suggest},
    validate::validate,
};
use serde::de::DeserializeOwned;
use serde_saphyr::{
    Error as YamlError, MessageFormatter, Options, UserMessageFormatter, budget::BudgetBreach,
};

/// The longest file that is read, in bytes.
pub const LONGEST: usize = 1 << 20;

/// Reads a scenario file's `text` and validates it. `file_name` is only shown.
///
/// # Errors
///
/// The first thing that can't be read as a scenario (no YAML, an unknown or missing key, a wrong type), else all
/// that is wrong with the scenario as a whole.
pub fn parse(text: &str, file_name: &str) -> Result<Scenario, ScenarioError> {
    parse_as(text, file_name, validate)
}

/// Reads a file of any model and validates it.
pub(super) fn parse_as<T: DeserializeOwned>(
    text: &str,
    file_name: &str,
    validate: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<T, ScenarioError> {
    let refuse = |complaints| Err(ScenarioError::new(file_name, complaints));
    if text.len() > LONGEST {
        return refuse(vec![Complaint {
            stretch: None,
            source_line: String::new(),
            message: "is longer than 1 MiB, which no scenario is".to_owned(),
            hint: None,
        }]);
    }
    let lines: Vec<&str> = text.lines().collect();
    let complain = |stretch: Option<Stretch>, message, hint| Complaint {
        source_line: stretch
            .and_then(|stretch| lines.get(stretch.line - 1))
            .map_or_else(String::new, |line| (*line).to_owned()),
        stretch,
        message,
        hint,
    };
    let read: T = match serde_saphyr::from_str_with_options(text, options()) {
        Ok(read) => read,
        Err(error) => {
            let (message, hint) = explain(&error);
            let stretch = error
                .location()
                .and_then(|location| stretch(location, usize::try_from(location.span().len()).unwrap_or(1)));
            return refuse(vec![complain(stretch, message, hint)]);
        }
    };
    let problems = validate(&read);
    if problems.is_empty() {
        return Ok(read);
    }
    let positions = Positions::read(text, options());
    refuse(
        problems
            .into_iter()
            .map(|problem| complain(positions.find(&problem.at), problem.message, problem.hint))
            .collect(),
    )
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: 50_000,
            max_events: 100_000,
            max_depth: 32,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// A message that says what is expected, and a hint.
fn explain(error: &YamlError) -> (String, Option<String>) {
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => (
            format!("unknown key `{field}`"),
            Some(suggest(field, "keys here", expected)),
        ),
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            format!("unknown value `{variant}`"),
            Some(suggest(variant, "known here", expected)),
        ),
        YamlError::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing here"), None),
        YamlError::DuplicateMappingKey { key: Some(key), .. } => (
            format!("the key `{key}` is here for the second time"),
            Some("keep one of the two".to_owned()),
        ),
        YamlError::SerdeInvalidType {
            unexpected, expected, ..
        }
        | YamlError::SerdeInvalidValue {
            unexpected, expected, ..
        } => (format!("found {unexpected}, expected {expected}"), None),
        YamlError::InvalidBooleanStrict { .. } => ("expected `true` or `false`".to_owned(), None),
        YamlError::InvalidScalar { ty, .. } => (format!("expected {}", scalar(ty)), None),
        YamlError::Unexpected { expected, .. } => (format!("expected {}", shape(expected)), None),
        YamlError::NullIntoString { .. } => ("a text is missing here".to_owned(), None),
        YamlError::Eof { .. } => (
            "the file ends before it is complete".to_owned(),
            Some("`encapbench schema` says what a scenario has (scenarios/quick.yaml is one), `--policy` what a policy has".to_owned()),
        ),
        YamlError::UnknownAnchor { .. } => {
            ("no anchor of that name stands before this alias".to_owned(), None)
        }
        YamlError::MultipleDocuments { .. }
        | YamlError::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        } => (
            "a second document begins here".to_owned(),
            Some("a file is one scenario: put the other into a file of its own".to_owned()),
        ),
        YamlError::AliasError { error, .. } => explain(error),
        other => (UserMessageFormatter.format_message(other).into_owned(), None),
    }
}

/// A scalar's type in words.
fn scalar(ty: &str) -> &str {
    match ty {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" => "a whole number",
        "f64" => "a number",
        other => other,
    }
}

/// What the parser calls a kind of node, in words.
fn shape(expected: &str) -> &str {
    match expected {
        "mapping start" | "mapping" => "keys with values (`key: value`, or `{ key: value }`)",
        "sequence start" | "sequence" => "a list (`[a, b]`, or lines that begin with `- `)",
        "string scalar" | "scalar" => "a single text",
        other => other,
    }
}
