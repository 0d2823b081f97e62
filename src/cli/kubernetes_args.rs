//! What the command line says of Kubernetes clusters.

use super::Failure;
use crate::scenario::VxlanMode;
use clap::Args;
use std::{fmt::Write as _, str::FromStr};

/// A pool with the mode that it is to have for the time of a run: `default-ipv4-ippool=Always`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolChange {
    pool: String,
    mode: VxlanMode,
}

impl FromStr for PoolChange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let told = || format!("{text:?} is no change of a pool: NAME=CrossSubnet or NAME=Always");
        let (pool, mode) = text.split_once('=').ok_or_else(told)?;
        let mode = mode.parse().map_err(|()| told())?;
        if pool.is_empty() {
            return Err(told());
        }
        Ok(Self {
            pool: pool.to_owned(),
            mode,
        })
    }
}

/// Which clusters, and what may be done to them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(super) struct ClusterArgs {
    /// Read the cluster of this context of the kubeconfig, and show which nodes and pools the scenario's would be
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Show what would be with `run --allow-ippools`
    #[arg(long, requires = "context")]
    allow_ippools: bool,
}

impl ClusterArgs {
    /// What a run with these would be given; `None`: the cluster is left alone.
    pub(super) fn of_run(&self) -> Option<KubernetesArgs> {
        self.context.as_ref().map(|context| KubernetesArgs {
            context: Some(context.clone()),
            allow_ippools: self.allow_ippools,
            ..KubernetesArgs::default()
        })
    }
}

/// Options that only clusters have.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(super) struct KubernetesArgs {
    /// The kubeconfig's context, instead of the scenario's
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of encapbench's pods, instead of the scenario's
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The pods' image, instead of the scenario's
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Print every object that would be made, as YAML, and make none
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Make small IPPools of encapbench's own where the cluster has none of a wanted mode, and remove them at the end
    #[arg(long)]
    allow_ippools: bool,
    /// Do so even where the pool is the cluster's first with VXLAN, which makes Calico restart its agents
    #[arg(long, requires = "allow_ippools")]
    allow_first_vxlan_pool: bool,
    /// Set an existing pool's vxlanMode for the time of the run, for all its pods, and put it back at the end
    #[arg(long, value_name = "NAME=MODE")]
    change_ippool: Vec<PoolChange>,
}

impl KubernetesArgs {
    /// Whether a cluster is named.
    pub(super) const fn names_a_cluster(&self) -> bool {
        self.context.is_some()
    }

    /// Refuses what a fabric that is no cluster can't heed.
    ///
    /// # Errors
    /// Names the first such option.
    pub(super) fn refuse(&self, kind: &str) -> Result<(), Failure> {
        let given = [
            ("--context", self.context.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--image", self.image.is_some()),
            ("--dry-run", self.dry_run),
            ("--allow-ippools", self.allow_ippools),
            ("--change-ippool", !self.change_ippool.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option} is of Kubernetes, and this scenario's fabric is {kind}; `encapbench plan` shows what would run"
            ))),
            None => Ok(()),
        }
    }
}

impl KubernetesArgs {
    /// The options that allow something, to be given again where a run goes on: a scenario can't.
    pub(super) fn allowed(&self) -> String {
        let mut text = String::new();
        if self.allow_ippools {
            text.push_str(" --allow-ippools");
        }
        if self.allow_first_vxlan_pool {
            text.push_str(" --allow-first-vxlan-pool");
        }
        for PoolChange { pool, mode } in &self.change_ippool {
            // Writing into a String does not fail.
            let _ = write!(text, " --change-ippool {pool}={mode}");
        }
        text
    }
}

#[cfg(feature = "kubernetes")]
mod of_clusters {
    use super::KubernetesArgs;
    use crate::{
        fabric::kubernetes::Needs,
        scenario::{By, Fabric, PathSpec, Permissions, Scenario},
    };

    impl KubernetesArgs {
        /// The scenario with what the command line says instead.
        pub(in crate::cli) fn apply(&self, scenario: &Scenario) -> Scenario {
            let mut scenario = scenario.clone();
            if let Fabric::Kubernetes(spec) = &mut scenario.fabric {
                let one = match spec.clusters.first_mut() {
                    Some(first) => (&mut first.context, &mut first.namespace),
                    None => (&mut spec.context, &mut spec.namespace),
                };
                if self.context.is_some() {
                    one.0.clone_from(&self.context);
                }
                if self.namespace.is_some() {
                    one.1.clone_from(&self.namespace);
                }
                if self.image.is_some() {
                    spec.image.clone_from(&self.image);
                }
            }
            scenario
        }

        /// A cluster with nothing chosen.
        pub(in crate::cli) fn whole(&self) -> crate::scenario::Kubernetes {
            let mut spec = crate::scenario::Kubernetes::of_contexts(&[crate::scenario::ClusterContext {
                name: crate::scenario::Kubernetes::ONLY.to_owned(),
                context: self.context.clone(),
                namespace: self.namespace.clone(),
            }]);
            spec.image.clone_from(&self.image);
            spec
        }

        /// What the user allows.
        pub(in crate::cli) fn permissions(&self) -> Permissions {
            Permissions {
                own_pools: self.allow_ippools,
                first_vxlan_pool: self.allow_first_vxlan_pool,
                change: self
                    .change_ippool
                    .iter()
                    .map(|change| (change.pool.clone(), change.mode))
                    .collect(),
            }
        }

        /// What a run of these paths needs rights for.
        pub(in crate::cli) fn needs(&self, paths: &[&PathSpec]) -> Needs {
            Needs {
                // Its pods take their addresses from pools.
                pools: paths.iter().any(|path| path.vxlan_mode.is_some()),
                services: paths.iter().any(|path| !path.by.is_address()),
                exports: paths.iter().any(|path| path.by == By::ExportedService),
                own_pools: self.allow_ippools,
                change_pools: !self.change_ippool.is_empty(),
                // Where they may not be read, the environment says so, and the run goes on.
                submariner: false,
            }
        }
    }
}

/// Who runs this, as objects in a cluster tell it: `user@host/pid`.
#[cfg(feature = "kubernetes")]
pub(super) fn owner() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    format!(
        "{user}@{}/{}",
        crate::measure::machine::host().name,
        std::process::id()
    )
}
