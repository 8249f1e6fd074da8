//! What people ask for: cancel, retry, orders, alerts.

use super::{Key, Rejected, Stop, Value, draft::Draft, ending};
use crate::{
    command::{Answer, Raise},
    event::{EventName, RecordKey},
    ids::{JobId, MachineId, WorkerId},
    record::{Alert, AlertId, Extra, JobState, Machine, Orders},
};

pub(super) fn cancel(draft: &mut Draft<'_>, id: JobId) -> Result<Answer, Stop> {
    let mut job = draft.need_job(id)?;
    if job.is_ended() {
        // Asking twice to cancel is one wish; asking to cancel what ended otherwise is too late.
        return match job.state {
            JobState::Cancelled(_) => Ok(Answer::Job(id)),
            _ => Err(Rejected::AlreadyEnded { job: id, status: job.status() }.into()),
        };
    }
    if job.cancel_requested_at.is_some() {
        return Ok(Answer::Job(id));
    }
    job.cancel_requested_at = Some(draft.now);
    if job.is_running() {
        draft.put_job(EventName::JobUpdated, job);
    } else {
        ending::cancel(draft, job)?;
    }
    Ok(Answer::Job(id))
}

/// A new run: the attempt goes on rising; failures, losses and exclusions start anew, and the job
/// takes a new place.
pub(super) fn retry(draft: &mut Draft<'_>, id: JobId, run: Option<u32>) -> Result<Answer, Stop> {
    let mut job = draft.need_job(id)?;
    match run {
        // It began already: an exact repeat.
        Some(run) if run == job.run && run > 1 => return Ok(Answer::Job(id)),
        Some(run) if run != job.run + 1 => {
            let (now, next) = (job.run, job.run + 1);
            let why = format!(
                "a retry cannot begin run {run}: the job is at run {now}, and {next} is next"
            );
            return Err(Rejected::Invalid(why).into());
        }
        _ => {}
    }
    let status = job.status();
    if !job.is_ended() {
        return Err(Rejected::NotEnded { job: id, status }.into());
    }
    ending::remember_ended(&mut job);
    job.run += 1;
    job.failures = 0;
    job.losses = 0;
    job.cancel_requested_at = None;
    job.place = 0;
    job.queued_seq = 0;
    job.state = JobState::Pending { hold: None };
    draft.put_job(EventName::JobRetried, job);
    Ok(Answer::Job(id))
}

pub(super) fn orders(draft: &mut Draft<'_>, id: &WorkerId, orders: Orders) -> Result<Answer, Stop> {
    let mut worker = draft.need_worker(id)?;
    let unsuspect = !orders.drain && worker.suspect_until.is_some();
    if worker.orders == orders && !unsuspect {
        return Ok(Answer::Done);
    }
    worker.orders = orders;
    if unsuspect {
        // "Resume" is the operator's word that the worker is well again.
        worker.suspect_until = None;
        worker.suspect_jobs.clear();
        let alert = ending::suspect_alert(id);
        if draft.alert(&alert)?.is_some() {
            draft.remove(EventName::AlertCleared, RecordKey::Alert(alert));
        }
    }
    draft.put_worker(EventName::WorkerStatusChanged, worker);
    Ok(Answer::Done)
}

/// The machine keeps the orders for the workers that register there later.
pub(super) fn machine_orders(
    draft: &mut Draft<'_>,
    id: &MachineId,
    orders: Orders,
) -> Result<Answer, Stop> {
    let machine = draft.need_machine(id)?;
    if machine.orders != orders {
        draft.put_machine(EventName::MachineStateChanged, Machine { orders, ..machine })?;
    }
    if let Some(Value::WorkersOf(workers)) = draft.get(&Key::WorkersOf(id.clone()))? {
        for worker in &workers {
            // One whose record is lost or broken keeps nobody from ordering the others.
            if draft.worker(worker)?.is_some() {
                self::orders(draft, worker, orders)?;
            }
        }
    }
    Ok(Answer::Done)
}

/// Raises an alert, or changes what it says; saying the same again changes nothing.
pub(super) fn raise(draft: &mut Draft<'_>, raise: &Raise) -> Result<Answer, Stop> {
    let before = draft.alert(&raise.alert)?;
    let same = before.as_ref().is_some_and(|alert| {
        alert.message == raise.message
            && alert.action == raise.action
            && alert.severity == raise.severity
    });
    if !same {
        draft.put_alert(Alert {
            id: raise.alert.clone(),
            rev: 0,
            rule: raise.alert.rule,
            severity: raise.severity,
            subject: raise.alert.subject.clone(),
            message: raise.message.clone(),
            action: raise.action.clone(),
            raised_at: before.map_or(draft.now, |alert| alert.raised_at),
            extra: Extra::new(),
        });
    }
    Ok(Answer::Done)
}

pub(super) fn clear(draft: &mut Draft<'_>, id: &AlertId) -> Result<Answer, Stop> {
    if draft.alert(id)?.is_some() {
        draft.remove(EventName::AlertCleared, RecordKey::Alert(id.clone()));
    }
    Ok(Answer::Done)
}
