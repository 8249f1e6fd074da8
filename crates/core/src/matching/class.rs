//! A class: what makes two jobs equal in the eyes of every worker.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Requirements;
use crate::ids::{CustomerId, ServiceName, WorkerId};

/// A job's effective requirements: all that decides which workers may run it. Jobs with equal
/// ones wait in one queue, named by [`key`](Self::key).
///
/// A record with a field that this version does not know is not read: leaving the field out could
/// let a worker through that must not be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The service that runs the job.
    pub service: ServiceName,
    /// What the submitter asked for, completed with what the graph needs.
    #[serde(default, skip_serializing_if = "Requirements::is_empty")]
    #[schema(value_type = Requirements)]
    pub requirements: Arc<Requirements>,
    /// Whose job it is: the workers' own rules about customers depend on it, and a class knows
    /// no workers, so it is always part of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// Workers that failed this job, and do not get it for a while.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub excluded: BTreeSet<WorkerId>,
}
