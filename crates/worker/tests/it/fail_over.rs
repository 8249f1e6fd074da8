//! When the store comes back, in another epoch, as it was a while before.

use std::time::Duration;

use pointsman_connectors::Health;
use pointsman_core::{
    JobId, LossReason,
    command::{AttemptOp, Op},
    record::{ConnectorStatus, JobStatus},
};

use pointsman_worker::WorkerError;

use crate::{
    broker::{Call, FakeBroker, Line},
    service::FakeService,
    setup::{NOW, Setup},
};

/// What was asked about attempts since the first `calls` calls.
fn asked(setup: &Setup, calls: usize) -> Vec<Vec<AttemptOp>> {
    let calls = setup.broker.calls().split_off(calls).into_iter();
    let ops = calls.filter_map(|call| match call {
        Call::Exchange { ops, .. } if !ops.is_empty() => Some(ops),
        _ => None,
    });
    ops.collect()
}

#[tokio::test(start_paused = true)]
async fn running_work_is_taken_back_and_not_thrown_away() {
    let setup = Setup::new(2).await;
    let (started, waiting) = (setup.broker.post("slow"), setup.broker.post("unstarted"));
    let before = setup.broker.with(|s| s.jobs.clone());
    assert_eq!(before[&started].attempt, 0);
    let replica = setup.broker.replicate();
    setup.pass(4.0).await;
    let attempt = setup.broker.job(started);
    setup.broker.fail_over(replica);
    assert_eq!(setup.broker.status(started), JobStatus::Pending, "the claim is lost");
    setup.pass(3.0).await;
    for (job, status) in [(started, JobStatus::InProgress), (waiting, JobStatus::Assigned)] {
        assert_eq!(setup.broker.status(job), status);
    }
    let again = setup.broker.job(started);
    assert_eq!((again.attempt, again.token), (attempt.attempt, attempt.token));
    setup.pass(2.0).await;
    assert_eq!(setup.broker.status(started), JobStatus::Completed);
    assert_eq!(setup.service.runs(), 2, "nothing ran twice");
    assert_eq!(setup.broker.job(waiting).taken, [Op::Reclaim { started: false }]);
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_back_before_a_renewal_tells_that_it_is_held() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("hour");
    let replica = setup.broker.replicate();
    setup.pass(4.0).await;
    let calls = setup.broker.calls().len();
    setup.broker.fail_over(replica);
    setup.pass(3.0).await;
    let calls = setup.broker.calls().split_off(calls);
    let [Call::Renew { .. }, Call::Exchange { ops, .. }, Call::Renew { renew, .. }, ..] =
        &calls[..]
    else {
        panic!("{calls:?}")
    };
    assert!(matches!(ops[..], [AttemptOp { op: Op::Reclaim { started: true }, .. }]), "{ops:?}");
    assert_eq!(renew.held.len(), 1);
    setup.pass(60.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started: true }], "once");
}

#[tokio::test(start_paused = true)]
async fn a_free_slot_does_not_claim_what_another_runs() {
    let setup = Setup::new(2).await;
    let job = setup.broker.post("hour");
    let replica = setup.broker.replicate();
    setup.pass(4.0).await;
    setup.broker.fail_over(replica);
    // The claim of the free slot ends without an answer, and the lost job is the next in the queue.
    setup.broker.cut();
    setup.pass(4.0).await;
    assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started: true }]);
    assert_eq!(setup.service.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_given_back_is_lost() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("late");
    let replica = setup.broker.replicate();
    setup.pass(1.0).await;
    setup.broker.fail_over(replica);
    // Another worker was faster: it has the same attempt, under its own token.
    setup.broker.with(|s| s.unqueue(job));
    setup.broker.fence(job);
    setup.pass(4.0).await;
    let taken = setup.broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Late(_)]), "{taken:?}");
    assert!(setup.broker.job(job).elsewhere);
    let next = setup.broker.post("done");
    setup.pass(1.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed, "its slot is free");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_the_store_lost_is_handed_in_again() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let replica = setup.broker.replicate();
    setup.pass(50.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    let token = setup.broker.job(job).token;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| s.unqueue(job));
    let calls = setup.broker.calls().len();
    setup.pass(3.1).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    assert_eq!(setup.broker.job(job).token, token);
    assert_eq!(setup.service.runs(), 1);
    let asked = asked(&setup, calls);
    let [ops] = &asked[..] else { panic!("one exchange: {asked:?}") };
    assert!(matches!((&ops[0].op, &ops[1].op), (Op::Reclaim { .. }, Op::Finish(_))), "{ops:?}");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_60_s_and_anew_when_it_was_taken_again() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let replica = setup.broker.replicate();
    let lost = setup.broker.replicate();
    let gone = setup.broker.replicate();
    setup.pass(1.0).await;
    for replica in [replica, lost] {
        setup.pass(50.0).await;
        setup.broker.fail_over(replica);
        setup.broker.with(|s| s.unqueue(job));
        setup.pass(4.0).await;
        assert_eq!(setup.broker.status(job), JobStatus::Completed);
    }
    setup.pass(70.0).await;
    setup.broker.fail_over(gone);
    setup.broker.with(|s| s.unqueue(job));
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Pending, "too old");
}

#[tokio::test(start_paused = true)]
async fn no_result_is_too_old_because_the_store_was_away() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let replica = setup.broker.replicate();
    setup.pass(50.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(600.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| {
        s.unqueue(job);
        s.line = Line::Up;
    });
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    assert_eq!(setup.service.runs(), 1);
}

/// The store comes back from before the job's end: it knows the attempt, but took it away, and another
/// worker has the job.
fn others_take(setup: &Setup, job: JobId) {
    let mut replica = setup.broker.replicate();
    let replicated = replica.job_mut(job);
    replicated.status = JobStatus::InProgress;
    replicated.taken.clear();
    setup.broker.fail_over(replica);
    setup.broker.fence(job);
}

#[tokio::test(start_paused = true)]
async fn a_kept_result_whose_job_others_have_is_handed_in_late() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    setup.pass(1.0).await;
    others_take(&setup, job);
    setup.pass(4.0).await;
    let taken = setup.broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Late(_)]), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kept_result_that_is_not_taken_again_in_any_way_is_given_back() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let replica = setup.broker.replicate();
    setup.pass(1.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    setup.broker.fail_over(replica);
    setup.broker.with(|s| {
        s.unqueue(job);
        (s.unfit, s.failures_unfit) = (Some("/result: too large"), true);
    });
    setup.pass(4.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Reclaim { .. }, Op::Release { reason: LossReason::ServiceLost, message }] = &taken[..]
    else {
        panic!("{taken:?}")
    };
    assert!(message.contains("/result: too large"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_meets_the_new_epoch_before_the_keeper_does_is_not_lost() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("slow");
    let replica = setup.broker.replicate();
    // Between two renewals: the job ends before the worker can know.
    setup.pass(7.0).await;
    let renewals = setup.broker.renewals().len();
    setup.broker.fail_over(replica);
    setup.broker.with(|s| s.renewals_hang = true);
    setup.pass(1.2).await;
    assert_eq!(setup.broker.renewals().len(), renewals);
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    let taken = setup.broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Reclaim { started: true }, Op::Finish(_)]), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_meets_the_new_epoch_first_takes_the_job_back() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("starts-later");
    let replica = setup.broker.replicate();
    setup.pass(1.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| s.renewals_hang = true);
    setup.pass(1.5).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started: true }]);
}

#[tokio::test(start_paused = true)]
async fn taking_back_is_tried_until_it_is_answered() {
    let setup = Setup::new(2).await;
    let (runs, done) = (setup.broker.post("hour"), setup.broker.post("done"));
    let replica = setup.broker.replicate();
    setup.pass(4.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| {
        s.line = Line::LosesAnswers;
        s.unqueue(done);
    });
    setup.pass(12.0).await;
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(runs), JobStatus::InProgress);
    assert_eq!(setup.broker.status(done), JobStatus::Completed);
    assert_eq!(setup.service.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_result_is_kept_until_its_handing_in_arrives() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let replica = setup.broker.replicate();
    setup.pass(1.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| {
        s.unqueue(job);
        s.unheard = |_| true;
    });
    setup.pass(12.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Pending);
    setup.broker.with(|s| s.unheard = |_| false);
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    assert_eq!(setup.service.runs(), 1);
}

/// That the result is late is known by then.
#[tokio::test(start_paused = true)]
async fn so_is_one_that_others_overtook() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    setup.pass(1.0).await;
    others_take(&setup, job);
    setup.broker.with(|s| s.unheard = |op| matches!(op, Op::Late(_)));
    setup.pass(12.0).await;
    assert_eq!(setup.broker.job(job).taken, []);
    setup.broker.with(|s| s.unheard = |_| false);
    setup.pass(6.0).await;
    let taken = setup.broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Late(_)]), "{taken:?}");
}

/// A result that no replica has confirmed is never too old.
#[tokio::test(start_paused = true)]
async fn a_result_that_was_taken_again_unconfirmed_may_be_lost_again() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("done");
    let (replica, lost) = (setup.broker.replicate(), setup.broker.replicate());
    setup.pass(1.0).await;
    setup.broker.with(|s| s.unconfirmed = true);
    for (replica, after) in [(replica, 1.0), (lost, 70.0)] {
        setup.pass(after).await;
        setup.broker.fail_over(replica);
        setup.broker.with(|s| s.unqueue(job));
        setup.pass(4.0).await;
        assert_eq!(setup.broker.status(job), JobStatus::Completed, "after {after} s");
    }
}

/// Its executor may still be at it: the job is not this worker's any more.
#[tokio::test(start_paused = true)]
async fn what_was_lost_before_is_not_taken_back() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("deaf");
    let replica = setup.broker.replicate();
    setup.pass(1.0).await;
    setup.broker.fence(job);
    setup.pass(4.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| s.unqueue(job));
    setup.pass(4.0).await;
    assert_eq!(setup.broker.job(job).taken, []);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_payload_is_on_its_way_is_taken_back() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.claims_take = Duration::from_secs(20));
    let job = setup.broker.post("hour");
    let replica = setup.broker.replicate();
    setup.pass(7.0).await;
    setup.broker.fail_over(replica);
    setup.pass(4.0).await;
    assert_eq!(setup.service.runs(), 0);
    assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started: false }]);
}

/// A restarted worker has it, and cannot look yet whether its service does.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_its_service_is_taken_back() {
    for (started_at, started) in [(Some(NOW), true), (None, false)] {
        let broker = FakeBroker::new();
        let job = broker.post("hour");
        let replica = broker.replicate();
        broker.assign_unheard(job);
        broker.with(|s| s.jobs.get_mut(&job).unwrap().started_at = started_at);
        let service = FakeService::new("fake");
        service.with(|s| s.health = Health::new(ConnectorStatus::Offline, "refused"));
        let setup = Setup::with(1, broker, service).await;
        setup.pass(3.0).await;
        setup.broker.fail_over(replica);
        setup.pass(4.0).await;
        assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started }]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_the_worker_too_gets_both_back() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("hour");
    let replica = setup.broker.replicate();
    setup.pass(4.0).await;
    setup.broker.fail_over(replica);
    setup.broker.with(|s| s.forgotten = true);
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    assert_eq!(setup.broker.job(job).taken, [Op::Reclaim { started: true }]);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_registration_the_store_lost_is_not_superseded() {
    let setup = Setup::new(1).await;
    let replica = setup.broker.replicate();
    setup.broker.with(|s| s.registration_lost = true);
    setup.broker.fail_over(replica);
    setup.pass(4.0).await;
    let job = setup.broker.post("done");
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    // Long after its registration nothing but a newer process can be the reason.
    setup.pass(60.0).await;
    setup.broker.with(|s| s.registration_lost = true);
    setup.pass(4.0).await;
    assert!(matches!(setup.ended().await, Err(WorkerError::Superseded(_))));
}

#[tokio::test(start_paused = true)]
async fn nor_is_it_when_the_store_was_away_for_long() {
    let setup = Setup::new(1).await;
    // Each time from before its registration, the last one included.
    for _ in 0..2 {
        setup.pass(50.0).await;
        setup.broker.with(|s| s.line = Line::Down);
        setup.pass(600.0).await;
        let replica = setup.broker.replicate();
        setup.broker.fail_over(replica);
        setup.broker.with(|s| {
            s.registration_lost = true;
            s.line = Line::Up;
        });
        setup.pass(6.0).await;
        assert!(!setup.has_ended());
    }
    let job = setup.broker.post("done");
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    assert!(!setup.has_ended());
}

#[tokio::test(start_paused = true)]
async fn a_newer_process_that_came_while_the_store_was_away_supersedes() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(600.0).await;
    setup.broker.with(|s| {
        s.superseded = true;
        s.line = Line::Up;
    });
    setup.pass(6.0).await;
    assert!(matches!(setup.ended().await, Err(WorkerError::Superseded(_))));
}
