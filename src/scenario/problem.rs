//! What is wrong with a scenario file: where, why, and what to do about it.

use std::fmt;

/// One step from the file's root to one of its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(&'static str),
    /// An element of a list, from 0.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Something that is wrong with a scenario as a whole, though each of its elements could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The element: the way to it from the root.
    pub at: Vec<Step>,
    /// What is wrong and what is expected, as a lowercase fragment.
    pub message: String,
    /// What to do, where that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.at.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// A stretch of a line of the file, counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// How many characters; may reach past the line's end.
    pub length: usize,
}

/// One complaint about a file, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Where, if it is anywhere.
    pub stretch: Option<Stretch>,
    /// The text of that line.
    pub source_line: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Why a scenario file was refused. Shows every complaint with its line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ScenarioError {
    file: String,
    complaints: Vec<Complaint>,
}

impl ScenarioError {
    pub(super) fn new(file: &str, mut complaints: Vec<Complaint>) -> Self {
        complaints.sort_by_key(|complaint| complaint.stretch);
        Self {
            file: file.to_owned(),
            complaints,
        }
    }

    /// The file's name, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All that is wrong, in the order of the file.
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, complaint) in self.complaints.iter().enumerate() {
            if position > 0 {
                f.write_str("\n\n")?;
            }
            complaint.show(&self.file, f)?;
        }
        if self.complaints.len() > 1 {
            write!(f, "\n\n{}: {} problems", self.file, self.complaints.len())?;
        }
        Ok(())
    }
}

/// The widest part of a line that is shown.
const SHOWN: usize = 150;

impl Complaint {
    fn show(&self, file: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = visible(&self.message);
        let hint = self.hint.as_deref().map(visible);
        let Some(Stretch { line, column, length }) = self.stretch else {
            write!(f, "{file}: {message}")?;
            return match hint {
                Some(hint) => write!(f, "\n  = {hint}"),
                None => Ok(()),
            };
        };
        write!(f, "{file}:{line}:{column}: {message}")?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // A long line is cut so that what is wrong stays in sight.
        let characters = self.source_line.chars().count();
        let cut = if characters <= SHOWN {
            0
        } else {
            column.saturating_sub(SHOWN / 2)
        };
        let shown: String = self
            .source_line
            .chars()
            .skip(cut)
            .take(SHOWN)
            .map(printable)
            .collect();
        let before = (column - 1).saturating_sub(cut);
        let room = (characters + 1).saturating_sub(column).clamp(1, SHOWN);
        let carets = length.clamp(1, room);
        write!(f, "\n{margin} |\n{number} | {}", shown.trim_end())?;
        write!(f, "\n{margin} | {}{}", " ".repeat(before), "^".repeat(carets))?;
        match hint {
            Some(hint) => write!(f, "\n{margin} = {hint}"),
            None => Ok(()),
        }
    }
}

/// A terminal must not obey what a file says: control characters as replacement characters.
fn visible(text: &str) -> String {
    text.chars().map(printable).collect()
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The one of `known` that `name` is most likely a slip of, if any is near enough.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|other| (distance(&lower, &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= other.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// "did you mean `a`?", followed by all there is: "`a`, `b`".
pub(super) fn suggest(name: &str, what: &str, known: &[&str]) -> String {
    const MOST: usize = 20;
    let mut all = listed(known.iter().take(MOST).copied());
    if known.len() > MOST {
        all = format!("{all} and {} more", known.len() - MOST);
    }
    match nearest(name, known.iter().copied()) {
        Some(near) if known.len() == 1 => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? {what}: {all}"),
        None if known.is_empty() => format!("{what}: none"),
        None => format!("{what}: {all}"),
    }
}

/// "`a`, `b`".
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// How many insertions, deletions, replacements and swaps of neighbours part the two (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        assert_eq!(distance("east-1", "east-1"), 0);
        assert_eq!(distance("esat-1", "east-1"), 1);
        assert_eq!(distance("east1", "east-1"), 1);
        assert_eq!(distance("", "east"), 4);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_slips_are_near() {
        let known = ["throughput", "latency", "name"];
        assert_eq!(nearest("latancy", known), Some("latency"));
        assert_eq!(nearest("Throughput", known), Some("throughput"));
        assert_eq!(nearest("bandwidth", known), None);
        assert_eq!(nearest("x", ["y"]), Some("y"));
    }
}
