use super::*;
use crate::{
    evidence::{EvidenceState, RawEvidence, Verdict},
    measure::machine::Host,
    run::{CongestionChoice, Outcome},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

fn manifest() -> Manifest {
    let scenario: crate::scenario::Scenario =
        serde_saphyr::from_str(include_str!("../../../scenarios/calico-vxlan.yaml")).unwrap();
    Manifest {
        format: Manifest::FORMAT,
        encapbench: "0.0.0".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        command: vec![],
        scenario,
        seed: u64::MAX,
        cases: vec![],
        skipped_gates: BTreeMap::new(),
        host: Host::default(),
        congestion: CongestionChoice::default(),
        fabric: BTreeMap::new(),
    }
}

fn trial(position: u32) -> Trial {
    Trial {
        block: 1,
        position,
        case: "a--b".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        seconds: 0.25,
        outcome: Outcome::Failed {
            error: "a\nb".to_owned(),
        },
        throughput: None,
        sender: None,
        search: Vec::new(),
        latency: None,
        load: None,
        pairs: Vec::new(),
        probe: None,
        cpu: vec![],
        hops: vec![],
        evidence: RawEvidence::default(),
        verdict: Verdict {
            state: EvidenceState::Unknown,
            tunnel_share: None,
            underlay_share: Some(0.1),
            reasons: vec![],
        },
    }
}

#[test]
fn what_is_appended_is_read_again() {
    let at = tempfile::tempdir().unwrap();
    let mut folder = Folder::create(at.path(), &manifest()).unwrap();
    for position in 1..=3 {
        folder.append(&trial(position)).unwrap();
    }
    // While the writer still has it, as a report of a running run does.
    let read = read(at.path()).unwrap();
    assert_eq!(read.manifest, manifest());
    assert_eq!(read.trials, [trial(1), trial(2), trial(3)]);
    assert!(!read.torn);
    drop(folder);
    assert!(!at.path().join(LOCK).exists() && !at.path().join(RESERVE).exists());
}

#[test]
fn a_torn_last_line_is_dropped_and_appending_goes_on_behind_the_whole_ones() {
    let at = tempfile::tempdir().unwrap();
    let mut folder = Folder::create(at.path(), &manifest()).unwrap();
    folder.append(&trial(1)).unwrap();
    drop(folder);
    let log = at.path().join(TRIALS);
    let whole = fs::read(&log).unwrap();
    let line = serde_json::to_vec(&trial(2)).unwrap();
    // Every length of the second line without its newline is torn, even where it is JSON already.
    for cut in [1, line.len() / 2, line.len()] {
        fs::write(&log, [&whole[..], &line[..cut]].concat()).unwrap();
        assert!(read(at.path()).unwrap().torn);
        let (mut folder, recorded) = Folder::resume(at.path()).unwrap();
        assert_eq!(recorded.trials, [trial(1)]);
        folder.append(&trial(3)).unwrap();
        drop(folder);
        assert_eq!(read(at.path()).unwrap().trials, [trial(1), trial(3)]);
    }
}

#[test]
fn a_bad_line_before_the_last_names_its_line() {
    let at = tempfile::tempdir().unwrap();
    drop(Folder::create(at.path(), &manifest()).unwrap());
    fs::write(at.path().join(TRIALS), "{}\n{}\n").unwrap();
    let error = read(at.path()).unwrap_err().to_string();
    assert!(error.contains("trials.jsonl:1:"), "{error}");
}

#[test]
fn a_folder_has_one_writer_and_one_run() {
    let at = tempfile::tempdir().unwrap();
    let folder = Folder::create(at.path(), &manifest()).unwrap();
    assert!(matches!(
        Folder::resume(at.path()),
        Err(FolderError::Locked { .. })
    ));
    drop(folder);
    assert!(matches!(
        Folder::create(at.path(), &manifest()),
        Err(FolderError::Exists(_))
    ));
    assert!(matches!(
        read(&at.path().join("absent")),
        Err(FolderError::NoRun(_))
    ));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let at = tempfile::tempdir().unwrap();
    fs::write(at.path().join(MANIFEST), r#"{"format": 999, "anything": []}"#).unwrap();
    let error = read(at.path()).unwrap_err().to_string();
    assert!(error.contains("format 999"), "{error}");
}
