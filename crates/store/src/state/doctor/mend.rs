//! Making right what was found: what lies apart from the records at once, and records by commands,
//! so that every change of one is in the log.

use std::collections::BTreeMap;

use pointsman_core::{
    JobId, Timestamp, WorkerId,
    command::Repair,
    doctor::{Examination, Finding, FindingRule as Rule},
    event::{Record, RecordKey},
};

use super::super::State;
use crate::doctor::Treatment;

impl State {
    /// Begins to mend what was found: leases and indexes are right afterwards; the treatment's
    /// commands are still to be carried out.
    pub fn treat(
        &mut self,
        found: Examination,
        ids: Option<&[String]>,
        now: Timestamp,
    ) -> Treatment {
        self.volatile.set_now(now);
        let running = self.running_by_worker();
        let treatment = Treatment::of(found, ids, |finding| repair_of(finding, &running));
        let mut reindex = false;
        for finding in treatment.findings() {
            match (finding.rule, finding.record()) {
                (Rule::RunningWithoutLease, Some(RecordKey::Job(id))) => {
                    if let Some(entry) = self.jobs.get(&id) {
                        self.volatile.lease(&entry.job);
                    }
                }
                (Rule::LeaseWithoutJob, Some(RecordKey::Job(id))) => self.volatile.forget_job(&id),
                (Rule::IndexWithoutRecord | Rule::RecordWithoutIndex | Rule::WrongCount, _) => {
                    reindex = true;
                }
                _ => {}
            }
        }
        if reindex {
            self.reindex();
        }
        treatment
    }

    fn running_by_worker(&self) -> BTreeMap<WorkerId, Vec<JobId>> {
        let mut running: BTreeMap<WorkerId, Vec<JobId>> = BTreeMap::new();
        for entry in self.jobs.values() {
            if let Some(assignment) = entry.job.assignment() {
                running.entry(assignment.worker_id.clone()).or_default().push(entry.job.id);
            }
        }
        running
    }

    /// Makes every index anew from the records, as a start does.
    fn reindex(&mut self) {
        let mut fresh = Self::new(self.epoch.clone(), self.volatile.now());
        for (digest, capabilities) in self.queues.profiles() {
            fresh.keep_capabilities(*digest, capabilities);
        }
        let machines = self.machines.values().cloned().map(Record::Machine);
        let workers = self.workers.values().cloned().map(Record::Worker);
        let connectors = self.connectors.values().cloned().map(Record::Connector);
        let alerts = self.alerts.values().cloned().map(Record::Alert);
        let jobs = self.jobs.values().map(|entry| Record::Job(entry.job.clone()));
        for record in machines.chain(workers).chain(connectors).chain(alerts).chain(jobs) {
            fresh.set(record);
        }
        fresh.queues.remember_losses(&self.queues);
        fresh.restore_position(self.seq, self.last_ended_no);
        // What lies apart stays as it is.
        std::mem::swap(&mut fresh.volatile, &mut self.volatile);
        std::mem::swap(&mut fresh.waiters, &mut self.waiters);
        std::mem::swap(&mut fresh.idempotency, &mut self.idempotency);
        std::mem::swap(&mut fresh.idempotency_ends, &mut self.idempotency_ends);
        *self = fresh;
    }
}

/// The change of records that mends a finding, if any does.
fn repair_of(finding: &Finding, running: &BTreeMap<WorkerId, Vec<JobId>>) -> Option<Repair> {
    let worker = |worker: WorkerId| {
        let jobs = running.get(&worker).cloned().unwrap_or_default();
        Some(Repair::Worker { worker, jobs })
    };
    match (finding.rule, finding.record()?) {
        (Rule::UnknownMachine | Rule::WrongList | Rule::WrongStatus, RecordKey::Worker(id)) => {
            worker(id)
        }
        (Rule::UnknownWorker, RecordKey::Connector(id)) => Some(Repair::Connector(id)),
        (
            Rule::Contradiction | Rule::WrongList | Rule::WrongStatus | Rule::MissingConnector,
            RecordKey::Connector(id),
        ) => worker(id.worker),
        (Rule::UnknownWorker | Rule::Contradiction, RecordKey::Job(id)) => Some(Repair::Job(id)),
        (Rule::UnknownNumber, RecordKey::Job(id)) => Some(Repair::Numbers(id)),
        _ => None,
    }
}
