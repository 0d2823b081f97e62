//! Kubernetes as a coordinator sees it: pods made once a run and kept over its blocks, workers by `exec` in them.

mod life;

use super::{
    api::Cluster,
    describe::describe,
    exec,
    objects::{PodPlan, RunMark, pod, pod_name, pool, pool_name},
    services, setup,
};
use crate::{
    evidence::{DeviceRole, ObservationRequest, RouteQuery, Setup},
    fabric::{Fabric, FabricError, Service, Target, Transport},
    scenario::{
        By, CalicoApi, Case, ClusterFacts, Encapsulation, Kubernetes, Path, Place, Resolved, ResolvedNode,
        ResolvedPool, VxlanMode,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
};

/// Calico's tunnel device, on every node.
pub(super) const TUNNEL: &str = "vxlan.calico";
/// Submariner's device from a node to its cluster's gateway.
pub(super) const VX_SUBMARINER: &str = "vx-submariner";
/// Submariner's devices from gateway to gateway, by its VXLAN and its WireGuard cable; that of IPsec has none.
pub(super) const CABLES: [&str; 2] = ["vxlan-tunnel", "submariner"];

/// The clusters of a run, with its pods and pools in them.
#[derive(Debug)]
pub struct KubernetesFabric {
    spec: Kubernetes,
    resolved: Resolved,
    run: RunMark,
    clusters: Vec<Cluster>,
    calico: BTreeMap<String, CalicoApi>,
    change: BTreeMap<String, VxlanMode>,
    pods: Vec<PodPlan>,
    addresses: HashMap<Place, IpAddr>,
    services: HashMap<Place, IpAddr>,
    tunnels: HashMap<(String, String), Ipv4Addr>,
    description: BTreeMap<String, String>,
    facts: Vec<ClusterFacts>,
    made: bool,
}

impl KubernetesFabric {
    /// The pods and pools that `cases` need. Makes nothing yet.
    ///
    /// # Errors
    /// Where the scenario was not resolved.
    pub fn new(
        spec: &Kubernetes,
        cases: &[Case],
        run: RunMark,
        clusters: Vec<Cluster>,
        facts: &[ClusterFacts],
        change: BTreeMap<String, VxlanMode>,
    ) -> Result<Self, FabricError> {
        let Some(resolved) = spec.resolved.clone() else {
            return Err(FabricError::Scenario("the clusters were not read".to_owned()));
        };
        let calico = facts
            .iter()
            .filter_map(|facts| Some((facts.name.clone(), facts.calico.as_ref()?.api)))
            .collect();
        let mut fabric = Self {
            spec: spec.clone(),
            resolved,
            description: describe(&run, &clusters, facts, spec.resolved.as_ref()),
            run,
            clusters,
            calico,
            change,
            pods: Vec::new(),
            addresses: HashMap::new(),
            services: HashMap::new(),
            tunnels: HashMap::new(),
            facts: facts.to_vec(),
            made: false,
        };
        fabric.pods = fabric.plan_pods(cases)?;
        Ok(fabric)
    }

    /// The same for places by name, without a path: what a look at whole clusters needs. With `net_admin` the pods in
    /// the nodes' network may read the packet filter and hear frames at the tunnels' ports.
    ///
    /// # Errors
    /// Where the scenario was not resolved, or has no pool for a pod.
    pub fn with_places(
        spec: &Kubernetes,
        places: BTreeSet<Place>,
        run: RunMark,
        clusters: Vec<Cluster>,
        facts: &[ClusterFacts],
        net_admin: bool,
    ) -> Result<Self, FabricError> {
        let mut fabric = Self::new(spec, &[], run, clusters, facts, BTreeMap::new())?;
        fabric.pods =
            fabric.plan_places(places.into_iter().map(|place| (place, BTreeSet::new())).collect())?;
        for pod in &mut fabric.pods {
            pod.net_admin = net_admin && !pod.place.is_pod();
        }
        Ok(fabric)
    }

    /// Reaches its clusters by another client.
    #[cfg(test)]
    pub(super) fn reach(&mut self, cluster: Cluster) {
        self.clusters = vec![cluster];
    }

    /// The run's id, for `encapbench cleanup --run`.
    pub fn run(&self) -> &str {
        &self.run.id
    }

    fn plan_pods(&self, cases: &[Case]) -> Result<Vec<PodPlan>, FabricError> {
        let mut places: BTreeMap<Place, BTreeSet<By>> = BTreeMap::new();
        for path in cases.iter().map(|case| &case.path) {
            for place in path.places() {
                places.entry(place.clone()).or_default();
                if self.spec.probe {
                    places.entry(Place::Node(place.node().to_owned())).or_default();
                }
            }
            for gateway in self.gateways(path) {
                places.entry(Place::Node(gateway.name.clone())).or_default();
            }
            if !path.by.is_address() {
                places.entry(path.to.clone()).or_default().insert(path.by);
            }
        }
        self.plan_places(places)
    }

    fn plan_places(&self, places: BTreeMap<Place, BTreeSet<By>>) -> Result<Vec<PodPlan>, FabricError> {
        places
            .into_iter()
            .enumerate()
            .map(|(index, (place, served_by))| {
                let node = self.node(place.node())?;
                let pool = match &place {
                    Place::Node(_) => None,
                    Place::Pod { mode, .. } => {
                        Some(pool_name(self.pool(&node.cluster, *mode)?, &self.run.id))
                    }
                };
                let cluster = self.cluster(&node.cluster)?;
                Ok(PodPlan {
                    name: pod_name(&self.run.id, index, &place),
                    cluster: cluster.name.clone(),
                    namespace: cluster.namespace.clone(),
                    node: node.node.clone(),
                    pool,
                    served_by,
                    net_admin: false,
                    place,
                })
            })
            .collect()
    }

    /// The clusters' gateways that a path passes, as far as they may be looked at.
    fn gateways(&self, path: &Path) -> Vec<&ResolvedNode> {
        if !self.spec.probe || !self.crosses(path) || !(path.from.is_pod() || path.to.is_pod()) {
            return Vec::new();
        }
        let of = |place: &Place| {
            let cluster = &self.node(place.node()).ok()?.cluster;
            let facts = self.facts.iter().find(|facts| facts.name == *cluster)?;
            let active = facts.submariner.as_ref()?.active()?;
            let mut nodes = self.resolved.nodes.iter();
            nodes.find(|node| node.cluster == *cluster && node.node == active.node)
        };
        [&path.from, &path.to].into_iter().filter_map(of).collect()
    }

    fn node(&self, name: &str) -> Result<&ResolvedNode, FabricError> {
        let found = self.resolved.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| FabricError::Scenario(format!("no node was chosen for {name}")))
    }

    fn pool(&self, cluster: &str, mode: VxlanMode) -> Result<&ResolvedPool, FabricError> {
        let mut pools = self.resolved.pools.iter();
        pools
            .find(|pool| pool.cluster == cluster && pool.mode == mode)
            .ok_or_else(|| FabricError::Scenario(format!("no {mode} pool was found in {cluster}")))
    }

    fn cluster(&self, name: &str) -> Result<&Cluster, FabricError> {
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.ok_or_else(|| FabricError::Scenario(format!("no cluster is named {name}")))
    }

    fn calico(&self, cluster: &str) -> Result<CalicoApi, FabricError> {
        let api = self.calico.get(cluster).copied();
        api.ok_or_else(|| FabricError::Unable(format!("the IPPools of {cluster} can't be read")))
    }

    fn pod(&self, place: &Place) -> Result<&PodPlan, FabricError> {
        let found = self.pods.iter().find(|pod| pod.place == *place);
        found.ok_or_else(|| FabricError::Failed(format!("there is no pod for {place}")))
    }

    /// Every object that the run makes, as it would be sent.
    ///
    /// # Errors
    /// Where a pool's cluster has no Calico.
    pub fn objects(&self) -> Result<Vec<Value>, FabricError> {
        let pools = self.resolved.pools.iter().filter(|pool| pool.own);
        let mut objects: Vec<Value> = pools
            .map(|one| Ok(pool(one, &self.run, self.calico(&one.cluster)?)))
            .collect::<Result<_, FabricError>>()?;
        objects.extend(
            self.pods
                .iter()
                .flat_map(|plan| services::objects(plan, &self.run)),
        );
        objects.extend(self.pods.iter().map(|plan| pod(plan, &self.run, &self.spec)));
        Ok(objects)
    }

    /// What of others the run changes for its time, each a sentence.
    pub fn changes(&self) -> Vec<String> {
        let mut said = Vec::new();
        for (name, mode) in &self.change {
            for cluster in self.clusters.iter().map(|cluster| &cluster.name) {
                if let Some(now) = self.description.get(&format!("IPPool {name} of {cluster}")) {
                    said.push(format!(
                        "IPPool {name} of {cluster} ({now}) gets vxlanMode {mode} for the time of the run, and is put back"
                    ));
                }
            }
        }
        said
    }

    /// What to look at on the node of `from` for packets from `from` to `to`; `None` where nothing runs there that
    /// could look.
    fn question(
        &self,
        path: &Path,
        from: &Place,
        to: &Place,
    ) -> Result<Option<(Place, ObservationRequest)>, FabricError> {
        let watcher = Place::Node(from.node().to_owned());
        if self.pod(&watcher).is_err() {
            return Ok(None);
        }
        let node = self.node(from.node())?;
        let source = from.is_pod().then(|| self.address(path, from)).transpose()?;
        let mut devices = vec![(TUNNEL.to_owned(), DeviceRole::Tunnel)];
        if self.crosses(path) {
            devices.extend(of_submariner());
        }
        let request = ObservationRequest {
            route_devices: false,
            devices,
            underlay_of: Some(IpAddr::V4(node.address)),
            routes: vec![RouteQuery {
                destination: self.address(path, to)?,
                source,
                input_device: None,
            }],
        };
        Ok(Some((watcher, request)))
    }
}

/// Submariner's devices of a node.
fn of_submariner() -> impl Iterator<Item = (String, DeviceRole)> {
    let cables = CABLES.map(|name| (name, DeviceRole::Cable));
    let all = std::iter::once((VX_SUBMARINER, DeviceRole::VxSubmariner)).chain(cables);
    all.map(|(name, role)| (name.to_owned(), role))
}

impl Fabric for KubernetesFabric {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        if self.made {
            self.mend().await
        } else {
            self.make().await
        }
    }

    async fn launch(&mut self, place: &Place) -> Result<Transport, FabricError> {
        let plan = self.pod(place)?;
        exec::worker(self.cluster(&plan.cluster)?, plan).await
    }

    fn address(&self, path: &Path, place: &Place) -> Result<IpAddr, FabricError> {
        if let Place::Node(name) = place {
            let node = self.node(name)?;
            // Towards a block behind the tunnel the kernel gives a node's socket the tunnel's address. Bound to the
            // node's own, the answers would come back plain.
            let tunnel = self
                .tunnels
                .get(&(node.cluster.clone(), node.node.clone()))
                .copied();
            return match (path.expected, tunnel.or(node.tunnel_address)) {
                (Encapsulation::Vxlan, Some(address)) => Ok(IpAddr::V4(address)),
                _ => Ok(IpAddr::V4(node.address)),
            };
        }
        self.addresses
            .get(place)
            .copied()
            .ok_or_else(|| FabricError::Failed(format!("the pod of {place} has no address")))
    }

    fn service(&self, path: &Path) -> Result<Option<Service>, FabricError> {
        let target = match path.by {
            By::Address => return Ok(None),
            By::ClusterIp => {
                let address = self.services.get(&path.to).copied();
                Target::Address(
                    address
                        .ok_or_else(|| FabricError::Failed(format!("there is no Service for {}", path.to)))?,
                )
            }
            By::ExportedService => Target::Name(services::exported_name(self.pod(&path.to)?)),
        };
        Ok(Some(Service {
            target,
            ports: (services::THROUGHPUT_PORT, services::LATENCY_PORT),
        }))
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        let mut seen: Vec<_> = self.question(path, &path.from, &path.to)?.into_iter().collect();
        if path.from.node() != path.to.node() {
            seen.extend(self.question(path, &path.to, &path.from)?);
        }
        Ok(seen)
    }

    fn on_the_way(&self, path: &Path) -> Vec<(Place, ObservationRequest)> {
        let ends = [path.from.node(), path.to.node()];
        let gateways = self.gateways(path).into_iter();
        gateways
            .filter(|gateway| !ends.contains(&gateway.name.as_str()))
            .map(|gateway| {
                let mut devices = vec![(TUNNEL.to_owned(), DeviceRole::Tunnel)];
                devices.extend(of_submariner());
                let request = ObservationRequest {
                    route_devices: false,
                    devices,
                    underlay_of: Some(IpAddr::V4(gateway.address)),
                    routes: Vec::new(),
                };
                (Place::Node(gateway.name.clone()), request)
            })
            .collect()
    }

    fn unseen(&self, path: &Path) -> Vec<String> {
        let mut nodes = vec![path.from.node()];
        if path.to.node() != path.from.node() {
            nodes.push(path.to.node());
        }
        nodes
            .into_iter()
            .filter(|node| self.pod(&Place::Node((*node).to_owned())).is_err())
            .map(|node| {
                format!(
                    "{node}: nothing may look at the node's routes and counters (`probe: true` allows it)"
                )
            })
            .collect()
    }

    fn setup(&self) -> Option<Setup> {
        Some(setup::setup(
            &self.facts,
            &self.resolved,
            &self.pods,
            &self.addresses,
        ))
    }

    fn crosses(&self, path: &Path) -> bool {
        let cluster = |place: &Place| self.node(place.node()).ok().map(|node| node.cluster.clone());
        cluster(&path.from) != cluster(&path.to)
    }

    fn keeps_places(&self) -> bool {
        true
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn describe(&self) -> BTreeMap<String, String> {
        self.description.clone()
    }

    /// Pods stay over the blocks of a run: to make them anew takes longer than many a block.
    async fn release(&mut self) {}

    async fn finish(&mut self) -> Result<(), FabricError> {
        self.remove().await
    }

    fn left_behind(&self) -> Option<String> {
        Some(format!(
            "what it made is still in the cluster; remove it with: encapbench cleanup --run {}",
            self.run.id
        ))
    }
}
