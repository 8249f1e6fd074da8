//! A worker's writes about its attempts, each compared with both halves of the fence.

use super::{
    Rejected, Side, Stop,
    draft::Draft,
    ending::{self, Verdict},
};
use crate::{
    command::{Answer, AttemptOp, Exchange, Finish, Op, OpAnswer, Outcome},
    event::EventName,
    failure::LossReason,
    ids::Incarnation,
    record::{Job, JobState, JobStatus, PastOutcome, Presence, Running, Worker},
};

/// Applies the operations of an exchange, each by itself; the claim is decided after them.
pub(super) fn exchange(draft: &mut Draft<'_>, exchange: &Exchange) -> Result<Answer, Stop> {
    let worker = current_worker(draft, exchange)?;
    // A bare claim is no sign of life: a server repeats it for as long as the worker's call waits,
    // also when the worker is frozen or has just said goodbye. A renewal brings it back.
    if worker.is_offline() && !exchange.ops.is_empty() {
        come_back(draft, worker);
    }
    let mut ops = Vec::with_capacity(exchange.ops.len());
    for op in &exchange.ops {
        ops.push(match operate(draft, op) {
            Ok(answer) => Ok(answer),
            Err(Stop::Rejected(why)) => Err(why),
            Err(unread) => return Err(unread),
        });
    }
    Ok(Answer::Exchanged { ops, claimed: Vec::new() })
}

fn current_worker(draft: &Draft<'_>, exchange: &Exchange) -> Result<Worker, Stop> {
    let worker = draft.need_worker(&exchange.worker)?;
    check_incarnation(&worker, exchange.incarnation)?;
    Ok(worker)
}

/// Leases, heartbeats and reports belong to one incarnation; a superseded one is told so.
pub(super) fn check_incarnation(worker: &Worker, incarnation: Incarnation) -> Result<(), Rejected> {
    if worker.incarnation == incarnation { Ok(()) } else { Err(Rejected::Superseded(incarnation)) }
}

/// A worker that was declared silent is heard again: the end of silence is written, like silence.
pub(super) fn come_back(draft: &mut Draft<'_>, mut worker: Worker) {
    worker.presence = Presence::Ready;
    worker.reason = None;
    worker.action = None;
    draft.put_worker(EventName::WorkerStatusChanged, worker);
}

fn operate(draft: &mut Draft<'_>, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    let job = draft.need_job(op.job)?;
    if let Op::Late(finish) = &op.op {
        return late(draft, job, op, finish);
    }
    match fence(&job, op) {
        Fence::Current => act(draft, job, op),
        Fence::Over => repeat(&job, op),
        Fence::Stale => Err(stale(&job)),
    }
}

enum Fence {
    /// The attempt that has the job.
    Current,
    /// The job's last attempt, which is over.
    Over,
    /// Another attempt came after it, or it never was.
    Stale,
}

fn fence(job: &Job, op: &AttemptOp) -> Fence {
    if job.attempt != op.attempt || job.token != Some(op.token) {
        Fence::Stale
    } else if job.is_running() {
        Fence::Current
    } else {
        Fence::Over
    }
}

fn stale(job: &Job) -> Stop {
    Rejected::StaleAttempt { job: job.id, current: job.attempt }.into()
}

fn act(draft: &mut Draft<'_>, job: Job, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    match &op.op {
        Op::Start => Ok(start(draft, job)),
        Op::Finish(finish) => self::finish(draft, job, op, finish),
        Op::Release { reason, message } => {
            // "Unstarted" costs nothing, so it is taken only from an attempt that never started.
            let reason = match (reason, &job.state) {
                (LossReason::Unstarted, JobState::InProgress(_)) => LossReason::ServiceLost,
                (reason, _) => *reason,
            };
            let status = ending::give_back(draft, job, reason, message)?;
            Ok(OpAnswer::Settled { status })
        }
        Op::Late(_) => Err(stale(&job)),
    }
}

fn start(draft: &mut Draft<'_>, mut job: Job) -> OpAnswer {
    if let JobState::Assigned(assignment) = job.state {
        job.state = JobState::InProgress(Running { assignment, started_at: draft.now });
        draft.put_job(EventName::JobStarted, job);
    }
    OpAnswer::Started
}

fn finish(
    draft: &mut Draft<'_>,
    job: Job,
    op: &AttemptOp,
    finish: &Finish,
) -> Result<OpAnswer, Stop> {
    let verdict = match &finish.outcome {
        Outcome::Completed { artifacts, cached, .. } => {
            Verdict::Completed { artifacts: artifacts.clone(), cached: *cached }
        }
        Outcome::Cancelled if job.cancel_requested_at.is_none() => {
            return Err(Rejected::Invalid(
                "nobody asked to cancel this job: release it, or finish it as failed".into(),
            )
            .into());
        }
        Outcome::Cancelled => Verdict::Cancelled,
        Outcome::Failed { failure } => Verdict::Failed(failure.clone()),
    };
    keep_result(draft, op, finish, false);
    let status = ending::conclude(draft, job, verdict, finish.last_progress.clone())?;
    Ok(OpAnswer::Settled { status })
}

fn keep_result(draft: &mut Draft<'_>, op: &AttemptOp, finish: &Finish, late: bool) {
    if let Outcome::Completed { result: Some(result), .. } = &finish.outcome {
        let json = result.to_string().into_bytes().into();
        draft.side(Side::Result { job: op.job, attempt: op.attempt, token: op.token, late, json });
    }
}

/// An exact repeat after a lost answer gets the first answer again; anything else is stale.
fn repeat(job: &Job, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    let settled = OpAnswer::Settled { status: job.status() };
    let last = job.past.last().filter(|past| past.token == op.token).map(|past| &past.outcome);
    let same = match (&op.op, last) {
        (Op::Release { reason, .. }, Some(PastOutcome::Returned { reason: first, .. })) => {
            reason == first
        }
        (Op::Finish(finish), Some(PastOutcome::Failed { .. })) => {
            matches!(finish.outcome, Outcome::Failed { .. })
        }
        (Op::Finish(finish), None) => {
            job.ended().is_some_and(|ended| ended.handed_in)
                && matches!(
                    (&finish.outcome, job.status()),
                    (Outcome::Completed { .. }, JobStatus::Completed)
                        | (Outcome::Failed { .. }, JobStatus::Failed | JobStatus::Cancelled)
                        | (Outcome::Cancelled, JobStatus::Cancelled)
                )
        }
        _ => false,
    };
    if same {
        return Ok(settled);
    }
    match job.is_ended() {
        true => Err(Rejected::AlreadyEnded { job: job.id, status: job.status() }.into()),
        false => Err(stale(job)),
    }
}

/// A finished result from an attempt that had lost the job. It is always kept; it wins only while
/// that run has not ended and no cancel was asked for.
fn late(
    draft: &mut Draft<'_>,
    mut job: Job,
    op: &AttemptOp,
    finish: &Finish,
) -> Result<OpAnswer, Stop> {
    let Outcome::Completed { artifacts, cached, .. } = &finish.outcome else {
        return Err(Rejected::Invalid("only a completed result can be late".into()).into());
    };
    if let Fence::Current = fence(&job, op) {
        return self::finish(draft, job, op, finish);
    }
    let known = job.past.iter_mut().find(|p| p.attempt == op.attempt && p.token == op.token);
    let Some(past) = known else {
        return Err(Rejected::UnknownAttempt(job.id).into());
    };
    let wins = past.run == job.run && !job_is_over(&job.state) && job.cancel_requested_at.is_none();
    if past.late {
        return Ok(OpAnswer::LateKept { won: past.late_won });
    }
    past.late = true;
    past.late_won = wins;
    let worker_id = past.worker_id.clone();
    job.late_results += 1;
    keep_result(draft, op, finish, true);
    if wins {
        let verdict = Verdict::Completed { artifacts: artifacts.clone(), cached: *cached };
        ending::late_win(draft, job, worker_id, verdict, finish.last_progress.clone())?;
    } else {
        draft.put_job(EventName::JobLateResult, job);
    }
    Ok(OpAnswer::LateKept { won: wins })
}

fn job_is_over(state: &JobState) -> bool {
    matches!(state, JobState::Completed(_) | JobState::Failed(..) | JobState::Cancelled(_))
}
