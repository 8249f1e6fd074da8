//! What is wrong with what is stored: found, told, and mended.

use std::sync::atomic::Ordering::SeqCst;

use pointsman_broker::BrokerError;
use pointsman_core::{
    Command, Event, EventName, Record, Rejected,
    command::Raise,
    doctor::{Finding, FindingRule, MendOutcome},
    record::{AlertId, AlertRule, ConnectorStatus, Job, Severity, Worker, WorkerStatus},
};
use pointsman_store::conformance::{
    fleet::{Hand, spec},
    logged::Log,
};

use crate::support::{World, secs};

/// The record of a worker that somebody has written over.
async fn corrupt(world: &World, hand: &Hand, change: impl FnOnce(&mut Worker)) {
    let mut worker = (*world.fleet.worker_record(hand).await).clone();
    change(&mut worker);
    let record = Record::Worker(worker.into());
    world.fleet.corrupt(vec![Event::put(EventName::WorkerStatusChanged, record)]).await;
}

async fn inconsistent(world: &World) -> Vec<(String, String, String)> {
    world.settle().await;
    let alerts = world.broker.snapshot().await.alerts.into_iter();
    let alerts = alerts.filter(|alert| alert.rule == AlertRule::Inconsistent);
    alerts.map(|a| (a.subject.clone(), a.message.clone(), a.action.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_corrupted_worker_is_shown_within_seconds_until_it_is_mended() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("w", 1, &[]).await;
    world.pass(secs(61)).await;
    corrupt(&world, &hand, |worker| worker.machine_id = "unknown".parse().unwrap()).await;
    world.pass(secs(6)).await;
    let shown = inconsistent(&world).await;
    let [(_, of_connector, _), (subject, message, action)] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert_eq!(subject, "worker/w");
    assert!(message.contains("machine unknown does not exist"), "{message}");
    assert!(message.contains("without a machine") && action.contains("connectors"), "{action}");
    assert!(of_connector.contains("its worker on unknown"), "{of_connector}");
    // It stays, and stays shown: nobody repairs a corrupted record unasked.
    world.pass(secs(120)).await;
    assert_eq!(inconsistent(&world).await, shown);
    assert!(world.broker.snapshot().await.workers.iter().any(|worker| worker.id == hand.worker));

    let mended = world.broker.mend(Some(vec!["unknown_machine:worker/w".into()])).await.unwrap();
    assert_eq!(mended[0].outcome, MendOutcome::Repaired);
    assert_eq!(inconsistent(&world).await, [], "at once");
    assert_eq!(world.fleet.worker_record(&hand).await.machine_id, hand.machine);
}

#[tokio::test(start_paused = true)]
async fn lists_that_follow_from_the_jobs_are_repaired_unasked() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("w", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    let stranger = world.fleet.submit(spec(50)).await;
    corrupt(&world, &hand, |worker| worker.current_job_ids.extend([stranger])).await;
    world.pass(secs(6)).await;
    let own = world.fleet.worker_record(&hand).await.current_job_ids.clone();
    assert_eq!(own.into_iter().collect::<Vec<_>>(), [held.job]);
    assert_eq!(inconsistent(&world).await, []);
    world.fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.unwrap();
    // Not so while something else is wrong with the worker: it is repaired as a whole.
    corrupt(&world, &hand, |worker| {
        worker.current_job_ids.extend([stranger]);
        worker.status = WorkerStatus::Offline;
    })
    .await;
    world.pass(secs(6)).await;
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    assert_eq!(inconsistent(&world).await.len(), 1);
    world.broker.mend_worker(&hand.worker).await.unwrap();
    world.fleet.check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_machines_record_is_mended_alone() {
    let world = World::reconciled().await;
    let unreadable = |subject| Finding::new(FindingRule::UnreadableField, subject, "no status");
    let subjects = ["machine/box", "machine/box-2", "worker/box"];
    world.store.unreadable.lock().extend(subjects.map(unreadable));
    let mended = world.broker.mend_machine(&"box".parse().unwrap()).await.unwrap();
    let mended: Vec<_> = mended.iter().map(|mended| &*mended.finding.subject).collect();
    assert_eq!(mended, ["machine/box"]);
    let left = world.broker.examine().await.unwrap().findings;
    let left: Vec<_> = left.iter().map(|finding| &*finding.subject).collect();
    assert_eq!(left, ["machine/box-2", "worker/box"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_command_met_is_looked_for_at_once() {
    let world = World::reconciled().await;
    let job = world.fleet.submit(spec(50)).await;
    world.pass(secs(6)).await;
    let looks = || world.store.thorough_looks.load(SeqCst);
    let before = looks();
    world.store.damaged.store(true, SeqCst);
    for _ in 0..10 {
        // Again and again it is the same.
        let refused = world.broker.execute(Command::Cancel { job }).await.unwrap_err();
        assert!(matches!(refused, BrokerError::Rejected(Rejected::Damaged(_))), "{refused}");
        world.pass(secs(5)).await;
    }
    assert_eq!(looks() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_looked_at_once_a_minute_and_at_first_more_often_while_it_is_wrong() {
    let world = World::reconciled().await;
    let job = world.fleet.submit(spec(50)).await;
    world.fleet.run(Command::Cancel { job }).await.unwrap();
    world.pass(secs(1)).await;
    let looks = || world.store.thorough_looks.load(SeqCst);
    let before = looks();
    world.pass(secs(120)).await;
    assert_eq!(looks() - before, 2);
    let mut wrong = (*world.fleet.job(job).await).clone();
    let right = wrong.clone();
    wrong.ended_mut().unwrap().ended_no = 99;
    let put = |job: Job| vec![Event::put(EventName::JobUpdated, Record::Job(job.into()))];
    world.fleet.corrupt(put(wrong.clone())).await;
    world.pass(secs(61)).await;
    let shown = inconsistent(&world).await;
    assert_eq!(shown[0].0, format!("job/{job}"));
    // It stays: ever less often, and said once.
    world.pass(secs(120)).await;
    let (log, listening) = Log::listen();
    let before = looks();
    world.pass(secs(120)).await;
    assert_eq!(looks() - before, 2);
    drop(listening);
    assert_eq!(*log.0.lock(), [""; 0]);
    assert_eq!(inconsistent(&world).await, shown);
    world.fleet.corrupt(put(right.clone())).await;
    world.pass(secs(66)).await;
    assert_eq!(inconsistent(&world).await, []);
    world.fleet.corrupt(put(wrong)).await;
    while inconsistent(&world).await.is_empty() {
        world.pass(secs(1)).await;
    }
    // Somebody else made it right.
    world.fleet.corrupt(put(right)).await;
    world.pass(secs(6)).await;
    assert_eq!(inconsistent(&world).await, []);
}

/// A server found something wrong and was killed; then it was mended.
#[tokio::test(start_paused = true)]
async fn what_only_a_server_that_is_gone_had_found_wrong_is_looked_at_at_once() {
    let world = World::reconciled().await;
    let job = world.fleet.submit(spec(50)).await;
    world.pass(secs(6)).await;
    let raise = Raise {
        alert: AlertId { rule: AlertRule::Inconsistent, subject: format!("job/{job}") },
        severity: Severity::Critical,
        message: "another server found it".into(),
        action: String::new(),
    };
    world.fleet.run(Command::Raise(raise)).await.unwrap();
    assert_eq!(inconsistent(&world).await.len(), 1);
    let looks = || world.store.thorough_looks.load(SeqCst);
    let before = looks();
    world.pass(secs(6)).await;
    assert_eq!(inconsistent(&world).await, []);
    assert_eq!(looks() - before, 1);
    world.pass(secs(30)).await;
    assert_eq!(looks() - before, 1, "once");
}
