//! Commands: everything that anybody may ask of the store, and what it answers.

mod written;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    event::RecordKey,
    failure::{Failure, LossReason},
    ids::{ConnectorId, CustomerId, Incarnation, JobId, MachineId, ServiceName, Token, WorkerId},
    matching::{Capabilities, Gpu},
    record::{
        AlertId, Artifact, ConnectorStatus, Job, JobSpec, JobStatus, MachineStatus, Orders,
        Progress, ServiceSlots, Severity,
    },
};

pub use written::{FieldError, OutcomeKind, WrittenFinish};

/// One request to change something. Every one is decided by [`decide`](crate::decide::decide).
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "most commands are submissions and exchanges")]
pub enum Command {
    Submit(Submit),
    /// A pending job ends at once; a running one is asked to stop.
    Cancel {
        job: JobId,
    },
    /// A new run of an ended job.
    Retry {
        job: JobId,
        /// The run that it begins; one that has begun already is not begun again.
        run: Option<u32>,
    },
    Exchange(Exchange),
    Renew(Renew),
    Register(Register),
    Leave {
        worker: WorkerId,
        incarnation: Incarnation,
    },
    SetOrders {
        worker: WorkerId,
        orders: Orders,
    },
    /// Orders all workers of the machine, and those that come to it later.
    SetMachineOrders {
        machine: MachineId,
        orders: Orders,
    },
    Repair(Repair),
    RegisterMachine(RegisterMachine),
    SetMachine(SetMachine),
    Reconcile(Reconcile),
    Raise(Raise),
    Clear {
        alert: AlertId,
    },
}

/// What reconcilers ask for. Each is decided on records and guarded by what lies apart (leases,
/// heartbeats): when that has changed meanwhile, nothing happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconcile {
    /// The attempt's lease is over.
    ExpireLease {
        job: JobId,
        attempt: u32,
        token: Token,
    },
    /// A hold's time has come.
    ReleaseHold {
        job: JobId,
    },
    /// Exclusions whose time is over, and those that lapse for want of anybody else when nobody else
    /// could run the job: see [`Job::has_waited_for_others`](crate::record::Job::has_waited_for_others).
    LapseExclusions {
        job: JobId,
        nobody_else: bool,
    },
    /// Nothing was heard for `after` of the process that has this id now.
    DeclareSilent {
        worker: WorkerId,
        after: Duration,
    },
    /// Nothing confirmed the status for `after`.
    MarkStale {
        connector: ConnectorId,
        after: Duration,
    },
    DisconnectMachine {
        machine: MachineId,
        after: Duration,
    },
    ReconnectMachine {
        machine: MachineId,
    },
    RemoveJob {
        job: JobId,
    },
    /// Only when it is offline.
    RemoveWorker {
        worker: WorkerId,
    },
    /// Only when it is offline or disconnected, and its workers are gone.
    RemoveMachine {
        machine: MachineId,
    },
    /// The record came from another store: a running job is given back without a loss, a worker
    /// or machine is not there until it is heard.
    Moved {
        record: RecordKey,
    },
}

/// Makes a record what the other records say that it must be. A sound one is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    /// A worker's machine, its connectors, their lists of jobs, and the statuses that follow.
    Worker {
        worker: WorkerId,
        /// Jobs that may run there besides those that it lists; each is looked at again.
        jobs: Vec<JobId>,
    },
    /// A connector that no worker has is removed.
    Connector(ConnectorId),
    /// A job that runs where no worker is, or without a token, is given back.
    Job(JobId),
    /// A record gets new numbers from the log.
    Numbers(RecordKey),
}

/// A new job. The caller draws the id, so that an exact repeat is the same job.
#[derive(Debug, Clone)]
pub struct Submit {
    pub id: JobId,
    pub spec: JobSpec,
    /// The payload as JSON text; lies apart from the record.
    pub payload: Arc<[u8]>,
    pub idempotency: Option<Idempotency>,
}

/// A caller's own name for a submission: the same key from the same customer is the same job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// SHA-256 of what was submitted; another body under the same key is a conflict.
    pub body: [u8; 32],
}

/// Which customer's key it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey {
    pub customer: Option<CustomerId>,
    pub key: String,
}

/// A worker's writes about its attempts and its next claim, in one step: so a busy worker does
/// not flicker idle. Each operation is accepted or refused by itself.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    pub ops: Vec<AttemptOp>,
    pub claim: Option<Claim>,
}

/// A request for jobs: one for each token at most.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Drawn by the worker, one a free slot; a repeat of the same tokens gets the same jobs.
    pub tokens: Vec<Token>,
    /// The services that have these free slots; empty means any of the worker's.
    #[serde(default)]
    pub services: Vec<ServiceName>,
}

/// One write about one attempt, with both halves of the fence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "written::WrittenOp")]
pub struct AttemptOp {
    /// The job.
    pub job: JobId,
    /// The attempt's number, from the job's record.
    pub attempt: u32,
    /// The attempt's token, from the job's record.
    pub token: Token,
    #[serde(flatten)]
    pub op: Op,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    /// The service took it.
    Start,
    Finish(Finish),
    /// Given back: a loss, not a failure.
    Release {
        /// Why it is given back.
        reason: LossReason,
        /// For people: what happened; may be empty.
        #[schema(required = false)]
        message: String,
    },
    /// A finished result whose attempt was fenced off meanwhile.
    Late(Finish),
    /// The store lost this attempt: it came back, in a new epoch, from before the attempt's claim.
    /// Its worker takes the job back, under the same attempt and token.
    Reclaim {
        /// The service had taken it.
        started: bool,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Finish {
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How far it was at the end.
    pub last_progress: Option<Progress>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Completed {
        /// Result files; each was stored before.
        #[schema(required = false)]
        artifacts: Vec<Artifact>,
        /// The service answered from a cache.
        #[schema(required = false)]
        cached: bool,
        /// The service's own outputs, as JSON; lies apart from the record.
        #[schema(value_type = Option<Object>)]
        result: Option<serde_json::Value>,
    },
    Failed {
        /// What failed.
        failure: Failure,
    },
    /// A cancel was asked for, and the service has confirmed that the job is gone.
    Cancelled,
}

/// What a worker holds: one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The job.
    pub job: JobId,
    /// The attempt's number, from the job's record.
    pub attempt: u32,
    /// The attempt's token, from the job's record.
    pub token: Token,
}

/// A worker's sign of life: what it holds, and what its connectors are.
#[derive(Debug, Clone)]
pub struct Renew {
    pub worker: WorkerId,
    pub incarnation: Incarnation,
    /// Attempts whose executor has ticked lately; their leases are renewed.
    pub held: Vec<Held>,
    pub connectors: Vec<ConnectorReport>,
    /// The process was told to stop, and takes no more jobs.
    pub stopping: bool,
}

/// A connector's status as its worker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectorReport {
    /// Whose status it is.
    pub service: ServiceName,
    /// What the worker sees.
    pub status: ConnectorStatus,
    /// What is wrong, for people.
    #[serde(default)]
    pub error_message: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Register {
    pub worker: WorkerId,
    pub machine: MachineId,
    pub incarnation: Incarnation,
    pub services: Vec<ServiceSlots>,
    pub capabilities: Capabilities,
    pub summary: String,
}

#[derive(Debug, Clone)]
pub struct RegisterMachine {
    pub machine: MachineId,
    pub incarnation: Incarnation,
    pub gpus: Vec<Gpu>,
}

#[derive(Debug, Clone)]
pub struct SetMachine {
    pub machine: MachineId,
    pub incarnation: Incarnation,
    pub status: MachineStatus,
    pub reason: Option<String>,
    pub action: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Raise {
    pub alert: AlertId,
    pub severity: Severity,
    pub message: String,
    pub action: String,
}

/// What a command's decision answers; the changed records are in the log group beside it.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `existing` when the same submission was here before.
    Submitted {
        id: JobId,
        existing: Option<Arc<Job>>,
    },
    Job(JobId),
    Exchanged {
        ops: Vec<Result<OpAnswer, crate::decide::Rejected>>,
        claimed: Vec<Held>,
        /// Why nothing was claimed, where the rest of the exchange was done.
        claim_refused: Option<crate::decide::Rejected>,
    },
    Renewed(Renewed),
    Registered {
        running: Vec<Held>,
    },
    Done,
}

/// What became of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum OpAnswer {
    Started,
    /// The job is now in this status: ended, or pending again.
    Settled {
        /// `pending`: it was given back.
        status: JobStatus,
    },
    /// A late result was kept; `won` when it ended the job.
    LateKept {
        /// It ended the job.
        won: bool,
    },
    /// The attempt has the job, as it had before the store lost it.
    Reclaimed,
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Held attempts that are no longer this worker's: stop them.
    pub lost: Vec<Held>,
    /// Attempts of this worker that it did not list: claims whose answer it never read.
    pub unknown_to_you: Vec<Held>,
    /// Held attempts that are to be cancelled.
    pub cancel: Vec<Held>,
    pub orders: Orders,
    /// Why some of the reports are not taken.
    pub refused: Vec<crate::decide::Rejected>,
}
