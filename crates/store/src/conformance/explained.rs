//! What `explain` says of a waiting job: who could take it, who cannot and why, what is ahead.

use pointsman_core::{
    Command, FailureKind, WorkflowId,
    command::Renew,
    decide::limits,
    matching::{AbleWorkers, Explanation, Requirements},
    record::{ConnectorStatus, JobSpec, Orders},
};

use super::{
    Open,
    fleet::{Fleet, Hand, failed, needs, service, spec},
};

impl Fleet {
    /// The worker says what is wrong with its service.
    async fn complain(&self, hand: &Hand, status: ConnectorStatus, why: &str) {
        let mut renewal = Self::renewal(hand, Vec::new(), status);
        renewal.connectors[0].error_message = Some(why.into());
        self.run(Command::Renew(renewal)).await.expect("a valid renewal");
    }

    async fn explained(&self, job: pointsman_core::JobId) -> (Explanation, Option<usize>) {
        self.store.explain(job).await.expect("the store works").expect("there is such a job")
    }
}

pub async fn workers_that_are_not_ready_are_named_with_their_reason(open: &Open) {
    let fleet = Fleet::new(open);
    let hand = fleet.worker("a-room", 2, &[]).await;
    fleet.running(&hand).await;
    let hand = fleet.worker("b-full", 1, &[]).await;
    fleet.running(&hand).await;
    let hand = fleet.worker("c-dead", 1, &[]).await;
    fleet.complain(&hand, ConnectorStatus::Error, "connection refused\nat line 7").await;
    let hand = fleet.worker("d-lost", 1, &[]).await;
    fleet.report(&hand, ConnectorStatus::Unknown).await;
    let hand = fleet.worker("e-suspect", 1, &[]).await;
    for _ in 0..limits::SUSPECT_AFTER {
        let held = fleet.running(&hand).await;
        fleet.act(&hand, held, failed(FailureKind::ServiceFault)).await.expect("accepted");
    }
    let hand = fleet.worker("f-drained", 1, &[]).await;
    let drain = Command::SetOrders { worker: hand.worker, orders: Orders { drain: true } };
    fleet.run(drain).await.expect("accepted");
    let hand = fleet.worker("g-gone", 1, &[]).await;
    let leave = Command::Leave { worker: hand.worker, incarnation: hand.incarnation };
    fleet.run(leave).await.expect("accepted");
    let hand = fleet.hand("h-new");
    fleet.run(Command::Register(Fleet::registration(&hand, 1, &[]))).await.expect("accepted");
    let hand = fleet.worker("i-stopping", 1, &[]).await;
    let renewal = Fleet::renewal(&hand, Vec::new(), ConnectorStatus::Idle);
    let stops = Renew { stopping: true, ..renewal };
    fleet.run(Command::Renew(stops)).await.expect("accepted");

    let (explained, _) = fleet.explained(fleet.submit(spec(0)).await).await;
    let able = AbleWorkers {
        total: 9,
        free: 1,
        full: 1,
        draining: 1,
        stopping: 1,
        not_ready: 4,
        offline: 1,
        paused: 0,
    };
    assert_eq!(explained.able, able);
    let said: Vec<_> =
        explained.not_ready.iter().map(|w| format!("{}: {}", w.worker, w.why)).collect();
    let [dead, lost, suspect, new] = &said[..] else { panic!("{said:?}") };
    assert_eq!(dead, "c-dead: simulation (error): connection refused");
    assert_eq!(lost, "d-lost: simulation (unknown)");
    assert!(suspect.starts_with("e-suspect: suspect: it broke 3 different jobs"), "{suspect}");
    assert!(new.starts_with("h-new: simulation (starting)"), "{new}");

    // Of a service that they do not have they have nothing to report.
    let models = serde_json::json!({"models": ["sd15.safetensors"]});
    let other = JobSpec {
        service: "other".parse().expect("a valid name"),
        requirements: Requirements::parse(&models).expect("valid requirements").into(),
        ..spec(0)
    };
    let (explained, _) = fleet.explained(fleet.submit(other).await).await;
    let failing: Vec<_> = explained.rules.iter().flat_map(|rule| &rule.failing).collect();
    assert!(!failing.is_empty() && failing.iter().all(|f| f.not_ready.is_none()), "{failing:?}");
}

pub async fn only_jobs_that_share_a_worker_are_ahead(open: &Open) {
    let fleet = Fleet::new(open);
    fleet.worker("blue", 1, &["blue"]).await;
    fleet.worker("red", 1, &["red"]).await;
    let wants = |label: &str, priority| JobSpec { requirements: needs(label), ..spec(priority) };
    for _ in 0..3 {
        fleet.submit(wants("red", 90)).await;
    }
    let blue = fleet.submit(wants("blue", 50)).await;
    let ahead = async || fleet.explained(blue).await.1;
    assert_eq!(ahead().await, Some(0), "no worker runs both");
    fleet.submit(spec(50)).await;
    assert_eq!(ahead().await, Some(0), "it stands behind");
    fleet.submit(spec(60)).await;
    fleet.submit(wants("blue", 60)).await;
    assert_eq!(ahead().await, Some(2), "anybody's, and one of its own kind");
    let not_blue = serde_json::json!({"must_not": {"workers": ["blue"]}});
    let requirements = Requirements::parse(&not_blue).expect("valid requirements").into();
    fleet.submit(JobSpec { requirements, ..spec(99) }).await;
    assert_eq!(ahead().await, Some(2), "the one worker that could is ruled out by name");
    let both = fleet.worker("both", 1, &["blue", "red"]).await;
    assert_eq!(ahead().await, Some(6), "one worker that could run them all");
    let leave = Command::Leave { worker: both.worker, incarnation: both.incarnation };
    fleet.run(leave).await.expect("accepted");
    assert_eq!(ahead().await, Some(2), "it has gone");
    fleet.run(Command::Cancel { job: blue }).await.expect("it waits");
    assert_eq!(ahead().await, None);
}

/// They have one place, and stand in the order in which they came.
pub async fn jobs_of_one_workflow_are_ahead_by_their_order(open: &Open) {
    let fleet = Fleet::new(open);
    fleet.worker("w", 1, &["blue"]).await;
    let workflow_id = Some(WorkflowId::new("flow").expect("a valid name"));
    let mut jobs = Vec::new();
    for label in [None, Some("blue"), None, Some("blue")] {
        let requirements = label.map(needs).unwrap_or_default();
        let spec = JobSpec { requirements, workflow_id: workflow_id.clone(), ..spec(50) };
        jobs.push(fleet.submit(spec).await);
    }
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(fleet.explained(job).await.1, Some(n));
    }
}

pub async fn a_class_is_told_with_its_customer_and_its_oldest_job(open: &Open) {
    let fleet = Fleet::new(open);
    let mut jobs = Vec::new();
    for customer in [None, Some("acme"), Some("acme")] {
        let customer_id = customer.map(|name| name.parse().expect("a valid name"));
        jobs.push(fleet.submit(JobSpec { customer_id, ..spec(50) }).await);
    }
    let queues = fleet.store.queues(10).await.expect("the store works");
    let told: Vec<_> = queues.classes.iter().map(|c| (c.customer.clone(), c.oldest_job)).collect();
    let acme = "acme".parse().expect("a valid name");
    assert_eq!(told, [(None, Some(jobs[0])), (Some(acme), Some(jobs[1]))]);
    assert!(queues.classes.iter().all(|class| class.service == service()));
}
