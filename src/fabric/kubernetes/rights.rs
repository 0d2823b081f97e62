//! The rights that a run needs, which of them are missing, and the manifest that grants them.

use super::api::{ApiError, Cluster};
use crate::{fabric::FabricError, scenario::CalicoApi};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

/// A verb on a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API's group; empty: the core.
    pub group: &'static str,
    /// The resource, with its subresource: `pods/exec`.
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// Whether one namespace is enough.
    pub namespaced: bool,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// What a run wants to do, as far as rights depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Read IPPools: pods take their addresses from some.
    pub pools: bool,
    /// Make IPPools of its own.
    pub own_pools: bool,
    /// Change IPPools of others for a time.
    pub change_pools: bool,
    /// Make Services of its own.
    pub services: bool,
    /// Export them to other clusters.
    pub exports: bool,
    /// Read Submariner's objects.
    pub submariner: bool,
}

impl Needs {
    /// Everything that encapbench can be told to do.
    pub const ALL: Self = Self {
        pools: true,
        own_pools: true,
        change_pools: true,
        services: true,
        exports: true,
        submariner: true,
    };
}

/// The rights that `needs` take, where Calico's objects are read by `api`.
pub fn needed(needs: Needs, api: CalicoApi) -> Vec<Right> {
    let mut rights = Vec::new();
    let mut add = |group, resource, namespaced, verbs: &[&'static str]| {
        rights.extend(verbs.iter().map(|verb| Right {
            group,
            resource,
            verb,
            namespaced,
        }));
    };
    add("", "nodes", false, &["list"]);
    // Server-side apply is a patch, and where it makes something, a create too.
    add(
        "",
        "pods",
        true,
        &["create", "delete", "get", "list", "patch", "watch"],
    );
    // Exec by WebSocket is a GET; newer API servers ask for create all the same.
    add("", "pods/exec", true, &["create", "get"]);
    add("", "events", true, &["list"]);
    let group = api.group();
    if needs.pools || needs.own_pools || needs.change_pools {
        add(group, "ippools", false, &["list"]);
        add(group, "felixconfigurations", false, &["get"]);
        add(group, "clusterinformations", false, &["get"]);
    }
    if needs.own_pools {
        add(group, "ippools", false, &["create", "delete", "get", "patch"]);
        // A pool must stay clear of them, and stays as long as one of them has an address of it.
        add("", "pods", false, &["list"]);
        add("", "services", false, &["list"]);
    }
    if needs.change_pools {
        add(group, "ippools", false, &["get", "patch"]);
    }
    if needs.services {
        add(
            "",
            "services",
            true,
            &["create", "delete", "get", "list", "patch"],
        );
    }
    if needs.exports {
        let group = super::services::EXPORT_GROUP;
        add(
            group,
            "serviceexports",
            true,
            &["create", "delete", "get", "patch"],
        );
    }
    if needs.submariner {
        for resource in ["clusters", "endpoints", "gateways"] {
            add(super::submariner::GROUP, resource, false, &["list"]);
        }
    }
    rights.sort();
    rights.dedup();
    rights
}

/// Those of `rights` that this user doesn't have, as the API server itself says.
///
/// # Errors
/// Where it can't be asked.
pub async fn missing(cluster: &Cluster, rights: &[Right]) -> Result<Vec<Right>, ApiError> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let (reviews, params) = (&reviews, &PostParams::default());
    let mut missing: Vec<Right> = stream::iter(rights)
        .map(|right| async move {
            let (resource, subresource) = right
                .resource
                .split_once('/')
                .map_or((right.resource, None), |(resource, sub)| (resource, Some(sub)));
            let review = SelfSubjectAccessReview {
                spec: SelfSubjectAccessReviewSpec {
                    resource_attributes: Some(ResourceAttributes {
                        group: Some(right.group.to_owned()),
                        namespace: right.namespaced.then(|| cluster.namespace.clone()),
                        resource: Some(resource.to_owned()),
                        subresource: subresource.map(str::to_owned),
                        verb: Some(right.verb.to_owned()),
                        ..ResourceAttributes::default()
                    }),
                    ..SelfSubjectAccessReviewSpec::default()
                },
                ..SelfSubjectAccessReview::default()
            };
            let what = "ask for this user's rights";
            let answer = cluster.ask(what, || reviews.create(params, &review)).await?;
            let allowed = answer.status.is_some_and(|status| status.allowed);
            Ok::<_, ApiError>((!allowed).then(|| right.clone()))
        })
        .buffer_unordered(8)
        .try_filter_map(|right| async move { Ok(right) })
        .try_collect()
        .await?;
    missing.sort();
    Ok(missing)
}

/// What is missing, each right with where: `create pods/exec in namespace bench`.
pub fn each_missing(cluster: &Cluster, missing: &[Right]) -> Vec<String> {
    missing
        .iter()
        .map(|right| {
            if right.namespaced {
                format!("{right} in namespace {}", cluster.namespace)
            } else {
                format!("{right} in the whole cluster")
            }
        })
        .collect()
}

/// The manifest that grants what is missing, to a user whose name is to be filled in.
pub fn grant(cluster: &Cluster, missing: &[Right]) -> String {
    super::yaml(&rbac(missing, &cluster.namespace, &Subject::Placeholder)).unwrap_or_default()
}

/// One message of all that is missing, with what grants it.
pub fn explain(cluster: &Cluster, missing: &[Right]) -> FabricError {
    let each = each_missing(cluster, missing);
    let grant = grant(cluster, missing);
    let context = if cluster.context.contains("://") {
        String::new()
    } else {
        format!("--context {} ", cluster.context)
    };
    FabricError::Unable(format!(
        "you lack rights in {}:\n  {}\nAn admin grants them by `kubectl {context}apply -f -` with\n{}",
        cluster.context,
        each.join("\n  "),
        grant.trim_end()
    ))
}

/// Whom rights are granted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Somebody whose name is still to be filled in.
    Placeholder,
    /// A service account of the namespace.
    ServiceAccount(String),
}

/// Roles that grant `rights`, with their bindings.
pub fn rbac(rights: &[Right], namespace: &str, subject: &Subject) -> Vec<Value> {
    let (role, subject) = match subject {
        // A name of its own: applied, it must not take away what others were granted.
        Subject::Placeholder => (
            "encapbench-for-NAME-OF-THE-USER",
            json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "NAME-OF-THE-USER" }),
        ),
        Subject::ServiceAccount(name) => (
            "encapbench",
            json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace }),
        ),
    };
    let mut objects = Vec::new();
    for (namespaced, kind) in [(true, "Role"), (false, "ClusterRole")] {
        let mut verbs: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for right in rights.iter().filter(|right| right.namespaced == namespaced) {
            let all = verbs.entry((right.group, right.resource)).or_default();
            if !all.contains(&right.verb) {
                all.push(right.verb);
            }
        }
        if verbs.is_empty() {
            continue;
        }
        let rules: Vec<Value> = verbs
            .into_iter()
            .map(|((group, resource), verbs)| {
                json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs })
            })
            .collect();
        let labels = json!({ super::objects::NAME_LABEL: super::objects::NAME });
        let mut meta = json!({ "name": role, "labels": labels });
        if namespaced && let Some(meta) = meta.as_object_mut() {
            meta.insert("namespace".to_owned(), json!(namespace));
        }
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta, "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": format!("{kind}Binding"),
            "metadata": meta,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [subject],
        }));
    }
    objects
}
