//! Told to stop.

use pointsman_core::{LossReason, command::Op, record::JobStatus};

use crate::{broker::Call, setup::Setup};

fn has_left(setup: &Setup) -> bool {
    setup.broker.calls().iter().any(|call| matches!(call, Call::Leave))
}

#[tokio::test(start_paused = true)]
async fn draining_gives_back_what_has_not_started_and_finishes_the_rest() {
    let setup = Setup::new(4).await;
    let (unstarted, slow, hour) =
        (setup.broker.post("unstarted"), setup.broker.post("slow"), setup.broker.post("hour"));
    setup.pass(1.0).await;
    setup.shutdown.drain.cancel();
    setup.pass(0.1).await;
    let taken = setup.broker.job(unstarted).taken;
    assert!(matches!(taken[..], [Op::Release { reason: LossReason::Unstarted, .. }]));
    let later = setup.broker.post("done");
    setup.pass(15.0).await;
    assert_eq!(setup.broker.status(slow), JobStatus::Completed);
    assert_eq!(setup.broker.status(hour), JobStatus::InProgress, "it still has time");
    assert!(!has_left(&setup));
    setup.pass(16.0).await;
    let taken = setup.broker.job(hour).taken;
    assert!(matches!(taken[..], [Op::Start, Op::Release { reason: LossReason::Drained, .. }]));
    assert_eq!(setup.broker.status(later), JobStatus::Pending);
    assert!(has_left(&setup));
    assert_eq!(setup.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_leaves_at_once() {
    let setup = Setup::new(4).await;
    setup.shutdown.drain.cancel();
    setup.pass(0.01).await;
    assert!(has_left(&setup));
    assert_eq!(setup.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_leaves_at_once() {
    let setup = Setup::new(1).await;
    setup.broker.post("hour");
    setup.pass(1.0).await;
    setup.shutdown.drain.cancel();
    setup.pass(1.0).await;
    assert!(!has_left(&setup));
    setup.shutdown.abort.cancel();
    setup.pass(0.01).await;
    assert!(has_left(&setup));
    assert_eq!(setup.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_stop_does_not_keep_the_worker() {
    let setup = Setup::new(1).await;
    setup.broker.post("wedge");
    setup.pass(1.0).await;
    setup.service.with(|s| s.not_clear = Some("it runs on".into()));
    setup.shutdown.drain.cancel();
    setup.pass(41.0).await;
    assert!(has_left(&setup), "the store gives back what it held");
    assert_eq!(setup.ended().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_back_and_does_not_stop_does_not_keep_the_worker_at_all() {
    let setup = Setup::new(1).await;
    setup.service.with(|s| s.not_clear = Some("it runs on".into()));
    let job = setup.broker.post("wedge-stalled");
    setup.pass(62.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Pending);
    setup.shutdown.drain.cancel();
    setup.pass(0.1).await;
    assert!(has_left(&setup));
    assert_eq!(setup.ended().await, Ok(()));
}
