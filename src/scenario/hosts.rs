//! Plain machines, reached over ssh.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// Machines that are there already. Nothing is installed on them: encapbench copies itself there for the run, unless the
/// same binary is on the host's `PATH`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hosts {
    /// How all hosts are reached; a host may say otherwise for itself.
    #[serde(default, skip_serializing_if = "Ssh::is_default")]
    pub ssh: Ssh,
    /// The folder on each host that encapbench copies itself into, for the time of the run.
    #[serde(default = "folder")]
    pub folder: String,
    /// The hosts; their names are the places that paths lead between.
    pub nodes: Vec<Host>,
}

fn folder() -> String {
    "/tmp".to_owned()
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Host {
    /// The place's name, and what `ssh` is given unless `ssh.host` says otherwise.
    pub name: String,
    /// The address that the measured traffic goes to and comes from.
    pub address: IpAddr,
    /// The network device that carries this traffic out of the host, such as `eth0`. Found by the kernel's route where
    /// left out; needed where a path of the host is said to be encapsulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How this host is reached.
    #[serde(default, skip_serializing_if = "Ssh::is_default")]
    pub ssh: Ssh,
}

/// How a host is reached by the `ssh` program. What is left out is as ssh's own configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ssh {
    /// The host's name or address for ssh, or an alias of its configuration; of one host only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The user to log in as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The port that sshd listens on: 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The file of the private key. A passphrase can't be asked for: use an agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Further options by ssh_config's names, such as `StrictHostKeyChecking: accept-new` or `ProxyJump: bastion`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Ssh {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// This, and where this says nothing, `general`.
    #[must_use]
    pub fn or(&self, general: &Self) -> Self {
        let mut options = general.options.clone();
        options.extend(self.options.clone());
        Self {
            host: self.host.clone().or_else(|| general.host.clone()),
            user: self.user.clone().or_else(|| general.user.clone()),
            port: self.port.or(general.port),
            identity: self.identity.clone().or_else(|| general.identity.clone()),
            options,
        }
    }
}
