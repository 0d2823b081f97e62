//! `encapbench run`: run a scenario, record it, report it, judge its gates.

use super::{
    Exit, Failure,
    fabric::{self, Opened, Source},
    github,
    kubernetes_args::KubernetesArgs,
    progress::Progress,
    publish::Published,
    scenario_args::ScenarioArgs,
};
use crate::{
    coordinator::{Coordinator, Ended, RunError, wanted_congestion},
    doctor::Examination,
    fabric::Fabric,
    measure::machine,
    run::{CongestionChoice, Event, Folder, Manifest, Recorded, Trial},
    scenario::Plan,
};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Arguments of `encapbench run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Where the scenario's `blocks` have `at-most` above `at-least`, or with --budget, blocks are added until every gate is
decided. The looks are planned, so that looking often makes no verdict false more often: at most 5 % in all.

In a GitHub workflow gates are annotated, and the report is appended to the job's summary.

Exit codes: 0 every gate passed; 1 a gate failed; 2 a bad file; 3 this machine can't do it; 4 a case has no valid trial, \
or a path was not what it was said to be; 5 a gate is inconclusive; 130 interrupted, what was measured is saved.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// The run folder; results/<UTC time>-<scenario> if left out
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with a run that was cut off; its scenario and seed are the run's own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scenario", "blocks", "budget", "duration", "only", "seed"])]
    resume: Option<PathBuf>,
    /// Show no progress, only warnings and the result
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

/// What a run starts from: new, or cut off before.
struct Start {
    plan: Plan,
    manifest: Manifest,
    folder: Folder,
    before: Vec<Trial>,
}

/// Runs a scenario.
pub(super) fn run(args: &RunArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    log_to_stderr();
    let resumed = args.resume.as_deref().map(Folder::resume).transpose()?;
    let source = match &resumed {
        Some((_, recorded)) => {
            refuse_other_machine(&recorded.manifest)?;
            Source::Earlier(Box::new(recorded.manifest.plan()))
        }
        None => Source::File(&args.scenario),
    };
    let Opened {
        plan,
        mut fabric,
        runtime,
    } = fabric::open(source, &args.kubernetes)?;
    if args.kubernetes.dry_run {
        out.write_all(fabric::objects(&fabric)?.as_bytes())?;
        return Ok(Exit::Success);
    }
    let mut start = match resumed {
        Some((folder, Recorded { manifest, trials, .. })) => Start {
            plan,
            manifest,
            folder,
            before: trials,
        },
        None => begin(plan, args.out.as_deref())?,
    };
    let path = start.folder.path().to_owned();
    if !args.quiet {
        // Progress that can't be shown is no reason not to run.
        let _ = writeln!(std::io::stderr(), "run folder: {}", path.display());
    }
    let (ended, examined) = drive(&runtime, &mut fabric, &mut start, args.quiet);
    runtime.shutdown_background();
    // Whatever happened: what was measured is reported.
    let Start { folder, .. } = start;
    let mut published = Published::read(&path)?;
    if published.recorded.trials.is_empty() {
        ended?;
        return Ok(Exit::Interrupted);
    }
    published.diagnosis = super::doctor::after_run(&mut fabric, examined, &path, &published, &ended);
    let written = published.write(&path);
    drop(folder);
    let mut shown = writeln!(out, "{}", published.terminal());
    if let Some(diagnosis) = &published.diagnosis {
        shown = shown.and_then(|()| {
            writeln!(
                out,
                "{}",
                crate::doctor::text(diagnosis, super::width(), super::colour())
            )
        });
    }
    let ended = ended?;
    written?;
    shown = shown.and_then(|()| writeln!(out, "report: {}", path.join("report.html").display()));
    shown = shown.and_then(|()| github::publish(&published, out));
    let exit = match ended {
        Ended::Interrupted => {
            shown = shown.and_then(|()| {
                writeln!(
                    out,
                    "interrupted; go on with: encapbench run --resume {}{}",
                    path.display(),
                    args.kubernetes.allowed()
                )
            });
            Exit::Interrupted
        }
        Ended::Done => Exit::of_run(
            &published.recorded.manifest,
            &published.recorded.trials,
            &published.gates,
        ),
    };
    match shown.and_then(|()| out.flush()) {
        // A reader that goes away, as `head` does, does not turn a failed gate into a passed one.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe && exit != Exit::Interrupted => {
            Err(error.into())
        }
        _ => Ok(exit),
    }
}

/// Makes the run folder of a new run.
fn begin(plan: Plan, out: Option<&Path>) -> Result<Start, Failure> {
    let started = Timestamp::now();
    let manifest = Manifest {
        format: Manifest::FORMAT,
        encapbench: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        command: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        cases: plan.cases.clone(),
        skipped_gates: plan.skipped_gates.clone(),
        host: machine::host(),
        congestion: CongestionChoice {
            wanted: wanted_congestion(),
            used: None,
        },
        fabric: std::collections::BTreeMap::new(),
    };
    let path = out.map_or_else(
        || {
            let time = started
                .to_zoned(TimeZone::UTC)
                .strftime("%Y-%m-%dT%H-%M-%SZ")
                .to_string();
            Path::new("results").join(format!("{time}-{}", plan.scenario.name))
        },
        Path::to_owned,
    );
    let folder = Folder::create(&path, &manifest)?;
    Ok(Start {
        plan,
        manifest,
        folder,
        before: Vec::new(),
    })
}

/// A run goes on only where it began: figures of two machines, kernels or binaries don't belong into one table.
fn refuse_other_machine(manifest: &Manifest) -> Result<(), Failure> {
    let here = machine::host();
    let version = env!("CARGO_PKG_VERSION");
    let differences: Vec<String> = [
        ("host", manifest.host.name.as_str(), here.name.as_str()),
        ("kernel", &manifest.host.kernel, &here.kernel),
        ("encapbench", &manifest.encapbench, version),
    ]
    .into_iter()
    .filter(|(_, then, now)| then != now)
    .map(|(what, then, now)| format!("{what} was {then}, is {now}"))
    .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "this run can't be gone on with here: {}; its trials would not be comparable, so start a new run",
        differences.join("; ")
    )))
}

/// Runs the coordinator until it is done or the user interrupts.
fn drive<F: Fabric>(
    runtime: &Runtime,
    fabric: &mut F,
    start: &mut Start,
    quiet: bool,
) -> (Result<Ended, Failure>, Option<Result<Examination, Failure>>) {
    let mut progress = Progress::new(&start.plan.cases, quiet);
    let mut on_event = |event: Event| progress.show(&event);
    let known = start.manifest.congestion.used.is_some() && !start.before.is_empty();
    let congestion = known.then(|| start.manifest.congestion.clone());
    runtime.block_on(async {
        let interrupt = match interrupts(fabric.left_behind()) {
            Ok(interrupt) => interrupt,
            Err(error) => {
                let told = format!("failed to listen for signals: {error}");
                return (Err(Failure::Machine(told)), None);
            }
        };
        let mut stopped = interrupt.clone();
        let mut coordinator = Coordinator {
            fabric: &mut *fabric,
            plan: &start.plan,
            folder: &mut start.folder,
            trials: std::mem::take(&mut start.before),
            congestion,
            interrupt,
            on_event: &mut on_event,
        };
        let ended = coordinator.run(&mut start.manifest).await;
        let trials = std::mem::take(&mut coordinator.trials);
        drop(coordinator);
        let done = matches!(ended, Ok(Ended::Done));
        let examined = if done && fabric.keeps_places() && super::doctor::wanted(&start.plan.cases, &trials) {
            tokio::select! {
                examined = super::doctor::examined(fabric) => Some(examined),
                _ = stopped.wait_for(|stopped| *stopped) => None,
            }
        } else {
            None
        };
        // Whatever happened, nothing stays behind.
        let finished = fabric.finish().await;
        if let (Err(_), Err(left)) = (&ended, &finished) {
            // The run's own failure is what is returned; what it left behind must be known all the same.
            tracing::warn!("{left}");
        }
        let ended = ended
            .map_err(|error: RunError| Failure::from(error))
            .and_then(|ended| finished.map(|()| ended).map_err(Failure::from));
        (ended, examined)
    })
}

/// Ctrl-C, SIGTERM and SIGHUP: the first ends the trial, saves and reports; the second ends at once, and the kernel
/// takes the places back; `left` is what it can't.
fn interrupts(left: Option<String>) -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    tokio::spawn(async move {
        loop {
            let [interrupt, terminate, hangup] = &mut signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if *sender.borrow() {
                if let Some(left) = &left {
                    // There is nowhere left to say that this failed.
                    let _ = writeln!(std::io::stderr(), "encapbench: {left}");
                }
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            // Nobody listening means that the run has ended.
            let _ = sender.send(true);
        }
    });
    Ok(receiver)
}

/// Logs go to stderr; `ENCAPBENCH_LOG=debug` shows more (the syntax of `tracing`'s filters).
pub(super) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ENCAPBENCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,nlink=error"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
        .without_time();
    // A second call has nothing to do.
    let _ = logs.try_init();
}
