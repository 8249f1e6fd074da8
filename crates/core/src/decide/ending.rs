//! How attempts end, and what that means for the job and its worker. A job ends once a run:
//! completed, failed or cancelled.

use std::time::Duration;

use super::{Stop, draft::Draft, limits};
use crate::{
    bounds::{self, MAX_MESSAGE},
    event::EventName,
    failure::{Failure, FailureKind, LossReason},
    ids::{ConnectorId, JobId, WorkerId},
    record::{
        Alert, AlertId, AlertRule, Artifact, Assignment, Ended, Exclusion, Extra, Hold, HoldReason,
        Job, JobState, JobStatus, PastAttempt, PastOutcome, Progress, Severity,
    },
};

/// What an attempt says of itself.
pub(super) enum Verdict {
    Completed { artifacts: Vec<Artifact>, cached: bool },
    Failed(Failure),
    Cancelled,
}

/// Ends the current attempt by its own word.
pub(super) fn conclude(
    draft: &mut Draft<'_>,
    job: Job,
    verdict: Verdict,
    last_progress: Option<Progress>,
) -> Result<JobStatus, Stop> {
    let mut ended = ended_now(draft, &job);
    ended.handed_in = true;
    ended.last_progress = last_progress.map(|progress| progress.of_run_since(ended.started_at));
    match verdict {
        Verdict::Completed { artifacts, cached } => {
            let state = JobState::Completed(Ended { artifacts, cached, ..ended });
            end(draft, job, state, EventName::JobCompleted)
        }
        Verdict::Cancelled => end(draft, job, JobState::Cancelled(ended), EventName::JobCancelled),
        Verdict::Failed(_) if job.cancel_requested_at.is_some() => {
            end(draft, job, JobState::Cancelled(ended), EventName::JobCancelled)
        }
        Verdict::Failed(failure) => fail(draft, job, failure, ended),
    }
}

/// A late result, with which the job has `ended`, ends it; an attempt that runs now is fenced off by that.
pub(super) fn late_win(
    draft: &mut Draft<'_>,
    mut job: Job,
    winner: &PastAttempt,
    ended: Ended,
) -> Result<JobStatus, Stop> {
    remember(draft, &mut job, PastOutcome::Overtaken);
    draft.change_worker(&winner.worker_id, |worker| worker.jobs_completed += 1)?;
    let ended = Ended {
        at: draft.now,
        worker_id: Some(winner.worker_id.clone()),
        machine_id: winner.machine_id.clone(),
        assigned_at: Some(winner.assigned_at),
        started_at: winner.started_at,
        ..ended
    };
    end(draft, job, JobState::Completed(ended), EventName::JobCompleted)
}

/// Ends a job that no attempt has, or whose attempt is over.
pub(super) fn cancel(draft: &mut Draft<'_>, job: Job) -> Result<JobStatus, Stop> {
    let ended = ended_now(draft, &job);
    end(draft, job, JobState::Cancelled(ended), EventName::JobCancelled)
}

/// Gives the current attempt back. A job that is being cancelled never goes back to pending.
pub(super) fn give_back(
    draft: &mut Draft<'_>,
    mut job: Job,
    reason: LossReason,
    message: &str,
) -> Result<JobStatus, Stop> {
    let outcome = PastOutcome::Returned { reason, message: message.to_owned() };
    remember(draft, &mut job, outcome);
    if job.cancel_requested_at.is_some() {
        return cancel(draft, job);
    }
    if reason.counts() {
        job.losses += 1;
    }
    if job.losses > job.spec.max_losses {
        let failure = lost(&job, reason, message);
        let ended = ended_now(draft, &job);
        return end(draft, job, JobState::Failed(ended, failure), EventName::JobFailed);
    }
    let suspicious = reason.is_suspicious();
    let suspicion = if suspicious { Suspicion::Raised } else { Suspicion::None };
    detach(draft, &job, suspicion)?;
    let before = broken(&job).saturating_sub(1);
    let hold = (suspicious && before > 0).then(|| held_for(draft, limits::LOST_AGAIN, before));
    Ok(requeue(draft, job, hold))
}

/// Takes the job from its attempt for a reason that is neither's: no loss is counted.
pub(super) fn take_away(
    draft: &mut Draft<'_>,
    mut job: Job,
    message: &str,
) -> Result<JobStatus, Stop> {
    let reason = LossReason::Drained;
    remember(draft, &mut job, PastOutcome::Returned { reason, message: message.to_owned() });
    if job.cancel_requested_at.is_some() {
        return cancel(draft, job);
    }
    detach(draft, &job, Suspicion::None)?;
    Ok(requeue(draft, job, None))
}

fn requeue(draft: &mut Draft<'_>, mut job: Job, hold: Option<Hold>) -> JobStatus {
    job.state = JobState::Pending { hold };
    draft.put_job(EventName::JobReturned, job);
    JobStatus::Pending
}

/// Takes the job off the attempt that runs, if one does, for another attempt that has it.
pub(super) fn overtake(draft: &mut Draft<'_>, job: &mut Job) -> Result<(), Stop> {
    remember(draft, job, PastOutcome::Overtaken);
    detach(draft, job, Suspicion::None)
}

fn lost(job: &Job, reason: LossReason, why: &str) -> Failure {
    let mut message = format!(
        "lost {} times, which is more than max_losses ({}); the last time: {}",
        job.losses,
        job.spec.max_losses,
        reason.as_str()
    );
    if !why.is_empty() {
        message.push_str(&format!(" ({why})"));
    }
    let losers = || job.past.iter().filter(|past| past.run == job.run);
    // It may say what the losses do not.
    let failure = losers().rev().find_map(|past| match &past.outcome {
        PastOutcome::Failed { failure } => Some(failure),
        _ => None,
    });
    if let Some(Failure { code, message: why, .. }) = failure {
        message.push_str(&format!("; it failed, too: {code} ({why})"));
    }
    bounds::cut(&mut message, MAX_MESSAGE);
    let workers = losers().map(|past| past.worker_id.clone()).collect();
    Failure { workers, ..Failure::new(FailureKind::Lost, reason.as_str(), message) }
}

fn fail(
    draft: &mut Draft<'_>,
    mut job: Job,
    failure: Failure,
    ended: Ended,
) -> Result<JobStatus, Stop> {
    job.failures += 1;
    let last = failure.kind == FailureKind::BadJob || job.failures >= job.spec.max_failures;
    if last {
        return end(draft, job, JobState::Failed(ended, failure), EventName::JobFailed);
    }
    let wrong_worker = failure.kind == FailureKind::WrongWorker;
    let hold = (!wrong_worker).then(|| held_for(draft, limits::BACKOFF_FIRST, job.failures));
    if let (Some(span), Some(assignment)) = (exclusion(failure.kind), job.assignment().cloned()) {
        let ready_at = hold.and_then(|hold| hold.until).unwrap_or(draft.now);
        exclude(&mut job, assignment.worker_id, ready_at + span);
    }
    let suspicious = failure.kind.is_suspicious();
    remember(draft, &mut job, PastOutcome::Failed { failure });
    let suspicion = if suspicious { Suspicion::Raised } else { Suspicion::None };
    detach(draft, &job, suspicion)?;
    Ok(requeue(draft, job, hold))
}

/// How long the worker of an attempt that failed so does not get the job again; not at all where that
/// says nothing of what another would make of it.
fn exclusion(kind: FailureKind) -> Option<Duration> {
    match kind {
        FailureKind::WrongWorker => Some(limits::EXCLUSION),
        FailureKind::ServiceFault => Some(limits::EXCLUSION_AFTER_FAULT),
        FailureKind::BadJob | FailureKind::Timeout | FailureKind::Lost | FailureKind::Cancelled => {
            None
        }
    }
}

/// Attempts of this run that broke off in a way that may be the job's own doing.
fn broken(job: &Job) -> u32 {
    let broke = |past: &&PastAttempt| match &past.outcome {
        PastOutcome::Failed { failure } => failure.kind.is_suspicious(),
        PastOutcome::Returned { reason, .. } => reason.is_suspicious(),
        PastOutcome::EndedRun { .. } | PastOutcome::Overtaken => false,
    };
    let broken = job.past.iter().filter(|past| past.run == job.run).filter(broke).count();
    u32::try_from(broken).unwrap_or(u32::MAX)
}

fn held_for(draft: &Draft<'_>, first: Duration, times: u32) -> Hold {
    Hold { reason: HoldReason::Backoff, until: Some(draft.now + backoff(first, times)) }
}

/// `first` the first time, doubling to a minute.
pub(super) fn backoff(first: Duration, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    (first * 2u32.pow(doublings)).min(limits::BACKOFF_MAX)
}

fn exclude(job: &mut Job, worker_id: WorkerId, until: crate::Timestamp) {
    job.exclusions.retain(|e| e.worker_id != worker_id);
    job.exclusions.push(Exclusion { worker_id, until });
}

fn ended_now(draft: &Draft<'_>, job: &Job) -> Ended {
    let assignment = job.assignment();
    Ended {
        at: draft.now,
        worker_id: assignment.map(|a| a.worker_id.clone()),
        machine_id: assignment.map(|a| a.machine_id.clone()),
        assigned_at: assignment.map(|a| a.assigned_at),
        started_at: job.started_at(),
        ..Ended::default()
    }
}

/// Keeps the attempt that is over among the job's earlier ones.
fn remember(draft: &Draft<'_>, job: &mut Job, outcome: PastOutcome) {
    let (Some(assignment), Some(token)) = (job.assignment().cloned(), job.token) else { return };
    let past = PastAttempt {
        run: job.run,
        attempt: job.attempt,
        token,
        worker_id: assignment.worker_id,
        machine_id: Some(assignment.machine_id),
        assigned_at: assignment.assigned_at,
        started_at: job.started_at(),
        ended_at: draft.now,
        outcome,
        late: false,
        late_won: false,
        late_artifacts: Vec::new(),
    };
    keep_past(job, past);
}

/// Keeps the attempt that ended the run among the job's earlier ones, unless it is there.
pub(super) fn remember_ended(job: &mut Job) {
    let status = job.status();
    let (Some(ended), Some(token)) = (job.ended().cloned(), job.token) else { return };
    let Some(worker_id) = ended.worker_id else { return };
    // A token alone names no attempt: one that was given back may be asked with again.
    if job.past.iter().any(|past| past.attempt == job.attempt && past.token == token) {
        return;
    }
    let past = PastAttempt {
        run: job.run,
        attempt: job.attempt,
        token,
        worker_id,
        machine_id: ended.machine_id,
        assigned_at: ended.assigned_at.unwrap_or(ended.at),
        started_at: ended.started_at,
        ended_at: ended.at,
        outcome: PastOutcome::EndedRun { status },
        late: false,
        late_won: false,
        late_artifacts: Vec::new(),
    };
    keep_past(job, past);
}

/// The oldest makes room, but never the one whose late result ended this run: the job's files lie
/// under its token.
fn keep_past(job: &mut Job, past: PastAttempt) {
    let run = job.run;
    if job.past.len() >= Job::MAX_PAST
        && let Some(oldest) = job.past.iter().position(|past| !(past.late_won && past.run == run))
    {
        job.past.remove(oldest);
    }
    job.past.push(past);
}

fn end(
    draft: &mut Draft<'_>,
    mut job: Job,
    state: JobState,
    name: EventName,
) -> Result<JobStatus, Stop> {
    let suspicion = match &state {
        JobState::Completed(_) => Suspicion::Cleared,
        JobState::Failed(_, failure) if !failure.kind.is_suspicious() => Suspicion::Failed,
        // Drained more often than it may be lost: that speaks against nobody.
        JobState::Failed(_, failure)
            if failure.kind == FailureKind::Lost && !job.last_loss_is_suspicious() =>
        {
            Suspicion::Failed
        }
        JobState::Failed(..) => Suspicion::RaisedAndFailed,
        _ => Suspicion::None,
    };
    // A fenced attempt that a late result overtook says nothing about its worker.
    let overtaken = matches!(&state, JobState::Completed(ended) if !ended.handed_in);
    detach(draft, &job, if overtaken { Suspicion::None } else { suspicion })?;
    job.exclusions.clear();
    job.state = state;
    let status = job.status();
    draft.put_job(name, job);
    Ok(status)
}

/// What an attempt's end says about its worker.
#[derive(Clone, Copy, PartialEq)]
enum Suspicion {
    None,
    Cleared,
    Failed,
    Raised,
    RaisedAndFailed,
}

/// Takes the job off its worker and connector.
fn detach(draft: &mut Draft<'_>, job: &Job, suspicion: Suspicion) -> Result<(), Stop> {
    let Some(assignment) = job.assignment().cloned() else { return Ok(()) };
    let Assignment { worker_id, assigned_at, .. } = assignment;
    let connector = ConnectorId::new(worker_id.clone(), job.service().clone());
    draft.change_connector(&connector, |connector| {
        connector.job_ids.remove(&job.id);
    })?;
    let mut was_suspect = false;
    draft.change_worker(&worker_id, |worker| {
        worker.current_job_ids.remove(&job.id);
        match suspicion {
            Suspicion::Cleared => worker.jobs_completed += 1,
            Suspicion::Failed | Suspicion::RaisedAndFailed => worker.jobs_failed += 1,
            Suspicion::None | Suspicion::Raised => {}
        }
        was_suspect = suspicion == Suspicion::Cleared && !worker.suspect_jobs.is_empty();
        if was_suspect {
            worker.suspect_jobs.clear();
            worker.suspect_until = None;
            worker.suspicion_at = None;
        }
    })?;
    if was_suspect {
        clear_suspect(draft, &worker_id)?;
    }
    if let Suspicion::Raised | Suspicion::RaisedAndFailed = suspicion
        && let Some(mut worker) = draft.worker(&worker_id)?
    {
        suspect(draft, &mut worker, job.id, assigned_at)?;
        draft.put_worker(EventName::WorkerStatusChanged, worker);
    }
    Ok(())
}

/// A worker that breaks several different jobs in a row takes none until proven. Jobs that it ran
/// while another broke are of the same incident (a process that died with all its slots full) and
/// do not count again.
fn suspect(
    draft: &mut Draft<'_>,
    worker: &mut crate::record::Worker,
    job: JobId,
    assigned_at: crate::Timestamp,
) -> Result<(), Stop> {
    if worker.suspicion_at.is_some_and(|last| assigned_at < last) {
        return Ok(());
    }
    worker.suspicion_at = Some(draft.now);
    if !worker.suspect_jobs.contains(&job) {
        worker.suspect_jobs.push(job);
    }
    if worker.suspect_jobs.len() < limits::SUSPECT_AFTER {
        return Ok(());
    }
    if worker.suspect_jobs.len() > Job::MAX_PAST {
        worker.suspect_jobs.remove(0);
    }
    worker.suspect_until = Some(draft.now + limits::SUSPECT_FOR);
    let id = suspect_alert(&worker.id);
    // It says each time how many they are by then.
    let message = format!(
        "{} broke {} different jobs in a row; after each it takes none for {} s, then one to prove \
         itself",
        worker.id,
        worker.suspect_jobs.len(),
        limits::SUSPECT_FOR.as_secs()
    );
    let alert = match draft.alert(&id)? {
        Some(raised) => Alert { message, ..Alert::clone(&raised) },
        None => Alert {
            rule: id.rule,
            subject: id.subject.clone(),
            id,
            rev: 0,
            severity: Severity::Critical,
            message,
            action: "look at the machine's services; drain or restart the worker".into(),
            raised_at: draft.now,
            extra: Extra::new(),
        },
    };
    draft.put_alert(alert);
    Ok(())
}

pub(super) fn suspect_alert(worker: &WorkerId) -> AlertId {
    AlertId { rule: AlertRule::SuspectWorker, subject: worker.to_string() }
}

fn clear_suspect(draft: &mut Draft<'_>, worker: &WorkerId) -> Result<(), Stop> {
    let id = suspect_alert(worker);
    if draft.alert(&id)?.is_some() {
        draft.remove(EventName::AlertCleared, crate::event::RecordKey::Alert(id));
    }
    Ok(())
}
