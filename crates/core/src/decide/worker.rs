//! Registration, renewals and goodbyes of workers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Key, Rejected, Side, Stop, Value,
    attempt::{adopt, back, check_incarnation, come_back},
    claim::check_registered,
    draft::Draft,
    ending, limits,
};
use crate::{
    command::{Answer, ConnectorReport, Held, Register, Renew, Renewed},
    event::{EventName, RecordKey},
    failure::LossReason,
    ids::{ConnectorId, Incarnation, JobId, MachineId, ServiceName, WorkerId},
    matching::{CapabilitiesDigest, digest},
    record::{
        Connector, ConnectorStatus, Extra, Machine, MachineStatus, OfflineReason, Orders, Presence,
        Worker, WorkerStatus,
    },
};

/// Identity and capabilities, whole and validated; the one writer of both. The newest incarnation
/// wins, and a superseded one never comes back. Registering again in one incarnation only changes
/// capabilities and services.
pub(super) fn register(draft: &mut Draft<'_>, register: &Register) -> Result<Answer, Stop> {
    register.capabilities.check().map_err(|error| {
        Rejected::Invalid(format!("capabilities{}: {}", error.pointer, error.message))
    })?;
    let digest = digest(&register.capabilities);
    let before = draft.worker(&register.worker)?;
    if before.as_ref().is_some_and(|w| w.former_incarnations.contains(&register.incarnation)) {
        return Err(Rejected::Superseded(register.incarnation).into());
    }
    ensure_machine(draft, &register.machine)?;
    let moved_from =
        before.as_ref().map(|w| w.machine_id.clone()).filter(|m| *m != register.machine);
    if let Some(machine) = moved_from {
        offline_with_last_worker(draft, &machine, &register.worker, "its last worker moved away")?;
    }
    let same_process = before.as_ref().is_some_and(|w| w.incarnation == register.incarnation);
    drop_connectors(draft, before.as_ref(), register)?;
    for slots in &register.services {
        let id = ConnectorId::new(register.worker.clone(), slots.name.clone());
        let known = draft.connector(&id)?;
        if same_process && known.as_ref().is_some_and(|c| c.machine_id == register.machine) {
            continue;
        }
        let job_ids = jobs_on(draft, before.as_ref(), &slots.name)?;
        draft.put_connector(new_connector(draft, id, &register.machine, job_ids));
    }
    let running = held_by(draft, before.as_ref())?;
    let orders = orders_at(draft, before.as_ref(), &register.machine)?;
    let worker = match before {
        Some(worker) if same_process => {
            let same = Worker {
                machine_id: register.machine.clone(),
                orders,
                services: register.services.clone(),
                capabilities_digest: digest,
                summary: register.summary.clone(),
                ..worker.clone()
            };
            if same == worker && !worker.is_offline() {
                return Ok(Answer::Registered { running });
            }
            match same.is_offline() {
                true => back(same),
                false => same,
            }
        }
        before => new_worker(draft, before, register, digest, orders),
    };
    let name = match same_process {
        true => EventName::WorkerStatusChanged,
        false => EventName::WorkerConnected,
    };
    let capabilities = Arc::new(register.capabilities.clone());
    draft.side(Side::Capabilities { digest, capabilities });
    draft.put_worker(name, worker);
    Ok(Answer::Registered { running })
}

/// A worker that comes to a machine gets the machine's orders beside its own. One that was there
/// before has its own: an operator may have resumed it alone.
fn orders_at(
    draft: &Draft<'_>,
    before: Option<&Worker>,
    machine: &MachineId,
) -> Result<Orders, Stop> {
    let own = before.map(|worker| worker.orders).unwrap_or_default();
    if before.is_some_and(|worker| worker.machine_id == *machine) {
        return Ok(own);
    }
    let there = draft.machine(machine)?.map(|machine| machine.orders).unwrap_or_default();
    Ok(Orders { drain: own.drain || there.drain })
}

fn new_worker(
    draft: &Draft<'_>,
    before: Option<Worker>,
    register: &Register,
    digest: CapabilitiesDigest,
    orders: Orders,
) -> Worker {
    let mut former = Vec::new();
    if let Some(worker) = &before {
        former.clone_from(&worker.former_incarnations);
        push_newest(&mut former, worker.incarnation, Worker::MAX_FORMER);
    }
    let before = before.as_ref();
    let mut superseded_at = before.map(|w| w.superseded_at.clone()).unwrap_or_default();
    if before.is_some_and(|w| !w.is_offline()) {
        push_newest(&mut superseded_at, draft.now, Worker::FLAPPING);
    }
    Worker {
        id: register.worker.clone(),
        rev: 0,
        machine_id: register.machine.clone(),
        incarnation: register.incarnation,
        status: WorkerStatus::Starting,
        reason: None,
        action: None,
        presence: Presence::Starting,
        orders,
        stopping: None,
        services: register.services.clone(),
        current_job_ids: before.map(|w| w.current_job_ids.clone()).unwrap_or_default(),
        capabilities_digest: digest,
        summary: register.summary.clone(),
        connected_at: draft.now,
        last_status_change: draft.now,
        jobs_completed: before.map_or(0, |w| w.jobs_completed),
        jobs_failed: before.map_or(0, |w| w.jobs_failed),
        suspect_jobs: before.map(|w| w.suspect_jobs.clone()).unwrap_or_default(),
        suspicion_at: before.and_then(|w| w.suspicion_at),
        suspect_until: before.and_then(|w| w.suspect_until),
        former_incarnations: former,
        superseded_at,
        extra: before.map(|w| w.extra.clone()).unwrap_or_default(),
    }
}

/// The newest comes last, and of more than so many the oldest go.
pub(super) fn push_newest<T>(list: &mut Vec<T>, newest: T, most: usize) {
    list.push(newest);
    list.drain(..list.len().saturating_sub(most));
}

pub(super) fn new_connector(
    draft: &Draft<'_>,
    id: ConnectorId,
    machine: &MachineId,
    job_ids: BTreeSet<JobId>,
) -> Connector {
    Connector {
        worker_id: id.worker.clone(),
        machine_id: machine.clone(),
        service_type: id.service.clone(),
        id,
        rev: 0,
        status: ConnectorStatus::Starting,
        reported: ConnectorStatus::Starting,
        timestamp: draft.now,
        error_message: None,
        job_ids,
        extra: Extra::new(),
    }
}

/// A bare worker's machine comes into being with it: never an unknown machine. One whose agent said
/// goodbye is from then on the bare worker's; one whose agent is silent may hear of it again.
pub(super) fn ensure_machine(draft: &mut Draft<'_>, id: &MachineId) -> Result<(), Stop> {
    use MachineStatus::{Offline, Ready};
    match draft.machine(id)? {
        Some(machine) if !machine.status.is_gone() => {}
        Some(machine) if machine.incarnation.is_some() && machine.status != Offline => {}
        Some(mut machine) => {
            if let Some(agent) = machine.incarnation.take() {
                push_newest(&mut machine.former_incarnations, agent, Worker::MAX_FORMER);
            }
            let machine = Machine { status: Ready, reason: None, action: None, ..machine };
            draft.put_machine(EventName::MachineStateChanged, machine)?;
        }
        None => draft.put_machine(
            EventName::MachineRegistered,
            Machine {
                id: id.clone(),
                rev: 0,
                status: MachineStatus::Ready,
                reason: None,
                action: None,
                incarnation: None,
                orders: Orders::default(),
                gpus: Vec::new(),
                connected_at: draft.now,
                last_status_change: None,
                former_incarnations: Vec::new(),
                extra: Extra::new(),
            },
        )?,
    }
    Ok(())
}

/// Connectors of services that the worker no longer has.
fn drop_connectors(
    draft: &mut Draft<'_>,
    before: Option<&Worker>,
    register: &Register,
) -> Result<(), Stop> {
    let Some(before) = before else { return Ok(()) };
    for id in before.connector_ids() {
        let kept = register.services.iter().any(|s| s.name == id.service);
        if !kept && draft.connector(&id)?.is_some() {
            draft.remove(EventName::ConnectorStatusChanged, RecordKey::Connector(id));
        }
    }
    Ok(())
}

/// The jobs that the worker runs on a service; also on one that it did not have for a while.
fn jobs_on(
    draft: &Draft<'_>,
    worker: Option<&Worker>,
    service: &ServiceName,
) -> Result<BTreeSet<JobId>, Stop> {
    let mut jobs = BTreeSet::new();
    for held in held_by(draft, worker)? {
        if draft.job(held.job)?.is_some_and(|job| job.service() == service) {
            jobs.insert(held.job);
        }
    }
    Ok(jobs)
}

/// What the store says the worker holds; a new process adopts it or gives it back.
fn held_by(draft: &Draft<'_>, worker: Option<&Worker>) -> Result<Vec<Held>, Stop> {
    let mut held = Vec::new();
    for &id in worker.iter().flat_map(|w| &w.current_job_ids) {
        if let Some(job) = draft.job(id)?.filter(|job| job.is_running()) {
            held.extend(job.token.map(|token| Held { job: id, attempt: job.attempt, token }));
        }
    }
    Ok(held)
}

/// A sign of life. Heartbeat and leases lie apart; records change only when a status did.
pub(super) fn renew(draft: &mut Draft<'_>, renew: &Renew) -> Result<Answer, Stop> {
    let worker = draft.need_worker(&renew.worker)?;
    check_incarnation(&worker, renew.incarnation)?;
    let mut answer = Renewed { orders: worker.orders, ..Renewed::default() };
    for held in &renew.held {
        let job = draft.job(held.job)?.filter(|job| {
            let by = job.assignment().map(|assignment| &assignment.worker_id);
            (job.attempt, job.token, by) == (held.attempt, Some(held.token), Some(&renew.worker))
        });
        let Some(job) = job else {
            answer.lost.push(*held);
            continue;
        };
        if job.cancel_requested_at.is_some() {
            answer.cancel.push(*held);
        }
        if job.assignment().is_some_and(|a| a.incarnation != renew.incarnation) {
            draft.put_job(EventName::JobUpdated, adopt((*job).clone(), renew.incarnation));
        }
    }
    let listed: BTreeSet<_> = renew.held.iter().map(|held| held.token).collect();
    for held in held_by(draft, Some(&worker))? {
        let job = draft.job(held.job)?;
        let old = job.as_ref().and_then(|job| job.assignment()).is_some_and(|assignment| {
            draft.now.since(assignment.assigned_at) >= limits::UNKNOWN_AFTER
        });
        if old && !listed.contains(&held.token) {
            answer.unknown_to_you.push(held);
        }
    }
    if worker.is_offline() {
        come_back(draft, worker.clone())?;
    }
    let stopping = renew.stopping.then_some(renew.incarnation);
    if worker.stopping != stopping {
        draft.change_worker(&renew.worker, |worker| worker.stopping = stopping)?;
    }
    for report in &renew.connectors {
        match check_registered(&worker, &report.service) {
            Ok(()) => confirm(draft, &renew.worker, report)?,
            Err(why) => answer.refused.push(why),
        }
    }
    Ok(Answer::Renewed(answer))
}

/// A report is compared with the record in the store, not with the reporter's last one: so a
/// status that was declared unknown comes back.
fn confirm(draft: &mut Draft<'_>, worker: &WorkerId, report: &ConnectorReport) -> Result<(), Stop> {
    let id = ConnectorId::new(worker.clone(), report.service.clone());
    let Some(mut connector) = draft.connector(&id)? else { return Ok(()) };
    let changed = connector.reported != report.status
        || connector.error_message != report.error_message
        || connector.status != connector.derived_status();
    if changed {
        connector.reported = report.status;
        connector.error_message.clone_from(&report.error_message);
        draft.put_connector(connector);
    }
    let up = matches!(report.status, ConnectorStatus::Idle | ConnectorStatus::Active);
    let mut worker = draft.need_worker(worker)?;
    if up && worker.presence == Presence::Starting {
        worker.presence = Presence::Ready;
        draft.put_worker(EventName::WorkerStatusChanged, worker);
    }
    Ok(())
}

/// Goodbye: what it still holds is given back, as a loss that speaks against nobody.
pub(super) fn leave(
    draft: &mut Draft<'_>,
    id: &WorkerId,
    incarnation: Incarnation,
) -> Result<Answer, Stop> {
    let worker = draft.need_worker(id)?;
    check_incarnation(&worker, incarnation)?;
    let gone_already = worker.presence == Presence::Offline { why: OfflineReason::Left };
    if gone_already && worker.current_job_ids.is_empty() {
        return Ok(Answer::Done);
    }
    for held in held_by(draft, Some(&worker))? {
        let job = draft.need_job(held.job)?;
        ending::give_back(draft, job, LossReason::Drained, "the worker left")?;
    }
    gone(draft, id, OfflineReason::Left, "it said goodbye".to_owned(), None)?;
    let machine = draft.need_worker(id)?.machine_id;
    offline_with_last_worker(draft, &machine, id, "its last worker said goodbye")?;
    Ok(Answer::Done)
}

/// Nothing was heard of the worker for so long.
pub(super) fn silent(draft: &mut Draft<'_>, id: &WorkerId, after: Duration) -> Result<(), Stop> {
    let reason = format!("no heartbeat for {} s", after.as_secs());
    let action = "look whether its machine still runs and reaches the server";
    gone(draft, id, OfflineReason::Silent, reason, Some(action))
}

/// The worker is not there any more; so nothing is known of its connectors.
pub(super) fn gone(
    draft: &mut Draft<'_>,
    id: &WorkerId,
    why: OfflineReason,
    reason: String,
    action: Option<&str>,
) -> Result<(), Stop> {
    let mut worker = draft.need_worker(id)?;
    let (status, message) = match why {
        OfflineReason::Left => (ConnectorStatus::Offline, None),
        OfflineReason::Silent => {
            (ConnectorStatus::Unknown, Some("the worker is silent".to_owned()))
        }
    };
    for connector in worker.connector_ids().collect::<Vec<_>>() {
        if let Some(mut connector) = draft.connector(&connector)? {
            connector.reported = status;
            connector.error_message.clone_from(&message);
            draft.put_connector(connector);
        }
    }
    worker.presence = Presence::Offline { why };
    worker.stopping = None;
    (worker.reason, worker.action) = (Some(reason), action.map(str::to_owned));
    draft.put_worker(EventName::WorkerDisconnected, worker);
    Ok(())
}

/// A bare worker's machine leaves with its last worker.
fn offline_with_last_worker(
    draft: &mut Draft<'_>,
    id: &MachineId,
    leaving: &WorkerId,
    reason: &str,
) -> Result<(), Stop> {
    let Some(machine) = draft.machine(id)?.filter(|m| m.incarnation.is_none()) else {
        return Ok(());
    };
    let Some(Value::WorkersOf(workers)) = draft.get(&Key::WorkersOf(id.clone()))? else {
        return Ok(());
    };
    for other in workers.iter().filter(|other| *other != leaving) {
        if draft.worker(other)?.is_some_and(|worker| !worker.is_offline()) {
            return Ok(());
        }
    }
    let reason = Some(reason.to_owned());
    let machine = Machine { status: MachineStatus::Offline, reason, action: None, ..machine };
    draft.put_machine(EventName::MachineStateChanged, machine)?;
    Ok(())
}
