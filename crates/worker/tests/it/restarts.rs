//! What a new start does about what the last one left.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_connectors::Health;
use pointsman_core::{
    JobId, LossReason, Timestamp, Token,
    command::Op,
    matching::LabelValue,
    record::{ConnectorStatus, JobStatus},
};
use pointsman_worker::Worker;
use uuid::Uuid;

use crate::{
    broker::{Call, FakeBroker},
    ends::failure,
    service::FakeService,
    setup::{NOW, Setup, config},
};

/// A job that the store says this worker runs.
fn left_over(broker: &FakeBroker, payload: &'static str) -> (JobId, Token) {
    let id = broker.post(payload);
    let token = Token::from_uuid(Uuid::new_v4());
    broker.with(|s| {
        let job = s.jobs.get_mut(&id).unwrap();
        job.attempt = 1;
        job.token = Some(token);
        job.status = JobStatus::InProgress;
        s.unqueue(id);
    });
    (id, token)
}

#[tokio::test(start_paused = true)]
async fn what_the_service_still_has_is_adopted_and_the_rest_given_back() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (has, token) = left_over(&broker, "slow");
    let (lost, _) = left_over(&broker, "slow");
    service.with(|s| s.ghosts.insert(token));
    let setup = Setup::with(1, broker.clone(), service).await;
    let ours = setup.service.with(|s| s.clearings[0].clone());
    assert_eq!(ours.len(), 2, "both were asked for before the first claim");
    let [(run, adopted)] = setup.service.with(|s| s.runs.clone())[..] else { panic!() };
    assert_eq!((run.job, run.token, adopted), (has, token, true));
    setup.pass(9.0).await;
    assert_eq!(broker.status(has), JobStatus::Completed);
    let taken = broker.job(lost).taken;
    assert!(matches!(taken[..], [Op::Release { reason: LossReason::NotAdopted, .. }]), "{taken:?}");
    // The adopted one took the only slot while it ran.
    let next = broker.post("done");
    setup.pass(0.1).await;
    assert_eq!(broker.status(next), JobStatus::Completed);
}

/// A restart of the worker is no reason to run longer than the total limit.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_has_the_rest_of_its_time() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (job, token) = left_over(&broker, "hour");
    broker.with(|s| {
        let job = s.jobs.get_mut(&job).unwrap();
        job.timeouts.total_s = Some(600);
        job.started_at = Some(Timestamp::from_millis(NOW.as_millis() - 590_000));
    });
    service.with(|s| s.ghosts.insert(token));
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(9.0).await;
    assert_eq!(broker.status(job), JobStatus::InProgress);
    setup.pass(2.0).await;
    let taken = broker.job(job).taken;
    assert_eq!(failure(&taken[1]).code, "total_timeout");
}

/// Whoever shows it knows the higher numbers from before the restart, and takes no lower ones.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_counts_on_from_above_all_before() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (adopted, token) = left_over(&broker, "progress");
    service.with(|s| s.ghosts.insert(token));
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(2.5).await;
    let new = broker.post("progress");
    setup.pass(2.5).await;
    let sent: Vec<_> =
        broker.renewals().into_iter().flat_map(|(_, _, progress)| progress).collect();
    let of = |id: JobId| sent.iter().filter(move |(job, _)| *job == id).map(|(_, p)| p);
    assert!(of(adopted).all(|p| p.n > 7_000_000 && p.preview_n > 700_000), "{sent:?}");
    assert!(of(new).all(|p| p.n <= 300 && p.preview_n <= 100), "{sent:?}");
    let previews = broker.calls().into_iter().filter_map(|call| match call {
        Call::Preview(n) => Some(n),
        _ => None,
    });
    let (high, low): (Vec<_>, Vec<_>) = previews.partition(|n| *n > 700_000);
    assert!(high.is_sorted() && low.is_sorted() && high.len() >= 7 && low.len() >= 7);
}

/// A job that is left over, whose service is not there yet.
async fn left_over_and_away() -> (Arc<FakeBroker>, JobId, Setup) {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (job, token) = left_over(&broker, "slow");
    service.with(|s| {
        s.ghosts.insert(token);
        s.health = Health::new(ConnectorStatus::Connecting, "starting");
    });
    let setup = Setup::with(1, broker.clone(), service).await;
    (broker, job, setup)
}

#[tokio::test(start_paused = true)]
async fn left_over_jobs_wait_a_while_for_their_service_with_their_leases_kept() {
    let (broker, job, setup) = left_over_and_away().await;
    setup.pass(30.0).await;
    let (_, renew, _) = broker.renewals().pop().unwrap();
    assert_eq!(renew.held[0].job, job);
    setup.service.with(|s| s.health = Health::idle());
    setup.pass(15.0).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
    // What the service has was news then: the store told what is running a second time.
    let registrations = broker.calls().into_iter().filter(|c| matches!(c, Call::Register(_)));
    assert_eq!((registrations.count(), setup.service.runs()), (2, 1), "it is adopted once");
}

/// Somebody else may have it since.
#[tokio::test(start_paused = true)]
async fn a_left_over_job_that_is_lost_while_its_service_is_away_is_not_adopted() {
    let (broker, job, setup) = left_over_and_away().await;
    broker.fence(job);
    setup.pass(15.0).await;
    let (_, renew, _) = broker.renewals().pop().unwrap();
    assert_eq!(renew.held, [], "it is not this worker's any more");
    setup.service.with(|s| s.health = Health::idle());
    setup.pass(15.0).await;
    assert_eq!(setup.service.runs(), 0);
    let cleared = setup.service.with(|s| s.clearings.last().cloned());
    assert_eq!(cleared, Some(Vec::new()), "the service is told to drop it");
}

#[tokio::test(start_paused = true)]
async fn more_attempts_than_one_renewal_may_carry_are_kept_and_adopted() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (jobs, tokens): (Vec<_>, Vec<_>) =
        (0..1100).map(|_| left_over(&broker, "progress-once")).unzip();
    service.with(|s| {
        s.ghosts.extend(tokens);
        s.health = Health::new(ConnectorStatus::Connecting, "starting");
    });
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(6.0).await;
    let renewed = |broker: &FakeBroker| -> BTreeSet<JobId> {
        let renewals = broker.renewals().into_iter().flat_map(|(_, renew, _)| renew.held);
        renewals.map(|held| held.job).collect()
    };
    assert_eq!(renewed(&broker).len(), 1100);
    setup.service.with(|s| s.health = Health::idle());
    setup.pass(10.0).await;
    assert_eq!(setup.service.runs(), 1100);
    let told = broker.renewals().into_iter().flat_map(|(_, _, progress)| progress);
    let told: BTreeSet<_> = told.map(|(job, _)| job).collect();
    assert_eq!(told, jobs.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn left_over_jobs_do_not_wait_for_ever() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let (job, _) = left_over(&broker, "slow");
    service.with(|s| s.health = Health::new(ConnectorStatus::Offline, "refused"));
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(70.0).await;
    let taken = broker.job(job).taken;
    assert!(matches!(taken[..], [Op::Release { reason: LossReason::NotAdopted, .. }]));
    drop(setup);
}

#[tokio::test(start_paused = true)]
async fn no_job_is_claimed_before_the_service_is_clear() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    service.with(|s| s.not_clear = Some("somebody's prompt".into()));
    let job = broker.post("done");
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(60.0).await;
    assert_eq!(broker.job(job).attempt, 0);
    setup.service.with(|s| s.not_clear = None);
    setup.pass(1.5).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_has_is_registered_when_it_comes_up() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    service.with(|s| s.health = Health::new(ConnectorStatus::Connecting, "starting"));
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.service.with(|s| s.health = Health::idle());
    setup.pass(6.0).await;
    let versions: Vec<_> = broker
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Register(r) => Some(r.capabilities.services.into_values().next()?.version),
            _ => None,
        })
        .collect();
    assert_eq!(versions, [None, Some("1.0".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_a_service_has_is_asked_every_five_minutes_and_registered_when_it_is_new() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let setup = Setup::with(1, broker.clone(), service).await;
    let versions = || -> Vec<_> {
        let calls = broker.calls().into_iter().filter_map(|call| match call {
            Call::Register(r) => r.capabilities.services.into_values().next()?.version,
            _ => None,
        });
        calls.collect()
    };
    setup.pass(1000.0).await;
    assert_eq!(versions(), ["1.0"], "nothing is new");
    setup.service.with(|s| s.version = "1.1".into());
    setup.pass(306.0).await;
    assert_eq!(versions(), ["1.0", "1.1"]);
    setup.service.with(|s| s.version = "1".repeat(201));
    setup.pass(306.0).await;
    assert_eq!(versions(), ["1.0", "1.1"], "what no store takes changes nothing");
    let job = broker.post("done");
    setup.pass(1.0).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_given_a_wrong_job_is_asked_again_what_it_has() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    let setup = Setup::with(1, broker.clone(), service).await;
    setup.pass(60.0).await;
    setup.service.with(|s| s.version = "without it".into());
    broker.post("wrong");
    setup.pass(1.0).await;
    let versions = broker.calls().into_iter().filter_map(|call| match call {
        Call::Register(r) => r.capabilities.services.into_values().next()?.version,
        _ => None,
    });
    assert_eq!(versions.last().as_deref(), Some("without it"));
    // However many there are, it is not asked all the time.
    let before = setup.service.with(|s| s.asked);
    for _ in 0..50 {
        broker.post("wrong");
        setup.pass(0.2).await;
    }
    let asked = setup.service.with(|s| s.asked) - before;
    assert!((1..=2).contains(&asked), "{asked} times in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_service_with_what_no_store_takes_is_an_error_and_not_registered() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    service.with(|s| s.version = "1".repeat(201));
    let setup = Setup::with(1, broker.clone(), service).await;
    let job = broker.post("done");
    setup.pass(6.0).await;
    assert_eq!(broker.status(job), JobStatus::Pending);
    let reports = broker.renewals().into_iter().flat_map(|(_, renew, _)| renew.connectors);
    let told = reports.last().unwrap();
    assert_eq!(told.status, ConnectorStatus::Error);
    let why = told.error_message.unwrap();
    assert!(why.contains("/services/fake/version") && why.contains("201 bytes"), "{why}");
    setup.service.with(|s| s.version = "2.0".into());
    setup.pass(6.0).await;
    assert_eq!(broker.status(job), JobStatus::Completed);
}

#[test]
fn labels_that_no_store_takes_are_a_mistake_in_the_configuration() {
    let mut config = config(1, Arc::new(FakeService::new("fake")));
    config.capabilities.labels.insert("tier".into(), LabelValue::Number(f64::NAN));
    let refused = Worker::new(config, FakeBroker::new()).err().unwrap().to_string();
    assert!(refused.starts_with("capabilities/labels/tier: NaN is out of range"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_service_that_is_gone_is_given_back() {
    let broker = FakeBroker::new();
    let (job, _) = left_over(&broker, "hour");
    let setup = Setup::with(1, broker, FakeService::new("other")).await;
    setup.pass(1.0).await;
    let taken = setup.broker.job(job).taken;
    let [Op::Release { reason: LossReason::NotAdopted, message }] = &taken[..] else {
        panic!("{taken:?}")
    };
    assert_eq!(message, "service is gone");
    assert_eq!(setup.service.runs(), 0);
}

/// A worker that was restarted with fewer slots takes none until it has a free one.
#[tokio::test(start_paused = true)]
async fn what_is_adopted_beyond_the_slots_makes_no_slots() {
    let (broker, service) = (FakeBroker::new(), FakeService::new("fake"));
    for _ in 0..3 {
        let (_, token) = left_over(&broker, "slow");
        service.with(|s| s.ghosts.insert(token));
    }
    let setup = Setup::with(1, broker.clone(), service).await;
    let waiting = [broker.post("hour"), broker.post("hour"), broker.post("hour")];
    setup.pass(5.0).await;
    let running = || waiting.iter().filter(|job| broker.job(**job).attempt > 0).count();
    assert_eq!((setup.service.runs(), running()), (3, 0));
    setup.pass(10.0).await;
    assert_eq!((setup.service.runs(), running()), (4, 1));
}
