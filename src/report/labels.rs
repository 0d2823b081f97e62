//! Names that came from outside, made harmless where they are shown.
//!
//! A path may be called anything: it must not run as a formula in a spreadsheet, nor move the cursor of a terminal,
//! nor break a table, nor leave the run's folder. HTML is escaped by the template engine, XML by its writer.

use std::collections::BTreeSet;

/// A cell of text for CSV. What a spreadsheet would take for a formula gets a leading apostrophe (OWASP, "CSV
/// Injection"); quoting is the CSV writer's.
pub(super) fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '\t', '\r', '\n']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// One line without control characters (C0, C1, and those that turn the direction of text), so that a terminal
/// shows it and does not obey it.
pub fn plain(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            c if c.is_control() || turns(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Text for Markdown: nothing in it formats, links, or breaks a table's row.
pub(super) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A zero-width space keeps a name from calling people or issues of a forge.
            '@' => out.push_str("@\u{200b}"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Text inside a Markdown code span.
pub(super) fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'").replace('|', "\\|"))
}

/// File names made of names: `[a-z0-9._-]`, unique among those given out.
#[derive(Debug, Default)]
pub(super) struct Slugs {
    taken: BTreeSet<String>,
}

impl Slugs {
    /// A file name's stem for `name` that was not given out before.
    pub(super) fn take(&mut self, name: &str) -> String {
        let mut slug: String = name
            .chars()
            .map(|c| match c.to_ascii_lowercase() {
                c if c.is_ascii_alphanumeric() || c == '_' || c == '-' => c,
                '.' => '.',
                _ => '-',
            })
            .take(64)
            .collect();
        slug = slug.trim_matches(['.', '-']).to_owned();
        if slug.is_empty() {
            slug.push('x');
        }
        let mut candidate = slug.clone();
        let mut next = 2;
        while !self.taken.insert(candidate.clone()) {
            candidate = format!("{slug}-{next}");
            next += 1;
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formulas_are_disarmed() {
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(cell("-2"), "'-2");
        assert_eq!(cell("a=b"), "a=b");
    }

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(plain("a\x1b[31mb\r\nc"), "a\u{fffd}[31mb  c");
        assert_eq!(plain("\u{202e}evil"), "\u{fffd}evil");
    }

    #[test]
    fn markdown_does_not_format() {
        assert_eq!(markdown("a|b *c* <img>"), "a\\|b \\*c\\* &lt;img&gt;");
        assert_eq!(code("a`b|c"), "`a'b\\|c`");
    }

    #[test]
    fn slugs_are_unique_and_stay_in_the_folder() {
        let mut slugs = Slugs::default();
        assert_eq!(slugs.take("../../etc/passwd"), "etc-passwd");
        assert_eq!(slugs.take("etc/passwd"), "etc-passwd-2");
        assert_eq!(slugs.take("…"), "x");
    }

    proptest! {
        #[test]
        fn a_slug_is_a_plain_file_name(name in ".*") {
            let slug = Slugs::default().take(&name);
            prop_assert!(!slug.is_empty() && !slug.starts_with('.'));
            prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
        }
    }
}
