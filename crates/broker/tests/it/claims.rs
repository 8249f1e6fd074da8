//! Waiting claims: hints, the slow scan, and what a wait is not.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use pointsman_broker::{Broker, BrokerConfig, BrokerError, Exchanged, running_jobs};
use pointsman_core::{
    Answer, Command, JobId, LossReason, Rejected, WorkerId,
    command::{Exchange, Held, Op, OpAnswer},
    record::{ConnectorStatus, JobStatus, WorkerStatus},
};
use pointsman_store::conformance::fleet::{Fleet, Hand, completed, needs, spec};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{World, millis, quiet, secs};

type Waiting = JoinHandle<Result<(Exchanged, Duration), BrokerError>>;

fn claim(world: &World, hand: &Hand) -> Exchange {
    Fleet::exchange(hand, Vec::new(), vec![world.fleet.token()])
}

/// A claim that waits, and how long it did.
async fn wait(world: &World, hand: &Hand, time: Duration) -> Waiting {
    let (broker, exchange): (Broker, _) = (world.broker.clone(), claim(world, hand));
    let begun = Instant::now();
    let waiting = tokio::spawn(async move {
        let exchanged = broker.exchange(exchange, time, &|| {}).await?;
        Ok((exchanged, begun.elapsed()))
    });
    tokio::time::sleep(millis(1)).await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn a_job_wakes_one_able_worker() {
    let world = World::new(quiet()).await;
    let plain = world.fleet.worker("plain", 1, &[]).await;
    let able = world.fleet.worker("able", 1, &["special"]).await;
    let other = world.fleet.worker("other", 1, &["special"]).await;
    let waits_in_vain = wait(&world, &plain, secs(30)).await;
    let gets_it = wait(&world, &able, secs(30)).await;
    let waits_on = wait(&world, &other, secs(30)).await;
    let looked = world.store.exchanges.load(SeqCst);

    let job = world
        .fleet
        .submit(pointsman_core::record::JobSpec { requirements: needs("special"), ..spec(50) });
    let job = job.await;
    tokio::time::sleep(millis(1)).await;

    assert_eq!(world.store.exchanges.load(SeqCst), looked + 1, "only one looked");
    let (exchanged, waited) = gets_it.await.unwrap().unwrap();
    assert_eq!(exchanged.claimed[0].job.id, job);
    assert_eq!(&*exchanged.claimed[0].payload, b"{}");
    assert!(waited < millis(10), "{waited:?}");
    assert!(!waits_in_vain.is_finished() && !waits_on.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_costs_one_slow_scan() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    world.store.deaf.store(true, SeqCst);
    let waiting = wait(&world, &hand, secs(30)).await;
    world.fleet.submit(spec(50)).await;
    let (exchanged, waited) = waiting.await.unwrap().unwrap();
    assert_eq!(exchanged.claimed.len(), 1);
    assert!(waited <= secs(1), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_right_after_the_look_is_not_missed() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    *world.store.then.lock() = Some(Command::Submit(world.fleet.submission(spec(50))));
    let (exchanged, waited) = wait(&world, &hand, secs(30)).await.await.unwrap().unwrap();
    assert_eq!(exchanged.claimed.len(), 1);
    assert!(waited < millis(10), "it did not take the slow scan: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_wait_the_answer_comes_at_once() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let begun = Instant::now();
    let exchanged =
        world.broker.exchange(claim(&world, &hand), Duration::ZERO, &|| {}).await.unwrap();
    assert!(exchanged.claimed.is_empty());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_empty_and_is_cut_to_the_longest() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let (exchanged, waited) = wait(&world, &hand, secs(7)).await.await.unwrap().unwrap();
    assert!(exchanged.claimed.is_empty());
    assert_eq!(waited.as_secs(), 7);
    let (_, waited) = wait(&world, &hand, secs(1_000)).await.await.unwrap().unwrap();
    assert_eq!(waited.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn operations_are_applied_at_once_and_once() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    let ops = vec![Fleet::op(held, completed())];
    let exchange = Fleet::exchange(&hand, ops, vec![world.fleet.token()]);
    let broker = world.broker.clone();
    let waiting = tokio::spawn(async move { broker.exchange(exchange, secs(30), &|| {}).await });
    tokio::time::sleep(millis(1)).await;
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::Completed);

    let next = world.fleet.submit(spec(50)).await;
    let exchanged = waiting.await.unwrap().unwrap();
    assert_eq!(exchanged.ops, [Ok(OpAnswer::Settled { status: JobStatus::Completed })]);
    assert_eq!(exchanged.claimed[0].job.id, next);
    assert_eq!(
        world.fleet.story(held.job).await.iter().filter(|e| **e == "job_completed").count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_became_of_the_operations_is_told_although_the_wait_failed() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    let ops = vec![Fleet::op(held, completed())];
    let exchange = Fleet::exchange(&hand, ops, vec![world.fleet.token()]);
    let broker = world.broker.clone();
    let waiting = tokio::spawn(async move { broker.exchange(exchange, secs(30), &|| {}).await });
    tokio::time::sleep(millis(1)).await;
    world.fleet.worker("a", 1, &[]).await; // A newer process of the same worker.
    let exchanged = waiting.await.unwrap().unwrap();
    assert_eq!(exchanged.ops, [Ok(OpAnswer::Settled { status: JobStatus::Completed })]);
    assert!(exchanged.claimed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_repeated_claim_gets_the_same_job() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 2, &[]).await;
    let job = world.fleet.submit(spec(50)).await;
    let exchange = claim(&world, &hand);
    for _ in 0..2 {
        let exchanged = world.broker.exchange(exchange.clone(), secs(30), &|| {}).await.unwrap();
        assert_eq!(exchanged.claimed[0].job.id, job);
        assert_eq!(exchanged.claimed[0].job.attempt, 1);
        assert_eq!(&*exchanged.claimed[0].payload, b"{}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_nobody_is_refused_at_once() {
    let world = World::new(quiet()).await;
    let stranger = world.fleet.hand("stranger");
    let refused =
        world.broker.exchange(claim(&world, &stranger), secs(30), &|| {}).await.unwrap_err();
    let nobody = Rejected::WorkerNotFound(WorkerId::new("stranger").unwrap().to_string());
    assert_eq!(refused, BrokerError::Rejected(nobody));
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_looking_is_no_sign_of_the_workers_life() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    world.pass(secs(5)).await;
    // The worker is frozen; its call still waits at the server.
    let waiting = wait(&world, &hand, secs(30)).await;
    world.pass(secs(16)).await;
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    world.pass(secs(5)).await;
    assert!(!waiting.is_finished(), "the call still waits");
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
}

#[tokio::test(start_paused = true)]
async fn a_job_without_its_payload_fails_instead_of_going_round() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let job = world.fleet.submit(spec(50)).await;
    world.store.payloads_lost.store(true, SeqCst);
    let exchanged =
        world.broker.exchange(claim(&world, &hand), Duration::ZERO, &|| {}).await.unwrap();
    assert!(exchanged.claimed.is_empty());
    let record = serde_json::to_value(&*world.fleet.job(job).await).unwrap();
    assert_eq!(record["status"], "failed");
    assert_eq!(record["failure"]["code"], "payload_missing");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_waits() {
    let world = World::new(quiet()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let waiting = wait(&world, &hand, secs(30)).await;
    world.tasks.stop().await;
    let (exchanged, waited) = waiting.await.unwrap().unwrap();
    assert!(exchanged.claimed.is_empty());
    assert!(waited < millis(10));
}

/// The jobs of what a registration says runs: a worker goes on with these, and gives the others back.
async fn goes_on_with(world: &World, held: &[Held]) -> Vec<JobId> {
    let running = running_jobs(&*world.store, held, &|| {}).await.unwrap();
    running.iter().map(|claimed| claimed.job.id).collect()
}

/// What a process that takes a worker's place is told that it runs.
async fn taken_over(world: &World, hand: &mut Hand, slots: u32) -> Vec<Held> {
    hand.incarnation = world.fleet.hand("a").incarnation;
    let register = Fleet::registration(hand, slots, &[]);
    match world.fleet.run(Command::Register(register)).await.unwrap().0 {
        Answer::Registered { running } => running,
        other => panic!("a registration was answered {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_moved_on_since_the_registration_is_not_run_once_more() {
    let world = World::new(quiet()).await;
    let mut hand = world.fleet.worker("a", 3, &[]).await;
    let [stays, lost, ended] = [
        world.fleet.running(&hand).await,
        world.fleet.running(&hand).await,
        world.fleet.running(&hand).await,
    ];
    let held = taken_over(&world, &mut hand, 3).await;
    assert_eq!(held.len(), 3);
    // Before its jobs are read one is another worker's, and one has ended.
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    world.fleet.act(&hand, lost, release).await.unwrap();
    let other = world.fleet.worker("b", 1, &[]).await;
    assert_eq!(world.fleet.claim(&other).await.unwrap().job, lost.job);
    world.fleet.act(&hand, ended, completed()).await.unwrap();
    assert_eq!(goes_on_with(&world, &held).await, [stays.job]);
}

#[tokio::test(start_paused = true)]
async fn a_running_job_without_its_payload_is_given_back_and_fails_alone() {
    let world = World::new(quiet()).await;
    let mut hand = world.fleet.worker("a", 2, &[]).await;
    let sound = world.fleet.running(&hand).await;
    let mut broken = world.fleet.submission(spec(50));
    broken.payload = Arc::from(&b"{\"half"[..]);
    world.fleet.run(Command::Submit(broken)).await.unwrap();
    let broken = world.fleet.claim(&hand).await.unwrap();
    let held = taken_over(&world, &mut hand, 2).await;
    assert_eq!(goes_on_with(&world, &held).await, [sound.job], "what is no JSON goes to nobody");
    world.store.payloads_lost.store(true, SeqCst);
    assert_eq!(goes_on_with(&world, &held).await, [], "and what is gone is no error");
    // So the worker gives it back, and it does not go round.
    world.store.payloads_lost.store(false, SeqCst);
    let release = Op::Release { reason: LossReason::NotAdopted, message: String::new() };
    world.fleet.act(&hand, broken, release).await.unwrap();
    world.fleet.report(&hand, ConnectorStatus::Idle).await;
    let exchange = claim(&world, &hand);
    assert!(world.broker.exchange(exchange, secs(0), &|| {}).await.unwrap().claimed.is_empty());
    let failed = serde_json::to_value(&*world.fleet.job(broken.job).await).unwrap();
    assert_eq!(
        (&failed["status"], &failed["failure"]["code"]),
        (&"failed".into(), &"payload_damaged".into())
    );
    assert_eq!(world.fleet.job(sound.job).await.status(), JobStatus::InProgress);
}
