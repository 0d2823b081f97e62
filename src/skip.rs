//! For tests alone: how one skips. Also included by the tests in `tests/`.

use std::io::Write as _;

/// Says loudly that a test, or a part of it, is skipped, and for want of what: past the capture of the test harness,
/// so that it is seen. In CI, where nothing that matters may skip, it fails instead.
pub(crate) fn skip(missing: impl std::fmt::Display) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} must not skip in CI: {missing}"
    );
    // Nothing can be done where even this can't be said.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {missing}");
}
