//! Runs the tests of a file once more under Debian's kernel (`scripts/other-kernel`), where this machine's kernel lacks
//! what they need.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{path::Path, process::Command};

/// Set for what runs there.
const INSIDE: &str = "ENCAPBENCH_OTHER_KERNEL";

/// Whether this process runs there.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this process's test file there, a few tests at a time, and shows what it says where a test fails. Skips where
/// there can be no such machine.
pub(crate) fn run_this_file() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/other-kernel");
    let output = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .args(["--test-threads=2", "--color=never"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // What the script says of a machine that can't be had.
    if output.status.code() == Some(125) {
        crate::skip::skip(format_args!(
            "nothing was tested under another kernel: {}",
            said.trim()
        ));
        return;
    }
    assert!(
        output.status.success() && said.contains("test result: ok."),
        "under another kernel: {}\n{said}",
        output.status
    );
}
