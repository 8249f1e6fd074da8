//! The flat form of a job, as users and stores read it. Reading it back checks that the fields
//! agree with the status: a record that contradicts itself is an error with a name, not a job.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Exclusion, Extra, Progress, Seq,
    job::{
        Artifact, Assignment, Ended, Hold, InputRef, Job, JobSpec, JobState, PastAttempt, Running,
        Timeouts,
    },
};
use crate::{
    failure::Failure,
    ids::{CustomerId, Incarnation, JobId, MachineId, ServiceName, Token, WorkerId, WorkflowId},
    matching::Requirements,
    names::named,
    time::Timestamp,
};

named! {
    /// Where a job stands.
    pub enum JobStatus {
        Pending = "pending",
        Assigned = "assigned",
        InProgress = "in_progress",
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A job as it is shown and stored. Fields that do not belong to its status are null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Job)]
pub struct JobRecord {
    /// Given out when it was submitted.
    pub id: JobId,
    /// Seq of the last change.
    pub rev: Seq,
    pub status: JobStatus,
    /// The kind of service that it runs on, such as `comfyui`.
    pub service: ServiceName,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// 1, and one more for each retry.
    pub run: u32,
    /// Claims so far, over all runs; never goes back. 0: never claimed.
    pub attempt: u32,
    /// Of the last claim, kept after the attempt is over.
    pub token: Option<Token>,
    /// Attempts of this run that failed.
    pub failures: u32,
    /// Attempts of this run that were given back or lost.
    pub losses: u32,
    /// So many failures fail the job.
    pub max_failures: u32,
    /// The job fails when it is lost more often.
    pub max_losses: u32,
    /// Where it stands among jobs of one priority, lower first: the seq of its submission, or that
    /// of its workflow's first live job.
    pub place: u64,
    /// Seq of this run's submission or retry; breaks ties of `place`.
    pub queued_seq: Seq,
    /// Why a pending job is not in its queue; null: it is, or it is not pending.
    pub hold: Option<Hold>,
    /// Set while the job is being cancelled, and kept after.
    pub cancel_requested_at: Option<Timestamp>,
    /// The worker that has it, or had it last; null while it is pending.
    pub worker_id: Option<WorkerId>,
    /// That worker's machine.
    pub machine_id: Option<MachineId>,
    /// The process that has it; null once it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// Whose job it is; null: nobody's.
    pub customer_id: Option<CustomerId>,
    /// The group in which it keeps one place in the queue.
    pub workflow_id: Option<WorkflowId>,
    /// 0 to 100; wins over `priority`.
    pub workflow_priority: Option<u8>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it was claimed last.
    pub assigned_at: Option<Timestamp>,
    /// When its service took it.
    pub started_at: Option<Timestamp>,
    /// When it ended, whichever way.
    pub completed_at: Option<Timestamp>,
    /// Counts the endings of the store up from 1; null until it has ended.
    pub ended_no: Option<u64>,
    /// Why it failed; null unless it did.
    pub failure: Option<Failure>,
    /// Its service answered from a cache.
    pub cached: bool,
    /// The last attempt itself handed this ending in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handed_in: bool,
    /// Result files; empty until it has completed.
    pub artifacts: Vec<Artifact>,
    /// How far it was when it ended. Of a completed job a `message` beside no `node` and no `step` is
    /// about the result, such as which outputs were dropped.
    pub last_progress: Option<Progress>,
    /// What a worker must have to run it.
    #[serde(default, skip_serializing_if = "Requirements::is_empty")]
    #[schema(value_type = Requirements)]
    pub requirements: Arc<Requirements>,
    /// Limits of its own for each attempt.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// Files that it brings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRef>,
    /// Workers that do not get it for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<Exclusion>,
    /// Attempts that did not end it, oldest first, the last 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past_attempts: Vec<PastAttempt>,
    /// Results that came in from attempts that had lost it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_results: u32,
    /// Bytes of the payload.
    #[serde(default)]
    pub payload_bytes: u64,
    /// Bytes of requirements, inputs and metadata as JSON.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub record_bytes: u64,
    /// Bytes of the result JSON that was handed in.
    #[serde(default)]
    pub result_bytes: u64,
    /// As it was submitted; at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}

fn is_zero<N: PartialEq + From<u8>>(n: &N) -> bool {
    *n == N::from(0)
}

impl JobRecord {
    /// What its worker says of the result: with a node or a step it says only where the work was last.
    pub fn remark(&self) -> Option<&str> {
        let Progress { node: None, step: None, message, .. } = self.last_progress.as_ref()? else {
            return None;
        };
        message.as_deref().filter(|_| self.status == JobStatus::Completed)
    }
}

/// A stored record that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job {id} is {status} but has no {missing}")]
pub struct RecordError {
    pub id: JobId,
    pub status: &'static str,
    pub missing: &'static str,
}

impl Job {
    pub fn status(&self) -> JobStatus {
        match self.state {
            JobState::Pending { .. } => JobStatus::Pending,
            JobState::Assigned(_) => JobStatus::Assigned,
            JobState::InProgress(_) => JobStatus::InProgress,
            JobState::Completed(_) => JobStatus::Completed,
            JobState::Failed(..) => JobStatus::Failed,
            JobState::Cancelled(_) => JobStatus::Cancelled,
        }
    }
}

impl From<&Job> for JobRecord {
    fn from(job: &Job) -> Self {
        let spec = &job.spec;
        let ended = job.ended();
        let assignment = job.assignment();
        let worker_id = assignment.map(|a| &a.worker_id);
        let machine_id = assignment.map(|a| &a.machine_id);
        Self {
            id: job.id,
            rev: job.rev,
            status: job.status(),
            service: spec.service.clone(),
            priority: spec.priority,
            run: job.run,
            attempt: job.attempt,
            token: job.token,
            failures: job.failures,
            losses: job.losses,
            max_failures: spec.max_failures,
            max_losses: spec.max_losses,
            place: job.place,
            queued_seq: job.queued_seq,
            hold: job.hold(),
            cancel_requested_at: job.cancel_requested_at,
            worker_id: worker_id.or(ended.and_then(|e| e.worker_id.as_ref())).cloned(),
            machine_id: machine_id.or(ended.and_then(|e| e.machine_id.as_ref())).cloned(),
            incarnation: assignment.map(|a| a.incarnation),
            customer_id: spec.customer_id.clone(),
            workflow_id: spec.workflow_id.clone(),
            workflow_priority: spec.workflow_priority,
            created_at: spec.created_at,
            assigned_at: assignment.map(|a| a.assigned_at).or(ended.and_then(|e| e.assigned_at)),
            started_at: job.started_at(),
            completed_at: ended.map(|e| e.at),
            ended_no: ended.map(|e| e.ended_no),
            failure: match &job.state {
                JobState::Failed(_, failure) => Some(failure.clone()),
                _ => None,
            },
            cached: ended.is_some_and(|e| e.cached),
            handed_in: ended.is_some_and(|e| e.handed_in),
            artifacts: ended.map(|e| e.artifacts.clone()).unwrap_or_default(),
            last_progress: ended.and_then(|e| e.last_progress.clone()),
            requirements: spec.requirements.clone(),
            timeouts: spec.timeouts,
            inputs: spec.inputs.clone(),
            exclusions: job.exclusions.clone(),
            past_attempts: job.past.clone(),
            late_results: job.late_results,
            payload_bytes: spec.payload_bytes,
            record_bytes: spec.record_bytes,
            result_bytes: job.result_bytes,
            metadata: spec.metadata.clone(),
            extra: job.extra.clone(),
        }
    }
}

impl TryFrom<JobRecord> for Job {
    type Error = RecordError;

    fn try_from(record: JobRecord) -> Result<Self, RecordError> {
        let state = state_of(&record)?;
        let spec = JobSpec {
            service: record.service,
            priority: record.priority,
            requirements: record.requirements,
            customer_id: record.customer_id,
            workflow_id: record.workflow_id,
            workflow_priority: record.workflow_priority,
            max_failures: record.max_failures,
            max_losses: record.max_losses,
            timeouts: record.timeouts,
            inputs: record.inputs,
            metadata: record.metadata,
            created_at: record.created_at,
            payload_bytes: record.payload_bytes,
            record_bytes: record.record_bytes,
        };
        Ok(Self {
            id: record.id,
            rev: record.rev,
            spec: Arc::new(spec),
            place: record.place,
            queued_seq: record.queued_seq,
            run: record.run,
            attempt: record.attempt,
            token: record.token,
            failures: record.failures,
            losses: record.losses,
            cancel_requested_at: record.cancel_requested_at,
            state,
            exclusions: record.exclusions,
            past: record.past_attempts,
            late_results: record.late_results,
            result_bytes: record.result_bytes,
            extra: record.extra,
        })
    }
}

fn state_of(record: &JobRecord) -> Result<JobState, RecordError> {
    let missing = |missing| RecordError { id: record.id, status: record.status.as_str(), missing };
    let assignment = || {
        record.token.ok_or_else(|| missing("token"))?;
        Ok(Assignment {
            worker_id: record.worker_id.clone().ok_or_else(|| missing("worker_id"))?,
            machine_id: record.machine_id.clone().ok_or_else(|| missing("machine_id"))?,
            incarnation: record.incarnation.ok_or_else(|| missing("incarnation"))?,
            assigned_at: record.assigned_at.ok_or_else(|| missing("assigned_at"))?,
        })
    };
    let ended = || {
        Ok(Ended {
            at: record.completed_at.ok_or_else(|| missing("completed_at"))?,
            ended_no: record.ended_no.ok_or_else(|| missing("ended_no"))?,
            worker_id: record.worker_id.clone(),
            machine_id: record.machine_id.clone(),
            assigned_at: record.assigned_at,
            started_at: record.started_at,
            handed_in: record.handed_in,
            cached: record.cached,
            artifacts: record.artifacts.clone(),
            last_progress: record.last_progress.clone(),
        })
    };
    Ok(match record.status {
        JobStatus::Pending => JobState::Pending { hold: record.hold },
        JobStatus::Assigned => JobState::Assigned(assignment()?),
        JobStatus::InProgress => JobState::InProgress(Running {
            assignment: assignment()?,
            started_at: record.started_at.ok_or_else(|| missing("started_at"))?,
        }),
        JobStatus::Completed => JobState::Completed(ended()?),
        JobStatus::Failed => {
            JobState::Failed(ended()?, record.failure.clone().ok_or_else(|| missing("failure"))?)
        }
        JobStatus::Cancelled => JobState::Cancelled(ended()?),
    })
}

impl Serialize for Job {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        JobRecord::from(self).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        JobRecord::deserialize(from)?.try_into().map_err(serde::de::Error::custom)
    }
}
