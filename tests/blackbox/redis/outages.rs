//! Redis itself is killed, or away.

use std::time::Duration;

use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, running},
    judge::Judge,
    load::Load,
    viewer::Viewer,
};

/// Kills a Redis under load, and starts it again.
async fn killed_and_restarted(aof: Aof, may_lose: Duration) {
    let name = format!("Redis killed, AOF {aof:?}");
    let mut redis = RedisServer::start(RedisOptions::with_aof(aof)).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let _direct = fleet.direct(&server, "direct", 8).await;
    let _over_http = server.worker("over-http", 8).await;
    let viewer = Viewer::of(&[&server.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    let long = running(&server.client, 8, 6_000).await;
    let load = Load::on(&[&server.client]);
    load.goes_on(50).await;
    redis.kill().await.expect("it is killed");
    let killed = Instant::now();
    // The absence itself is what is tested.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    redis.start_again().await.expect("it starts again");
    let seen = viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() != epoch).await;
    load.goes_on(50).await;
    let (acknowledged, failures) = load.stop().await;
    let is_safe = |at: &Instant| *at + may_lose < killed || *at > killed;
    let safe = acknowledged.iter().filter(|(_, at)| may_lose.is_zero() || is_safe(at));
    let all = safe.map(|(job, _)| job).chain(&long);
    let judge = Judge::each_completed_once(&server.client, &name, all).await;
    let lost = acknowledged.keys().filter(|job| !judge.jobs.contains_key(job)).count();
    println!("{name}: failed submissions {failures}, lost {lost}, resyncs {}", seen.resyncs);
    assert!(long.iter().all(|job| judge.jobs[job].assigned == 1), "running jobs went on");
    assert_ne!(seen.epoch(), epoch);
    assert_eq!(seen.resyncs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_that_writes_always_loses_nothing() {
    killed_and_restarted(Aof::Always, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_that_writes_every_second_loses_no_more_than_that() {
    killed_and_restarted(Aof::EverySec, Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_for_20_s_costs_no_running_job() {
    let redis = RedisServer::start(RedisOptions::with_aof(Aof::EverySec)).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let direct = fleet.direct(&server, "direct", 2).await;
    let over_http = server.worker("over-http", 2).await;
    let viewer = Viewer::of(&[&server.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    // Two end while it is away, two when it is back.
    let short = running(&server.client, 2, 8_000).await;
    let long = running(&server.client, 2, 22_000).await;
    redis.freeze().expect("it is frozen");
    // The absence itself is what is tested: longer than a lease, and than being silent.
    tokio::time::sleep(Duration::from_secs(20)).await;
    redis.thaw().expect("it goes on");
    let all = short.iter().chain(&long);
    let judge = Judge::each_completed_once(&server.client, "Redis away for 20 s", all).await;
    assert!(judge.jobs.values().all(|job| job.assigned == 1), "{:?}", judge.jobs);
    let seen = viewer.seen();
    println!("Redis away for 20 s: resyncs {}, moves {}", seen.resyncs, seen.moves);
    assert_eq!((seen.epoch(), seen.resyncs), (epoch.as_str(), 0), "it is the same as before");
    for process in [&server.process, &direct, &over_http] {
        let logged = process.logged();
        assert!((1..=20).contains(&logged), "{logged} lines of an absence of 20 s");
    }
}
