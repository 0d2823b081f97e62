//! Over all outputs: snapshots, hostile names, the same bytes again.

use super::{fixture, *};

/// All files but the pictures.
fn documents(fixture: &fixture::Fixture) -> Vec<ReportFile> {
    let inputs = fixture.inputs();
    let view = View::new(&inputs);
    super::documents(&inputs, &view, &chart::draw_all(&inputs, &view)).unwrap()
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

/// Writes the reports of the fixtures to `$ENCAPBENCH_REPORTS`, to be looked at.
#[test]
#[ignore = "for looking at: set ENCAPBENCH_REPORTS to a folder"]
fn write_reports_to_look_at() {
    let folder = std::path::PathBuf::from(std::env::var("ENCAPBENCH_REPORTS").unwrap());
    for (name, fixture) in [
        ("run", fixture::run(6)),
        ("troubled", fixture::troubled()),
        ("hostile", fixture::hostile()),
        ("many", fixture::many()),
    ] {
        let only = std::env::var("ENCAPBENCH_ONLY").unwrap_or_default();
        if !only.is_empty() && only != name {
            continue;
        }
        std::fs::create_dir_all(folder.join(name)).unwrap();
        for (file, bytes) in files(&fixture.inputs()).unwrap() {
            std::fs::write(folder.join(name).join(file), bytes).unwrap();
        }
    }
}
