//! A data directory that came back from a backup: what runs is kept, and monitors begin anew.

use std::{path::Path, time::Duration};

use pointsman_core::record::JobStatus;
use serde_json::Value;

use crate::{
    harness::{Served, directory, run, simulation, submit, until},
    redis::viewer::Viewer,
};

const SOON: Duration = Duration::from_secs(60);

async fn stopped(mut server: Served) {
    server.process.signal("TERM");
    server.process.ended().await;
}

async fn epoch(server: &Served) -> String {
    server.client.snapshot().await.expect("a snapshot").epoch
}

/// Makes a directory what another one is.
fn copy(from: &Path, to: &Path) {
    let copy = "rm -rf \"$1\" && cp -a \"$0\" \"$1\"";
    let done = std::process::Command::new("sh").args(["-c", copy]).arg(from).arg(to).status();
    assert!(done.expect("sh runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_keeps_what_runs_and_monitors_begin_anew() {
    let parent = directory();
    let (data, backup) = (parent.path().join("data"), parent.path().join("backup"));
    let server = Served::server(&data, 0).await;
    let port = server.port();
    let (long, short) = (simulation(15_000), simulation(100));
    let (long, short) = (submit(&server.client, &long).await, submit(&server.client, &short).await);
    stopped(server).await;
    copy(&data, &backup);

    let server = Served::server(&data, port).await;
    let before = epoch(&server).await;
    let _runs = server.worker("runs", 2).await;
    until(&server.client, long, SOON, |job| job.status == JobStatus::InProgress).await;
    until(&server.client, short, SOON, |job| job.status == JobStatus::Completed).await;
    let _idle = server.worker("idle", 8).await;
    let forgotten = submit(&server.client, &simulation(100)).await;
    until(&server.client, forgotten, SOON, |job| job.status == JobStatus::Completed).await;
    let viewer = Viewer::of(&[&server.client]).await;
    server.process.kill().await;
    copy(&backup, &data);

    let server = Served::server(&data, port).await;
    let after = epoch(&server).await;
    assert_ne!(after, before);
    viewer.until("a resync", |seen| seen.resyncs > 0 && seen.epoch() == after).await;
    for job in [long, short] {
        let job = until(&server.client, job, SOON, |job| job.status.is_ended()).await;
        let worker = job.worker_id.as_ref().map(|worker| worker.as_str());
        assert_eq!((job.status, worker), (JobStatus::Completed, Some("runs")), "{job:?}");
        assert_eq!((job.attempt, job.losses, job.failures), (1, 0, 0), "{job:?}");
    }
    assert!(server.client.job(forgotten).await.is_err(), "the backup never had it");
    let next = submit(&server.client, &simulation(100)).await;
    until(&server.client, next, SOON, |job| job.status == JobStatus::Completed).await;
    assert_eq!(viewer.seen().resyncs, 1);
}

/// What no file shows, such as a whole disk that was set back.
#[tokio::test]
async fn a_store_is_told_that_it_was_restored() {
    let data = directory();
    let store = format!("sqlite:{}", data.path().display());
    let restored = ["--json", "restored", "--store", &store];
    let missing = run(&restored).await;
    assert!(!missing.status.success() && !data.path().join("pointsman.db").exists());
    let server = Served::server(data.path(), 0).await;
    let before = epoch(&server).await;
    let refused = run(&restored).await;
    assert!(!refused.status.success());
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("stop the server first"), "{why}");
    stopped(server).await;
    let told = run(&restored).await;
    assert!(told.status.success(), "{told:?}");
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let server = Served::server(data.path(), 0).await;
    let after = epoch(&server).await;
    assert_eq!(told["epoch"], after.as_str());
    assert_ne!(after, before);
    let on_redis = run(&["restored", "--store", "redis://127.0.0.1:1"]).await;
    assert_eq!(on_redis.status.code(), Some(2), "{on_redis:?}");
}
