//! What crashed runs left in a cluster, and its removal: `encapbench cleanup`.

use super::{
    api::{ApiError, Cluster},
    objects::{CHANGED_BY, NAME, NAME_LABEL, OWNER, RUN_LABEL},
    pods, pools, read, services,
};
use crate::{fabric::FabricError, scenario::CalicoApi};
use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::ListParams};
use std::{collections::BTreeMap, fmt};

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftObject {
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Whether it has ended.
        over: bool,
    },
    /// A Service, with its export where it has one.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An IPPool of encapbench's own.
    Pool {
        /// Where it is written.
        api: CalicoApi,
        /// Its name.
        name: String,
    },
    /// An IPPool of others that a run has changed.
    ChangedPool {
        /// Where it is written.
        api: CalicoApi,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for LeftObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                over,
            } => write!(f, "pod {namespace}/{name}{}", if *over { " (ended)" } else { "" }),
            Self::Service { namespace, name } => write!(f, "service {namespace}/{name}"),
            Self::Pool { name, .. } => write!(f, "ippool {name}"),
            Self::ChangedPool { name, .. } => write!(f, "ippool {name} (changed, to be put back)"),
        }
    }
}

/// What is there of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// The run's id.
    pub run: String,
    /// Who ran it, as `user@host/pid`; empty where it is not known.
    pub owner: String,
    /// Its objects.
    pub objects: Vec<LeftObject>,
}

impl Left {
    /// Whether it has ended for certain: it has pods, and all have ended.
    pub fn all_over(&self) -> bool {
        let mut pods = self.objects.iter().filter_map(|object| match object {
            LeftObject::Pod { over, .. } => Some(*over),
            LeftObject::Service { .. } | LeftObject::Pool { .. } | LeftObject::ChangedPool { .. } => None,
        });
        pods.next().is_some_and(|first| first && pods.all(|over| over))
    }
}

/// All that is there of encapbench, by run, with what may not be looked at.
///
/// Pods of all namespaces, or where those may not be listed, of the cluster's own.
///
/// # Errors
/// Where not even those may be listed.
pub async fn left(cluster: &Cluster) -> Result<(Vec<Left>, Vec<String>), ApiError> {
    let mut runs: BTreeMap<String, Left> = BTreeMap::new();
    let mut unseen = Vec::new();
    let mut add = |run: &str, meta: &ObjectMeta, object: LeftObject| {
        let entry = runs.entry(run.to_owned()).or_insert_with(|| Left {
            run: run.to_owned(),
            ..Left::default()
        });
        if let Some(owner) = meta
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(OWNER))
        {
            entry.owner.clone_from(owner);
        }
        entry.objects.push(object);
    };
    let ours = ListParams::default().labels(&format!("{NAME_LABEL}={NAME},{RUN_LABEL}"));
    let everywhere: Api<Pod> = Api::all(cluster.client());
    let found = match cluster
        .ask("list the pods of all namespaces", || everywhere.list(&ours))
        .await
    {
        Err(error) if error.is_forbidden() => {
            unseen.push(format!(
                "only the namespace {} was looked at: {error}",
                cluster.namespace
            ));
            let own = pods::namespaced(cluster, &cluster.namespace);
            cluster.ask("list pods", || own.list(&ours)).await?
        }
        found => found?,
    };
    for pod in &found.items {
        let labels = pod.metadata.labels.as_ref();
        let (Some(run), Some(name)) = (
            labels.and_then(|labels| labels.get(RUN_LABEL)),
            &pod.metadata.name,
        ) else {
            continue;
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let object = LeftObject::Pod {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            over: matches!(phase, Some("Succeeded" | "Failed")),
        };
        add(run, &pod.metadata, object);
    }
    for service in &services_of(cluster, &ours).await? {
        let labels = service.metadata.labels.as_ref();
        if let (Some(run), Some(name)) = (
            labels.and_then(|labels| labels.get(RUN_LABEL)),
            &service.metadata.name,
        ) {
            let object = LeftObject::Service {
                namespace: service.metadata.namespace.clone().unwrap_or_default(),
                name: name.clone(),
            };
            add(run, &service.metadata, object);
        }
    }
    match calico(cluster).await {
        Err(error) => unseen.push(error.to_string()),
        Ok(None) => {}
        Ok(Some(calico)) => {
            let pools = pools::api(cluster, calico);
            let everything = ListParams::default();
            match cluster.ask("list IPPools", || pools.list(&everything)).await {
                Err(error) => unseen.push(error.to_string()),
                Ok(found) => {
                    for pool in &found.items {
                        let Some(name) = pool.metadata.name.clone() else {
                            continue;
                        };
                        let labels = pool.metadata.labels.clone().unwrap_or_default();
                        let annotations = pool.metadata.annotations.clone().unwrap_or_default();
                        if labels.get(NAME_LABEL).map(String::as_str) == Some(NAME)
                            && let Some(run) = labels.get(RUN_LABEL)
                        {
                            add(run, &pool.metadata, LeftObject::Pool { api: calico, name });
                        } else if let Some(run) = annotations.get(CHANGED_BY) {
                            add(run, &pool.metadata, LeftObject::ChangedPool { api: calico, name });
                        }
                    }
                }
            }
        }
    }
    Ok((runs.into_values().collect(), unseen))
}

/// Services of all namespaces, or of the cluster's own; none for who may list none: such a user has made none.
async fn services_of(cluster: &Cluster, ours: &ListParams) -> Result<Vec<Service>, ApiError> {
    let everywhere: Api<Service> = Api::all(cluster.client());
    let own: Api<Service> = Api::namespaced(cluster.client(), &cluster.namespace);
    for api in [everywhere, own] {
        match cluster.ask("list services", || api.list(ours)).await {
            Err(error) if error.is_forbidden() => {}
            found => return Ok(found?.items),
        }
    }
    Ok(Vec::new())
}

/// Which of Calico's groups is served and answers.
async fn calico(cluster: &Cluster) -> Result<Option<CalicoApi>, ApiError> {
    let client = cluster.client();
    let groups = cluster
        .ask("ask for the API's groups", || client.list_api_groups())
        .await?;
    let mut last = Ok(None);
    for api in [CalicoApi::ProjectCalico, CalicoApi::Crd] {
        let served = groups.groups.iter().any(|group| {
            group.name == api.group()
                && group
                    .versions
                    .iter()
                    .any(|version| version.version == api.version())
        });
        if !served {
            continue;
        }
        let pools: Api<kube::api::DynamicObject> = Api::all_with(cluster.client(), &read::pools(api));
        let one = ListParams::default().limit(1);
        match cluster.ask("list IPPools", || pools.list(&one)).await {
            Ok(_) => return Ok(Some(api)),
            Err(error) => last = Err(error),
        }
    }
    last
}

/// Removes what is there of a run: pods first, then pools, and puts back those that it changed. Goes on where one
/// fails; what failed is the error.
///
/// # Errors
/// What could not be removed, each with its reason.
pub async fn sweep(cluster: &Cluster, left: &Left) -> Result<(), FabricError> {
    let mut failed = Vec::new();
    let names: Vec<(String, String)> = left
        .objects
        .iter()
        .filter_map(|object| match object {
            LeftObject::Pod { namespace, name, .. } => Some((namespace.clone(), name.clone())),
            LeftObject::Service { .. } | LeftObject::Pool { .. } | LeftObject::ChangedPool { .. } => None,
        })
        .collect();
    if let Err(error) = pods::remove(cluster, &names).await {
        failed.push(error.to_string());
    }
    for object in &left.objects {
        let done = match object {
            LeftObject::Pod { .. } => Ok(()),
            LeftObject::Service { namespace, name } => services::remove(cluster, namespace, name)
                .await
                .map_err(FabricError::from),
            LeftObject::Pool { api, name } => pools::remove(cluster, *api, name, &left.run).await,
            LeftObject::ChangedPool { api, name } => pools::put_back(cluster, *api, name, &left.run).await,
        };
        if let Err(error) = done {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(FabricError::Failed(failed.join("; ")))
    }
}
