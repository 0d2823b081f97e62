//! The doctor in Kubernetes clusters: pods in the nodes' network and in each pool look and probe, and are removed.

use crate::{
    cli::{Failure, kubernetes_args::KubernetesArgs},
    doctor::{Diagnosis, Examination},
    scenario::Scenario,
};

/// What is to be looked into.
pub(super) struct Wanted<'a> {
    /// A scenario with clusters; without one, the whole cluster of the command line.
    pub(super) scenario: Option<&'a Scenario>,
    /// The command line.
    pub(super) args: &'a KubernetesArgs,
    /// Whether pods in the nodes' network may read the packet filter.
    pub(super) net_admin: bool,
}

/// What came of it.
#[cfg_attr(
    not(feature = "kubernetes"),
    expect(dead_code, reason = "nothing is seen where no cluster can be reached")
)]
pub(super) enum Seen {
    /// All that was seen.
    Case(Box<Examination>),
    /// Rights are missing, and that is the finding.
    Lacking(Diagnosis),
    /// What would be made, as YAML (`--dry-run`).
    Objects(String),
    /// Ctrl-C; what was made is removed.
    Interrupted,
}

/// This encapbench can reach none.
#[cfg(not(feature = "kubernetes"))]
pub(super) fn examine(wanted: &Wanted<'_>) -> Result<Seen, Failure> {
    let _ = (wanted.scenario, wanted.args, wanted.net_admin);
    Err(Failure::Fabric(crate::fabric::FabricError::Unable(
        "this encapbench was built without Kubernetes: build it with `--features kubernetes`".to_owned(),
    )))
}

/// Looks into clusters.
///
/// # Errors
/// Where they can't be reached, or nothing can be looked into.
#[cfg(feature = "kubernetes")]
pub(super) fn examine(wanted: &Wanted<'_>) -> Result<Seen, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("failed to start the doctor's runtime: {error}")))?;
    let seen = runtime.block_on(of_clusters::look(wanted));
    runtime.shutdown_background();
    seen
}

#[cfg(feature = "kubernetes")]
mod of_clusters {
    use super::{Seen, Wanted};
    use crate::{
        cli::{Failure, kubernetes_args::owner},
        doctor::{self, Diagnosis, ExamineError, Finding, Severity},
        fabric::{
            Fabric as _, FabricError,
            kubernetes::{
                Cluster, KubernetesFabric, Needs, RunMark, each_missing, grant, missing, needed, read, yaml,
            },
        },
        scenario::{self, CalicoApi, ClusterFacts, Place, Resolved, ResolvedNode, whole},
        worker::protocol::chain,
    };
    use std::{collections::BTreeSet, time::Duration};

    /// How long the doctor's pods may live: an examination takes a minute, a slow cluster's pods some.
    const DEADLINE: Duration = Duration::from_mins(20);

    pub(super) async fn look(wanted: &Wanted<'_>) -> Result<Seen, Failure> {
        let applied = wanted.scenario.map(|scenario| wanted.args.apply(scenario));
        let mut spec = match applied.as_ref().map(|scenario| &scenario.fabric) {
            Some(scenario::Fabric::Kubernetes(spec)) => (**spec).clone(),
            _ => wanted.args.whole(),
        };
        let mut lacking = Vec::new();
        let (mut clusters, mut facts) = (Vec::new(), Vec::new());
        for context in spec.clusters() {
            let cluster = Cluster::connect(&context).await.map_err(FabricError::from)?;
            lacking.extend(rights(&cluster, wanted.args.needs(&[])).await?);
            if lacking.is_empty() {
                let found = read(&cluster, &spec.tolerations, false).await;
                facts.push(found.map_err(FabricError::from)?);
            }
            clusters.push(cluster);
        }
        if !lacking.is_empty() {
            return Ok(Seen::Lacking(Diagnosis {
                findings: lacking,
                ..Diagnosis::default()
            }));
        }
        let resolved = match &applied {
            Some(scenario) => chosen(scenario, &facts, wanted)?,
            None => whole(&facts),
        };
        let notes = resolved.notes.clone();
        let places = places(&resolved);
        spec.resolved = Some(resolved);
        let run = RunMark {
            id: format!("{:08x}", rand::random::<u32>()),
            owner: owner(),
            deadline: DEADLINE,
        };
        let mut fabric =
            KubernetesFabric::with_places(&spec, places, run, clusters, &facts, wanted.net_admin)?;
        if wanted.args.dry_run {
            return Ok(Seen::Objects(yaml(&fabric.objects()?)?));
        }
        let examined = tokio::select! {
            case = async {
                fabric.prepare().await?;
                doctor::examine(&mut fabric).await
            } => Some(case),
            _ = tokio::signal::ctrl_c() => None,
        };
        // However it ended, nothing of it stays; a second Ctrl-C leaves it to the pods' own end.
        let finished = tokio::select! {
            finished = fabric.finish() => finished,
            _ = tokio::signal::ctrl_c() => {
                tracing::warn!("{}", fabric.left_behind().unwrap_or_default());
                Ok(())
            }
        };
        let Some(case) = examined else {
            finished?;
            return Ok(Seen::Interrupted);
        };
        let mut case = case.map_err(|error| match error {
            ExamineError::Fabric(error) => error,
            error => FabricError::Unable(chain(&error)),
        })?;
        finished?;
        case.told = doctor::of_clusters(&facts);
        case.unseen.extend(notes);
        if !wanted.net_admin {
            case.unseen.push(
                "the packet filter, and what arrives at the tunnels' ports: --net-admin lets the doctor's pods see them"
                    .to_owned(),
            );
        }
        Ok(Seen::Case(Box::new(case)))
    }

    /// What this user may not do of what the doctor does.
    async fn rights(cluster: &Cluster, needs: Needs) -> Result<Vec<Finding>, Failure> {
        let needs = Needs {
            pools: true,
            submariner: true,
            ..needs
        };
        let lacking = missing(cluster, &needed(needs, CalicoApi::Crd))
            .await
            .map_err(FabricError::from)?;
        if lacking.is_empty() {
            return Ok(Vec::new());
        }
        let each = each_missing(cluster, &lacking);
        let mut finding = Finding::new(
            "rights",
            Severity::Error,
            "cluster",
            format!("you lack rights in {}", cluster.context),
        );
        for right in &each {
            finding = finding.seen(right.clone());
        }
        Ok(vec![
            finding
                .why("the doctor looks through pods of its own, in the nodes' network and in each pool, and reads what Calico and Submariner say")
                .remedy(format!("kubectl apply -f - <<'YAML'\n{}\nYAML", grant(cluster, &lacking).trim_end()))
                .verify(format!(
                    "encapbench doctor{} --dry-run > /dev/null",
                    if cluster.context.contains("://") {
                        String::new()
                    } else {
                        format!(" --context {}", cluster.context)
                    }
                )),
        ])
    }

    /// The nodes that a scenario chooses, and the gateways of its clusters.
    fn chosen(
        scenario: &scenario::Scenario,
        facts: &[ClusterFacts],
        wanted: &Wanted<'_>,
    ) -> Result<Resolved, Failure> {
        let found = scenario::resolve(scenario, facts, &wanted.args.permissions(), |_| true)
            .map_err(|error| FabricError::Unable(error.to_string()))?;
        let resolved = match found.fabric {
            scenario::Fabric::Kubernetes(spec) => spec.resolved,
            _ => None,
        };
        let mut resolved =
            resolved.ok_or_else(|| Failure::Usage("the scenario has no cluster".to_owned()))?;
        let is_gateway = |node: &ResolvedNode| {
            facts.iter().any(|facts| {
                let active = facts
                    .submariner
                    .as_ref()
                    .and_then(|submariner| submariner.active());
                facts.name == node.cluster && active.is_some_and(|gateway| gateway.node == node.node)
            })
        };
        for node in whole(facts).nodes.into_iter().filter(is_gateway) {
            let known = |other: &ResolvedNode| other.cluster == node.cluster && other.node == node.node;
            if !resolved.nodes.iter().any(known) {
                resolved.nodes.push(node);
            }
        }
        Ok(resolved)
    }

    /// On each node one place in its network, and one in each pool.
    fn places(resolved: &Resolved) -> BTreeSet<Place> {
        let mut places = BTreeSet::new();
        for node in &resolved.nodes {
            places.insert(Place::Node(node.name.clone()));
            for pool in resolved.pools.iter().filter(|pool| pool.cluster == node.cluster) {
                places.insert(Place::Pod {
                    node: node.name.clone(),
                    mode: pool.mode,
                    pod: "pod".to_owned(),
                });
            }
        }
        places
    }
}
