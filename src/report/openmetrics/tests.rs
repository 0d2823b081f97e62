use super::super::fixture;
use super::*;
use std::collections::BTreeSet;

/// What OpenMetrics asks of a text, as far as it is used here: families stand together and are declared first, no
/// sample comes twice, names end in their unit, and `# EOF` ends it.
#[track_caller]
fn check(text: &str) {
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.strip_suffix(" gauge").unwrap();
            assert!(families.insert(name.to_owned()), "{name} stands in two places");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name == current && name.ends_with(&format!("_{unit}")), "{line}");
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once('{').unwrap();
            assert_eq!(name, current, "{line}");
            let (labels, value) = rest.rsplit_once("} ").unwrap();
            assert!(value.parse::<f64>().unwrap().is_finite(), "{line}");
            assert!(
                samples.insert((name.to_owned(), labels.to_owned())),
                "{line} twice"
            );
        }
    }
    assert!(!samples.is_empty());
}

#[test]
fn every_run_gives_a_valid_text() {
    for fixture in [fixture::run(6), fixture::troubled(), fixture::hostile()] {
        check(&write(&fixture.inputs()));
    }
}

#[test]
fn figures_are_in_base_units() {
    let text = write(&fixture::run(6).inputs());
    let find = |start: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let throughput =
        find("encapbench_throughput_bytes_per_second{scenario=\"calico-vxlan\",path=\"node-to-node\"");
    assert!((0.9e9..1.1e9).contains(&throughput), "{throughput}");
    assert!(text.contains("stat=\"ci_low\"") && text.contains("quantile=\"0.99\""));
    assert!(find("encapbench_run_start_timestamp_seconds") > 1.7e9);
}

#[test]
fn digits_are_kept_at_every_size() {
    assert_eq!(number(1_014_567_890.4), "1014567890");
    assert_eq!(number(0.000_059_487_13), "0.0000594871");
    assert_eq!(number(0.36), "0.36");
    assert_eq!(number(0.0), "0");
}
