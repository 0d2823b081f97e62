//! `encapbench lab`: build a lab, or join a running one, and enter it or run a command in one of its places.

use super::text;
use crate::fabric::lab::{
    AttachedLab, Command, LabError, LabProcess, RunningLab, enter_user_namespace, lab_of, places_of_paths,
    pods_everywhere,
};
use crate::scenario::{self, Place, Scenario};
use crate::sys::fork;
use crate::worker::protocol::chain;
use std::error::Error;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Builds a lab and opens a shell in its first node; with `--in`, in another place.
///
/// All that the lab is ends with this command, however it ends: nothing stays behind. A lab that was joined (--attach)
/// is its run's, and ends with the block: what runs in it then is killed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  encapbench lab scenarios/calico-vxlan.yaml --list
  encapbench lab scenarios/calico-vxlan.yaml --in pod@east-1/Always -- ip route
  encapbench lab --attach results/2026-... --in east-2 -- tcpdump -ni vxlan.calico")]
pub struct LabArgs {
    /// The scenario whose lab to build
    #[arg(
        value_name = "SCENARIO",
        required_unless_present = "attach",
        conflicts_with = "attach"
    )]
    scenario: Option<PathBuf>,
    /// Join the lab of a running encapbench: its process id, or its run folder
    #[arg(long, value_name = "RUN")]
    attach: Option<String>,
    /// Print the places with their addresses, and leave
    #[arg(long, conflicts_with_all = ["place", "command"])]
    list: bool,
    /// The place to enter, such as `east-1` or `pod@east-1/Always`
    #[arg(long = "in", value_name = "PLACE")]
    place: Option<Place>,
    /// The command to run there, instead of a shell; its exit code is returned
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

const USAGE: u8 = 2;
const UNABLE: u8 = 3;

/// A failure, with its exit code.
struct Failure {
    code: u8,
    text: String,
    remedy: Option<&'static str>,
}

impl Failure {
    fn new(code: u8, error: &dyn Error) -> Self {
        Self {
            code,
            text: chain(error),
            remedy: None,
        }
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Self {
            remedy: error.remedy(),
            ..Self::new(if error.is_scenario() { USAGE } else { UNABLE }, &error)
        }
    }
}

/// Either kind of lab.
enum AnyLab {
    Own(Box<RunningLab>),
    Attached(AttachedLab),
}

impl AnyLab {
    fn places(&self) -> Vec<(Place, IpAddr)> {
        match self {
            Self::Own(lab) => lab.places().collect(),
            Self::Attached(lab) => lab.places().collect(),
        }
    }

    fn spawn(&self, place: &Place, command: &Command) -> Result<LabProcess, LabError> {
        match self {
            Self::Own(lab) => lab.spawn(place, command),
            Self::Attached(lab) => lab.spawn(place, command),
        }
    }
}

/// Runs the command: its listing to `out`, its messages to `err`. Returns the exit code: that of the command run in
/// the lab, 2 for a bad scenario or place, 3 where this machine can't build a lab. Must be called before the process
/// has a second thread.
pub fn run(args: &LabArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    match try_run(args, out, err) {
        Ok(code) => code,
        Err(failure) => {
            // There is nowhere left to say that this failed.
            let _ = writeln!(err, "encapbench: {}", failure.text);
            if let Some(remedy) = failure.remedy {
                let _ = writeln!(err, "  {remedy}");
            }
            failure.code
        }
    }
}

fn try_run(args: &LabArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Failure> {
    let (lab, name) = match (&args.attach, &args.scenario) {
        (Some(run), _) => {
            let lab = AttachedLab::join(run).map_err(|error| Failure::new(UNABLE, &error))?;
            let name = lab.scenario().to_owned();
            (AnyLab::Attached(lab), name)
        }
        (None, Some(file)) => {
            let scenario = read(file)?;
            let lab = build(&scenario, args.place.as_ref())?;
            (AnyLab::Own(Box::new(lab)), scenario.name)
        }
        (None, None) => return Ok(USAGE),
    };
    let places = lab.places();
    if args.list {
        return list(&places, out);
    }
    let place = match &args.place {
        Some(place) => place.clone(),
        None => first(&places)?,
    };
    let command = match args.command.split_first() {
        Some((program, rest)) => Command::new(program).args(rest),
        None => shell(&name, &place, &places, args.attach.is_some(), err),
    };
    let command = command.env("ENCAPBENCH_PLACE", place.to_string());
    // Ctrl-C is for the command; this process waits for its end, to take down the lab.
    fork::ignore_interrupts();
    let is_shell = args.command.is_empty();
    if is_shell {
        fork::ignore_stops();
    }
    let process = lab.spawn(&place, &command)?;
    let status = process
        .wait_blocking()
        .map_err(|error| Failure::new(UNABLE, &error))?;
    if is_shell {
        fork::take_terminal_back();
    }
    if status.signal() == Some(libc::SIGKILL) && args.attach.is_some() {
        // There is nowhere left to say that this failed.
        let _ = writeln!(
            err,
            "encapbench: the lab has ended, and what ran in it with it. A run builds its lab afresh for each block: \
             attach again while it goes on."
        );
    }
    drop(lab);
    Ok(exit_code(status))
}

fn read(file: &Path) -> Result<Scenario, Failure> {
    let bad = |text: String| Failure {
        code: USAGE,
        text,
        remedy: None,
    };
    let name = file.display().to_string();
    let text = text::read("scenario", file).map_err(|error| bad(error.to_string()))?;
    scenario::parse(&text, &name).map_err(|error| bad(error.to_string()))
}

fn build(scenario: &Scenario, place: Option<&Place>) -> Result<RunningLab, Failure> {
    let lab = lab_of(scenario).ok_or(Failure {
        code: USAGE,
        text: format!("the scenario {} has no lab", scenario.name),
        remedy: Some("name one whose `fabric` is `lab`, such as scenarios/calico-vxlan.yaml"),
    })?;
    enter_user_namespace().map_err(LabError::from)?;
    let mut places = places_of_paths(scenario);
    places.extend(pods_everywhere(lab));
    places.extend(place.cloned());
    Ok(RunningLab::build(&scenario.name, lab, &places)?)
}

fn first(places: &[(Place, IpAddr)]) -> Result<Place, Failure> {
    places.first().map(|(place, _)| place.clone()).ok_or(Failure {
        code: USAGE,
        text: "the lab has no places".to_owned(),
        remedy: None,
    })
}

fn list(places: &[(Place, IpAddr)], out: &mut dyn Write) -> Result<u8, Failure> {
    let width = places
        .iter()
        .map(|(place, _)| place.to_string().len())
        .max()
        .unwrap_or(0);
    for (place, address) in places {
        match writeln!(out, "{:width$}  {address}", place.to_string()) {
            // The reader has seen enough, as `head` has.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| Failure::new(UNABLE, &error))?,
        }
    }
    Ok(0)
}

/// The user's shell, with a prompt that says where it is.
fn shell(
    name: &str,
    place: &Place,
    places: &[(Place, IpAddr)],
    attached: bool,
    err: &mut dyn Write,
) -> Command {
    let pid = std::process::id();
    let ends = if attached {
        "The lab goes on when this shell ends."
    } else {
        "The lab ends with this shell."
    };
    let _ = writeln!(
        err,
        "You are in {place} of lab {name}. {ends}\nIts places: {}\n\
         From another terminal: encapbench lab --attach {} --in PLACE [-- CMD...]",
        places
            .iter()
            .map(|(place, _)| place.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        if attached {
            "RUN".to_owned()
        } else {
            pid.to_string()
        },
    );
    let program = std::env::var_os("SHELL")
        .filter(|shell| Path::new(shell).exists())
        .unwrap_or_else(|| "/bin/sh".into());
    // Expanded at each prompt, by bash and by plain sh; bash's start-up files set their own before the first.
    let prompt = "[$ENCAPBENCH_PLACE] $PWD # ";
    Command::new(program)
        .env("PS1", prompt)
        .env("PROMPT_COMMAND", format!("PS1='{prompt}'; unset PROMPT_COMMAND"))
}

/// As shells tell it: a signal's number above 128.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
