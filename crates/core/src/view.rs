//! The view: what a monitor holds. A function of the log alone, so every server and every viewer
//! agrees on it at every seq, whenever it joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    event::{Event, EventName, LogGroup, Record, RecordKey},
    ids::{ConnectorId, JobId, MachineId, WorkerId},
    record::{Alert, AlertId, Connector, Job, Machine, Seq, Worker},
};

/// Ended jobs in the view: those whose `ended_no` is above the last one minus this.
pub const ENDED_IN_VIEW: u64 = 200;

/// All machines, workers, connectors and alerts; all jobs that are assigned or in progress; and
/// the newest ended jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The last group folded in.
    pub seq: Seq,
    pub machines: BTreeMap<MachineId, Arc<Machine>>,
    pub workers: BTreeMap<WorkerId, Arc<Worker>>,
    pub connectors: BTreeMap<ConnectorId, Arc<Connector>>,
    pub alerts: BTreeMap<AlertId, Arc<Alert>>,
    pub jobs: BTreeMap<JobId, Arc<Job>>,
    /// The ended jobs in the view by `ended_no`. Two may have one number until that is repaired.
    ended: BTreeSet<(u64, JobId)>,
    last_ended_no: u64,
}

impl View {
    /// Folds one group in and returns what a viewer must change to follow: one event a record, in
    /// the order of the log. Folding a group twice changes nothing.
    pub fn fold(&mut self, group: &LogGroup) -> Vec<Event> {
        let mut changes = Vec::with_capacity(group.events.len());
        for event in &group.events {
            match (&event.key, &event.record) {
                (RecordKey::Job(id), Some(Record::Job(job))) => {
                    self.fold_job(*id, job, event.name, &mut changes);
                }
                (RecordKey::Job(id), _) => {
                    if self.drop_job(id) {
                        changes.push(event.clone());
                    }
                }
                _ => {
                    self.set(&event.key, event.record.as_ref());
                    changes.push(event.clone());
                }
            }
        }
        self.seq = self.seq.max(group.seq);
        changes
    }

    /// Starts from records instead of from the beginning of the log.
    pub fn restore(
        seq: Seq,
        last_ended_no: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        let mut view = Self { seq, last_ended_no, ..Self::default() };
        for record in records {
            match &record {
                Record::Job(job) if !view.shows(job) => {}
                Record::Job(job) => view.keep_job(job),
                _ => view.set(&record.key(), Some(&record)),
            }
        }
        view
    }

    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let machines = self.machines.values().cloned().map(Record::Machine);
        let workers = self.workers.values().cloned().map(Record::Worker);
        let connectors = self.connectors.values().cloned().map(Record::Connector);
        let alerts = self.alerts.values().cloned().map(Record::Alert);
        let jobs = self.jobs.values().cloned().map(Record::Job);
        machines.chain(workers).chain(connectors).chain(alerts).chain(jobs)
    }

    fn shows(&self, job: &Job) -> bool {
        match job.ended() {
            Some(ended) => ended.ended_no + ENDED_IN_VIEW > self.last_ended_no,
            None => job.is_running(),
        }
    }

    fn fold_job(&mut self, id: JobId, job: &Arc<Job>, name: EventName, out: &mut Vec<Event>) {
        if let Some(ended) = job.ended() {
            self.last_ended_no = self.last_ended_no.max(ended.ended_no);
        }
        if self.shows(job) {
            self.keep_job(job);
            out.push(Event::put(name, Record::Job(job.clone())));
        } else if self.drop_job(&id) {
            out.push(Event::removed(name, RecordKey::Job(id)));
        }
        self.evict(out);
    }

    fn keep_job(&mut self, job: &Arc<Job>) {
        // A repair gives an ended job another number.
        self.drop_job(&job.id);
        if let Some(ended) = job.ended() {
            self.ended.insert((ended.ended_no, job.id));
        }
        self.jobs.insert(job.id, job.clone());
    }

    fn drop_job(&mut self, id: &JobId) -> bool {
        let Some(job) = self.jobs.remove(id) else { return false };
        if let Some(ended) = job.ended() {
            self.ended.remove(&(ended.ended_no, *id));
        }
        true
    }

    fn evict(&mut self, out: &mut Vec<Event>) {
        while let Some(&(ended_no, id)) = self.ended.first() {
            if ended_no + ENDED_IN_VIEW > self.last_ended_no {
                break;
            }
            self.ended.pop_first();
            self.jobs.remove(&id);
            out.push(Event::removed(EventName::JobLeftView, RecordKey::Job(id)));
        }
    }

    fn set(&mut self, key: &RecordKey, record: Option<&Record>) {
        match (key, record) {
            (_, Some(Record::Machine(r))) => drop(self.machines.insert(r.id.clone(), r.clone())),
            (_, Some(Record::Worker(r))) => drop(self.workers.insert(r.id.clone(), r.clone())),
            (_, Some(Record::Connector(r))) => {
                drop(self.connectors.insert(r.id.clone(), r.clone()));
            }
            (_, Some(Record::Alert(r))) => drop(self.alerts.insert(r.id.clone(), r.clone())),
            (_, Some(Record::Job(r))) => self.keep_job(r),
            (RecordKey::Machine(id), None) => drop(self.machines.remove(id)),
            (RecordKey::Worker(id), None) => drop(self.workers.remove(id)),
            (RecordKey::Connector(id), None) => drop(self.connectors.remove(id)),
            (RecordKey::Alert(id), None) => drop(self.alerts.remove(id)),
            (RecordKey::Job(id), None) => drop(self.drop_job(id)),
        }
    }
}
