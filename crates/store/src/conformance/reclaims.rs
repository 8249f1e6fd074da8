//! What a store lost is taken back: after a fail-over or a restore it is as it was a while before,
//! and workers name attempts and tokens that it never gave out.

use pointsman_core::{
    Answer, Command, JobId, LossReason, Rejected,
    command::{Held, Op, OpAnswer},
    decide::limits,
    record::{ConnectorStatus, JobStatus, PastOutcome},
};

use super::{
    Open,
    fleet::{Fleet, Hand, completed, failed, late, spec},
};

const RUNNING: Op = Op::Reclaim { started: true };
const WAITING: Op = Op::Reclaim { started: false };

/// An attempt of the job that the store lost: it came `ahead` claims after the last one known.
async fn lost(fleet: &Fleet, job: JobId, ahead: u32) -> Held {
    let attempt = fleet.job(job).await.attempt + ahead;
    Held { job, attempt, token: fleet.token() }
}

async fn jobs_of(fleet: &Fleet, hand: &Hand) -> Vec<JobId> {
    let worker = fleet.worker_record(hand).await;
    let connector = fleet.connector_record(hand).await;
    assert_eq!(worker.current_job_ids, connector.job_ids);
    worker.current_job_ids.iter().copied().collect()
}

pub async fn a_lost_claim_is_reclaimed(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    for (op, status) in [(WAITING, JobStatus::Assigned), (RUNNING, JobStatus::InProgress)] {
        let held = lost(&fleet, fleet.submit(spec(50)).await, 2).await;
        assert_eq!(fleet.act(&hand, held, op.clone()).await, Ok(OpAnswer::Reclaimed));
        let job = fleet.job(held.job).await;
        assert_eq!((job.status(), job.attempt, job.token), (status, 2, Some(held.token)));
        assert_eq!(job.assignment().map(|a| &a.worker_id), Some(&hand.worker));
        assert_eq!(jobs_of(&fleet, &hand).await, [held.job]);
        let seq = fleet.seq().await;
        assert_eq!(fleet.act(&hand, held, op).await, Ok(OpAnswer::Reclaimed), "an exact repeat");
        assert_eq!(fleet.seq().await, seq);
        fleet.submit(spec(50)).await;
        assert_eq!(fleet.claim(&hand).await, None, "its one slot is taken");
        fleet.act(&hand, held, completed()).await.expect("the attempt is the job's");
        let next = fleet.claim(&hand).await.expect("the slot is free again");
        fleet.act(&hand, next, completed()).await.expect("accepted");
        fleet.check().await.expect("sound");
    }
}

pub async fn a_reclaimed_attempt_tells_its_story_and_has_a_lease(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = lost(&fleet, fleet.submit(spec(50)).await, 1).await;
    fleet.act(&hand, held, RUNNING).await.expect("accepted");
    let told = fleet.story(held.job).await;
    assert_eq!(told, ["job_submitted", "job_assigned", "job_started"]);
    let renewed = fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(renewed.lost, []);
    fleet.advance(limits::LEASE);
    fleet.reconcile(crate::Due::Leases).await;
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Pending);
}

pub async fn a_lost_start_is_told_again(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    let held = fleet.claim(&hand).await.expect("the job");
    assert_eq!(fleet.act(&hand, held, RUNNING).await, Ok(OpAnswer::Reclaimed));
    let job = fleet.job(held.job).await;
    assert_eq!((job.status(), job.attempt), (JobStatus::InProgress, held.attempt));
}

pub async fn a_job_on_hold_is_reclaimed(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let first = fleet.running(&hand).await;
    let fault = failed(pointsman_core::FailureKind::ServiceFault);
    fleet.act(&hand, first, fault).await.expect("accepted");
    let held = lost(&fleet, first.job, 1).await;
    fleet.act(&hand, held, RUNNING).await.expect("accepted");
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::InProgress);
    fleet.advance(limits::BACKOFF_MAX);
    fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.expect("heard");
    assert_eq!(fleet.reconcile(crate::Due::Holds).await, 0, "it is not held any more");
    fleet.check().await.expect("sound");
}

pub async fn an_attempt_given_out_since_is_overtaken(open: &Open) {
    let fleet = Fleet::new(open);
    let ghost = fleet.worker("ghost", 1, &[]).await;
    let other = fleet.worker("other", 1, &[]).await;
    let since = fleet.running(&other).await;
    let held = lost(&fleet, since.job, 1).await;
    assert_eq!(fleet.act(&ghost, held, RUNNING).await, Ok(OpAnswer::Reclaimed));
    let job = fleet.job(held.job).await;
    assert_eq!((job.attempt, job.token, job.losses), (held.attempt, Some(held.token), 0));
    let past = job.past.last().expect("the attempt that ran");
    assert_eq!((past.token, &past.outcome), (since.token, &PastOutcome::Overtaken));
    assert_eq!(jobs_of(&fleet, &other).await, []);
    assert_eq!(jobs_of(&fleet, &ghost).await, [held.job]);
    assert!(fleet.worker_record(&other).await.suspect_jobs.is_empty(), "nobody's fault");
    let stale = Rejected::StaleAttempt { job: held.job, current: held.attempt };
    assert_eq!(fleet.act(&other, since, completed()).await, Err(stale));
    let renewed = fleet.renew(&other, vec![since], ConnectorStatus::Idle).await.expect("heard");
    assert_eq!(renewed.lost, [since]);
    fleet.check().await.expect("sound");
}

pub async fn a_lost_result_is_handed_in_again(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = lost(&fleet, fleet.submit(spec(50)).await, 1).await;
    let ops = vec![Fleet::op(held, RUNNING), Fleet::op(held, completed())];
    let both = Command::Exchange(Fleet::exchange(&hand, ops, Vec::new()));
    let (first, _) = fleet.run(both.clone()).await.expect("accepted");
    let Answer::Exchanged { ops, .. } = &first else { panic!("{first:?}") };
    let settled = OpAnswer::Settled { status: JobStatus::Completed };
    assert_eq!(*ops, [Ok(OpAnswer::Reclaimed), Ok(settled)]);
    assert_eq!(fleet.run(both).await, Ok((first, None)), "an exact repeat");
    let result = fleet.store.result(held.job, Some(held.token)).await.expect("the store works");
    assert!(result.is_some());
    assert_eq!(fleet.worker_record(&hand).await.jobs_completed, 1);
    fleet.check().await.expect("sound");
}

/// A worker hands in again what it handed in lately, whatever became of the job since.
pub async fn a_result_that_was_taken_in_time_is_not_late_after_a_retry(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let first = fleet.running(&hand).await;
    fleet.act(&hand, first, completed()).await.expect("accepted");
    fleet.run(Command::Retry { job: first.job, run: None }).await.expect("accepted");
    let second = fleet.claim(&hand).await.expect("the job");
    for runs in [true, false] {
        let seq = fleet.seq().await;
        let stale = Rejected::StaleAttempt { job: first.job, current: second.attempt };
        fleet.act(&hand, first, RUNNING).await.expect_err("it is over");
        assert_eq!(fleet.act(&hand, first, completed()).await, Err(stale));
        let had = fleet.act(&hand, first, late()).await;
        assert_eq!(had, Ok(OpAnswer::LateKept { won: true }), "it ended its run");
        assert_eq!(fleet.seq().await, seq, "nothing changed");
        if runs {
            fleet.act(&hand, second, completed()).await.expect("the attempt is the job's");
        }
    }
    let job = fleet.job(first.job).await;
    assert_eq!((job.late_results, job.past.len(), job.past[0].late), (0, 1, false));
    fleet.check().await.expect("sound");
}

pub async fn a_claim_does_not_take_what_its_worker_is_about_to_reclaim(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = lost(&fleet, fleet.submit(spec(50)).await, 1).await;
    let finish = vec![Fleet::op(held, completed())];
    let exchange = Fleet::exchange(&hand, finish, vec![fleet.token()]);
    let (answer, group) = fleet.run(Command::Exchange(exchange)).await.expect("accepted");
    let stale = Rejected::StaleAttempt { job: held.job, current: 0 };
    let (ops, claimed) = (vec![Err(stale)], Vec::new());
    assert_eq!(answer, Answer::Exchanged { ops, claimed, claim_refused: None });
    assert_eq!(group, None);
    assert_eq!(fleet.act(&hand, held, RUNNING).await, Ok(OpAnswer::Reclaimed));
}

pub async fn reclaiming_asks_for_no_slot_and_leaves_none(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let first = fleet.running(&hand).await;
    let held = lost(&fleet, fleet.submit(spec(50)).await, 1).await;
    fleet.act(&hand, held, RUNNING).await.expect("it runs already");
    fleet.submit(spec(50)).await;
    for over in [first, held] {
        assert_eq!(fleet.claim(&hand).await, None, "more jobs than slots");
        fleet.act(&hand, over, completed()).await.expect("accepted");
    }
    assert!(fleet.claim(&hand).await.is_some());
}

pub async fn what_cannot_be_reclaimed_is_refused_unchanged(open: &Open) {
    let fleet = Fleet::new(open);
    let (hand, other) = (fleet.worker("w", 9, &[]).await, fleet.worker("other", 9, &[]).await);
    let running = fleet.running(&other).await;
    let same = Held { token: fleet.token(), ..running };
    let cancelled = fleet.running(&other).await;
    fleet.run(Command::Cancel { job: cancelled.job }).await.expect("accepted");
    let ended = fleet.running(&other).await;
    fleet.act(&other, ended, completed()).await.expect("accepted");
    let ended = lost(&fleet, ended.job, 1).await;
    let known = Held { attempt: running.attempt + 1, ..running };
    let absurd = lost(&fleet, running.job, limits::LOST_ATTEMPTS + 1).await;
    let nowhere = Held { job: JobId::from_uuid(uuid::Uuid::from_u128(7)), ..running };
    let seq = fleet.seq().await;
    let stale = |held: Held, current| Rejected::StaleAttempt { job: held.job, current };
    let over = Rejected::AlreadyEnded { job: ended.job, status: JobStatus::Completed };
    for (held, why) in [
        (same, stale(same, 1)),
        (known, stale(known, 1)),
        (lost(&fleet, cancelled.job, 1).await, stale(cancelled, 1)),
        (ended, over),
        (nowhere, Rejected::JobNotFound(nowhere.job)),
    ] {
        assert_eq!(fleet.act(&hand, held, RUNNING).await, Err(why), "{held:?}");
    }
    let refused = fleet.act(&hand, absurd, RUNNING).await;
    assert!(matches!(refused, Err(Rejected::Invalid(_))), "{refused:?}");
    assert_eq!(fleet.seq().await, seq);
}

pub async fn nothing_given_out_in_this_epoch_can_be_reclaimed(open: &Open) {
    let fleet = Fleet::new(open);
    let (hand, other) = (fleet.worker("w", 1, &[]).await, fleet.worker("other", 1, &[]).await);
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    let first = fleet.running(&hand).await;
    fleet.act(&hand, first, release).await.expect("accepted");
    let seq = fleet.seq().await;
    let stale = Err(Rejected::StaleAttempt { job: first.job, current: 1 });
    assert_eq!(fleet.act(&hand, first, RUNNING).await, stale, "it gave it back");
    assert_eq!(fleet.seq().await, seq);
    let second = fleet.claim(&other).await.expect("the job");
    let seq = fleet.seq().await;
    for (by, held) in [(&hand, first), (&hand, second)] {
        let stale = Err(Rejected::StaleAttempt { job: first.job, current: 2 });
        assert_eq!(fleet.act(by, held, RUNNING).await, stale, "{held:?}");
    }
    assert_eq!(fleet.seq().await, seq);
}
