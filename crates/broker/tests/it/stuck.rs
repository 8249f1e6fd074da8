//! Jobs that cannot run are an alert that says why, and what mends it.

use std::sync::Arc;

use pointsman_broker::{Broker, BrokerConfig};
use pointsman_core::{
    Command, JobId, WorkflowId,
    command::Renew,
    matching::Requirements,
    record::{Alert, AlertRule, ConnectorStatus, JobSpec, Orders, Severity},
};
use pointsman_store::conformance::fleet::{Fleet, Hand, needs, spec};

use crate::support::{World, secs};

impl World {
    async fn submit(&self, label: Option<&str>) -> JobId {
        let requirements = label.map(needs).unwrap_or_default();
        self.fleet.submit(JobSpec { requirements, created_at: self.store_now(), ..spec(50) }).await
    }

    async fn stuck(&self) -> Vec<Arc<Alert>> {
        self.settle().await;
        let alerts = self.broker.snapshot().await.alerts.into_iter();
        alerts.filter(|alert| alert.rule == AlertRule::NobodyAble).collect()
    }

    async fn one(&self) -> Arc<Alert> {
        let stuck = self.stuck().await;
        let [alert] = &stuck[..] else { panic!("{stuck:?}") };
        alert.clone()
    }

    /// Time in which these workers say, again and again, how their services are.
    pub(crate) async fn pass_with(&self, seconds: u64, hands: &[(&Hand, ConnectorStatus)]) {
        for _ in 0..seconds {
            for (hand, status) in hands {
                let mut renewal = Fleet::renewal(hand, Vec::new(), *status);
                if *status == ConnectorStatus::Error {
                    renewal.connectors[0].error_message = Some("connection refused".into());
                }
                self.broker.renew(renewal, Vec::new()).await.expect("heard");
            }
            self.pass(secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_of_dead_services_is_one_alert_that_says_which_and_why() {
    let world = World::new(BrokerConfig::default()).await;
    let (a, b) = (world.fleet.worker("a", 1, &[]).await, world.fleet.worker("b", 1, &["x"]).await);
    let dead = [(&a, ConnectorStatus::Error), (&b, ConnectorStatus::Error)];
    let oldest = world.submit(None).await;
    world.pass_with(1, &dead).await;
    world.submit(Some("x")).await;
    world.pass_with(8, &dead).await;
    assert_eq!(world.stuck().await, [], "they may come back");
    world.pass_with(4, &dead).await;
    let alert = world.one().await;
    assert_eq!((alert.subject.as_str(), alert.severity), ("simulation", Severity::Critical));
    let message = "2 jobs for simulation cannot run: no worker for it works: 2 not ready \
                   (a: simulation (error): connection refused)";
    assert_eq!(alert.message, message);
    let see = format!("`pointsman explain {oldest}`");
    assert!(alert.action.contains("mend") && alert.action.contains(&see), "{}", alert.action);

    // One is back: the job that only the other could run is told by itself.
    world.pass_with(13, &[(&a, ConnectorStatus::Idle), (&b, ConnectorStatus::Error)]).await;
    let alert = world.one().await;
    let message = "1 job for simulation cannot run: no worker that offers what they ask for \
                   (x = true) works: 1 not ready (b: simulation (error): connection refused)";
    assert_eq!((alert.message.as_str(), alert.severity), (message, Severity::Warning));
    world.pass_with(3, &[(&a, ConnectorStatus::Idle), (&b, ConnectorStatus::Idle)]).await;
    assert_eq!(world.stuck().await, []);
}

#[tokio::test(start_paused = true)]
async fn workers_that_are_busy_are_no_alert() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let held = world.fleet.running(&hand).await;
    world.submit(None).await;
    for _ in 0..20 {
        world.fleet.renew(&hand, vec![held], ConnectorStatus::Active).await.unwrap();
        world.pass(secs(1)).await;
    }
    assert_eq!(world.stuck().await, []);
}

#[tokio::test(start_paused = true)]
async fn machines_that_are_all_gone_are_one_alert() {
    let world = World::new(BrokerConfig::default()).await;
    for n in 0..12 {
        world.fleet.worker(&format!("w{n:02}"), 1, &[&format!("l{n}")]).await;
        world.submit(Some(&format!("l{n}"))).await;
    }
    world.pass(secs(30)).await;
    let message = "10 or more jobs for simulation cannot run: no worker for it works: 12 offline \
                   (w00: ";
    let alert = world.one().await;
    assert!(alert.message.starts_with(message), "{}", alert.message);
    assert!(alert.message.contains("15 s"), "since when: {}", alert.message);
    assert!(alert.action.contains("machines"), "{}", alert.action);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_is_said_and_a_job_or_worker_more_is_no_event() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let idle = [(&hand, ConnectorStatus::Idle)];
    let oldest = world.submit(Some("special")).await;
    world.pass_with(1, &idle).await;
    for _ in 0..10 {
        world.submit(Some("special")).await;
    }
    world.pass_with(13, &idle).await;
    let message = "10 or more jobs for simulation cannot run: no worker offers what they ask for: \
                   special = true (a: no label special)";
    let alert = world.one().await;
    assert_eq!(alert.message, message);
    assert!(alert.action.contains(&oldest.to_string()), "{}", alert.action);
    world.submit(Some("special")).await;
    world.fleet.worker("b", 1, &[]).await;
    world.pass_with(3, &idle).await;
    assert_eq!(world.one().await.rev, alert.rev);
}

/// Of all that a job needs, what is there already is no help to whoever looks for what is not.
#[tokio::test(start_paused = true)]
async fn only_what_is_lacking_is_named() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &["fast"]).await;
    let mut requirements = (*needs("fast")).clone();
    requirements.labels.extend(needs("special").labels.clone());
    let requirements = Arc::new(requirements);
    let spec = JobSpec { requirements, created_at: world.store_now(), ..spec(50) };
    world.fleet.submit(spec).await;
    world.pass_with(13, &[(&hand, ConnectorStatus::Idle)]).await;
    let message = "1 job for simulation cannot run: no worker offers what they ask for: \
                   special = true (a: no label special)";
    assert_eq!(world.one().await.message, message);
}

/// That one which was reached is not ready says nothing of what it has.
#[tokio::test(start_paused = true)]
async fn only_the_models_that_are_missing_are_named() {
    let world = World::new(BrokerConfig::default()).await;
    let (broken, well) = (world.fleet.hand("a"), world.fleet.hand("b"));
    for hand in [&broken, &well] {
        let mut register = Fleet::registration(hand, 1, &[]);
        let services = register.capabilities.services.values_mut();
        services.for_each(|service| service.models = ["there".to_owned()].into());
        world.fleet.run(Command::Register(register)).await.expect("a valid registration");
    }
    let models = serde_json::json!({"models": ["there", "missing"]});
    let requirements = Arc::new(Requirements::parse(&models).expect("valid requirements"));
    let spec = JobSpec { requirements, created_at: world.store_now(), ..spec(50) };
    world.fleet.submit(spec).await;
    let states = [(&broken, ConnectorStatus::Error), (&well, ConnectorStatus::Idle)];
    world.pass_with(13, &states).await;
    let message = "1 job for simulation cannot run: no worker offers what they ask for: \
                   the model missing (a: lacks missing)";
    assert_eq!(world.one().await.message, message);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_is_drained_says_so() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    let drain = Command::SetOrders { worker: hand.worker.clone(), orders: Orders { drain: true } };
    world.fleet.run(drain).await.unwrap();
    world.submit(None).await;
    world.pass_with(13, &[(&hand, ConnectorStatus::Idle)]).await;
    let alert = world.one().await;
    assert!(alert.message.ends_with("1 draining (a)"), "{}", alert.message);
    assert!(alert.action.starts_with("let them take jobs again"), "{}", alert.action);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_stops_says_so() {
    let world = World::new(BrokerConfig::default()).await;
    let hand = world.fleet.worker("a", 1, &[]).await;
    world.submit(None).await;
    for _ in 0..13 {
        let renewal = Fleet::renewal(&hand, Vec::new(), ConnectorStatus::Idle);
        let renewal = Renew { stopping: true, ..renewal };
        world.broker.renew(renewal, Vec::new()).await.expect("heard");
        world.pass(secs(1)).await;
    }
    let alert = world.one().await;
    assert!(alert.message.ends_with("1 stopping (a)"), "{}", alert.message);
    assert!(alert.action.starts_with("start them again"), "{}", alert.action);
}

/// Jobs have waited long when a server starts; its workers come back within seconds.
#[tokio::test(start_paused = true)]
async fn a_server_that_starts_gives_workers_time_to_come() {
    let world = World::new(BrokerConfig { reconcile: false, ..BrokerConfig::default() }).await;
    world.submit(None).await;
    world.pass(secs(600)).await;
    let (next, _tasks) =
        Broker::start(world.store.clone(), BrokerConfig::default()).await.expect("it starts");
    world.pass(secs(8)).await;
    assert_eq!(next.snapshot().await.alerts, []);
    world.fleet.worker("a", 1, &[]).await;
    world.pass(secs(6)).await;
    assert_eq!(next.snapshot().await.alerts, []);
}

/// A workflow's job takes the place of its first one: before jobs that are older.
#[tokio::test(start_paused = true)]
async fn an_alert_stands_although_a_younger_job_moves_in_front() {
    let world = World::new(BrokerConfig::default()).await;
    world.fleet.worker("a", 1, &[]).await;
    let at = |requirements| {
        let created_at = world.store_now();
        JobSpec { requirements, created_at, ..spec(50) }
    };
    let of_workflow = |spec| JobSpec { workflow_id: Some(WorkflowId::new("w").unwrap()), ..spec };
    world.fleet.submit(of_workflow(at(needs("other")))).await;
    world.pass(secs(1)).await;
    world.fleet.submit(at(needs("special"))).await;
    world.pass(secs(13)).await;
    assert_eq!(world.stuck().await.len(), 2);
    world.fleet.submit(of_workflow(at(needs("special")))).await;
    world.pass(secs(1)).await;
    assert_eq!(world.stuck().await.len(), 2);
}
