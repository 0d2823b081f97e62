//! The committed sample runs: their report files are what this encapbench makes of them.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;

use program::{code, encapbench, finish, said};
use std::{collections::BTreeMap, fs, path::Path, time::Duration};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect()
}

/// The folders of results that git does not ignore.
fn samples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = fs::read_to_string(root.join(".gitignore")).unwrap();
    let kept = kept.lines().filter_map(|line| line.strip_prefix("!/results/"));
    kept.filter(|name| root.join("results").join(name).is_dir())
        .map(|name| format!("results/{name}"))
        .collect()
}

#[test]
fn their_reports_are_made_again_byte_for_byte() {
    let samples = samples();
    for sample in ["results/kubernetes", "results/sample", "results/submariner"] {
        assert!(
            samples.iter().any(|known| known == sample),
            "{sample} is not there"
        );
    }
    for sample in samples {
        is_made_again(&sample);
    }
}

fn is_made_again(run: &str) {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join(run);
    let folder = tempfile::tempdir().unwrap();
    for name in ["manifest.json", "trials.jsonl"] {
        fs::copy(sample.join(name), folder.path().join(name)).unwrap();
    }
    let output = finish(
        encapbench().arg("report").arg("--quiet").arg(folder.path()),
        Duration::from_mins(2),
    );
    assert_eq!(code(output.status), 0, "{}", said(&output));
    let (committed, made) = (files(&sample), files(folder.path()));
    assert!(
        committed.len() > 20 && committed.keys().eq(made.keys()),
        "{:?}",
        made.keys()
    );
    for (name, bytes) in committed {
        assert!(
            bytes == made[&name],
            "{name} of {run} is not what this encapbench makes: run `encapbench report`, look, and commit"
        );
    }
}
