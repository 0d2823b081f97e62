//! The objects that a run makes in a cluster, as the API takes them. Pure: what is made is what `--dry-run` prints.

use crate::scenario::{By, CalicoApi, Kubernetes, Place, ResolvedPool, TaintEffect, Toleration};
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, time::Duration};

/// On every object: that it is encapbench's.
pub(super) const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The value of [`NAME_LABEL`].
pub(super) const NAME: &str = "encapbench";
/// On every object: the run that it is of.
pub(super) const RUN_LABEL: &str = "encapbench.io/run";
/// On every object: who runs it, as `user@host/pid`.
pub(super) const OWNER: &str = "encapbench.io/owner";
/// On pods: the place, as the scenario names it.
pub(super) const PLACE: &str = "encapbench.io/place";
/// On a pod before which a Service stands: its own name.
pub(super) const SERVED: &str = "encapbench.io/served";
/// On an IPPool of others that a run has changed: the run.
pub(super) const CHANGED_BY: &str = "encapbench.io/changed-by";
/// On such a pool: its `vxlanMode` before, empty where it had none.
pub(super) const MODE_BEFORE: &str = "encapbench.io/vxlan-mode-before";
/// On such a pool: the `vxlanMode` that the run has set.
pub(super) const MODE_SET: &str = "encapbench.io/vxlan-mode-set";
/// Calico's annotation for the pools that a pod's address may be of.
pub(super) const POOLS: &str = "cni.projectcalico.org/ipv4pools";
/// The container's name.
pub(super) const CONTAINER: &str = "worker";
/// The program in the image.
pub(super) const PROGRAM: &str = "encapbench";

/// How long a pod goes on without a worker in it before it ends: its coordinator is gone then.
const ALONE: Duration = Duration::from_mins(5);
/// The user that workers run as: nobody in particular, as distroless images have it.
const USER: u32 = 65_532;

/// A run, as its objects tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMark {
    /// Its id: lowercase letters and digits.
    pub id: String,
    /// Who runs it: `user@host/pid`.
    pub owner: String,
    /// How long its pods may live.
    pub deadline: Duration,
}

/// A pod that a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// The place that it is.
    pub place: Place,
    /// Its cluster, as the scenario names it.
    pub cluster: String,
    /// Its own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node that it runs on.
    pub node: String,
    /// The IPPool that its address is from; `None`: the node's own network.
    pub pool: Option<String>,
    /// How paths reach it by a Service; empty: none does.
    pub served_by: BTreeSet<By>,
    /// Whether it may read the node's packet filter and hear frames on its devices (NET_ADMIN and NET_RAW, as root).
    pub net_admin: bool,
}

/// The default image: what `scripts/build-image` makes.
pub fn default_image() -> String {
    format!("encapbench:{}", env!("CARGO_PKG_VERSION"))
}

/// A pod's name: the run's, the place's and a number, which alone makes it unique.
pub fn pod_name(run: &str, index: usize, place: &Place) -> String {
    let mut name = format!("{NAME}-{run}-{index}-");
    for c in place.to_string().to_lowercase().chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    // A pod's name becomes its host name, which has 63 characters at most.
    name.truncate(63);
    name.trim_end_matches('-').to_owned()
}

pub(super) fn labels(run: &str) -> Value {
    json!({ NAME_LABEL: NAME, RUN_LABEL: run, "app.kubernetes.io/managed-by": NAME })
}

/// A pod: one container that waits for workers to be started in it by `exec`, and ends by itself.
///
/// It keeps the Pod Security Standard `restricted`, but for node places, which need the host's network and nothing
/// else of it: what is read there (routes, counters, offloads, CPU) needs no capability.
pub fn pod(plan: &PodPlan, run: &RunMark, spec: &Kubernetes) -> Value {
    let deadline = run.deadline.as_secs().max(1);
    let mut annotations = json!({ OWNER: run.owner, PLACE: plan.place.to_string() });
    if let (Some(pool), Some(map)) = (&plan.pool, annotations.as_object_mut()) {
        map.insert(POOLS.to_owned(), json!(json!([pool]).to_string()));
    }
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": plan.name,
            "namespace": plan.namespace,
            "labels": labels(&run.id),
            "annotations": annotations,
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline,
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // As a DaemonSet does it: the scheduler, and so taints and resources, still have their say.
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [ { "matchFields": [
                    { "key": "metadata.name", "operator": "In", "values": [plan.node] }
                ] } ]
            } } },
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [ {
                "name": CONTAINER,
                "image": spec.image.clone().unwrap_or_else(default_image),
                "imagePullPolicy": "IfNotPresent",
                "args": [
                    "worker", "--standby",
                    "--at-most", format!("{deadline}s"),
                    "--alone", format!("{}s", ALONE.as_secs()),
                ],
                "resources": { "requests": { "cpu": spec.resources.cpu, "memory": spec.resources.memory } },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "privileged": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
            } ],
        },
    });
    if !plan.served_by.is_empty()
        && let Some(labels) = pod.pointer_mut("/metadata/labels").and_then(Value::as_object_mut)
    {
        labels.insert(SERVED.to_owned(), json!(plan.name));
    }
    let Some(inner) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return pod;
    };
    if !plan.place.is_pod() {
        inner.insert("hostNetwork".to_owned(), json!(true));
    }
    if plan.net_admin {
        inner.insert(
            "securityContext".to_owned(),
            json!({ "runAsUser": 0, "seccompProfile": { "type": "RuntimeDefault" } }),
        );
        if let Some(capabilities) = inner
            .get_mut("containers")
            .and_then(|all| all.get_mut(0))
            .and_then(|one| one.pointer_mut("/securityContext/capabilities"))
        {
            *capabilities = json!({ "drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"] });
        }
    }
    if let Some(class) = &spec.priority_class {
        inner.insert("priorityClassName".to_owned(), json!(class));
    }
    if !spec.tolerations.is_empty() {
        let all: Vec<Value> = spec.tolerations.iter().map(toleration).collect();
        inner.insert("tolerations".to_owned(), Value::Array(all));
    }
    pod
}

fn toleration(spec: &Toleration) -> Value {
    let mut made = Map::new();
    if let Some(key) = &spec.key {
        made.insert("key".to_owned(), json!(key));
    }
    match &spec.value {
        Some(value) => {
            made.insert("operator".to_owned(), json!("Equal"));
            made.insert("value".to_owned(), json!(value));
        }
        None => {
            made.insert("operator".to_owned(), json!("Exists"));
        }
    }
    if let Some(effect) = spec.effect {
        let effect = match effect {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        };
        made.insert("effect".to_owned(), json!(effect));
    }
    Value::Object(made)
}

/// The name of a pool that pods of `run` take their addresses from.
pub(super) fn pool_name(pool: &ResolvedPool, run: &str) -> String {
    if pool.own {
        format!("{}-{run}", pool.name)
    } else {
        pool.name.clone()
    }
}

/// An IPPool of our own: no node selects it, so that only pods that name it get an address of it; it is told to no
/// BGP peer and nothing of it is masqueraded.
pub fn pool(pool: &ResolvedPool, run: &RunMark, api: CalicoApi) -> Value {
    json!({
        "apiVersion": format!("{}/{}", api.group(), api.version()),
        "kind": "IPPool",
        "metadata": {
            "name": pool_name(pool, &run.id),
            "labels": labels(&run.id),
            "annotations": { OWNER: run.owner },
        },
        "spec": {
            "cidr": pool.cidr.to_string(),
            "blockSize": pool.block_size,
            "vxlanMode": pool.mode.to_string(),
            "ipipMode": "Never",
            "natOutgoing": false,
            "disableBGPExport": true,
            "nodeSelector": "!all()",
        },
    })
}
