//! What users do with jobs.

use pointsman_api::{ErrorCode, JobProgress, JobsOrder, JobsQuery, LeaveRequest, Submission};
use pointsman_core::{
    JobId,
    command::Op,
    record::{ConnectorStatus, JobStatus, Progress},
};
use serde_json::json;

use crate::fixture::{Fixture, completed, held, no_job, op, simulation, start};

#[tokio::test]
async fn a_submission_is_answered_with_its_record() {
    let server = start().await;
    let answer =
        server.ask(server.post("/api/v1/jobs", serde_json::to_vec(&simulation()).unwrap())).await;
    assert_eq!(answer.status, 201);
    let record = answer.json();
    assert_eq!(
        answer.header("location"),
        format!("/api/v1/jobs/{}", record["id"].as_str().unwrap())
    );
    assert_eq!((&record["status"], &record["priority"]), (&json!("pending"), &json!(50)));
    let id = record["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(server.client.job(id).await.unwrap(), serde_json::from_value(record).unwrap());
    let payload = server.client.payload(id).await.unwrap();
    assert_eq!(&payload[..], br#"{"duration_ms":0}"#);
}

#[tokio::test]
async fn metadata_is_never_deeper_than_those_who_read_it_with_others_can() {
    let server = start().await;
    let nested = |levels: usize| (0..levels).fold(json!(1), |within, _| json!({"a": within}));
    let with = |levels: usize| Submission { metadata: Some(nested(levels)), ..simulation() };
    let plain = server.submit().await.id;
    let deep = server.client.submit(&with(32)).await.unwrap().job.id;
    let refused = server.client.submit(&with(33)).await.unwrap_err();
    assert!(refused.is(ErrorCode::TooDeep), "{refused}");
    assert_eq!(refused.problem().unwrap().pointer.as_deref(), Some("/metadata"));
    let worker = server.worker("w").await;
    let claimed = worker.exchange(Vec::new(), 2, 0.0).await.claimed;
    assert_eq!(claimed.iter().map(|one| one.job.id).collect::<Vec<_>>(), [plain, deep]);
    assert_eq!(claimed[1].job.spec.metadata, Some(nested(32)));
    assert_eq!(server.client.jobs(&JobsQuery::default()).await.unwrap().jobs.len(), 2);
    assert_eq!(server.client.snapshot().await.unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn requirements_are_completed_from_the_workflow() {
    let server = start().await;
    let workflow = json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}},
        "2": {"class_type": "LoraLoader", "inputs": {"lora_name": "default.safetensors", "model": ["1", 0]}},
        "3": {"class_type": "CLIPTextEncode",
            "inputs": {"clip": ["1", 1], "text": "bad hands, embedding:EasyNegative.safetensors"}},
    });
    let mut submission = Submission::new("comfyui", &json!({"workflow": workflow})).unwrap();
    submission.inputs = serde_json::from_value(json!([
        {"node": "2", "field": "lora_name", "name": "mine.safetensors", "from": "data:;base64,aGk="}
    ]))
    .unwrap();
    let job = server.client.submit(&submission).await.unwrap().job;
    let requirements = serde_json::to_value(&job.requirements).unwrap();
    assert_eq!(requirements["models"], json!(["sd.safetensors"]));
    assert_eq!(
        requirements["node_classes"],
        json!(["CLIPTextEncode", "CheckpointLoaderSimple", "LoraLoader"])
    );
    // What came inline lies apart, and is read back from there.
    assert!(job.inputs[0].from.starts_with("sha256:"));
    let mut stream = server.client.open_input(&job.inputs[0].from).await.unwrap();
    let piece = futures::StreamExt::next(&mut stream).await.unwrap().unwrap();
    assert_eq!(&piece[..], b"hi");
}

#[tokio::test]
async fn a_service_that_a_worker_once_brought_may_be_named() {
    let server = start().await;
    let worker = server.worker("w").await;
    let mut registration = worker.registration();
    registration.services[0].name = "upscaler".parse().unwrap();
    let known = [("upscaler".parse().unwrap(), Default::default())];
    registration.capabilities.services = known.into();
    server.client.register(&registration, &|| {}).await.unwrap();
    let (worker_id, incarnation) = (worker.id.clone(), worker.incarnation);
    server.client.leave(&LeaveRequest { worker_id, incarnation }).await.unwrap();
    server.client.remove_worker(&worker.id).await.unwrap();
    let submission = Submission::new("upscaler", &json!({})).unwrap();
    let job = server.client.submit(&submission).await.unwrap().job;
    assert_eq!(job.status, JobStatus::Pending);
}

/// The whole list, page by page.
async fn listed(server: &Fixture, order: Option<JobsOrder>) -> Vec<JobId> {
    let mut query = JobsQuery { limit: Some(2), order, ..JobsQuery::default() };
    let mut listed = Vec::new();
    loop {
        let page = server.client.jobs(&query).await.unwrap();
        listed.extend(page.jobs.iter().map(|job| job.id));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return listed;
        }
    }
}

#[tokio::test]
async fn lists_go_from_newest_to_oldest_page_by_page() {
    let server = start().await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(server.submit().await.id);
    }
    submitted.reverse();
    assert_eq!(listed(&server, None).await, submitted);
    // By their end: the one that was submitted last ends first.
    for id in &submitted {
        server.client.cancel(*id).await.unwrap();
    }
    submitted.reverse();
    assert_eq!(listed(&server, Some(JobsOrder::Ended)).await, submitted);
    // A page that ends with the last of them is the last page.
    for order in [None, Some(JobsOrder::Ended)] {
        let all = JobsQuery { limit: Some(5), order, ..JobsQuery::default() };
        assert_eq!(server.client.jobs(&all).await.unwrap().next_cursor, None, "{order:?}");
    }
    let none = JobsQuery { status: Some(JobStatus::Failed), ..JobsQuery::default() };
    assert!(server.client.jobs(&none).await.unwrap().jobs.is_empty());
}

#[tokio::test]
async fn cancelling_ends_a_pending_job_and_asks_a_running_one() {
    let server = start().await;
    let pending = server.submit().await.id;
    let cancelled = server.client.cancel(pending).await.unwrap();
    assert_eq!(cancelled.status, JobStatus::Cancelled);
    assert_eq!(server.client.cancel(pending).await.unwrap(), cancelled);

    let running = server.submit().await.id;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let answer = server.ask(server.post(&format!("/api/v1/jobs/{running}/cancel"), "")).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (202, Some("in_progress")));
    assert!(!answer.json()["cancel_requested_at"].is_null());
    assert_eq!(worker.renew(vec![held]).await.cancel, [held]);
    let body = json!({
        "worker_id": "w", "incarnation": worker.incarnation,
        "job": held.job, "attempt": held.attempt, "token": held.token,
    });
    let answer = server.ask(server.post("/api/v1/worker/cancel-ack", body.to_string())).await;
    assert_eq!(answer.json(), json!({"answer": "settled", "status": "cancelled"}));
    assert!(server.client.cancel(no_job()).await.unwrap_err().is(ErrorCode::JobNotFound));
}

#[tokio::test]
async fn an_ended_job_is_retried_as_a_new_run() {
    let server = start().await;
    let id = server.submit().await.id;
    assert!(server.client.retry(id, None).await.unwrap_err().is(ErrorCode::NotEnded));
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(Vec::new()))], 0, 0.0).await;
    let ended = server.client.job(id).await.unwrap();
    assert_eq!((ended.status, ended.run), (JobStatus::Completed, 1));
    assert_eq!(&server.client.result(id).await.unwrap()[..], br#"{"ok":true}"#);
    assert!(server.client.cancel(id).await.unwrap_err().is(ErrorCode::AlreadyEnded));
    for _ in 0..2 {
        let again = server.client.retry(id, Some(2)).await.unwrap();
        assert_eq!((again.status, again.run, again.attempt), (JobStatus::Pending, 2, 1));
    }
    let refused = server.client.retry(id, Some(7)).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((&*problem.code, problem.pointer.as_deref()), ("invalid_state", Some("/run")));
    assert!(problem.detail.contains("run 7") && problem.detail.contains("at run 2"), "{problem}");
    assert!(problem.cure.contains("`run`"), "{}", problem.cure);
    let path = format!("/api/v1/jobs/{id}/retry");
    for (body, code) in
        [("", "not_ended"), ("null", "not_ended"), (r#"{"runs": 3}"#, "unknown_field")]
    {
        assert_eq!(server.ask(server.post(&path, body)).await.code(), code, "{body}");
    }
    assert!(server.client.result(id).await.unwrap_err().is(ErrorCode::ResultNotFound));
    assert_eq!(server.client.attempts(id).await.unwrap().past.len(), 1);
}

#[tokio::test]
async fn explain_says_why_a_job_waits() {
    let server = start().await;
    let mut asks = simulation();
    asks.requirements = Some(json!({"hardware": {"gpu_memory_gb": 80}}));
    let id = server.client.submit(&asks).await.unwrap().job.id;
    assert!(server.client.explain(id).await.unwrap().answer.contains("No worker has ever"));
    server.worker("w").await;
    let explained = server.client.explain(id).await.unwrap();
    assert!(explained.answer.contains("lack a GPU with at least 80 GiB"), "{}", explained.answer);
    let plain = server.submit().await.id;
    let explained = server.client.explain(plain).await.unwrap();
    assert!(
        explained.answer.contains("Able to run it: 1 of 1 workers (1 free"),
        "{}",
        explained.answer
    );
}

#[tokio::test]
async fn explain_names_the_workers_that_are_not_ready() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let mut renewal = worker.renewal(Vec::new());
    renewal.connectors[0].status = ConnectorStatus::Error;
    renewal.connectors[0].error_message = Some("connection refused".into());
    worker.client.renew(&renewal).await.unwrap();
    let explained = server.client.explain(job).await.unwrap();
    let said = "1 not ready). Not ready: w: simulation (error): connection refused.";
    assert!(explained.answer.ends_with(said), "{}", explained.answer);

    // What a service lacks may only be unknown, as it was never reached.
    let mut asks = simulation();
    asks.requirements = Some(json!({"models": ["a.safetensors"]}));
    let job = server.client.submit(&asks).await.unwrap().job.id;
    let explained = server.client.explain(job).await.unwrap();
    let said = "(w is not ready: simulation (error): connection refused).";
    assert!(explained.answer.ends_with(said), "{}", explained.answer);
}

#[tokio::test]
async fn a_service_that_has_not_taken_a_job_was_not_heard_of_it() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let held = held(&worker.exchange(Vec::new(), 1, 5.0).await.claimed[0]);
    let mut renewal = worker.renewal(vec![held]);
    let message = Some("waits for its inputs".into());
    let progress = Progress { attempt: held.attempt, n: 1, message, ..Progress::default() };
    renewal.progress.push(JobProgress { job, progress });
    worker.client.renew(&renewal).await.unwrap();
    let answer = async || server.client.explain(job).await.unwrap().answer;
    let said = "It does not wait: a worker has it, which says: waits for its inputs";
    assert_eq!(answer().await, format!("{said}."));
    worker.exchange(vec![op(held, Op::Start)], 0, 0.0).await;
    let answer = answer().await;
    assert!(answer.starts_with(&format!("{said}, its service was heard ")), "{answer}");
}

#[tokio::test]
async fn a_service_that_a_worker_brings_is_known_from_then_on() {
    let server = start().await;
    let other = Submission::new("upscaler", &json!({})).unwrap();
    assert!(server.client.submit(&other).await.unwrap_err().is(ErrorCode::UnknownService));
    let mut body = json!({
        "worker_id": "w", "machine_id": "box", "incarnation": uuid::Uuid::new_v4(),
        "services": [{"name": "upscaler", "slots": 1}], "capabilities": {},
    });
    let answer = server.ask(server.post("/api/v1/worker/register", body.to_string())).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "missing_field"), "{answer:?}");
    assert_eq!(answer.json()["pointer"], "/capabilities/services/upscaler");
    body["capabilities"] = json!({"services": {"upscaler": {}}});
    let answer = server.ask(server.post("/api/v1/worker/register", body.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    server.client.submit(&other).await.unwrap();
}
