//! What a worker offers, as it registered it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{condition::LabelValue, requirements::Isolation};
use crate::ids::{CustomerId, ServiceName};

/// Everything the rules look at in a worker. Workers with equal capabilities share a profile,
/// named by the digest of the canonical form.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// What each of the worker's services has, by service name.
    #[schema(value_type = BTreeMap<String, ServiceCapabilities>)]
    pub services: BTreeMap<ServiceName, ServiceCapabilities>,
    /// What it runs on.
    pub hardware: OfferedHardware,
    /// Free labels, by name; 100 at most.
    pub labels: BTreeMap<String, LabelValue>,
    /// Whom it serves.
    pub customers: CustomerRules,
}

/// What one service of the worker has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceCapabilities {
    /// The service's own version, such as `0.27.0`.
    pub version: Option<String>,
    /// Installed model files; 20,000 at most.
    pub models: BTreeSet<String>,
    /// Installed node classes; 20,000 at most.
    pub node_classes: BTreeSet<String>,
}

/// The hardware a worker has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OfferedHardware {
    /// The GPUs that are this worker's own; 1,000 at most.
    pub gpus: Vec<Gpu>,
    /// CPU cores of the machine.
    pub cpu_cores: u32,
    /// Main memory of the machine, GiB.
    pub ram_gb: f64,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// As its driver calls it.
    pub name: String,
    /// GiB.
    pub memory_gb: f64,
}

/// The worker's own rules about whom it serves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomerRules {
    /// When set, only these customers' jobs (and none without a customer).
    pub allowed: Option<BTreeSet<CustomerId>>,
    /// Never these customers' jobs.
    pub denied: BTreeSet<CustomerId>,
    /// What the worker offers; unset is loose.
    pub isolation: Option<Isolation>,
}
