//! Events: what happened, each with the whole record after the change.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};

use crate::{
    ids::{ConnectorId, JobId, MachineId, WorkerId},
    json::to_json,
    names::named,
    record::{Alert, AlertId, Connector, Job, Machine, Seq, Worker},
    time::Timestamp,
};

named! {
    /// What an event says happened. The record says what is true after it.
    pub enum EventName {
        MachineRegistered = "machine_registered",
        MachineStateChanged = "machine_state_changed",
        MachineDisconnected = "machine_disconnected",
        MachineRemoved = "machine_removed",
        WorkerConnected = "worker_connected",
        WorkerStatusChanged = "worker_status_changed",
        WorkerDisconnected = "worker_disconnected",
        WorkerStateRepaired = "worker_state_repaired",
        WorkerRemoved = "worker_removed",
        ConnectorStatusChanged = "connector_status_changed",
        JobSubmitted = "job_submitted",
        JobUpdated = "job_updated",
        JobReady = "job_ready",
        JobAssigned = "job_assigned",
        JobStarted = "job_started",
        JobReturned = "job_returned",
        JobCompleted = "job_completed",
        JobFailed = "job_failed",
        JobCancelled = "job_cancelled",
        JobRetried = "job_retried",
        JobLateResult = "job_late_result",
        JobRemoved = "job_removed",
        /// Only in the view: an ended job is no longer among the newest ended ones.
        JobLeftView = "job_left_view",
        AlertRaised = "alert_raised",
        AlertCleared = "alert_cleared",
    }
}

/// Names one record of any kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    Machine(MachineId),
    Worker(WorkerId),
    Connector(ConnectorId),
    Job(JobId),
    Alert(AlertId),
}

named! {
    /// The kinds of records, as events name them.
    pub enum RecordKind {
        Machine = "machine",
        Worker = "worker",
        Connector = "connector",
        Job = "job",
        Alert = "alert",
    }
}

impl RecordKey {
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Machine(_) => RecordKind::Machine,
            Self::Worker(_) => RecordKind::Worker,
            Self::Connector(_) => RecordKind::Connector,
            Self::Job(_) => RecordKind::Job,
            Self::Alert(_) => RecordKind::Alert,
        }
    }

    pub fn id(&self) -> String {
        match self {
            Self::Machine(id) => id.to_string(),
            Self::Worker(id) => id.to_string(),
            Self::Connector(id) => id.to_string(),
            Self::Job(id) => id.to_string(),
            Self::Alert(id) => id.to_string(),
        }
    }

    /// The key of a kind and an id in text.
    pub fn parse(kind: RecordKind, id: &str) -> Result<Self, crate::IdError> {
        Ok(match kind {
            RecordKind::Machine => Self::Machine(id.parse()?),
            RecordKind::Worker => Self::Worker(id.parse()?),
            RecordKind::Connector => Self::Connector(id.parse()?),
            RecordKind::Job => Self::Job(id.parse()?),
            RecordKind::Alert => Self::Alert(id.parse()?),
        })
    }
}

/// A record of any kind, shared between the store, the log and the views.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Machine(Arc<Machine>),
    Worker(Arc<Worker>),
    Connector(Arc<Connector>),
    Job(Arc<Job>),
    Alert(Arc<Alert>),
}

impl Record {
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Machine(r) => RecordKey::Machine(r.id.clone()),
            Self::Worker(r) => RecordKey::Worker(r.id.clone()),
            Self::Connector(r) => RecordKey::Connector(r.id.clone()),
            Self::Job(r) => RecordKey::Job(r.id),
            Self::Alert(r) => RecordKey::Alert(r.id.clone()),
        }
    }

    pub fn rev(&self) -> Seq {
        match self {
            Self::Machine(r) => r.rev,
            Self::Worker(r) => r.rev,
            Self::Connector(r) => r.rev,
            Self::Job(r) => r.rev,
            Self::Alert(r) => r.rev,
        }
    }

    /// Stamps what only the store knows: the seq, a job's new place, and the number of an ending, which
    /// is the next after `last_ended_no`.
    pub fn stamp(&mut self, seq: Seq, last_ended_no: &mut u64) {
        match self {
            Self::Machine(r) => Arc::make_mut(r).rev = seq,
            Self::Worker(r) => Arc::make_mut(r).rev = seq,
            Self::Connector(r) => Arc::make_mut(r).rev = seq,
            Self::Alert(r) => Arc::make_mut(r).rev = seq,
            Self::Job(job) => {
                let job = Arc::make_mut(job);
                job.rev = seq;
                for stamp in [&mut job.place, &mut job.queued_seq] {
                    if *stamp == 0 {
                        *stamp = seq;
                    }
                }
                if let Some(ended) = job.ended_mut().filter(|ended| ended.ended_no == 0) {
                    *last_ended_no += 1;
                    ended.ended_no = *last_ended_no;
                }
            }
        }
    }

    /// Reads a record of `kind` from its JSON.
    pub fn from_json(kind: RecordKind, json: &str) -> Result<Self, serde_json::Error> {
        let mut from = serde_json::Deserializer::from_str(json);
        let record = Self::read(kind, &mut from)?;
        from.end()?;
        Ok(record)
    }

    /// Reads a record of that kind in whatever form it stands.
    pub fn read<'de, D: Deserializer<'de>>(kind: RecordKind, from: D) -> Result<Self, D::Error> {
        Ok(match kind {
            RecordKind::Machine => Self::Machine(Deserialize::deserialize(from)?),
            RecordKind::Worker => Self::Worker(Deserialize::deserialize(from)?),
            RecordKind::Connector => Self::Connector(Deserialize::deserialize(from)?),
            RecordKind::Job => Self::Job(Deserialize::deserialize(from)?),
            RecordKind::Alert => Self::Alert(Deserialize::deserialize(from)?),
        })
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Machine(r) => r.serialize(to),
            Self::Worker(r) => r.serialize(to),
            Self::Connector(r) => r.serialize(to),
            Self::Job(r) => r.serialize(to),
            Self::Alert(r) => r.serialize(to),
        }
    }
}

/// One record's change: replace the record of that key, or drop it when there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: EventName,
    pub key: RecordKey,
    /// The whole record after the change; `None` when it was removed or left the view.
    pub record: Option<Record>,
}

impl Event {
    pub fn put(name: EventName, record: Record) -> Self {
        Self { name, key: record.key(), record: Some(record) }
    }

    pub fn removed(name: EventName, key: RecordKey) -> Self {
        Self { name, key, record: None }
    }

    /// The event as one line of JSON, as viewers and the log read it.
    pub fn to_json(&self, seq: Seq, at: Timestamp) -> String {
        to_json(&Line { event: self, seq, at })
    }
}

struct Line<'a> {
    event: &'a Event,
    seq: Seq,
    at: Timestamp,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut line = to.serialize_struct("Event", 6)?;
        line.serialize_field("seq", &self.seq)?;
        line.serialize_field("at", &self.at)?;
        line.serialize_field("event", &self.event.name)?;
        line.serialize_field("kind", &self.event.key.kind())?;
        line.serialize_field("id", &self.event.key.id())?;
        line.serialize_field("record", &self.event.record)?;
        line.end()
    }
}

/// Everything that one transition changed: the events of one seq.
#[derive(Debug, Clone, PartialEq)]
pub struct LogGroup {
    pub seq: Seq,
    pub at: Timestamp,
    pub events: Vec<Event>,
}

impl LogGroup {
    /// The record of `key` after this group, if the group changed it.
    pub fn latest(&self, key: &RecordKey) -> Option<&Record> {
        self.events.iter().rev().find(|e| e.key == *key).and_then(|e| e.record.as_ref())
    }

    pub fn job(&self, id: &JobId) -> Option<&Arc<Job>> {
        self.events.iter().rev().find_map(|e| match &e.record {
            Some(Record::Job(job)) if job.id == *id => Some(job),
            _ => None,
        })
    }
}
