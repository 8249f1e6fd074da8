//! Records that contradict each other.

use std::collections::BTreeSet;

use pointsman_core::{
    ConnectorId, JobId, RecordKey, Seq, WorkerId,
    doctor::{Examination, Finding, FindingRule as Rule},
    record::{Connector, Job, Worker},
};

use super::super::State;

impl State {
    pub(super) fn examine_rev(&self, key: RecordKey, rev: Seq, found: &mut Examination) {
        if rev > self.seq {
            let problem = format!("its rev {rev} is beyond the log's end {}", self.seq);
            found.add(Finding::about(Rule::UnknownNumber, &key, problem));
        }
    }

    pub(super) fn examine_worker(&self, worker: &Worker, found: &mut Examination) {
        let key = RecordKey::Worker(worker.id.clone());
        self.examine_rev(key.clone(), worker.rev, found);
        let mut say = |rule, problem: String| found.add(Finding::about(rule, &key, problem));
        if !self.machines.contains_key(&worker.machine_id) {
            say(Rule::UnknownMachine, format!("its machine {} does not exist", worker.machine_id));
        }
        if worker.status != worker.derived_status() {
            let (is, right) = (worker.status.as_str(), worker.derived_status().as_str());
            say(Rule::WrongStatus, format!("its status is {is}; {right} follows from its record"));
        }
        if self.queues.capabilities(&worker.capabilities_digest).is_none() {
            let digest = worker.capabilities_digest;
            say(Rule::UnknownCapabilities, format!("its capabilities {digest} are not kept"));
        }
        if let Some(job) = self.stranger(&worker.current_job_ids, &worker.id) {
            say(Rule::WrongList, format!("it lists job {job}, which it does not run"));
        }
        for id in worker.connector_ids().filter(|id| !self.connectors.contains_key(id)) {
            let key = RecordKey::Connector(id.clone());
            let problem = format!("{} has the service {}, and no connector", id.worker, id.service);
            found.add(Finding::about(Rule::MissingConnector, &key, problem));
        }
    }

    pub(super) fn examine_connector(&self, connector: &Connector, found: &mut Examination) {
        let id: &ConnectorId = &connector.id;
        let key = RecordKey::Connector(id.clone());
        self.examine_rev(key.clone(), connector.rev, found);
        let mut say = |rule, problem: String| found.add(Finding::about(rule, &key, problem));
        match self.workers.get(&id.worker) {
            None => say(Rule::UnknownWorker, format!("its worker {} does not exist", id.worker)),
            Some(worker) if worker.machine_id != connector.machine_id => {
                let (machine, other) = (&connector.machine_id, &worker.machine_id);
                say(Rule::Contradiction, format!("it is on {machine}, its worker on {other}"));
            }
            Some(worker) if !worker.connector_ids().any(|own| own == *id) => {
                say(Rule::UnknownWorker, format!("its worker has no service {}", id.service));
            }
            Some(_) => {}
        }
        if (&connector.worker_id, &connector.service_type) != (&id.worker, &id.service) {
            let (worker, service) = (&connector.worker_id, &connector.service_type);
            say(Rule::Contradiction, format!("it says that it is {worker}'s, for {service}"));
        }
        if connector.status != connector.derived_status() {
            let (is, right) = (connector.status.as_str(), connector.derived_status().as_str());
            say(Rule::WrongStatus, format!("its status is {is}; {right} follows from its record"));
        }
        if let Some(job) = self.stranger(&connector.job_ids, &id.worker) {
            say(Rule::WrongList, format!("it lists job {job}, which its worker does not run"));
        }
    }

    pub(super) fn examine_job(&self, job: &Job, found: &mut Examination) {
        let key = RecordKey::Job(job.id);
        self.examine_rev(key.clone(), job.rev, found);
        let mut say = |rule, problem: String| found.add(Finding::about(rule, &key, problem));
        if let Some(no) = job.ended().map(|ended| ended.ended_no) {
            if no > self.last_ended_no {
                say(Rule::UnknownNumber, format!("its ended_no {no} was never given out"));
            } else if let Some(other) = self.shares_ended_no(job.id, no) {
                say(Rule::UnknownNumber, format!("its ended_no {no} is also that of job {other}"));
            }
        }
        let Some(assignment) = job.assignment() else { return };
        if job.token.is_none() {
            say(Rule::Contradiction, "it runs, and its attempt has no token".to_owned());
        } else if !self.volatile.has_lease(&job.id) {
            say(Rule::RunningWithoutLease, "it runs without a lease".to_owned());
        }
        let Some(worker) = self.workers.get(&assignment.worker_id) else {
            let worker = &assignment.worker_id;
            return say(Rule::UnknownWorker, format!("it runs on {worker}, which does not exist"));
        };
        let problem = format!("it does not list job {}, which it runs", job.id);
        if !worker.current_job_ids.contains(&job.id) {
            let key = RecordKey::Worker(worker.id.clone());
            found.add(Finding::about(Rule::WrongList, &key, problem.clone()));
        }
        let id = ConnectorId::new(worker.id.clone(), job.service().clone());
        if self.connectors.get(&id).is_some_and(|c| !c.job_ids.contains(&job.id)) {
            found.add(Finding::about(Rule::WrongList, &RecordKey::Connector(id), problem));
        }
    }

    /// The other job with this number: of two, the list of ended jobs names one.
    fn shares_ended_no(&self, job: JobId, no: u64) -> Option<JobId> {
        let other = *self.ended.get(&no).filter(|other| **other != job)?;
        let ended = self.jobs.get(&other)?.job.ended()?;
        (ended.ended_no == no).then_some(other)
    }

    fn stranger<'a>(&self, jobs: &'a BTreeSet<JobId>, worker: &WorkerId) -> Option<&'a JobId> {
        jobs.iter().find(|id| {
            let assignment = self.jobs.get(id).and_then(|entry| entry.job.assignment());
            assignment.is_none_or(|assignment| assignment.worker_id != *worker)
        })
    }
}
