//! The records: what a job, a worker, a connector, a machine and an alert are, and how they are
//! written as JSON. Every record has an `id` and a `rev`, the seq of its last change. What changes
//! by itself (heartbeats, lease ends, ages) is in no record.
//!
//! Decoders keep the fields they do not know in `extra` and write them back, so that an older
//! process does not erase what a newer one wrote.

mod alert;
mod exclusion;
mod job;
mod job_record;
mod machine;
mod progress;
mod worker;

use std::collections::BTreeMap;

pub use alert::{Alert, AlertId, AlertRule, Severity};
pub use exclusion::Exclusion;
pub use job::{
    Artifact, ArtifactType, Assignment, Ended, Hold, HoldReason, InputRef, Job, JobSpec, JobState,
    PastAttempt, PastOutcome, Running, Timeouts,
};
pub use job_record::{JobRecord, JobStatus, RecordError};
pub use machine::{Machine, MachineStatus};
pub use progress::Progress;
pub use worker::{
    Connector, ConnectorStatus, OfflineReason, Orders, Presence, ServiceSlots, Worker, WorkerStatus,
};

/// The number of a change in the store's log, dense within an epoch; the first is 1.
pub type Seq = u64;

/// Fields of a record that this version does not know.
pub type Extra = BTreeMap<String, serde_json::Value>;
