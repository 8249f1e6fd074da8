//! A job: what was asked (`JobSpec`, never changes) and what became of it (`JobState`).

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exclusion, Extra, Progress, Seq};
use crate::{
    decide::limits,
    failure::{Failure, LossReason},
    ids::{CustomerId, Incarnation, JobId, MachineId, ServiceName, Token, WorkerId, WorkflowId},
    json::to_json,
    matching::{Class, Requirements},
    names::named,
    time::Timestamp,
};

/// A job. A change makes a new value; stores share the old one until nobody reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub rev: Seq,
    pub spec: Arc<JobSpec>,
    /// Where it stands among jobs of one priority: the seq of its submission, or that of its
    /// workflow group's first live job. 0 until the store has stamped it.
    pub place: u64,
    /// The seq of this run's submission or retry; breaks ties of `place`. 0 until stamped.
    pub queued_seq: Seq,
    /// 1, and one more for each retry by an operator.
    pub run: u32,
    /// Claims so far, over all runs. Never goes back: the first half of the fence.
    pub attempt: u32,
    /// The last claim's token, kept after the attempt is over: the second half of the fence.
    pub token: Option<Token>,
    /// Attempts of this run that failed.
    pub failures: u32,
    /// Attempts of this run that were given back.
    pub losses: u32,
    pub cancel_requested_at: Option<Timestamp>,
    pub state: JobState,
    /// Workers that must not get this job for a while.
    pub exclusions: Vec<Exclusion>,
    /// Earlier attempts, oldest first, at most [`Job::MAX_PAST`].
    pub past: Vec<PastAttempt>,
    /// A result came in from an attempt that had lost the job; see `/attempts`.
    pub late_results: u32,
    /// Bytes of the result JSON that was handed in, late ones too.
    pub result_bytes: u64,
    pub extra: Extra,
}

/// What was asked at submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub service: ServiceName,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// Shared by the jobs of a class.
    #[serde(default, skip_serializing_if = "Requirements::is_empty")]
    pub requirements: Arc<Requirements>,
    pub customer_id: Option<CustomerId>,
    pub workflow_id: Option<WorkflowId>,
    /// Wins over `priority` when set.
    pub workflow_priority: Option<u8>,
    pub max_failures: u32,
    pub max_losses: u32,
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputRef>,
    pub metadata: Option<serde_json::Value>,
    pub created_at: Timestamp,
    /// Bytes of the payload; set when it is submitted.
    #[serde(default)]
    pub payload_bytes: u64,
    /// Bytes of requirements, inputs and metadata as JSON; set when it is submitted, 0 in records of
    /// versions that did not count them.
    #[serde(default)]
    pub record_bytes: u64,
}

impl JobSpec {
    /// The effective requirements of a job that excludes no worker.
    pub fn class(&self) -> Class {
        Class {
            service: self.service.clone(),
            requirements: self.requirements.clone(),
            customer: self.customer_id.clone(),
            excluded: BTreeSet::new(),
        }
    }

    /// A job that asks for nothing special: priority 50, three failures, three losses.
    pub fn new(service: ServiceName, created_at: Timestamp) -> Self {
        Self {
            service,
            priority: 50,
            requirements: Arc::default(),
            customer_id: None,
            workflow_id: None,
            workflow_priority: None,
            max_failures: 3,
            max_losses: 3,
            timeouts: Timeouts::default(),
            inputs: Vec::new(),
            metadata: None,
            created_at,
            payload_bytes: 0,
            record_bytes: 0,
        }
    }

    /// Bytes of what a submission puts into the record, as JSON; nothing where it is empty.
    pub(crate) fn count_record_bytes(&self) -> u64 {
        let requirements = (!self.requirements.is_empty()).then(|| to_json(&self.requirements));
        let inputs = (!self.inputs.is_empty()).then(|| to_json(&self.inputs));
        let metadata = self.metadata.as_ref().map(to_json);
        [requirements, inputs, metadata].iter().flatten().map(|json| json.len() as u64).sum()
    }

    /// The priority that orders the job: its workflow's where it has one.
    pub fn effective_priority(&self) -> u8 {
        self.workflow_priority.unwrap_or(self.priority)
    }
}

/// Limits of one attempt, seconds; unset means the worker's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// From accepted to ended, 1 to 604,800; unset is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_s: Option<u32>,
    /// Seconds without an event after which the worker asks the service, 1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence_after_s: Option<u32>,
    /// Seconds without any evidence of work after which the attempt is stalled, 1 to 604,800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_after_s: Option<u32>,
}

impl Timeouts {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A file that the job brings: uploaded to the service first, and named in the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputRef {
    /// The node of the graph whose field takes the file's name.
    pub node: String,
    /// The field of that node.
    pub field: String,
    /// The file's name at the service.
    pub name: String,
    /// `sha256:…` (an uploaded input), `artifact:JOB/NAME` (a result), or `data:…` (inline). What is
    /// submitted as one of the last two is stored, and stands in the record as `sha256:…`.
    pub from: String,
}

/// Where a job stands. Each variant carries what is true in it, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    Pending {
        hold: Option<Hold>,
    },
    /// Claimed; the service has not taken it yet.
    Assigned(Assignment),
    /// The service took it.
    InProgress(Running),
    Completed(Ended),
    Failed(Ended, Failure),
    Cancelled(Ended),
}

/// Why a pending job is not in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// What it waits for.
    pub reason: HoldReason,
    /// When a reconciler releases it; null waits for something else.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| match self.reason {
            HoldReason::Backoff => until.is_over(now, limits::BACKOFF_MAX),
            HoldReason::Schedule | HoldReason::Dependency | HoldReason::Paused => until <= now,
        })
    }
}

named! {
    /// What a held job waits for. All but `backoff` are reserved: nothing sets them yet.
    pub enum HoldReason {
        /// A failed attempt waits before the next.
        Backoff = "backoff",
        Schedule = "schedule",
        Dependency = "dependency",
        Paused = "paused",
    }
}

/// Who has the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub worker_id: WorkerId,
    pub machine_id: MachineId,
    pub incarnation: Incarnation,
    pub assigned_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub assignment: Assignment,
    pub started_at: Timestamp,
}

/// What is kept of an ended job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ended {
    pub at: Timestamp,
    /// Each ending of the store gets the next number. 0 until the store has stamped it.
    pub ended_no: u64,
    /// The last attempt's worker, if there was one.
    pub worker_id: Option<WorkerId>,
    pub machine_id: Option<MachineId>,
    pub assigned_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    /// The last attempt itself handed this ending in (so its exact repeat is answered the same).
    pub handed_in: bool,
    /// The service answered from its cache.
    pub cached: bool,
    pub artifacts: Vec<Artifact>,
    pub last_progress: Option<Progress>,
}

/// An attempt that is over and did not end the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PastAttempt {
    /// The run that it was of, from 1.
    pub run: u32,
    /// Its number, over all runs, from 1.
    pub attempt: u32,
    /// Of its claim.
    pub token: Token,
    /// Who had it.
    pub worker_id: WorkerId,
    /// That worker's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
    /// When it was claimed.
    pub assigned_at: Timestamp,
    /// When its service took it; null: it did not.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Timestamp,
    /// How it was over.
    pub outcome: PastOutcome,
    /// It handed in a finished result after it had lost the job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// And that result ended the job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late_won: bool,
    /// The files of a late result that did not end the job, where it has any; of all attempts
    /// together at most 1,000, those of the newest ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_artifacts: Vec<Artifact>,
}

/// How an attempt that did not end the job was over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum PastOutcome {
    Failed {
        /// What failed.
        failure: Failure,
    },
    Returned {
        /// Why it was given back.
        reason: LossReason,
        /// For people: what happened; may be empty.
        message: String,
    },
    /// It ended the run, which an operator then retried.
    EndedRun {
        /// The status in which the run ended.
        status: super::JobStatus,
    },
    /// It ran while another attempt ended the job with a late result, or reclaimed the job.
    Overtaken,
}

/// A result file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// `{node}-{index}-{file}`, unique within the job.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Such as `image/png`.
    pub media_type: String,
    /// Lowercase hex.
    pub sha256: String,
    /// The node of the graph that made it.
    pub node: Option<String>,
    /// What the service called it.
    #[serde(rename = "type")]
    pub kind: ArtifactType,
}

/// What the service called the file: a result, or a preview kept for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactType {
    Output,
    Temp,
}

impl Job {
    /// Its effective requirements: the class that it waits in.
    pub fn class(&self) -> Class {
        let excluded =
            self.exclusions.iter().map(|exclusion| exclusion.worker_id.clone()).collect();
        Class { excluded, ..self.spec.class() }
    }

    /// Earlier attempts kept with a job.
    pub const MAX_PAST: usize = 32;

    /// A job as its submission makes it: pending, in no store yet.
    pub fn new(id: JobId, spec: JobSpec) -> Self {
        Self {
            id,
            rev: 0,
            spec: Arc::new(spec),
            place: 0,
            queued_seq: 0,
            run: 1,
            attempt: 0,
            token: None,
            failures: 0,
            losses: 0,
            cancel_requested_at: None,
            state: JobState::Pending { hold: None },
            exclusions: Vec::new(),
            past: Vec::new(),
            late_results: 0,
            result_bytes: 0,
            extra: Extra::new(),
        }
    }

    /// Bytes that are kept for it: what was submitted, results and files, also late ones.
    pub fn bytes(&self) -> u64 {
        let files = self.ended().into_iter().flat_map(|ended| &ended.artifacts);
        let late = self.past.iter().flat_map(|past| &past.late_artifacts);
        let files: u64 = files.chain(late).map(|artifact| artifact.size).sum();
        self.spec.payload_bytes + self.spec.record_bytes + self.result_bytes + files
    }

    pub fn service(&self) -> &ServiceName {
        &self.spec.service
    }

    /// Who runs it now, if anyone.
    pub fn assignment(&self) -> Option<&Assignment> {
        match &self.state {
            JobState::Assigned(assignment) => Some(assignment),
            JobState::InProgress(running) => Some(&running.assignment),
            _ => None,
        }
    }

    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.state {
            JobState::InProgress(running) => Some(running.started_at),
            _ => self.ended().and_then(|ended| ended.started_at),
        }
    }

    pub fn ended(&self) -> Option<&Ended> {
        match &self.state {
            JobState::Completed(ended)
            | JobState::Failed(ended, _)
            | JobState::Cancelled(ended) => Some(ended),
            _ => None,
        }
    }

    pub fn ended_mut(&mut self) -> Option<&mut Ended> {
        match &mut self.state {
            JobState::Completed(ended)
            | JobState::Failed(ended, _)
            | JobState::Cancelled(ended) => Some(ended),
            _ => None,
        }
    }

    pub fn is_ended(&self) -> bool {
        self.ended().is_some()
    }

    pub fn is_pending(&self) -> bool {
        matches!(self.state, JobState::Pending { .. })
    }

    /// Why it is not in its queue, while it is pending.
    pub fn hold(&self) -> Option<Hold> {
        match self.state {
            JobState::Pending { hold } => hold,
            _ => None,
        }
    }

    /// Pending and in its queue.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, JobState::Pending { hold: None })
    }

    /// Whether its newest earlier attempt was lost in a way that speaks against somebody.
    pub(crate) fn last_loss_is_suspicious(&self) -> bool {
        matches!(
            self.past.last().map(|past| &past.outcome),
            Some(PastOutcome::Returned { reason, .. }) if reason.is_suspicious()
        )
    }

    pub fn is_running(&self) -> bool {
        self.assignment().is_some()
    }
}
