//! Records that contradict each other: found by the consistency reconciler, and by tests after
//! every step.

use std::collections::BTreeSet;

use pointsman_core::{
    ConnectorId, JobId, WorkerId,
    event::RecordKey,
    record::{Connector, Job, Worker},
};

use super::State;

/// One contradiction between records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    pub about: RecordKey,
    pub message: String,
}

impl State {
    /// Every invariant between records, over all of them.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for entry in self.jobs.values() {
            self.check_job(&entry.job, &mut found);
        }
        for worker in self.workers.values() {
            self.check_worker(worker, &mut found);
        }
        for connector in self.connectors.values() {
            self.check_connector(connector, &mut found);
        }
        found
    }

    fn check_job(&self, job: &Job, found: &mut Vec<Contradiction>) {
        let mut say = |message: String| {
            found.push(Contradiction { about: RecordKey::Job(job.id), message });
        };
        if job.rev > self.seq {
            say(format!("rev {} is beyond the log's end {}", job.rev, self.seq));
        }
        if let Some(ended) = job.ended().filter(|ended| ended.ended_no > self.last_ended_no) {
            say(format!("ended_no {} was never given out", ended.ended_no));
        }
        let Some(assignment) = job.assignment() else { return };
        if let Some(worker) = self.workers.get(&assignment.worker_id) {
            if !worker.current_job_ids.contains(&job.id) {
                say(format!("runs on {}, which does not list it", worker.id));
            }
        } else {
            say(format!("runs on {}, which does not exist", assignment.worker_id));
        }
        if !self.volatile.has_lease(&job.id) {
            say("runs without a lease".into());
        }
    }

    fn check_worker(&self, worker: &Worker, found: &mut Vec<Contradiction>) {
        let mut say = |message: String| {
            found.push(Contradiction { about: RecordKey::Worker(worker.id.clone()), message });
        };
        if !self.machines.contains_key(&worker.machine_id) {
            say(format!("its machine {} does not exist", worker.machine_id));
        }
        if worker.status != worker.derived_status() {
            say(format!("status {:?} does not follow from its record", worker.status));
        }
        if self.queues.capabilities(&worker.capabilities_digest).is_none() {
            say("its capabilities are not kept".into());
        }
        for job in self.strangers(&worker.current_job_ids, &worker.id) {
            say(format!("lists job {job}, which it does not run"));
        }
    }

    fn check_connector(&self, connector: &Connector, found: &mut Vec<Contradiction>) {
        let id: &ConnectorId = &connector.id;
        let mut say = |message: String| {
            found.push(Contradiction { about: RecordKey::Connector(id.clone()), message });
        };
        match self.workers.get(&connector.worker_id) {
            None => say(format!("its worker {} does not exist", connector.worker_id)),
            Some(worker) if worker.machine_id != connector.machine_id => {
                say(format!("is on {}, its worker on {}", connector.machine_id, worker.machine_id));
            }
            Some(_) => {}
        }
        if connector.status != connector.derived_status() {
            say(format!("status {:?} does not follow from its record", connector.status));
        }
        for job in self.strangers(&connector.job_ids, &connector.worker_id) {
            say(format!("lists job {job}, which its worker does not run"));
        }
    }

    fn strangers<'a>(
        &'a self,
        jobs: &'a BTreeSet<JobId>,
        worker: &'a WorkerId,
    ) -> impl Iterator<Item = &'a JobId> {
        jobs.iter().filter(move |id| {
            let assignment = self.jobs.get(id).and_then(|entry| entry.job.assignment());
            assignment.is_none_or(|assignment| assignment.worker_id != *worker)
        })
    }
}
