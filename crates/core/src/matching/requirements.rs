//! What a job asks of the worker that runs it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::WorkerId;

/// A job's requirements. Numbers are "at least"; sets are "all of them"; only `labels` is open.
/// An empty field asks for nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
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
    #[serde(skip_serializing_if = "MustNot::is_empty")]
    pub must_not: MustNot,
    #[serde(skip_serializing_if = "CustomerNeeds::is_empty")]
    pub customer: CustomerNeeds,
    /// Only chooses which idle worker is woken first; never reorders jobs and never excludes.
    #[serde(skip_serializing_if = "Prefer::is_empty")]
    pub prefer: Prefer,
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

/// One condition on a label. Several operators in one condition must all hold; a worker without
/// the label fails every condition.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<LabelValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<f64>,
    /// The label is one of these.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<LabelValue>,
    /// The label is a list that holds all of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<LabelValue>,
}

/// A label's value: text, number, truth value, or a list of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LabelValue {
    Flag(bool),
    Number(f64),
    Text(String),
    List(BTreeSet<String>),
}

/// What rules a worker out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MustNot {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<String>,
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

/// Preferences among able workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prefer {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub models: BTreeSet<String>,
}

macro_rules! is_empty {
    ($($name:ty),*) => {
        $(impl $name {
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        })*
    };
}
is_empty!(Hardware, Condition, MustNot, CustomerNeeds, Prefer, Requirements);
