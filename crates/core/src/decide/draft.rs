//! A draft: the records a decision has read, and what it changes, until it is applied whole.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use super::Rejected;
use crate::{
    command::{Answer, IdempotencyKey},
    event::{Event, EventName, Record, RecordKey},
    ids::{ConnectorId, CustomerId, Incarnation, JobId, MachineId, Token, WorkerId, WorkflowId},
    matching::{Capabilities, CapabilitiesDigest},
    record::{Alert, AlertId, Connector, Job, JobSpec, Machine, Seq, Worker},
    time::Timestamp,
};

/// Names something that a decision may read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Record(RecordKey),
    Idempotency(IdempotencyKey),
    /// The place of the workflow group's first live job.
    GroupPlace(GroupKey),
    /// The workers of a machine.
    WorkersOf(MachineId),
}

/// A workflow group: the same name from another customer is another group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    pub customer: Option<CustomerId>,
    pub workflow: WorkflowId,
}

impl GroupKey {
    pub fn of(spec: &JobSpec) -> Option<Self> {
        let workflow = spec.workflow_id.clone()?;
        Some(Self { customer: spec.customer_id.clone(), workflow })
    }
}

/// What stands under a [`Key`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Record(Record),
    Idempotency { job: JobId, body: [u8; 32] },
    GroupPlace(u64),
    WorkersOf(Vec<WorkerId>),
}

/// The key was not loaded: load it and decide again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread(pub Key);

/// Where decisions read from.
pub trait Source {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread>;
}

/// Why there is no transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    Rejected(Rejected),
    Unread(Unread),
}

impl From<Rejected> for Stop {
    fn from(why: Rejected) -> Self {
        Self::Rejected(why)
    }
}

impl From<Unread> for Stop {
    fn from(key: Unread) -> Self {
        Self::Unread(key)
    }
}

/// A condition on what lies apart from the records; checked again in the step that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The lease of this attempt is over.
    LeaseOver {
        job: JobId,
        token: Token,
    },
    WorkerSilent {
        worker: WorkerId,
        incarnation: Incarnation,
        after: Duration,
    },
    /// Neither the machine's agent nor any of its workers was heard.
    MachineSilent {
        machine: MachineId,
        after: Duration,
    },
    MachineHeard {
        machine: MachineId,
    },
    ConnectorUnconfirmed {
        connector: ConnectorId,
        after: Duration,
    },
}

/// One record's change with the event that says so; the store stamps `rev`, places and
/// `ended_no` when it applies it.
pub type Change = Event;

/// What is written beside the records.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    Idempotency { key: IdempotencyKey, kept: KeptIdempotency },
    Payload { job: JobId, payload: Arc<[u8]> },
    Result { job: JobId, result: KeptResult },
    Capabilities { digest: CapabilitiesDigest, capabilities: Arc<Capabilities> },
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIdempotency {
    pub job: JobId,
    pub body: [u8; 32],
    /// By the clock of the store that it is in, or came from.
    pub until: Timestamp,
}

/// What an attempt handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptResult {
    pub attempt: u32,
    pub token: Token,
    pub late: bool,
    /// As JSON.
    pub json: Arc<[u8]>,
}

/// A decision: applied in one atomic step if `reads` and `guards` still hold, else not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The records it was decided on, with their rev (`None`: there was none).
    pub reads: Vec<(RecordKey, Option<Seq>)>,
    /// What else it was decided on, as it was found.
    pub looked_up: Vec<(Key, Option<Value>)>,
    pub guards: Vec<Guard>,
    /// In the order of what happened; the last one of a key is what is kept.
    pub changes: Vec<Change>,
    pub sides: Vec<Side>,
    pub answer: Answer,
}

pub(super) struct Draft<'a> {
    source: &'a dyn Source,
    pub now: Timestamp,
    reads: RefCell<HashMap<RecordKey, Option<Seq>>>,
    looked_up: RefCell<Vec<(Key, Option<Value>)>>,
    latest: HashMap<RecordKey, usize>,
    changes: Vec<Change>,
    guards: Vec<Guard>,
    sides: Vec<Side>,
}

impl<'a> Draft<'a> {
    pub fn new(source: &'a dyn Source, now: Timestamp) -> Self {
        Self {
            source,
            now,
            reads: RefCell::default(),
            looked_up: RefCell::default(),
            latest: HashMap::new(),
            changes: Vec::new(),
            guards: Vec::new(),
            sides: Vec::new(),
        }
    }

    /// What is no record.
    pub fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        let found = self.source.get(key)?;
        self.looked_up.borrow_mut().push((key.clone(), found.clone()));
        Ok(found)
    }

    fn record(&self, key: RecordKey) -> Result<Option<Record>, Unread> {
        if let Some(&at) = self.latest.get(&key) {
            return Ok(self.changes[at].record.clone());
        }
        let key = Key::Record(key);
        let found = match self.source.get(&key)? {
            Some(Value::Record(record)) => Some(record),
            _ => None,
        };
        if let Key::Record(key) = key {
            self.reads.borrow_mut().insert(key, found.as_ref().map(Record::rev));
        }
        Ok(found)
    }

    pub fn job(&self, id: JobId) -> Result<Option<Arc<Job>>, Unread> {
        Ok(match self.record(RecordKey::Job(id))? {
            Some(Record::Job(job)) => Some(job),
            _ => None,
        })
    }

    pub fn need_job(&self, id: JobId) -> Result<Job, Stop> {
        let job = self.job(id)?.ok_or(Rejected::JobNotFound(id))?;
        Ok((*job).clone())
    }

    pub fn worker(&self, id: &WorkerId) -> Result<Option<Worker>, Unread> {
        Ok(match self.record(RecordKey::Worker(id.clone()))? {
            Some(Record::Worker(worker)) => Some((*worker).clone()),
            _ => None,
        })
    }

    pub fn need_worker(&self, id: &WorkerId) -> Result<Worker, Stop> {
        let worker = self.worker(id)?;
        Ok(worker.ok_or_else(|| Rejected::WorkerNotFound(id.to_string()))?)
    }

    pub fn need_machine(&self, id: &MachineId) -> Result<Machine, Stop> {
        let machine = self.machine(id)?;
        Ok(machine.ok_or_else(|| Rejected::MachineNotFound(id.to_string()))?)
    }

    pub fn connector(&self, id: &ConnectorId) -> Result<Option<Connector>, Unread> {
        Ok(match self.record(RecordKey::Connector(id.clone()))? {
            Some(Record::Connector(connector)) => Some((*connector).clone()),
            _ => None,
        })
    }

    pub fn machine(&self, id: &MachineId) -> Result<Option<Machine>, Unread> {
        Ok(match self.record(RecordKey::Machine(id.clone()))? {
            Some(Record::Machine(machine)) => Some((*machine).clone()),
            _ => None,
        })
    }

    pub fn alert(&self, id: &AlertId) -> Result<Option<Arc<Alert>>, Unread> {
        Ok(match self.record(RecordKey::Alert(id.clone()))? {
            Some(Record::Alert(alert)) => Some(alert),
            _ => None,
        })
    }

    /// A job's change is an event each time: its life is told step by step.
    pub fn put_job(&mut self, name: EventName, job: Job) {
        let key = RecordKey::Job(job.id);
        self.latest.insert(key, self.changes.len());
        self.changes.push(Event::put(name, Record::Job(Arc::new(job))));
    }

    /// A worker's changes within one transition are one event: the record after all of them.
    pub fn put_worker(&mut self, name: EventName, mut worker: Worker) {
        derive_worker(&mut worker, self.now);
        self.put_once(name, Record::Worker(Arc::new(worker)));
    }

    pub fn put_connector(&mut self, mut connector: Connector) {
        derive_connector(&mut connector, self.now);
        self.put_once(EventName::ConnectorStatusChanged, Record::Connector(Arc::new(connector)));
    }

    pub fn put_machine(&mut self, name: EventName, mut machine: Machine) -> Result<(), Unread> {
        machine.last_status_change = match self.machine(&machine.id)? {
            Some(before) if before.status == machine.status => before.last_status_change,
            _ => Some(self.now),
        };
        self.put_once(name, Record::Machine(Arc::new(machine)));
        Ok(())
    }

    pub fn put_alert(&mut self, alert: Alert) {
        self.put_once(EventName::AlertRaised, Record::Alert(Arc::new(alert)));
    }

    fn put_once(&mut self, name: EventName, record: Record) {
        let key = record.key();
        match self.latest.get(&key) {
            // The name of the weightiest change stays; "its status changed" is true of them all.
            Some(&at) if self.changes[at].record.is_some() => {
                self.changes[at].record = Some(record);
                if name != EventName::WorkerStatusChanged {
                    self.changes[at].name = name;
                }
            }
            _ => {
                self.latest.insert(key, self.changes.len());
                self.changes.push(Event::put(name, record));
            }
        }
    }

    /// Changes the worker, if it is there. One that this draft has changed before is changed where
    /// it stands: an exchange ends many jobs of one worker.
    pub fn change_worker(
        &mut self,
        id: &WorkerId,
        change: impl FnOnce(&mut Worker),
    ) -> Result<(), Unread> {
        let now = self.now;
        if let Some(Record::Worker(worker)) = self.changed(&RecordKey::Worker(id.clone())) {
            let worker = Arc::make_mut(worker);
            change(worker);
            derive_worker(worker, now);
        } else if let Some(mut worker) = self.worker(id)? {
            change(&mut worker);
            self.put_worker(EventName::WorkerStatusChanged, worker);
        }
        Ok(())
    }

    /// The same for a connector.
    pub fn change_connector(
        &mut self,
        id: &ConnectorId,
        change: impl FnOnce(&mut Connector),
    ) -> Result<(), Unread> {
        let now = self.now;
        if let Some(Record::Connector(connector)) = self.changed(&RecordKey::Connector(id.clone()))
        {
            let connector = Arc::make_mut(connector);
            change(connector);
            derive_connector(connector, now);
        } else if let Some(mut connector) = self.connector(id)? {
            change(&mut connector);
            self.put_connector(connector);
        }
        Ok(())
    }

    fn changed(&mut self, key: &RecordKey) -> Option<&mut Record> {
        self.changes[*self.latest.get(key)?].record.as_mut()
    }

    pub fn remove(&mut self, name: EventName, key: RecordKey) {
        self.latest.insert(key.clone(), self.changes.len());
        self.changes.push(Event::removed(name, key));
    }

    pub fn guard(&mut self, guard: Guard) {
        self.guards.push(guard);
    }

    pub fn side(&mut self, side: Side) {
        self.sides.push(side);
    }

    pub fn finish(self, answer: Answer) -> Transition {
        Transition {
            reads: self.reads.into_inner().into_iter().collect(),
            looked_up: self.looked_up.into_inner(),
            guards: self.guards,
            changes: self.changes,
            sides: self.sides,
            answer,
        }
    }
}

fn derive_worker(worker: &mut Worker, now: Timestamp) {
    let status = worker.derived_status();
    if worker.status != status {
        worker.status = status;
        worker.last_status_change = now;
    }
}

fn derive_connector(connector: &mut Connector, now: Timestamp) {
    let status = connector.derived_status();
    if connector.status != status {
        connector.status = status;
        connector.timestamp = now;
    }
}
