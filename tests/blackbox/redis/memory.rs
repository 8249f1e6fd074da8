//! A Redis whose memory is nearly full.

use pointsman_api::ErrorCode;
use pointsman_core::record::{AlertRule, JobStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};

use super::fleet::{Fleet, SOON, becomes, running};
use crate::harness::{Served, simulation, submit, until};

const MAX: u64 = 24 << 20;

async fn has_alert(server: &Served) -> bool {
    let alerts = server.client.snapshot().await.expect("a snapshot").alerts;
    alerts.iter().any(|alert| alert.id.rule == AlertRule::StoreFull)
}

#[tokio::test(flavor = "multi_thread")]
async fn above_80_percent_of_memory_new_work_is_refused_and_what_runs_goes_on() {
    let options = RedisOptions { maxmemory: Some(MAX), ..RedisOptions::default() };
    let redis = RedisServer::start(options).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let _direct = fleet.direct(&server, "direct", 2).await;
    let short = running(&server.client, 1, 8_000).await;
    let long = running(&server.client, 1, 16_000).await;
    // Somebody else's: more than four fifths of all that there is.
    let mut connection = redis.connect().await.expect("it answers");
    let mut fillers = Vec::new();
    while redis.info("used_memory").await.expect("it answers").expect("a number") < MAX / 100 * 83 {
        fillers.push(format!("filler:{}", fillers.len()));
        let mut set = redis::cmd("SET");
        set.arg(fillers.last()).arg(vec![b'x'; 100_000]);
        set.exec_async(&mut connection).await.expect("there is room");
    }

    let mut refused = 0;
    let why = becomes("a refusal", SOON, async || {
        let problem = server.client.submit(&simulation(1)).await.err()?.problem().cloned()?;
        problem.is(ErrorCode::StoreFull).then_some(problem)
    })
    .await;
    refused += 1;
    assert_eq!(why.status, 503, "{why:?}");
    assert!(why.detail.contains("maxmemory"), "{why:?}");
    becomes("the alert", SOON, async || has_alert(&server).await.then_some(())).await;
    // An ending, and renewals beyond the end of a lease.
    let ended = until(&server.client, short[0], SOON, |job| job.status.is_ended()).await;
    assert_eq!((ended.status, ended.attempt), (JobStatus::Completed, 1));
    assert!(server.client.submit(&simulation(1)).await.is_err(), "still full");
    refused += 1;
    let ended = until(&server.client, long[0], SOON, |job| job.status.is_ended()).await;
    assert_eq!((ended.status, ended.attempt, ended.losses), (JobStatus::Completed, 1, 0));

    let delete = redis::cmd("DEL").arg(fillers).to_owned();
    delete.exec_async(&mut connection).await.expect("it answers");
    becomes("a submission", SOON, async || server.client.submit(&simulation(1)).await.ok()).await;
    becomes("no alert", SOON, async || (!has_alert(&server).await).then_some(())).await;
    let last = submit(&server.client, &simulation(1)).await;
    until(&server.client, last, SOON, |job| job.status == JobStatus::Completed).await;
    println!("memory full: refused {refused}, endings meanwhile 2, attempts 1 each");
}
