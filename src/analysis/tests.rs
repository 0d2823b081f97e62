//! Hand-made runs through [`summarise`].

use super::{
    fixtures::{contradicted, failed, latency, manifest, received, run, slug, throughput, unknown},
    *,
};
use crate::{evidence::EvidenceState, run::Outcome, scenario::Metric};
use std::fmt::Write as _;

/// A summary as text, for snapshots.
fn table(summary: &Summary) -> String {
    let estimate = |estimate: Option<Estimate>| {
        estimate.map_or_else(
            || "-".to_owned(),
            |e| {
                let interval = e.interval.map_or_else(
                    || "no interval".to_owned(),
                    |(low, high)| format!("{low:.3}..{high:.3}"),
                );
                format!("{:.3} ({interval}; {} at {:.4})", e.median, e.count, e.coverage)
            },
        )
    };
    let mut text = String::new();
    for row in &summary.rows {
        let optional =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        writeln!(
            text,
            "{} {} {} | {} | merged {} | relative {} | smallest {} | reference {} | {}",
            row.path,
            row.workload,
            row.metric,
            estimate(row.estimate),
            optional(row.merged),
            estimate(row.relative),
            optional(row.smallest_difference),
            optional(row.reference),
            row.evidence
        )
        .unwrap();
    }
    for warning in &summary.warnings {
        writeln!(text, "! {warning}").unwrap();
    }
    text
}

#[test]
fn a_whole_run_has_every_row() {
    insta::assert_snapshot!(table(&summarise(&manifest(None), &run(6))));
}

#[test]
fn what_does_not_count_is_left_out_and_said() {
    let mut log = run(7);
    for trial in &mut log {
        let of = |path: &str, workload: &str| trial.case == slug(path, workload);
        if of("Always", "tcp") && trial.block <= 2 {
            *trial = contradicted(trial.clone());
        } else if of("CrossSubnet", "tcp") && trial.block == 3 {
            *trial = failed(trial.clone());
        } else if of("CrossSubnet", "rr") && trial.block == 4 {
            *trial = unknown(trial.clone());
        } else if of("node-to-node", "rr") && trial.block == 7 {
            trial.outcome = Outcome::Interrupted;
        }
    }
    log.push(throughput(1, "nowhere", 1.0));
    let summary = summarise(&manifest(None), &log);
    insta::assert_snapshot!(table(&summary));
    let always = summary.case("Always", "tcp").unwrap();
    assert_eq!((always.valid, always.contradicted), (5, 2));
    assert!(
        always
            .points(Metric::Throughput)
            .iter()
            .all(|point| point.block > 2)
    );
    assert_eq!(summary.case("CrossSubnet", "tcp").unwrap().failed, 1);
    assert_eq!(
        summary
            .row("CrossSubnet", "rr", Metric::LatencyP50)
            .unwrap()
            .evidence,
        EvidenceState::Unknown
    );
}

#[test]
fn a_case_without_a_trial_that_counts_has_a_row_without_figures() {
    let log: Vec<_> = run(6)
        .into_iter()
        .map(|trial| {
            if trial.case == slug("Always", "tcp") {
                contradicted(trial)
            } else {
                trial
            }
        })
        .collect();
    let summary = summarise(&manifest(None), &log);
    let row = summary.row("Always", "tcp", Metric::Throughput).unwrap();
    assert_eq!((row.estimate, row.relative), (None, None));
    assert_eq!(row.evidence, EvidenceState::Contradicted);
    assert!(summary.row("Always", "tcp", Metric::Retransmits).is_none());
    assert!(
        summary
            .warnings
            .iter()
            .any(|warning| warning.contains("no trial counts"))
    );
    // An empty log too.
    let summary = summarise(&manifest(None), &[]);
    assert_eq!(summary.rows.len(), 6);
}

#[test]
fn a_block_tried_again_counts_once_by_its_last_measured_trial() {
    let mut log = vec![
        failed(throughput(1, "Always", 1.0)),
        throughput(1, "Always", 100.0),
    ];
    log.push(throughput(1, "Always", 300.0));
    log.push(failed(throughput(1, "Always", 1.0)));
    let summary = summarise(&manifest(None), &log);
    let case = summary.case("Always", "tcp").unwrap();
    assert_eq!((case.valid, case.failed), (1, 0));
    assert_eq!(
        case.points(Metric::Throughput),
        [TrialPoint {
            block: 1,
            value: 300.0
        }]
    );
    // What was measured last and contradicted stands too: it is not replaced by what was seen before it.
    log.push(contradicted(throughput(1, "Always", 500.0)));
    let summary = summarise(&manifest(None), &log);
    assert_eq!(summary.case("Always", "tcp").unwrap().valid, 0);
}

#[test]
fn cpu_is_spread_over_all_that_was_carried_in_its_span() {
    let summary = summarise(&manifest(None), &[throughput(1, "Always", 1000.0)]);
    // 2.5 busy seconds (steal and idle are not) over 2 GB and their warm-up of 0.5 GB.
    let row = summary.row("Always", "tcp", Metric::CpuSecondsPerGb).unwrap();
    assert!((row.estimate.unwrap().median - 1.0).abs() < 1e-9);
}

#[test]
fn a_percentile_needs_ten_samples_beyond_it_in_every_trial() {
    let row = |counts: &[u32], metric| {
        let log: Vec<_> = counts
            .iter()
            .zip(1..)
            .map(|(&count, block)| latency(block, "Always", 70.0, count))
            .collect();
        let row = summarise(&manifest(None), &log)
            .row("Always", "rr", metric)
            .cloned();
        row.map(|row| (row.estimate.map(|e| e.count), row.merged.is_some()))
    };
    assert_eq!(row(&[100, 100], Metric::LatencyP90), Some((Some(2), true)));
    assert_eq!(row(&[100, 99], Metric::LatencyP90), Some((None, true)));
    assert_eq!(row(&[50, 49], Metric::LatencyP90), None);
    assert_eq!(row(&[1000], Metric::LatencyP99), Some((Some(1), true)));
    assert_eq!(row(&[999], Metric::LatencyP99), None);
    assert_eq!(row(&[999], Metric::SendLagP99), None);
    assert_eq!(row(&[6000, 4000], Metric::LatencyP99_9), Some((None, true)));
    assert_eq!(row(&[1], Metric::LatencyMax), Some((Some(1), true)));
}

#[test]
fn a_late_sender_is_found_out() {
    let mut late = latency(1, "Always", 70.0, 1000);
    let result = late.latency.as_mut().unwrap();
    result.send_lag = Some(fixtures::histogram(40.0, 1000));
    result.unanswered = 10;
    result.saturated = 2;
    let summary = summarise(&manifest(None), &[latency(2, "CrossSubnet", 70.0, 1000), late]);
    assert!(summary.case("Always", "rr").unwrap().generator_bound);
    assert!(!summary.case("CrossSubnet", "rr").unwrap().generator_bound);
    let of_always: Vec<_> = summary
        .warnings
        .iter()
        .filter(|warning| warning.starts_with("`Always`, `rr`"))
        .map(String::as_str)
        .collect();
    insta::assert_snapshot!(of_always.join("\n"));
}

#[test]
fn no_ratio_over_nothing() {
    let mut log = run(6);
    for trial in log
        .iter_mut()
        .filter(|trial| trial.case == slug("node-to-node", "tcp"))
    {
        let stream = &mut trial.throughput.as_mut().unwrap().streams[0];
        stream.retransmits = Some(if trial.block == 1 { 0 } else { 4 });
    }
    let summary = summarise(&manifest(None), &log);
    let row = summary.row("Always", "tcp", Metric::Retransmits).unwrap();
    assert!(row.estimate.is_some());
    assert_eq!((row.relative, row.smallest_difference), (None, None));
    assert!(
        summary
            .row("Always", "tcp", Metric::Throughput)
            .unwrap()
            .relative
            .is_some()
    );
}

#[test]
fn unlike_congestion_control_is_said() {
    let mut log = run(6);
    for trial in &mut log {
        // The receiving end of node-to-node has another default, but sends nothing.
        if trial.case == slug("node-to-node", "tcp") {
            trial.sender = Some(received(1000.0));
            let result = trial.throughput.as_mut().unwrap();
            result.techniques.congestion = Some("reno".to_owned());
        }
    }
    let warned = |log: &[crate::run::Trial]| {
        let warnings = summarise(&manifest(None), log).warnings;
        warnings
            .into_iter()
            .find(|warning| warning.contains("congestion"))
    };
    assert_eq!(warned(&log), None);
    for trial in log.iter_mut().filter(|trial| trial.case == slug("Always", "tcp")) {
        trial.throughput.as_mut().unwrap().techniques.congestion = Some("reno".to_owned());
    }
    let warning = warned(&log).unwrap();
    assert!(
        warning.contains("cubic on `CrossSubnet`, `node-to-node`; reno on `Always`"),
        "{warning}"
    );
}

#[test]
fn drift_is_said_of_what_drifts() {
    let log: Vec<_> = (1..=10)
        .flat_map(|block| {
            let rate = 1000.0 - 20.0 * f64::from(block);
            let steady = 500.0 + f64::from(block * 7 % 5);
            [
                throughput(block, "Always", rate),
                throughput(block, "CrossSubnet", steady),
            ]
        })
        .collect();
    let warnings = summarise(&manifest(None), &log).warnings;
    let drifts: Vec<_> = warnings
        .iter()
        .filter(|warning| warning.contains("Mann-Kendall"))
        .collect();
    assert_eq!(drifts.len(), 1, "{warnings:?}");
    assert!(
        drifts[0].starts_with("`Always`, `tcp`: throughput fell over the run"),
        "{}",
        drifts[0]
    );
}
