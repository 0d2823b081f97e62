//! Parse, log, dispatch, exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    encapbench::cli::main()
}
