//! What the doctor found, in a run's reports: where a path carried nothing, the figures alone don't say why.

use super::{
    ReportFile,
    labels::{code, markdown as esc},
};
use crate::evidence::{Diagnosis, Finding};
use std::fmt::Write as _;

/// Adds the findings to `report.md` and `report.html`.
pub fn add_diagnosis(files: &mut [ReportFile], diagnosis: &Diagnosis) {
    for (name, bytes) in files {
        let (addition, end) = match name.as_str() {
            "report.md" => (markdown(diagnosis), None),
            "report.html" => (html(diagnosis), Some("</main>")),
            _ => continue,
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let at = end.and_then(|end| text.rfind(end)).unwrap_or(text.len());
        let (before, after) = text.split_at(at);
        *bytes = format!("{before}{addition}{after}").into_bytes();
    }
}

/// One sentence over all.
fn summary(diagnosis: &Diagnosis) -> String {
    let found = match diagnosis.findings.len() {
        0 => "and found nothing wrong".to_owned(),
        1 => "and found this".to_owned(),
        count => format!("and found {count} things"),
    };
    format!(
        "A path carried nothing, or not as it was said to; so the doctor looked into {} places and probed {} paths, of which \
         {} carry packets, {found}.",
        diagnosis.places, diagnosis.paths, diagnosis.reachable
    )
}

fn markdown(diagnosis: &Diagnosis) -> String {
    let mut out = format!("\n## What the doctor found\n\n{}\n", summary(diagnosis));
    // Writing to a string can't fail.
    for Finding {
        id,
        place,
        title,
        seen,
        why,
        remedy,
        on_a_cluster,
        verify,
        ..
    } in &diagnosis.findings
    {
        let _ = writeln!(out, "\n### {}: {} (`{id}`)\n", esc(place), esc(title));
        for seen in seen {
            let _ = writeln!(out, "- seen: {}", esc(seen));
        }
        let _ = writeln!(out, "- why it matters: {}", esc(why));
        for step in remedy {
            let _ = writeln!(out, "- remedy, in {}: {}", esc(&step.place), code(&step.command));
        }
        for command in on_a_cluster {
            let _ = writeln!(out, "- on a cluster: {}", code(command));
        }
        for step in verify {
            let _ = writeln!(out, "- verify, in {}: {}", esc(&step.place), code(&step.command));
        }
    }
    out
}

fn html(diagnosis: &Diagnosis) -> String {
    let mut out = format!(
        "<section id=\"doctor\">\n<h2>What the doctor found</h2>\n<p class=\"note\">{}</p>\n",
        escape(&summary(diagnosis))
    );
    for finding in &diagnosis.findings {
        let _ = writeln!(
            out,
            "<h3>{}: {} <small>{}</small></h3>\n<ul>",
            escape(&finding.place),
            escape(&finding.title),
            escape(&finding.id)
        );
        for seen in &finding.seen {
            let _ = writeln!(out, "<li>seen: {}</li>", escape(seen));
        }
        let _ = writeln!(out, "<li>why it matters: {}</li>", escape(&finding.why));
        for (what, steps) in [("remedy", &finding.remedy), ("verify", &finding.verify)] {
            for step in steps {
                let _ = writeln!(
                    out,
                    "<li>{what}, in {}: <code>{}</code></li>",
                    escape(&step.place),
                    escape(&step.command)
                );
            }
        }
        for command in &finding.on_a_cluster {
            let _ = writeln!(out, "<li>on a cluster: <code>{}</code></li>", escape(command));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Severity;

    #[test]
    fn findings_stand_at_the_end_of_both_reports() {
        let diagnosis = Diagnosis {
            findings: vec![
                Finding::new("rp-filter", Severity::Error, "east-2", "eth0 <drops>")
                    .seen("net.ipv4.conf.eth0.rp_filter = 1")
                    .remedy("sysctl -w net.ipv4.conf.eth0.rp_filter=2"),
            ],
            places: 3,
            paths: 2,
            reachable: 1,
        };
        let mut files = vec![
            ("report.html".to_owned(), b"<main>x</main></body>".to_vec()),
            ("report.md".to_owned(), b"# t\n".to_vec()),
            ("summary.csv".to_owned(), b"a\n".to_vec()),
        ];
        add_diagnosis(&mut files, &diagnosis);
        let text = |index: usize| String::from_utf8(files[index].1.clone()).unwrap();
        assert!(text(0).ends_with("</section>\n</main></body>"));
        assert!(text(0).contains("eth0 &lt;drops&gt;"));
        assert!(text(1).contains("`sysctl -w net.ipv4.conf.eth0.rp_filter=2`"));
        assert_eq!(text(2), "a\n");
    }
}
