//! Records in and out, with every index that follows from them.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    JobId, MachineId, Record, RecordKey, WorkerId,
    decide::GroupKey,
    matching::{Capabilities, CapabilitiesDigest},
    record::{Job, JobState, Worker},
};

use super::{JobEntry, QueueKey, State};

impl State {
    /// Sets a record; returns the one before.
    pub(super) fn set(&mut self, record: Record) -> Option<Record> {
        match record {
            Record::Job(job) => self.set_job(job).map(Record::Job),
            Record::Worker(worker) => self.set_worker(worker).map(Record::Worker),
            Record::Connector(r) => self.connectors.insert(r.id.clone(), r).map(Record::Connector),
            Record::Machine(r) => self.machines.insert(r.id.clone(), r).map(Record::Machine),
            Record::Alert(r) => self.alerts.insert(r.id.clone(), r).map(Record::Alert),
        }
    }

    pub(super) fn unset(&mut self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Job(id) => self.unset_job(id).map(Record::Job),
            RecordKey::Worker(id) => self.unset_worker(id).map(Record::Worker),
            RecordKey::Connector(id) => {
                self.volatile.forget_connector(id);
                self.connectors.remove(id).map(Record::Connector)
            }
            RecordKey::Machine(id) => {
                self.volatile.forget_machine(id);
                self.machines.remove(id).map(Record::Machine)
            }
            RecordKey::Alert(id) => self.alerts.remove(id).map(Record::Alert),
        }
    }

    /// A job that is new here shares its requirements with the jobs of its class: a hundred
    /// thousand equal ones are kept once.
    pub(super) fn share_requirements(&self, job: &mut Arc<Job>) {
        if job.is_ended() || job.spec.requirements.is_empty() || self.jobs.contains_key(&job.id) {
            return;
        }
        let class = self.queues.known(&job.class());
        if let Some(class) = class.filter(|c| !Arc::ptr_eq(&c.requirements, &job.spec.requirements))
        {
            let requirements = class.requirements.clone();
            Arc::make_mut(&mut Arc::make_mut(job).spec).requirements = requirements;
        }
    }

    fn set_job(&mut self, job: Arc<Job>) -> Option<Arc<Job>> {
        let before = self.jobs.remove(&job.id);
        let kept_class = before.as_ref().and_then(|entry| {
            let same = Arc::ptr_eq(&entry.job.spec, &job.spec)
                && entry.job.exclusions == job.exclusions
                && !job.is_ended();
            entry.class.filter(|_| same)
        });
        if let Some(entry) = &before {
            self.unlink(entry);
        }
        let class = match (job.is_ended(), kept_class) {
            (true, _) => None,
            (false, Some(ix)) => Some(ix),
            (false, None) => Some(self.queues.join(job.class())),
        };
        let entry = JobEntry { job, class };
        self.link(&entry);
        self.jobs.insert(entry.job.id, entry);
        let before = before?;
        if let (Some(old), None) = (before.class, kept_class) {
            self.queues.leave(old);
        }
        Some(before.job)
    }

    fn unset_job(&mut self, id: &JobId) -> Option<Arc<Job>> {
        let entry = self.jobs.remove(id)?;
        self.unlink(&entry);
        if let Some(ix) = entry.class {
            self.queues.leave(ix);
        }
        self.volatile.forget_job(id);
        Some(entry.job)
    }

    fn link(&mut self, entry: &JobEntry) {
        let job = &entry.job;
        self.counts[job.status() as usize] += 1;
        if let (Some(group), false) = (GroupKey::of(&job.spec), job.is_ended()) {
            self.groups.entry(group).or_default().insert((job.place, job.id));
        }
        match (&job.state, entry.class) {
            (JobState::Pending { hold: None }, Some(ix)) => {
                self.queues.push(ix, QueueKey::of(job), job.id);
                self.new_work.push(ix);
            }
            (JobState::Pending { hold: Some(hold) }, Some(ix)) => {
                self.queues.held(ix, 1);
                self.holds.extend(hold.until.map(|until| (until, job.id)));
            }
            (JobState::Assigned(_) | JobState::InProgress(_), Some(ix)) => {
                self.queues.running(ix, 1);
                self.volatile.lease(job);
            }
            (_, _) => {
                self.ended.extend(job.ended().map(|ended| (ended.ended_no, job.id)));
                self.ended_bytes += job.bytes();
            }
        }
        if let Some(until) = job.first_exclusion() {
            self.exclusions.insert((until, job.id));
        }
        if !job.is_running() {
            self.volatile.forget_job(&job.id);
        }
    }

    fn unlink(&mut self, entry: &JobEntry) {
        let job = &entry.job;
        self.counts[job.status() as usize] -= 1;
        if let Some(key) = GroupKey::of(&job.spec)
            && let Some(group) = self.groups.get_mut(&key)
        {
            group.remove(&(job.place, job.id));
            if group.is_empty() {
                self.groups.remove(&key);
            }
        }
        match (&job.state, entry.class) {
            (JobState::Pending { hold: None }, Some(ix)) => {
                self.queues.remove(ix, &QueueKey::of(job));
            }
            (JobState::Pending { hold: Some(hold) }, Some(ix)) => {
                self.queues.held(ix, -1);
                if let Some(until) = hold.until {
                    self.holds.remove(&(until, job.id));
                }
            }
            (JobState::Assigned(_) | JobState::InProgress(_), Some(ix)) => {
                self.queues.running(ix, -1);
            }
            (_, _) => {
                if let Some(ended) = job.ended() {
                    // A number that two jobs share is one of them's.
                    if self.ended.get(&ended.ended_no) == Some(&job.id) {
                        self.ended.remove(&ended.ended_no);
                    }
                    self.ended_bytes -= job.bytes();
                }
            }
        }
        if let Some(until) = job.first_exclusion() {
            self.exclusions.remove(&(until, job.id));
        }
    }

    fn set_worker(&mut self, worker: Arc<Worker>) -> Option<Arc<Worker>> {
        *self.profile_users.entry(worker.capabilities_digest).or_insert(0) += 1;
        let place = self.workers_of.entry(worker.machine_id.clone()).or_default();
        place.insert(worker.id.clone());
        let before = self.workers.insert(worker.id.clone(), worker.clone())?;
        if before.machine_id != worker.machine_id {
            self.leave_machine(&before.machine_id, &before.id);
        }
        self.release_profile(&before.capabilities_digest);
        Some(before)
    }

    fn unset_worker(&mut self, id: &WorkerId) -> Option<Arc<Worker>> {
        let worker = self.workers.remove(id)?;
        self.leave_machine(&worker.machine_id, id);
        self.release_profile(&worker.capabilities_digest);
        self.volatile.forget_worker(id);
        Some(worker)
    }

    fn leave_machine(&mut self, machine: &MachineId, worker: &WorkerId) {
        let workers: Option<&mut BTreeSet<WorkerId>> = self.workers_of.get_mut(machine);
        if let Some(workers) = workers {
            workers.remove(worker);
            if workers.is_empty() {
                self.workers_of.remove(machine);
            }
        }
    }

    /// Keeps what a worker is able to do, as long as any worker has it.
    pub fn keep_capabilities(
        &mut self,
        digest: CapabilitiesDigest,
        capabilities: &Arc<Capabilities>,
    ) {
        self.queues.add_profile(digest, capabilities);
    }

    /// Drops capabilities that no worker has; after an opening and an undoing.
    pub(super) fn drop_unused_profiles(&mut self) {
        let users = &self.profile_users;
        self.queues.retain_profiles(|digest| users.contains_key(digest));
    }

    fn release_profile(&mut self, digest: &CapabilitiesDigest) {
        let Some(users) = self.profile_users.get_mut(digest) else { return };
        *users -= 1;
        if *users == 0 {
            self.profile_users.remove(digest);
            self.queues.drop_profile(digest);
        }
    }
}
