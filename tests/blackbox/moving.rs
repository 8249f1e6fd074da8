//! Moving house: a server's store goes on in another directory, or on Redis.

use std::{path::Path, time::Duration};

use pointsman_client::{Client, ClientError};
use pointsman_core::{JobId, record::JobStatus};
use pointsman_redis_testing::{RedisOptions, RedisServer};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Served, directory, run, simulation, submit, until};

fn store(dir: &Path) -> String {
    format!("sqlite:{}", dir.display())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn completes(client: &Client, job: JobId) {
    let job = until(client, job, Duration::from_secs(60), |job| job.status.is_ended()).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
}

/// Runs a command that answers in JSON.
async fn told(arguments: &[&str]) -> Value {
    let output = run(&[&["--json"], arguments].concat()).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs a command that is refused as wrong usage; says why.
async fn refused(arguments: &[&str]) -> String {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    text(&output.stderr)
}

#[tokio::test]
async fn a_store_goes_on_in_another_directory() {
    let (old, new, beside) = (directory(), directory(), directory());
    let (from, to) = (store(old.path()), store(new.path()));
    let file = beside.path().join("fleet.export").display().to_string();
    let mut server = Served::server(old.path(), 0).await;
    let worker = server.worker("w", 1).await;
    let done = submit(&server.client, &simulation(0)).await;
    completes(&server.client, done).await;
    worker.kill().await;
    let waiting = submit(&server.client, &simulation(0)).await;

    let closed = told(&["--server", &server.url, "intake", "close"]).await;
    assert_eq!(closed, json!({"intake": "closed", "running": 0}));
    let why = refused(&["export", "--store", &from, "--out", &file]).await;
    assert!(why.contains("stop the server first"), "{why}");
    server.process.signal("TERM");
    server.process.ended().await;
    let export = ["export", "--store", &from, "--out", &file];
    let exported = told(&export).await;
    assert_eq!(exported["counts"]["jobs"], 2, "{exported}");

    // The old one is closed, and says how it is opened again.
    let mut closed = Served::server(old.path(), 0).await;
    let problem = closed.client.submit(&simulation(0)).await.expect_err("it is closed");
    let ClientError::Problem(problem) = problem else { panic!("{problem}") };
    assert_eq!(problem.code, "intake_closed");
    assert!(problem.cure.contains("pointsman intake open"), "{problem:?}");
    closed.process.signal("TERM");
    closed.process.ended().await;

    let imported = told(&["import", "--store", &to, &file]).await;
    assert_eq!(imported["counts"], exported["counts"]);
    let again = refused(&["import", "--store", &to, &file]).await;
    assert!(again.contains("not empty"), "{again}");
    let server = Served::server(new.path(), 0).await;
    assert_eq!(server.client.job(done).await.expect("it is there").status, JobStatus::Completed);
    let _worker = server.worker("w", 1).await;
    completes(&server.client, waiting).await;
}

#[tokio::test]
async fn what_is_no_whole_export_is_refused() {
    let (old, new, beside) = (directory(), directory(), directory());
    let (from, to) = (store(old.path()), store(new.path()));
    let file = beside.path().join("fleet.export");
    let path = file.display().to_string();
    let missing = refused(&["export", "--store", &from]).await;
    assert!(missing.contains("there is no store"), "{missing}");
    let mut server = Served::server(old.path(), 0).await;
    submit(&server.client, &simulation(0)).await;
    server.process.signal("TERM");
    server.process.ended().await;
    let out = beside.path().join("missing/fleet.export").display().to_string();
    let why = refused(&["export", "--store", &from, "--out", &out]).await;
    assert!(why.contains(&out) && why.contains("the intake is as it was"), "{why}");
    let out = beside.path().display().to_string();
    let why = refused(&["export", "--store", &from, "--out", &out]).await;
    assert!(why.contains("is a directory"), "{why}");
    let shown = told(&["intake", "--store", &from]).await;
    assert_eq!(shown["intake"], "open", "nothing was exported, so nothing was closed");
    let piped = run(&["export", "--store", &from]).await;
    assert!(piped.status.success(), "{piped:?}");
    assert!(text(&piped.stderr).contains("exported jobs: 1,"), "{piped:?}");

    std::fs::write(&file, &piped.stdout[..piped.stdout.len() / 2]).expect("written");
    let why = refused(&["import", "--store", &to, &path]).await;
    assert!(why.contains("cut off"), "{why}");
    std::fs::write(&file, "{}\n").expect("written");
    let why = refused(&["import", "--store", &to, &path]).await;
    assert!(why.contains("no export of Pointsman"), "{why}");
    assert!(std::fs::read_dir(new.path()).expect("a directory").next().is_none(), "untouched");
    std::fs::write(&file, &piped.stdout).expect("written");
    told(&["import", "--store", &to, &path]).await;

    let opened = told(&["intake", "open", "--store", &from]).await;
    assert_eq!(opened["intake"], "open");
    let shown = run(&["intake", "--store", &from]).await;
    assert_eq!(text(&shown.stdout), "intake open; running jobs: 0\n");
    let server = Served::server(old.path(), 0).await;
    submit(&server.client, &simulation(0)).await;
}

#[tokio::test]
async fn a_store_moves_to_redis_and_back() {
    let redis = RedisServer::start(RedisOptions::default()).await.expect("a redis-server");
    let (old, new, beside) = (directory(), directory(), directory());
    let (from, between, to) = (store(old.path()), redis.url(), store(new.path()));
    let file = |name: &str| beside.path().join(name).display().to_string();
    let missing = refused(&["export", "--store", &between]).await;
    assert!(missing.contains("there is no store"), "{missing}");

    let mut server = Served::server(old.path(), 0).await;
    let worker = server.worker("w", 1).await;
    let done = submit(&server.client, &simulation(0)).await;
    completes(&server.client, done).await;
    worker.kill().await;
    let mut once = simulation(0);
    once.idempotency_key = Some("once".to_owned());
    let waiting = submit(&server.client, &once).await;
    server.process.signal("TERM");
    server.process.ended().await;
    let (first, second) = (file("1.export"), file("2.export"));
    let exported = told(&["export", "--store", &from, "--out", &first]).await;
    let imported = told(&["import", "--store", &between, &first]).await;
    assert_eq!(imported["counts"], exported["counts"]);
    let again = refused(&["import", "--store", &between, &first]).await;
    assert!(again.contains("not empty"), "{again}");
    let other = ["import", "--store", &between, "--fleet", "other", "--acks", "1", &first];
    let unconfirmed = refused(&other).await;
    assert!(!unconfirmed.contains("was not imported"), "{unconfirmed}");
    assert!(unconfirmed.contains("0 of 1 replicas"), "{unconfirmed}");
    assert!(unconfirmed.contains("do not import again"), "{unconfirmed}");
    let there = told(&["intake", "--store", &between, "--fleet", "other"]).await;
    assert_eq!(there["intake"], "open");

    // It goes on there: the key is known, the waiting job runs, another one comes.
    let server = Served::on(&between, beside.path()).await;
    assert_eq!(submit(&server.client, &once).await, waiting);
    let worker = server.worker("w", 1).await;
    completes(&server.client, waiting).await;
    worker.kill().await;
    let last = submit(&server.client, &simulation(0)).await;
    let closed = told(&["--server", &server.url, "intake", "close"]).await;
    assert_eq!(closed, json!({"intake": "closed", "running": 0}));
    let problem = server.client.submit(&simulation(0)).await.expect_err("it is closed");
    assert!(matches!(problem, ClientError::Problem(p) if p.code == "intake_closed"));
    let exported = told(&["export", "--store", &between, "--out", &second]).await;
    let counts = &exported["counts"];
    assert_eq!((&counts["jobs"], &counts["payloads"]), (&json!(3), &json!(3)), "{exported}");
    assert_eq!(counts["idempotency_keys"], 1, "{exported}");

    let imported = told(&["import", "--store", &to, &second]).await;
    assert_eq!(imported["counts"], exported["counts"]);
    let server = Served::server(new.path(), 0).await;
    assert_eq!(submit(&server.client, &once).await, waiting);
    let _worker = server.worker("w", 1).await;
    completes(&server.client, last).await;
}

#[tokio::test]
async fn an_export_goes_through_a_pipe_and_where_a_link_leads() {
    let (old, new, beside) = (directory(), directory(), directory());
    let (from, at) = (store(old.path()), |name: &str| beside.path().join(name));
    let out = |name: &str| at(name).display().to_string();
    let mut server = Served::server(old.path(), 0).await;
    submit(&server.client, &simulation(0)).await;
    server.process.signal("TERM");
    server.process.ended().await;

    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    let mut reader = tokio::process::Command::new("cat");
    let reader = reader.arg(at("pipe")).kill_on_drop(true).output();
    let export = ["export", "--store", &from, "--out", &out("pipe")];
    let both = async { tokio::join!(reader, told(&export)) };
    let (piped, _) = timeout(Duration::from_secs(60), both).await.expect("the reader hears it");
    let piped = piped.expect("cat runs").stdout;

    std::fs::write(at("target"), "old").expect("written");
    std::os::unix::fs::symlink("target", at("link")).expect("linked");
    told(&["export", "--store", &from, "--out", &out("link")]).await;
    assert!(at("link").is_symlink(), "it stays a link");
    let linked = std::fs::read(at("target")).expect("a file");
    let lines = |stream: &[u8]| stream.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines(&piped), lines(&linked));

    std::fs::write(at("piped"), &piped).expect("written");
    let imported = told(&["import", "--store", &store(new.path()), &out("piped")]).await;
    assert_eq!(imported["counts"]["jobs"], 1, "{imported}");
}

/// What comes through a pipe is read once: its header before there is a store.
#[tokio::test]
async fn what_is_no_export_makes_no_store() {
    let beside = directory();
    let new = beside.path().join("new");
    let why = refused(&["import", "--store", &store(&new), "-"]).await;
    assert!(why.contains("this is no export"), "{why}");
    assert!(!new.exists());
}
