//! What all parts of the terminal's view are written with: lines, headings, notes, tables.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle,
    Table, TableStyle, Width,
};
use owo_colors::OwoColorize as _;

/// From this width on, the intervals of ratios and of latency are shown.
const WIDE: usize = 96;
/// Columns that a column of words keeps, where figures leave it less: the table is then wider than the terminal, which
/// reads better than a word a letter a line.
const LEAST_WORDS: u16 = 14;
/// Columns between two of a table.
const GAP: u16 = 2;
/// A rule below the header, and nothing else.
pub(in crate::report) const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('─').junction('─'));

pub(super) struct Page {
    pub(super) out: String,
    pub(super) width: usize,
    pub(super) colour: bool,
}

impl Page {
    pub(super) fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.out.push('\n');
        for line in wrap(text, self.width, "") {
            let line = if self.colour {
                line.bold().to_string()
            } else {
                line
            };
            self.line(&line);
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        for line in wrap(text, self.width, "  ") {
            let line = if self.colour {
                line.dimmed().to_string()
            } else {
                line
            };
            self.line(&line);
        }
    }

    /// Whether there is room for all columns.
    pub(super) const fn wide(&self) -> bool {
        self.width >= WIDE
    }

    pub(super) fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header.iter().map(|text| {
            let cell = Cell::new(text);
            if self.colour {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        }));
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    /// Whether a table fits, with its columns of words as narrow as may be.
    pub(super) fn fits(&self, table: &Table, words: &[usize]) -> bool {
        usize::from(least_width(table, words)) <= self.width
    }

    /// Ends a table: the first column is of words, the others are of figures and don't wrap where that can be.
    pub(super) fn finish(&mut self, mut table: Table, words: &[usize]) {
        lay_out(&mut table, self.width, words);
        let text = table.trim_fmt();
        self.line(&text);
    }
}

/// The width of a table whose columns of words are as narrow as may be.
fn least_width(table: &Table, words: &[usize]) -> u16 {
    let widths = table.column_max_content_widths();
    let columns = widths.into_iter().enumerate().map(|(index, width)| {
        let least = if words.contains(&index) {
            width.min(LEAST_WORDS)
        } else {
            width
        };
        least.saturating_add(GAP)
    });
    columns.fold(0, u16::saturating_add)
}

/// Lays a table out for a terminal: columns of words at the left of theirs and broken where they must be, those of
/// figures at the right and whole.
pub(in crate::report) fn lay_out(table: &mut Table, width: usize, words: &[usize]) {
    let least = least_width(table, words);
    let width = u16::try_from(width).unwrap_or(u16::MAX);
    let narrow = least > width;
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.max(least));
    let widths = table.column_max_content_widths();
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
        if !words.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
            continue;
        }
        column.set_cell_alignment(CellAlignment::Left);
        if narrow {
            // With the gap, which a column's width holds.
            let content = widths.get(column.index).copied().unwrap_or_default();
            let fixed = Width::Fixed(content.min(LEAST_WORDS).saturating_add(GAP));
            column.set_constraint(ColumnConstraint::Absolute(fixed));
        } else if column.index == 0 {
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Percentage(40)));
        }
    }
}

/// Breaks text between words to lines of at most `width` columns, each after `indent`.
pub(super) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    let mut length = indent.len();
    for word in text.split_whitespace() {
        let size = word.chars().count();
        if length > indent.len() && length + 1 + size > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            length = indent.len();
        }
        if length > indent.len() {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += size;
    }
    lines.push(line);
    lines
}

pub(super) fn state_colour(state: &str) -> Option<Color> {
    match state {
        "confirmed" | "pass" => Some(Color::Green),
        "contradicted" | "fail" => Some(Color::Red),
        "unknown" | "inconclusive" => Some(Color::Yellow),
        _ => None,
    }
}
