//! The whole view at one moment, with the lanes.

use std::sync::Arc;

use pointsman_core::{
    Seq, Timestamp,
    record::{Alert, Connector, Job, JobRecord, Machine, Worker},
};
use pointsman_store::{Epoch, Position};
use serde::Serialize;
use utoipa::ToSchema;

use crate::frame::{ProgressLane, PulseLane, QueuesLane, Shared};

/// Everything that a monitor holds at one seq. Records are shared, not copied.
#[derive(Debug, Serialize, ToSchema)]
pub struct Snapshot {
    /// The store's epoch: `seq` counts anew in each.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The last change that is in it.
    pub seq: Seq,
    /// The name of the fleet, as the server was told it.
    #[schema(value_type = String)]
    pub fleet: Arc<str>,
    /// All machines.
    #[schema(value_type = Vec<Machine>)]
    pub machines: Vec<Arc<Machine>>,
    /// All workers.
    #[schema(value_type = Vec<Worker>)]
    pub workers: Vec<Arc<Worker>>,
    /// All connectors.
    #[schema(value_type = Vec<Connector>)]
    pub connectors: Vec<Arc<Connector>>,
    /// All alerts that stand.
    #[schema(value_type = Vec<Alert>)]
    pub alerts: Vec<Arc<Alert>>,
    /// All running jobs, and the last 200 that ended.
    #[schema(value_type = Vec<JobRecord>)]
    pub jobs: Vec<Arc<Job>>,
    /// What travels beside the log.
    pub lanes: Lanes,
    /// The store's time.
    pub at: Timestamp,
}

/// The newest value of each lane. Null when it could not be read from the store yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lanes {
    /// Of every running job that has reported any.
    pub progress: ProgressLane,
    /// When everybody was last heard.
    #[schema(value_type = Option<PulseLane>)]
    pub pulse: Option<Arc<Shared<PulseLane>>>,
    /// What waits.
    #[schema(value_type = Option<QueuesLane>)]
    pub queues: Option<Arc<Shared<QueuesLane>>>,
}

impl Snapshot {
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), seq: self.seq }
    }
}
