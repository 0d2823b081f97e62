//! IPPools: those of our own, made and removed, and those of others, changed and put back.

use super::{
    api::{ApiError, Cluster},
    objects::{CHANGED_BY, MODE_BEFORE, MODE_SET, NAME, RUN_LABEL, RunMark, pool, pool_name},
    read,
};
use crate::{
    fabric::FabricError,
    scenario::{CalicoApi, ResolvedPool, VxlanMode},
    units::Cidr4,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::PoisonError};

/// How often a pool is read anew that somebody else writes at the same time.
const CONFLICTS: u32 = 5;

/// The IPPools of a cluster.
pub(super) fn api(cluster: &Cluster, api: CalicoApi) -> Api<DynamicObject> {
    Api::all_with(cluster.client(), &read::pools(api))
}

/// Makes a pool of our own.
pub(super) async fn make(
    cluster: &Cluster,
    calico: CalicoApi,
    wanted: &ResolvedPool,
    run: &RunMark,
) -> Result<(), ApiError> {
    let pools = api(cluster, calico);
    let name = pool_name(wanted, &run.id);
    let apply = PatchParams::apply(NAME).force();
    let object = Patch::Apply(pool(wanted, run, calico));
    let what = format!("make the IPPool {name} ({})", wanted.cidr);
    cluster
        .ask(&what, || pools.patch(&name, &apply, &object))
        .await
        .map(|_| ())
}

/// A pod that is not of `run` and has an address of `cidr`, as `namespace/name`.
async fn stranger(cluster: &Cluster, cidr: Cidr4, run: &str) -> Result<Option<String>, ApiError> {
    let pods: Api<Pod> = Api::all(cluster.client());
    let everything = ListParams::default();
    let found = cluster
        .ask("list the pods of all namespaces", || pods.list(&everything))
        .await?;
    let inside = |pod: &Pod| {
        let status = pod.status.as_ref();
        // What has ended holds no address any more.
        let over = status
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter();
        let first = status.and_then(|status| status.pod_ip.clone());
        !over
            && addresses
                .flatten()
                .map(|address| address.ip.clone())
                .chain(first)
                .filter_map(|text| text.parse::<Ipv4Addr>().ok())
                .any(|address| cidr.contains(address))
    };
    let ours = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(RUN_LABEL))
            .map(String::as_str)
            == Some(run)
    };
    Ok(found
        .items
        .iter()
        .find(|pod| inside(pod) && !ours(pod))
        .map(|pod| {
            format!(
                "{}/{}",
                pod.metadata.namespace.as_deref().unwrap_or_default(),
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        }))
}

/// Removes a pool of ours, unless a pod that is not ours has an address of it.
pub(super) async fn remove(
    cluster: &Cluster,
    calico: CalicoApi,
    name: &str,
    run: &str,
) -> Result<(), FabricError> {
    let pools = api(cluster, calico);
    let what = format!("look for the IPPool {name}");
    let Some(found) = cluster.ask(&what, || pools.get_opt(name)).await? else {
        return Ok(());
    };
    let made_by = found
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(RUN_LABEL));
    if made_by.map(String::as_str) != Some(run) {
        return Err(FabricError::Failed(format!(
            "the IPPool {name} is not of run {run}: it is left alone"
        )));
    }
    let cidr = found
        .data
        .pointer("/spec/cidr")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    let Some(cidr) = cidr else {
        return Err(FabricError::Failed(format!(
            "the IPPool {name} has no range that can be read: it is left alone"
        )));
    };
    if let Some(pod) = stranger(cluster, cidr, run).await? {
        return Err(FabricError::Failed(format!(
            "the IPPool {name} is not deleted: the pod {pod} has an address of it ({cidr}), and would lose its routes. \
             Delete that pod, or give it an address of another pool; then: encapbench cleanup --run {run}"
        )));
    }
    let what = format!("delete the IPPool {name}");
    let now = DeleteParams::default();
    match cluster.ask(&what, || pools.delete(name, &now)).await {
        Err(error) if !error.is_missing() => Err(error.into()),
        _ => Ok(()),
    }
}

fn annotation<'a>(pool: &'a DynamicObject, name: &str) -> Option<&'a str> {
    pool.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn mode_of(pool: &DynamicObject) -> &str {
    pool.data
        .pointer("/spec/vxlanMode")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Reads a pool and changes it as `change` says of what was read, or not at all (`None`). Nothing that somebody else
/// writes meanwhile is overwritten: then it is read anew, [`CONFLICTS`] times at most.
async fn rewrite(
    cluster: &Cluster,
    pools: &Api<DynamicObject>,
    name: &str,
    what: &str,
    change: impl Fn(&DynamicObject) -> Result<Option<Value>, FabricError>,
) -> Result<(), FabricError> {
    let params = PatchParams::default();
    let read = format!("read the IPPool {name}");
    for attempt in 1.. {
        let found = cluster.ask(&read, || pools.get(name)).await?;
        let Some(mut patch) = change(&found)? else {
            return Ok(());
        };
        merge(
            &mut patch,
            "metadata",
            "resourceVersion",
            json!(found.metadata.resource_version),
        );
        let patch = Patch::Merge(patch);
        match cluster
            .ask_of_version(what, || pools.patch(name, &params, &patch))
            .await
        {
            Err(error) if error.is_conflict() && attempt < CONFLICTS => {
                tracing::debug!("reading it anew: {error}");
                tokio::time::sleep(cluster.patience().pause).await;
            }
            done => return done.map(|_| ()).map_err(FabricError::from),
        }
    }
    Ok(())
}

fn merge(patch: &mut Value, part: &str, key: &str, value: Value) {
    if let Some(patch) = patch.as_object_mut() {
        let part = patch.entry(part).or_insert_with(|| json!({}));
        if let Some(part) = part.as_object_mut() {
            part.insert(key.to_owned(), value);
        }
    }
}

/// Changes a pool of others: first what it was is written on it, then it is changed.
pub(super) async fn change(
    cluster: &Cluster,
    calico: CalicoApi,
    name: &str,
    mode: VxlanMode,
    run: &RunMark,
) -> Result<(), FabricError> {
    let pools = api(cluster, calico);
    let what = format!("note on the IPPool {name} what it was");
    rewrite(cluster, &pools, name, &what, |pool| {
        match annotation(pool, CHANGED_BY) {
            // Noted already, and the answer was lost.
            Some(other) if other == run.id => Ok(None),
            Some(other) => Err(FabricError::Unable(format!(
                "the IPPool {name} is changed by run {other} already; when that has ended: encapbench cleanup --run \
                 {other}"
            ))),
            None => Ok(Some(json!({ "metadata": { "annotations": {
                CHANGED_BY: run.id, MODE_BEFORE: mode_of(pool), MODE_SET: mode.to_string(),
            } } }))),
        }
    })
    .await?;
    let what = format!("set vxlanMode of the IPPool {name} to {mode}");
    rewrite(cluster, &pools, name, &what, |pool| {
        let (now, before) = (mode_of(pool), annotation(pool, MODE_BEFORE).unwrap_or_default());
        let ours = annotation(pool, CHANGED_BY) == Some(&run.id);
        if ours && now == mode.to_string() {
            return Ok(None);
        }
        if !ours || now != before {
            return Err(FabricError::Unable(format!(
                "somebody has changed the IPPool {name} just now: its vxlanMode was {before}, is {now}"
            )));
        }
        Ok(Some(json!({ "spec": { "vxlanMode": mode.to_string() } })))
    })
    .await
}

/// Puts a changed pool back to what is written on it. Where somebody else has set another mode since, that stays.
pub(super) async fn put_back(
    cluster: &Cluster,
    calico: CalicoApi,
    name: &str,
    run: &str,
) -> Result<(), FabricError> {
    let pools = api(cluster, calico);
    let look = format!("look for the IPPool {name}");
    if cluster.ask(&look, || pools.get_opt(name)).await?.is_none() {
        return Ok(());
    }
    let left_so = std::sync::Mutex::new(None);
    let what = format!("put the IPPool {name} back to its vxlanMode");
    rewrite(cluster, &pools, name, &what, |pool| {
        if annotation(pool, CHANGED_BY) != Some(run) {
            return Ok(None);
        }
        let before = annotation(pool, MODE_BEFORE).unwrap_or_default();
        let set = annotation(pool, MODE_SET).unwrap_or_default();
        let now = mode_of(pool);
        let mut change =
            json!({ "metadata": { "annotations": { CHANGED_BY: null, MODE_BEFORE: null, MODE_SET: null } } });
        let foreign = now != set && now != before;
        if !foreign {
            let mode = if before.is_empty() {
                Value::Null
            } else {
                json!(before)
            };
            merge(&mut change, "spec", "vxlanMode", mode);
        }
        let said = foreign.then(|| {
            format!(
                "the IPPool {name} had vxlanMode {before}, this run set {set}, and somebody has set {now} since: it is \
                 left so"
            )
        });
        *left_so.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(Some(change))
    })
    .await?;
    let left_so = left_so.into_inner().unwrap_or_else(PoisonError::into_inner);
    left_so.map_or(Ok(()), |said| Err(FabricError::Failed(said)))
}
