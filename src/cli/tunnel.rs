//! `encapbench tunnel`: a tunnel in user space, for what a kernel lacks. A lab starts it.

use super::{Exit, Failure};
use crate::tunnel::{READY, TunnelSpec};
use crate::worker::protocol::chain;
use std::io::{self, BufRead as _, Write as _};

/// Reads the tunnel's description from the first line of standard input, and carries packets until that ends.
///
/// # Errors
/// Where it is no description, or the tunnel can't be made.
pub(super) fn run() -> Result<Exit, Failure> {
    super::run::log_to_stderr();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let spec: TunnelSpec = serde_json::from_str(&line)
        .map_err(|error| Failure::Usage(format!("this is no tunnel's description: {error}")))?;
    let ready = || {
        let mut out = io::stdout();
        // Who started it notices that it is gone, if so.
        let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    };
    crate::tunnel::run(&spec, ready).map_err(|error| Failure::Machine(chain(&error)))?;
    Ok(Exit::Success)
}
