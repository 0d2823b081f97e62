//! `encapbench cleanup`: finds and removes what runs left in a cluster.

use super::{Exit, Failure, kubernetes_args::owner};
use crate::{
    fabric::{
        FabricError,
        kubernetes::{Cluster, Left, left, sweep},
    },
    scenario::{ClusterContext, Kubernetes},
};
use clap::Args;
use std::{io::Write, path::Path};

/// Arguments of `encapbench cleanup`.
#[derive(Debug, Args)]
#[command(after_help = "\
A run that ended in any way but kill -9 has removed everything itself. Without --run and --all only what certainly has
no coordinator any more is removed: its process is gone from this machine, or all its pods have ended by themselves.

Removed are pods and IPPools that encapbench has made, and IPPools that it has changed are put back. A pool stays as
long as a pod that is not encapbench's has an address of it.

Exit codes: 0 done, or nothing to do; 2 usage; 3 the cluster can't be asked; 4 something could not be removed.")]
pub(super) struct CleanupArgs {
    /// The kubeconfig's context; its current one if left out
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace to look in where not all may be looked at
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Remove what this run left, whatever became of it
    #[arg(long, value_name = "ID")]
    run: Vec<String>,
    /// Remove what any run left, those that may still go on included
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Only show what is there and what would be removed
    #[arg(long)]
    dry_run: bool,
}

/// Cleans up.
pub(super) fn run(args: &CleanupArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    super::run::log_to_stderr();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("failed to start a runtime: {error}")))?;
    runtime.block_on(clean(args, out))
}

async fn clean(args: &CleanupArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(&ClusterContext {
        name: Kubernetes::ONLY.to_owned(),
        context: args.context.clone(),
        namespace: args.namespace.clone(),
    })
    .await
    .map_err(FabricError::from)?;
    let (runs, unseen) = left(&cluster).await.map_err(FabricError::from)?;
    for why in &unseen {
        // A hint that can't be shown is no reason not to clean up.
        let _ = writeln!(std::io::stderr(), "encapbench: {why}");
    }
    if let Some(unknown) = args
        .run
        .iter()
        .find(|wanted| !runs.iter().any(|run| run.run == **wanted))
    {
        writeln!(out, "{}: nothing is left of run {unknown}", cluster.context)?;
    }
    if runs.is_empty() {
        writeln!(out, "{}: nothing of encapbench is there", cluster.context)?;
        return Ok(Exit::Success);
    }
    let mut failed = Vec::new();
    for run in &runs {
        let fate = fate(run, args, &owner());
        writeln!(
            out,
            "run {} of {}: {}",
            run.run,
            if run.owner.is_empty() {
                "somebody"
            } else {
                &run.owner
            },
            match &fate {
                Fate::Remove if args.dry_run => "would be removed",
                Fate::Remove => "removing",
                Fate::Keep(why) => why,
            }
        )?;
        for object in &run.objects {
            writeln!(out, "  {object}")?;
        }
        if matches!(fate, Fate::Remove)
            && !args.dry_run
            && let Err(error) = sweep(&cluster, run).await
        {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() {
        return Ok(Exit::Success);
    }
    Err(FabricError::Failed(failed.join("; ")).into())
}

/// What is to become of a run's remains.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// They are removed.
    Remove,
    /// They stay, and why.
    Keep(String),
}

/// `me`: this process's own owner mark.
fn fate(run: &Left, args: &CleanupArgs, me: &str) -> Fate {
    if args.all || args.run.contains(&run.run) || run.all_over() {
        return Fate::Remove;
    }
    if !args.run.is_empty() {
        return Fate::Keep("not asked for".to_owned());
    }
    let parts = |owner: &str| {
        let (who, process) = owner.rsplit_once('/')?;
        let host = who.rsplit_once('@')?.1.to_owned();
        Some((host, process.parse::<u32>().ok()?))
    };
    let here = parts(me).map(|(host, _)| host);
    match parts(&run.owner) {
        Some((host, process)) if here.as_ref() == Some(&host) => {
            if Path::new("/proc").join(process.to_string()).exists() {
                Fate::Keep(format!(
                    "its coordinator, process {process}, may still run; --run {} removes it",
                    run.run
                ))
            } else {
                Fate::Remove
            }
        }
        _ => Fate::Keep(format!(
            "of another machine, where it may still go on; --run {} removes it",
            run.run
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::kubernetes::LeftObject;

    fn args(runs: &[&str], all: bool) -> CleanupArgs {
        CleanupArgs {
            context: None,
            namespace: None,
            run: runs.iter().map(|run| (*run).to_owned()).collect(),
            all,
            dry_run: false,
        }
    }

    fn of(owner: &str, over: bool) -> Left {
        Left {
            run: "r1".to_owned(),
            owner: owner.to_owned(),
            objects: vec![LeftObject::Pod {
                namespace: "n".to_owned(),
                name: "p".to_owned(),
                over,
            }],
        }
    }

    #[test]
    fn only_what_is_certainly_dead_goes_unasked() {
        let me = format!("me@here/{}", std::process::id());
        let kept = |run: &Left, args: &CleanupArgs| matches!(fate(run, args, &me), Fate::Keep(_));
        assert!(kept(&of(&me, false), &args(&[], false)), "this process lives");
        // No process has number 0.
        assert!(!kept(&of("me@here/0", false), &args(&[], false)));
        assert!(kept(&of("me@there/0", false), &args(&[], false)));
        assert!(
            !kept(&of("me@there/0", true), &args(&[], false)),
            "its pods have ended"
        );
        assert!(!kept(&of("me@there/0", false), &args(&["r1"], false)));
        assert!(!kept(&of(&me, false), &args(&[], true)));
        assert!(
            kept(&of("me@here/0", false), &args(&["r2"], false)),
            "not asked for"
        );
    }
}
