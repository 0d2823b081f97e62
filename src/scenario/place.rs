//! Places: where a worker can run.
//!
//! Written `east-1` (the node itself, in host network), `pod@east-1/CrossSubnet` or `pod-2@east-1/Always` (a pod on
//! that node, with an address from the pool of that mode). A path leaves the mode out, since it has it itself.

use super::path::VxlanMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a place's name could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a place: expected a node such as `east-1` or a pod such as `pod@east-1` or `pod-2@east-1`, \
     followed by `/CrossSubnet` or `/Always` where the path does not say it"
)]
pub struct PlaceError(String);

/// A place as a path names it: a node, or a pod on a node, the pod's pool not yet said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlaceRef {
    /// A node, in host network.
    Node(String),
    /// A pod on a node.
    Pod {
        /// The pod's name: letters, digits and `-`.
        pod: String,
        /// The node it runs on.
        node: String,
    },
}

impl PlaceRef {
    /// The node, or the node that the pod is on.
    pub fn node(&self) -> &str {
        match self {
            Self::Node(node) | Self::Pod { node, .. } => node,
        }
    }

    /// Whether this is a pod.
    pub const fn is_pod(&self) -> bool {
        matches!(self, Self::Pod { .. })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
}

impl FromStr for PlaceRef {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let error = || PlaceError(text.to_owned());
        match text.split_once('@') {
            None if is_name(text) => Ok(Self::Node(text.to_owned())),
            Some((pod, node)) if is_name(pod) && is_name(node) => Ok(Self::Pod {
                pod: pod.to_owned(),
                node: node.to_owned(),
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for PlaceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => f.write_str(node),
            Self::Pod { pod, node } => write!(f, "{pod}@{node}"),
        }
    }
}

/// A place, fully said: a worker can be launched in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A node, in host network.
    Node(String),
    /// A pod.
    Pod {
        /// The pod's name.
        pod: String,
        /// The node it runs on.
        node: String,
        /// The pool that its address is from.
        mode: VxlanMode,
    },
}

impl Place {
    /// The node, or the node that the pod is on.
    pub fn node(&self) -> &str {
        match self {
            Self::Node(node) | Self::Pod { node, .. } => node,
        }
    }

    /// Whether this is a pod.
    pub const fn is_pod(&self) -> bool {
        matches!(self, Self::Pod { .. })
    }
}

impl FromStr for Place {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let error = || PlaceError(text.to_owned());
        if let Some((place, mode)) = text.rsplit_once('/') {
            let PlaceRef::Pod { pod, node } = place.parse()? else {
                return Err(error());
            };
            let mode = mode.parse().map_err(|()| error())?;
            return Ok(Self::Pod { pod, node, mode });
        }
        match text.parse()? {
            PlaceRef::Node(node) => Ok(Self::Node(node)),
            PlaceRef::Pod { .. } => Err(error()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => f.write_str(node),
            Self::Pod { pod, node, mode } => write!(f, "{pod}@{node}/{mode}"),
        }
    }
}

/// Serde and JSON Schema by way of the text.
macro_rules! by_text {
    ($type:ty, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

by_text!(
    PlaceRef,
    "a node such as `east-1`, or a pod on it such as `pod@east-1` or `pod-2@east-1`"
);
by_text!(
    Place,
    "a node such as `east-1`, or a pod such as `pod@east-1/Always`"
);
