//! The nodes of a scenario, with where they are.

use super::{Fabric, Hosts, Kubernetes, Lab, Scenario};

/// A node, and where in the fabric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRef<'a> {
    /// Its name.
    pub name: &'a str,
    /// The index of its cluster.
    pub cluster: usize,
    /// The index of its subnet within the cluster.
    pub subnet: usize,
}

impl Scenario {
    /// All nodes, in the order of the file.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        let nodes: Vec<NodeRef<'_>> = match &self.fabric {
            Fabric::Lab(lab) => of_lab(lab).collect(),
            Fabric::Hosts(hosts) => of_hosts(hosts).collect(),
            Fabric::Kubernetes(spec) => of_kubernetes(spec),
        };
        nodes.into_iter()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<NodeRef<'_>> {
        self.nodes().find(|node| node.name == name)
    }
}

fn of_lab(lab: &Lab) -> impl Iterator<Item = NodeRef<'_>> {
    lab.clusters.iter().enumerate().flat_map(|(cluster, spec)| {
        spec.subnets.iter().enumerate().flat_map(move |(subnet, spec)| {
            spec.nodes.iter().map(move |name| NodeRef {
                name,
                cluster,
                subnet,
            })
        })
    })
}

/// What subnets they are in is not said: they count as one.
fn of_hosts(hosts: &Hosts) -> impl Iterator<Item = NodeRef<'_>> {
    hosts.nodes.iter().map(|host| NodeRef {
        name: &host.name,
        cluster: 0,
        subnet: 0,
    })
}

/// Subnets are the cluster's own once it was read; before, those that the choices ask for, and one for all that don't.
fn of_kubernetes(spec: &Kubernetes) -> Vec<NodeRef<'_>> {
    let clusters = spec.clusters();
    let mut nodes: Vec<NodeRef<'_>> = Vec::new();
    for (index, choice) in spec.nodes.iter().enumerate() {
        let cluster = clusters
            .iter()
            .position(|cluster| cluster.name == spec.cluster_of(choice))
            .unwrap_or(0);
        let like = |name: &Option<String>| {
            let name = name.as_deref()?;
            nodes
                .iter()
                .find(|node| node.name == name)
                .map(|node| node.subnet)
        };
        let resolved = spec.resolved_node(&choice.name).and_then(|node| {
            let all = &spec.resolved.as_ref()?.nodes;
            all.iter().position(|other| other.subnet == node.subnet)
        });
        let apart = choice.other_subnet_than.is_some().then_some(index + 1);
        nodes.push(NodeRef {
            name: &choice.name,
            cluster,
            subnet: resolved
                .or_else(|| like(&choice.same_subnet_as))
                .or(apart)
                .unwrap_or(0),
        });
    }
    nodes
}
