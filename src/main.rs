//! Parse, log, dispatch, exit code; nothing else.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "encapbench", version)]
enum Cli {
    /// Build a lab and enter it, or run a command in a place of it
    #[cfg(feature = "lab")]
    Lab(encapbench::cli::lab::LabArgs),
}

fn main() -> ExitCode {
    match Cli::parse() {
        #[cfg(feature = "lab")]
        Cli::Lab(args) => {
            let code = encapbench::cli::lab::run(&args, &mut std::io::stdout(), &mut std::io::stderr());
            ExitCode::from(code)
        }
    }
}
