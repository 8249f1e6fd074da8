//! What reconcilers may change. Each looks again: the reason must still hold in the records, and
//! its guard is checked once more in the step that applies.

use std::time::Duration;

use super::{Guard, Key, Rejected, Stop, Value, draft::Draft, ending, moved, worker};
use crate::{
    command::{Answer, Reconcile},
    event::{EventName, RecordKey},
    failure::LossReason,
    ids::{ConnectorId, JobId, MachineId, Token, WorkerId},
    record::{Connector, ConnectorStatus, JobState, Machine, MachineStatus},
};

pub(super) fn reconcile(draft: &mut Draft<'_>, what: &Reconcile) -> Result<Answer, Stop> {
    match what {
        Reconcile::ExpireLease { job, attempt, token } => {
            expire_lease(draft, *job, *attempt, *token)?;
        }
        Reconcile::ReleaseHold { job } => release_hold(draft, *job)?,
        Reconcile::LapseExclusions { job, nobody_else } => lapse(draft, *job, *nobody_else)?,
        Reconcile::DeclareSilent { worker, after } => declare_silent(draft, worker, *after)?,
        Reconcile::MarkStale { connector, after } => mark_stale(draft, connector, *after)?,
        Reconcile::DisconnectMachine { machine, after } => disconnect(draft, machine, *after)?,
        Reconcile::ReconnectMachine { machine } => reconnect(draft, machine)?,
        Reconcile::RemoveJob { job } => remove_job(draft, *job)?,
        Reconcile::RemoveWorker { worker } => remove_worker(draft, worker)?,
        Reconcile::RemoveMachine { machine } => remove_machine(draft, machine)?,
        Reconcile::Moved { record } => moved::moved(draft, record)?,
    }
    Ok(Answer::Done)
}

fn expire_lease(draft: &mut Draft<'_>, id: JobId, attempt: u32, token: Token) -> Result<(), Stop> {
    let job = draft.need_job(id)?;
    if !job.is_running() || job.attempt != attempt || job.token != Some(token) {
        return Err(Rejected::NotDue.into());
    }
    draft.guard(Guard::LeaseOver { job: id, token });
    ending::give_back(draft, job, LossReason::LeaseExpired, "the worker went silent").map(drop)
}

fn release_hold(draft: &mut Draft<'_>, id: JobId) -> Result<(), Stop> {
    let mut job = draft.need_job(id)?;
    match job.state {
        JobState::Pending { hold: Some(hold) } if hold.is_over(draft.now) => {
            job.state = JobState::Pending { hold: None };
            draft.put_job(EventName::JobReady, job);
            Ok(())
        }
        _ => Err(Rejected::NotDue.into()),
    }
}

fn lapse(draft: &mut Draft<'_>, id: JobId, nobody_else: bool) -> Result<(), Stop> {
    let mut job = draft.need_job(id)?;
    let left = job.exclusions_left(nobody_else, draft.now);
    if !job.is_pending() || left.len() == job.exclusions.len() {
        return Err(Rejected::NotDue.into());
    }
    job.exclusions = left;
    let name = if job.is_waiting() { EventName::JobReady } else { EventName::JobUpdated };
    draft.put_job(name, job);
    Ok(())
}

fn declare_silent(draft: &mut Draft<'_>, id: &WorkerId, after: Duration) -> Result<(), Stop> {
    let found = draft.need_worker(id)?;
    let incarnation = found.incarnation;
    if found.is_offline() {
        return Err(Rejected::NotDue.into());
    }
    draft.guard(Guard::WorkerSilent { worker: id.clone(), incarnation, after });
    worker::silent(draft, id, after)
}

fn mark_stale(draft: &mut Draft<'_>, id: &ConnectorId, after: Duration) -> Result<(), Stop> {
    let known = draft.connector(id)?.filter(Connector::is_known);
    let mut connector = known.ok_or(Rejected::NotDue)?;
    draft.guard(Guard::ConnectorUnconfirmed { connector: id.clone(), after });
    connector.reported = ConnectorStatus::Unknown;
    connector.error_message = Some(format!("Status stale ({} s old)", after.as_secs()));
    draft.put_connector(connector);
    Ok(())
}

fn disconnect(draft: &mut Draft<'_>, id: &MachineId, after: Duration) -> Result<(), Stop> {
    let found = draft.need_machine(id)?;
    if found.status.is_gone() {
        return Err(Rejected::NotDue.into());
    }
    draft.guard(Guard::MachineSilent { machine: id.clone(), after });
    let since = (draft.now - after).to_the_second();
    let reason = Some(format!("nothing heard of it since {since}"));
    let action = Some("look whether it still runs and reaches the server".to_owned());
    let found = Machine { status: MachineStatus::Disconnected, reason, action, ..found };
    Ok(draft.put_machine(EventName::MachineDisconnected, found)?)
}

fn reconnect(draft: &mut Draft<'_>, id: &MachineId) -> Result<(), Stop> {
    let found = draft.need_machine(id)?;
    if found.status != MachineStatus::Disconnected {
        return Err(Rejected::NotDue.into());
    }
    draft.guard(Guard::MachineHeard { machine: id.clone() });
    let found = Machine { status: MachineStatus::Ready, reason: None, action: None, ..found };
    Ok(draft.put_machine(EventName::MachineStateChanged, found)?)
}

fn remove_job(draft: &mut Draft<'_>, id: JobId) -> Result<(), Stop> {
    let found = draft.need_job(id)?;
    if !found.is_ended() {
        return Err(Rejected::NotEnded { job: id, status: found.status() }.into());
    }
    draft.remove(EventName::JobRemoved, RecordKey::Job(id));
    Ok(())
}

fn remove_worker(draft: &mut Draft<'_>, id: &WorkerId) -> Result<(), Stop> {
    let found = draft.need_worker(id)?;
    if !found.is_offline() {
        return Err(Rejected::NotGone { id: id.to_string(), why: "it is not offline yet" }.into());
    }
    if !found.current_job_ids.is_empty() {
        let why = "its jobs have not been given back yet";
        return Err(Rejected::NotGone { id: id.to_string(), why }.into());
    }
    for connector in found.connector_ids() {
        if draft.connector(&connector)?.is_some() {
            draft.remove(EventName::ConnectorStatusChanged, RecordKey::Connector(connector));
        }
    }
    let alert = ending::suspect_alert(id);
    if draft.alert(&alert)?.is_some() {
        draft.remove(EventName::AlertCleared, RecordKey::Alert(alert));
    }
    draft.remove(EventName::WorkerRemoved, RecordKey::Worker(id.clone()));
    Ok(())
}

fn remove_machine(draft: &mut Draft<'_>, id: &MachineId) -> Result<(), Stop> {
    let found = draft.need_machine(id)?;
    if !found.status.is_gone() {
        return Err(
            Rejected::NotGone { id: id.to_string(), why: "it is not disconnected yet" }.into()
        );
    }
    if let Some(Value::WorkersOf(workers)) = draft.get(&Key::WorkersOf(id.clone()))? {
        for worker in &workers {
            remove_worker(draft, worker)?;
        }
    }
    draft.remove(EventName::MachineRemoved, RecordKey::Machine(id.clone()));
    Ok(())
}
