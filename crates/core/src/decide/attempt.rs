//! A worker's writes about its attempts, each compared with both halves of the fence.

use std::sync::Arc;

use super::{
    KeptResult, Rejected, Side, Stop,
    draft::Draft,
    ending::{self, Verdict},
    reclaim::reclaim,
    worker::ensure_machine,
};
use crate::{
    bounds::MAX_ARTIFACTS,
    command::{AttemptOp, Exchange, Finish, Op, OpAnswer, Outcome},
    event::EventName,
    failure::LossReason,
    ids::{Incarnation, WorkerId},
    record::{
        Artifact, Ended, Job, JobState, JobStatus, PastOutcome, Presence, Progress, Running, Worker,
    },
};

/// Applies the operations of an exchange, each by itself; the claim is decided after them.
pub(super) fn exchange(
    draft: &mut Draft<'_>,
    exchange: &Exchange,
) -> Result<Vec<Result<OpAnswer, Rejected>>, Stop> {
    let worker = current_worker(draft, exchange)?;
    // A bare claim is no sign of life: a server repeats it for as long as the worker's call waits,
    // also when the worker is frozen or has just said goodbye. A renewal brings it back.
    if worker.is_offline() && !exchange.ops.is_empty() {
        come_back(draft, worker)?;
    }
    let mut ops = Vec::with_capacity(exchange.ops.len());
    for op in &exchange.ops {
        ops.push(match operate(draft, exchange, op) {
            Ok(answer) => Ok(answer),
            Err(Stop::Rejected(why)) => Err(why),
            Err(unread) => return Err(unread),
        });
    }
    Ok(ops)
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
/// A bare worker's machine comes back with it.
pub(super) fn come_back(draft: &mut Draft<'_>, worker: Worker) -> Result<(), Stop> {
    ensure_machine(draft, &worker.machine_id)?;
    draft.put_worker(EventName::WorkerStatusChanged, back(worker));
    Ok(())
}

pub(super) fn back(worker: Worker) -> Worker {
    Worker { presence: Presence::Ready, reason: None, action: None, ..worker }
}

fn operate(draft: &mut Draft<'_>, exchange: &Exchange, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    let job = draft.need_job(op.job)?;
    if let Op::Late(finish) = &op.op {
        return late(draft, job, exchange, op, finish);
    }
    match fence(&job, &exchange.worker, op) {
        Fence::Current => act(draft, adopt(job, exchange.incarnation), op),
        Fence::Over => repeat(&job, op),
        Fence::Stale => match op.op {
            Op::Reclaim { started } => reclaim(draft, job, exchange, op, started),
            _ => Err(stale(&job)),
        },
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

/// Tokens are shown in records, so having seen one is not enough: the attempt is its worker's.
fn fence(job: &Job, worker: &WorkerId, op: &AttemptOp) -> Fence {
    if job.attempt != op.attempt || job.token != Some(op.token) {
        return Fence::Stale;
    }
    match job.assignment() {
        Some(assignment) if assignment.worker_id == *worker => Fence::Current,
        Some(_) => Fence::Stale,
        None => Fence::Over,
    }
}

/// A new process of the worker that goes on with an attempt: from then on it is the one that has
/// the job.
pub(super) fn adopt(mut job: Job, by: Incarnation) -> Job {
    if let JobState::Assigned(assignment) | JobState::InProgress(Running { assignment, .. }) =
        &mut job.state
    {
        assignment.incarnation = by;
    }
    job
}

pub(super) fn stale(job: &Job) -> Stop {
    Rejected::StaleAttempt { job: job.id, current: job.attempt }.into()
}

fn act(draft: &mut Draft<'_>, job: Job, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    match &op.op {
        Op::Start => {
            start(draft, job);
            Ok(OpAnswer::Started)
        }
        // The store has its claim; what it may have lost is its start.
        Op::Reclaim { started } => {
            if *started {
                start(draft, job);
            }
            Ok(OpAnswer::Reclaimed)
        }
        Op::Finish(finish) => self::finish(draft, job, op, finish),
        Op::Release { reason, message } => {
            let reason = cost_of(*reason, job.started_at().is_some());
            let status = ending::give_back(draft, job, reason, message)?;
            Ok(OpAnswer::Settled { status })
        }
        Op::Late(_) => Err(stale(&job)),
    }
}

/// "Unstarted" costs nothing, so it is taken only from an attempt that never started.
fn cost_of(reason: LossReason, started: bool) -> LossReason {
    match reason {
        LossReason::Unstarted if started => LossReason::ServiceLost,
        reason => reason,
    }
}

pub(super) fn start(draft: &mut Draft<'_>, mut job: Job) {
    if let JobState::Assigned(assignment) = job.state {
        job.state = JobState::InProgress(Running { assignment, started_at: draft.now });
        draft.put_job(EventName::JobStarted, job);
    }
}

fn finish(
    draft: &mut Draft<'_>,
    mut job: Job,
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
    job.result_bytes += keep_result(draft, op, finish, false);
    let status = ending::conclude(draft, job, verdict, last_progress(op, finish))?;
    Ok(OpAnswer::Settled { status })
}

/// It is of the attempt that hands it in, whatever it says.
fn last_progress(op: &AttemptOp, finish: &Finish) -> Option<Progress> {
    finish.last_progress.clone().map(|progress| Progress { attempt: op.attempt, ..progress })
}

/// Keeps what was handed in, beside the record; answers its bytes.
fn keep_result(draft: &mut Draft<'_>, op: &AttemptOp, finish: &Finish, late: bool) -> u64 {
    let Outcome::Completed { result: Some(result), .. } = &finish.outcome else { return 0 };
    let json: Arc<[u8]> = result.to_string().into_bytes().into();
    let bytes = json.len() as u64;
    let result = KeptResult { attempt: op.attempt, token: op.token, late, json };
    draft.side(Side::Result { job: op.job, result });
    bytes
}

/// A repeat after a lost answer gets the first answer again. It is known by attempt, token and outcome;
/// what else it says is not looked at. Anything else is stale.
fn repeat(job: &Job, op: &AttemptOp) -> Result<OpAnswer, Stop> {
    let last = job.past.last();
    let past = last.filter(|past| past.attempt == op.attempt && past.token == op.token);
    let last = past.map(|past| &past.outcome);
    let handed_in = job.ended().is_some_and(|ended| ended.handed_in);
    // What it did before it was over by its own word.
    if handed_in || matches!(last, Some(PastOutcome::Failed { .. })) {
        let started = past.map_or(job.started_at(), |past| past.started_at);
        match op.op {
            Op::Start if started.is_some() => return Ok(OpAnswer::Started),
            Op::Reclaim { started: as_started } if started.is_some() || !as_started => {
                return Ok(OpAnswer::Reclaimed);
            }
            _ => {}
        }
    }
    let settled = OpAnswer::Settled { status: job.status() };
    let same = match (&op.op, last) {
        (Op::Release { reason, .. }, Some(PastOutcome::Returned { reason: first, .. })) => {
            *first == cost_of(*reason, past.is_some_and(|past| past.started_at.is_some()))
        }
        (Op::Finish(finish), Some(PastOutcome::Failed { .. })) => {
            matches!(finish.outcome, Outcome::Failed { .. })
        }
        (Op::Finish(finish), None | Some(PastOutcome::EndedRun { .. })) => {
            handed_in
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
    exchange: &Exchange,
    op: &AttemptOp,
    finish: &Finish,
) -> Result<OpAnswer, Stop> {
    let Outcome::Completed { artifacts, cached, .. } = &finish.outcome else {
        return Err(Rejected::Invalid("only a completed result can be late".into()).into());
    };
    match fence(&job, &exchange.worker, op) {
        Fence::Current => {
            return self::finish(draft, adopt(job, exchange.incarnation), op, finish);
        }
        Fence::Over if completed_itself(&job) => {
            return Ok(OpAnswer::LateKept { won: true });
        }
        Fence::Over => ending::remember_ended(&mut job),
        Fence::Stale => {}
    }
    let open = !job.is_ended() && job.cancel_requested_at.is_none();
    let known = job.past.iter_mut().find(|past| {
        past.attempt == op.attempt && past.token == op.token && past.worker_id == exchange.worker
    });
    let Some(past) = known else {
        return Err(Rejected::UnknownAttempt(job.id).into());
    };
    let wins = past.run == job.run && open;
    // What it handed in in time is there, also where the job was retried since.
    let in_time = past.outcome == PastOutcome::EndedRun { status: JobStatus::Completed };
    if in_time || past.late {
        return Ok(OpAnswer::LateKept { won: in_time || past.late_won });
    }
    past.late = true;
    past.late_won = wins;
    let past = past.clone();
    job.late_results += 1;
    job.result_bytes += keep_result(draft, op, finish, true);
    if wins {
        let ended = Ended {
            artifacts: artifacts.clone(),
            cached: *cached,
            last_progress: last_progress(op, finish),
            ..Ended::default()
        };
        ending::late_win(draft, job, &past, ended)?;
    } else {
        list_late_files(&mut job, op, artifacts);
        draft.put_job(EventName::JobLateResult, job);
    }
    Ok(OpAnswer::LateKept { won: wins })
}

/// Lists the files of a late result with its attempt; there may be more than the record has room for.
fn list_late_files(job: &mut Job, op: &AttemptOp, artifacts: &[Artifact]) {
    let mut room = MAX_ARTIFACTS;
    for past in job.past.iter_mut().rev() {
        if past.attempt == op.attempt && past.token == op.token {
            past.late_artifacts = artifacts.to_vec();
        }
        match room.checked_sub(past.late_artifacts.len()) {
            Some(left) => room = left,
            None => past.late_artifacts.clear(),
        }
    }
}

/// Whether the last attempt itself completed the job: then its result is there already.
fn completed_itself(job: &Job) -> bool {
    job.status() == JobStatus::Completed && job.ended().is_some_and(|ended| ended.handed_in)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        ids::{JobId, Token},
        record::{ArtifactType, JobSpec, PastAttempt},
        time::Timestamp,
    };

    #[test]
    fn a_record_lists_the_late_files_of_its_newest_attempts_up_to_a_limit() {
        let token = |n: u32| Token::from_uuid(Uuid::from_u128(n.into()));
        let past = |attempt| PastAttempt {
            run: 1,
            attempt,
            token: token(attempt),
            worker_id: "w".parse().unwrap(),
            machine_id: None,
            assigned_at: Timestamp::default(),
            started_at: None,
            ended_at: Timestamp::default(),
            outcome: PastOutcome::Overtaken,
            late: true,
            late_won: false,
            late_artifacts: Vec::new(),
        };
        let spec = JobSpec::new("simulation".parse().unwrap(), Timestamp::default());
        let mut job = Job::new(JobId::from_uuid(Uuid::nil()), spec);
        job.past = (1..=3).map(past).collect();
        let file = Artifact {
            name: "a".into(),
            size: 1,
            media_type: "image/png".into(),
            sha256: String::new(),
            node: None,
            kind: ArtifactType::Output,
        };
        let mut hand_in = |attempt, files| {
            let finish = Finish { outcome: Outcome::Cancelled, last_progress: None };
            let (id, token) = (job.id, token(attempt));
            let op = AttemptOp { job: id, attempt, token, op: Op::Late(finish) };
            list_late_files(&mut job, &op, &vec![file.clone(); files]);
            job.past.iter().map(|past| past.late_artifacts.len()).collect::<Vec<_>>()
        };
        assert_eq!(hand_in(1, 600), [600, 0, 0]);
        assert_eq!(hand_in(3, 400), [600, 0, 400]);
        assert_eq!(hand_in(2, 300), [0, 300, 400]);
        assert_eq!(hand_in(3, MAX_ARTIFACTS), [0, 0, MAX_ARTIFACTS]);
    }
}
