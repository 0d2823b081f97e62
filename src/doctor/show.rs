//! The doctor's findings for a terminal.

use super::finding::{Diagnosis, Finding, Severity};
use owo_colors::OwoColorize as _;
use std::fmt::Write as _;

/// The findings as text, `width` columns wide; without colour the same without escapes.
pub fn text(diagnosis: &Diagnosis, width: usize, colour: bool) -> String {
    let mut out = String::new();
    for finding in &diagnosis.findings {
        show(finding, width, colour, &mut out);
        out.push('\n');
    }
    let Diagnosis {
        places,
        paths,
        reachable,
        ..
    } = diagnosis;
    let count = |severity| {
        diagnosis
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let looked = if *paths == 0 {
        format!("Looked into {}.", number(*places, "place"))
    } else {
        format!("Looked into {places} places, probed {paths} paths: {reachable} carry packets.")
    };
    let _ = writeln!(out, "{looked}");
    let _ = match (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note),
    ) {
        (0, 0, 0) => writeln!(out, "Nothing is wrong."),
        (0, 0, notes) => writeln!(out, "Nothing is wrong as far as could be seen; {notes} notes."),
        (errors, warnings, notes) => {
            let mut parts = vec![number(errors, "error"), number(warnings, "warning")];
            if notes > 0 {
                parts.push(number(notes, "note"));
            }
            writeln!(out, "{}.", parts.join(", "))
        }
    };
    out
}

fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const LABEL: usize = 11;

fn show(finding: &Finding, width: usize, colour: bool, out: &mut String) {
    let word = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let word = match (colour, finding.severity) {
        (false, _) => word.to_owned(),
        (true, Severity::Error) => word.red().bold().to_string(),
        (true, Severity::Warning) => word.yellow().bold().to_string(),
        (true, Severity::Note) => word.blue().to_string(),
    };
    let title = format!("{}: {} [{}]", finding.place, finding.title, finding.id);
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "{word}: {}",
        if colour { title.bold().to_string() } else { title }
    );
    let mut label = |name: &str, text: &str, whole: bool| {
        let room = width.saturating_sub(2 + LABEL).max(30);
        let lines = if whole {
            vec![text.to_owned()]
        } else {
            wrap(text, room)
        };
        for (index, line) in lines.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            let _ = writeln!(out, "  {name:LABEL$}{line}");
        }
    };
    for (index, seen) in finding.seen.iter().enumerate() {
        label(if index == 0 { "seen" } else { "" }, seen, false);
    }
    label("why", &finding.why, false);
    // Commands are not wrapped: they are copied.
    for (index, step) in finding.remedy.iter().enumerate() {
        let name = if index == 0 { "remedy" } else { "" };
        label(name, &format!("[{}] {}", step.place, step.command), true);
    }
    for (index, command) in finding.on_a_cluster.iter().enumerate() {
        label(if index == 0 { "on cluster" } else { "" }, command, true);
    }
    for (index, step) in finding.verify.iter().enumerate() {
        let name = if index == 0 { "verify" } else { "" };
        label(name, &format!("[{}] {}", step.place, step.command), true);
    }
    if let Some(first) = finding.affects.first() {
        let more = finding.affects.len() - 1;
        let text = if more == 0 {
            first.clone()
        } else {
            format!("{first} and {more} more")
        };
        label("affects", &text, false);
    }
}

fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_well() {
        let diagnosis = Diagnosis {
            findings: vec![
                Finding {
                    affects: vec![
                        "pod@east-1/Always -> pod@west-1/Always".to_owned(),
                        "pod@west-1/Always -> pod@east-1/Always".to_owned(),
                    ],
                    ..Finding::new(
                        "rp-filter",
                        Severity::Error,
                        "east-2",
                        "eth0 drops packets whose answer would leave by another device",
                    )
                    .seen("net.ipv4.conf.eth0.rp_filter = 1, net.ipv4.conf.all.rp_filter = 0: the larger counts, 1 is strict")
                    .seen("30 packets dropped so since the node was up (nstat IPReversePathFilter)")
                    .why("a strict filter takes for spoofing what comes in by another way than its answer would leave")
                    .remedy("sysctl -w net.ipv4.conf.eth0.rp_filter=2")
                    .on_a_cluster("echo 'net.ipv4.conf.eth0.rp_filter = 2' > /etc/sysctl.d/99-submariner.conf  # so that it stays")
                    .verify("sysctl -n net.ipv4.conf.eth0.rp_filter | grep -qx 2")
                },
                Finding::new("not-seen", Severity::Note, "all", "something could not be looked at")
                    .seen("the packet filter")
                    .why("a fault that shows there only is not found"),
            ],
            places: 8,
            paths: 24,
            reachable: 20,
        };
        insta::assert_snapshot!(text(&diagnosis, 80, false));
        insta::assert_snapshot!(text(&Diagnosis { places: 1, ..Diagnosis::default() }, 80, false), @r"
        Looked into 1 place.
        Nothing is wrong.
        ");
    }
}
