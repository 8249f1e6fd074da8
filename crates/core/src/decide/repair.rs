//! Repairs: a record that contradicts others is made what they say that it must be, as a change
//! in the log like any other. Each looks again, and leaves what is sound as it is.

use std::collections::BTreeSet;

use super::{Rejected, Stop, draft::Draft, ending, worker};
use crate::{
    command::{Answer, Repair},
    event::{EventName, RecordKey},
    failure::LossReason,
    ids::{ConnectorId, JobId, MachineId, ServiceName, WorkerId},
    record::{Connector, Worker},
};

pub(super) fn repair(draft: &mut Draft<'_>, what: &Repair) -> Result<Answer, Stop> {
    match what {
        Repair::Worker { worker, jobs } => repair_worker(draft, worker, jobs)?,
        Repair::Connector(connector) => repair_connector(draft, connector)?,
        Repair::Job(job) => repair_job(draft, *job)?,
        Repair::Numbers(key) => renumber(draft, key)?,
    }
    Ok(Answer::Done)
}

fn repair_worker(draft: &mut Draft<'_>, id: &WorkerId, jobs: &[JobId]) -> Result<(), Stop> {
    let mut worker = draft.need_worker(id)?;
    let before = worker.clone();
    let mut connectors = Vec::new();
    for id in worker.connector_ids() {
        connectors.push((id.clone(), draft.connector(&id)?));
    }
    worker.machine_id = machine_of(draft, &worker, &connectors)?;
    if draft.machine(&worker.machine_id)?.is_none() {
        worker::ensure_machine(draft, &worker.machine_id)?;
    }
    let own = own_jobs(draft, id, None, worker.current_job_ids.iter().chain(jobs))?;
    for (id, found) in connectors {
        let listed = found.iter().flat_map(|connector| &connector.job_ids);
        let jobs = own_jobs(draft, &id.worker, Some(&id.service), listed.chain(&own))?;
        let fresh =
            || worker::new_connector(draft, id.clone(), &worker.machine_id, BTreeSet::new());
        let right = Connector {
            worker_id: id.worker.clone(),
            machine_id: worker.machine_id.clone(),
            service_type: id.service.clone(),
            job_ids: jobs,
            ..found.clone().unwrap_or_else(fresh)
        };
        let status = right.derived_status();
        if found.is_none_or(|found| found != right || found.status != status) {
            draft.put_connector(right);
        }
    }
    worker.current_job_ids = own;
    if worker != before || worker.status != worker.derived_status() {
        draft.put_worker(EventName::WorkerStateRepaired, worker);
    }
    Ok(())
}

/// Its own if that exists, else the one that its connectors name.
fn machine_of(
    draft: &Draft<'_>,
    worker: &Worker,
    connectors: &[(ConnectorId, Option<Connector>)],
) -> Result<MachineId, Stop> {
    if draft.machine(&worker.machine_id)?.is_some() {
        return Ok(worker.machine_id.clone());
    }
    let named = connectors.iter().filter_map(|(_, connector)| connector.as_ref());
    let named: BTreeSet<&MachineId> = named.map(|connector| &connector.machine_id).collect();
    let mut known = BTreeSet::new();
    for &machine in &named {
        if draft.machine(machine)?.is_some() {
            known.insert(machine);
        }
    }
    let one = |set: &BTreeSet<&MachineId>| set.first().copied().filter(|_| set.len() == 1).cloned();
    one(&known).or_else(|| one(&named)).ok_or_else(|| {
        let why = format!(
            "the machine {} of {} does not exist, and its connectors do not name one: restart the worker",
            worker.machine_id, worker.id
        );
        Rejected::Invalid(why).into()
    })
}

fn own_jobs<'a>(
    draft: &Draft<'_>,
    worker: &WorkerId,
    service: Option<&ServiceName>,
    listed: impl Iterator<Item = &'a JobId>,
) -> Result<BTreeSet<JobId>, Stop> {
    let mut own = BTreeSet::new();
    for &id in listed {
        let Some(job) = draft.job(id)? else { continue };
        let by = job.assignment().map(|assignment| &assignment.worker_id);
        if by == Some(worker) && service.is_none_or(|service| service == job.service()) {
            own.insert(id);
        }
    }
    Ok(own)
}

fn repair_connector(draft: &mut Draft<'_>, id: &ConnectorId) -> Result<(), Stop> {
    let worker = draft.worker(&id.worker)?;
    let had = worker.is_some_and(|worker| worker.connector_ids().any(|own| own == *id));
    if had || draft.connector(id)?.is_none() {
        return Err(Rejected::NotDue.into());
    }
    draft.remove(EventName::ConnectorStatusChanged, RecordKey::Connector(id.clone()));
    Ok(())
}

fn repair_job(draft: &mut Draft<'_>, id: JobId) -> Result<(), Stop> {
    let job = draft.need_job(id)?;
    let Some(assignment) = job.assignment() else { return Err(Rejected::NotDue.into()) };
    let why = match (draft.worker(&assignment.worker_id)?, job.token) {
        (None, _) => format!("its worker {} does not exist", assignment.worker_id),
        (Some(_), None) => "its attempt had no token".to_owned(),
        (Some(_), Some(_)) => return Err(Rejected::NotDue.into()),
    };
    ending::give_back(draft, job, LossReason::LeaseExpired, &why)?;
    Ok(())
}

/// The store stamps what is 0.
fn renumber(draft: &mut Draft<'_>, key: &RecordKey) -> Result<(), Stop> {
    match key {
        RecordKey::Job(id) => {
            let mut job = draft.need_job(*id)?;
            if let Some(ended) = job.ended_mut() {
                ended.ended_no = 0;
            }
            draft.put_job(EventName::JobUpdated, job);
        }
        RecordKey::Worker(id) => {
            let worker = draft.need_worker(id)?;
            draft.put_worker(EventName::WorkerStateRepaired, worker);
        }
        RecordKey::Connector(id) => {
            if let Some(connector) = draft.connector(id)? {
                draft.put_connector(connector);
            }
        }
        RecordKey::Machine(id) => {
            if let Some(machine) = draft.machine(id)? {
                draft.put_machine(EventName::MachineStateChanged, machine)?;
            }
        }
        RecordKey::Alert(id) => {
            if let Some(alert) = draft.alert(id)? {
                draft.put_alert((*alert).clone());
            }
        }
    }
    Ok(())
}
