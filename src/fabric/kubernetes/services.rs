//! Services of our own before pods at which paths end, made, exported and removed.

use super::{
    api::{ApiError, Cluster},
    objects::{NAME, OWNER, PodPlan, RUN_LABEL, RunMark, SERVED, labels},
    pods::of_run,
};
use crate::{fabric::FabricError, scenario::By};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The port of a Service for throughput: iperf3's own. Control and data share it.
pub(super) const THROUGHPUT_PORT: u16 = 5201;
/// The port of a Service for latency.
pub(super) const LATENCY_PORT: u16 = 5202;
/// The group of exported Services (KEP-1645).
pub(super) const EXPORT_GROUP: &str = "multicluster.x-k8s.io";
/// Its version.
const EXPORT_VERSION: &str = "v1alpha1";

/// The domain of names that are good in all clusters of a set (KEP-1645).
pub(super) fn exported_name(plan: &PodPlan) -> String {
    format!("{}.{}.svc.clusterset.local", plan.name, plan.namespace)
}

/// The Service before a pod, and its export, where there are any.
pub(super) fn objects(plan: &PodPlan, run: &RunMark) -> Vec<Value> {
    let meta = json!({
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": labels(&run.id),
        "annotations": { OWNER: run.owner },
    });
    let port = |name: &str, protocol: &str, port: u16| json!({ "name": name, "protocol": protocol, "port": port, "targetPort": port });
    let mut objects = Vec::new();
    if !plan.served_by.is_empty() {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "type": "ClusterIP",
                "selector": { RUN_LABEL: run.id, SERVED: plan.name },
                "ports": [
                    port("throughput-tcp", "TCP", THROUGHPUT_PORT),
                    port("throughput-udp", "UDP", THROUGHPUT_PORT),
                    port("latency-tcp", "TCP", LATENCY_PORT),
                    port("latency-udp", "UDP", LATENCY_PORT),
                ],
            },
        }));
    }
    if plan.served_by.contains(&By::ExportedService) {
        objects.push(json!({
            "apiVersion": format!("{EXPORT_GROUP}/{EXPORT_VERSION}"),
            "kind": "ServiceExport",
            "metadata": meta,
        }));
    }
    objects
}

fn services(cluster: &Cluster, namespace: &str) -> Api<Service> {
    Api::namespaced(cluster.client(), namespace)
}

fn export_kind() -> ApiResource {
    ApiResource {
        group: EXPORT_GROUP.to_owned(),
        version: EXPORT_VERSION.to_owned(),
        api_version: format!("{EXPORT_GROUP}/{EXPORT_VERSION}"),
        kind: "ServiceExport".to_owned(),
        plural: "serviceexports".to_owned(),
    }
}

fn exports(cluster: &Cluster, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client(), namespace, &export_kind())
}

/// Makes what stands before a pod; the ClusterIP.
pub(super) async fn make(cluster: &Cluster, plan: &PodPlan, run: &RunMark) -> Result<IpAddr, ApiError> {
    let apply = PatchParams::apply(NAME).force();
    let mut address = None;
    for object in objects(plan, run) {
        let name = &plan.name;
        if object.get("kind").and_then(Value::as_str) == Some("Service") {
            let api = services(cluster, &plan.namespace);
            let patch = Patch::Apply(object);
            let what = format!("make the Service {name} for {}", plan.place);
            let made = cluster.ask(&what, || api.patch(name, &apply, &patch)).await?;
            address = made.spec.and_then(|spec| spec.cluster_ip);
        } else {
            let api = exports(cluster, &plan.namespace);
            let patch = Patch::Apply(object);
            let what = format!("export the Service {name} for {}", plan.place);
            cluster.ask(&what, || api.patch(name, &apply, &patch)).await?;
        }
    }
    address
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::Broken {
            what: format!("make the Service {}", plan.name),
            reason: "it was given no address".to_owned(),
        })
}

/// Removes a Service of ours and its export. Harmless where there is none.
pub(super) async fn remove(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), ApiError> {
    let now = DeleteParams::default();
    let api = exports(cluster, namespace);
    let what = format!("delete the ServiceExport {namespace}/{name}");
    match cluster.ask(&what, || api.delete(name, &now)).await {
        // Most clusters know no such kind, and who may not delete any has made none.
        Err(error) if !error.is_missing() && !error.is_forbidden() => return Err(error),
        _ => {}
    }
    let api = services(cluster, namespace);
    let what = format!("delete the Service {namespace}/{name}");
    match cluster.ask(&what, || api.delete(name, &now)).await {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

/// Removes all Services of a run in the cluster's namespace. One that can't be removed keeps no other from it.
///
/// # Errors
/// Each that is still there, with the reason.
pub(super) async fn remove_all(cluster: &Cluster, run: &str) -> Result<(), FabricError> {
    let api = services(cluster, &cluster.namespace);
    let ours = of_run(run);
    let found = cluster.ask("list services", || api.list(&ours)).await?;
    let mut failed = Vec::new();
    for service in found.items {
        if let (Some(namespace), Some(name)) = (service.metadata.namespace, service.metadata.name)
            && let Err(error) = remove(cluster, &namespace, &name).await
        {
            failed.push(error.to_string());
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(FabricError::Failed(failed.join("; ")))
    }
}
