//! Submission.

use std::sync::Arc;

use super::{GroupKey, KeptIdempotency, Key, Rejected, Side, Stop, Value, draft::Draft, limits};
use crate::{
    command::{Answer, IdempotencyKey, Submit},
    event::EventName,
    record::{Job, JobSpec},
};

pub(super) fn submit(draft: &mut Draft<'_>, submit: &Submit) -> Result<Answer, Stop> {
    if let Some(existing) = earlier(draft, submit)? {
        return Ok(existing);
    }
    let place = match GroupKey::of(&submit.spec) {
        Some(group) => match draft.get(&Key::GroupPlace(group))? {
            Some(Value::GroupPlace(place)) => place,
            _ => 0,
        },
        None => 0,
    };
    if let Some(idempotency) = &submit.idempotency {
        draft.side(Side::Idempotency {
            key: key_of(submit, &idempotency.key),
            kept: KeptIdempotency {
                job: submit.id,
                body: idempotency.body,
                until: draft.now + limits::IDEMPOTENCY,
            },
        });
    }
    draft.side(Side::Payload { job: submit.id, payload: submit.payload.clone() });
    let payload_bytes = submit.payload.len() as u64;
    let record_bytes = submit.spec.count_record_bytes();
    let spec = JobSpec { payload_bytes, record_bytes, ..submit.spec.clone() };
    let job = Job { place, ..Job::new(submit.id, spec) };
    draft.put_job(EventName::JobSubmitted, job);
    Ok(Answer::Submitted { id: submit.id, existing: None })
}

/// The job of an exact repeat: of the same id, or of the same idempotency key.
fn earlier(draft: &Draft<'_>, submit: &Submit) -> Result<Option<Answer>, Stop> {
    let existing = |job: Arc<Job>| Answer::Submitted { id: job.id, existing: Some(job) };
    if let Some(job) = draft.job(submit.id)? {
        return Ok(Some(existing(job)));
    }
    let Some(idempotency) = &submit.idempotency else { return Ok(None) };
    let key = Key::Idempotency(key_of(submit, &idempotency.key));
    let Some(Value::Idempotency { job, body }) = draft.get(&key)? else { return Ok(None) };
    if body != idempotency.body {
        return Err(Rejected::IdempotencyConflict(job).into());
    }
    match draft.job(job)? {
        Some(found) => Ok(Some(existing(found))),
        // Retention may be shorter than the key's time: still it is one job.
        None => Err(Rejected::JobGone(job).into()),
    }
}

fn key_of(submit: &Submit, key: &str) -> IdempotencyKey {
    IdempotencyKey { customer: submit.spec.customer_id.clone(), key: key.to_owned() }
}
