//! A Python with a package of the Python registry, in an environment of its own under the build folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The interpreter that can import `module`, which is installed as `package` where it isn't yet; `None` where there is no
/// Python with venv, or no registry.
pub(crate) fn with(module: &str, package: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{module}"));
    let python = folder.join("bin/python");
    let has = |python: &Path| {
        Command::new(python)
            .args(["-c", &format!("import {module}")])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if has(&python) {
        return Some(python);
    }
    let made = Command::new("python3")
        .args(["-m", "venv"])
        .arg(&folder)
        .output()
        .is_ok_and(|output| output.status.success());
    let options = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--timeout",
        "10",
        "--retries",
        "0",
    ];
    let installed = made
        && Command::new(&python)
            .args(options)
            .arg(package)
            .output()
            .is_ok_and(|output| output.status.success());
    (installed && has(&python)).then_some(python)
}
