//! The command line: one file a subcommand.

#[cfg(feature = "kubernetes")]
mod cleanup;
mod compare;
mod complete;
mod doctor;
mod exit;
mod fabric;
mod failure;
mod gate;
mod github;
mod history;
pub mod iperf3;
mod kubernetes_args;
#[cfg(feature = "lab")]
pub mod lab;
mod pipe;
mod plan;
mod progress;
mod publish;
mod report;
mod run;
pub mod scenario_args;
mod schema;
mod text;
#[cfg(feature = "lab")]
mod tunnel;
mod worker;

pub use exit::Exit;
pub use failure::Failure;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// What does an encapsulation mode cost, and is this cluster fit for production?
///
/// encapbench runs the same workloads over node-to-node, Calico CrossSubnet and Calico Always paths, proves which way
/// the packets went, and compares. Without a cluster it builds one: a lab of network namespaces on this machine.
#[derive(Debug, Parser)]
#[command(name = "encapbench", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  encapbench plan scenarios/calico-vxlan.yaml    what would run, and how long it takes
  encapbench run scenarios/calico-vxlan.yaml     run it, and report
  encapbench report results/2026-...             make the report files again

Exit codes:
  0 all is well, every gate passed       1 a gate failed
  2 usage, or a bad file                 3 this machine can't do it
  4 the run failed                       5 a gate is inconclusive
  130 interrupted; what was measured is saved";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario, record it, report it, judge its gates
    Run(run::RunArgs),
    /// Show what would run, in which order, and how long it takes; touches nothing
    Plan(plan::PlanArgs),
    /// Make the report files of runs again
    Report(report::ReportArgs),
    /// Is one run different from another, where, and how sure is that
    Compare(compare::CompareArgs),
    /// Figures of a scenario over many runs, and the run where a change began
    History(history::HistoryArgs),
    /// Judge a run's gates again
    Gate(gate::GateArgs),
    /// What is wrong with a lab or with this machine, why, and what to do
    Doctor(doctor::DoctorArgs),
    /// Build a lab and enter it, or run a command in a place of it
    #[cfg(feature = "lab")]
    Lab(lab::LabArgs),
    /// Find and remove what crashed runs left in a Kubernetes cluster
    #[cfg(feature = "kubernetes")]
    Cleanup(cleanup::CleanupArgs),
    /// iperf3's own command line, client and server
    Iperf3(iperf3::Iperf3Args),
    /// The worker process inside a place (started by a fabric)
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
    /// A tunnel in user space, for what the kernel lacks (started by a lab)
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    Tunnel,
    /// Print the JSON Schema of scenario files, policies, or a run folder's files
    Schema(schema::SchemaArgs),
    /// Print a shell's completions
    Completions(complete::CompletionsArgs),
    /// Print the manual page
    Man,
}

/// Parses the command line and does what it says. Call it before any thread is started: the lab of an ordinary user
/// needs a user namespace, which the kernel refuses to a process with two threads.
pub fn main() -> ExitCode {
    // Under the name iperf3, a symbolic link, it is iperf3.
    let mut arguments = std::env::args_os();
    if iperf3::is_our_name(arguments.next().as_deref()) {
        let arguments: Vec<_> = arguments
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        return iperf3::run_arguments(&arguments);
    }
    let mut command = Cli::command();
    if is_plugin(std::env::args_os().next().as_deref()) {
        command = command.bin_name("kubectl encapbench");
    }
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Success.into()
            };
        }
    };
    // Not locked: threads of some commands write too.
    let mut out = pipe::Pipe::new(anstream::stdout());
    let ended = match cli.command {
        Command::Run(args) => run::run(&args, &mut out),
        Command::Plan(args) => plan::run(&args, &mut out),
        Command::Report(args) => report::run(&args, &mut out),
        Command::Compare(args) => compare::run(&args, &mut out),
        Command::History(args) => history::run(&args, &mut out),
        Command::Gate(args) => gate::run(&args, &mut out),
        Command::Doctor(args) => doctor::run(&args, &mut out),
        // What a command in the lab returned is returned as it is.
        #[cfg(feature = "lab")]
        Command::Lab(args) => return lab::run(&args, &mut out, &mut io::stderr()).into(),
        #[cfg(feature = "kubernetes")]
        Command::Cleanup(args) => cleanup::run(&args, &mut out),
        Command::Iperf3(args) => return iperf3::run(&args),
        #[cfg(feature = "lab")]
        Command::Tunnel => tunnel::run(),
        Command::Worker(args) => worker::run(&args),
        Command::Schema(args) => schema::run(&args, &mut out),
        Command::Completions(args) => complete::completions(&args, &mut out),
        Command::Man => complete::man(&mut out),
    };
    match ended.and_then(|exit| out.flush().map(|()| exit).map_err(Failure::from)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(&mut io::stderr());
            failure.exit().into()
        }
    }
}

/// Whether kubectl has started this as its plugin: it runs `kubectl encapbench` by a program of this name.
fn is_plugin(program: Option<&std::ffi::OsStr>) -> bool {
    let name = program
        .map(std::path::Path::new)
        .and_then(std::path::Path::file_name);
    name.is_some_and(|name| name == "kubectl-encapbench")
}

/// How wide the terminal is, in columns; 100 where it is none.
fn width() -> usize {
    if !io::stdout().is_terminal() {
        return 100;
    }
    rustix::termios::tcgetwinsize(io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|w| *w >= 40)
        .unwrap_or(100)
}

/// Whether stdout takes colour: a terminal, and no wish against it (`NO_COLOR`, https://no-color.org).
fn colour() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}
