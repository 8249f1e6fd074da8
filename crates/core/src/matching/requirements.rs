//! What a job asks of the worker that runs it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::condition::Condition;
use crate::ids::WorkerId;

/// A job's requirements. Numbers are "at least"; sets are "all of them"; only `labels` is open.
/// An empty field asks for nothing.
// Reading (`Deserialize`) is for records: a newer writer may have stored requirements that this
// version does not know, so whatever it cannot read is kept whole in `unknown`, written back as it
// was, and makes no worker able. What comes in from outside goes through `parse`, which refuses it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(
    remote = "Self", // the derived reader and writer are wrapped below
    deny_unknown_fields,
    default,
    expecting = "an object with requirements"
)]
pub struct Requirements {
    #[serde(skip_serializing_if = "Hardware::is_empty")]
    pub hardware: Hardware,
    /// Model files that the worker's service must have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<String>,
    /// Node classes that the worker's service must have (ComfyUI).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub node_classes: BTreeSet<String>,
    /// Conditions on the worker's labels, by label name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Condition>,
    /// What rules a worker out.
    #[serde(skip_serializing_if = "MustNot::is_empty")]
    pub must_not: MustNot,
    #[serde(skip_serializing_if = "CustomerNeeds::is_empty")]
    pub customer: CustomerNeeds,
    /// Only chooses which idle worker is woken first; never reorders jobs and never excludes.
    #[serde(skip_serializing_if = "Prefer::is_empty")]
    pub prefer: Prefer,
    /// The stored requirements as they stand, where this version cannot read them; every other
    /// field is empty then.
    #[serde(skip)]
    #[schema(ignore)]
    pub unknown: Option<Box<Value>>,
}

impl<'de> Deserialize<'de> for Requirements {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        Ok(Self::read(&value)
            .unwrap_or_else(|_| Self { unknown: Some(Box::new(value)), ..Self::default() }))
    }
}

impl Serialize for Requirements {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.unknown {
            Some(value) => value.serialize(to),
            None => Self::serialize(self, to),
        }
    }
}

/// At-least conditions on the machine's hardware.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hardware {
    /// Memory of the worker's largest GPU, GiB, 0 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_gb: Option<f64>,
    /// GPUs that the worker has for itself, 0 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_count: Option<u32>,
    /// CPU cores of the machine, 0 to 100,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// Main memory of the machine, GiB, 0 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ram_gb: Option<f64>,
}

/// What rules a worker out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MustNot {
    /// Model files that the worker's service must not have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<String>,
    /// Workers that must not run the job.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub workers: BTreeSet<WorkerId>,
    /// A worker for which any of these holds is ruled out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Condition>,
}

/// What the customer asks of the worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomerNeeds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// How strictly customers are kept apart. `strict` is met only by a worker that offers `strict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    Strict,
    Loose,
}

impl Isolation {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Loose => "loose",
        }
    }
}

/// Preferences among able workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prefer {
    /// Model files that the worker should have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<String>,
}

macro_rules! is_empty {
    ($($name:ty),*) => {
        $(impl $name {
            /// Whether nothing is asked.
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        })*
    };
}
is_empty!(Hardware, MustNot, CustomerNeeds, Prefer, Requirements);
