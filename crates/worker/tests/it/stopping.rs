//! Told to stop.

use std::time::Duration;

use pointsman_core::{LossReason, command::Op, record::JobStatus};

use crate::{
    broker::{Call, FakeBroker, Line},
    service::FakeService,
    setup::Setup,
};

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

/// Who watches sees at once that it takes no more, and until it has left.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_told_to_stop_says_so_at_once() {
    let setup = Setup::new(1).await;
    setup.broker.post("hour");
    setup.pass(1.0).await;
    let said = || setup.broker.renewals().into_iter().map(|(_, renew, _)| renew.stopping);
    let before = said().count();
    assert!(said().all(|stopping| !stopping));
    setup.shutdown.drain.cancel();
    setup.pass(0.1).await;
    let since = || said().skip(before).collect::<Vec<_>>();
    assert_eq!(since(), [true]);
    setup.pass(31.0).await;
    assert!(has_left(&setup));
    assert!(since().len() > 10 && since().into_iter().all(|stopping| stopping));
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_leaves_at_once() {
    let setup = Setup::new(4).await;
    setup.shutdown.drain.cancel();
    setup.pass(0.01).await;
    assert!(has_left(&setup));
    assert_eq!(setup.ended().await, Ok(()));
}

/// The store may know the worker before the worker knows that.
#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_while_it_registers_says_goodbye() {
    let broker = FakeBroker::new();
    broker.with(|s| s.registered_takes = Duration::from_millis(500));
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    setup.shutdown.drain.cancel();
    assert_eq!(setup.ended().await, Ok(()));
    let calls = broker.calls();
    let [Call::Register(_), .., Call::Leave] = &calls[..] else { panic!("{calls:?}") };
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_while_it_cannot_register_ends_soon() {
    let broker = FakeBroker::new();
    broker.with(|s| s.line = Line::Down);
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    setup.shutdown.drain.cancel();
    setup.pass(1.5).await;
    assert!(setup.has_ended());
    assert!(broker.calls().is_empty());
}

/// Broken off it could be carried out all the same, after the goodbye, and bring the worker back.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_under_way_comes_before_the_goodbye() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.renewals_take = Duration::from_millis(500));
    setup.shutdown.drain.cancel();
    let broker = setup.broker.clone();
    assert_eq!(setup.ended().await, Ok(()));
    let calls = broker.calls();
    let [.., Call::Renew { renew, .. }, Call::Leave] = &calls[..] else { panic!("{calls:?}") };
    assert!(renew.stopping);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_keep_the_worker() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.renewals_hang = true);
    setup.shutdown.drain.cancel();
    setup.pass(1.1).await;
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

/// What its service still runs after that is nothing to wait for.
#[tokio::test(start_paused = true)]
async fn what_is_stuck_keeps_the_worker_until_it_is_given_up() {
    for drains_after in [50.0, 70.0] {
        let setup = Setup::new(1).await;
        setup.service.with(|s| s.not_clear = Some("prompt still runs".into()));
        let job = setup.broker.post("wedge-stalled");
        setup.pass(drains_after).await;
        setup.shutdown.drain.cancel();
        if drains_after < 60.0 {
            setup.pass(5.0).await;
            assert!(!has_left(&setup));
            setup.pass(10.0).await;
        }
        setup.pass(1.0).await;
        assert!(has_left(&setup), "told after {drains_after} s");
        let taken = setup.broker.job(job).taken;
        assert!(matches!(taken[..], [Op::Start, Op::Release { .. }]), "{taken:?}");
        assert_eq!(setup.ended().await, Ok(()));
    }
}
