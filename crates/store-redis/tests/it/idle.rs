//! What is left out while nothing happens is not missed when something does.

use std::time::Duration;

use pointsman_core::{
    Answer, Command, Record,
    decide::limits,
    record::{ConnectorStatus, JobSpec, MachineStatus},
};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use pointsman_store::{
    Due, Retention, WorkHint,
    conformance::fleet::{Fleet, Hand, needs, spec, within},
};
use tokio::time::timeout;

use crate::support::{count, fleet_at, run};

/// On a redis-server of its own, whose commands can be counted.
async fn started() -> (RedisServer, Fleet) {
    let server = RedisServer::start(RedisOptions::default()).await.expect("it starts");
    let fleet = fleet_at(&server);
    (server, fleet)
}

/// How often a command was called meanwhile.
async fn calls<T>(server: &RedisServer, command: &str, meanwhile: impl Future<Output = T>) -> u32 {
    run(server, "CONFIG RESETSTAT").await;
    meanwhile.await;
    count(server, command, "calls").await
}

/// How often it is asked whether something is there: whether the slot stays, or heads.
async fn asks<T>(server: &RedisServer, meanwhile: impl Future<Output = T>) -> u32 {
    calls(server, "exists", meanwhile).await
}

fn waits(fleet: &Fleet, hand: &Hand) -> WorkHint {
    fleet.store.wait_for_work(hand.worker.clone(), Vec::new())
}

async fn looks(fleet: &Fleet, hand: &Hand) {
    let exchange = Fleet::exchange(hand, Vec::new(), vec![fleet.token()]);
    let (answer, _) = fleet.run(Command::Exchange(exchange)).await.expect("a valid claim");
    assert!(matches!(answer, Answer::Exchanged { claimed, .. } if claimed.is_empty()));
}

async fn is_heard(fleet: &Fleet, hand: &Hand) {
    fleet.report(hand, ConnectorStatus::Idle).await;
}

#[tokio::test]
async fn a_renewal_looks_for_the_worker_that_waits() {
    let (server, fleet) = started().await;
    let hand = fleet.worker("w", 1, &[]).await;
    is_heard(&fleet, &hand).await;
    let hint = waits(&fleet, &hand);
    looks(&fleet, &hand).await;
    // Each renewal asks whether the slot stays, and with that for the heads.
    assert_eq!(asks(&server, is_heard(&fleet, &hand)).await, 1);
    assert_eq!(asks(&server, looks(&fleet, &hand)).await, 0, "the renewal has just looked");
    drop(hint);
    assert_eq!(asks(&server, looks(&fleet, &hand)).await, 1, "it does not wait");
    let _hint = waits(&fleet, &hand);
    is_heard(&fleet, &hand).await;
    assert_eq!(asks(&server, looks(&fleet, &hand)).await, 1, "it begins to wait");
}

#[tokio::test]
async fn what_one_worker_sees_spares_the_others() {
    let (server, fleet) = started().await;
    let (one, other) = (fleet.worker("one", 1, &[]).await, fleet.worker("other", 1, &[]).await);
    let _hints = (waits(&fleet, &one), waits(&fleet, &other));
    looks(&fleet, &one).await;
    looks(&fleet, &other).await;
    assert_eq!(asks(&server, looks(&fleet, &one)).await, 0, "the other one looked after it");
    assert_eq!(asks(&server, looks(&fleet, &other)).await, 1, "nobody looked after it");
}

/// A wake-up was lost: the next renewal sees the job.
#[tokio::test]
async fn a_renewal_that_sees_a_job_wakes_the_worker() {
    let (server, fleet) = started().await;
    let hand = fleet.worker("w", 1, &[]).await;
    is_heard(&fleet, &hand).await;
    let mut hint = waits(&fleet, &hand);
    looks(&fleet, &hand).await;
    is_heard(&fleet, &hand).await;
    // Nobody is known to wait, so nobody is woken.
    run(&server, "DEL {pointsman:default}:waiting:simulation").await;
    let job = fleet.submit(spec(50)).await;
    assert!(timeout(Duration::from_millis(50), hint.wait()).await.is_err(), "it was not lost");
    is_heard(&fleet, &hand).await;
    within("the renewal woke it", hint.wait()).await;
    assert_eq!(fleet.claim(&hand).await.expect("a job to claim").job, job);
}

/// It waits with what it had; a job that only what it has now can run has to wake it, too.
#[tokio::test]
async fn a_worker_that_has_something_else_waits_anew() {
    let (_server, fleet) = started().await;
    let hand = fleet.worker("w", 1, &[]).await;
    let mut hint = waits(&fleet, &hand);
    looks(&fleet, &hand).await;
    let register = Fleet::registration(&hand, 1, &["x"]);
    fleet.run(Command::Register(register)).await.expect("a valid registration");
    within("it is told to wait anew", hint.wait()).await;
    let mut hint = waits(&fleet, &hand);
    looks(&fleet, &hand).await;
    fleet.submit(JobSpec { requirements: needs("x"), ..spec(50) }).await;
    within("the job woke it", hint.wait()).await;
}

#[tokio::test]
async fn a_store_that_closes_ends_every_wait() {
    let (_server, fleet) = started().await;
    let hand = fleet.worker("w", 1, &[]).await;
    let mut hint = waits(&fleet, &hand);
    looks(&fleet, &hand).await;
    fleet.store.close().await.expect("it closes");
    within("nobody waits at a closed store", hint.wait()).await;
}

#[tokio::test]
async fn machines_are_looked_at_when_one_may_differ() {
    let (server, fleet) = started().await;
    let hands = [fleet.worker("one", 1, &[]).await, fleet.worker("other", 1, &[]).await];
    let reconcile = async || _ = fleet.reconcile(Due::Machines).await;
    let status = async |hand| fleet.machine_record(hand).await.status;
    // Each look at all of them asks for the workers of each.
    let looked = async || calls(&server, "smembers", reconcile()).await > 0;
    fleet.advance(limits::SILENT_AFTER / 2);
    is_heard(&fleet, &hands[0]).await;
    is_heard(&fleet, &hands[1]).await;
    fleet.advance(limits::SILENT_AFTER / 2);
    assert!(looked().await);
    assert!(!looked().await, "all were heard");
    fleet.advance(limits::SILENT_AFTER / 3);
    is_heard(&fleet, &hands[1]).await;
    fleet.advance(limits::SILENT_AFTER / 3);
    assert!(looked().await);
    assert_eq!(status(&hands[0]).await, MachineStatus::Disconnected);
    assert_eq!(status(&hands[1]).await, MachineStatus::Ready);
    reconcile().await;
    assert!(!looked().await, "it stays silent, and the other one does not");
    is_heard(&fleet, &hands[0]).await;
    assert!(looked().await);
    assert_eq!(status(&hands[0]).await, MachineStatus::Ready);
}

#[tokio::test]
async fn what_is_kept_costs_nothing_of_workers_that_are_heard() {
    let (server, fleet) = started().await;
    let hands = [fleet.worker("one", 1, &[]).await, fleet.worker("other", 1, &[]).await];
    let keep = Due::Gone(Retention { gone: 0, ..Retention::default() });
    fleet.reconcile(Due::Machines).await;
    fleet.advance(limits::SILENT_AFTER);
    is_heard(&fleet, &hands[1]).await;
    assert_eq!(
        calls(&server, "hgetall", fleet.reconcile(keep)).await,
        1,
        "it asks for the silent one"
    );
    fleet.reconcile(Due::Workers).await;
    fleet.reconcile(keep).await;
    let left = fleet.store.seed().await.expect("the store works").records;
    let left = left.iter().filter_map(|record| match record {
        Record::Worker(worker) => Some(worker.id.clone()),
        _ => None,
    });
    assert_eq!(left.collect::<Vec<_>>(), [hands[1].worker.clone()]);
}

#[tokio::test]
async fn who_is_gone_costs_nothing_until_it_comes_back() {
    let (server, fleet) = started().await;
    let mut hands = Vec::new();
    for n in 0..10 {
        let hand = fleet.worker(&format!("w{n}"), 1, &[]).await;
        let (worker, incarnation) = (hand.worker.clone(), hand.incarnation);
        fleet.run(Command::Leave { worker, incarnation }).await.expect("a valid goodbye");
        hands.push(hand);
    }
    fleet.advance(limits::STALE_AFTER);
    let look = async || {
        for due in [Due::Workers, Due::Connectors, Due::Gone(Retention::default())] {
            fleet.reconcile(due).await;
        }
    };
    assert_eq!(calls(&server, "hgetall", look()).await, 30, "each, with its connector and machine");
    assert_eq!(calls(&server, "hgetall", look()).await, 0, "they were not heard");
    is_heard(&fleet, &hands[0]).await;
    assert!(!fleet.worker_record(&hands[0]).await.is_offline());
    fleet.advance(limits::SILENT_AFTER);
    fleet.reconcile(Due::Workers).await;
    assert!(fleet.worker_record(&hands[0]).await.is_offline(), "it went silent");
    fleet.advance(Duration::from_secs(60));
    look().await;
    let keep = Retention { gone_for: Duration::from_secs(100), ..Retention::default() };
    assert_eq!(fleet.reconcile(Due::Gone(keep)).await, 9, "the one that came back stays");
}
