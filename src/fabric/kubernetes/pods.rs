//! Makes pods and waits for them, looks for them again, and removes them.

use super::{
    api::{ApiError, Cluster},
    objects::{NAME, PodPlan, RUN_LABEL, RunMark, pod},
    wait::{PodState, state, warning},
};
use crate::{fabric::FabricError, scenario::Kubernetes};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// Requests that are under way at once.
const AT_ONCE: usize = 16;
/// How often pods are looked at while the watch says nothing: it may have broken unnoticed.
const LOOK: Duration = Duration::from_secs(5);

/// The pods of a run.
pub(super) fn of_run(run: &str) -> ListParams {
    ListParams::default().labels(&format!("{RUN_LABEL}={run}"))
}

pub(super) fn namespaced(cluster: &Cluster, namespace: &str) -> Api<Pod> {
    Api::namespaced(cluster.client(), namespace)
}

/// Makes pods by server-side apply.
pub(super) async fn make(
    cluster: &Cluster,
    plans: &[&PodPlan],
    run: &RunMark,
    spec: &Kubernetes,
) -> Result<(), ApiError> {
    let apply = PatchParams::apply(NAME).force();
    let (apply, pods) = (&apply, namespaced(cluster, &cluster.namespace));
    let pods = &pods;
    stream::iter(plans)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |plan| async move {
            let object = Patch::Apply(pod(plan, run, spec));
            let what = format!("make the pod {} for {}", plan.name, plan.place);
            cluster
                .ask(&what, || pods.patch(&plan.name, apply, &object))
                .await
                .map(|_| ())
        })
        .await
}

/// Waits until all of `plans` run; their addresses by the pods' names.
pub(super) async fn wait(
    cluster: &Cluster,
    plans: &[&PodPlan],
    run: &RunMark,
    within: Duration,
) -> Result<HashMap<String, IpAddr>, FabricError> {
    let deadline = Instant::now() + within;
    let pods = namespaced(cluster, &cluster.namespace);
    let config = watcher::Config::default().labels(&format!("{RUN_LABEL}={}", run.id));
    // It lists again by itself when the watch ends, breaks, or is told that its version is gone (410).
    let mut changes = watcher(pods.clone(), config)
        .default_backoff()
        .touched_objects()
        .boxed();
    let ours = of_run(&run.id);
    let mut waiting = Waiting::new(plans);
    loop {
        let now = Instant::now();
        if waiting.all_run() {
            return Ok(waiting.running);
        }
        if let Some((plan, why)) = waiting.hopeless(now, deadline) {
            return Err(refusal(cluster, plan, &why, within).await);
        }
        match timeout(LOOK.min(waiting.next_look(now, deadline)), changes.next()).await {
            Ok(Some(Ok(pod))) => waiting.see(&pod, now),
            Ok(Some(Err(error))) => tracing::debug!("the watch of pods broke: {error}"),
            // The watch may be gone, or not allowed: look.
            Ok(None) | Err(_) => {
                let found = cluster.ask("list pods", || pods.list(&ours)).await;
                match found {
                    Ok(found) => found.items.iter().for_each(|pod| waiting.see(pod, now)),
                    Err(error) if error.is_forbidden() => return Err(error.into()),
                    Err(error) => tracing::debug!("{error}"),
                }
            }
        }
    }
}

async fn refusal(cluster: &Cluster, plan: &PodPlan, why: &str, within: Duration) -> FabricError {
    let mut text = format!(
        "the pod of {} ({} on node {}) does not start within {} s: {why}",
        plan.place,
        plan.name,
        plan.node,
        within.as_secs()
    );
    if let Some(warning) = warning(cluster, &plan.namespace, &plan.name).await
        && !text.contains(warning.trim())
    {
        text.push_str("; its last warning: ");
        text.push_str(warning.trim());
    }
    FabricError::Unable(text)
}

/// Pods that are waited for.
struct Waiting<'a> {
    plans: BTreeMap<&'a str, &'a PodPlan>,
    running: HashMap<String, IpAddr>,
    /// What was last seen of each, and since when it is stuck.
    seen: HashMap<String, (PodState, Option<Instant>)>,
}

impl<'a> Waiting<'a> {
    fn new(plans: &[&'a PodPlan]) -> Self {
        Self {
            plans: plans.iter().map(|plan| (plan.name.as_str(), *plan)).collect(),
            running: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    fn see(&mut self, pod: &Pod, now: Instant) {
        let Some(name) = &pod.metadata.name else { return };
        if !self.plans.contains_key(name.as_str()) {
            return;
        }
        let state = state(pod);
        match &state {
            PodState::Running(address) => {
                self.running.insert(name.clone(), *address);
            }
            _ => {
                self.running.remove(name);
            }
        }
        let since = self.seen.get(name).and_then(|(_, since)| *since);
        let stuck = matches!(state, PodState::Stuck { .. }).then(|| since.unwrap_or(now));
        self.seen.insert(name.clone(), (state, stuck));
    }

    fn all_run(&self) -> bool {
        self.running.len() == self.plans.len()
    }

    /// A pod that will not start, with the reason.
    fn hopeless(&self, now: Instant, deadline: Instant) -> Option<(&'a PodPlan, String)> {
        self.plans.iter().find_map(|(name, plan)| {
            let (state, since) = match self.seen.get(*name) {
                Some((state, since)) => (Some(state), *since),
                None => (None, None),
            };
            let why = match state {
                Some(PodState::Running(_)) => return None,
                Some(PodState::Over(why)) => return Some((*plan, why.clone())),
                Some(PodState::Stuck { why, patience }) => {
                    if since.is_some_and(|since| now.duration_since(since) >= *patience) {
                        return Some((*plan, why.clone()));
                    }
                    why.clone()
                }
                Some(PodState::OnItsWay(why)) => why.clone(),
                None => "the API server tells nothing of it".to_owned(),
            };
            (now >= deadline).then_some((*plan, why))
        })
    }

    /// When something may become hopeless next.
    fn next_look(&self, now: Instant, deadline: Instant) -> Duration {
        let stuck = self.seen.values().filter_map(|(state, since)| match state {
            PodState::Stuck { patience, .. } => since.map(|since| since + *patience),
            _ => None,
        });
        stuck
            .chain([deadline])
            .min()
            .map_or(LOOK, |next| next.saturating_duration_since(now))
            .max(Duration::from_millis(10))
    }
}

/// Which of `plans` run no more.
pub(super) async fn gone<'a>(
    cluster: &Cluster,
    plans: &[&'a PodPlan],
    run: &RunMark,
) -> Result<Vec<&'a PodPlan>, ApiError> {
    let pods = namespaced(cluster, &cluster.namespace);
    let ours = of_run(&run.id);
    let found = cluster.ask("list pods", || pods.list(&ours)).await?;
    let runs = |plan: &PodPlan| {
        found.items.iter().any(|pod| {
            pod.metadata.name.as_ref() == Some(&plan.name) && matches!(state(pod), PodState::Running(_))
        })
    };
    Ok(plans.iter().copied().filter(|plan| !runs(plan)).collect())
}

/// Deletes pods by name and waits until they are gone. One that can't be deleted keeps no other from it.
///
/// # Errors
/// Each pod that is still there, with the reason.
pub(super) async fn remove(cluster: &Cluster, names: &[(String, String)]) -> Result<(), FabricError> {
    let now = DeleteParams::default().grace_period(1);
    let now = &now;
    let asked: Vec<_> = stream::iter(names.to_vec())
        .map(|(namespace, name)| async move {
            let pods = namespaced(cluster, &namespace);
            let what = format!("delete the pod {namespace}/{name}");
            match cluster.ask(&what, || pods.delete(&name, now)).await {
                Err(error) if !error.is_missing() => Err(error.to_string()),
                _ => Ok((namespace, name)),
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let deadline = Instant::now() + cluster.patience().gone_within;
    let mut failed = Vec::new();
    for deleted in asked {
        let gone = match deleted {
            Ok((namespace, name)) => gone_by(cluster, &namespace, &name, deadline).await,
            Err(error) => Err(error),
        };
        failed.extend(gone.err());
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(FabricError::Failed(failed.join("; ")))
    }
}

/// Waits until a pod that was deleted is gone.
async fn gone_by(cluster: &Cluster, namespace: &str, name: &str, deadline: Instant) -> Result<(), String> {
    let pods = namespaced(cluster, namespace);
    let what = format!("look whether the pod {namespace}/{name} is gone");
    loop {
        let found = cluster.ask(&what, || pods.get_opt(name)).await;
        match found.map_err(|error| error.to_string())? {
            None => return Ok(()),
            Some(_) if Instant::now() >= deadline => {
                return Err(format!(
                    "the pod {namespace}/{name} was deleted and is still there after {} s",
                    cluster.patience().gone_within.as_secs_f64()
                ));
            }
            Some(_) => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Deletes all pods of a run in the cluster's namespace, until there are none: a request that was cut off may still
/// make one.
pub(super) async fn remove_all(cluster: &Cluster, run: &str) -> Result<(), FabricError> {
    let ours = of_run(run);
    for _ in 0..5 {
        let pods = namespaced(cluster, &cluster.namespace);
        let found = cluster.ask("list pods", || pods.list(&ours)).await?;
        let names: Vec<_> = found
            .items
            .into_iter()
            .filter_map(|pod| Some((pod.metadata.namespace?, pod.metadata.name?)))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        remove(cluster, &names).await?;
    }
    Ok(())
}
