//! Over all outputs: snapshots, hostile names, the same bytes again.

use super::{fixture, *};

/// All files but the pictures.
fn documents(fixture: &fixture::Fixture) -> Vec<ReportFile> {
    let inputs = fixture.inputs();
    let view = View::new(&inputs);
    let mut files = tables(&inputs).unwrap();
    files.extend(super::documents(&view, &chart::draw_all(&inputs, &view)).unwrap());
    files
}

fn text(files: &[ReportFile], name: &str) -> String {
    let (_, bytes) = files.iter().find(|(file, _)| file == name).unwrap();
    String::from_utf8(bytes.clone()).unwrap()
}

#[test]
fn the_terminal_shows_the_matrix_first() {
    let fixture = fixture::run(6);
    insta::assert_snapshot!("terminal_100", terminal(&fixture.inputs(), 100, false));
    insta::assert_snapshot!("terminal_80", terminal(&fixture.inputs(), 80, false));
    let troubled = fixture::troubled();
    insta::assert_snapshot!("terminal_troubled", terminal(&troubled.inputs(), 100, false));
}

#[test]
fn the_terminal_keeps_to_its_width_and_is_coloured_only_when_asked() {
    for fixture in [fixture::run(6), fixture::troubled(), fixture::hostile()] {
        for width in [80, 100, 120] {
            let shown = terminal(&fixture.inputs(), width, false);
            for line in shown.lines() {
                assert!(line.chars().count() <= width, "{width}: {line:?}");
            }
            assert!(!shown.contains('\u{1b}'));
        }
        assert!(terminal(&fixture.inputs(), 100, true).contains('\u{1b}'));
    }
}

#[test]
fn csv_files_read_back_and_have_no_nan() {
    for fixture in [fixture::run(6), fixture::troubled(), fixture::hostile()] {
        let files = documents(&fixture);
        for (name, lines) in [
            ("summary.csv", fixture.summary.rows.len()),
            ("trials.csv", fixture.trials.len()),
        ] {
            let text = text(&files, name);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            assert_eq!(records.len(), lines, "{name}");
            for cell in records.iter().flatten() {
                assert!(
                    !["nan", "inf", "-inf"].contains(&cell.to_ascii_lowercase().as_str()),
                    "{name}"
                );
                let number = cell.parse::<f64>().is_ok();
                assert!(
                    number || !cell.starts_with(['=', '+', '-', '@']),
                    "{name}: {cell}"
                );
            }
        }
    }
}

#[test]
fn snapshots_of_files_that_others_read() {
    let fixture = fixture::troubled();
    let files = documents(&fixture);
    for name in ["summary.csv", "trials.csv", "gate.json", "junit.xml", "report.md"] {
        insta::assert_snapshot!(format!("troubled_{name}"), text(&files, name));
    }
    let intervals = text(&files, "intervals.csv");
    let head: Vec<&str> = intervals.lines().take(40).collect();
    insta::assert_snapshot!("troubled_intervals.csv", head.join("\n"));
}

#[test]
fn the_summary_has_the_published_columns() {
    let fixture = fixture::run(6);
    let files = documents(&fixture);
    let text = text(&files, "summary.csv");
    assert_eq!(
        text.lines().next().unwrap(),
        "case,path,encapsulation,workload,metric,unit,trials,median,ci_low,ci_high,merged,relative_to,relative,\
         relative_low,relative_high,reference,evidence"
    );
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    for fixture in [fixture::run(6), fixture::hostile()] {
        let first = files(&fixture.inputs()).unwrap();
        let second = files(&fixture.inputs()).unwrap();
        assert!(first == second);
        let names: std::collections::BTreeSet<&String> = first.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), first.len(), "no file is written twice");
    }
}

#[test]
fn html_and_xml_take_no_orders_from_names() {
    let files = documents(&fixture::hostile());
    let html = text(&files, "report.html");
    assert!(!html.contains("<script>alert") && !html.contains("<img src=x") && !html.contains("<b>"));
    assert!(html.contains("&lt;script&gt;alert(1)"));
    // Names are data of the template, never templates.
    assert!(html.contains("{{ 7*7 }}"));
    for outside in [
        "src=\"http",
        "href=\"http",
        "url(",
        "@import",
        "<link rel=\"stylesheet",
    ] {
        assert!(!html.contains(outside), "the page asks for nothing: {outside}");
    }
    let junit = text(&files, "junit.xml");
    assert!(!junit.contains("<script>") && !junit.contains('\u{1b}'));
    let markdown = text(&files, "report.md");
    assert!(!markdown.contains("<script") && !markdown.contains("<img"));
}

#[test]
fn charts_say_what_they_show_and_keep_inside_their_edges() {
    for fixture in [
        fixture::run(6),
        fixture::troubled(),
        fixture::hostile(),
        fixture::many(),
    ] {
        let inputs = fixture.inputs();
        let charts = chart::draw_all(&inputs, &View::new(&inputs));
        assert!(!charts.is_empty());
        for chart in &charts {
            for drawing in [&chart.page, &chart.phone, &chart.slide] {
                assert!(drawing.description.len() > 20, "{}", chart.name);
                assert_eq!(drawing.outside(), Vec::<String>::new(), "{}", chart.name);
            }
        }
    }
}

#[cfg(feature = "plots")]
#[test]
fn pictures_are_of_their_sizes_and_know_the_mu() {
    let fixture = fixture::run(6);
    let inputs = fixture.inputs();
    let charts = chart::draw_all(&inputs, &View::new(&inputs));
    let chart = charts.iter().find(|chart| chart.name == "latency-rr").unwrap();
    let files = chart::files(chart).unwrap();
    let (_, slide) = files
        .iter()
        .find(|(name, _)| name == "latency-rr-slide.png")
        .unwrap();
    let mut reader = png::Decoder::new(slide.as_slice()).read_info().unwrap();
    assert_eq!((reader.info().width, reader.info().height), (1920, 1080));
    let mut pixels = vec![0; reader.output_buffer_size()];
    reader.next_frame(&mut pixels).unwrap();
    let inked = pixels.chunks(3).filter(|pixel| *pixel != [0xff; 3]).count();
    assert!(inked > 20_000, "{inked}");
    let svg = text(&files, "latency-rr.svg");
    assert!(svg.starts_with("<?xml") && svg.contains("latency, µs") && svg.trim_end().ends_with("</svg>"));
}

#[test]
fn a_long_run_is_reported_in_linear_time() {
    // 8,640 trials; what is quadratic in them would be felt at once.
    let fixture = fixture::long(240);
    assert!(fixture.trials.len() > 8000);
    assert!(!documents(&fixture).is_empty());
}

#[cfg(test)]
mod browser {
    //! The page in headless Chromium, where there is one; and a way to look at all reports.

    use super::{super::files, documents, fixture, text};
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process::Command,
    };

    /// Writes the reports of the fixtures to a folder.
    #[test]
    #[ignore = "for looking at: set ENCAPBENCH_REPORTS to a folder"]
    fn write_reports_to_look_at() {
        let folder = PathBuf::from(env::var("ENCAPBENCH_REPORTS").unwrap());
        for (name, fixture) in [
            ("run", fixture::run(6)),
            ("troubled", fixture::troubled()),
            ("hostile", fixture::hostile()),
            ("many", fixture::many()),
        ] {
            fs::create_dir_all(folder.join(name)).unwrap();
            for (file, bytes) in files(&fixture.inputs()).unwrap() {
                fs::write(folder.join(name).join(file), bytes).unwrap();
            }
        }
    }

    fn chromium() -> Option<&'static str> {
        ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| Command::new(name).arg("--version").output().is_ok())
    }

    /// Loads the page, with a script of the test's at its end, and returns the document and what was logged.
    fn load(chromium: &str, folder: &Path, html: &str) -> (String, String) {
        let page = folder.join("report.html");
        fs::write(&page, html).unwrap();
        let output = Command::new(chromium)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--enable-logging=stderr",
                "--v=0",
                "--virtual-time-budget=3000",
                "--dump-dom",
            ])
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[test]
    fn the_page_loads_without_errors_and_its_tables_sort() {
        let Some(chromium) = chromium() else {
            crate::skip::skip("chromium is not installed");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        for (name, fixture) in [("run", fixture::run(6)), ("hostile", fixture::hostile())] {
            let html = text(&documents(&fixture), "report.html");
            let probe = "<script>
                const heads = document.querySelectorAll('table.matrix th button');
                const first = () => document.querySelector('table.matrix tbody tr td:nth-child(2) b').textContent;
                heads[1].click();
                const up = first();
                heads[1].click();
                const down = first();
                const outside = performance.getEntriesByType('resource').map((entry) => entry.name);
                const box = document.querySelector('figure .wide svg').getBoundingClientRect();
                const told_at = document.getElementById('tip');
                const point = (at) => at.dispatchEvent(new PointerEvent('pointermove',
                    { bubbles: true, clientX: 300, clientY: 200 }));
                const marks = [...document.querySelectorAll('figure .wide svg')].map((svg) =>
                    svg.querySelector('[data-tip]'));
                const told = marks.every((mark) => { point(mark); return !told_at.hidden && /[0-9]/.test(told_at.textContent)
                    && told_at.textContent === mark.dataset.tip && mark.getAttribute('aria-label') === mark.dataset.tip; });
                point(document.querySelector('h1'));
                const quiet = told_at.hidden;
                const inside = document.documentElement.scrollWidth <= innerWidth;
                document.title = JSON.stringify({ up: Number(up), down: Number(down), outside, drawn: box.height > 50,
                    told, quiet, inside, narrow: document.querySelectorAll('figure .narrow svg').length,
                    figures: document.querySelectorAll('figure .wide svg').length,
                    alternatives: document.querySelectorAll('figure .wide svg > title, figure .wide svg > desc').length });
                </script></body>";
            let (document, log) = load(chromium, folder.path(), &html.replace("</body>", probe));
            assert!(!log.contains("CONSOLE"), "{name}: {log}");
            let title = document
                .split("<title>")
                .nth(1)
                .and_then(|rest| rest.split("</title>").next())
                .unwrap();
            let seen: serde_json::Value = serde_json::from_str(title).unwrap();
            assert!(seen["up"].as_f64() < seen["down"].as_f64(), "{name}: {title}");
            assert_eq!(
                seen["outside"],
                serde_json::json!([]),
                "{name}: nothing is loaded from elsewhere"
            );
            assert_eq!(seen["figures"], 7, "{name}");
            assert_eq!(seen["alternatives"], 14, "{name}");
            assert_eq!(seen["narrow"], 7, "{name}");
            for held in ["drawn", "told", "quiet", "inside"] {
                assert_eq!(seen[held], true, "{name}: {held}");
            }
        }
    }
}

/// What was seen of nodes that have names, gateways on the way among them, is shown; older runs, without, show no empty table.
#[test]
fn nodes_and_their_filters_are_shown_where_they_are_known() {
    let mut fixture = fixture::run(6);
    let files = documents(&fixture);
    for name in ["report.html", "report.md"] {
        let shown = text(&files, name);
        assert!(
            !shown.contains("CPUs of the nodes") && !shown.contains("rp_filter"),
            "{name}"
        );
    }
    for trial in &mut fixture.trials {
        trial.cpu[0].nodes = vec!["east-1".to_owned(), "east-2".to_owned()];
        let mut gateway = trial.cpu[0].clone();
        gateway.nodes = vec!["gateway-of-east".to_owned()];
        gateway.cpu.softirq = 1.5;
        gateway.seconds = 2.0;
        trial.cpu.push(gateway);
        let evidence = &mut trial.evidence;
        for observation in evidence.before.iter_mut().chain(&mut evidence.after) {
            for device in &mut observation.devices {
                device.rp_filter = Some(2);
            }
        }
        let mut way = evidence.after[0].clone();
        way.node = "gateway-of-east".to_owned();
        way.devices[0].device = "vx-submariner".to_owned();
        way.devices[0].rp_filter = Some(1);
        evidence.way_before = vec![way.clone()];
        way.devices[0].tx_bytes += 77;
        evidence.way_after = vec![way];
    }
    let files = documents(&fixture);
    let html = text(&files, "report.html");
    for part in [
        "CPUs of the nodes",
        "<td>gateway-of-east</td>",
        "<td class=\"n\">0.75</td>",
        "<th>rp_filter</th>",
        "<td>2 (loose)</td>",
        "<td>vx-submariner</td>",
        "<td>1 (strict)</td>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(text(&files, "report.md").contains("| gateway-of-east | "));
}
