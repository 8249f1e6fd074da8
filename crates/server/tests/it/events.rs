//! Streams and the log: a viewer that folds them equals the store.

use std::{collections::BTreeMap, time::Duration};

use pointsman_api::{Snapshot, Submission, ViewEvent};
use pointsman_client::{ClientError, Event, Events};
use pointsman_core::record::JobStatus;
use serde_json::Value;

use crate::fixture::{Fixture, completed, op, simulation, start};

type View = BTreeMap<(String, String), Value>;

fn view_of(snapshot: &Snapshot) -> View {
    let snapshot = serde_json::to_value(snapshot).unwrap();
    let mut view = View::new();
    for (kind, list) in [
        ("machine", "machines"),
        ("worker", "workers"),
        ("connector", "connectors"),
        ("alert", "alerts"),
        ("job", "jobs"),
    ] {
        for record in snapshot[list].as_array().unwrap() {
            let id = record["id"].as_str().unwrap().to_owned();
            view.insert((kind.to_owned(), id), record.clone());
        }
    }
    view
}

fn fold(view: &mut View, event: &Event) {
    let Ok(event) = event.read::<ViewEvent>() else { return };
    let kind = serde_json::to_value(event.kind).unwrap().as_str().unwrap().to_owned();
    match event.record {
        Some(record) => drop(view.insert((kind, event.id), record)),
        None => drop(view.remove(&(kind, event.id))),
    }
}

/// Folds until the stream has reached `position`.
async fn follow(events: &mut Events, view: &mut View, position: &str) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        let event = next.expect("the stream stands still").unwrap().unwrap();
        fold(view, &event);
        let bookmark = || event.read::<Value>().unwrap()["seq"].to_string();
        let reached = match event.name.as_str() {
            "bookmark" => position.ends_with(&format!(".{}", bookmark())),
            _ => event.id.as_deref() == Some(position),
        };
        if reached {
            return;
        }
    }
}

async fn run_a_job(server: &Fixture, worker: &crate::fixture::Worker) {
    server.submit().await;
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(Vec::new()))], 0, 0.0).await;
}

#[tokio::test]
async fn a_viewer_that_folds_equals_the_snapshot_also_after_a_resume() {
    let server = start().await;
    let worker = server.worker("w").await;
    let mut events = server.client.events(None, Some(20)).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.name, "full_state_snapshot");
    let snapshot: Snapshot = first.read().unwrap();
    let mut view = view_of(&snapshot);
    assert_eq!(first.id.as_deref(), Some(snapshot.position().as_str()));
    run_a_job(&server, &worker).await;
    let now = server.client.snapshot().await.unwrap();
    follow(&mut events, &mut view, &now.position()).await;
    assert_eq!(view, view_of(&now));
    drop(events);

    run_a_job(&server, &worker).await;
    let mut events = server.client.events(Some(&now.position()), None).await.unwrap();
    let now = server.client.snapshot().await.unwrap();
    follow(&mut events, &mut view, &now.position()).await;
    assert_eq!(view, view_of(&now));
}

#[tokio::test]
async fn a_position_that_is_not_kept_resyncs() {
    let server = start().await;
    for position in ["0123456789ab.1", "0123456789ab.99999999"] {
        let mut events = server.client.events(Some(position), None).await.unwrap();
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first.name, "resync");
        assert_eq!(first.read::<Value>().unwrap()["reason"], "other_epoch");
        assert_eq!(events.next().await.unwrap().unwrap().name, "full_state_snapshot");
    }
}

#[tokio::test]
async fn the_last_event_id_wins_over_after() {
    let server = start().await;
    let position = server.client.snapshot().await.unwrap().position();
    let path = format!("/api/v1/events?after={position}");
    let both = server.get(&path).header("last-event-id", "nonsense");
    assert_eq!(server.ask(both).await.json()["pointer"], "Last-Event-ID");
}

/// So that a connection that is gone shows.
#[tokio::test]
async fn a_jobs_stream_on_which_nothing_happens_shows_that_it_is_alive() {
    let server = start().await;
    let job = server.submit().await.id;
    let request = server.get(&format!("/api/v1/jobs/{job}/events"));
    let mut stream = request.send().await.unwrap();
    let mut text = String::new();
    let lives = async {
        while !text.ends_with("\n\n: alive\n\n") {
            text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), lives).await.unwrap();
    assert!(text.starts_with("event: job_now\n"), "{text}");
}

#[tokio::test]
async fn a_jobs_stream_ends_with_its_last_event() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let mut events = server.client.job_events(job).await.unwrap();
    let mut names = Vec::new();
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(Vec::new()))], 0, 0.0).await;
    let mut last = Value::Null;
    while let Some(event) = events.next().await.unwrap() {
        last = event.read().unwrap();
        names.push(event.name);
    }
    assert_eq!(names, ["job_now", "job_assigned", "job_started", "job_completed"]);
    assert_eq!(last["record"]["status"], "completed");
    // One that has ended is told at once.
    let mut ended = server.client.job_events(job).await.unwrap();
    assert_eq!(ended.next().await.unwrap().unwrap().name, "job_now");
    assert_eq!(ended.next().await.unwrap(), None);
    let none = server.client.job_events(crate::fixture::no_job()).await;
    assert!(matches!(none, Err(ClientError::Problem(_))));
}

#[tokio::test]
async fn the_log_has_every_event_and_goes_on_where_it_stopped() {
    let server = start().await;
    let worker = server.worker("w").await;
    run_a_job(&server, &worker).await;
    let epoch = server.client.snapshot().await.unwrap().epoch;
    let whole = server.client.log(&format!("{epoch}.0"), 10_000).await.unwrap();
    let mut pieces = Vec::new();
    let mut after = format!("{epoch}.0");
    loop {
        let page = server.client.log(&after, 1).await.unwrap();
        if page.events.is_empty() {
            assert_eq!(page.next, after);
            break;
        }
        pieces.extend(page.events);
        after = page.next;
    }
    assert_eq!(pieces, whole.events);
    let seqs: Vec<u64> = whole.events.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| *b == *a || *b == a + 1), "dense: {seqs:?}");
    let submitted = whole.events.iter().find(|event| event.kind == pointsman_core::RecordKind::Job);
    let record = submitted.unwrap().record.clone().unwrap();
    assert_eq!(record["status"], serde_json::to_value(JobStatus::Pending).unwrap());
}

/// The largest metadata is part of every event of its job.
#[tokio::test]
async fn a_page_of_the_log_is_bounded_in_bytes() {
    const JOBS: usize = 400;
    let server = start().await;
    let metadata = Some(serde_json::json!({ "text": "x".repeat(16_000) }));
    let job = Submission { metadata, ..simulation() };
    for _ in 0..JOBS / 100 {
        server.client.submit_batch(&vec![job.clone(); 100]).await.unwrap();
    }
    let epoch = server.client.snapshot().await.unwrap().epoch;
    let (mut after, mut sizes, mut seqs) = (format!("{epoch}.0"), Vec::new(), Vec::new());
    // Behind them an alert may stand: nobody runs them.
    while seqs.len() < JOBS {
        let page = server.ask(server.get(&format!("/api/v1/log?after={after}&limit=10000"))).await;
        let json = page.json();
        let events = json["events"].as_array().unwrap();
        assert!(!events.is_empty(), "it ends after {}", seqs.len());
        let of_jobs = events.iter().filter(|event| event["kind"] == "job");
        seqs.extend(of_jobs.map(|event| event["seq"].as_u64().unwrap()));
        sizes.push(json.to_string().len());
        after = json["next"].as_str().unwrap().to_owned();
    }
    let all: Vec<u64> = (1..=JOBS as u64).collect();
    assert_eq!(seqs, all, "each once, in their order");
    let [first, second] = sizes[..] else { panic!("{sizes:?}") };
    assert!((4 << 20..(4 << 20) + 20_000).contains(&first), "{first}, then {second}");
}
