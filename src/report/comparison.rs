//! What a terminal shows of a comparison of runs.

use super::{
    digits,
    labels::plain,
    terminal::{STYLE, lay_out},
};
use crate::analysis::compare::{Change, ChangeState, Comparison};
use comfy_table::Table;
use std::fmt::Write as _;

/// A change's ratio as percent more or less.
fn percent(ratio: f64) -> String {
    let share = (ratio - 1.0) * 100.0;
    if share.is_finite() {
        format!("{share:+.1} %")
    } else {
        digits::UNKNOWN.to_owned()
    }
}

fn row(change: &Change) -> Vec<String> {
    let figure = |value| format!("{} {}", digits::human(change.metric, value), change.metric.unit());
    vec![
        change.state.to_string(),
        plain(&format!("{} · {}", change.path, change.workload)),
        change.metric.to_string(),
        figure(change.base),
        figure(change.new),
        percent(change.ratio),
        change.interval.map_or_else(
            || digits::UNKNOWN.to_owned(),
            |(low, high)| format!("{} to {}", percent(low), percent(high)),
        ),
        change.smallest_difference.map_or_else(
            || digits::UNKNOWN.to_owned(),
            |share| format!("{:.0} %", share * 100.0),
        ),
    ]
}

/// A comparison as text: what differs in the conditions first, then what changed, the worst first.
pub fn comparison(comparison: &Comparison, width: usize) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    if !comparison.unlike.is_empty() {
        text.push_str("The runs were measured under unlike conditions:\n");
        for unlike in &comparison.unlike {
            let _ = writeln!(
                text,
                "! {}: {} against {}",
                plain(&unlike.what),
                plain(&unlike.base.join(", ")),
                plain(&unlike.new.join(", "))
            );
        }
        text.push('\n');
    }
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header([
        "verdict",
        "case",
        "metric",
        "base",
        "run",
        "change",
        "95 % interval",
        "visible from",
    ]);
    let order = [
        ChangeState::Worse,
        ChangeState::Better,
        ChangeState::CantTell,
        ChangeState::Same,
    ];
    for state in order {
        for change in comparison.changes.iter().filter(|change| change.state == state) {
            table.add_row(row(change));
        }
    }
    lay_out(&mut table, width, &[0, 1, 2]);
    let lines = table.to_string();
    for line in lines.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for left_out in &comparison.left_out {
        let _ = writeln!(text, "left out: {}", plain(left_out));
    }
    let assumed = comparison.changes.iter().any(|change| change.degrees == 0);
    let _ = writeln!(
        text,
        "\nSame means within {:.0} %. All verdicts together err with a probability of at most 5 % (Holm).",
        comparison.margin * 100.0
    );
    if assumed {
        text.push_str(
            "How much runs differ by themselves is not known from one run a side: a scatter of 10 % is assumed, so that\n\
             only large differences are told. Give more runs, or --history with earlier runs of the same scenario.\n",
        );
    }
    let _ = writeln!(text, "Verdict: {}", comparison.state());
    text
}
