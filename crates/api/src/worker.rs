//! The worker protocol: for a worker in any language. Every request may be repeated exactly after
//! a lost answer, and then gets the first answer again.

use std::sync::Arc;

use pointsman_core::{
    Failure, Incarnation, JobId, LossReason, MachineId, ServiceName, Timestamp, Token, WorkerId,
    command::{
        AttemptOp, Claim, ConnectorReport, FieldError, Finish, Held, Op, OpAnswer, OutcomeKind,
        WrittenFinish,
    },
    decide::limits,
    matching::Capabilities,
    record::{Artifact, Job, JobRecord, Orders, Progress, ServiceSlots},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::ToSchema;

use crate::Problem;

/// Seconds that a claim may wait for a job at most.
pub const MAX_WAIT_S: f64 = 30.0;
/// Operations in one exchange at most, and attempts in one renewal.
pub const MAX_OPS: usize = limits::MAX_OPS;
/// Tokens in one claim at most.
pub const MAX_CLAIM: usize = 1_024;

/// A worker's process introduces itself, or changes what it offers. The newest process of an id
/// wins; the one before is superseded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// The worker that this process is.
    pub worker_id: WorkerId,
    /// Where it runs.
    pub machine_id: MachineId,
    /// A UUID drawn at the start of the process.
    pub incarnation: Incarnation,
    /// What it drives, 1 to 100.
    pub services: Vec<ServiceSlots>,
    /// What it offers. The lists and objects of a registration have 500,000 entries at most.
    pub capabilities: Capabilities,
    /// One line for people: hardware and services.
    #[serde(default)]
    pub summary: String,
}

/// The answer to a registration.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// The store's epoch; see `Renewed`.
    #[serde(default)]
    pub epoch: String,
    /// What tells this store from all others, whichever address it is reached by; the same in every
    /// epoch. Mark with it, and with the worker's id, what you hand to a service that others use
    /// too. Servers of versions before it leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// Attempts that the store says this worker is running, from before a restart: adopt them or
    /// release them.
    pub running: Vec<ClaimedJob>,
}

/// A job that this worker has. The attempt and its token are in the record.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClaimedJob {
    /// Its record.
    #[schema(value_type = JobRecord)]
    pub job: Arc<Job>,
    /// As it was submitted.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
}

/// What a worker did, and what it can take: in one step, so that a busy worker does not flicker
/// idle.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// Each is accepted or refused by itself; at most 1,024.
    #[serde(default)]
    pub ops: Vec<AttemptOp>,
    /// Jobs that are asked for; none unless given.
    #[serde(default)]
    pub claim: Option<Claim>,
    /// Seconds to wait for a job when there is none, 0 to 30. Without effect when there are `ops`.
    #[serde(default)]
    pub wait_s: f64,
}

/// The answer to an exchange.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Exchanged {
    /// What became of each operation, in their order.
    pub ops: Vec<OpResult>,
    /// One job for each token of the claim at most.
    pub claimed: Vec<ClaimedJob>,
    /// Why nothing was claimed, while the operations beside the claim were carried out. A claim alone
    /// is refused as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_refused: Option<Problem>,
    /// Why the ends among the operations, which are written, are not confirmed by as many replicas
    /// as the server's `--acks` asks for. Keep them, and hand them in again exactly until an answer
    /// comes without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
}

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OpResult {
    Answer(OpAnswer),
    Refused { refused: Problem },
}

/// Asks for jobs: one for each token at most.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// Lowercase UUIDs drawn by the worker, one a free slot; the same tokens get the same jobs.
    pub tokens: Vec<Token>,
    /// The services that have these free slots, 100 at most; empty means any of the worker's.
    #[serde(default)]
    pub services: Vec<ServiceName>,
    /// Seconds to wait when there is none, 0 to 30.
    #[serde(default)]
    pub wait_s: f64,
}

/// A worker's sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// Attempts whose executor has ticked lately; their leases are renewed.
    #[serde(default)]
    pub held: Vec<Held>,
    /// All connectors, or those whose status changed.
    #[serde(default)]
    pub connectors: Vec<ConnectorReport>,
    /// The newest progress of running attempts.
    #[serde(default)]
    pub progress: Vec<JobProgress>,
    /// This process was told to stop: it takes no more jobs, and leaves once those that it has have
    /// ended or were given back. Said in every renewal from then on. Servers of versions before it
    /// refuse it as `unknown_field`: repeat the renewal without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
}

/// The answer to a renewal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Renewed {
    /// The store's epoch. In another one than before, the store is as it was a while before:
    /// `reclaim` what you run before you believe what is `lost`, and hand in again what you handed
    /// in lately.
    #[serde(default)]
    pub epoch: String,
    /// What tells this store from all others; see `Registered`. It changes where the address became
    /// another store's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// Held attempts that are no longer this worker's: stop them.
    pub lost: Vec<Held>,
    /// Attempts of this worker that it did not list: claims whose answer it never read.
    pub unknown_to_you: Vec<Held>,
    /// Held attempts that are to be cancelled.
    pub cancel: Vec<Held>,
    /// What an operator told the worker.
    pub orders: Orders,
    /// Reports among `connectors` that are not taken, and why; everything else was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Problem>,
}

/// How far one running attempt is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(from = "JobProgressFields")]
pub struct JobProgress {
    /// The job that runs.
    pub job: JobId,
    #[serde(flatten)]
    pub progress: Progress,
}

/// How it is read: as one struct, so that a mistake has its place. What says neither its attempt nor
/// its place in the order could not be shown.
#[derive(Deserialize)]
struct JobProgressFields {
    job: JobId,
    attempt: u32,
    n: u64,
    percent: Option<f32>,
    node: Option<String>,
    step: Option<u32>,
    steps: Option<u32>,
    message: Option<String>,
    last_event_at: Option<Timestamp>,
    #[serde(default)]
    preview_n: u32,
}

impl From<JobProgressFields> for JobProgress {
    fn from(fields: JobProgressFields) -> Self {
        let JobProgressFields { job, attempt, n, percent, node, step, steps, message, .. } = fields;
        let JobProgressFields { last_event_at, preview_n, .. } = fields;
        let progress =
            Progress { attempt, n, percent, node, step, steps, message, last_event_at, preview_n };
        Self { job, progress }
    }
}

/// One attempt, named by both halves of the fence, and who says it: the body of `start` and
/// `cancel-ack`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttemptRef {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// The job.
    pub job: JobId,
    /// The attempt's number, from the job's record.
    pub attempt: u32,
    /// The attempt's token, from the job's record.
    pub token: Token,
}

/// How an attempt ended: the body of `finish` and `late`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "FinishFields")]
pub struct FinishRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// The job.
    pub job: JobId,
    /// The attempt's number, from the job's record.
    pub attempt: u32,
    /// The attempt's token, from the job's record.
    pub token: Token,
    #[serde(flatten)]
    pub finish: Finish,
}

/// How it is read: as one struct, so that a mistake has its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FinishFields {
    worker_id: WorkerId,
    incarnation: Incarnation,
    job: JobId,
    attempt: u32,
    token: Token,
    outcome: Option<OutcomeKind>,
    artifacts: Option<Vec<Artifact>>,
    cached: Option<bool>,
    result: Option<Value>,
    failure: Option<Failure>,
    last_progress: Option<Progress>,
}

impl TryFrom<FinishFields> for FinishRequest {
    type Error = FieldError;

    fn try_from(fields: FinishFields) -> Result<Self, FieldError> {
        let FinishFields { worker_id, incarnation, job, attempt, token, .. } = fields;
        let FinishFields { outcome, artifacts, cached, result, failure, last_progress, .. } =
            fields;
        let finish = WrittenFinish { outcome, artifacts, cached, result, failure, last_progress };
        let finish = finish.try_into()?;
        Ok(Self { worker_id, incarnation, job, attempt, token, finish })
    }
}

impl FinishRequest {
    /// Whose end it is, and which.
    pub fn split(self) -> (AttemptRef, Finish) {
        let Self { worker_id, incarnation, job, attempt, token, finish } = self;
        (AttemptRef { worker_id, incarnation, job, attempt, token }, finish)
    }
}

/// An attempt is given back: a loss, not a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
    /// The job.
    pub job: JobId,
    /// The attempt's number, from the job's record.
    pub attempt: u32,
    /// The attempt's token, from the job's record.
    pub token: Token,
    /// Why it is given back.
    pub reason: LossReason,
    /// For people: what happened; at most 2,000 bytes.
    #[serde(default)]
    pub message: String,
}

impl ReleaseRequest {
    /// Which attempt is given back, and why.
    pub fn split(self) -> (AttemptRef, Op) {
        let Self { worker_id, incarnation, job, attempt, token, reason, message } = self;
        let op = Op::Release { reason, message };
        (AttemptRef { worker_id, incarnation, job, attempt, token }, op)
    }
}

/// A worker says goodbye; what it still holds is given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Who says it.
    pub worker_id: WorkerId,
    /// The process that says it.
    pub incarnation: Incarnation,
}

/// A stored result file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactStored {
    /// The file's name within the job.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Lowercase hex.
    pub sha256: String,
}
