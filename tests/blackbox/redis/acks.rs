//! What is answered when a replica has it outlives the primary.

use std::time::Duration;

use pointsman_core::record::JobStatus;
use pointsman_redis_testing::{RedisOptions, RedisServer};

use super::{
    failover::replicas_have_all_of,
    fleet::{Fleet, SOON, running, still_run},
    judge::Judge,
    links::Proxy,
    load::Load,
    viewer::Viewer,
};
use crate::harness::until;

/// The primary takes writes that no replica hears of for this long, before it dies.
const ALONE: Duration = Duration::from_millis(2_000);

/// Makes it a replica of whoever listens there.
async fn follow(replica: &RedisServer, port: u16) {
    let mut connection = replica.connect().await.expect("it answers");
    let mut order = redis::cmd("REPLICAOF");
    order.arg("127.0.0.1").arg(port).exec_async(&mut connection).await.expect("it obeys");
}

async fn offset(replica: &RedisServer) -> u64 {
    let offset = replica.info("slave_repl_offset").await.expect("it answers");
    offset.expect("it is a replica")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_acks_a_fail_over_loses_no_submission_and_no_ending() {
    let mut primary = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let way = Proxy::to(primary.port()).await;
        let replica = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
        follow(&replica, way.port).await;
        replicas.push((replica, way));
    }
    replicas_have_all_of(&primary, 2).await;
    let proxy = Proxy::to(primary.port()).await;
    let fleet = Fleet::with_acks(proxy.url());
    let server = fleet.server("one").await;
    let _direct = fleet.direct(&server, "direct", 8).await;
    let _over_http = server.worker("over-http", 8).await;
    let viewer = Viewer::of(&[&server.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    let load = Load::on(&[&server.client]);
    load.goes_on(50).await;
    let (nowhere, [(behind, cut), (ahead, last)]) = (0, &replicas[..]) else { unreachable!() };
    cut.lead_to(nowhere);
    load.goes_on(50).await;
    // Some end while the primary is alone, some after it.
    let long = running(&server.client, 4, 20_000).await;
    let short = running(&server.client, 4, 5_000).await;
    last.lead_to(nowhere);
    assert_eq!(still_run(&server.client, &short).await, short.len(), "they end in what follows");
    // The absence itself is what is tested.
    tokio::time::sleep(ALONE).await;
    for job in &short {
        until(&server.client, *job, SOON, |job| job.status == JobStatus::Completed).await;
    }
    assert_eq!(still_run(&server.client, &long).await, long.len(), "they end after it");
    primary.kill().await.expect("it is killed");
    assert!(offset(ahead).await > offset(behind).await, "one has more than the other");
    ahead.promote().await.expect("it is promoted");
    follow(behind, ahead.port()).await;
    proxy.lead_to(ahead.port());

    viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() != epoch).await;
    load.goes_on(50).await;
    let (acknowledged, failures) = load.stop().await;
    let all = acknowledged.keys().chain(&short).chain(&long);
    let judge = Judge::each_completed_once(&server.client, "fail-over with acks", all).await;
    let lost = acknowledged.keys().filter(|job| !judge.jobs.contains_key(job)).count();
    let seen = viewer.caught_up(&server.client).await;
    println!(
        "fail-over with acks: failed submissions {failures}, lost {lost}, resyncs {}",
        seen.resyncs
    );
    assert!(failures > 0, "what no replica confirmed was not acknowledged");
    for job in short.iter().chain(&long) {
        let job = server.client.job(*job).await.expect("it is known");
        assert_eq!((job.attempt, job.losses, job.failures), (1, 0, 0), "{job:?}");
    }
    assert_eq!(seen.resyncs, 1);
}
