//! From a scenario to its plan and the fabric that it runs on.

use super::{Failure, kubernetes_args::KubernetesArgs, scenario_args::ScenarioArgs};
use crate::{
    fabric::{AnyFabric, FabricError, hosts::HostsFabric},
    scenario::{self, Plan, Scenario},
};
use tokio::runtime::{self, Runtime};

/// A plan with what it runs on.
pub(super) struct Opened {
    /// What is run.
    pub(super) plan: Plan,
    /// Where the places are.
    pub(super) fabric: AnyFabric,
    /// What drives it: a fabric keeps to the runtime that it was made in.
    pub(super) runtime: Runtime,
}

/// What is to be run: a scenario file with overrides, or what an earlier run had.
pub(super) enum Source<'a> {
    /// A scenario file.
    File(&'a ScenarioArgs),
    /// The plan of an earlier run.
    Earlier(Box<Plan>),
}

impl Source<'_> {
    fn scenario(&self) -> Result<Scenario, Failure> {
        match self {
            Self::File(args) => args.scenario(),
            Self::Earlier(plan) => Ok(plan.scenario.clone()),
        }
    }

    /// The names of the paths that are run. Of paths of all pairs --only names the pairs, which the cluster decides.
    #[cfg(feature = "kubernetes")]
    fn paths(&self, scenario: &Scenario) -> Result<std::collections::BTreeSet<String>, Failure> {
        if scenario.paths.iter().any(|path| path.all_pairs.is_some()) {
            return Ok(scenario.paths.iter().map(|path| path.name.clone()).collect());
        }
        let cases = match self {
            Self::File(args) => args.plan_of(scenario.clone())?.cases,
            Self::Earlier(plan) => plan.cases.clone(),
        };
        Ok(cases.into_iter().map(|case| case.path.name).collect())
    }

    /// The plan, once the scenario is resolved.
    fn plan(self, resolved: &Scenario) -> Result<Plan, Failure> {
        let plan = match self {
            Self::File(args) => return args.plan_of(resolved.clone()),
            Self::Earlier(plan) => *plan,
        };
        let now = Plan::new(resolved, &scenario::Overrides::default(), plan.seed)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let changed = plan.cases.iter().find(|case| {
            let same = |other: &&scenario::Case| other.slug == case.slug;
            now.cases
                .iter()
                .find(same)
                .is_none_or(|now| now.path != case.path)
        });
        if let Some(case) = changed {
            return Err(Failure::Usage(format!(
                "this run can't be gone on with: the cluster is not as it was for {}; start a new run",
                case.path.name
            )));
        }
        Ok(Plan {
            scenario: resolved.clone(),
            ..plan
        })
    }
}

/// Plans, and makes the fabric ready to be prepared. Call it before any thread is started.
///
/// # Errors
/// Where the scenario can't be planned, or this machine or cluster can't provide its fabric.
pub(super) fn open(source: Source<'_>, kubernetes: &KubernetesArgs) -> Result<Opened, Failure> {
    let scenario = source.scenario()?;
    match &scenario.fabric {
        scenario::Fabric::Lab(_) => {
            kubernetes.refuse("lab")?;
            let plan = source.plan(&scenario)?;
            // The runtime's threads come after: the kernel refuses a user namespace to a process that has two.
            let fabric = lab(&plan)?;
            let runtime = runtime()?;
            Ok(Opened {
                plan,
                fabric,
                runtime,
            })
        }
        scenario::Fabric::Hosts(_) => {
            kubernetes.refuse("hosts")?;
            let plan = source.plan(&scenario)?;
            let scenario::Fabric::Hosts(spec) = &plan.scenario.fabric else {
                return Err(Failure::Usage("the scenario has no hosts".to_owned()));
            };
            let fabric = AnyFabric::Hosts(Box::new(HostsFabric::new(spec, &plan.cases)?));
            Ok(Opened {
                fabric,
                plan,
                runtime: runtime()?,
            })
        }
        scenario::Fabric::Kubernetes(_) => cluster(source, &scenario, kubernetes),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("failed to start the coordinator's runtime: {error}")))
}

/// The plan's lab, with the rights that it needs.
#[cfg(feature = "lab")]
fn lab(plan: &Plan) -> Result<AnyFabric, Failure> {
    use crate::{
        fabric::lab::{LabFabric, enter_user_namespace},
        worker::protocol::chain,
    };
    let scenario::Fabric::Lab(spec) = &plan.scenario.fabric else {
        return Err(Failure::Usage("the scenario has no lab".to_owned()));
    };
    enter_user_namespace().map_err(|error| FabricError::Unable(chain(&error)))?;
    let lab = LabFabric::new(&plan.scenario.name, spec, &plan.cases)?;
    Ok(AnyFabric::Lab(Box::new(lab)))
}

/// The plan's lab: this encapbench has none.
#[cfg(not(feature = "lab"))]
fn lab(_: &Plan) -> Result<AnyFabric, Failure> {
    Err(Failure::Fabric(FabricError::Unable(
        "this encapbench was built without the lab: build it with `--features lab`".to_owned(),
    )))
}

/// The scenario's clusters: this encapbench can't reach any.
#[cfg(not(feature = "kubernetes"))]
fn cluster(_: Source<'_>, _: &Scenario, _: &KubernetesArgs) -> Result<Opened, Failure> {
    Err(Failure::Fabric(FabricError::Unable(
        "this encapbench was built without Kubernetes: build it with `--features kubernetes`".to_owned(),
    )))
}

/// How much longer than it is estimated a run may take before its pods end by themselves.
#[cfg(feature = "kubernetes")]
fn deadline(plan: &Plan) -> std::time::Duration {
    plan.most_time().saturating_mul(3) + std::time::Duration::from_mins(15)
}

/// The scenario's clusters, read, with what it asks for found in them. Makes nothing.
#[cfg(feature = "kubernetes")]
fn cluster(source: Source<'_>, scenario: &Scenario, args: &KubernetesArgs) -> Result<Opened, Failure> {
    use crate::fabric::kubernetes::{KubernetesFabric, RunMark};
    let runtime = runtime()?;
    let scenario = args.apply(scenario);
    let permissions = args.permissions();
    let paths = source.paths(&scenario)?;
    let wanted = |path: &scenario::PathSpec| paths.contains(&path.name);
    let wanted_paths: Vec<&scenario::PathSpec> = scenario.paths.iter().filter(|path| wanted(path)).collect();
    let mut needs = args.needs(&wanted_paths);
    if let scenario::Fabric::Kubernetes(spec) = &scenario.fabric {
        needs.submariner = spec.nodes.iter().any(|choice| choice.submariner.is_some());
    }
    let (clusters, facts) = runtime.block_on(read(&scenario, needs))?;
    let resolved = scenario::resolve(&scenario, &facts, &permissions, wanted)
        .map_err(|error| FabricError::Unable(error.to_string()))?;
    let plan = source.plan(&resolved)?;
    let scenario::Fabric::Kubernetes(spec) = &plan.scenario.fabric else {
        return Err(Failure::Usage("the scenario has no cluster".to_owned()));
    };
    for note in spec.resolved.iter().flat_map(|resolved| &resolved.notes) {
        tracing::warn!("{note}");
    }
    let run = RunMark {
        id: format!("{:08x}", rand::random::<u32>()),
        owner: super::kubernetes_args::owner(),
        deadline: deadline(&plan),
    };
    let fabric = KubernetesFabric::new(spec, &plan.cases, run, clusters, &facts, permissions.change)?;
    Ok(Opened {
        fabric: AnyFabric::Kubernetes(Box::new(fabric)),
        plan,
        runtime,
    })
}

/// Reaches the scenario's clusters, makes sure of the rights that a run needs, and reads them.
#[cfg(feature = "kubernetes")]
async fn read(
    scenario: &Scenario,
    needs: crate::fabric::kubernetes::Needs,
) -> Result<
    (
        Vec<crate::fabric::kubernetes::Cluster>,
        Vec<scenario::ClusterFacts>,
    ),
    Failure,
> {
    use crate::fabric::kubernetes::{Cluster, explain, missing, needed, read};
    let scenario::Fabric::Kubernetes(spec) = &scenario.fabric else {
        return Err(Failure::Usage("the scenario has no cluster".to_owned()));
    };
    let (mut clusters, mut facts) = (Vec::new(), Vec::new());
    for context in spec.clusters() {
        let cluster = Cluster::connect(&context).await.map_err(FabricError::from)?;
        // Which group Calico's objects are in is known only once they are read; the older one is everywhere.
        let rights = needed(needs, scenario::CalicoApi::Crd);
        let lacking = missing(&cluster, &rights).await.map_err(FabricError::from)?;
        if !lacking.is_empty() {
            return Err(explain(&cluster, &lacking).into());
        }
        facts.push(
            read(&cluster, &spec.tolerations, needs.own_pools)
                .await
                .map_err(FabricError::from)?,
        );
        clusters.push(cluster);
    }
    Ok((clusters, facts))
}

/// What a run would make in a cluster, for `kubectl` to read.
///
/// # Errors
/// Where the fabric is no cluster.
#[cfg(feature = "kubernetes")]
pub(super) fn objects(fabric: &AnyFabric) -> Result<String, Failure> {
    match fabric {
        AnyFabric::Kubernetes(fabric) => {
            let mut text = String::new();
            for change in fabric.changes() {
                text.push_str("# ");
                text.push_str(&change);
                text.push('\n');
            }
            text.push_str(&crate::fabric::kubernetes::yaml(&fabric.objects()?)?);
            Ok(text)
        }
        _ => Err(Failure::Usage("only Kubernetes has objects to show".to_owned())),
    }
}

/// The same where there are no clusters.
#[cfg(not(feature = "kubernetes"))]
pub(super) fn objects(_: &AnyFabric) -> Result<String, Failure> {
    Err(Failure::Usage("only Kubernetes has objects to show".to_owned()))
}
