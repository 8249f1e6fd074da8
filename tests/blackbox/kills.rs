//! `kill -9` of everything, under load: what was acknowledged ends exactly once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use pointsman_client::Client;
use pointsman_core::{
    EventName, JobId,
    record::{JobRecord, JobStatus},
};
use tokio::{task::JoinSet, time::Instant};

use crate::harness::{Process, Served, directory, simulation, submit, until};

const SOON: Duration = Duration::from_secs(60);

const KILLS: u32 = 20;
/// Submitters that never stop.
const SUBMITTERS: usize = 8;
/// Acknowledged submissions between two kills.
const LOAD: usize = 60;

/// Submits until the server is gone; what was acknowledged is kept.
async fn load(client: &Client, acknowledged: &Arc<Mutex<BTreeSet<JobId>>>) -> JoinSet<()> {
    let mut submitters = JoinSet::new();
    for _ in 0..SUBMITTERS {
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        submitters.spawn(async move {
            while let Ok(submitted) = client.submit(&simulation(5)).await {
                acknowledged.lock().insert(submitted.job.id);
            }
        });
    }
    submitters
}

async fn wait_for_more(acknowledged: &Mutex<BTreeSet<JobId>>, more: usize) {
    let enough = acknowledged.lock().len() + more;
    let deadline = Instant::now() + Duration::from_secs(30);
    while acknowledged.lock().len() < enough {
        assert!(Instant::now() < deadline, "submissions are accepted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every acknowledged job ended once, as the log tells it.
async fn each_ended_once(client: &Client, acknowledged: &BTreeSet<JobId>) {
    for id in acknowledged {
        let job = until(client, *id, Duration::from_secs(60), |job| job.status.is_ended()).await;
        assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    }
    let endings = endings(client).await;
    for id in acknowledged {
        assert_eq!(endings.get(id), Some(&1), "endings of {id}");
    }
    assert!(endings.values().all(|n| *n == 1), "nothing ended twice");
}

async fn endings(client: &Client) -> BTreeMap<JobId, u32> {
    let epoch = client.snapshot().await.expect("a snapshot").epoch;
    let mut after = format!("{epoch}.0");
    let mut endings = BTreeMap::new();
    loop {
        let page = client.log(&after, 1_000).await.expect("the log is kept");
        for event in &page.events {
            let ended = matches!(
                event.event,
                EventName::JobCompleted | EventName::JobFailed | EventName::JobCancelled
            );
            if ended {
                *endings.entry(event.id.parse().expect("a job id")).or_insert(0) += 1;
            }
        }
        if page.next == after {
            return endings;
        }
        after = page.next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_is_killed_twenty_times_under_load() {
    let data = directory();
    let acknowledged = Arc::default();
    for _ in 0..KILLS {
        let up = Served::up(data.path(), &["--simulation-slots", "16"]).await;
        let submitters = load(&up.client, &acknowledged).await;
        wait_for_more(&acknowledged, LOAD).await;
        up.process.kill().await;
        submitters.join_all().await;
    }
    let up = Served::up(data.path(), &["--simulation-slots", "16"]).await;
    let acknowledged = acknowledged.lock().clone();
    each_ended_once(&up.client, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_killed_twenty_times_under_load() {
    let data = directory();
    let acknowledged = Arc::default();
    let mut server = Served::server(data.path(), 0).await;
    let port = server.port();
    let _worker = server.worker("remote", 16).await;
    for _ in 0..KILLS {
        let submitters = load(&server.client, &acknowledged).await;
        wait_for_more(&acknowledged, LOAD).await;
        server.process.kill().await;
        submitters.join_all().await;
        server = Served::server(data.path(), port).await;
    }
    let acknowledged = acknowledged.lock().clone();
    each_ended_once(&server.client, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_runs_elsewhere_within_12_s() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let first = server.worker("first", 1).await;
    let job = submit(&server.client, &simulation(600_000)).await;
    until(&server.client, job, SOON, |job| job.status == JobStatus::InProgress).await;
    let _second = server.worker("second", 1).await;
    first.kill().await;
    let elsewhere = |job: &JobRecord| {
        job.status == JobStatus::InProgress
            && job.worker_id.as_ref().is_some_and(|worker| worker.as_str() == "second")
    };
    let job = until(&server.client, job, Duration::from_secs(12), elsewhere).await;
    assert_eq!((job.attempt, job.losses, job.failures), (2, 1, 0), "interrupted is not failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_for_20_s_costs_no_running_job() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let port = server.port();
    let _worker = server.worker("remote", 2).await;
    let long = submit(&server.client, &simulation(30_000)).await;
    let short = submit(&server.client, &simulation(10_000)).await;
    for job in [long, short] {
        until(&server.client, job, SOON, |job| job.status == JobStatus::InProgress).await;
    }
    let epoch = server.client.snapshot().await.expect("a snapshot").epoch;
    server.process.kill().await;
    // The absence itself is what is tested: longer than a lease, and than being silent.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let server = Served::server(data.path(), port).await;
    let after = server.client.snapshot().await.expect("a snapshot").epoch;
    assert_eq!(after, epoch, "nothing was lost: monitors go on");
    for job in [short, long] {
        let job =
            until(&server.client, job, Duration::from_secs(40), |job| job.status.is_ended()).await;
        assert_eq!((job.status, job.attempt, job.losses), (JobStatus::Completed, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_job_goes_on_over_a_killed_server() {
    let data = directory();
    let server = Served::server(data.path(), 0).await;
    let port = server.port();
    let _worker = server.worker("remote", 1).await;
    let payload = data.path().join("payload.json");
    std::fs::write(&payload, r#"{"duration_ms": 8000}"#).expect("written");
    let file = payload.to_str().expect("a path in UTF-8");
    let submit = ["submit", file, "--service", "simulation", "--wait"];
    let mut waiting = Process::start(&[&["--server", &server.url], &submit[..]].concat());
    let said = waiting.says("job").await;
    let id = said.split_whitespace().next().expect("an id").parse().expect("an id");
    let running = |job: &JobRecord| job.status == JobStatus::InProgress;
    until(&server.client, id, SOON, running).await;
    server.process.kill().await;
    let _server = Served::server(data.path(), port).await;
    assert_eq!(waiting.ended().await.code(), Some(0), "the job completed");
}

#[tokio::test]
async fn a_stopped_up_gives_its_jobs_back_and_goes_on_with_them() {
    let data = directory();
    let mut up = Served::up(data.path(), &["--drain-s", "1"]).await;
    let job = submit(&up.client, &simulation(8_000)).await;
    until(&up.client, job, SOON, |job| job.status == JobStatus::InProgress).await;
    up.process.signal("TERM");
    assert!(up.process.ended().await.success(), "it stops in order");
    let up = again(data.path()).await;
    let job = until(&up.client, job, SOON, |job| job.status.is_ended()).await;
    assert_eq!((job.status, job.failures), (JobStatus::Completed, 0));
    assert_eq!((job.attempt, job.losses), (2, 1));
}

async fn again(data: &Path) -> Served {
    Served::up(data, &[]).await
}
