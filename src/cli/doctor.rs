//! `encapbench doctor`: what is wrong with a lab or with this machine, why, and what to do.

mod cluster;

use super::{
    Exit, Failure, colour,
    kubernetes_args::KubernetesArgs,
    publish::{DOCTOR, Published},
    run::log_to_stderr,
    text, width,
};
use crate::{
    coordinator::Ended,
    doctor::{self, Diagnosis, Examination, ExamineError, Severity, machine},
    fabric::{AnyFabric, Fabric, FabricError},
    run::{Trial, write_whole},
    scenario::{self, Case, Scenario},
    worker::protocol::chain,
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// Says what is wrong, where, why it matters, what to do about it, and how to see that it helped.
///
/// With a scenario it builds the scenario's lab, faults included, and examines that, or looks into the nodes of the
/// scenario's clusters; with --context it looks into a whole cluster. With --attach it examines the lab of a running
/// encapbench, whatever was done to it by hand meanwhile. Without any of these it examines this machine: can it run labs?
///
/// It looks into every node and pod (devices, routes of all tables, rules, neighbours, forwarding entries, packet
/// filter, sysctls, offloads), probes the paths between them (UDP, TCP, packets of full size with DF, bulk data, the
/// source address that arrives), and knocks at the UDP ports of the tunnels. In a cluster it also reads what Calico and
/// Submariner say of themselves. It changes nothing; the pods that it looks through are removed when it ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  encapbench doctor                                   can this machine run labs?
  encapbench doctor scenarios/calico-vxlan.yaml       is the scenario's lab as it should be?
  encapbench doctor --attach results/2026-...         is the lab of a running encapbench?
  encapbench doctor --context prod-a --net-admin      is this cluster?
  encapbench doctor SCENARIO --json | jq '.findings[] | {id, place, remedy}'

Exit codes:
  0  nothing is wrong, or only warnings and notes      1  an error was found; with --strict also a warning
  2  usage, or a bad file                              3  this machine or cluster can't do it")]
pub(super) struct DoctorArgs {
    /// The scenario whose lab to build and examine
    #[arg(value_name = "SCENARIO", conflicts_with = "attach")]
    scenario: Option<PathBuf>,
    /// Examine the lab of a running encapbench: its process id, or its run folder
    #[arg(long, value_name = "RUN")]
    attach: Option<String>,
    /// Print findings as JSON, for programs
    #[arg(long)]
    json: bool,
    /// Also write all that was seen, as JSON, to FILE
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Warnings count as errors for the exit code
    #[arg(long)]
    strict: bool,
    /// In a cluster: let the pods in the nodes' network run as root with NET_ADMIN and NET_RAW, so that they can read
    /// the packet filter and hear what arrives at the tunnels' ports. Without it these checks are left out, with a note
    #[arg(long)]
    net_admin: bool,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
}

/// Examines and tells.
pub(super) fn run(args: &DoctorArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    log_to_stderr();
    let scenario = args.scenario.as_deref().map(read).transpose()?;
    let of_cluster = matches!(
        &scenario,
        Some(Scenario {
            fabric: scenario::Fabric::Kubernetes(_),
            ..
        })
    ) || scenario.is_none() && args.attach.is_none() && args.kubernetes.names_a_cluster();
    if !of_cluster {
        args.kubernetes.refuse("no cluster")?;
    }
    let diagnosis = match (&args.attach, &scenario) {
        _ if of_cluster => {
            let wanted = cluster::Wanted {
                scenario: scenario.as_ref(),
                args: &args.kubernetes,
                net_admin: args.net_admin,
            };
            match cluster::examine(&wanted)? {
                cluster::Seen::Case(case) => diagnose(&case, args.save.as_deref())?,
                cluster::Seen::Lacking(diagnosis) => diagnosis,
                cluster::Seen::Objects(text) => {
                    out.write_all(text.as_bytes())?;
                    return Ok(Exit::Success);
                }
                cluster::Seen::Interrupted => return Ok(Exit::Interrupted),
            }
        }
        (Some(run), _) => diagnose(&attached(run)?, args.save.as_deref())?,
        (None, Some(scenario)) => diagnose(&built(scenario)?, args.save.as_deref())?,
        (None, None) => this_machine(),
    };
    if args.json {
        let text =
            serde_json::to_string_pretty(&diagnosis).map_err(|error| Failure::Report(error.to_string()))?;
        writeln!(out, "{text}")?;
    } else {
        out.write_all(doctor::text(&diagnosis, width(), colour()).as_bytes())?;
    }
    Ok(match diagnosis.worst() {
        Some(Severity::Error) => Exit::GateFailed,
        Some(Severity::Warning) if args.strict => Exit::GateFailed,
        _ => Exit::Success,
    })
}

/// After a run in which a case has no valid trial, looks for the cause, and keeps what was found in the run's folder.
/// Nothing where all cases are well, or the fabric can't be examined: the run's own outcome stands either way.
pub(super) fn after_run(
    fabric: &mut AnyFabric,
    examined: Option<Result<Examination, Failure>>,
    folder: &Path,
    published: &Published,
    ended: &Result<Ended, Failure>,
) -> Option<Diagnosis> {
    let failed = wanted(&published.recorded.manifest.cases, &published.recorded.trials);
    // Of an earlier part of the run that was gone on with.
    let file = folder.join(DOCTOR);
    if !matches!(ended, Ok(Ended::Done)) || !failed {
        let _ = std::fs::remove_file(&file);
        return None;
    }
    let case = match examined.or_else(|| again(fabric))? {
        Ok(case) => case,
        Err(error) => {
            tracing::warn!("the doctor could not look for the cause: {}", chain(&error));
            return None;
        }
    };
    let diagnosis = doctor::diagnose(&case);
    let kept = serde_json::to_vec_pretty(&diagnosis)
        .map_err(|error| error.to_string())
        .and_then(|text| write_whole(folder, DOCTOR, &text).map_err(|error| chain(&error)));
    if let Err(error) = kept {
        tracing::warn!("what the doctor found could not be kept: {error}");
    }
    Some(diagnosis)
}

/// Whether a run leaves something to be explained: a case without a valid trial.
pub(super) fn wanted(cases: &[Case], trials: &[Trial]) -> bool {
    let is_well =
        |case: &Case, trial: &Trial| trial.case == case.slug && (trial.is_valid() || trial.probe.is_some());
    cases
        .iter()
        .any(|case| !trials.iter().any(|trial| is_well(case, trial)))
}

/// What a run's places show before they are taken down.
pub(super) async fn examined<F: Fabric>(fabric: &mut F) -> Result<Examination, Failure> {
    fabric.prepare().await?;
    doctor::examine(fabric).await.map_err(failure)
}

fn failure(error: ExamineError) -> Failure {
    match error {
        ExamineError::Fabric(error) => Failure::Fabric(error),
        error => Failure::Fabric(FabricError::Unable(chain(&error))),
    }
}

fn diagnose(case: &Examination, save: Option<&Path>) -> Result<Diagnosis, Failure> {
    if let Some(file) = save {
        let text = serde_json::to_string_pretty(case).map_err(|error| Failure::Report(error.to_string()))?;
        std::fs::write(file, text).map_err(|error| {
            Failure::Usage(format!(
                "can't write what was seen to {}: {error}",
                file.display()
            ))
        })?;
    }
    Ok(doctor::diagnose(case))
}

fn read(file: &Path) -> Result<Scenario, Failure> {
    let name = file.display().to_string();
    let text = text::read("scenario", file)?;
    scenario::parse(&text, &name).map_err(|error| Failure::BadFile(error.to_string()))
}

/// What a run's fabric shows once it is made ready again. Nothing of others than a lab: pods of a cluster that was
/// cleaned up must not come back; they were looked into before.
#[cfg(feature = "lab")]
fn again(fabric: &mut AnyFabric) -> Option<Result<Examination, Failure>> {
    match fabric {
        AnyFabric::Lab(lab) => Some(examine(&mut **lab)),
        _ => None,
    }
}

/// This encapbench has no lab to make ready again.
#[cfg(not(feature = "lab"))]
fn again(_: &mut AnyFabric) -> Option<Result<Examination, Failure>> {
    None
}

/// Examines a fabric, made ready before and taken down after. Of a lab: call it before any other thread starts.
fn examine<F: Fabric>(fabric: &mut F) -> Result<Examination, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("failed to start the doctor's runtime: {error}")))?;
    let case = runtime.block_on(async {
        fabric.prepare().await?;
        let case = doctor::examine(fabric).await;
        fabric.release().await;
        case.map_err(failure)
    });
    runtime.shutdown_background();
    case
}

#[cfg(feature = "lab")]
fn built(scenario: &Scenario) -> Result<Examination, Failure> {
    use crate::fabric::lab::{LabFabric, enter_user_namespace, lab_of, places_of_paths, pods_everywhere};
    let lab = lab_of(scenario).ok_or_else(|| {
        Failure::Usage(format!(
            "the scenario {} has neither a lab nor clusters, and this examines those",
            scenario.name
        ))
    })?;
    enter_user_namespace().map_err(|error| FabricError::Unable(chain(&error)))?;
    let mut places = places_of_paths(scenario);
    places.extend(pods_everywhere(lab));
    examine(&mut LabFabric::with_places(&scenario.name, lab, places)?)
}

#[cfg(feature = "lab")]
fn attached(run: &str) -> Result<Examination, Failure> {
    use crate::fabric::lab::{AttachedFabric, AttachedLab};
    let lab = AttachedLab::join(run).map_err(|error| FabricError::Unable(chain(&error)))?;
    examine(&mut AttachedFabric::new(lab)?)
}

#[cfg(not(feature = "lab"))]
fn built(_: &Scenario) -> Result<Examination, Failure> {
    attached("")
}

#[cfg(not(feature = "lab"))]
fn attached(_: &str) -> Result<Examination, Failure> {
    let mut absent = None::<AnyFabric>;
    match &mut absent {
        Some(fabric) => examine(fabric),
        None => Err(Failure::Fabric(FabricError::Unable(
            "this encapbench was built without the lab: build it with `--features lab`".to_owned(),
        ))),
    }
}

/// Whether this machine can run labs: the best proof is to build one.
fn this_machine() -> Diagnosis {
    let mut needs = vec![small_lab()];
    needs.extend(machine::look());
    machine::diagnose(&needs)
}

/// The smallest lab that has all parts.
#[cfg(feature = "lab")]
const SMALL_LAB: &str = "
name: doctor
fabric:
  lab:
    clusters: [ { name: doctor, subnets: [ { nodes: [node-1, node-2] } ], firewall: { conntrack: true, rules: 1 } } ]
paths: [ { name: nodes, from: node-1, to: node-2 } ]
workloads: [ { name: rr, latency: { kind: tcp-rr, duration: 1s } } ]
";

/// Builds the smallest lab that has all parts, and takes it down.
#[cfg(feature = "lab")]
fn small_lab() -> machine::Need {
    use crate::fabric::lab::{LabError, RunningLab, enter_user_namespace, lab_of, pods_everywhere};
    let need = |missing: Option<String>, remedy| machine::Need {
        what: "a lab",
        purpose: "running scenarios without a cluster: namespaces, veth, bridge, vxlan, tbf, nftables",
        essential: true,
        missing,
        remedy,
    };
    let lab = match scenario::parse(SMALL_LAB, "the doctor's own lab") {
        Ok(scenario) => lab_of(&scenario)
            .cloned()
            .ok_or_else(|| "it has no lab".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let lab = match lab {
        Ok(lab) => lab,
        Err(error) => {
            return need(Some(error), "report this: the doctor's own lab is no scenario");
        }
    };
    let built = enter_user_namespace()
        .map_err(LabError::from)
        .and_then(|()| RunningLab::build("doctor", &lab, &pods_everywhere(&lab)).map(drop));
    match built {
        Ok(()) => need(None, ""),
        Err(error) => need(
            Some(chain(&error)),
            error
                .remedy()
                .unwrap_or("what the message says; as root no user namespace is needed"),
        ),
    }
}

#[cfg(not(feature = "lab"))]
fn small_lab() -> machine::Need {
    machine::Need {
        what: "a lab",
        purpose: "running scenarios without a cluster",
        essential: true,
        missing: Some("this encapbench was built without it".to_owned()),
        remedy: "cargo build --features lab",
    }
}
