//! The run folder as others read and write it: the checked-in schemas, a folder written by hand in Python, CSV files
//! whose numbers are numbers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]

#[path = "support/program.rs"]
mod program;
#[path = "support/python.rs"]
mod python;
#[path = "../src/skip.rs"]
mod skip;

use program::{code, encapbench, finish, said};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

const LIMIT: Duration = Duration::from_mins(1);

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(arguments: &[&str]) -> Output {
    finish(encapbench().args(arguments), LIMIT)
}

/// A folder that docs/write_run_folder.py wrote.
fn by_hand(folder: &Path, arguments: &[&str]) -> String {
    let script = repository().join("docs/write_run_folder.py");
    let written = finish(
        Command::new("python3").arg(script).arg(folder).args(arguments),
        LIMIT,
    );
    assert_eq!(code(written.status), 0, "{}", said(&written));
    folder.to_str().unwrap().to_owned()
}

fn schema(file: &str) -> Value {
    let printed = run(&["schema", "--run", file]);
    assert_eq!(code(printed.status), 0, "{}", said(&printed));
    serde_json::from_slice(&printed.stdout).unwrap()
}

/// What of `value` does not fit `schema`: keys that it lacks, keys that it doesn't know, types. Covers what schemars
/// writes for our types.
fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        return misfit(root, target, value, at);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let misfits: Vec<_> = choices
                .iter()
                .map(|schema| misfit(root, schema, value, at))
                .collect();
            if misfits.iter().all(Option::is_some) {
                return misfits.into_iter().flatten().next();
            }
        }
    }
    if let Some(constant) = schema.get("const") {
        return (constant != value).then(|| format!("{at} is {value}, not {constant}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("a type that this test does not know: {other}"),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        return Some(format!("{at} is {value}, not of type {types:?}"));
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(required.as_str().unwrap()) {
                return Some(format!("{at} has no {required}"));
            }
        }
        for (key, inner) in object {
            match properties.get(key) {
                Some(schema) => {
                    if let Some(misfit) = misfit(root, schema, inner, &format!("{at}.{key}")) {
                        return Some(misfit);
                    }
                }
                // A tagged enum's properties stand beside its choices.
                None if schema.get("oneOf").is_none() => {
                    return Some(format!("{at}.{key} is not in the schema"));
                }
                None => {}
            }
        }
    }
    if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
        return items
            .iter()
            .enumerate()
            .find_map(|(index, item)| misfit(root, schema, item, &format!("{at}[{index}]")));
    }
    None
}

#[test]
fn the_committed_run_fits_the_schemas() {
    let sample = repository().join("results/sample");
    let check = |schema: &Value, text: &str, what: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(misfit(schema, schema, &value, what), None);
    };
    let read = |name: &str| fs::read_to_string(sample.join(name)).unwrap();
    check(&schema("manifest"), &read("manifest.json"), "manifest");
    check(&schema("gate"), &read("gate.json"), "gate");
    let trial = schema("trial");
    for line in read("trials.jsonl").lines() {
        check(&trial, line, "trial");
    }
    // The check can fail.
    let mut broken: Value = serde_json::from_str(read("trials.jsonl").lines().next().unwrap()).unwrap();
    broken["block"] = "one".into();
    assert!(misfit(&trial, &trial, &broken, "trial").is_some());
}

#[test]
fn a_folder_written_by_hand_is_reported_judged_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, arguments: &[&str]| by_hand(&folder.path().join(name), arguments);
    let base: Vec<String> = (1..=3)
        .map(|seed| {
            at(
                &format!("base-{seed}"),
                &["--seed", &seed.to_string(), "--cv", "2"],
            )
        })
        .collect();
    let slow: Vec<String> = (4..=6)
        .map(|seed| {
            let seed = seed.to_string();
            at(
                &format!("slow-{seed}"),
                &["--seed", &seed, "--cv", "2", "--ratio", "0.5"],
            )
        })
        .collect();
    let report = run(&["report", &base[0]]);
    assert_eq!(code(report.status), 0, "{}", said(&report));
    let pass = run(&["gate", &base[0]]);
    assert_eq!(code(pass.status), 0, "{}", said(&pass));
    let fail = run(&["gate", &slow[0]]);
    assert_eq!(code(fail.status), 1, "{}", said(&fail));
    let compare = run(&[
        "compare", &base[0], &slow[0], "--base", &base[1], "--base", &base[2], "--run", &slow[1], "--run",
        &slow[2],
    ]);
    assert_eq!(code(compare.status), 1, "{}", said(&compare));
    // The histogram that plain Python encoded is the one that was meant: a median of 50 us.
    let mut reader = csv::Reader::from_path(Path::new(&base[0]).join("summary.csv")).unwrap();
    let median: f64 = reader
        .records()
        .map(Result::unwrap)
        .find(|record| &record[0] == "direct--rr" && &record[4] == "latency_p50")
        .map(|record| record[7].parse().unwrap())
        .unwrap();
    assert!((48.0..52.0).contains(&median), "{median}");
}

/// The columns that docs/run-folder.md says to be text.
fn documented(file: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let text = fs::read_to_string(repository().join("docs/run-folder.md")).unwrap();
    let paragraph = text
        .split("\n\n")
        .find(|paragraph| paragraph.starts_with(&format!("`{file}`: text:")))
        .unwrap_or_else(|| panic!("{file} is not documented"));
    let (text, numbers) = paragraph.split_once("numbers:").unwrap();
    let names = |part: &str| -> BTreeSet<String> {
        part.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .filter(|name| name != file && name != "unit")
            .collect()
    };
    let mut words = names(text);
    if text.contains("`unit`") {
        words.insert("unit".to_owned());
    }
    (words, names(numbers))
}

#[test]
fn every_column_is_documented_and_numbers_are_numbers() {
    let sample = repository().join("results/sample");
    for file in ["summary.csv", "comparisons.csv", "trials.csv", "intervals.csv"] {
        let (words, numbers) = documented(file);
        let mut reader = csv::Reader::from_path(sample.join(file)).unwrap();
        let columns: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let known: BTreeSet<String> = words.union(&numbers).cloned().collect();
        assert_eq!(columns.iter().cloned().collect::<BTreeSet<_>>(), known, "{file}");
        for record in reader.records() {
            for (column, cell) in columns.iter().zip(&record.unwrap()) {
                assert!(
                    words.contains(column)
                        || cell.is_empty()
                        || cell.parse::<f64>().is_ok_and(f64::is_finite),
                    "{file}: {column} is {cell:?}"
                );
            }
        }
    }
}

#[test]
fn a_newer_format_and_a_strange_key_say_which_encapbench_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    let run_folder = by_hand(&folder.path().join("run"), &[]);
    let path = Path::new(&run_folder).join("manifest.json");
    let manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        fs::write(&path, changed.to_string()).unwrap();
        let output = run(&["report", &run_folder]);
        assert_eq!(code(output.status), 2, "{}", said(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    let newer = with(&|manifest| manifest["format"] = 2.into());
    assert!(newer.contains("format 2") && newer.contains("up to 1"), "{newer}");
    let strange = with(&|manifest| {
        manifest["encapbench"] = "9.9.9".into();
        manifest["scenario"]["of-the-future"] = true.into();
    });
    assert!(
        strange.contains("of-the-future") && strange.contains("9.9.9"),
        "{strange}"
    );
}

#[test]
fn bad_folders_are_told_and_hostile_names_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run_folder = by_hand(&folder.path().join("run"), &[]);
    let manifest_at = Path::new(&run_folder).join("manifest.json");
    let log_at = Path::new(&run_folder).join("trials.jsonl");
    let manifest: Value = serde_json::from_str(&fs::read_to_string(&manifest_at).unwrap()).unwrap();
    let refused = |bytes: &[u8], because: &str| {
        fs::write(&manifest_at, bytes).unwrap();
        let output = run(&["report", &run_folder]);
        assert_eq!(code(output.status), 2, "{}", said(&output));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(because),
            "{}",
            said(&output)
        );
    };
    refused(b"\xff\xfe", "not UTF-8");
    refused(b"", "can't be read");
    let mut twice = manifest.clone();
    twice["cases"]
        .as_array_mut()
        .unwrap()
        .push(manifest["cases"][0].clone());
    refused(twice.to_string().as_bytes(), "stands twice");
    let mut outside = manifest.clone();
    outside["cases"][0]["slug"] = "../../outside".into();
    refused(outside.to_string().as_bytes(), "can't be one");

    // Names that would be formulas, markup, or orders to a terminal.
    let evil = "=1+1\u{1b}[2J\n::error::<script>alert(1)</script>";
    let text = manifest
        .to_string()
        .replace("\"tunnel\"", &Value::from(evil).to_string());
    fs::write(&manifest_at, ["\u{feff}", &text].concat()).unwrap();
    // The last line is cut off.
    let log = fs::read(&log_at).unwrap();
    fs::write(&log_at, &log[..log.len() - 30]).unwrap();
    let shown = run(&["report", &run_folder]);
    assert_eq!(code(shown.status), 0, "{}", said(&shown));
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("The last line of trials.jsonl is cut off"),
        "{}",
        said(&shown)
    );
    let gate = run(&["gate", &run_folder]);
    let (shown, gate) = (
        String::from_utf8_lossy(&shown.stdout),
        String::from_utf8_lossy(&gate.stdout),
    );
    assert!(
        !shown.contains('\u{1b}') && !gate.contains('\u{1b}'),
        "{shown}{gate}"
    );
    assert!(
        !gate.contains("\n::error"),
        "a name gives no orders to a workflow: {gate}"
    );
    for file in ["summary.csv", "comparisons.csv", "trials.csv", "intervals.csv"] {
        let mut reader = csv::Reader::from_path(Path::new(&run_folder).join(file)).unwrap();
        for record in reader.records() {
            for cell in &record.unwrap() {
                let formula = cell.starts_with(['=', '+', '@'])
                    || cell.starts_with('-') && cell.parse::<f64>().is_err();
                assert!(!formula, "{file}: {cell:?}");
            }
        }
    }
    let html = fs::read_to_string(Path::new(&run_folder).join("report.html")).unwrap();
    assert!(!html.contains("<script>alert"));
    // Without its log it is a run of which nothing is known yet.
    fs::remove_file(&log_at).unwrap();
    let empty = run(&["report", &run_folder]);
    assert_eq!(code(empty.status), 0, "{}", said(&empty));
    assert!(
        String::from_utf8_lossy(&empty.stdout).contains("no trial counts"),
        "{}",
        said(&empty)
    );
}

#[test]
fn a_history_finds_the_run_where_a_change_began_and_passes_over_bad_runs() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    for day in 1..=9_u32 {
        let day = day.to_string();
        let ratio = if day.as_str() < "6" { "0.9" } else { "0.6" };
        let name = format!("run-{day}");
        by_hand(
            &results.join(name),
            &["--day", &day, "--seed", &day, "--cv", "2", "--ratio", ratio],
        );
    }
    fs::create_dir(results.join("no-run")).unwrap();
    fs::create_dir(results.join("broken")).unwrap();
    fs::write(results.join("broken/manifest.json"), "{").unwrap();
    let at = results.to_str().unwrap();
    let out = folder.path().join("out");
    let shown = run(&["history", at, "--out", out.to_str().unwrap()]);
    assert_eq!(code(shown.status), 0, "{}", said(&shown));
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("by-hand: 9 runs"), "{text}");
    assert!(text.contains("worse, since run-6"), "{text}");
    assert!(!text.contains("direct · tcp, throughput:"), "{text}");
    assert!(
        String::from_utf8_lossy(&shown.stderr).contains("broken"),
        "{}",
        said(&shown)
    );
    let html = fs::read_to_string(out.join("history.html")).unwrap();
    assert!(html.contains("run-6") && html.contains("<svg") && html.contains("at least 0.80"));
    assert!(out.join("history-tunnel-tcp-throughput-relative.png").exists() || cfg!(not(feature = "plots")));
    // The same runs give the same bytes.
    let again = folder.path().join("again");
    run(&["history", at, "--out", again.to_str().unwrap()]);
    assert!(fs::read(again.join("history.html")).unwrap() == html.into_bytes());
    let json = run(&["history", at, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let series = json["by-hand"]["series"].as_array().unwrap();
    let tunnel = series
        .iter()
        .find(|one| one["path"] == "tunnel" && one["metric"] == "throughput")
        .unwrap();
    assert_eq!(tunnel["changes"][0]["run"], 5);
    let none = run(&["history", out.to_str().unwrap()]);
    assert_eq!(code(none.status), 2, "{}", said(&none));
}

/// Reads the log by HdrHistogram's own Python, and prints for each line its tag, count, and p50 and p99 in nanoseconds.
const READ_LOG: &str = "
import sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
reader = HistogramLogReader(sys.argv[1], HdrHistogram(1, 60_000_000_000, 3))
while histogram := reader.get_next_interval_histogram():
    print(histogram.get_tag(), histogram.get_total_count(), histogram.get_value_at_percentile(50),
          histogram.get_value_at_percentile(99))
";

#[test]
fn the_histogram_log_is_read_by_hdrhistograms_own_tools() {
    let Some(python) = python::with("hdrh", "hdrhistogram==0.10.8") else {
        skip::skip("no python3 with venv, or no Python registry: no other tool read latency.hlog");
        return;
    };
    let sample = repository().join("results/sample");
    let read = finish(
        Command::new(python)
            .args(["-c", READ_LOG])
            .arg(sample.join("latency.hlog")),
        LIMIT,
    );
    assert_eq!(code(read.status), 0, "{}", said(&read));
    let read = String::from_utf8(read.stdout).unwrap();
    // trials.csv has the same percentiles, in microseconds.
    let mut reader = csv::Reader::from_path(sample.join("trials.csv")).unwrap();
    let columns = reader.headers().unwrap().clone();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let mut expected: Vec<(String, u64, f64, f64)> = reader
        .records()
        .map(Result::unwrap)
        .filter(|record| !record[at("latency_p50_us")].is_empty())
        .map(|record| {
            let number = |name: &str| record[at(name)].parse::<f64>().unwrap();
            (
                record[at("case")].to_owned(),
                number("transactions") as u64,
                number("latency_p50_us"),
                number("latency_p99_us"),
            )
        })
        .collect();
    let mut seen: Vec<(String, u64, f64, f64)> = read
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<f64>().unwrap();
            (
                words[0].to_owned(),
                number(1) as u64,
                number(2) / 1e3,
                number(3) / 1e3,
            )
        })
        .collect();
    let order = |a: &(String, u64, f64, f64), b: &(String, u64, f64, f64)| {
        (&a.0, a.1).cmp(&(&b.0, b.1)).then(a.2.total_cmp(&b.2))
    };
    expected.sort_by(order);
    seen.sort_by(order);
    assert!(expected.len() > 50 && expected.len() == seen.len());
    for (expected, seen) in expected.iter().zip(&seen) {
        assert_eq!((&expected.0, expected.1), (&seen.0, seen.1));
        // That library rounds a percentile's rank where ours rounds it up: the next sample may answer.
        for (a, b) in [(expected.2, seen.2), (expected.3, seen.3)] {
            assert!((a / b - 1.0).abs() < 0.02, "{expected:?} {seen:?}");
        }
    }
}
