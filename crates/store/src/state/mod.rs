//! The whole state of a store in memory: the specification of what a store does.
//!
//! `MemStore` is this behind a lock; the SQLite store is this with every applied transition made
//! durable before anybody hears of it. A transition is applied whole, or refused and nothing
//! changes; an applied one can be undone, for the case that making it durable fails.

mod apply;
mod doctor;
mod due;
mod explain;
mod index;
mod intake;
mod losses;
mod queue;
mod reads;
mod volatile;
mod waiters;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use apply::{Applied, Undo};
pub use due::{CONTACT_GAP, Due, MAX_DUE, Retention};
pub use explain::MAX_AHEAD;
use queue::{ClassIx, ClassQueues, QueueKey};
pub use reads::{
    ClassSummary, Counts, EndedPage, JobFilter, JobsPage, Pulse, PulseConnector, PulseEntry,
    Queues, WaitingJob, held_listed, oldest_first,
};
use volatile::Volatile;
pub use volatile::{Confirmed, ConfirmedBy};
pub use waiters::WorkHint;

use pointsman_core::{
    Answer, Command, ConnectorId, EventName, JobId, MachineId, Record, RecordKey, Rejected, Seq,
    Timestamp, WorkerId,
    command::{Exchange, IdempotencyKey, Renew},
    decide::{
        self, GroupKey, Intake, KeptIdempotency, Key, Source, Stop, Transition, Unread, Value,
        limits,
    },
    matching::CapabilitiesDigest,
    record::{Alert, AlertId, Connector, Job, JobStatus, Machine, Worker},
};

use crate::Epoch;

struct JobEntry {
    job: Arc<Job>,
    /// While it has not ended.
    class: Option<ClassIx>,
}

pub struct State {
    pub epoch: Epoch,
    intake: Intake,
    /// Until when nothing is claimed, after the store came back from before a while ago.
    calm_until: Option<Timestamp>,
    pub(crate) seq: Seq,
    pub(crate) last_ended_no: u64,
    jobs: BTreeMap<JobId, JobEntry>,
    machines: BTreeMap<MachineId, Arc<Machine>>,
    workers: BTreeMap<WorkerId, Arc<Worker>>,
    connectors: BTreeMap<ConnectorId, Arc<Connector>>,
    alerts: BTreeMap<AlertId, Arc<Alert>>,
    idempotency: HashMap<IdempotencyKey, KeptIdempotency>,
    idempotency_ends: BTreeSet<(Timestamp, IdempotencyKey)>,
    /// Live jobs of workflow groups, by place.
    groups: HashMap<GroupKey, BTreeSet<(u64, JobId)>>,
    workers_of: HashMap<MachineId, BTreeSet<WorkerId>>,
    profile_users: HashMap<CapabilitiesDigest, u32>,
    /// Pending jobs whose hold ends at a time.
    holds: BTreeSet<(Timestamp, JobId)>,
    /// Pending jobs with exclusions, by the first one's end.
    exclusions: BTreeSet<(Timestamp, JobId)>,
    ended: BTreeMap<u64, JobId>,
    /// Bytes that are kept for ended jobs.
    ended_bytes: u64,
    counts: [u64; JobStatus::ALL.len()],
    queues: ClassQueues,
    volatile: Volatile,
    waiters: waiters::Waiters,
    new_work: Vec<ClassIx>,
}

impl State {
    pub fn new(epoch: Epoch, now: Timestamp) -> Self {
        Self {
            epoch,
            intake: Intake::Open,
            calm_until: None,
            seq: 0,
            last_ended_no: 0,
            jobs: BTreeMap::new(),
            machines: BTreeMap::new(),
            workers: BTreeMap::new(),
            connectors: BTreeMap::new(),
            alerts: BTreeMap::new(),
            idempotency: HashMap::new(),
            idempotency_ends: BTreeSet::new(),
            groups: HashMap::new(),
            workers_of: HashMap::new(),
            profile_users: HashMap::new(),
            holds: BTreeSet::new(),
            exclusions: BTreeSet::new(),
            ended: BTreeMap::new(),
            ended_bytes: 0,
            counts: [0; JobStatus::ALL.len()],
            queues: ClassQueues::default(),
            volatile: Volatile::new(now),
            waiters: waiters::Waiters::default(),
            new_work: Vec::new(),
        }
    }

    pub fn seq(&self) -> Seq {
        self.seq
    }

    pub fn last_ended_no(&self) -> u64 {
        self.last_ended_no
    }

    /// Decides and applies one command, in one step.
    pub fn execute(&mut self, command: &Command, now: Timestamp) -> Result<Applied, Rejected> {
        self.intake.admits(command)?;
        self.volatile.set_now(now);
        let transition = match command {
            Command::Exchange(exchange) => self.decide_exchange(exchange, now),
            command => decide::decide(self, command, now),
        };
        match transition {
            Ok(transition) => {
                self.intake.admits_changes(&transition)?;
                self.check_guards(&transition, now)?;
                self.check_room(&transition)?;
                self.volatile.hear(command, now);
                if let Command::Renew(renew) = command {
                    self.hear_renewal(renew, &transition.answer, now);
                }
                let applied = self.apply(transition, now);
                if let Command::Exchange(exchange) = command {
                    self.hear_exchange(exchange, &applied, now);
                }
                Ok(applied)
            }
            Err(Stop::Rejected(why)) => Err(why),
            Err(Stop::Unread(Unread(key))) => {
                Err(Rejected::Invalid(format!("the store cannot read {key:?}")))
            }
        }
    }

    /// Applies a transition that was decided elsewhere, if what it was decided on is unchanged.
    /// `None`: something changed meanwhile; load and decide again.
    pub fn commit(
        &mut self,
        transition: Transition,
        now: Timestamp,
    ) -> Result<Option<Applied>, Rejected> {
        if self.intake == Intake::Importing {
            return Err(Rejected::Importing);
        }
        self.intake.admits_changes(&transition)?;
        let unchanged = transition
            .reads
            .iter()
            .all(|(key, rev)| self.record(key).as_ref().map(Record::rev) == *rev);
        if !unchanged {
            return Ok(None);
        }
        let unchanged = transition.looked_up.iter().all(|(key, found)| self.value(key) == *found);
        if !unchanged {
            return Ok(None);
        }
        self.check_guards(&transition, now)?;
        self.check_room(&transition)?;
        self.volatile.set_now(now);
        Ok(Some(self.apply(transition, now)))
    }

    fn hear_renewal(&mut self, renew: &Renew, answer: &Answer, now: Timestamp) {
        self.volatile.renewed(renew, answer, now);
        for report in &renew.connectors {
            let id = ConnectorId::new(renew.worker.clone(), report.service.clone());
            if self.connectors.contains_key(&id) {
                self.volatile.confirmed_by_report(id, now);
            }
        }
    }

    fn decide_exchange(&self, exchange: &Exchange, now: Timestamp) -> Result<Transition, Stop> {
        if self.intake != Intake::Open || self.calm_until(now).is_some() {
            return decide::decide_exchange(self, exchange, now, &mut |_, _| None);
        }
        // Within one claim the queues do not change yet, so what was chosen is remembered.
        let mut picker = self.queues.picker();
        decide::decide_exchange(self, exchange, now, &mut |worker, services| {
            picker.choose(&worker.capabilities_digest, &worker.id, services)
        })
    }

    /// Operations are signs of life; a bare claim is none: a server repeats it while it waits.
    fn hear_exchange(&mut self, exchange: &Exchange, applied: &Applied, now: Timestamp) {
        if exchange.ops.is_empty() {
            return;
        }
        self.volatile.heard_worker(&exchange.worker, now);
        for event in applied.group.iter().flat_map(|group| &group.events) {
            if let RecordKey::Connector(connector) = &event.key {
                self.volatile.confirmed_by_job(connector, now);
            }
        }
    }

    /// A submission or retry that would need one class too many is refused.
    fn check_room(&self, transition: &Transition) -> Result<(), Rejected> {
        if self.queues.live_classes() < limits::MAX_CLASSES {
            return Ok(());
        }
        let new = transition.changes.iter().filter(|change| {
            matches!(change.name, EventName::JobSubmitted | EventName::JobRetried)
        });
        let fits = new.filter_map(|change| change.record.as_ref()).all(|record| match record {
            Record::Job(job) => self.queues.has_class(&job.spec.class().key()),
            _ => true,
        });
        if fits { Ok(()) } else { Err(Rejected::TooManyClasses(limits::MAX_CLASSES)) }
    }

    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Job(id) => self.jobs.get(id).map(|e| Record::Job(e.job.clone())),
            RecordKey::Worker(id) => self.workers.get(id).cloned().map(Record::Worker),
            RecordKey::Connector(id) => self.connectors.get(id).cloned().map(Record::Connector),
            RecordKey::Machine(id) => self.machines.get(id).cloned().map(Record::Machine),
            RecordKey::Alert(id) => self.alerts.get(id).cloned().map(Record::Alert),
        }
    }

    /// Answers what a decision reads; see [`Source`].
    pub fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Record(key) => self.record(key).map(Value::Record),
            Key::Idempotency(key) => self
                .idempotency
                .get(key)
                .map(|kept| Value::Idempotency { job: kept.job, body: kept.body }),
            Key::GroupPlace(group) => {
                let place = self.groups.get(group).and_then(|jobs| jobs.first());
                place.map(|(place, _)| Value::GroupPlace(*place))
            }
            Key::WorkersOf(machine) => {
                let workers = self.workers_of.get(machine).into_iter().flatten().cloned();
                Some(Value::WorkersOf(workers.collect()))
            }
        }
    }
}

impl Source for State {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        Ok(self.value(key))
    }
}
