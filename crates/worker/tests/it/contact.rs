//! When the broker is away, or says no.

use std::time::Duration;

use pointsman_core::{
    command::Op,
    record::{ConnectorStatus, JobStatus},
};
use pointsman_worker::WorkerError;
use tokio::time::Instant;

use crate::{
    broker::{Call, FakeBroker, Line},
    service::FakeService,
    setup::Setup,
};

#[tokio::test(start_paused = true)]
async fn a_broker_gone_for_20_s_costs_nothing() {
    let setup = Setup::new(3).await;
    let (long, ends, file) =
        (setup.broker.post("hour"), setup.broker.post("slow"), setup.broker.post("file"));
    setup.pass(0.001).await;
    setup.broker.with(|s| s.line = Line::Down);
    setup.pass(20.0).await;
    setup.broker.with(|s| s.line = Line::Up);
    let waiting = setup.broker.post("done");
    setup.pass(2.5).await;
    assert_eq!(setup.broker.status(ends), JobStatus::Completed);
    assert_eq!(setup.broker.status(file), JobStatus::Completed);
    assert_eq!(setup.broker.status(waiting), JobStatus::Completed);
    assert_eq!(setup.broker.job(long).taken, [Op::Start]);
    assert_eq!(setup.broker.status(long), JobStatus::InProgress);
    assert_eq!(setup.service.runs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_up_yet_is_waited_for() {
    let broker = FakeBroker::new();
    broker.with(|s| s.line = Line::Down);
    let setup = Setup::with(1, broker.clone(), FakeService::new("fake")).await;
    setup.pass(30.0).await;
    broker.with(|s| s.line = Line::Up);
    let job = broker.post("done");
    setup.pass(2.5).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_import_is_waited_for() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.importing = true);
    setup.pass(30.0).await;
    let started = Setup::with(1, setup.broker.clone(), FakeService::new("fake")).await;
    started.pass(30.0).await;
    setup.broker.with(|s| s.importing = false);
    let job = setup.broker.post("done");
    setup.pass(5.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    assert!(!setup.has_ended() && !started.has_ended());
}

#[tokio::test(start_paused = true)]
async fn a_superseded_worker_stops_and_says_no_more() {
    let setup = Setup::new(1).await;
    setup.broker.post("hour");
    setup.pass(1.0).await;
    setup.broker.with(|s| s.superseded = true);
    setup.pass(4.0).await;
    assert!(setup.has_ended());
    let broker = setup.broker.clone();
    let calls = broker.calls().len();
    let ended = setup.ended().await;
    assert!(matches!(ended, Err(WorkerError::Superseded(_))), "{ended:?}");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(broker.calls().len(), calls);
    assert!(!broker.calls().iter().any(|call| matches!(call, Call::Leave)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_store_a_newer_version_took_over_ends_at_once() {
    let setup = Setup::new(2).await;
    let job = setup.broker.post("slow");
    setup.broker.post("hour");
    setup.pass(1.0).await;
    setup.broker.with(|s| s.taken_over = true);
    // Also one that is draining does not wait for its jobs.
    setup.shutdown.drain.cancel();
    setup.pass(4.0).await;
    assert!(setup.has_ended());
    assert_eq!(setup.broker.status(job), JobStatus::InProgress, "nobody was told anything");
    assert!(matches!(setup.ended().await, Err(WorkerError::Newer(_))));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_forgotten_registers_again_as_the_same() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| s.forgotten = true);
    setup.pass(4.0).await;
    let job = setup.broker.post("done");
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
    let incarnations: Vec<_> = setup
        .broker
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Register(register) => Some(register.incarnation),
            _ => None,
        })
        .collect();
    assert!(incarnations.len() >= 2);
    assert!(incarnations.iter().all(|i| *i == incarnations[0]));
}

#[tokio::test(start_paused = true)]
async fn no_claims_out_of_contact_or_while_the_service_is_not_able() {
    let setup = Setup::new(1).await;
    setup.service.with(|s| {
        s.health = pointsman_connectors::Health::new(ConnectorStatus::Offline, "refused");
    });
    setup.pass(6.0).await;
    let job = setup.broker.post("done");
    // The claim that was out brings it, and it is given back at no cost.
    setup.pass(40.0).await;
    let given_back = setup.broker.job(job);
    assert!(matches!(&given_back.taken[..], [Op::Release { reason, .. }] if !reason.counts()));
    assert_eq!(setup.service.runs(), 0);
    let job = setup.broker.post("done");
    setup.pass(40.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Pending);
    setup.service.with(|s| s.health = pointsman_connectors::Health::idle());
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn ordered_to_drain_it_finishes_what_it_has_and_takes_no_more() {
    let setup = Setup::new(2).await;
    let running = setup.broker.post("slow");
    setup.pass(0.5).await;
    setup.broker.with(|s| s.orders.drain = true);
    setup.pass(31.0).await;
    assert_eq!(setup.broker.status(running), JobStatus::Completed);
    setup.pass(31.0).await;
    let claims = |s: &Setup| {
        let claim = |c: &Call| matches!(c, Call::Exchange { tokens, .. } if !tokens.is_empty());
        s.broker.calls().iter().filter(|c| claim(c)).count()
    };
    let before = claims(&setup);
    setup.pass(60.0).await;
    assert_eq!(claims(&setup), before);
    setup.broker.with(|s| s.orders.drain = false);
    let job = setup.broker.post("done");
    setup.pass(5.5).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn it_never_claims_while_it_cannot_renew() {
    let setup = Setup::new(1).await;
    let post_for = async |seconds: u32| {
        for _ in 0..seconds * 10 {
            setup.broker.post("done");
            setup.pass(0.1).await;
        }
    };
    post_for(4).await;
    setup.broker.with(|s| s.renewals_hang = true);
    post_for(10).await;
    let (renewed, _, _) = setup.broker.renewals().pop().unwrap();
    let claims = |s: &Setup| -> Vec<Instant> {
        let claim = |c: &Call| matches!(c, Call::Exchange { tokens, .. } if !tokens.is_empty());
        s.broker.with(|s| s.calls.iter().filter(|(_, c)| claim(c)).map(|(at, _)| *at).collect())
    };
    // A lease lasts 10 s and a renewal comes every 3 s; the claim that was out brings one more job.
    let last = claims(&setup).pop().unwrap();
    assert!(last - renewed > Duration::from_secs(6), "until then it claims");
    assert!(last - renewed < Duration::from_millis(7_200), "{:?}", last - renewed);
    let waiting = setup.broker.post("done");
    setup.broker.with(|s| s.renewals_hang = false);
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(waiting), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_where_nothing_is_answered_is_left() {
    let setup = Setup::new(1).await;
    setup.broker.with(|s| (s.renewals_hang, s.claims_hang) = (true, true));
    let job = setup.broker.post("done");
    setup.pass(12.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Pending);
    // As another server would.
    setup.broker.with(|s| (s.renewals_hang, s.claims_hang) = (false, false));
    setup.pass(4.0).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_repeated_out_of_contact_is_left_out() {
    let setup = Setup::new(1).await;
    let job = setup.broker.post("slow");
    setup.pass(7.9).await;
    setup.broker.with(|s| (s.line, s.renewals_hang) = (Line::Down, true));
    setup.pass(10.0).await;
    let next = setup.broker.post("done");
    setup.broker.with(|s| s.line = Line::Up);
    setup.pass(2.5).await;
    assert_eq!(setup.broker.status(job), JobStatus::Completed, "its end is handed in");
    assert_eq!(setup.broker.job(next).attempt, 0, "no claim came with it");
    setup.broker.with(|s| s.renewals_hang = false);
    setup.pass(6.0).await;
    assert_eq!(setup.broker.status(next), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn it_knocks_less_and_less_often_and_not_in_step_with_others() {
    let mut all = Vec::new();
    for _ in 0..2 {
        let setup = Setup::new(1).await;
        setup.broker.with(|s| (s.line, s.tries) = (Line::Down, Vec::new()));
        let cut = Instant::now();
        setup.pass(28.0).await;
        let tries = setup.broker.with(|s| s.tries.clone());
        let gaps: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[0] <= Duration::from_millis(100), "{gaps:?}");
        assert!(gaps.iter().skip(5).all(|gap| (1000..=2000).contains(&gap.as_millis())));
        all.push(tries.iter().map(|at| *at - cut).collect::<Vec<_>>());
    }
    assert_ne!(all[0], all[1]);
}
