//! Under the name `kubectl-encapbench` the program is a plugin of kubectl.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{os::unix::fs::symlink, process::Command};

fn help(name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_encapbench"), &link).unwrap();
    let output = Command::new(&link).args(["run", "--help"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn its_help_says_how_it_was_called() {
    assert!(help("kubectl-encapbench").contains("Usage: kubectl encapbench run "));
    assert!(help("encapbench").contains("Usage: encapbench run "));
}
