//! Claims: whether a worker may take a job, and what taking it changes. Which job it takes is the
//! store's choice (the best head among the classes the worker can serve).

use std::collections::{HashMap, HashSet};

use super::{Rejected, Stop, draft::Draft, limits};
use crate::{
    command::{Claim, Exchange, Held},
    event::EventName,
    ids::{ConnectorId, JobId, ServiceName, Token},
    record::{Assignment, ConnectorStatus, Job, JobState, Worker},
    time::Timestamp,
};

/// Whether the worker takes jobs at all now. A suspect worker takes none for a while, and then
/// one at a time until one completes.
pub fn accepts(worker: &Worker, now: Timestamp) -> bool {
    let proven = match worker.suspect_until {
        Some(until) => until.is_over(now, limits::SUSPECT_FOR) && worker.current_job_ids.is_empty(),
        None => true,
    };
    !worker.is_offline() && !worker.orders.drain && !worker.is_stopping() && proven
}

/// Slots of `service` that hold no job; none while its connector reports a fault.
pub fn free_slots(
    worker: &Worker,
    service: &ServiceName,
    connector: &crate::record::Connector,
) -> u32 {
    let able = matches!(
        connector.status,
        ConnectorStatus::Idle | ConnectorStatus::Active | ConnectorStatus::Unknown
    );
    if !able {
        return 0;
    }
    let busy = u32::try_from(connector.job_ids.len()).unwrap_or(u32::MAX);
    worker.slots(service).saturating_sub(busy)
}

pub(super) fn claim(
    draft: &mut Draft<'_>,
    exchange: &Exchange,
    claim: &Claim,
    choose: &mut dyn FnMut(&Worker, &[ServiceName]) -> Option<JobId>,
    claimed: &mut Vec<Held>,
) -> Result<(), Stop> {
    let mut tokens = Vec::with_capacity(claim.tokens.len());
    let worker = draft.need_worker(&exchange.worker)?;
    let has = held_by_token(draft, &worker)?;
    let mut bytes = 0;
    let mut seen = HashSet::with_capacity(claim.tokens.len());
    for &token in &claim.tokens {
        // A token that has a job already: the answer to its claim was lost. Two jobs with one token
        // would have one fence, and one id at their service.
        match (has.get(&token), seen.insert(token)) {
            (Some((held, payload_bytes)), is_new) => {
                claimed.push(*held);
                bytes += if is_new { *payload_bytes } else { 0 };
            }
            (None, true) => tokens.push(token),
            (None, false) => {}
        }
    }
    if !tokens.is_empty() {
        claim.services.iter().try_for_each(|service| check_registered(&worker, service))?;
    }
    for token in tokens {
        if bytes >= limits::CLAIM_BYTES {
            return Ok(());
        }
        let worker = draft.need_worker(&exchange.worker)?;
        if !accepts(&worker, draft.now) {
            return Ok(());
        }
        let services = open_services(draft, &worker, claim)?;
        if services.is_empty() {
            return Ok(());
        }
        // What this exchange's operations took from the queue is still there for the choice.
        let job = loop {
            let Some(chosen) = choose(&worker, &services) else { return Ok(()) };
            if let Some(job) = draft.job(chosen)?.filter(|job| job.is_waiting()) {
                break job;
            }
        };
        bytes += job.spec.payload_bytes;
        claimed.push(assign(draft, job.id, worker, token)?);
    }
    Ok(())
}

/// A worker speaks of services that it registered, and of no others.
pub(super) fn check_registered(worker: &Worker, service: &ServiceName) -> Result<(), Rejected> {
    let registered = || worker.services.iter().map(|slots| &slots.name);
    match registered().any(|name| name == service) {
        true => Ok(()),
        false => Err(Rejected::ServiceNotRegistered {
            service: service.clone(),
            registered: registered().cloned().collect(),
        }),
    }
}

/// What the worker holds by its tokens, and how many bytes the payload of each has.
fn held_by_token(draft: &Draft<'_>, worker: &Worker) -> Result<HashMap<Token, (Held, u64)>, Stop> {
    let mut has = HashMap::with_capacity(worker.current_job_ids.len());
    for &id in &worker.current_job_ids {
        if let Some(job) = draft.job(id)?
            && let Some(token) = job.token
        {
            let held = Held { job: id, attempt: job.attempt, token };
            has.entry(token).or_insert((held, job.spec.payload_bytes));
        }
    }
    Ok(has)
}

fn open_services(
    draft: &Draft<'_>,
    worker: &Worker,
    claim: &Claim,
) -> Result<Vec<ServiceName>, Stop> {
    let mut open = Vec::new();
    for slots in &worker.services {
        let wanted = claim.services.is_empty() || claim.services.contains(&slots.name);
        let id = ConnectorId::new(worker.id.clone(), slots.name.clone());
        let connector = if wanted { draft.connector(&id)? } else { None };
        if connector.is_some_and(|c| free_slots(worker, &slots.name, &c) > 0) {
            open.push(slots.name.clone());
        }
    }
    Ok(open)
}

/// Every claim raises the attempt, which never goes back, and sets the token.
fn assign(draft: &mut Draft<'_>, id: JobId, worker: Worker, token: Token) -> Result<Held, Stop> {
    let job = draft.need_job(id)?;
    if !job.is_waiting() {
        return Err(Rejected::NotDue.into());
    }
    let held = Held { job: id, attempt: job.attempt + 1, token };
    give(draft, job, worker, held)?;
    Ok(held)
}

/// Gives a job that nobody has to the worker, under this attempt and token.
pub(super) fn give(
    draft: &mut Draft<'_>,
    mut job: Job,
    mut worker: Worker,
    held: Held,
) -> Result<(), Stop> {
    job.attempt = held.attempt;
    job.token = Some(held.token);
    job.state = JobState::Assigned(Assignment {
        worker_id: worker.id.clone(),
        machine_id: worker.machine_id.clone(),
        incarnation: worker.incarnation,
        assigned_at: draft.now,
    });
    let connector_id = ConnectorId::new(worker.id.clone(), job.service().clone());
    draft.put_job(EventName::JobAssigned, job);
    worker.current_job_ids.insert(held.job);
    draft.put_worker(EventName::WorkerStatusChanged, worker);
    if let Some(mut connector) = draft.connector(&connector_id)? {
        connector.job_ids.insert(held.job);
        draft.put_connector(connector);
    }
    Ok(())
}
