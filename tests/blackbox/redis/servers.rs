//! Several servers on one Redis.

use pointsman_client::Client;
use pointsman_core::{JobId, record::JobStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};

use super::{
    fleet::{Fleet, SOON, running},
    judge::Judge,
    load::Load,
    viewer::{Viewer, both, records},
};
use crate::harness::{Process, Served, directory, run, simulation, submit, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_moves_from_a_killed_server_to_another_without_a_resync() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let (stays, goes) = (fleet.server("stays").await, fleet.server("goes").await);
    let _direct = fleet.direct(&stays, "direct", 8).await;
    let _over_http = stays.worker("over-http", 8).await;
    let viewer = Viewer::of(&[&goes.client, &stays.client]).await;
    let load = Load::on(&[&stays.client, &goes.client]);
    load.goes_on(100).await;
    goes.process.kill().await;
    let left = viewer.until("the other server", |seen| seen.moves == 1).await;
    load.goes_on(100).await;
    let comes = fleet.server("comes").await;
    load.goes_on(100).await;
    let (acknowledged, failures) = load.stop().await;
    Judge::each_completed_once(&stays.client, "killed server", acknowledged.keys()).await;
    // Equal record by record at one seq, and so is what the viewer has put together.
    let (one, other) = both(&stays.client, &comes.client).await;
    assert_eq!(records(&one), records(&other));
    let seen = viewer.until("the end", |seen| seen.position == one.position()).await;
    println!(
        "killed server: failed submissions {failures}, viewer left at {}, went on to {}, \
         snapshots {}, resyncs {}, {} records equal",
        left.position,
        seen.position,
        seen.snapshots,
        seen.resyncs,
        seen.records.len(),
    );
    assert_eq!((seen.snapshots, seen.resyncs, seen.moves), (1, 0, 1));
    assert_eq!(seen.records, records(&one));
}

/// Two servers, and a worker that is told of both and runs two jobs over the one that goes away.
struct Two {
    stays: Served,
    goes: Served,
    /// Their addresses, as the worker has them.
    both: String,
    jobs: Vec<JobId>,
    _worker: Process,
    _redis: RedisServer,
    _fleet: Fleet,
}

impl Two {
    async fn start() -> Self {
        let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
        let fleet = Fleet::on(redis.url());
        let (stays, goes) = (fleet.server("stays").await, fleet.server("goes").await);
        let both = format!("{},{}", goes.url, stays.url);
        let arguments = ["worker", "--id", "w", "--service", "simulation:2", "--broker", &both];
        let worker = stays.registered(Process::start(&arguments)).await;
        // Longer than a lease.
        let jobs = running(&stays.client, 2, 15_000).await;
        Self { stays, goes, both, jobs, _worker: worker, _redis: redis, _fleet: fleet }
    }
}

/// Nothing of these is lost, the worker takes the next one, and a command finds the server that stays.
async fn go_on(client: &Client, both: &str, jobs: Vec<JobId>) {
    let directory = directory();
    let payload = directory.path().join("payload.json");
    std::fs::write(&payload, simulation(1).payload.to_string()).expect("a file");
    let payload = payload.to_str().expect("UTF-8");
    let submit_it = ["--server", both, "submit", "--service", "simulation", "--wait", payload];
    let out = run(&submit_it).await;
    assert!(out.status.success(), "a command finds the other one: {out:?}");
    let next = submit(client, &simulation(100)).await;
    for job in jobs.into_iter().chain([next]) {
        let job = until(client, job, SOON, |job| job.status.is_ended()).await;
        assert_eq!((job.status, job.attempt, job.losses), (JobStatus::Completed, 1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_several_servers_goes_on_when_its_server_is_killed() {
    let two = Two::start().await;
    two.goes.process.kill().await;
    go_on(&two.stays.client, &two.both, two.jobs).await;
}

/// It still takes connections, and answers nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_several_servers_goes_on_when_its_server_hangs() {
    let two = Two::start().await;
    two.goes.process.signal("STOP");
    go_on(&two.stays.client, &two.both, two.jobs).await;
}
