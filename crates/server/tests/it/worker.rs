//! The worker protocol: a job's whole life over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use pointsman_api::{JobProgress, OpResult, RenewRequest};
use pointsman_core::{
    Command, JobId, LossReason, Rejected, Timestamp, Token,
    command::{Claim, Exchange, Finish, Held, Op, OpAnswer, Outcome, Submit},
    record::{JobSpec, JobStatus, Progress},
};
use pointsman_store::{MemStore, MonotonicClock, Store as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    bad_worker_input::{failure, merged},
    fixture::{STORE_ID, completed, held, op, start, start_on},
};

#[tokio::test]
async fn a_job_runs_and_the_next_is_claimed_with_its_end() {
    let server = start().await;
    let worker = server.worker("w").await;
    let first = server.submit().await.id;
    let second = server.submit().await.id;
    let (held_first, claimed) = worker.take().await;
    assert_eq!(held_first.job, first);
    assert_eq!(claimed.payload.get(), r#"{"duration_ms":0}"#);
    assert_eq!(claimed.job.attempt, 1);
    let finish = op(held_first, completed(Vec::new()));
    let request = worker.request(vec![finish.clone()], 1, 0.0);
    let exchanged = server.client.exchange(&request, &|| {}).await.unwrap();
    let settled = OpResult::Answer(OpAnswer::Settled { status: JobStatus::Completed });
    assert_eq!(exchanged.ops, [settled]);
    assert_eq!(exchanged.claimed[0].job.id, second);
    // Exactly the same request gets exactly the same answer, and changes nothing.
    let before = server.everything().await;
    let again = server.client.exchange(&request, &|| {}).await.unwrap();
    assert_eq!(again.ops, exchanged.ops);
    assert_eq!(held(&again.claimed[0]), held(&exchanged.claimed[0]));
    assert_eq!(server.everything().await, before);
}

#[tokio::test]
async fn a_waiting_claim_is_woken_by_a_submission() {
    let server = start().await;
    let worker = server.worker("w").await;
    let client = server.client.clone();
    let request = worker.request(Vec::new(), 1, 30.0);
    let waiting = tokio::spawn(async move { client.exchange(&request, &|| {}).await });
    let job = server.submit().await.id;
    let claimed = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    assert_eq!(claimed.unwrap().unwrap().unwrap().claimed[0].job.id, job);
}

#[tokio::test]
async fn a_claim_without_work_ends_empty_after_its_wait() {
    let server = start().await;
    let worker = server.worker("w").await;
    assert!(worker.exchange(Vec::new(), 1, 0.05).await.claimed.is_empty());
    let body = json!({
        "worker_id": "w", "incarnation": worker.incarnation, "tokens": [uuid::Uuid::new_v4()],
    });
    let answer = server.ask(server.post("/api/v1/worker/claim", body.to_string())).await;
    assert_eq!(answer.json(), json!({"ops": [], "claimed": []}));
}

#[tokio::test]
async fn a_restarted_worker_learns_what_it_runs() {
    let server = start().await;
    let job = server.submit().await.id;
    let mut worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    worker.incarnation = pointsman_core::Incarnation::from_uuid(uuid::Uuid::new_v4());
    let body = json!({
        "worker_id": "w", "machine_id": "box", "incarnation": worker.incarnation,
        "services": [{"name": "simulation", "slots": 2}],
        "capabilities": {"services": {"simulation": {}}},
    });
    let answer = server.ask(server.post("/api/v1/worker/register", body.to_string())).await.json();
    assert_eq!(answer["running"][0]["job"]["id"], job.to_string());
    assert_eq!(answer["running"][0]["job"]["token"], held.token.to_string());
    assert_eq!(answer["running"][0]["payload"], json!({"duration_ms": 0}));
}

/// One payload that somebody broke keeps no worker from its other jobs.
#[tokio::test]
async fn a_job_whose_payload_is_damaged_fails_alone() {
    let clock = MonotonicClock::starting(Timestamp::default());
    let store = Arc::new(MemStore::new(Arc::new(clock)));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = start_on(store.clone(), listen, tempfile::tempdir().unwrap()).await;
    let broken = || async {
        let id = JobId::from_uuid(Uuid::now_v7());
        let spec = JobSpec::new("simulation".parse().unwrap(), store.now());
        let submit = Submit { id, spec, payload: Arc::from(&b"{\"dur"[..]), idempotency: None };
        store.execute(vec![Command::Submit(submit)]).await.unwrap().remove(0).unwrap();
        id
    };
    let (damaged, sound) = (broken().await, server.submit().await.id);
    let worker = server.worker("w").await;
    let claimed = worker.exchange(Vec::new(), 2, 0.0).await.claimed;
    assert_eq!(claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [sound]);
    let record = server.client.job(damaged).await.unwrap();
    assert_eq!(record.status, JobStatus::Failed);
    assert_eq!(record.failure.unwrap().code, "payload_damaged");

    // Claimed before it was found out.
    let damaged = broken().await;
    let claim = Claim { tokens: vec![Token::from_uuid(Uuid::new_v4())], services: Vec::new() };
    let exchange = Exchange {
        worker: worker.id.clone(),
        incarnation: worker.incarnation,
        ops: Vec::new(),
        claim: Some(claim),
    };
    store.execute(vec![Command::Exchange(exchange)]).await.unwrap().remove(0).unwrap();
    assert!(server.client.job(damaged).await.unwrap().worker_id.is_some());
    let running = worker.register().await.running;
    assert_eq!(running.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [sound]);
}

#[tokio::test]
async fn failures_releases_and_late_results_have_their_routes() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let (first, _) = worker.take().await;
    let attempt = json!({
        "worker_id": "w", "incarnation": worker.incarnation,
        "job": first.job, "attempt": first.attempt, "token": first.token,
    });
    let with = |extra: serde_json::Value| {
        let mut body = attempt.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body.to_string()
    };
    let release = with(json!({"reason": LossReason::ServiceLost, "message": "gone"}));
    let answer = server.ask(server.post("/api/v1/worker/release", release)).await;
    assert_eq!(answer.json(), json!({"answer": "settled", "status": "pending"}));
    let (second, _) = worker.take().await;
    assert_eq!(second.attempt, 2);
    let late = with(json!({"outcome": "completed", "result": {"late": true}}));
    let answer = server.ask(server.post("/api/v1/worker/late", late)).await;
    assert_eq!(answer.json(), json!({"answer": "late_kept", "won": true}));
    let record = server.client.job(job).await.unwrap();
    assert_eq!(record.status, JobStatus::Completed);
    assert_eq!(&server.client.result(job).await.unwrap()[..], br#"{"late":true}"#);
    assert_eq!(worker.renew(vec![second]).await.lost, [second]);

    let failing = server.submit().await.id;
    let (held, _) = worker.take().await;
    let failure = pointsman_core::Failure::new(
        pointsman_core::FailureKind::BadJob,
        "invalid_payload",
        "no good",
    );
    let finish = Finish { outcome: Outcome::Failed { failure }, last_progress: None };
    worker.exchange(vec![op(held, Op::Finish(finish))], 0, 0.0).await;
    let record = server.client.job(failing).await.unwrap();
    assert_eq!(record.failure.unwrap().code, "invalid_payload");
}

#[tokio::test]
async fn what_the_rules_refuse_reaches_the_worker_as_they_said_it() {
    let server = start().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    worker.exchange(vec![op(held, completed(Vec::new()))], 0, 0.0).await;
    let reason = pointsman_core::LossReason::Drained;
    let release = Op::Release { reason, message: String::new() };
    let results = worker.exchange(vec![op(held, release)], 0, 0.0).await.ops;
    let OpResult::Refused { refused } = &results[0] else { panic!("{results:?}") };
    let ended = Rejected::AlreadyEnded { job: held.job, status: JobStatus::Completed };
    assert_eq!(refused.rejected(), Some(ended));
}

#[tokio::test]
async fn progress_and_previews_are_seen_while_the_job_runs() {
    let server = start().await;
    let job = server.submit().await.id;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let mut events = server.client.job_events(job).await.unwrap();
    let progress = Progress { attempt: 1, n: 1, percent: Some(40.0), ..Progress::default() };
    let renew = RenewRequest {
        worker_id: worker.id.clone(),
        incarnation: worker.incarnation,
        held: vec![held],
        connectors: Vec::new(),
        progress: vec![JobProgress { job, progress }],
        stopping: false,
    };
    server.client.renew(&renew).await.unwrap();
    let lane = loop {
        let event = events.next().await.unwrap().unwrap();
        if event.name == "progress" {
            break event.read::<serde_json::Value>().unwrap();
        }
    };
    assert_eq!(lane["values"][0]["percent"], 40.0);
    let now = server.client.progress(job).await.unwrap();
    assert_eq!((now.progress.unwrap().percent, now.known), (Some(40.0), true));
    let picture = bytes::Bytes::from_static(b"\xff\xd8picture");
    // The view may be a moment behind the record: then the picture is dropped, and sent again.
    for n in 1.. {
        server.client.put_preview(held, n, "image/jpeg", picture.clone()).await.unwrap();
        if let Ok(preview) = server.client.preview(job).await {
            assert_eq!(preview.media_type.as_deref(), Some("image/jpeg"));
            assert_eq!(preview.bytes().await.unwrap(), picture);
            // As the pages ask for it.
            let path = format!("/api/v1/jobs/{job}/preview?n={n}");
            assert_eq!(server.ask(server.get(&path)).await.body, picture);
            break;
        }
        tokio::task::yield_now().await;
    }
    let html = server.client.put_preview(held, 99, "text/html", picture.clone()).await.unwrap_err();
    assert_eq!(html.problem().unwrap().pointer.as_deref(), Some("Content-Type"));
    let refused = async |held, bytes| {
        let refused = server.client.put_preview(held, 99, "image/png", bytes).await.unwrap_err();
        refused.problem().unwrap().code.to_string()
    };
    let large = bytes::Bytes::from(vec![b'x'; (4 << 20) + 1]);
    assert_eq!(refused(held, large).await, "file_too_large");
    let others = Held { token: Token::from_uuid(Uuid::new_v4()), ..held };
    assert_eq!(refused(others, picture.clone()).await, "stale_attempt");
    assert_eq!(refused(Held { attempt: 2, ..held }, picture.clone()).await, "stale_attempt");
    worker.exchange(vec![op(held, completed(Vec::new()))], 0, 0.0).await;
    assert_eq!(refused(held, picture).await, "stale_attempt");
    let now = server.client.progress(job).await.unwrap();
    assert_eq!((now.status, now.progress, now.known), (JobStatus::Completed, None, true));
}

#[tokio::test]
async fn operators_drain_resume_and_remove_workers() {
    let server = start().await;
    let worker = server.worker("w").await;
    assert!(server.client.drain(&worker.id).await.unwrap().orders.drain);
    assert!(worker.renew(Vec::new()).await.orders.drain);
    server.submit().await;
    assert!(worker.exchange(Vec::new(), 1, 0.0).await.claimed.is_empty());
    assert!(!server.client.resume(&worker.id).await.unwrap().orders.drain);
    let still_there = server.client.remove_worker(&worker.id).await.unwrap_err();
    assert!(still_there.is(pointsman_api::ErrorCode::NotGone), "{still_there}");
    let problem = still_there.problem().unwrap();
    assert_eq!(problem.detail, "w is not gone: it is not offline yet");
    assert!(problem.cure.contains("stop its process"), "{problem:?}");
    let leave = pointsman_api::LeaveRequest {
        worker_id: worker.id.clone(),
        incarnation: worker.incarnation,
    };
    server.client.leave(&leave).await.unwrap();
    server.client.remove_worker(&worker.id).await.unwrap();
    let digest = server.client.workers().await.unwrap();
    assert!(digest.is_empty());
}

#[tokio::test]
async fn a_machines_drain_reaches_workers_that_come_to_it_later() {
    let server = start().await;
    let early = server.worker("early").await;
    let order = async |order: &str| {
        let asked = server.post(&format!("/api/v1/machines/box/{order}"), "");
        server.ask(asked).await.json()["orders"]["drain"] == true
    };
    assert!(order("drain").await);
    let late = server.worker("late").await;
    for worker in [&early, &late] {
        assert!(worker.renew(Vec::new()).await.orders.drain, "{}", worker.id);
    }
    assert!(!order("resume").await);
    for worker in [&early, &late] {
        assert!(!worker.renew(Vec::new()).await.orders.drain, "{}", worker.id);
    }
    let nowhere = server.ask(server.post("/api/v1/machines/nowhere/drain", "")).await;
    assert_eq!(nowhere.json()["code"], "machine_not_found");
}

#[tokio::test]
async fn a_worker_or_machine_is_repaired_by_its_id() {
    let server = start().await;
    server.worker("w").await;
    let repair =
        async |what: &str| server.ask(server.post(&format!("/api/v1/{what}/repair"), "")).await;
    for (kind, id, not_found) in
        [("workers", "w", "worker_not_found"), ("machines", "box", "machine_not_found")]
    {
        let repaired = repair(&format!("{kind}/{id}")).await;
        assert_eq!((repaired.status, &repaired.json()["id"]), (200, &json!(id)));
        assert_eq!(repair(&format!("{kind}/nobody")).await.code(), not_found);
    }
}

#[tokio::test]
async fn a_worker_is_told_which_store_it_works_for() {
    let server = start().await;
    let worker = server.worker("w").await;
    assert_eq!(worker.register().await.store_id.as_deref(), Some(STORE_ID));
    assert_eq!(worker.renew(Vec::new()).await.store_id.as_deref(), Some(STORE_ID));
}

#[tokio::test]
async fn an_attempt_that_the_store_lost_is_reclaimed_and_the_epoch_tells_when() {
    let server = start().await;
    let worker = server.worker("w").await;
    let epoch = server.client.snapshot().await.unwrap().epoch;
    assert_eq!(worker.register().await.epoch, epoch);
    assert_eq!(worker.renew(Vec::new()).await.epoch, epoch);
    let job = server.submit().await.id;
    let lost = Held { job, attempt: 1, token: Token::from_uuid(Uuid::new_v4()) };
    assert_eq!(worker.renew(vec![lost]).await.lost, [lost], "the store never gave it out");
    let ops = vec![op(lost, Op::Reclaim { started: true }), op(lost, completed(Vec::new()))];
    assert_eq!(serde_json::to_value(&ops[0]).unwrap()["op"], "reclaim");
    let exchanged = server.client.exchange(&worker.request(ops, 0, 0.0), &|| {}).await.unwrap();
    let settled = OpAnswer::Settled { status: JobStatus::Completed };
    let answers = [OpResult::Answer(OpAnswer::Reclaimed), OpResult::Answer(settled)];
    assert_eq!(exchanged.ops, answers);
    assert_eq!(server.client.job(job).await.unwrap().status, JobStatus::Completed);
}

/// By itself where something else goes with it; what was right in the request is done.
#[tokio::test]
async fn a_service_that_was_not_registered_is_refused_by_its_place() {
    let server = start().await;
    let worker = server.worker("w").await;
    let job = server.submit().await.id;
    server.submit().await;
    let is_refusal = |problem: &serde_json::Value, pointer: &str| {
        assert_eq!(
            (&problem["code"], &problem["pointer"]),
            (&json!("unknown_service"), &json!(pointer))
        );
        let detail = "the worker did not register the service simulatoin, only simulation";
        assert_eq!(problem["detail"], detail);
        assert_ne!(problem["cure"], pointsman_api::ErrorCode::UnknownService.cure());
    };
    let ask = async |route: &str, more: serde_json::Value| {
        let mut body = json!({"worker_id": "w", "incarnation": worker.incarnation});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.ask(server.post(&format!("/api/v1/worker/{route}"), body.to_string())).await
    };
    let claim = |services: &[&str]| json!({"tokens": [Uuid::new_v4()], "services": services});

    let answer = ask("claim", claim(&["simulation", "simulatoin"])).await;
    assert_eq!(answer.status, 422);
    is_refusal(&answer.json(), "/services/1");
    let wait = json!({"claim": claim(&["simulatoin"]), "wait_s": 30});
    let answer = ask("exchange", wait).await;
    assert_eq!(answer.status, 422);
    is_refusal(&answer.json(), "/claim/services/0");

    let (held, _) = worker.take().await;
    assert_eq!(held.job, job);
    // Also where none of the operations was right.
    let release = Op::Release { reason: LossReason::Drained, message: "m".repeat(2_001) };
    let wrong = json!({"ops": [op(held, release)], "claim": claim(&["simulatoin"])});
    let answer = ask("exchange", wrong).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    is_refusal(&answer["claim_refused"], "/claim/services/0");
    assert_eq!(answer["ops"][0]["refused"]["code"], "too_long", "{answer}");
    let ops = json!([op(held, completed(Vec::new()))]);
    let answer = ask("exchange", json!({"ops": ops, "claim": claim(&["simulatoin"])})).await.json();
    assert_eq!(answer["ops"], json!([{"answer": "settled", "status": "completed"}]));
    is_refusal(&answer["claim_refused"], "/claim/services/0");

    let idle = |service: &str| json!({"service": service, "status": "idle"});
    let connectors = json!([idle("simulation"), idle("simulatoin")]);
    let answer = ask("renew", json!({"connectors": connectors})).await.json();
    assert_eq!(answer["orders"], json!({"drain": false}));
    is_refusal(&answer["refused"][0], "/connectors/1/service");
    let answer = ask("renew", json!({"connectors": [idle("simulation")]})).await.json();
    assert_eq!(answer.get("refused"), None);
}

/// The one exception to strict reading: a newer worker may say more of its attempts, and loses no job
/// by it.
#[tokio::test]
async fn what_a_newer_worker_says_of_its_attempts_is_let_through() {
    let server = start().await;
    let worker = server.worker("w").await;
    let of_worker = json!({"worker_id": "w", "incarnation": worker.incarnation});
    let ask = async |route: &str, body: Value| {
        let body = merged(&of_worker, &body);
        let answer =
            server.ask(server.post(&format!("/api/v1/worker/{route}"), body.to_string())).await;
        assert_eq!(answer.status, 200, "{route} {body}: {answer:?}");
        answer.json()
    };
    for (outcome, field, said) in [
        ("failed", "failure", merged(&failure(), &json!({"new": 1}))),
        ("completed", "last_progress", json!({"attempt": 1, "n": 1, "new": 1})),
    ] {
        let job = server.submit().await.id;
        let (held, _) = worker.take().await;
        let of_attempt = json!({"job": job, "attempt": 1, "token": held.token});
        let listed = merged(&of_attempt, &json!({"new": 1}));
        let progress = json!({"job": job, "attempt": 1, "n": 1, "new": 1});
        let renewed = ask("renew", json!({"held": [listed], "progress": [progress]})).await;
        assert_eq!(renewed["lost"], json!([]));
        let end = merged(&of_attempt, &json!({"outcome": outcome, field: said}));
        assert_eq!(ask("finish", end).await["answer"], "settled");
    }
    server.submit().await;
    let (held, _) = worker.take().await;
    let route = format!(
        "/api/v1/worker/attempts/{}/artifacts/a.png?job={}&attempt=1",
        held.token, held.job
    );
    let stored = server.ask(server.put(&route, "a")).await.json();
    let artifact = json!({"media_type": "image/png", "type": "output", "new": 1});
    let artifacts = json!([merged(&stored, &artifact)]);
    let end = json!({"job": held.job, "attempt": 1, "token": held.token, "outcome": "completed"});
    let end = merged(&end, &json!({"artifacts": artifacts}));
    assert_eq!(ask("finish", end).await["answer"], "settled");
}
