//! The reconcilers, each at its work, and what they do after an absence of their own.

use std::sync::atomic::Ordering::SeqCst;

use pointsman_broker::BrokerConfig;
use pointsman_core::{
    Command, FailureKind, RecordKey,
    record::{AlertRule, ConnectorStatus, JobSpec, JobStatus, MachineStatus, WorkerStatus},
};
use pointsman_store::{
    Contradiction, Health, Retention,
    conformance::fleet::{Fleet, failed, needs, spec},
};

use crate::support::{World, millis, secs};

impl World {
    async fn reconciled() -> Self {
        Self::new(BrokerConfig::default()).await
    }

    async fn alerts(&self) -> Vec<AlertRule> {
        self.settle().await;
        self.broker.snapshot().await.alerts.iter().map(|alert| alert.rule).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_workers_job_goes_back_and_the_worker_and_its_machine_are_shown_as_gone() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.pass(millis(9_900)).await;
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::InProgress);
    world.pass(millis(800)).await;
    let job = world.fleet.job(held.job).await;
    assert_eq!((job.status(), job.losses), (JobStatus::Pending, 1));
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    world.pass(secs(5)).await;
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    assert_eq!(world.fleet.machine_record(&hand).await.status, MachineStatus::Disconnected);
    assert_eq!(world.fleet.connector_record(&hand).await.status, ConnectorStatus::Unknown);

    // And the end of silence is an event too.
    world.fleet.report(&hand, ConnectorStatus::Idle).await;
    world.pass(secs(1)).await;
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    assert_eq!(world.fleet.machine_record(&hand).await.status, MachineStatus::Ready);
    let leases = world.broker.reconcilers().into_iter().find(|status| status.name == "leases");
    let leases = leases.expect("shown");
    assert!(leases.runs > 20 && leases.done == 1 && leases.error.is_none(), "{leases:?}");
    assert!(leases.last_change_at < leases.last_run_at);
}

#[tokio::test(start_paused = true)]
async fn an_absence_of_the_broker_is_not_the_workers_silence() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.pass(secs(2)).await;
    assert_eq!(world.store.contacts_broken.load(SeqCst), 0);

    // The whole process is frozen for a minute: no task runs, both clocks go on.
    world.fleet.advance(secs(60));
    tokio::time::advance(secs(60)).await;
    world.pass(secs(1)).await;
    assert_eq!(world.store.contacts_broken.load(SeqCst), 1);
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::InProgress);
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Busy);

    // Who is really gone is found out a full deadline later.
    world.pass(secs(10)).await;
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn an_absence_of_the_store_is_not_the_workers_silence() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.store.down.store(true, SeqCst);
    world.pass(secs(20)).await;
    let errors = world.broker.reconcilers().into_iter().filter(|status| status.error.is_some());
    assert!(errors.count() >= 5, "shown");
    world.store.down.store(false, SeqCst);
    world.pass(secs(2)).await;
    assert!(world.store.contacts_broken.load(SeqCst) >= 1);
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::InProgress);
    world.pass(secs(10)).await;
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_retry_is_at_most_a_tenth_of_a_second_late() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.unwrap();
    world.pass(millis(975)).await;
    assert!(!world.fleet.job(held.job).await.is_waiting(), "held for a second");
    world.pass(millis(125)).await;
    assert!(world.fleet.job(held.job).await.is_waiting());
    assert!(world.fleet.story(held.job).await.contains(&"job_ready"));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_nothing_confirms_becomes_unknown_and_comes_back() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    // The worker is there, and says nothing of its connector.
    let mut silent = Fleet::renewal(&hand, Vec::new(), ConnectorStatus::Idle);
    silent.connectors.clear();
    for _ in 0..14 {
        world.pass(secs(5)).await;
        world.broker.renew(silent.clone(), Vec::new()).await.unwrap();
    }
    let connector = world.fleet.connector_record(&hand).await;
    assert_eq!(connector.status, ConnectorStatus::Unknown);
    assert!(connector.error_message.as_ref().unwrap().starts_with("Status stale"));
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    world.fleet.report(&hand, ConnectorStatus::Idle).await;
    assert_eq!(world.fleet.connector_record(&hand).await.status, ConnectorStatus::Idle);
}

#[tokio::test(start_paused = true)]
async fn an_exclusion_lapses_when_nobody_else_could() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.fleet.act(&hand, held, failed(FailureKind::WrongWorker)).await.unwrap();
    assert!(!Fleet::excluded(&*world.fleet.job(held.job).await).is_empty());
    world.pass(millis(1_100)).await;
    assert!(Fleet::excluded(&*world.fleet.job(held.job).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_alert_stands_while_nobody_is_able_and_no_longer() {
    let world = World::reconciled().await;
    world.fleet.worker("a", 1, &[]).await;
    let picky = JobSpec { requirements: needs("special"), ..spec(50) };
    world.fleet.submit(JobSpec { created_at: world.store_now(), ..picky }).await;
    world.pass(secs(9)).await;
    assert_eq!(world.alerts().await, []);
    world.pass(secs(4)).await;
    assert_eq!(world.alerts().await, [AlertRule::NobodyAble]);
    let seq = world.fleet.seq().await;
    world.pass(secs(1)).await;
    assert_eq!(world.fleet.seq().await, seq, "the same again is no event");
    world.fleet.worker("b", 1, &["special"]).await;
    world.pass(secs(3)).await;
    assert_eq!(world.alerts().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_that_takes_no_alert_does_not_excuse_the_workers() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.store.set_health(Health::Full("no space left".into()));
    world.store.alerts_refused.store(true, SeqCst);
    world.pass(secs(11)).await;
    let alerts = world.broker.reconcilers().into_iter().find(|status| status.name == "alerts");
    assert!(alerts.unwrap().error.unwrap().contains("no space left"), "shown");
    assert_eq!(world.store.contacts_broken.load(SeqCst), 0);
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::Pending);

    world.store.alerts_refused.store(false, SeqCst);
    world.pass(secs(3)).await;
    assert!(world.alerts().await.contains(&AlertRule::StoreFull));
    world.store.set_health(Health::Ready);
    world.pass(secs(3)).await;
    assert!(!world.alerts().await.contains(&AlertRule::StoreFull));
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_lost_again_and_again_is_an_alert() {
    let world = World::reconciled().await;
    for n in 0..5 {
        let hand = world.fleet.worker(&format!("w{n}"), 1, &[]).await;
        let held = world.fleet.running(&hand).await;
        let reason = pointsman_core::LossReason::ServiceLost;
        let op = pointsman_core::command::Op::Release { reason, message: String::new() };
        world.fleet.act(&hand, held, op).await.unwrap();
    }
    world.pass(secs(3)).await;
    assert!(world.alerts().await.contains(&AlertRule::PoisonousClass));
}

#[tokio::test(start_paused = true)]
async fn a_contradiction_is_shown_until_it_is_gone() {
    let world = World::reconciled().await;
    let job = world.fleet.submit(spec(50)).await;
    let about = RecordKey::Job(job);
    *world.store.contradiction.lock() =
        Some(Contradiction { about, message: "runs without a lease".into() });
    world.pass(secs(61)).await;
    let snapshot = world.broker.snapshot().await;
    let alert = snapshot.alerts.iter().find(|alert| alert.rule == AlertRule::Inconsistent);
    assert_eq!(alert.unwrap().subject, format!("job/{job}"));
    assert!(alert.unwrap().message.contains("without a lease"));
    *world.store.contradiction.lock() = None;
    world.pass(secs(61)).await;
    assert!(!world.alerts().await.contains(&AlertRule::Inconsistent));
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_kept_by_count() {
    let retention = Retention { ended_jobs: 200, ..Retention::default() };
    let world = World::new(BrokerConfig { retention, ..BrokerConfig::default() }).await;
    let mut jobs = Vec::new();
    for _ in 0..230 {
        let job = world.fleet.submit(spec(50)).await;
        world.fleet.run(Command::Cancel { job }).await.unwrap();
        jobs.push(job);
    }
    world.pass(secs(6)).await;
    assert!(world.broker.job(jobs[29]).await.unwrap().is_none());
    assert!(world.broker.job(jobs[30]).await.unwrap().is_some());
    assert_eq!(world.broker.snapshot().await.jobs.len(), 200);
}
