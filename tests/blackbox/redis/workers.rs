//! Workers that die, and workers that come back from the dead.

use std::time::Duration;

use pointsman_api::JobsQuery;
use pointsman_client::Client;
use pointsman_core::{JobId, record::JobStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, SOON, becomes, running, runs},
    judge::Judge,
    load::Load,
};
use crate::harness::{run, simulation, submit, until};

async fn jobs_of(client: &Client, worker: &str) -> Vec<JobId> {
    let query = JobsQuery {
        status: Some(JobStatus::InProgress),
        worker: Some(worker.parse().expect("an id")),
        ..JobsQuery::default()
    };
    client.jobs(&query).await.expect("the server answers").jobs.iter().map(|job| job.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_direct_workers_jobs_run_elsewhere_within_12_s() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let killed = fleet.direct(&server, "killed", 4).await;
    let long = running(&server.client, 4, 12_000).await;
    let _direct = fleet.direct(&server, "direct", 8).await;
    let _over_http = server.worker("over-http", 8).await;
    let load = Load::on(&[&server.client]);
    load.goes_on(50).await;
    assert_eq!(jobs_of(&server.client, "killed").await.len(), 4);
    killed.kill().await;
    let begun = Instant::now();
    for job in &long {
        let elsewhere = |job: &pointsman_core::record::JobRecord| {
            job.attempt == 2 && job.started_at.is_some() && job.status != JobStatus::Assigned
        };
        let left = Duration::from_secs(12).saturating_sub(begun.elapsed());
        let job = until(&server.client, *job, left, elsewhere).await;
        assert_eq!((job.losses, job.failures), (1, 0), "interrupted is not failed");
    }
    println!("killed worker: all of its jobs ran elsewhere after {:?}", begun.elapsed());
    let (acknowledged, failures) = load.stop().await;
    assert_eq!(failures, 0, "a worker's death is nothing to those who submit");
    let all = acknowledged.keys().chain(&long);
    Judge::each_completed_once(&server.client, "killed worker", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_that_was_frozen_hands_in_is_kept_as_late_and_changes_nothing() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let frozen = [
        fleet.direct(&server, "frozen-direct", 1).await,
        server.worker("frozen-over-http", 1).await,
    ];
    // Both are frozen as soon as both run, long before either ends.
    let jobs = [
        submit(&server.client, &simulation(6_000)).await,
        submit(&server.client, &simulation(6_000)).await,
    ];
    for job in jobs {
        runs(&server.client, job).await;
    }
    frozen.iter().for_each(|worker| worker.signal("STOP"));
    let _other = fleet.direct(&server, "other", 8).await;
    let load = Load::on(&[&server.client]);
    load.goes_on(25).await;
    for job in jobs {
        until(&server.client, job, SOON, |job| job.attempt == 2).await;
    }
    load.goes_on(25).await;
    let (acknowledged, failures) = load.stop().await;
    assert_eq!(failures, 0, "that workers stand still is nothing to those who submit");
    let mut before = Vec::new();
    for job in jobs {
        let job = until(&server.client, job, SOON, |job| job.status.is_ended()).await;
        assert_eq!((job.status, job.attempt), (JobStatus::Completed, 2));
        assert_eq!(job.worker_id.as_ref().map(|id| id.as_str()), Some("other"));
        before.push(job);
    }
    frozen.iter().for_each(|worker| worker.signal("CONT"));
    for before in before {
        let mut after = until(&server.client, before.id, SOON, |job| job.late_results > 0).await;
        let attempts = server.client.attempts(before.id).await.expect("the server answers");
        assert_eq!((attempts.late_results, attempts.attempt, attempts.past.len()), (1, 2, 1));
        assert!(attempts.past[0].late, "{attempts:?}");
        // All but that a result came late is as it was.
        (after.late_results, after.rev) = (before.late_results, before.rev);
        after.past_attempts.iter_mut().for_each(|past| past.late = false);
        assert_eq!(after, before);
    }
    // Those who come back go on: the other one alone has not enough slots for these.
    let more = running(&server.client, 10, 3_000).await;
    let all = acknowledged.keys().chain(&jobs).chain(&more);
    let judge = Judge::each_completed_once(&server.client, "frozen workers", all).await;
    assert!(more.iter().all(|job| judge.jobs[job].assigned == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_told_to_stop_is_shown_as_stopping() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a Redis");
    let fleet = Fleet::on(redis.url());
    let server = fleet.server("one").await;
    let is = async |id: &str| {
        let workers = server.client.workers().await.expect("the server answers");
        let worker = workers.into_iter().find(|worker| worker.id.as_str() == id);
        worker.expect("it is known").shown_status()
    };
    let becomes = async |id: &str, what: &'static str, within: Duration| {
        let look = async || (is(id).await == what).then_some(());
        becomes(&format!("{id} is {what}"), within, look).await;
    };
    let mut stopped =
        [fleet.direct(&server, "direct", 1).await, server.worker("over-http", 1).await];
    let jobs = running(&server.client, 2, 8_000).await;
    let waits = submit(&server.client, &simulation(0)).await;
    for (process, id) in stopped.iter().zip(["direct", "over-http"]) {
        assert_eq!(is(id).await, "busy");
        process.signal("TERM");
        becomes(id, "stopping", Duration::from_secs(1)).await;
    }
    let listed = run(&["workers", "--server", &server.url]).await;
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    assert_eq!(listed.matches(" stopping ").count(), 2, "{listed}");
    let explained = server.client.explain(waits).await.expect("it is known");
    assert_eq!((explained.explanation.able.stopping, explained.explanation.able.full), (2, 0));
    assert!(explained.answer.contains(" 2 stopping"), "{}", explained.answer);
    for job in jobs {
        let job = until(&server.client, job, SOON, |job| job.status.is_ended()).await;
        assert_eq!((job.status, job.attempt), (JobStatus::Completed, 1));
    }
    for (process, id) in stopped.iter_mut().zip(["direct", "over-http"]) {
        assert!(process.ended().await.success());
        assert_eq!(is(id).await, "offline");
    }
    let _anew = fleet.direct(&server, "direct", 1).await;
    becomes("direct", "idle", SOON).await;
    until(&server.client, waits, SOON, |job| job.status == JobStatus::Completed).await;
}
