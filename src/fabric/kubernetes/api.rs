//! A cluster's API: how it is reached, how often it is asked again, and what its refusals mean.

use super::retry_after;
use crate::scenario::ClusterContext;
use kube::{Client, Config, client::ClientBuilder, config::KubeConfigOptions, core::Status};
use std::{fmt::Write as _, future::Future, time::Duration};

/// How the API is asked: an answer is waited for so long, and so often it is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long one answer is waited for.
    pub answer: Duration,
    /// How often a question is asked at most.
    pub attempts: u32,
    /// The pause before it is asked again, doubled each time.
    pub pause: Duration,
    /// How long deleted pods may take to be gone; kubelet lets go of their addresses by then.
    pub gone_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            attempts: 6,
            pause: Duration::from_millis(250),
            gone_within: Duration::from_mins(3),
        }
    }
}

/// The longest that a server may send us away for (`Retry-After`).
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a cluster did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No kubeconfig, no such context, or credentials that can't be used.
    #[error("can't reach the cluster{context}: {reason}")]
    Connect {
        /// The context, as a phrase.
        context: String,
        /// Why.
        reason: String,
    },
    /// The API server refuses.
    #[error("can't {what}: {}{}", said(status), hint(status))]
    Refused {
        /// What was asked for, as a verb with its object.
        what: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// It does not answer.
    #[error("can't {what}: the API server did not answer within {} s, {attempts} times", .after.as_secs_f64())]
    Silent {
        /// What was asked for.
        what: String,
        /// How long each answer was waited for.
        after: Duration,
        /// How often it was asked.
        attempts: u32,
    },
    /// The connection, or what came over it, is broken.
    #[error("can't {what}: {reason}")]
    Broken {
        /// What was asked for.
        what: String,
        /// How.
        reason: String,
    },
}

impl ApiError {
    /// The HTTP status code of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(status.code),
            Self::Connect { .. } | Self::Silent { .. } | Self::Broken { .. } => None,
        }
    }

    /// Whether the object is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self.code(), Some(404 | 410))
    }

    /// Whether somebody else has written the object meanwhile, or it is being deleted, or is there already.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether a right is missing.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.code(), Some(401 | 403))
    }
}

fn said(status: &Status) -> String {
    let message = if status.message.is_empty() {
        &status.reason
    } else {
        &status.message
    };
    if message.is_empty() {
        format!("the API server answered {}", status.code)
    } else {
        message.trim().to_owned()
    }
}

/// What to do about a refusal that comes up often.
fn hint(status: &Status) -> String {
    let message = status.message.to_lowercase();
    let hint = if message.contains("podsecurity") {
        "the namespace's Pod Security admission refuses it. Pod places keep the standard `restricted`; node places and \
         the probe need the host's network, which only `privileged` allows: use a namespace of its own with the label \
         pod-security.kubernetes.io/enforce=privileged, or leave nodes out and set `probe: false`"
    } else if message.contains("exceeded quota") {
        "ask for less (`resources` in the scenario), for fewer places, or raise the namespace's quota"
    } else if message.contains("admission webhook") {
        "a policy of this cluster refuses it; its message says which"
    } else if message.contains("no priorityclass") {
        "`priority-class` names one that is not there"
    } else if status.code == 401 {
        "the credentials have expired, or the cluster does not know them"
    } else if status.code == 404 && message.contains("namespaces") {
        "make the namespace first, or name another with --namespace"
    } else {
        return String::new();
    };
    let mut text = String::from("; ");
    // Writing into a String does not fail.
    let _ = write!(text, "{hint}");
    text
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// The name that the scenario gives it.
    pub name: String,
    /// The context it is reached by, as people call it.
    pub context: String,
    /// The namespace of encapbench's pods.
    pub namespace: String,
    client: Client,
    patience: Patience,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("context", &self.context)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does (`KUBECONFIG`, `~/.kube/config`), or what a pod is given, and makes a
    /// client of it. Asks nothing yet.
    ///
    /// # Errors
    /// Where there is no such context, or its credentials can't be used.
    pub async fn connect(wanted: &ClusterContext) -> Result<Self, ApiError> {
        let called = wanted
            .context
            .as_ref()
            .map_or_else(String::new, |context| format!(" of context {context}"));
        let broken = |reason: String| ApiError::Connect {
            context: called.clone(),
            reason,
        };
        let mut config = match &wanted.context {
            Some(context) => Config::from_kubeconfig(&KubeConfigOptions {
                context: Some(context.clone()),
                ..KubeConfigOptions::default()
            })
            .await
            .map_err(|error| broken(error.to_string()))?,
            None => Config::infer().await.map_err(|error| {
                broken(format!(
                    "there is no kubeconfig, and this is no pod ({error}); set KUBECONFIG, or name a --context"
                ))
            })?,
        };
        // Its own retries may wait for a quarter of an hour.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(10));
        let namespace = wanted
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = ClientBuilder::try_from(config)
            .map_err(|error| broken(error.to_string()))?
            .with_layer(&retry_after::layer())
            .build();
        Ok(Self {
            name: wanted.name.clone(),
            context: wanted.context.clone().unwrap_or(server),
            namespace,
            client,
            patience: Patience::default(),
        })
    }

    /// A cluster behind any client, as a test needs it.
    pub fn of_client(name: &str, namespace: &str, client: Client, patience: Patience) -> Self {
        Self {
            name: name.to_owned(),
            context: name.to_owned(),
            namespace: namespace.to_owned(),
            client,
            patience,
        }
    }

    /// Its client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Asks, and asks again after a pause where the server is overloaded (429), failed (500 to 504), can't be reached
    /// or hangs up, or where another request was in the way (409: a quota that many pods are counted against at once, a
    /// name that is about to be free). Every question asked here may be asked twice without harm. `what` is a verb with
    /// its object.
    ///
    /// # Errors
    /// What the server answers at last.
    pub async fn ask<T, F>(&self, what: &str, question: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.asked(what, true, question).await
    }

    /// The same for a change of one version of an object: where that is not the newest any more (409), to ask again
    /// would not help.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn ask_of_version<T, F>(
        &self,
        what: &str,
        question: impl FnMut() -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        self.asked(what, false, question).await
    }

    /// How patient it is asked.
    pub(super) const fn patience(&self) -> Patience {
        self.patience
    }

    async fn asked<T, F>(
        &self,
        what: &str,
        conflicts: bool,
        mut question: impl FnMut() -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let answer = tokio::time::timeout(self.patience.answer, question()).await;
            let (error, wait) = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(kube::Error::Api(status))) => {
                    let wait = asked_to_wait(&status).unwrap_or(pause);
                    let again = match status.code {
                        409 => conflicts,
                        code => matches!(code, 429 | 500 | 502 | 503 | 504),
                    };
                    let error = ApiError::Refused {
                        what: what.to_owned(),
                        status,
                    };
                    (error, again.then_some(wait))
                }
                Ok(Err(error)) => {
                    let again = hung_up(&error);
                    let error = ApiError::Broken {
                        what: what.to_owned(),
                        reason: crate::worker::protocol::chain(&error),
                    };
                    (error, again.then_some(pause))
                }
                Err(_) => {
                    let error = ApiError::Silent {
                        what: what.to_owned(),
                        after: self.patience.answer,
                        attempts: attempt,
                    };
                    // A server that takes this long is not helped by many questions.
                    (error, (attempt < 3).then_some(pause))
                }
            };
            let Some(wait) = wait.filter(|_| attempt < self.patience.attempts) else {
                return Err(error);
            };
            tracing::debug!("asking again: {error}");
            tokio::time::sleep(wait).await;
            attempt += 1;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether the server, or what is between, could not be reached or closed the connection before it had answered.
const fn hung_up(error: &kube::Error) -> bool {
    use kube::client::UpgradeConnectionError::GetPendingUpgrade;
    matches!(
        error,
        kube::Error::HyperError(_)
            | kube::Error::Service(_)
            | kube::Error::UpgradeConnection(GetPendingUpgrade(_))
    )
}

/// How long the server sends us away for.
fn asked_to_wait(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(LONGEST_PAUSE))
}
