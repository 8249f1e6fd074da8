//! What may be in memory, or wait, at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pointsman_api::{BatchItem, ErrorCode, JobsOrder, JobsQuery, Submission};
use pointsman_core::{
    Failure, FailureKind,
    command::{Finish, Op, Outcome},
    record::JobStatus,
};
use pointsman_server::Limits;
use pointsman_store::{ManualClock, MemStore};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    fixture::{Fixture, op, simulation, start, start_with},
    server::reads_nothing,
};

async fn start_within(limits: Limits) -> Fixture {
    let store = MemStore::new(Arc::new(ManualClock::default()));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    start_with(store, loopback, tempfile::tempdir().unwrap(), limits).await
}

/// Jobs whose records come to 5 MB together.
async fn submit_large(server: &Fixture) -> usize {
    let metadata = Some(json!({ "x": "y".repeat(16_000) }));
    let job = Submission { metadata, ..simulation() };
    let batch = vec![job; 310];
    server.client.submit_batch(&batch).await.unwrap().results.len()
}

#[tokio::test]
async fn a_list_of_jobs_ends_where_it_comes_to_4_mib() {
    let server = start().await;
    let submitted = submit_large(&server).await;
    for order in [None, Some(JobsOrder::Ended)] {
        let mut query = JobsQuery { limit: Some(1_000), order, ..JobsQuery::default() };
        let mut listed = Vec::new();
        loop {
            let page = server.client.jobs(&query).await.unwrap();
            let bytes = serde_json::to_string(&page).unwrap().len();
            assert!(bytes < (4 << 20) + (32 << 10), "{} jobs are {bytes} bytes", page.jobs.len());
            listed.extend(page.jobs.iter().map(|job| job.id));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), submitted);
        assert!(listed.is_sorted_by(|a, b| a > b), "each once, in order");
        for id in listed.into_iter().rev().filter(|_| order.is_none()) {
            server.client.cancel(id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn lists_and_logs_that_nobody_takes_have_a_bound() {
    let server = start_within(Limits { answer_bytes: 6 << 20, ..Limits::default() }).await;
    submit_large(&server).await;
    let slow = reads_nothing(&server.url, "/api/v1/jobs?limit=1000").await;
    let [list, log] = ["/api/v1/jobs?limit=1000", "/api/v1/log"].map(|path| server.get(path));
    for refused in <[_; 2]>::from(tokio::join!(server.ask(list), server.ask(log))) {
        assert_eq!((refused.status, refused.code().as_str()), (503, "too_many_answers"));
    }
    let short = server.ask(server.get("/api/v1/jobs?limit=2")).await;
    assert_eq!(short.status, 200, "what is small goes on");
    drop(slow);
    assert_eq!(server.ask(server.get("/api/v1/jobs?limit=1000")).await.status, 200);
    assert_eq!(server.ask(server.get("/api/v1/log")).await.status, 200);
}

/// An upload of which this much comes; the server reads it by then.
pub async fn uploads(server: &Fixture, bytes: usize) -> TcpStream {
    let mut connection =
        TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /api/v1/inputs HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
                content-type: application/octet-stream\r\ncontent-length: 5000000\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 25];
    connection.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(&vec![b'x'; bytes]).await.unwrap();
    connection
}

#[tokio::test]
async fn an_upload_takes_the_room_of_what_has_come() {
    let server = start_within(Limits { body_bytes: 300 << 10, ..Limits::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(uploads(&server, 1_000).await);
    }
    let upload = |bytes: usize| server.post("/api/v1/inputs", vec![b'y'; bytes]);
    assert_eq!(server.ask(upload(300 << 10)).await.status, 201, "heads take none");
    let mut refused = Vec::new();
    // The last byte is one too many: all of it was read, and nothing cuts the answer off.
    uploads(&server, (364 << 10) + 1).await.read_to_end(&mut refused).await.unwrap();
    let refused = String::from_utf8(refused).unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("too_many_bodies"),
        "{refused}"
    );
}

#[tokio::test]
async fn jobs_that_wait_have_a_limit_and_repeats_of_theirs_are_answered() {
    let server = start_within(Limits { waiting_jobs: 3, ..Limits::default() }).await;
    let keyed = Submission { idempotency_key: Some("k".into()), ..simulation() };
    let first = server.client.submit(&keyed).await.unwrap().job;
    let batch = vec![simulation(), simulation(), simulation(), keyed.clone()];
    let results = server.client.submit_batch(&batch).await.unwrap().results;
    let code = |item: &BatchItem| match item {
        BatchItem::Accepted { existed, .. } => format!("existed: {existed}"),
        BatchItem::Refused { problem } => problem.code.to_string(),
    };
    let codes: Vec<_> = results.iter().map(code).collect();
    assert_eq!(codes, ["existed: false", "existed: false", "too_many_waiting", "existed: true"]);
    let body = serde_json::to_vec(&simulation()).unwrap();
    let refused = server.ask(server.post("/api/v1/jobs", body)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "too_many_waiting"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(server.client.submit(&keyed).await.unwrap().job.id, first.id);
    server.client.cancel(first.id).await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Err(refused) = server.client.submit(&simulation()).await {
        assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
        assert!(tokio::time::Instant::now() < until, "there is room for one more");
    }
}

#[tokio::test]
async fn a_job_that_is_held_waits_too() {
    let server = start_within(Limits { waiting_jobs: 2, ..Limits::default() }).await;
    let (held_back, other) = (server.submit().await.id, server.submit().await.id);
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let failure = Failure::new(FailureKind::ServiceFault, "boom", "boom");
    let failed = Finish { outcome: Outcome::Failed { failure }, last_progress: None };
    worker.exchange(vec![op(held, Op::Finish(failed))], 0, 0.0).await;
    assert!(server.client.job(held_back).await.unwrap().hold.is_some());
    server.client.cancel(other).await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Err(refused) = server.client.submit(&simulation()).await {
        assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
        assert!(tokio::time::Instant::now() < until, "there is room for one more");
    }
    let refused = server.client.submit(&simulation()).await.unwrap_err();
    assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
}

#[tokio::test]
async fn a_retry_is_a_job_that_waits_and_its_repeats_are_answered() {
    let server = start_within(Limits { waiting_jobs: 1, ..Limits::default() }).await;
    let first = server.submit().await.id;
    server.client.cancel(first).await.unwrap();
    let submitted = async || {
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            match server.client.submit(&simulation()).await {
                Ok(submitted) => return submitted.job.id,
                Err(refused) => assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}"),
            }
            assert!(tokio::time::Instant::now() < until, "there is room for one more");
        }
    };
    let second = submitted().await;
    for run in [None, Some(2)] {
        let refused = server.client.retry(first, run).await.unwrap_err();
        assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
    }
    let job = server.client.job(first).await.unwrap();
    assert_eq!((job.run, job.status), (1, JobStatus::Cancelled), "refused is unchanged");
    // What can begin no run is told why, full or not.
    let refused = server.client.retry(second, None).await.unwrap_err();
    assert!(refused.is(ErrorCode::NotEnded), "{refused}");
    let refused = server.client.retry(first, Some(7)).await.unwrap_err();
    assert!(refused.is(ErrorCode::InvalidState), "{refused}");
    server.client.cancel(second).await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Err(refused) = server.client.retry(first, Some(2)).await {
        assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
        assert!(tokio::time::Instant::now() < until, "there is room for it");
    }
    assert_eq!(server.client.retry(first, Some(2)).await.unwrap().run, 2, "it waits already");
    let refused = server.client.submit(&simulation()).await.unwrap_err();
    assert!(refused.is(ErrorCode::TooManyWaiting), "{refused}");
}
