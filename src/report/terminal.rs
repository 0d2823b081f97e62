//! What a terminal shows of a run: the matrix first, then latency, cost, gates and warnings.

mod legs;
mod page;

use super::{
    digits::UNKNOWN,
    view::{Figure, LatencyTable, Matrix, PERCENTILES, View},
};
use crate::gate::GateState;
use comfy_table::{Attribute, Cell, Table};
use owo_colors::OwoColorize as _;
use page::{Page, state_colour, wrap};
use std::fmt::Write as _;

pub(super) use page::{STYLE, lay_out};

/// Narrower than this nothing can be shown sensibly.
const NARROWEST: usize = 60;

/// Paths whose smallest visible difference is said below the matrix.
const VISIBLE_SHOWN: usize = 6;

fn text(figure: Option<&Figure>) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), |figure| figure.text.clone())
}

/// A name for a column of spreads: `range` where none of them is an interval.
fn spread_name<'a>(figures: impl Iterator<Item = &'a Figure>) -> &'static str {
    let mut intervals = figures.map(|figure| figure.interval).peekable();
    if intervals.peek().is_some() && !intervals.any(|interval| interval) {
        "range"
    } else {
        "95 % interval"
    }
}

/// A spread for a column of that name: a range among intervals says that it is one.
fn spread(figure: Option<&Figure>, name: &str) -> String {
    figure.map_or_else(String::new, |figure| {
        if name == "range" {
            figure.spread.clone()
        } else {
            figure.spread_in_words()
        }
    })
}

pub(super) fn write(view: &View, width: usize, colour: bool) -> String {
    let mut page = Page {
        out: String::new(),
        width: width.max(NARROWEST),
        colour,
    };
    for line in wrap(&view.title, page.width, "") {
        let line = if colour { line.bold().to_string() } else { line };
        page.line(&line);
    }
    page.note(&format!("{}: {}", view.scenario, view.what));
    for matrix in &view.matrices {
        write_matrix(&mut page, matrix);
    }
    for table in &view.latency {
        write_latency(&mut page, table);
    }
    write_pairs(&mut page, view);
    write_datagrams(&mut page, view);
    write_cost(&mut page, view);
    legs::write(&mut page, view);
    write_explanations(&mut page, view);
    write_gates(&mut page, view);
    if !view.warnings.is_empty() {
        page.heading("Warnings");
        for warning in &view.warnings {
            let lines = wrap(warning, page.width.saturating_sub(2), "  ");
            for (number, line) in lines.iter().enumerate() {
                let line = if number == 0 {
                    line.replacen("  ", "! ", 1)
                } else {
                    line.clone()
                };
                let line = if colour { line.yellow().to_string() } else { line };
                page.line(&line);
            }
        }
    }
    page.out
}

fn write_matrix(page: &mut Page, matrix: &Matrix) {
    page.heading(&format!(
        "Throughput of {} in MB/s (10^6 bytes a second): {}",
        matrix.workload, matrix.what
    ));
    let figures = || {
        matrix
            .lines
            .iter()
            .flat_map(|line| line.throughput.iter().chain(&line.relative))
    };
    let spread_name = spread_name(figures());
    let spread = |figure: Option<&Figure>| spread(figure, spread_name);
    let mut header = vec!["path", "MB/s", spread_name];
    if matrix.relative_to.is_some() {
        header.push("relative");
        if page.wide() {
            header.push(spread_name);
        }
    }
    if matrix.has_reference {
        header.push("reference");
    }
    header.push("evidence");
    let mut table = page.table(&header);
    for line in &matrix.lines {
        let bold = |cell: Cell| {
            if page.colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        };
        let mut cells = vec![
            Cell::new(&line.path),
            bold(Cell::new(text(line.throughput.as_ref()))),
            Cell::new(spread(line.throughput.as_ref())),
        ];
        if matrix.relative_to.is_some() {
            let relative = match &line.relative {
                Some(relative) => format!("{} ×", relative.text),
                None if line.base && line.throughput.is_some() => "1 ×".to_owned(),
                None => UNKNOWN.to_owned(),
            };
            cells.push(bold(Cell::new(relative)));
            if page.wide() {
                cells.push(Cell::new(spread(line.relative.as_ref())));
            }
        }
        if matrix.has_reference {
            cells.push(Cell::new(line.reference.as_ref().map_or_else(
                String::new,
                |reference| match &reference.relative {
                    Some(relative) if page.wide() => format!("{} ({relative} ×)", reference.text),
                    _ => reference.text.clone(),
                },
            )));
        }
        let evidence = Cell::new(&line.evidence);
        cells.push(match state_colour(&line.evidence).filter(|_| page.colour) {
            Some(colour) => evidence.fg(colour),
            None => evidence,
        });
        table.add_row(cells);
    }
    let last = header.len() - 1;
    page.finish(table, &[0, last]);
    for line in matrix.lines.iter().filter(|line| !line.left_out.is_empty()) {
        page.note(&format!("{}: {}", line.path, line.left_out));
    }
    if let Some(reason) = &matrix.no_interval {
        page.note(reason);
    }
    if let Some(base) = &matrix.relative_to {
        page.note(&format!(
            "relative: the ratio to {base}, paired within each block"
        ));
        let visible: Vec<String> = matrix
            .lines
            .iter()
            .filter_map(|line| Some(format!("{} {}", line.path, line.visible.as_ref()?)))
            .collect();
        let more = visible.len().saturating_sub(VISIBLE_SHOWN);
        if let Some(shown) = visible
            .get(..visible.len() - more)
            .filter(|shown| !shown.is_empty())
        {
            page.note(&format!(
                "smallest difference that this run would have shown four times in five: {}{}",
                shown.join(", "),
                if more > 0 {
                    format!(", and {more} more in comparisons.csv")
                } else {
                    String::new()
                }
            ));
        }
    }
}

/// Slower paths whose facts are shown; the report has all.
const EXPLAINED: usize = 4;

fn write_explanations(page: &mut Page, view: &View) {
    if view.explanations.is_empty() {
        return;
    }
    page.heading("Observed facts that go with the slower paths");
    for one in view.explanations.iter().take(EXPLAINED) {
        page.line(&format!("{}, {}: {} ×", one.path, one.workload, one.ratio.text));
        for fact in &one.facts {
            for (number, line) in wrap(fact, page.width - 2, "  ").iter().enumerate() {
                page.line(&if number == 0 {
                    line.replacen("  ", "- ", 1)
                } else {
                    line.clone()
                });
            }
        }
        if one.facts.is_empty() {
            page.line(&format!("- nothing that was observed differs from {}", one.base));
        }
    }
    let more = view.explanations.len().saturating_sub(EXPLAINED);
    if more > 0 {
        page.note(&format!("and {more} more paths, in report.html"));
    }
}

fn write_latency(page: &mut Page, latency: &LatencyTable) {
    page.heading(&format!(
        "Latency of {} in µs: {}",
        latency.workload, latency.what
    ));
    let wide = page.wide();
    let shown: Vec<usize> = if wide { vec![0, 2, 3] } else { vec![0, 1, 2, 3] };
    let mut header = vec!["path"];
    for index in &shown {
        header.push(PERCENTILES[*index].1);
        if wide {
            header.push("");
        }
    }
    let load = latency.lines.iter().any(|line| line.load.is_some());
    header.push("1/s");
    if load {
        header.push("load MB/s");
    }
    let mut table = page.table(&header);
    let mut any_merged = false;
    for line in &latency.lines {
        let mut cells = vec![line.path.clone()];
        for index in &shown {
            let figure = line.percentiles.get(*index).and_then(Option::as_ref);
            let merged = line.merged.get(*index).and_then(Option::as_ref);
            cells.push(match (figure, merged) {
                (None, Some(merged)) => {
                    any_merged = true;
                    format!("{merged}*")
                }
                _ => text(figure),
            });
            if wide {
                cells.push(figure.map_or_else(String::new, |figure| {
                    if figure.interval {
                        format!("({})", figure.spread)
                    } else {
                        format!("[{}]", figure.spread)
                    }
                }));
            }
        }
        cells.push(text(line.transactions.as_ref()));
        if load {
            cells.push(text(line.load.as_ref()));
        }
        table.add_row(cells);
    }
    page.finish(table, &[0]);
    if any_merged {
        page.note("* of all trials merged: a single one has too few samples for it");
    }
    for line in &latency.lines {
        if !line.left_out.is_empty() {
            page.note(&format!("{}: {}", line.path, line.left_out));
        }
        if line.generator_bound {
            page.note(&format!(
                "{}: bound by the generator: requests were sent late by more than half of the latency's p99",
                line.path
            ));
        }
    }
    if let Some(reason) = &latency.no_interval {
        page.note(reason);
    }
}

fn write_cost(page: &mut Page, view: &View) {
    if !view
        .cost
        .iter()
        .any(|line| line.cpu.is_some() || line.retransmits.is_some())
    {
        return;
    }
    page.heading("Cost: CPU-seconds of the machines per GB received, and TCP segments sent again in a trial");
    let name = spread_name(
        view.cost
            .iter()
            .flat_map(|line| line.cpu.iter().chain(&line.retransmits)),
    );
    let mut table = page.table(&["path", "workload", "CPU s/GB", name, "retransmits", name]);
    for line in &view.cost {
        table.add_row([
            line.path.clone(),
            line.workload.clone(),
            text(line.cpu.as_ref()),
            spread(line.cpu.as_ref(), name),
            text(line.retransmits.as_ref()),
            spread(line.retransmits.as_ref(), name),
        ]);
    }
    page.finish(table, &[0, 1]);
}

fn write_datagrams(page: &mut Page, view: &View) {
    if view.datagrams.is_empty() {
        return;
    }
    page.heading(
        "Datagrams: lost, and late or twice, in percent of those sent; jitter in µs; datagrams of a burst",
    );
    let name = spread_name(
        view.datagrams
            .iter()
            .flat_map(|line| line.loss.iter().chain(&line.reordered).chain(&line.jitter)),
    );
    let mut table = datagrams(page, view, name);
    // Where it is too wide, the figures are worth more than how far they scatter.
    if !page.fits(&table, &[0, 1]) {
        table = datagrams(page, view, "");
    }
    page.finish(table, &[0, 1]);
}

/// The table of datagrams; without the columns of spread where these have no name.
fn datagrams(page: &Page, view: &View, name: &str) -> Table {
    // Where nothing was held to a rate there are no bursts to tell of.
    let bursts = view.datagrams.iter().any(|line| line.burst.is_some());
    let mut header = vec!["path", "workload"];
    for figure in ["lost %", "reordered %", "jitter µs"] {
        header.push(figure);
        if !name.is_empty() {
            header.push(name);
        }
    }
    if bursts {
        header.push("burst");
    }
    let mut table = page.table(&header);
    for line in &view.datagrams {
        let mut cells = vec![line.path.clone(), line.workload.clone()];
        for figure in [&line.loss, &line.reordered, &line.jitter] {
            cells.push(text(figure.as_ref()));
            if !name.is_empty() {
                cells.push(spread(figure.as_ref(), name));
            }
        }
        if bursts {
            cells.push(text(line.burst.as_ref()));
        }
        table.add_row(cells);
    }
    table
}

/// The slowest pairs of each case; the HTML report has all.
const PAIRS_SHOWN: usize = 10;

fn write_pairs(page: &mut Page, view: &View) {
    for pairs in &view.pairs {
        page.heading(&format!(
            "{} pairs at once, {} of {}: MB/s of each",
            pairs.lines.len(),
            pairs.workload,
            pairs.path
        ));
        page.note(&format!(
            "Together {} MB/s, the slowest {} MB/s; Jain's fairness {} (1: all alike). They began within {}.",
            text(pairs.together.as_ref()),
            text(pairs.slowest.as_ref()),
            text(pairs.fairness.as_ref()),
            pairs.apart
        ));
        let name = spread_name(pairs.lines.iter().filter_map(|line| line.throughput.as_ref()));
        let mut table = page.table(&["from", "to", "MB/s", name, "of an even share"]);
        for line in pairs.lines.iter().take(PAIRS_SHOWN) {
            table.add_row([
                line.from.clone(),
                line.to.clone(),
                text(line.throughput.as_ref()),
                spread(line.throughput.as_ref(), name),
                line.of_even.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            ]);
        }
        page.finish(table, &[0, 1]);
        if let Some(more @ 1..) = pairs.lines.len().checked_sub(PAIRS_SHOWN) {
            page.note(&format!(
                "{more} faster pairs are not shown; report.html has them."
            ));
        }
    }
}

fn write_gates(page: &mut Page, view: &View) {
    let Some(state) = &view.gate_state else {
        return;
    };
    page.heading(&format!("Gates: {state}"));
    for gate in &view.gates {
        let mark = match gate.verdict {
            GateState::Pass => "pass",
            GateState::Fail => "FAIL",
            GateState::Inconclusive => "INCONCLUSIVE",
            GateState::Skipped => "skipped",
        };
        let shown = if page.colour {
            match gate.verdict {
                GateState::Pass => mark.green().to_string(),
                GateState::Fail => mark.red().bold().to_string(),
                GateState::Inconclusive => mark.yellow().bold().to_string(),
                GateState::Skipped => mark.dimmed().to_string(),
            }
        } else {
            mark.to_owned()
        };
        let pad = " ".repeat("INCONCLUSIVE".len() - mark.len());
        let _ = writeln!(page.out, "{shown}{pad}  {}", gate.name);
        for line in wrap(&gate.message, page.width, "              ") {
            page.line(&line);
        }
    }
}
