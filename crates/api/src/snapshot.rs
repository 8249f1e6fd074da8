//! The view and its events as a program outside holds them.

use pointsman_core::{
    EventName, RecordKind, Seq, Timestamp,
    record::{Alert, Connector, JobRecord, Machine, Worker},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Everything that a monitor holds at one seq.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub epoch: String,
    pub seq: Seq,
    pub fleet: String,
    pub machines: Vec<Machine>,
    pub workers: Vec<Worker>,
    pub connectors: Vec<Connector>,
    pub alerts: Vec<Alert>,
    pub jobs: Vec<JobRecord>,
    /// `progress`, `pulse` and `queues`, each as it travels beside the log.
    pub lanes: Value,
    /// The store's time.
    pub at: Timestamp,
}

impl Snapshot {
    /// `epoch.seq`: where events go on from here.
    pub fn position(&self) -> String {
        format!("{}.{}", self.epoch, self.seq)
    }
}

/// One change: replace the record of that kind and id, or drop it when there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ViewEvent {
    /// Seq of the change.
    pub seq: Seq,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: EventName,
    /// What kind of record changed.
    pub kind: RecordKind,
    /// Which one.
    pub id: String,
    /// The whole record after the change; null when it was removed or left the view.
    #[schema(value_type = Option<Object>)]
    pub record: Option<Value>,
}

/// A stretch of the raw log, of about 4 MiB at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// The store's epoch: `seq` counts anew in each.
    pub epoch: String,
    /// In their order.
    pub events: Vec<ViewEvent>,
    /// Ask for what comes after it; equal to the position asked for at the log's end.
    pub next: String,
}
