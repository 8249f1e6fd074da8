//! Files that a job brings, and those that it makes.

use std::time::Duration;

use pointsman_core::{
    JobId, LossReason,
    command::{Op, Outcome},
    record::{JobStatus, Timeouts},
};
use pointsman_worker::BrokerError;

use crate::{
    broker::{Call, Line},
    ends::failure,
    setup::Setup,
};

#[tokio::test(start_paused = true)]
async fn files_are_stored_before_completion_though_the_broker_was_away() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.claims_take = Duration::from_millis(100));
    let job = setup.broker.post("file");
    setup.pass(0.05).await;
    // It is claimed, and the answer is on its way.
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(1.0).await;
    assert_eq!((setup.service.runs(), setup.broker.status(job)), (1, JobStatus::Assigned));
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(5.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Start, Op::Finish(finish)] = &taken[..] else { panic!("{taken:?}") };
    let Outcome::Completed { artifacts, .. } = &finish.outcome else { panic!() };
    assert_eq!((artifacts[0].name.as_str(), artifacts[0].size), ("9-0-a.png", 7));
    let calls = setup.broker.calls();
    let stored = calls.iter().position(|c| matches!(c, Call::Artifact)).unwrap();
    let done = |c: &Call| matches!(c, Call::Exchange { ops, .. } if ops.iter().any(|o| matches!(o.op, Op::Finish(_))));
    assert!(stored < calls.iter().position(done).unwrap());
}

fn not_let_in() -> BrokerError {
    BrokerError::Refused("the token is not known".into())
}

fn disk_full() -> BrokerError {
    BrokerError::Unreachable("the disk is full".into())
}

/// A job whose file is not taken, for 10 minutes.
async fn not_taken(why: BrokerError, limit: Timeouts) -> (Setup, JobId) {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.no_files = Some(why));
    let job = setup.broker.post_with("file", limit);
    setup.pass(600.0).await;
    (setup, job)
}

fn last_message(setup: &Setup) -> Option<String> {
    let renewals = setup.broker.renewals().into_iter();
    let mut progress = renewals.flat_map(|(_, _, progress)| progress);
    progress.next_back().and_then(|(_, progress)| progress.message)
}

#[tokio::test(start_paused = true)]
async fn a_file_waits_until_it_is_taken_and_tells_why() {
    for (why, told) in [(not_let_in(), "the token is not known"), (disk_full(), "is full")] {
        let (setup, job) = not_taken(why, Timeouts::default()).await;
        assert_eq!(setup.broker.status(job), JobStatus::InProgress);
        let message = last_message(&setup).unwrap();
        assert!(message.starts_with("9-0-a.png is not stored yet: "), "{message}");
        assert!(message.contains(told), "{message}");
        setup.broker.with(|s| s.no_files = None);
        setup.pass(2.5).await;
        assert_eq!(setup.broker.status(job), JobStatus::Completed);
        assert_eq!(setup.service.runs(), 1);
        let taken = setup.broker.job(job).taken;
        let [Op::Start, Op::Finish(finish)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(finish.last_progress.as_ref().unwrap().message, None, "it waits no more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_taken_waits_no_longer_than_its_job_may() {
    for why in [not_let_in(), disk_full()] {
        let limit = Timeouts { total_s: Some(60), ..Timeouts::default() };
        let (setup, job) = not_taken(why.clone(), limit).await;
        let taken = setup.broker.job(job).taken;
        assert_eq!(failure(&taken[1]).code, "total_timeout");
        for stop in ["cancel", "drain", "lost"] {
            let (setup, job) = not_taken(why.clone(), Timeouts::default()).await;
            match stop {
                "cancel" => setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true),
                "drain" => setup.shutdown.drain.cancel(),
                _ => setup.broker.fence(job),
            }
            setup.pass(34.0).await;
            let taken = setup.broker.job(job).taken;
            match stop {
                "cancel" => assert_eq!(setup.broker.status(job), JobStatus::Cancelled),
                "drain" => {
                    assert!(matches!(taken[1], Op::Release { reason: LossReason::Drained, .. }));
                }
                _ => {
                    assert_eq!(taken.len(), 1, "nothing is left to say: {taken:?}");
                    setup.broker.with(|s| s.no_files = None);
                    let next = setup.broker.post("done");
                    setup.pass(1.0).await;
                    assert_eq!(setup.broker.status(next), JobStatus::Completed, "its slot is free");
                }
            }
        }
    }
}

/// A file that is handed over, and never answered.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_stands_still_keeps_no_job_that_is_cancelled() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.files_hang = true);
    let job = setup.broker.post("file");
    setup.pass(1.0).await;
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(10.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled);
}

/// One that cannot be read for a moment is no reason to make it again.
#[tokio::test(start_paused = true)]
async fn a_file_that_the_service_does_not_hand_over_is_read_again() {
    for (payload, told) in [("broken-file", "cut off"), ("unreadable-file", "answered 503")] {
        let setup = Setup::new(1).await;
        let job = setup.broker.post(payload);
        setup.pass(5.0).await;
        assert_eq!((setup.broker.status(job), setup.service.runs()), (JobStatus::Completed, 1));
        let renewals = setup.broker.renewals().into_iter();
        let messages = renewals.flat_map(|(_, _, progress)| progress).map(|(_, p)| p.message);
        assert!(messages.flatten().any(|message| message.contains(told)), "{payload}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_is_not_waited_for() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("gone-file");
    setup.pass(0.5).await;
    assert!(failure(&setup.broker.job(job).taken[1]).message.contains("gone"));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_kept_while_the_service_takes_long_to_hand_a_file_over() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("slow-file");
    setup.pass(29.0).await;
    let (_, renew, _) = setup.broker.renewals().pop().unwrap();
    assert_eq!(renew.held.len(), 1);
    setup.pass(5.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    let job = setup.broker.post("slow-file");
    setup.pass(1.0).await;
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(10.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled, "it is not waited for");
}

#[tokio::test(start_paused = true)]
async fn an_input_is_opened_through_the_broker_which_may_take_a_while() {
    for (why, told) in [(not_let_in(), "the token is not known"), (disk_full(), "is full")] {
        let setup = Setup::new(1).await;
        setup.broker.with(|s| s.no_files = Some(why));
        let job = setup.broker.post("input");
        setup.pass(60.0).await;
        assert_eq!((setup.broker.status(job), setup.service.runs()), (JobStatus::Assigned, 1));
        let message = last_message(&setup).unwrap();
        assert!(message.starts_with("an input is not here yet: "), "{message}");
        assert!(message.contains(told), "{message}");
        setup.broker.with(|s| s.no_files = None);
        setup.pass(2.5).await;
        assert_eq!(setup.broker.status(job), JobStatus::Completed);
        let taken = setup.broker.job(job).taken;
        let [Op::Finish(finish)] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(finish.last_progress.as_ref().unwrap().message, None, "it waits no more");
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_that_does_not_come_keeps_no_job_that_is_cancelled() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.no_files = Some(not_let_in()));
    let job = setup.broker.post("input");
    setup.pass(5.0).await;
    setup.broker.with(|s| s.jobs.get_mut(&job).unwrap().cancel = true);
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Cancelled);
}
