//! A worker and its connectors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Extra, Seq};
use crate::{
    bounds::brief,
    decide::limits,
    ids::{ConnectorId, Incarnation, JobId, MachineId, ServiceName, WorkerId},
    matching::CapabilitiesDigest,
    names::named,
    time::Timestamp,
};

named! {
    /// What a worker is doing. Derived from its presence, its orders and its jobs; never set by hand.
    /// `corrupted` is reserved: nothing sets it; what contradicts a worker's record is told by an alert,
    /// `inconsistent`.
    pub enum WorkerStatus {
        /// Registered; none of its services has been ready yet.
        Starting = "starting",
        Idle = "idle",
        Busy = "busy",
        /// It takes no more jobs: it was ordered so, or its process was told to stop. Of the latter,
        /// `stopping` of its record tells, and people are told that it is stopping.
        Draining = "draining",
        Offline = "offline",
        /// Reserved.
        Corrupted = "corrupted",
    }
}

/// Whether a worker is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Presence {
    Starting,
    Ready,
    Offline { why: OfflineReason },
}

/// Why a worker is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflineReason {
    /// It said goodbye.
    Left,
    /// No heartbeat for 15 s, or for 7 s when a lease of it ended.
    Silent,
}

/// The operator's standing orders. They outlive the worker's restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Orders {
    /// Take no more jobs; running ones go on to their end.
    #[serde(default)]
    pub drain: bool,
}

impl Orders {
    pub(super) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One of a worker's services, and how many jobs it runs there at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSlots {
    /// Such as `comfyui`.
    pub name: ServiceName,
    /// 1 to 1,024.
    pub slots: u32,
}

/// A worker as it is shown and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// As its process names itself.
    pub id: WorkerId,
    /// Seq of the last change.
    pub rev: Seq,
    /// Where it runs.
    pub machine_id: MachineId,
    /// The process that it is now.
    pub incarnation: Incarnation,
    /// What it does, from all that follows.
    pub status: WorkerStatus,
    /// Why it is in this status, where that needs saying.
    pub reason: Option<String>,
    /// What mends it.
    pub action: Option<String>,
    /// Whether it is there.
    pub presence: Presence,
    /// What an operator told it.
    pub orders: Orders,
    /// The process that says that it was told to stop: it takes no more jobs, and leaves once those
    /// that it has have ended or were given back. Of another process than `incarnation` it says
    /// nothing; null: none says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Incarnation>,
    /// What it drives.
    pub services: Vec<ServiceSlots>,
    /// Jobs that it has now.
    pub current_job_ids: BTreeSet<JobId>,
    /// What it offers: see `/capabilities/{digest}`.
    pub capabilities_digest: CapabilitiesDigest,
    /// One line for people: hardware and services.
    pub summary: String,
    /// When this process registered.
    pub connected_at: Timestamp,
    /// When `status` last changed.
    pub last_status_change: Timestamp,
    /// Jobs that completed here, since it was first known.
    pub jobs_completed: u64,
    /// Jobs that failed for good here, since it was first known.
    pub jobs_failed: u64,
    /// Different jobs in a row that broke here; a completion sets it to nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspect_jobs: Vec<JobId>,
    /// When the last of them broke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicion_at: Option<Timestamp>,
    /// Takes no jobs until then, and after that one at a time until one completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect_until: Option<Timestamp>,
    /// Former incarnations, newest last, at most 16; none may come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_incarnations: Vec<Incarnation>,
    /// When a process that was still there was superseded, the last 3 times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub superseded_at: Vec<Timestamp>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}

impl Worker {
    pub(crate) const MAX_FORMER: usize = 16;
    /// So many changes of the process within a minute raise an alert: two fight over one id.
    pub(crate) const FLAPPING: usize = 3;

    /// Whether processes fight over this id.
    pub fn is_flapping(&self, now: Timestamp) -> bool {
        let lately = |at: &&Timestamp| now.since(**at).as_secs() < 60;
        self.superseded_at.iter().filter(lately).count() >= Self::FLAPPING
    }

    /// The status that follows from everything else.
    pub fn derived_status(&self) -> WorkerStatus {
        match self.presence {
            Presence::Offline { .. } => WorkerStatus::Offline,
            _ if self.orders.drain || self.is_stopping() => WorkerStatus::Draining,
            _ if !self.current_job_ids.is_empty() => WorkerStatus::Busy,
            Presence::Starting => WorkerStatus::Starting,
            Presence::Ready => WorkerStatus::Idle,
        }
    }

    pub fn is_offline(&self) -> bool {
        matches!(self.presence, Presence::Offline { .. })
    }

    /// Whether its process was told to stop. An older version keeps what a process said of that in
    /// the record of the next one, too, or of one that is gone.
    pub fn is_stopping(&self) -> bool {
        self.stopping == Some(self.incarnation) && !self.is_offline()
    }

    /// The word for its status that people are told.
    pub fn shown_status(&self) -> &'static str {
        match self.status {
            WorkerStatus::Draining if self.is_stopping() => "stopping",
            status => status.as_str(),
        }
    }

    /// Why it takes fewer jobs than it has slots for, or none: it broke several in a row.
    pub fn suspicion(&self, now: Timestamp) -> Option<String> {
        let until = self.suspect_until?;
        let takes = match until.is_over(now, limits::SUSPECT_FOR) {
            false => format!("it takes none until {}", until.to_the_second()),
            true => "it takes one at a time until one completes".to_owned(),
        };
        Some(format!(
            "suspect: it broke {} different jobs in a row; {takes}",
            self.suspect_jobs.len()
        ))
    }

    pub fn connector_ids(&self) -> impl Iterator<Item = ConnectorId> + '_ {
        self.services.iter().map(|s| ConnectorId::new(self.id.clone(), s.name.clone()))
    }

    pub fn slots(&self, service: &ServiceName) -> u32 {
        self.services.iter().find(|s| s.name == *service).map_or(0, |s| s.slots)
    }
}

named! {
    /// `active` exactly while it has a job; `error` only for faults of the service; `unknown` when
    /// nothing has confirmed the status for 60 s.
    pub enum ConnectorStatus {
        Starting = "starting",
        Connecting = "connecting",
        Idle = "idle",
        Active = "active",
        Error = "error",
        Offline = "offline",
        Unknown = "unknown",
    }
}

/// A worker's connector to one service, shown as a badge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connector {
    /// Written `{worker}:{service}`.
    pub id: ConnectorId,
    /// Seq of the last change.
    pub rev: Seq,
    /// Whose it is.
    pub worker_id: WorkerId,
    /// Where that worker runs.
    pub machine_id: MachineId,
    /// The kind of service that it drives.
    pub service_type: ServiceName,
    /// What it does.
    pub status: ConnectorStatus,
    /// What the worker last said of the service itself; `status` follows from it and the jobs.
    pub reported: ConnectorStatus,
    /// When `status` last changed.
    pub timestamp: Timestamp,
    /// What is wrong, for people; null: nothing.
    pub error_message: Option<String>,
    /// Jobs that run on it now.
    pub job_ids: BTreeSet<JobId>,
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Extra,
}

impl Connector {
    /// Whether what its worker said last still stands.
    pub fn is_known(&self) -> bool {
        !matches!(self.reported, ConnectorStatus::Unknown | ConnectorStatus::Offline)
    }

    /// Why no job can count on its service now; none where it works.
    pub fn trouble(&self) -> Option<String> {
        use ConnectorStatus as S;
        if matches!(self.status, S::Idle | S::Active) {
            return None;
        }
        let state = format!("{} ({})", self.service_type, self.status.as_str());
        Some(match &self.error_message {
            Some(message) => format!("{state}: {}", brief(message)),
            None => state,
        })
    }

    /// The status that follows from what was reported and the jobs it has.
    pub fn derived_status(&self) -> ConnectorStatus {
        use ConnectorStatus as S;
        match (self.reported, self.job_ids.is_empty()) {
            (S::Idle | S::Active, true) => S::Idle,
            (S::Idle | S::Active, false) => S::Active,
            (other, _) => other,
        }
    }
}
