//! The life of a run's objects: made, made again where they are gone, and removed.

use super::KubernetesFabric;
use crate::{
    fabric::{
        FabricError,
        kubernetes::{
            api::Cluster,
            objects::{PodPlan, pool_name},
            pods, pools, read, services,
        },
    },
    scenario::Place,
};
use futures::future::try_join_all;
use std::{collections::HashMap, net::IpAddr, time::Duration};

/// How long routes may take to follow a pool that was made or changed.
const ROUTES_FOLLOW: Duration = Duration::from_secs(3);

impl KubernetesFabric {
    fn pods_of<'a>(&'a self, cluster: &Cluster) -> Vec<&'a PodPlan> {
        self.pods
            .iter()
            .filter(|pod| pod.cluster == cluster.name)
            .collect()
    }

    /// Makes pools, changes those that may be changed, and makes all pods.
    pub(super) async fn make(&mut self) -> Result<(), FabricError> {
        let mut routes_move = false;
        for wanted in self.resolved.pools.iter().filter(|pool| pool.own) {
            let cluster = self.cluster(&wanted.cluster)?;
            pools::make(cluster, self.calico(&wanted.cluster)?, wanted, &self.run).await?;
        }
        for (name, mode) in &self.change {
            for cluster in &self.clusters {
                let Ok(calico) = self.calico(&cluster.name) else {
                    continue;
                };
                pools::change(cluster, calico, name, *mode, &self.run).await?;
                routes_move = true;
            }
        }
        for plan in self.pods.iter().filter(|plan| !plan.served_by.is_empty()) {
            let cluster = self.cluster(&plan.cluster)?;
            let address = services::make(cluster, plan, &self.run).await?;
            self.services.insert(plan.place.clone(), address);
            self.description
                .insert(format!("service of {}", plan.place), address.to_string());
        }
        let within = self.spec.start_within.get();
        let made = try_join_all(self.clusters.iter().map(|cluster| async {
            let plans = self.pods_of(cluster);
            pods::make(cluster, &plans, &self.run, &self.spec).await?;
            pods::wait(cluster, &plans, &self.run, within).await
        }))
        .await?;
        let addresses: HashMap<String, IpAddr> = made.into_iter().flatten().collect();
        self.keep(&addresses)?;
        self.read_tunnels().await?;
        if routes_move {
            tokio::time::sleep(ROUTES_FOLLOW).await;
        }
        self.made = true;
        Ok(())
    }

    /// Notes the pods' addresses, which must be of the pools that were asked for.
    fn keep(&mut self, addresses: &HashMap<String, IpAddr>) -> Result<(), FabricError> {
        for plan in &self.pods {
            let Some(address) = addresses.get(&plan.name) else {
                continue;
            };
            if let Place::Pod { mode, .. } = plan.place {
                let pool = self.pool(&plan.cluster, mode)?;
                let inside = matches!(address, IpAddr::V4(address) if pool.cidr.contains(*address));
                if !inside {
                    return Err(FabricError::Unable(format!(
                        "the pod of {} was given {address}, which is not of the IPPool {} ({}): the annotation \
                         cni.projectcalico.org/ipv4pools is not heeded, so another CNI plugin or IPAM than Calico's \
                         is at work, and no pool can be chosen",
                        plan.place, pool.name, pool.cidr
                    )));
                }
            }
            self.addresses.insert(plan.place.clone(), *address);
            self.description
                .insert(format!("address {}", plan.place), address.to_string());
        }
        Ok(())
    }

    /// The addresses of the nodes' tunnel devices, which the first pool with VXLAN makes.
    async fn read_tunnels(&mut self) -> Result<(), FabricError> {
        for cluster in self.clusters.clone() {
            let facts = read(&cluster, &self.spec.tolerations, false).await?;
            for node in facts.nodes {
                if let Some(address) = node.tunnel_address {
                    self.tunnels.insert((cluster.name.clone(), node.name), address);
                }
            }
        }
        Ok(())
    }

    /// Makes pods again that are gone: evicted, deleted, or out of time.
    pub(super) async fn mend(&mut self) -> Result<(), FabricError> {
        let within = self.spec.start_within.get();
        let mended = try_join_all(self.clusters.iter().map(|cluster| async {
            let plans = self.pods_of(cluster);
            let gone = pods::gone(cluster, &plans, &self.run).await?;
            if gone.is_empty() {
                return Ok(HashMap::new());
            }
            for plan in &gone {
                tracing::warn!(
                    "the pod of {} ({}) is gone: it is made again",
                    plan.place,
                    plan.name
                );
            }
            let names: Vec<_> = gone
                .iter()
                .map(|plan| (plan.namespace.clone(), plan.name.clone()))
                .collect();
            pods::remove(cluster, &names).await?;
            pods::make(cluster, &gone, &self.run, &self.spec).await?;
            pods::wait(cluster, &gone, &self.run, within).await
        }))
        .await?;
        let addresses: HashMap<String, IpAddr> = mended.into_iter().flatten().collect();
        self.keep(&addresses)
    }

    /// Removes all that was made, and puts back what was changed; goes on where one fails.
    pub(super) async fn remove(&self) -> Result<(), FabricError> {
        let mut failed = Vec::new();
        for cluster in &self.clusters {
            let served = |plan: &&PodPlan| plan.cluster == cluster.name && !plan.served_by.is_empty();
            if self.pods.iter().any(|plan| served(&plan))
                && let Err(error) = services::remove_all(cluster, &self.run.id).await
            {
                failed.push(error.to_string());
            }
            if let Err(error) = pods::remove_all(cluster, &self.run.id).await {
                failed.push(error.to_string());
            }
            let Ok(calico) = self.calico(&cluster.name) else {
                continue;
            };
            for name in self.change.keys() {
                if let Err(error) = pools::put_back(cluster, calico, name, &self.run.id).await {
                    failed.push(error.to_string());
                }
            }
            let own = self
                .resolved
                .pools
                .iter()
                .filter(|pool| pool.own && pool.cluster == cluster.name);
            for pool in own {
                let name = pool_name(pool, &self.run.id);
                if let Err(error) = pools::remove(cluster, calico, &name, &self.run.id).await {
                    failed.push(error.to_string());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(FabricError::Failed(format!(
            "not everything could be removed: {}; try again with: encapbench cleanup --run {}",
            failed.join("; "),
            self.run.id
        )))
    }
}
