//! Redis itself is killed, or away.

use std::time::Duration;

use pointsman_redis_testing::{Aof, RedisOptions, RedisServer};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, SOON, becomes, running},
    judge::Judge,
    load::Load,
    viewer::Viewer,
};

/// A moment before which everything that was answered is with the kernel, so that a killed process
/// cannot take it along: no flush was under way, and what waits for the append-only file is written
/// before Redis answers that.
async fn all_is_written(redis: &RedisServer) -> Instant {
    becomes("no flush under way", SOON, async || {
        let asked = Instant::now();
        let pending = redis.info("aof_pending_bio_fsync").await.expect("Redis answers");
        (pending == Some(0)).then_some(asked)
    })
    .await
}

/// Kills a Redis under load, and starts it again.
async fn killed_and_restarted(aof: Aof, away: Duration) {
    let name = format!("Redis killed and away for {away:?}, AOF {aof:?}");
    let mut redis = RedisServer::start(RedisOptions::with_aof(aof)).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let direct = fleet.direct(&server, "direct", 8).await;
    let over_http = server.worker("over-http", 8).await;
    let viewer = Viewer::of(&[&server.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    let long = running(&server.client, 8, 6_000).await;
    let load = Load::on(&[&server.client]);
    load.goes_on(50).await;
    let written = all_is_written(&redis).await;
    redis.kill().await.expect("it is killed");
    // The absence itself is what is tested.
    tokio::time::sleep(away).await;
    redis.start_again().await.expect("it starts again");
    let back = Instant::now();
    viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() != epoch).await;
    load.goes_on(50).await;
    let (acknowledged, failures) = load.stop().await;
    let is_safe = |at: &Instant| aof == Aof::Always || *at < written || *at > back;
    let safe = acknowledged.iter().filter(|(_, at)| is_safe(at));
    let all = safe.map(|(job, _)| job).chain(&long);
    let judge = Judge::each_completed_once(&server.client, &name, all).await;
    let before = acknowledged.values().filter(|at| **at < written).count();
    let lost = acknowledged.keys().filter(|job| !judge.jobs.contains_key(job)).count();
    let seen = viewer.caught_up(&server.client).await;
    println!(
        "{name}: failed submissions {failures}, acknowledged before {before}, lost {lost}, \
         resyncs {}",
        seen.resyncs
    );
    assert!(before >= 50, "only {before} were acknowledged before it was killed");
    assert!(long.iter().all(|job| judge.jobs[job].assigned == 1), "running jobs went on");
    assert_ne!(seen.epoch(), epoch);
    assert_eq!(seen.resyncs, 1);
    for process in [&server.process, &direct, &over_http] {
        let logged = process.logged();
        assert!((1..=20).contains(&logged), "{logged} lines of an absence of {away:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_that_writes_always_loses_nothing() {
    killed_and_restarted(Aof::Always, Duration::from_millis(2_500)).await;
}

/// Away for longer than a lease, and than being silent: what ends meanwhile is kept for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_that_writes_every_second_and_is_away_for_20_s_loses_nothing_written() {
    killed_and_restarted(Aof::EverySec, Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_for_20_s_costs_no_running_job() {
    let redis = RedisServer::start(RedisOptions::with_aof(Aof::EverySec)).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let direct = fleet.direct(&server, "direct", 4).await;
    let over_http = server.worker("over-http", 4).await;
    let viewer = Viewer::of(&[&server.client]).await;
    let epoch = viewer.seen().epoch().to_owned();
    // Two end while it is away, two when it is back.
    let short = running(&server.client, 2, 8_000).await;
    let long = running(&server.client, 2, 22_000).await;
    let load = Load::on(&[&server.client]);
    load.goes_on(50).await;
    redis.freeze().expect("it is frozen");
    let frozen = Instant::now();
    // The absence itself is what is tested: longer than a lease, and than being silent.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let meanwhile = viewer.seen();
    redis.thaw().expect("it goes on");
    let thawed = Instant::now();
    viewer.until("it is live", |seen| seen.live_at.is_some_and(|at| at > thawed)).await;
    load.goes_on(50).await;
    let (acknowledged, failures) = load.stop().await;
    let all = acknowledged.keys().chain(&short).chain(&long);
    let judge = Judge::each_completed_once(&server.client, "Redis frozen for 20 s", all).await;
    let mut interrupted = short.iter().chain(&long);
    assert!(interrupted.all(|job| judge.jobs[job].assigned == 1), "running jobs went on");
    let seen = viewer.caught_up(&server.client).await;
    println!(
        "Redis frozen for 20 s: failed submissions {failures}, resyncs {}, moves {}, not live {}, \
         last called live {:?} after it was frozen",
        seen.resyncs,
        seen.moves,
        meanwhile.not_live,
        meanwhile.live_at.map(|at| at.saturating_duration_since(frozen)),
    );
    assert_eq!((seen.epoch(), seen.resyncs), (epoch.as_str(), 0), "it is the same as before");
    // The log is read to its end within 5 s, or the page does not call itself live.
    assert!(meanwhile.not_live >= 1, "a view that nobody can vouch for is not live");
    let quiet = frozen + Duration::from_secs(10);
    assert!(meanwhile.live_at.is_none_or(|at| at < quiet), "{:?}", meanwhile.live_at);
    for process in [&server.process, &direct, &over_http] {
        let logged = process.logged();
        assert!((1..=20).contains(&logged), "{logged} lines of an absence of 20 s");
    }
}
