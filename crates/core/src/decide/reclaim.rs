//! Taking a job back that the store gave out and then lost: after a fail-over or a restore it is as
//! it was a while before, in a new epoch, and the claims given out since are unknown to it.
//!
//! Architecture invariant: within one unbroken epoch nothing can be reclaimed. A claim sets the
//! job's attempt to its own, and the attempt never goes back; so whatever attempt was given out is
//! at most the job's, and only a store that lost the claim can meet a higher one.

use super::{
    Rejected, Stop,
    attempt::{stale, start},
    claim::give,
    draft::Draft,
    ending, limits,
};
use crate::{
    command::{AttemptOp, Exchange, Held, OpAnswer},
    record::Job,
};

/// Gives the job back to an attempt that is not the one the store knows. An attempt that was given
/// out since is overtaken. A worker may then have more jobs than slots: it runs them already.
pub(super) fn reclaim(
    draft: &mut Draft<'_>,
    mut job: Job,
    exchange: &Exchange,
    op: &AttemptOp,
    started: bool,
) -> Result<OpAnswer, Stop> {
    check(&job, op)?;
    let held = Held { job: op.job, attempt: op.attempt, token: op.token };
    ending::overtake(draft, &mut job)?;
    let worker = draft.need_worker(&exchange.worker)?;
    give(draft, job, worker, held)?;
    if started {
        let job = draft.need_job(op.job)?;
        start(draft, job);
    }
    Ok(OpAnswer::Reclaimed)
}

/// Whether an operation was refused because the store lost its attempt.
pub(super) fn is_due(exchange: &Exchange, answers: &[Result<OpAnswer, Rejected>]) -> bool {
    let is_lost = |op: &AttemptOp, answer: &Result<OpAnswer, Rejected>| matches!(answer, Err(Rejected::StaleAttempt { current, .. }) if op.attempt > *current);
    exchange.ops.iter().zip(answers).any(|(op, answer)| is_lost(op, answer))
}

fn check(job: &Job, op: &AttemptOp) -> Result<(), Stop> {
    if job.is_ended() {
        return Err(Rejected::AlreadyEnded { job: job.id, status: job.status() }.into());
    }
    let seen = job.token == Some(op.token) || job.past.iter().any(|past| past.token == op.token);
    if op.attempt <= job.attempt || seen || job.cancel_requested_at.is_some() {
        return Err(stale(job));
    }
    let most = job.attempt.saturating_add(limits::LOST_ATTEMPTS);
    if op.attempt > most {
        let message = format!("attempt {} was never given out: {most} is the most", op.attempt);
        return Err(Rejected::Invalid(message).into());
    }
    Ok(())
}
