//! Why an attempt failed, told apart by what should happen next.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ids::WorkerId, names::named};

named! {
    /// What kind of failure it was. The kind decides what happens to the job.
    pub enum FailureKind {
        /// This worker lacks a node, a model or a file: another may have it. The worker is excluded
        /// for this job, and the job is pending again.
        WrongWorker = "wrong_worker",
        /// The job itself is at fault: it fails at once and is never retried.
        BadJob = "bad_job",
        /// The service failed (out of memory, a poisoned process): retried with backoff, on another
        /// worker first where one is able.
        ServiceFault = "service_fault",
        /// The attempt ran over the job's own total time limit: retried with backoff. The limit is the
        /// job's, so it speaks against no worker.
        Timeout = "timeout",
        /// Lost more often than `max_losses` allows.
        Lost = "lost",
        /// Cancelled before it ended otherwise.
        Cancelled = "cancelled",
    }
}

impl FailureKind {
    /// Whether an attempt that failed so speaks against its worker.
    pub fn is_suspicious(self) -> bool {
        matches!(self, Self::ServiceFault | Self::Lost)
    }
}

/// One failure, as the record shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What became of the job by it.
    pub kind: FailureKind,
    /// The stable code, from the service's own structured error where it has one, such as
    /// `value_not_in_list`, `out_of_memory`, `lease_expired`.
    pub code: String,
    /// For people: what happened.
    pub message: String,
    /// The node of the graph that failed, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The class of that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// For `lost`: the workers that lost it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<WorkerId>,
}

impl Failure {
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            node: None,
            node_type: None,
            workers: Vec::new(),
        }
    }
}

named! {
    /// Why an attempt was given back. Each is a loss, never a failure; `unstarted` is not even that.
    pub enum LossReason {
        /// Given back before the service took it; costs the job nothing.
        Unstarted = "unstarted",
        /// The worker is draining or stopping.
        Drained = "drained",
        /// The service is dead, restarted, or no longer knows the job.
        ServiceLost = "service_lost",
        /// No evidence of work for `stall_after`.
        Stalled = "stalled",
        /// The worker stopped renewing its lease.
        LeaseExpired = "lease_expired",
        /// The worker's process was replaced, and the new one does not have the job.
        NotAdopted = "not_adopted",
    }
}

impl LossReason {
    /// Whether it counts towards the job's `max_losses`.
    pub fn counts(self) -> bool {
        self != Self::Unstarted
    }
    /// Whether it speaks against the worker or the job's class; a drain speaks against nobody.
    pub fn is_suspicious(self) -> bool {
        !matches!(self, Self::Unstarted | Self::Drained)
    }
}
