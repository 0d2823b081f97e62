//! What a pod's status means for one who waits for it: it runs, it is on its way, or it won't, with its own reason.

use super::api::{ApiError, Cluster};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::{Api, api::ListParams};
use std::{net::IpAddr, time::Duration};

/// How a pod is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// It runs and has this address.
    Running(IpAddr),
    /// Not yet.
    OnItsWay(String),
    /// Not yet, and it will only if something changes within so much time.
    Stuck {
        /// Why, in its own words.
        why: String,
        /// How long that may last.
        patience: Duration,
    },
    /// It won't.
    Over(String),
}

/// How long the scheduler may find no room: an autoscaler may be making some.
const UNSCHEDULABLE: Duration = Duration::from_secs(30);
/// How long a container may fail to start: kubelet tries again.
const NOT_STARTING: Duration = Duration::from_secs(15);

/// What a pod's status says.
pub fn state(pod: &Pod) -> PodState {
    let Some(status) = &pod.status else {
        return PodState::OnItsWay("no status yet".to_owned());
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Over("it is being deleted".to_owned());
    }
    let message = [status.reason.as_deref(), status.message.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ");
    let phase = status.phase.as_deref().unwrap_or_default();
    let container = status.container_statuses.iter().flatten().next();
    if matches!(phase, "Failed" | "Succeeded") {
        let why = if message.is_empty() {
            container.map_or_else(String::new, ended)
        } else {
            message
        };
        return PodState::Over(format!("it has ended ({phase}): {why}"));
    }
    if let Some(state) = container.and_then(of_container) {
        return state;
    }
    let conditions = status.conditions.iter().flatten();
    let unscheduled = conditions
        .into_iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False");
    if let Some(condition) = unscheduled {
        let why = condition
            .message
            .clone()
            .or_else(|| condition.reason.clone())
            .unwrap_or_default();
        return PodState::Stuck {
            why: format!("it can't be scheduled: {why}"),
            patience: UNSCHEDULABLE,
        };
    }
    let running =
        container.is_some_and(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    let address = status.pod_ip.as_deref().and_then(|text| text.parse().ok());
    match address {
        Some(address) if phase == "Running" && running => PodState::Running(address),
        _ if message.is_empty() => PodState::OnItsWay(format!("it is {}", phase.to_lowercase())),
        _ => PodState::OnItsWay(message),
    }
}

fn ended(container: &ContainerStatus) -> String {
    let ended = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    ended.map_or_else(String::new, |ended| {
        let reason = ended.reason.as_deref().unwrap_or("ended");
        let message = ended.message.as_deref().unwrap_or_default();
        format!("{reason}, exit code {} {message}", ended.exit_code)
            .trim_end()
            .to_owned()
    })
}

/// What keeps a container from running, where something does.
fn of_container(container: &ContainerStatus) -> Option<PodState> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    let why = format!("{reason}: {message}")
        .trim_end_matches([':', ' '])
        .to_owned();
    match reason {
        "ImagePullBackOff" | "ErrImagePull" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            Some(PodState::Stuck {
                why: format!(
                    "{why}; the node has no image {}, and can't pull it: `scripts/build-image FILE` makes it, and \
                     either load that on every node (`ctr -n k8s.io images import FILE`), or push it to a registry and \
                     name it as `image` in the scenario or with --image",
                    container.image
                ),
                patience: if reason == "ErrImageNeverPull" {
                    Duration::ZERO
                } else {
                    NOT_STARTING
                },
            })
        }
        "InvalidImageName" => Some(PodState::Over(why)),
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "CrashLoopBackOff"
        | "ImageInspectError" => Some(PodState::Stuck {
            why,
            patience: NOT_STARTING,
        }),
        _ => None,
    }
}

/// The newest warning among a pod's events: what kept its network, volumes or sandbox from being made is only there.
pub(super) async fn warning(cluster: &Cluster, namespace: &str, pod: &str) -> Option<String> {
    let events: Api<Event> = Api::namespaced(cluster.client(), namespace);
    let of_pod = ListParams::default().fields(&format!("involvedObject.name={pod},type=Warning"));
    let found: Result<_, ApiError> = cluster.ask("list events", || events.list(&of_pod)).await;
    let mut found = found.ok()?.items;
    found.sort_by_key(|event| event.last_timestamp.clone().map(|time| time.0));
    found.pop().map(|event| {
        format!(
            "{}: {}",
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default()
        )
    })
}
