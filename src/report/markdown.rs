//! `report.md`: for a pull request or a chat.

use super::{
    digits::UNKNOWN,
    labels::{code, markdown as esc},
    view::{Figure, PERCENTILES, View},
};
use std::fmt::Write as _;

/// A table: names of columns, a trailing `:` for those of figures.
fn header(out: &mut String, columns: &[&str]) {
    let names: Vec<&str> = columns.iter().map(|name| name.trim_end_matches(':')).collect();
    let rules: Vec<&str> = columns
        .iter()
        .map(|name| if name.ends_with(':') { "---:" } else { "---" })
        .collect();
    row(out, &names);
    row(out, &rules);
}

fn row<T: AsRef<str>>(out: &mut String, cells: &[T]) {
    for cell in cells {
        out.push_str("| ");
        out.push_str(cell.as_ref());
        out.push(' ');
    }
    out.push_str("|\n");
}

fn figure(figure: Option<&Figure>) -> String {
    figure.map_or_else(
        || UNKNOWN.to_owned(),
        |figure| format!("{} ({})", figure.text, figure.spread_in_words()),
    )
}

pub(super) fn write(view: &View) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# {}\n\n{}: {}\n",
        esc(&view.title),
        esc(&view.scenario),
        esc(&view.what)
    );
    for matrix in &view.matrices {
        let _ = writeln!(
            out,
            "## Throughput: {}\n\n{}. Median of the trials, with its 95 % interval.\n",
            esc(&matrix.workload),
            esc(&matrix.what)
        );
        header(
            &mut out,
            &[
                "path",
                "MB/s:",
                "relative:",
                "visible from:",
                "reference:",
                "trials:",
                "evidence",
            ],
        );
        for line in &matrix.lines {
            let relative = match &line.relative {
                Some(relative) => format!("{} × ({})", relative.text, relative.spread_in_words()),
                None if line.base => "1 ×".to_owned(),
                None => UNKNOWN.to_owned(),
            };
            let mut evidence = line.evidence.clone();
            if !line.left_out.is_empty() {
                let _ = write!(evidence, " ({})", line.left_out);
            }
            row(
                &mut out,
                &[
                    esc(&line.path),
                    figure(line.throughput.as_ref()),
                    relative,
                    line.visible.clone().unwrap_or_default(),
                    line.reference.as_ref().map_or_else(String::new, |reference| {
                        reference.relative.as_ref().map_or_else(
                            || reference.text.clone(),
                            |relative| format!("{} ({relative} ×)", reference.text),
                        )
                    }),
                    line.throughput
                        .as_ref()
                        .map_or_else(|| "0".to_owned(), |figure| figure.count.to_string()),
                    evidence,
                ],
            );
        }
        out.push('\n');
        if let Some(base) = &matrix.relative_to {
            let _ = writeln!(
                out,
                "Relative: the ratio to {}, paired within each block. Visible from: the smallest difference that this run \
                 would have shown four times in five.\n",
                esc(base)
            );
        }
        if let Some(reason) = &matrix.no_interval {
            let _ = writeln!(out, "{}\n", esc(reason));
        }
    }
    if !view.explanations.is_empty() {
        out.push_str("## What goes with the slower paths\n\n");
        for one in &view.explanations {
            let _ = writeln!(
                out,
                "- {}, {}: {} × ({})",
                esc(&one.path),
                esc(&one.workload),
                one.ratio.text,
                one.ratio.spread
            );
            for fact in &one.facts {
                let _ = writeln!(out, "  - {}", esc(fact));
            }
            if one.facts.is_empty() {
                let _ = writeln!(
                    out,
                    "  - nothing that was observed differs from {}",
                    esc(&one.base)
                );
            }
        }
        out.push('\n');
    }
    if let Some(state) = &view.gate_state {
        let _ = writeln!(out, "## Gates: {state}\n");
        header(&mut out, &["gate", "verdict", "why"]);
        for gate in &view.gates {
            row(
                &mut out,
                &[esc(&gate.name), format!("**{}**", gate.state), esc(&gate.message)],
            );
        }
        out.push('\n');
    }
    if !view.warnings.is_empty() {
        out.push_str("## Warnings\n\n");
        for warning in &view.warnings {
            let _ = writeln!(out, "- {}", esc(warning));
        }
        out.push('\n');
    }
    for table in &view.latency {
        let _ = writeln!(
            out,
            "## Latency: {} (µs)\n\n{}.\n",
            esc(&table.workload),
            esc(&table.what)
        );
        header(
            &mut out,
            &["path", "p50:", "p99:", "p99.9:", "max:", "1/s:", "load MB/s:"],
        );
        for line in &table.lines {
            let percentile = |name: &str| {
                let Some(index) = PERCENTILES.iter().position(|(_, of)| *of == name) else {
                    return String::new();
                };
                match (line.percentiles.get(index), line.merged.get(index)) {
                    (Some(None), Some(Some(merged))) => format!("{merged} (all trials merged)"),
                    (known, _) => figure(known.and_then(Option::as_ref)),
                }
            };
            row(
                &mut out,
                &[
                    esc(&line.path),
                    percentile("p50"),
                    percentile("p99"),
                    percentile("p99.9"),
                    percentile("max"),
                    line.transactions
                        .as_ref()
                        .map_or_else(|| UNKNOWN.to_owned(), |figure| figure.text.clone()),
                    line.load
                        .as_ref()
                        .map_or_else(String::new, |figure| figure.text.clone()),
                ],
            );
        }
        out.push('\n');
        if let Some(reason) = &table.no_interval {
            let _ = writeln!(out, "{}\n", esc(reason));
        }
        for line in table.lines.iter().filter(|line| line.generator_bound) {
            let _ = writeln!(out, "{} is bound by the generator.\n", esc(&line.path));
        }
    }
    for pairs in &view.pairs {
        let _ = writeln!(
            out,
            "## {} pairs at once: {}, {}\n\nTogether {} MB/s, the slowest {} MB/s; Jain's fairness {} (1: all alike). They \
             began within {}.\n",
            pairs.lines.len(),
            esc(&pairs.path),
            esc(&pairs.workload),
            figure(pairs.together.as_ref()),
            figure(pairs.slowest.as_ref()),
            figure(pairs.fairness.as_ref()),
            pairs.apart
        );
        header(&mut out, &["from", "to", "MB/s:", "of an even share:"]);
        for line in &pairs.lines {
            row(
                &mut out,
                &[
                    esc(&line.from),
                    esc(&line.to),
                    figure(line.throughput.as_ref()),
                    line.of_even.clone().unwrap_or_default(),
                ],
            );
        }
        out.push('\n');
    }
    if !view.datagrams.is_empty() {
        out.push_str("## Datagrams\n\n");
        header(
            &mut out,
            &[
                "path",
                "workload",
                "lost %:",
                "reordered %:",
                "jitter µs:",
                "burst:",
            ],
        );
        for line in &view.datagrams {
            row(
                &mut out,
                &[
                    esc(&line.path),
                    esc(&line.workload),
                    figure(line.loss.as_ref()),
                    figure(line.reordered.as_ref()),
                    figure(line.jitter.as_ref()),
                    figure(line.burst.as_ref()),
                ],
            );
        }
        out.push('\n');
    }
    if view.cost.iter().any(|line| line.cpu.is_some()) {
        out.push_str("## Cost\n\n");
        header(&mut out, &["path", "workload", "CPU s/GB:", "retransmits:"]);
        for line in &view.cost {
            row(
                &mut out,
                &[
                    esc(&line.path),
                    esc(&line.workload),
                    figure(line.cpu.as_ref()),
                    figure(line.retransmits.as_ref()),
                ],
            );
        }
        out.push('\n');
    }
    out.push_str(
        "## Evidence\n\nBytes on the sender's devices over the payload, least to most of the trials.\n\n",
    );
    header(
        &mut out,
        &[
            "path",
            "expected",
            "verdicts",
            "tunnel:",
            "underlay:",
            "route",
            "path MTU:",
            "MSS:",
        ],
    );
    for path in &view.evidence {
        row(
            &mut out,
            &[
                esc(&path.path),
                path.expected.clone(),
                path.verdicts.clone(),
                path.tunnel_share.clone(),
                path.underlay_share.clone(),
                code(&path.route),
                path.path_mtu.clone(),
                path.mss.clone(),
            ],
        );
    }
    out.push('\n');
    for path in view.evidence.iter().filter(|path| !path.reasons.is_empty()) {
        for reason in &path.reasons {
            let _ = writeln!(out, "- {}: {}", esc(&path.path), esc(reason));
        }
    }
    legs(&mut out, view);
    nodes(&mut out, view);
    out.push_str("\n## Environment\n\n");
    header(&mut out, &["what", "value"]);
    for fact in &view.environment {
        row(&mut out, &[esc(&fact.name), esc(&fact.value)]);
    }
    let _ = writeln!(out, "\nTo do it again:\n\n    {}", view.command);
    out
}

/// What the nodes' CPUs did.
fn nodes(out: &mut String, view: &View) {
    if !view.nodes.is_empty() {
        out.push_str("\n## CPUs of the nodes\n\nCores' worth of work, means over the trials.\n\n");
        let columns = [
            "path",
            "nodes",
            "busy:",
            "in soft interrupts:",
            "of cores:",
            "busiest core:",
        ];
        header(out, &columns);
        for line in &view.nodes {
            let cells = [
                esc(&line.path),
                esc(&line.nodes),
                line.busy.clone(),
                line.softirq.clone(),
                line.cores.clone(),
                line.busiest.clone(),
            ];
            row(out, &cells);
        }
    }
}

/// Paths between clusters, leg by leg, and the sources seen on them.
fn legs(out: &mut String, view: &View) {
    if view.legs.is_empty() {
        return;
    }
    out.push_str("\n## Between clusters, leg by leg\n\n");
    let columns = [
        "path",
        "way",
        "leg",
        "wrapped in",
        "device",
        "sent:",
        "of payload:",
        "MTU:",
    ];
    header(out, &columns);
    for leg in &view.legs {
        row(
            out,
            &[
                esc(&leg.path),
                leg.way.clone(),
                esc(&format!("{} → {}", leg.from, leg.to)),
                leg.wrapped.clone(),
                esc(&leg.device),
                leg.sent.clone(),
                leg.share.clone(),
                leg.mtu.clone(),
            ],
        );
    }
    out.push('\n');
    let columns = [
        "path",
        "source that the receiver saw",
        "path MTU:",
        "MSS:",
        "CPU of tunnels in user space",
    ];
    header(out, &columns);
    for line in &view.sources {
        row(
            out,
            &[
                esc(&line.path),
                esc(&line.sources),
                line.path_mtu.clone(),
                line.mss.clone(),
                esc(&line.tunnel_cpu),
            ],
        );
    }
}
