//! How attempts end.

use std::time::Duration;

use pointsman_connectors::Health;
use pointsman_core::{
    FailureKind, LossReason,
    bounds::{MAX_MESSAGE, MAX_REMARK},
    command::{Finish, Op, Outcome},
    record::{ConnectorStatus, JobStatus, Timeouts},
};

use crate::{broker::Line, setup::Setup};

pub fn failure(op: &Op) -> &pointsman_core::Failure {
    match op {
        Op::Finish(Finish { outcome: Outcome::Failed { failure }, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_the_service_and_is_told_when_confirmed() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("hour");
    setup.pass(1.0).await;
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(3.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_finished_result_of_a_fenced_attempt_is_handed_in_late() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("late");
    setup.pass(1.0).await;
    setup.broker.fence(job);
    setup.pass(4.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Start, Op::Late(finish)] = &taken[..] else { panic!("{taken:?}") };
    assert!(matches!(finish.outcome, Outcome::Completed { cached: true, .. }));
    let next = setup.broker.post("done");
    setup.pass(0.1).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed, "the slot is free again");
}

#[tokio::test(start_paused = true)]
async fn a_result_that_is_refused_as_stale_becomes_late() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("slow");
    // Fenced between the last renewal and the end, so that only the finish finds out.
    setup.pass(7.9).await;
    setup.broker.fence(job);
    setup.pass(0.2).await;
    let taken = setup.broker.job(job).taken;
    assert!(matches!(&taken[..], [Op::Start, Op::Late(_)]), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_damaged_job_is_kept_and_keeps_back_no_other() {
    let setup = Setup::new(1).await;
    let damaged = setup.broker.post("slow");
    setup.broker.with(|s| s.damaged = Some(damaged));
    let next = setup.broker.post("done");
    setup.pass(20.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
    assert_eq!(setup.broker.status(damaged), JobStatus::Assigned);
    let renewed = setup.broker.renewals().pop().unwrap().1.held;
    assert_eq!(renewed.iter().map(|held| held.job).collect::<Vec<_>>(), [damaged]);
    setup.broker.with(|s| s.damaged = None);
    setup.pass(5.5).await;
    let taken = setup.broker.job(damaged).taken;
    assert!(matches!(&taken[..], [Op::Start, Op::Finish(_)]), "{taken:?}");
    assert_eq!(setup.service.runs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_no_store_takes_fails_its_attempt_with_the_reason() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.unfit = Some("/artifacts/0/node: expected at most 200 bytes"));
    let job = setup.broker.post("done");
    setup.pass(60.0).await;
    let taken = setup.broker.job(job).taken;
    assert_eq!((taken.len(), setup.service.runs()), (2, 1), "{taken:?}");
    let failure = failure(&taken[1]);
    assert_eq!((failure.kind, &failure.code[..]), (FailureKind::ServiceFault, "end_not_taken"));
    assert_eq!(
        failure.message,
        "its result was not taken: invalid: /artifacts/0/node: expected at most 200 bytes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fenced_attempt_without_a_result_says_nothing() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("hour");
    setup.pass(1.0).await;
    setup.broker.fence(job);
    setup.pass(4.0).await;
    assert_eq!(setup.broker.job(job).taken, [Op::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_wedged_service_gets_no_jobs_until_it_is_proven_clear() {
    let setup = Setup::new(2).await;
    let job = setup.broker.post("wedge");
    setup.pass(1.0).await;
    setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(10.0).await;
    let next = setup.broker.post("done");
    setup.pass(40.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Pending, "no claims");
    assert_eq!(setup.broker.status(job), JobStatus::InProgress, "and not handed on yet");
    assert_eq!(held(&setup), 1, "its lease is kept");
    setup.pass(20.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled, "as it was given back");
    setup.pass(600.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Pending, "still no claims");
    assert_eq!(held(&setup), 0);
    let reports = |s: &Setup| s.broker.renewals().into_iter().flat_map(|(_, r, _)| r.connectors);
    let last = reports(&setup).last().unwrap();
    assert_eq!(last.status, ConnectorStatus::Error);
    assert_eq!(last.error_message.as_deref(), Some("prompt still runs"));
    let [.., ours] = &setup.service.with(|s| s.clearings.clone())[..] else { panic!() };
    assert!(ours.is_empty(), "what is stuck is to be cleared away");

    setup.service.with(|s| s.not_clear = None);
    setup.pass(2.0).await;
    let taken = setup.broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Start, Op::Release { .. }]), "{taken:?}");
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
    assert_eq!(reports(&setup).last().unwrap().status, ConnectorStatus::Idle);
}

/// How many attempts the last renewal holds.
fn held(setup: &Setup) -> usize {
    let (_, renew, _) = setup.broker.renewals().pop().unwrap();
    renew.held.len()
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_for_a_minute_is_given_back_and_what_it_makes_is_late() {
    for makes_it in [true, false] {
        let setup = Setup::new(1).await;
        setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
        let job = setup.broker.post("wedge-stalled");
        setup.pass(59.0).await;
        assert_eq!(setup.broker.status(job), JobStatus::InProgress);
        let progress = setup.broker.renewals().into_iter().flat_map(|(_, _, progress)| progress);
        let (_, shown) = progress.last().unwrap();
        assert_eq!(shown.message.as_deref(), Some("stuck"), "it is not shown as it was before");
        setup.pass(1.5).await;
        let given_back = setup.broker.job(job).taken;
        let [Op::Start, Op::Release { reason: LossReason::Stalled, message }] = &given_back[..]
        else {
            panic!("{given_back:?}")
        };
        assert_eq!(message, "stuck");
        setup.broker.fence(job);
        setup.pass(600.0).await;
        assert_eq!((setup.broker.job(job).taken, held(&setup)), (given_back, 0), "once");

        setup.service.with(|s| {
            s.not_clear = None;
            let (held, _) = s.runs[0];
            s.ghosts.extend(makes_it.then_some(held.token));
        });
        let next = setup.broker.post("done");
        setup.pass(5.0).await;
        let more = setup.broker.job(job).taken.split_off(2);
        match makes_it {
            true => assert!(matches!(more[..], [Op::Late(_)]), "{more:?}"),
            false => assert_eq!(more, []),
        }
        assert_eq!(setup.broker.status(next), JobStatus::Completed, "the slot is free again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_while_nobody_answers_is_told_once_somebody_does() {
    let setup = Setup::new(1).await;
    setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
    let job = setup.broker.post("wedge-stalled");
    setup.pass(58.0).await;
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(10.0).await;
    setup.service.with(|s| {
        s.not_clear = None;
        let (held, _) = s.runs[0];
        s.ghosts.insert(held.token);
    });
    setup.pass(10.0).await;
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(5.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Start, Op::Release { .. }, Op::Late(_)] = &taken[..] else { panic!("{taken:?}") };
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_or_runs_too_long_and_does_not_stop_fails_after_a_minute() {
    let total = Timeouts { total_s: Some(20), ..Timeouts::default() };
    for (payload, timeouts, kind) in [
        ("wedge-failed", Timeouts::default(), FailureKind::BadJob),
        ("wedge", total, FailureKind::Timeout),
    ] {
        let setup = Setup::new(1).await;
        setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
        let job = setup.broker.post_with(payload, timeouts);
        setup.pass(55.0).await;
        assert!(!setup.broker.status(job).is_ended());
        setup.pass(30.0).await;
        let taken = setup.broker.job(job).taken;
        assert_eq!(failure(taken.last().unwrap()).kind, kind);
        setup.service.with(|s| s.not_clear = None);
        let next = setup.broker.post("done");
        setup.pass(5.0).await;
        assert_eq!(setup.broker.job(job).taken, taken, "nothing more is said of it");
        assert_eq!(setup.broker.status(next), JobStatus::Completed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stuck_in_a_service_that_is_then_killed_is_let_go() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("wedge");
    setup.pass(1.0).await;
    setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(10.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);

    let clearings = setup.service.with(|s| {
        s.health = Health::new(ConnectorStatus::Offline, "connection refused");
        s.not_clear = None;
        s.clearings.len()
    });
    setup.pass(3.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled);
    setup.pass(60.0).await;
    let let_go = setup.service.with(|s| s.clearings.len());
    assert_eq!(let_go, clearings + 1, "and nothing is left to let go");
    let next = setup.broker.post("done");
    setup.service.with(|s| s.health = Health::idle());
    setup.pass(5.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
    let again = setup.service.with(|s| s.clearings.len());
    assert_eq!(again, let_go + 1, "what came up in its place is cleared before it gets a job");
}

/// A service that does not look at its interrupt runs the job to its end.
#[tokio::test(start_paused = true)]
async fn what_ran_to_its_end_though_it_was_stopped_is_collected_unless_it_was_cancelled() {
    for (payload, cancel) in [("wedge", false), ("wedge-lost", false), ("wedge", true)] {
        let setup = Setup::new(1).await;
        let job = setup.broker.post(payload);
        setup.pass(1.0).await;
        setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
        match cancel {
            true => setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true),
            false => setup.broker.fence(job),
        }
        setup.pass(10.0).await;
        setup.service.with(|s| {
            s.not_clear = None;
            let (held, _) = s.runs[0];
            s.ghosts.insert(held.token);
        });
        setup.pass(3.0).await;
        let taken = setup.broker.job(job).taken;
        let runs = setup.service.runs();
        match (payload, cancel) {
            ("wedge", false) => assert!(matches!(taken[..], [Op::Start, Op::Late(_)]), "{taken:?}"),
            ("wedge", true) => {
                assert_eq!((setup.broker.status(job), runs), (JobStatus::Cancelled, 1));
            }
            _ => assert_eq!((&taken[..], runs), (&[Op::Start][..], 2), "it has no result"),
        }
        let next = setup.broker.post("done");
        setup.pass(2.0).await;
        assert_eq!(setup.broker.status(next), JobStatus::Completed, "the slot is free again");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_and_does_not_stop_tells_its_failure_once_it_is_gone() {
    let setup = Setup::new(1).await;
    setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
    let job = setup.broker.post("wedge-failed");
    setup.pass(10.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Assigned);
    setup.service.with(|s| {
        s.not_clear = None;
        let (held, _) = s.runs[0];
        s.ghosts.insert(held.token);
    });
    setup.pass(2.0).await;
    let taken = setup.broker.job(job).taken;
    assert_eq!(failure(&taken[0]).message, "only a part would run");
    assert_eq!(setup.service.runs(), 1, "what it made is not wanted");
}

#[tokio::test(start_paused = true)]
async fn what_gets_stuck_while_the_service_is_cleared_is_cleared_the_next_time() {
    let setup = Setup::new(2).await;
    let (wedge, lost) = (setup.broker.post("wedge"), setup.broker.post("lost"));
    setup.service.with(|s| s.clearing_takes = Duration::from_secs(5));
    setup.broker.with(|s| s.jobs.get_mut(&wedge).unwrap().cancel = true);
    setup.pass(6.0).await;
    assert_eq!(setup.broker.job(lost).taken.len(), 1, "after this end the service was cleared");
    assert_eq!(setup.broker.status(wedge), JobStatus::InProgress, "but not of what ran then");
    setup.pass(5.0).await;
    let clearings = setup.service.with(|s| s.clearings.clone());
    let [.., first, second] = &clearings[..] else { panic!() };
    assert_eq!((first.len(), second.len()), (1, 0), "what runs is not cleared away");
    assert_eq!(setup.broker.status(wedge), JobStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_lost_job_is_given_back_and_the_service_cleared_before_the_next() {
    let setup = Setup::new(1).await;
    let before = setup.service.with(|s| s.clearings.len());
    let (lost, next) = (setup.broker.post("lost"), setup.broker.post("done"));
    setup.pass(1.0).await;
    let taken = setup.broker.job(lost).taken;
    assert!(matches!(taken[..], [Op::Release { reason: LossReason::ServiceLost, .. }]));
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
    assert_eq!(setup.service.with(|s| s.clearings.len()), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_says_at_length_is_cut_and_the_report_arrives() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("verbose");
    setup.service.with(|s| s.health.message = Some("m".repeat(1_000_000)));
    setup.pass(12.0).await;
    let taken = setup.broker.job(job).taken;
    let message = &failure(&taken[1]).message;
    assert_eq!((message.len(), message.ends_with("m…")), (MAX_MESSAGE, true));
    let renewals = setup.broker.renewals();
    let reported = renewals.iter().flat_map(|(_, renew, _)| &renew.connectors);
    let reported = reported.filter_map(|report| report.error_message.as_deref());
    let progress = renewals.iter().flat_map(|(_, _, progress)| progress);
    let told = progress.filter_map(|(_, progress)| progress.message.as_deref());
    let remarks: Vec<&str> = reported.chain(told).collect();
    assert!(remarks.len() >= 2);
    assert!(remarks.iter().all(|remark| remark.len() == MAX_REMARK && remark.ends_with("m…")));
}

/// No reader of JSON would take it: the job is done all the same.
#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_handed_in_is_left_out_and_told() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("deep");
    setup.pass(1.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Start, Op::Finish(finish)] = &taken[..] else { panic!("{taken:?}") };
    let Outcome::Completed { result: Some(result), .. } = &finish.outcome else {
        panic!("{finish:?}")
    };
    assert_eq!(result["omitted"], "result is nested 200 levels deep, and 100 is the most");
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_takes_only_its_job_down() {
    let setup = Setup::new(2).await;
    let (other, job) = (setup.broker.post("slow"), setup.broker.post("panic"));
    setup.pass(1.0).await;
    let taken = setup.broker.job(job).taken;
    assert_eq!(failure(&taken[0]).code, "connector_panicked");
    setup.pass(8.0).await;
    assert_eq!(setup.broker.status(other), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_total_limit_stops_the_job_and_fails_it() {
    let setup = Setup::new(1).await;
    let limit = Timeouts { total_s: Some(20), ..Timeouts::default() };
    let job = setup.broker.post_with("hour", limit);
    setup.pass(19.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::InProgress);
    setup.pass(1.5).await;
    let taken = setup.broker.job(job).taken;
    assert_eq!(failure(&taken[1]).kind, FailureKind::Timeout);
}

/// It costs the job nothing, and the same worker may get it again at once.
#[tokio::test(start_paused = true)]
async fn jobs_that_do_not_start_one_after_the_other_are_claimed_less_and_less_often() {
    let setup = Setup::new(2).await;
    let job = setup.broker.post("not-taken");
    setup.pass(600.0).await;
    let runs = setup.service.runs();
    assert!((20..40).contains(&runs), "{runs} in 10 minutes");
    // It takes what is there once it is up again, and is as quick as ever after the first that starts.
    setup.broker.with(|s| s.unqueue(job));
    let next = setup.broker.post("done");
    setup.pass(31.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
    let next = setup.broker.post("done");
    setup.pass(0.1).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
}
