//! An exact repeat with an idempotency key is answered with its job, whatever became since of what
//! the job names.

use std::{net::SocketAddr, sync::Arc};

use pointsman_api::{LeaveRequest, Submission};
use pointsman_core::{
    Command, JobId, Timestamp,
    command::Reconcile,
    record::{Artifact, ArtifactType},
};
use pointsman_store::{MemStore, MonotonicClock, Store as _};
use serde_json::{Value, json};

use crate::fixture::{Fixture, completed, op, source, start_on};

async fn server(store: &Arc<MemStore>) -> Fixture {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    start_on(store.clone(), listen, tempfile::tempdir().unwrap()).await
}

fn store() -> Arc<MemStore> {
    let clock = MonotonicClock::starting(Timestamp::from_millis(1_795_461_601_100));
    Arc::new(MemStore::new(Arc::new(clock)))
}

/// Submits it again: alone and in a batch it is the same job; without its key, or as another job with
/// it, it is refused.
async fn repeats(server: &Fixture, submission: &Submission, first: &Value, refused: &str) {
    let body = serde_json::to_value(submission).unwrap();
    let again = server.ask(server.post("/api/v1/jobs", body.to_string())).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &first["id"]), "{again:?}");
    let batch = json!({"jobs": [body]}).to_string();
    let again = server.ask(server.post("/api/v1/jobs/batch", batch)).await.json();
    let result = &again["results"][0];
    assert_eq!((&result["existed"], &result["job"]["id"]), (&json!(true), &first["id"]));
    for key in [None, Some("another".to_owned())] {
        let other = Submission { idempotency_key: key, ..submission.clone() };
        let other = serde_json::to_vec(&other).unwrap();
        assert_eq!(server.ask(server.post("/api/v1/jobs", other)).await.code(), refused);
    }
    let other = Submission { priority: Some(7), ..submission.clone() };
    let other = serde_json::to_vec(&other).unwrap();
    assert_eq!(server.ask(server.post("/api/v1/jobs", other)).await.code(), refused);
}

async fn submit(server: &Fixture, submission: &Submission) -> Value {
    let body = serde_json::to_vec(submission).unwrap();
    let first = server.ask(server.post("/api/v1/jobs", body)).await;
    assert_eq!(first.status, 201, "{first:?}");
    first.json()
}

async fn remove(store: &MemStore, job: JobId) {
    let removal = Command::Reconcile(Reconcile::RemoveJob { job });
    store.execute(vec![removal]).await.unwrap().remove(0).unwrap();
}

/// A job that retention removed within its key's time is not run once more: neither where the
/// repeat could be taken, nor where what it names is gone, too.
#[tokio::test]
async fn but_when_the_job_is_no_longer_kept_they_are_refused() {
    let store = store();
    let server = server(&store).await;
    let worker = server.worker("w").await;
    let mut submission = crate::fixture::simulation();
    submission.idempotency_key = Some("order-19".into());
    let first = submit(&server, &submission).await;
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(vec![]))], 0, 0.0).await;
    remove(&store, held.job).await;
    let body = serde_json::to_value(&submission).unwrap();
    let gone = server.ask(server.post("/api/v1/jobs", body.to_string())).await;
    assert_eq!((gone.status, gone.code()), (410, "job_gone".into()), "{gone:?}");
    assert_eq!(gone.json()["job"], first["id"]);
    let batch = json!({"jobs": [body]}).to_string();
    let batch = server.ask(server.post("/api/v1/jobs/batch", batch)).await.json();
    assert_eq!(batch["results"][0]["problem"]["code"], "job_gone", "{batch}");
    let mut other = submission.clone();
    other.metadata = Some(json!({"another": "body"}));
    let other = server.ask(server.post("/api/v1/jobs", serde_json::to_vec(&other).unwrap())).await;
    assert_eq!((other.status, other.code()), (409, "idempotency_conflict".into()));
}

#[tokio::test]
async fn though_its_service_is_gone() {
    let store = store();
    let before = server(&store).await;
    let worker = before.worker("w").await;
    let mut registration = worker.registration();
    registration.services[0].name = "upscaler".parse().unwrap();
    let known = registration.services.iter().map(|slots| (slots.name.clone(), Default::default()));
    registration.capabilities.services = known.collect();
    before.client.register(&registration, &|| {}).await.unwrap();
    let mut submission = Submission::new("upscaler", &json!({})).unwrap();
    submission.idempotency_key = Some("order-17".into());
    let first = submit(&before, &submission).await;
    let (worker_id, incarnation) = (worker.id.clone(), worker.incarnation);
    before.client.leave(&LeaveRequest { worker_id, incarnation }).await.unwrap();
    before.client.remove_worker(&worker.id).await.unwrap();
    before.stop.cancel();
    before.serving.await.unwrap().unwrap();
    // A server that never met the service.
    let after = server(&store).await;
    repeats(&after, &submission, &first, "unknown_service").await;
}

#[tokio::test]
async fn though_the_job_whose_file_it_takes_is_gone() {
    let store = store();
    let server = server(&store).await;
    let worker = server.worker("w").await;
    let source_job = server.submit().await.id;
    let (held, _) = worker.take().await;
    let stored = server.client.put_artifact(held, "a.png", "image/png", source(b"picture")).await;
    let stored = stored.unwrap();
    let artifact = Artifact {
        name: stored.name,
        size: stored.size,
        media_type: "image/png".into(),
        sha256: stored.sha256,
        node: None,
        kind: ArtifactType::Output,
    };
    worker.exchange(vec![op(held, completed(vec![artifact]))], 0, 0.0).await;
    let from = format!("artifact:{source_job}/a.png");
    let input = json!([{"node": "1", "field": "image", "name": "a.png", "from": from}]);
    let mut submission = crate::fixture::simulation();
    submission.inputs = serde_json::from_value(input).unwrap();
    submission.idempotency_key = Some("order-18".into());
    let first = submit(&server, &submission).await;
    remove(&store, source_job).await;
    repeats(&server, &submission, &first, "input_not_found").await;

    // Its own job, too, is removed: neither of the two is run, or missed, in its place.
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(vec![]))], 0, 0.0).await;
    remove(&store, held.job).await;
    let again = serde_json::to_vec(&submission).unwrap();
    assert_eq!(server.ask(server.post("/api/v1/jobs", again)).await.code(), "job_gone");
}
