//! `encapbench iperf3`: iperf3's own command line, client and server, in the manner of iperf3 3.21.
//!
//! Started under the name `iperf3` (a symbolic link) the program is this command. Options, layout, JSON and exit
//! codes are iperf3's; what makes no sense here says so. The manual is iperf3's own: <https://software.es.net/iperf/>.

mod client;
mod errors;
mod getopt;
mod help;
mod options;
mod printer;
mod quantity;
mod server;
mod signals;
mod story;

use crate::iperf3::{output::view::Side, wire::ErrorCode};
use options::{Mistake, Options, Request};
use std::{
    fs::File,
    io::{self, Write},
    process::ExitCode,
};

/// `encapbench iperf3 ARGS...`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Iperf3Args {
    /// iperf3's own arguments; `-h` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

/// Whether the program was started under the name `iperf3`.
pub fn is_our_name(program: Option<&std::ffi::OsStr>) -> bool {
    program
        .map(std::path::Path::new)
        .and_then(|path| path.file_name())
        .is_some_and(|name| name == "iperf3")
}

/// Runs the subcommand: 0 for success, 1 for any failure.
pub fn run(arguments: &Iperf3Args) -> ExitCode {
    run_arguments(&arguments.arguments)
}

/// Runs a command line without the program's name.
pub fn run_arguments(arguments: &[String]) -> ExitCode {
    // Else standard error is iperf3's alone.
    if std::env::var_os("ENCAPBENCH_LOG").is_some() {
        super::run::log_to_stderr();
    }
    let code = run_with(arguments, &mut io::stdout(), &mut io::stderr());
    ExitCode::from(code)
}

fn run_with(arguments: &[String], out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let options = match Options::read(arguments) {
        Ok(Request::Help) => {
            let _ = out.write_all(help::HELP.as_bytes());
            return 0;
        }
        Ok(Request::Version) => {
            let _ = out.write_all(help::version().as_bytes());
            return 0;
        }
        Ok(Request::Run(options)) => options,
        Err(Mistake::Usage(text)) => {
            let _ = write!(err, "iperf3: {text}\n{}", help::HELP);
            return 1;
        }
        Err(Mistake::Parameter(code)) => return parameter_error(err, &code.to_string()),
    };
    if let Err(text) = refuse_what_makes_no_sense(&options) {
        let _ = writeln!(err, "iperf3: parameter error - {text}");
        return 1;
    }
    match run_options(&options, out, err) {
        Ok(()) => 0,
        Err(Stopped::Said) => 1,
        Err(Stopped::Parameter(code)) => parameter_error(err, &code.to_string()),
        Err(Stopped::Error(text)) => {
            let _ = writeln!(err, "iperf3: error - {text}");
            1
        }
    }
}

fn parameter_error(err: &mut dyn Write, text: &str) -> u8 {
    let _ = write!(err, "iperf3: parameter error - {text}\n\n{}", help::HELP);
    1
}

/// Why there is nothing more to do.
#[derive(Debug)]
enum Stopped {
    /// It was said already.
    Said,
    Parameter(ErrorCode),
    Error(String),
}

/// Options that are known, and can't be had here: better told than ignored.
fn refuse_what_makes_no_sense(options: &Options) -> Result<(), String> {
    let unsupported = [
        (
            options.daemon,
            "-D",
            "this program makes no daemon: run it in the background or under a service manager",
        ),
        (
            options.file.is_some() && options.bidirectional,
            "-F with --bidir",
            "the file would be overwritten while it is sent",
        ),
    ];
    match unsupported.iter().find(|(asked, ..)| *asked) {
        Some((_, option, why)) => Err(format!("{option} can't be used: {why}")),
        None => Ok(()),
    }
}

fn run_options(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Stopped> {
    let mut file;
    let out: &mut dyn Write = match &options.logfile {
        Some(path) => {
            file = File::options()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|error| Stopped::Error(ErrorCode::with_source(17, &error).to_string()))?;
            &mut file
        }
        None => out,
    };
    if let Some(cpu) = options.affinity {
        pin(cpu).map_err(Stopped::Parameter)?;
    }
    if let Some(path) = &options.pidfile {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| Stopped::Error(ErrorCode::with_source(135, &error).to_string()))?;
    }
    let ended = match options.side {
        Side::Client => client::run(options, out, err),
        Side::Server => server::run(options, out, err),
    };
    if let Some(path) = &options.pidfile {
        // Someone may have removed it already.
        let _ = std::fs::remove_file(path);
    }
    ended
}

/// Pins this thread, and those it starts from now on, to a CPU.
fn pin(cpu: i64) -> Result<(), ErrorCode> {
    let mut set = rustix::thread::CpuSet::new();
    let cpu = usize::try_from(cpu)
        .ok()
        .filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU);
    let cpu = cpu.ok_or(ErrorCode::new(ErrorCode::AFFINITY))?;
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|errno| ErrorCode::with_source(ErrorCode::AFFINITY, &errno.into()))
}
