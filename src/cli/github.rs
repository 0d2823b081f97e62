//! What a GitHub workflow shows of a run: annotations of gates, and the report in the job's summary.
//!
//! Workflow commands are lines on stdout: <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>.

use super::publish::Published;
use crate::{
    gate::{GateReport, GateState},
    report,
};
use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
};

/// Escapes a command's text, so that no name can end the line and begin a command of its own.
fn text(value: &str) -> String {
    value
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Escapes a command's property, which a colon or comma would end.
fn property(value: &str) -> String {
    text(value).replace(':', "%3A").replace(',', "%2C")
}

fn write_annotations(gates: &GateReport, out: &mut dyn Write) -> io::Result<()> {
    for verdict in &gates.verdicts {
        let (command, what) = match verdict.state {
            GateState::Fail => ("error", "Gate failed"),
            GateState::Inconclusive => ("warning", "Gate inconclusive"),
            GateState::Skipped => ("notice", "Gate skipped"),
            GateState::Pass => continue,
        };
        writeln!(
            out,
            "::{command} title={}::{}",
            property(&format!("{what}: {}", verdict.gate)),
            text(&verdict.message)
        )?;
    }
    Ok(())
}

/// Where the program runs in a GitHub workflow: an annotation for each gate that did not pass.
pub(super) fn annotate(gates: &GateReport, out: &mut dyn Write) -> io::Result<()> {
    if env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        write_annotations(gates, out)?;
    }
    Ok(())
}

/// Where the program runs in a GitHub workflow: annotations, and the report appended to the job's summary.
pub(super) fn publish(published: &Published, out: &mut dyn Write) -> io::Result<()> {
    annotate(&published.gates, out)?;
    let Some(file) = env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty()) else {
        return Ok(());
    };
    let markdown = report::markdown(&published.inputs());
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .and_then(|mut summary| summary.write_all(markdown.as_bytes()));
    if let Err(error) = appended {
        // The run is good without it.
        tracing::warn!("can't append to GITHUB_STEP_SUMMARY: {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{property, text};

    #[test]
    fn nothing_ends_a_command_early() {
        assert_eq!(text("50 % less\r\n::error::x"), "50 %25 less%0D%0A::error::x");
        assert_eq!(property("a, b: c\n"), "a%2C b%3A c%0A");
    }
}
