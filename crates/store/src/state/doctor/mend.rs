//! Making right what was found: what lies apart from the records at once, and records by commands,
//! so that every change of one is in the log.

use std::{
    collections::BTreeMap,
    mem::{replace, take},
};

use pointsman_core::{
    JobId, Record, RecordKey, Timestamp, WorkerId,
    command::Repair,
    doctor::{Examination, Finding, FindingRule as Rule},
};

use super::super::{State, Volatile};
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
                // Unasked, too: so it alone.
                (Rule::WrongCount, _) if finding.is_repaired_by_itself() => {
                    let ended = self.jobs.values().filter(|entry| entry.job.is_ended());
                    self.ended_bytes = ended.map(|entry| entry.job.bytes()).sum();
                }
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

    /// Makes every index anew from the records, as a start does; all else stays as it is.
    fn reindex(&mut self) {
        let (workers, jobs) = (take(&mut self.workers), take(&mut self.jobs));
        let former = take(&mut self.queues);
        // Leases are no index: they are looked at by themselves.
        let aside = Volatile::new(self.volatile.now());
        let volatile = replace(&mut self.volatile, aside);
        self.groups.clear();
        self.workers_of.clear();
        self.profile_users.clear();
        self.holds.clear();
        self.exclusions.clear();
        self.ended.clear();
        self.ended_bytes = 0;
        self.counts = Default::default();
        self.new_work.clear();
        for (digest, capabilities) in former.profiles() {
            self.keep_capabilities(*digest, capabilities);
        }
        for worker in workers.into_values() {
            self.set(Record::Worker(worker));
        }
        for entry in jobs.into_values() {
            self.set(Record::Job(entry.job));
        }
        self.drop_unused_profiles();
        self.queues.remember_losses(&former);
        self.volatile = volatile;
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
        (Rule::UnknownNumber, key) => Some(Repair::Numbers(key)),
        _ => None,
    }
}
