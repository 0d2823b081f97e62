//! Hand-made runs through [`judge`].

use super::*;
use crate::{
    analysis::{
        fixtures::{contradicted, failed, latency, manifest, run, slug, throughput, unknown},
        summarise,
    },
    run::Trial,
};

/// The verdict over a run of one gate, given as YAML of its limits.
fn verdict(limits: &str, log: &[Trial]) -> GateVerdict {
    let manifest = manifest(Some(&format!(
        "  - {{ name: promise, path: Always, workload: tcp, metric: throughput, {limits} }}"
    )));
    let mut report = judge(&manifest, &summarise(&manifest, log));
    assert_eq!(report.verdicts.len(), 1);
    report.verdicts.remove(0)
}

/// Six trials of `Always` at 191 to 206 MB/s: with six, the interval is from the least to the most.
fn six() -> Vec<Trial> {
    (0..6)
        .map(|step| throughput(step + 1, "Always", 191.0 + 3.0 * f64::from(step)))
        .collect()
}

#[test]
fn the_whole_interval_decides() {
    for (limits, state) in [
        ("at-least: 190MB/s", GateState::Pass),
        ("at-least: 191MB/s", GateState::Pass),
        ("at-least: 191.1", GateState::Inconclusive),
        ("at-least: 206", GateState::Inconclusive),
        ("at-least: 206.1", GateState::Fail),
        ("at-most: 206.1", GateState::Pass),
        ("at-most: 206", GateState::Pass),
        ("at-most: 205", GateState::Inconclusive),
        ("at-most: 191", GateState::Inconclusive),
        ("at-most: 190", GateState::Fail),
        ("at-least: 190, at-most: 207", GateState::Pass),
        ("at-least: 190, at-most: 200", GateState::Inconclusive),
        ("at-least: 195, at-most: 200", GateState::Inconclusive),
        ("at-least: 207, at-most: 300", GateState::Fail),
        ("at-least: 100, at-most: 190", GateState::Fail),
    ] {
        assert_eq!(verdict(limits, &six()).state, state, "{limits}");
    }
}

#[test]
fn verdicts_read_well() {
    let gates = "
  - { name: pass, path: CrossSubnet, workload: tcp, metric: throughput, relative-to: node-to-node, at-least: 0.9 }
  - { name: fail, path: Always, workload: tcp, metric: throughput, relative-to: node-to-node, at-least: 0.9 }
  - { name: fail absolutely, path: Always, workload: tcp, metric: throughput, at-least: 1GB/s }
  - { name: inconclusive, path: node-to-node, workload: tcp, metric: throughput, at-least: 1GB/s }
  - { name: latency, path: Always, workload: rr, metric: latency_p99, at-most: 250us }
  - { name: latency fails, path: Always, workload: rr, metric: latency_p50, at-most: 50 }
  - { name: both, path: Always, workload: rr, metric: latency_p50, at-least: 1us, at-most: 1ms }
  - { name: too few samples, path: Always, workload: rr, metric: latency_p99_9, at-most: 1ms }
  - { name: not of this workload, path: Always, workload: tcp, metric: latency_p99, at-most: 1ms }
  - { name: unknown case, path: Always, workload: udp, metric: throughput, at-least: 1 }
  - { name: left out, path: Always, workload: rr, metric: latency_p50, at-most: 1ms }";
    let mut manifest = manifest(Some(gates));
    manifest
        .skipped_gates
        .insert("left out".to_owned(), "`--only tcp` left its case out".to_owned());
    let report = judge(&manifest, &summarise(&manifest, &run(6)));
    let text: Vec<String> = report
        .verdicts
        .iter()
        .map(|verdict| format!("[{}] {}: {}", verdict.state, verdict.gate, verdict.message))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
    insta::assert_snapshot!("gate_json", serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn too_few_blocks_are_inconclusive_and_say_how_many_it_takes() {
    let verdict = verdict("at-least: 1MB/s", &six()[..5]);
    assert_eq!(verdict.state, GateState::Inconclusive);
    assert_eq!((verdict.trials, verdict.interval), (5, None));
    assert!(verdict.message.contains("--blocks 6"), "{}", verdict.message);
}

#[test]
fn without_proof_of_the_path_there_is_no_verdict() {
    let mut log = six();
    log[2] = unknown(log[2].clone());
    let unproved = verdict("at-least: 1MB/s", &log);
    assert_eq!(unproved.state, GateState::Inconclusive);
    assert!(unproved.seen.is_some());
    assert_eq!(
        verdict("at-least: 1MB/s, evidence: any", &log).state,
        GateState::Pass
    );

    // Of a ratio both ends must be proved.
    let mut log = run(6);
    for trial in log
        .iter_mut()
        .filter(|trial| trial.case == slug("node-to-node", "tcp"))
    {
        *trial = unknown(trial.clone());
    }
    let ratio = "relative-to: node-to-node, at-most: 0.5";
    assert_eq!(verdict(ratio, &log).state, GateState::Inconclusive);
    assert_eq!(
        verdict(&format!("{ratio}, evidence: any"), &log).state,
        GateState::Pass
    );
}

#[test]
fn contradicted_trials_never_carry_a_verdict() {
    let log: Vec<_> = six().into_iter().map(contradicted).collect();
    let all = verdict("at-least: 1MB/s, evidence: any", &log);
    assert_eq!(
        (all.state, all.trials, all.seen),
        (GateState::Inconclusive, 0, None)
    );
    assert!(all.message.contains("6 took another way"), "{}", all.message);
    // One contradicted among seven: the others decide, and it is said.
    let mut log = six();
    log.push(contradicted(throughput(7, "Always", 1.0)));
    let one = verdict("at-least: 190MB/s", &log);
    assert_eq!((one.state, one.trials), (GateState::Pass, 6));
    assert!(
        one.message.contains("1 trial of `Always` took another way"),
        "{}",
        one.message
    );
}

#[test]
fn without_trials_the_reason_is_told() {
    let of = |log: &[Trial]| verdict("at-least: 1MB/s", log);
    assert!(of(&[]).message.contains("none was measured"));
    let failures: Vec<_> = six().into_iter().map(failed).collect();
    assert!(of(&failures).message.contains("6 failed"));
    assert_eq!(of(&failures).state, GateState::Inconclusive);
}

#[test]
fn the_worst_verdict_is_the_runs() {
    use GateState::{Fail, Inconclusive, Pass, Skipped};
    let report = |states: &[GateState]| GateReport {
        verdicts: states
            .iter()
            .map(|&state| GateVerdict {
                state,
                ..verdict("at-least: 1MB/s", &six())
            })
            .collect(),
    };
    for (states, state) in [
        (&[][..], Pass),
        (&[Pass, Skipped], Pass),
        (&[Pass, Inconclusive, Skipped], Inconclusive),
        (&[Inconclusive, Fail, Pass], Fail),
    ] {
        assert_eq!(report(states).state(), state);
    }
}

#[test]
fn the_file_comes_back_and_a_newer_one_is_refused() {
    let manifest = manifest(None);
    let report = judge(&manifest, &summarise(&manifest, &run(6)));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<GateReport>(&text).unwrap(), report);
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    let error = serde_json::from_str::<GateReport>(&newer).unwrap_err();
    assert!(error.to_string().contains("format 2"), "{error}");
}

#[test]
fn a_late_sender_is_said() {
    let log: Vec<_> = (1..=6)
        .map(|block| {
            let mut trial = latency(block, "Always", 70.0, 1000);
            let result = trial.latency.as_mut().unwrap();
            result.send_lag = Some(result.latency.clone());
            trial
        })
        .collect();
    let manifest = manifest(Some(
        "  - { name: p, path: Always, workload: rr, metric: latency_p99, at-most: 1ms }",
    ));
    let verdict = judge(&manifest, &summarise(&manifest, &log)).verdicts.remove(0);
    assert_eq!(verdict.state, GateState::Pass);
    assert!(
        verdict.message.contains("the sender bounds"),
        "{}",
        verdict.message
    );
}

#[test]
fn where_a_run_may_go_on_the_sequential_test_decides() {
    use GateState::{Fail, Inconclusive, Pass};
    let mut manifest = manifest(Some(
        "
  - { name: clear, path: Always, workload: tcp, metric: throughput, relative-to: node-to-node, at-most: 0.5 }
  - { name: broken, path: Always, workload: tcp, metric: throughput, relative-to: node-to-node, at-least: 0.5 }
  - { name: near, path: node-to-node, workload: tcp, metric: throughput, at-least: 1GB/s }
  - { name: never, path: Always, workload: udp, metric: throughput, at-least: 1GB/s }
  - { name: unproved, path: CrossSubnet, workload: tcp, metric: throughput, at-least: 1GB/s }",
    ));
    manifest.scenario.blocks.at_most = Some(12);
    let log = |blocks| {
        let mut log = run(blocks);
        for trial in log
            .iter_mut()
            .filter(|trial| trial.case == slug("CrossSubnet", "tcp"))
        {
            *trial = unknown(trial.clone());
        }
        log
    };
    let after = |blocks| {
        let summary = summarise(&manifest, &log(blocks));
        let states: Vec<GateState> = judge(&manifest, &summary)
            .verdicts
            .iter()
            .map(|verdict| verdict.state)
            .collect();
        (states, open_gates(&manifest, &summary))
    };
    let nothing = [Inconclusive; 5];
    let decided = [Pass, Fail, Inconclusive, Inconclusive, Inconclusive];
    assert_eq!(after(5), (nothing.to_vec(), vec!["clear", "broken", "near"]));
    assert_eq!(after(6), (decided.to_vec(), vec!["near"]));
    assert_eq!(after(12), (decided.to_vec(), vec![]), "the budget is spent");
    // Before a first trial all are open that could be decided.
    assert_eq!(
        open_gates(&manifest, &summarise(&manifest, &[])),
        ["clear", "broken", "near", "unproved"]
    );
    let report = judge(&manifest, &summarise(&manifest, &log(12)));
    let messages: Vec<&str> = report
        .verdicts
        .iter()
        .map(|verdict| verdict.message.as_str())
        .collect();
    insta::assert_snapshot!(messages.join("\n"));

    manifest.scenario.blocks.at_most = Some(6);
    assert_eq!(
        open_gates(&manifest, &summarise(&manifest, &log(5))),
        [""; 0],
        "fixed"
    );
}

#[test]
fn a_rate_that_was_never_sent_gives_no_verdict() {
    let state = |asked: u64| {
        let mut manifest = manifest(Some(
            "  - { name: promise, path: Always, workload: tcp, metric: throughput, at-least: 190MB/s }",
        ));
        for case in &mut manifest.cases {
            if let Some(throughput) = &mut case.workload.throughput {
                throughput.protocol = crate::scenario::Protocol::Udp;
                throughput.bitrate = Some(crate::units::BitRate(asked * 8_000_000));
            }
        }
        let summary = summarise(&manifest, &six());
        let said = summary
            .warnings
            .iter()
            .any(|warning| warning.contains("of the rate"));
        let verdict = judge(&manifest, &summary).verdicts.remove(0);
        assert_eq!(
            said,
            verdict.state == GateState::Inconclusive,
            "{}",
            verdict.message
        );
        verdict.state
    };
    // The median trial sent 198.5 MB/s.
    assert_eq!(state(200), GateState::Pass);
    assert_eq!(state(210), GateState::Inconclusive);
}
