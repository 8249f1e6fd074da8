//! The reconcilers, each at its work, and what they do after an absence of their own.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use pointsman_broker::{Broker, BrokerConfig, FilesTrouble};
use pointsman_core::{
    Command, FailureKind,
    record::{AlertRule, ConnectorStatus, JobSpec, JobStatus, MachineStatus, WorkerStatus},
};
use pointsman_store::{
    Health, Judgement, Retention, Risk, Setting, Store, StoreError,
    conformance::{
        fleet::{Fleet, failed, needs, spec},
        logged::Log,
    },
};

use crate::support::{World, millis, secs};

impl World {
    pub(crate) async fn reconciled() -> Self {
        Self::new(BrokerConfig::default()).await
    }

    pub(crate) async fn alerts(&self) -> Vec<AlertRule> {
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
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Offline);
    world.pass(secs(5)).await;
    let machine = world.fleet.machine_record(&hand).await;
    assert_eq!(machine.status, MachineStatus::Disconnected);
    let since = machine.connected_at.to_the_second();
    assert_eq!(machine.reason, Some(format!("nothing heard of it since {since}")));
    assert_eq!(world.fleet.connector_record(&hand).await.status, ConnectorStatus::Unknown);

    // And the end of silence is an event too.
    world.fleet.report(&hand, ConnectorStatus::Idle).await;
    world.pass(secs(1)).await;
    assert_eq!(world.fleet.worker_record(&hand).await.status, WorkerStatus::Idle);
    assert_eq!(world.fleet.machine_record(&hand).await.status, MachineStatus::Ready);
    let leases = world.broker.reconcilers().into_iter().find(|status| status.name == "leases");
    let leases = leases.expect("shown");
    assert!(leases.runs > 20 && leases.done == 2 && leases.error.is_none(), "{leases:?}");
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
async fn an_absence_of_the_store_is_told_when_it_begins_and_ends() {
    let world = World::reconciled().await;
    world.pass(secs(2)).await;
    let runs = || {
        let all = world.broker.reconcilers();
        all.into_iter().find(|status| status.name == "holds").expect("it runs").runs
    };
    let (log, _listening) = Log::listen();
    world.store.down.store(true, SeqCst);
    let before = runs();
    world.pass(secs(30)).await;
    assert!((28..=31).contains(&(runs() - before)), "once a second: {}", runs() - before);
    let told = std::mem::take(&mut *log.0.lock());
    assert!(told.len() == 1 && told[0].contains("cut off"), "{told:#?}");
    world.store.down.store(false, SeqCst);
    world.pass(secs(20)).await;
    let told = log.0.lock();
    assert!(told.iter().any(|line| line.contains("again") && line.contains("3")), "{told:#?}");
    assert!(told.len() <= 3, "{told:#?}");
}

/// Nobody's silence is excused by it, and a later absence of the store is told all the same.
#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_for_good_is_in_its_status_and_an_alert_until_it_is_done_again() {
    let world = World::reconciled().await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    let (log, _listening) = Log::listen();
    let refuse = |why| *world.store.leftovers_refused.lock() = why;
    let denied = || Some(StoreError::Failed("Redis refused it: NOPERM xtrim".into()));
    refuse(denied());
    world.pass(secs(20)).await;
    let failing = || {
        let all = world.broker.reconcilers().into_iter();
        all.filter_map(|status| Some((status.name, status.error?))).collect::<Vec<_>>()
    };
    let why = "the store failed: Redis refused it: NOPERM xtrim";
    assert_eq!(failing(), [("leftovers", why.to_owned())]);
    assert_eq!(world.store.contacts_broken.load(SeqCst), 0);
    assert_eq!(world.fleet.job(held.job).await.status(), JobStatus::Pending);
    world.fleet.run(Command::Cancel { job: held.job }).await.unwrap();
    world.pass(secs(3)).await;
    assert_eq!(world.alerts().await, [], "it may pass");
    world.pass(secs(20)).await;
    assert_eq!(world.alerts().await, [AlertRule::StoreAtRisk]);
    let alerts = world.broker.snapshot().await.alerts;
    assert_eq!(alerts[0].id.subject, "leftovers");
    assert!(alerts[0].message.ends_with(why), "{alerts:?}");
    // What is not removed fills the store: both are told. What lacks nothing but room is told once.
    world.store.set_health(Health::Full("80 %".into()));
    for (why, told) in [
        (denied(), vec![AlertRule::StoreFull, AlertRule::StoreAtRisk]),
        (Some(StoreError::Full("80 %".into())), vec![AlertRule::StoreFull]),
    ] {
        refuse(why);
        world.pass(secs(40)).await;
        let mut alerts = world.alerts().await;
        alerts.sort();
        assert_eq!(alerts, told);
    }
    world.store.set_health(Health::Ready);
    world.store.down.store(true, SeqCst);
    world.pass(secs(5)).await;
    world.store.down.store(false, SeqCst);
    refuse(None);
    world.pass(secs(10)).await;
    assert_eq!((failing(), world.alerts().await), (Vec::new(), Vec::new()));
    let told = log.0.lock();
    let starts: Vec<_> = told.iter().filter(|line| line.contains("trying on")).collect();
    let reasons = [why, "full: 80 %", "cut off"];
    assert_eq!(starts.len(), reasons.len(), "{told:#?}");
    assert!(starts.iter().zip(reasons).all(|(line, why)| line.contains(why)), "{told:#?}");
}

/// Not all that failed meanwhile is tried again as soon as alerts are.
#[tokio::test(start_paused = true)]
async fn what_failed_while_the_store_was_away_is_no_alert_once_it_is_back() {
    let world = World::reconciled().await;
    world.pass(secs(2)).await;
    world.store.down.store(true, SeqCst);
    world.pass(secs(40)).await;
    // It is noticed late, and by some.
    world.store.set_health(Health::Failed("cut off".into()));
    world.pass(secs(2)).await;
    world.store.set_health(Health::Ready);
    world.store.down.store(false, SeqCst);
    for _ in 0..100 {
        world.pass(millis(100)).await;
        assert_eq!(world.alerts().await, []);
    }
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

/// It goes elsewhere first, and where there is no elsewhere it waits no longer than its backoff.
#[tokio::test(start_paused = true)]
async fn a_job_whose_service_failed_waits_a_second_whoever_is_there() {
    for others in [0, 1] {
        let world = World::reconciled().await;
        let hand = world.fleet.worker("a", 2, &[]).await;
        let held = world.fleet.running(&hand).await;
        let other = match others {
            0 => hand.clone(),
            _ => world.fleet.worker("b", 2, &[]).await,
        };
        world.fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.unwrap();
        world.pass(millis(975)).await;
        assert_eq!(world.fleet.claim(&other).await, None, "held for a second");
        world.pass(millis(175)).await;
        if others > 0 {
            assert_eq!(world.fleet.claim(&hand).await, None, "others go first");
        }
        let again = world.fleet.claim(&other).await;
        assert_eq!(again.map(|again| (again.job, again.attempt)), Some((held.job, 2)));
    }
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
    // Somebody else may be restarting.
    world.pass(secs(9)).await;
    assert!(!Fleet::excluded(&*world.fleet.job(held.job).await).is_empty());
    world.fleet.report(&hand, ConnectorStatus::Idle).await;
    world.pass(millis(2_100)).await;
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
async fn a_service_that_is_in_error_for_a_minute_is_an_alert_until_it_works() {
    let world = World::reconciled().await;
    let (a, b) = (world.fleet.worker("a", 1, &[]).await, world.fleet.worker("b", 1, &[]).await);
    let broken = [(&a, ConnectorStatus::Error), (&b, ConnectorStatus::Idle)];
    world.pass_with(59, &broken).await;
    assert_eq!(world.alerts().await, []);
    world.pass_with(5, &broken).await;
    world.settle().await;
    let alerts = world.broker.snapshot().await.alerts;
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!(alert.id.to_string(), "broken_service:a:simulation");
    let message = "simulation of worker a has taken no jobs for a minute: connection refused";
    assert_eq!(alert.message, message);
    let machine = &world.fleet.worker_record(&a).await.machine_id;
    assert!(alert.action.contains(&format!("machine {machine}")), "{}", alert.action);
    world.pass_with(3, &[(&a, ConnectorStatus::Idle), (&b, ConnectorStatus::Idle)]).await;
    assert_eq!(world.alerts().await, []);
}

fn setting(name: &str, is_at_risk: bool) -> Setting {
    let risk =
        || Risk { message: format!("{name} is off: jobs may be lost"), action: "cure".into() };
    Setting { name: name.into(), judgement: is_at_risk.then(risk).into() }
}

#[tokio::test(start_paused = true)]
async fn servers_with_other_settings_leave_each_others_alerts_alone() {
    let world = World::reconciled().await;
    let another = async |settings: &[Setting]| {
        let store = world.store.another();
        store.settings.lock().extend_from_slice(settings);
        let store = Arc::new(store);
        let (broker, tasks) = Broker::start(store.clone(), BrokerConfig::default()).await.unwrap();
        (store, broker, tasks)
    };
    let shown = async || -> Vec<String> {
        let alerts = world.broker.snapshot().await.alerts;
        alerts.iter().map(|alert| alert.id.subject.clone()).collect()
    };
    let both = [setting("appendonly", true), setting("acks-1", true)];
    *world.store.settings.lock() = both.to_vec();
    let (store, _broker, tasks) =
        another(&[setting("appendonly", true), setting("acks-2", true)]).await;
    world.pass(secs(10)).await;
    assert_eq!(shown().await, ["acks-1", "acks-2", "appendonly"]);
    let alert = world.broker.snapshot().await.alerts[0].clone();
    assert_eq!(&*alert.message, "acks-1 is off: jobs may be lost");
    assert_eq!(&*alert.action, "cure");
    let seq = world.fleet.seq().await;
    world.pass(secs(10)).await;
    assert_eq!(world.fleet.seq().await, seq, "nobody clears what another sees");

    *world.store.settings.lock() = vec![setting("appendonly", false), setting("acks-1", false)];
    store.settings.lock()[0].judgement = Judgement::Sound;
    world.pass(secs(4)).await;
    assert_eq!(shown().await, ["acks-2"]);

    // Who could have cleared it is gone: the next one that starts does.
    tasks.stop().await;
    world.pass(secs(4)).await;
    assert_eq!(shown().await, ["acks-2"]);
    let (_, _broker, next) = another(&[setting("appendonly", false)]).await;
    world.pass(secs(4)).await;
    assert_eq!(shown().await, [""; 0]);

    // Who cannot tell leaves it to those who can, at its start and later.
    next.stop().await;
    *world.store.settings.lock() = vec![setting("appendonly", true)];
    world.pass(secs(4)).await;
    let not_known = Setting { name: "appendonly".into(), judgement: Judgement::NotKnown };
    let (third, _broker, _tasks) = another(std::slice::from_ref(&not_known)).await;
    let seq = world.fleet.seq().await;
    world.pass(secs(10)).await;
    assert_eq!(world.fleet.seq().await, seq, "nobody clears what another sees");
    assert_eq!(shown().await, ["appendonly"]);
    *world.store.settings.lock() = vec![not_known];
    world.pass(secs(4)).await;
    assert_eq!(shown().await, ["appendonly"]);
    third.settings.lock()[0].judgement = Judgement::Sound;
    world.pass(secs(4)).await;
    assert_eq!(shown().await, [""; 0]);
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

/// Which server cleared it shows in no record: only the one that told of it may.
#[tokio::test(start_paused = true)]
async fn what_keeps_a_server_from_storing_files_is_an_alert_until_that_server_says_otherwise() {
    let world = World::reconciled().await;
    let store: std::sync::Arc<dyn pointsman_store::Store> = world.store.clone();
    let (other, _tasks) = Broker::start(store, BrokerConfig::default()).await.unwrap();
    world.pass(secs(3)).await;
    let full = FilesTrouble::Full("/files".into());
    let away = FilesTrouble::Away("not mounted".into());
    for (trouble, rule) in [(full, AlertRule::StoreFull), (away, AlertRule::StoreAtRisk)] {
        other.tell_files(Some(trouble));
        for _ in 0..3 {
            world.pass(secs(3)).await;
            assert_eq!(world.alerts().await, [rule]);
        }
    }
    other.tell_files(None);
    world.pass(secs(3)).await;
    assert_eq!(world.alerts().await, []);
}

/// Each has its own way to the files, and its own look at a store at the border of full.
#[tokio::test(start_paused = true)]
async fn servers_with_other_trouble_leave_each_others_alerts_alone() {
    let world = World::reconciled().await;
    let store = Arc::new(world.store.another());
    let (other, _tasks) = Broker::start(store.clone(), BrokerConfig::default()).await.unwrap();
    world.pass(secs(3)).await;
    world.broker.tell_files(Some(FilesTrouble::Full("/files".into())));
    other.tell_files(Some(FilesTrouble::Away("not mounted".into())));
    store.set_health(Health::Full("80 %".into()));
    world.pass(secs(5)).await;
    let shown = world.alerts().await;
    assert_eq!(shown, [AlertRule::StoreFull, AlertRule::StoreFull, AlertRule::StoreAtRisk]);
    let seq = world.fleet.seq().await;
    world.pass(secs(10)).await;
    assert_eq!(world.fleet.seq().await, seq, "nobody clears what another sees");
    store.set_health(Health::Ready);
    other.tell_files(None);
    world.pass(secs(3)).await;
    assert_eq!(world.alerts().await, [AlertRule::StoreFull]);
    world.broker.tell_files(None);
    world.pass(secs(3)).await;
    assert_eq!(world.alerts().await, []);
}

/// Five workers lose a job of one class each.
async fn poison_class(world: &World) {
    for n in 0..5 {
        let hand = world.fleet.worker(&format!("w{n}"), 1, &[]).await;
        let held = world.fleet.running(&hand).await;
        let reason = pointsman_core::LossReason::ServiceLost;
        let op = pointsman_core::command::Op::Release { reason, message: String::new() };
        world.fleet.act(&hand, held, op).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_keeps_one_rule_from_looking_keeps_nobody_from_the_others() {
    let world = World::reconciled().await;
    world.fleet.submit(spec(0)).await;
    poison_class(&world).await;
    world.pass(secs(3)).await;
    assert!(world.alerts().await.contains(&AlertRule::PoisonousClass));
    world.store.losses_damaged.store(true, SeqCst);
    let transfer = world.store.clone().transfer().unwrap();
    transfer.set_intake(false).await.unwrap();
    world.store.set_health(Health::Full("no space left".into()));
    world.pass(secs(5)).await;
    let shown = world.alerts().await;
    for rule in [AlertRule::PoisonousClass, AlertRule::IntakeClosed, AlertRule::StoreFull] {
        assert!(shown.contains(&rule), "{rule:?} in {shown:?}");
    }
    let alerts = world.broker.reconcilers().into_iter().find(|status| status.name == "alerts");
    assert!(alerts.unwrap().error.unwrap().contains("losses is no hash"), "shown");
}

#[tokio::test(start_paused = true)]
async fn a_closed_intake_is_an_alert() {
    let world = World::reconciled().await;
    let transfer = world.store.clone().transfer().unwrap();
    for (open, shown) in [(false, true), (true, false)] {
        transfer.set_intake(open).await.unwrap();
        world.pass(secs(3)).await;
        assert_eq!(world.alerts().await.contains(&AlertRule::IntakeClosed), shown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_lost_again_and_again_is_an_alert() {
    let world = World::reconciled().await;
    let lost = world.fleet.submit(spec(0)).await;
    poison_class(&world).await;
    world.pass(secs(3)).await;
    let alerts = world.broker.snapshot().await.alerts;
    let alert = alerts.iter().find(|alert| alert.rule == AlertRule::PoisonousClass);
    let alert = alert.expect("it is told");
    assert!(alert.message.starts_with("jobs for simulation were lost 5 times"), "{alert:?}");
    let waits = "; 4 jobs waiting";
    assert!(alert.message.ends_with(waits), "{alert:?}: two were lost again, and are held");
    assert!(alert.action.contains(&lost.to_string()), "{alert:?}");
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
