//! What an attempt costs its job and leaves behind, and what is refused before its time.

use std::{sync::Arc, time::Duration};

use pointsman_core::{
    Command, FailureKind, LossReason, Rejected,
    command::{Held, Op, OpAnswer, Reconcile},
    decide::limits,
    record::{ConnectorStatus, Job, JobSpec, JobState, JobStatus},
};

use super::{
    Open,
    fleet::{Fleet, completed, failed, late, spec},
};
use crate::{Due, JobFilter};

const INSTANT: Duration = Duration::from_millis(1);

fn release(reason: LossReason) -> Op {
    Op::Release { reason, message: String::new() }
}

/// Given back unstarted as often as may be, the job has lost nothing.
pub async fn an_attempt_that_did_not_start_costs_nothing(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(JobSpec { max_losses: 0, ..spec(50) }).await;
    for _ in 0..2 {
        let held = fleet.claim(&hand).await.expect("the job");
        let end = fleet.act(&hand, held, release(LossReason::Unstarted)).await;
        assert_eq!(end, Ok(OpAnswer::Settled { status: JobStatus::Pending }));
        assert_eq!(fleet.job(job).await.losses, 0);
    }
    let held = fleet.claim(&hand).await.expect("the job");
    let end = fleet.act(&hand, held, release(LossReason::Drained)).await;
    assert_eq!(end, Ok(OpAnswer::Settled { status: JobStatus::Failed }), "one that counts");
}

pub async fn asking_twice_to_cancel_is_one_wish(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let running = fleet.running(&hand).await.job;
    let pending = fleet.submit(spec(50)).await;
    for job in [running, pending] {
        fleet.run(Command::Cancel { job }).await.expect("accepted");
        let before = (fleet.seq().await, fleet.job(job).await);
        fleet.advance(Duration::from_secs(1));
        fleet.run(Command::Cancel { job }).await.expect("the same again");
        assert_eq!((fleet.seq().await, fleet.job(job).await), before);
    }
}

/// Who could not run it may run its next run.
pub async fn exclusions_end_with_the_run(open: &Open) {
    let fleet = Fleet::new(open);
    let [wrong, right] = [fleet.worker("wrong", 1, &[]).await, fleet.worker("right", 1, &[]).await];
    let held = fleet.running(&wrong).await;
    fleet.act(&wrong, held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 1);
    let held = fleet.claim(&right).await.expect("the job");
    fleet.act(&right, held, completed()).await.expect("accepted");
    assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), 0);
    fleet.run(Command::Retry { job: held.job, run: None }).await.expect("accepted");
    assert_eq!(fleet.claim(&wrong).await.map(|held| held.job), Some(held.job));
}

/// The winner of a run that is over makes room like any other attempt.
pub async fn a_late_win_of_an_earlier_run_makes_room(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(JobSpec { max_losses: 90, ..spec(50) }).await;
    let winner = fleet.claim(&hand).await.expect("the job");
    fleet.act(&hand, winner, release(LossReason::Drained)).await.expect("accepted");
    let won = fleet.act(&hand, winner, late()).await;
    assert_eq!(won, Ok(OpAnswer::LateKept { won: true }));
    fleet.run(Command::Retry { job, run: None }).await.expect("accepted");
    for _ in 0..Job::MAX_PAST {
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.act(&hand, held, release(LossReason::Drained)).await.expect("accepted");
    }
    let past = fleet.job(job).await.past.clone();
    assert_eq!(past.len(), Job::MAX_PAST);
    assert!(past.iter().all(|past| past.token != winner.token), "the oldest makes room");
}

/// Also where there are more jobs, and slots for them; and where nothing waits.
pub async fn a_claim_that_is_repeated_gets_the_same_job(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 4, &[]).await;
    for _ in 0..3 {
        fleet.submit(spec(50)).await;
    }
    let (token, other) = (fleet.token(), fleet.token());
    let first = fleet.claim_with(&hand, vec![token]).await;
    assert_eq!(first.len(), 1);
    assert_eq!(fleet.claim_with(&hand, vec![token]).await, first);
    let both = fleet.claim_with(&hand, vec![token, other]).await;
    assert_eq!((both.len(), both[0], both[1].token), (2, first[0], other));
    assert!(fleet.claim(&hand).await.is_some() && fleet.claim(&hand).await.is_none());
    assert_eq!(fleet.claim_with(&hand, vec![token]).await, first);
}

/// A lease is renewed by both halves of the fence.
pub async fn a_renewal_names_attempt_and_token(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    let others =
        [Held { attempt: held.attempt + 1, ..held }, Held { token: fleet.token(), ..held }];
    for other in others {
        let renewed = fleet.renew(&hand, vec![other], ConnectorStatus::Active).await;
        assert_eq!(renewed.expect("heard").lost, [other]);
    }
    let renewed = fleet.renew(&hand, vec![held], ConnectorStatus::Active).await;
    assert_eq!(renewed.expect("heard").lost, []);
}

/// It may be the job that ends its services: one that breaks off again lets others go first. A drain
/// speaks against nobody, and neither does the first loss.
pub async fn a_job_that_is_lost_again_waits(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let spec = JobSpec { max_failures: 9, max_losses: 6, ..spec(50) };
    let job = fleet.submit(spec).await;
    let returned = async |op| {
        let held = fleet.claim(&hand).await.expect("the job");
        fleet.act(&hand, held, op).await.expect("accepted");
        let hold = fleet.job(job).await.hold();
        let wait =
            hold.map(|hold| hold.until.expect("a backoff has an end").since(fleet.store.now()));
        fleet.advance(limits::BACKOFF_MAX);
        fleet.report(&hand, ConnectorStatus::Idle).await;
        fleet.reconcile(Due::Holds).await;
        fleet.reconcile(Due::Exclusions).await;
        wait
    };
    let lost = || release(LossReason::ServiceLost);
    assert_eq!(returned(release(LossReason::Drained)).await, None);
    assert_eq!(returned(lost()).await, None, "at once elsewhere");
    assert_eq!(returned(release(LossReason::Drained)).await, None);
    assert_eq!(returned(lost()).await, Some(limits::LOST_AGAIN));
    assert_eq!(returned(failed(FailureKind::ServiceFault)).await, Some(Duration::from_secs(1)));
    assert_eq!(returned(lost()).await, Some(limits::LOST_AGAIN * 4), "the failure counts");
    assert_eq!(returned(lost()).await, Some(limits::BACKOFF_MAX));
    assert_eq!(returned(lost()).await, None, "it has ended");
    let JobState::Failed(_, failure) = &fleet.job(job).await.state else { panic!("too many") };
    assert!(failure.message.starts_with("lost 7 times"), "{failure:?}");
    assert!(failure.message.contains("; it failed, too: test (a test's failure)"), "{failure:?}");
    fleet.check().await.expect("sound");
}

/// A reconciler that comes too early, or again, changes nothing.
pub async fn holds_and_exclusions_last_their_time(open: &Open) {
    let fleet = Fleet::new(open);
    let [wrong, right] = [fleet.worker("wrong", 1, &[]).await, fleet.worker("right", 1, &[]).await];
    let refused = async |what: Reconcile| {
        let seq = fleet.seq().await;
        let refused = fleet.run(Command::Reconcile(what)).await.err();
        assert_eq!(refused, Some(Rejected::NotDue));
        assert_eq!(fleet.seq().await, seq, "refused means unchanged");
    };
    let held = fleet.running(&wrong).await;
    let job = held.job;
    fleet.act(&wrong, held, failed(FailureKind::Timeout)).await.expect("accepted");
    fleet.advance(Duration::from_secs(1) - INSTANT);
    refused(Reconcile::ReleaseHold { job }).await;
    fleet.advance(INSTANT);
    let due = Command::Reconcile(Reconcile::ReleaseHold { job });
    fleet.run(due).await.expect("its backoff is over");

    let held = fleet.claim(&wrong).await.expect("the job");
    fleet.act(&wrong, held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    let lapse = |nobody_else| Reconcile::LapseExclusions { job, nobody_else };
    fleet.advance(limits::EXCLUSION_AT_LEAST - INSTANT);
    refused(lapse(false)).await;
    refused(lapse(true)).await;
    fleet.report(&right, ConnectorStatus::Idle).await;
    let held = fleet.claim(&right).await.expect("the job");
    fleet.advance(INSTANT);
    refused(lapse(true)).await;
    fleet.act(&right, held, release(LossReason::Unstarted)).await.expect("accepted");
    fleet.run(Command::Reconcile(lapse(true))).await.expect("it has waited for others");
    assert_eq!(Fleet::excluded(&*fleet.job(job).await).len(), 0);
    fleet.check().await.expect("sound");
}

/// Somebody else can run it: each of those who could not is kept from it as long as the others.
pub async fn each_exclusion_ends_at_its_own_time(open: &Open) {
    let fleet = Fleet::new(open);
    let wrong = [fleet.worker("a", 1, &[]).await, fleet.worker("b", 1, &[]).await];
    let held = fleet.running(&wrong[0]).await;
    fleet.act(&wrong[0], held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    fleet.advance(Duration::from_secs(60));
    fleet.report(&wrong[1], ConnectorStatus::Idle).await;
    let held = fleet.claim(&wrong[1]).await.expect("the job");
    fleet.act(&wrong[1], held, failed(FailureKind::WrongWorker)).await.expect("accepted");
    let right = fleet.worker("c", 1, &[]).await;
    for (after, left) in
        [(limits::EXCLUSION - Duration::from_secs(60), 1), (Duration::from_secs(60), 0)]
    {
        fleet.advance(after - INSTANT);
        fleet.report(&right, ConnectorStatus::Idle).await;
        assert_eq!(fleet.reconcile(Due::Exclusions).await, 0);
        fleet.advance(INSTANT);
        assert_eq!(fleet.reconcile(Due::Exclusions).await, 1);
        assert_eq!(Fleet::excluded(&*fleet.job(held.job).await).len(), left);
    }
    fleet.check().await.expect("sound");
}

/// Only its worker keeps it.
pub async fn a_wish_to_cancel_renews_no_lease(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("w", 1, &[]).await;
    let held = fleet.running(&hand).await;
    fleet.advance(limits::LEASE - INSTANT);
    fleet.run(Command::Cancel { job: held.job }).await.expect("accepted");
    assert_eq!(fleet.reconcile(Due::Leases).await, 0);
    fleet.advance(INSTANT);
    fleet.reconcile(Due::Leases).await;
    assert_eq!(fleet.job(held.job).await.status(), JobStatus::Cancelled);
}

/// Those that it runs and those that ended with it, and no others.
pub async fn a_workers_jobs_are_listed(open: &Open) {
    let fleet = Fleet::new(open);
    let [hand, other] = [fleet.worker("w", 2, &[]).await, fleet.worker("other", 2, &[]).await];
    let [ended, foreign] = [fleet.running(&hand).await, fleet.running(&other).await];
    fleet.act(&hand, ended, completed()).await.expect("accepted");
    fleet.act(&other, foreign, completed()).await.expect("accepted");
    let [runs, _] = [fleet.running(&hand).await, fleet.running(&other).await];
    fleet.submit(spec(50)).await;
    let of_it = JobFilter { worker: Some(hand.worker), ..JobFilter::default() };
    let ids = |jobs: Vec<Arc<Job>>| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    let page = fleet.store.jobs(of_it.clone(), None, 10).await.expect("the store works");
    assert_eq!(ids(page.jobs), [runs.job, ended.job]);
    let page = fleet.store.ended_jobs(of_it, None, 10).await.expect("the store works");
    assert_eq!(ids(page.jobs), [ended.job]);
}

/// It was counted when the attempt was lost, and the class was proven since.
pub async fn what_is_handed_in_late_is_no_new_loss(open: &Open) {
    let fleet = Fleet::new(open);
    let mut hands = Vec::new();
    for n in 0..limits::POISONOUS_AFTER {
        hands.push(fleet.worker(&format!("w{n}"), 1, &[]).await);
    }
    // A class is told as poisonous while one of its jobs is live.
    fleet.submit(spec(0)).await;
    let mut lost = Vec::new();
    for hand in &hands {
        fleet.submit(JobSpec { max_losses: 0, ..spec(50) }).await;
        let held = fleet.claim(hand).await.expect("the job");
        fleet.act(hand, held, Op::Start).await.expect("accepted");
        fleet.advance(Duration::from_secs(1));
        fleet.act(hand, held, release(LossReason::ServiceLost)).await.expect("accepted");
        assert_eq!(fleet.job(held.job).await.status(), JobStatus::Failed);
        lost.push((hand, held));
    }
    let poisonous = async || fleet.store.poisonous().await.expect("the store works").len();
    assert_eq!(poisonous().await, 1);
    let held = fleet.running(&hands[0]).await;
    fleet.act(&hands[0], held, completed()).await.expect("accepted");
    assert_eq!(poisonous().await, 0);
    for (hand, held) in lost {
        let kept = fleet.act(hand, held, late()).await;
        assert_eq!(kept, Ok(OpAnswer::LateKept { won: false }));
    }
    assert_eq!(poisonous().await, 0);
}
