//! Bad input of workers: each gets its error with code, pointer and cure, and the store is unchanged.

use std::collections::BTreeMap;

use pointsman_core::{
    Failure, FailureKind,
    bounds::MAX_RESULT,
    command::{Finish, Op, Outcome},
    record::JobStatus,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{completed, op, source, start_still};

#[tokio::test]
async fn a_worker_with_a_stale_token_changes_nothing() {
    let server = start_still().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let before = server.everything().await;
    let stale = pointsman_core::command::Held {
        token: pointsman_core::Token::from_uuid(Uuid::new_v4()),
        ..held
    };
    let results = worker.exchange(vec![op(stale, completed(Vec::new()))], 0, 0.0).await.ops;
    let pointsman_api::OpResult::Refused { refused } = &results[0] else { panic!("{results:?}") };
    assert_eq!(&*refused.code, "stale_attempt");
    assert!(refused.rejected().is_some());
    let body = json!({
        "worker_id": "w", "incarnation": worker.incarnation,
        "job": stale.job, "attempt": stale.attempt, "token": stale.token,
    });
    let answer = server.ask(server.post("/api/v1/worker/start", body.to_string())).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "stale_attempt"));
    let refused = server.client.put_artifact(stale, "a.png", "image/png", source(b"x")).await;
    assert!(refused.unwrap_err().is(pointsman_api::ErrorCode::UnknownAttempt));
    assert_eq!(server.everything().await, before);
}

#[tokio::test]
async fn what_does_not_belong_to_an_operation_is_refused_at_its_place() {
    let server = start_still().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let before = server.everything().await;
    let of_attempt = json!({"job": held.job, "attempt": held.attempt, "token": held.token});
    let of_worker = json!({"worker_id": "w", "incarnation": worker.incarnation});
    let completed = |field: &str, value: Value| json!({"outcome": "completed", field: value});
    for (route, said, code, pointer) in [
        ("start", json!({"bogus": 1}), "unknown_field", "/bogus"),
        ("cancel-ack", json!({"bogus": 1}), "unknown_field", "/bogus"),
        ("finish", completed("artefacts", json!([])), "unknown_field", "/artefacts"),
        ("finish", completed("resullt", json!({})), "unknown_field", "/resullt"),
        ("finish", completed("failure", failure()), "unknown_field", "/failure"),
        ("finish", completed("cached", json!("x")), "wrong_type", "/cached"),
        ("finish", completed("artifacts", json!([{}])), "missing_field", "/artifacts/0/name"),
        ("finish", completed("attempt", json!(-1)), "out_of_range", "/attempt"),
        ("finish", completed("token", json!("x")), "invalid_id", "/token"),
        ("finish", json!({"outcome": "nope"}), "wrong_type", "/outcome"),
        ("finish", json!({"outcome": "failed"}), "missing_field", "/failure"),
        ("finish", json!({}), "missing_field", "/outcome"),
        ("late", completed("artefacts", json!([])), "unknown_field", "/artefacts"),
        ("release", json!({"reason": "nope"}), "wrong_type", "/reason"),
        ("release", json!({"reason": "drained", "massage": "m"}), "unknown_field", "/massage"),
    ] {
        // The route alone, and then the same as an operation of an exchange.
        let alone = merged(&merged(&of_worker, &of_attempt), &said);
        let op = json!({"op": if route == "cancel-ack" { "start" } else { route }});
        let op = merged(&merged(&of_attempt, &op), &said);
        let exchange = merged(&of_worker, &json!({"ops": [op]}));
        for (path, body, pointer) in
            [(route, alone, pointer.to_owned()), ("exchange", exchange, format!("/ops/0{pointer}"))]
        {
            let path = format!("/api/v1/worker/{path}");
            let answer = server.ask(server.post(&path, body.to_string())).await;
            assert_eq!((answer.status, answer.code().as_str()), (422, code), "{path} {body}");
            assert_eq!(answer.json()["pointer"], pointer, "{path} {body}");
        }
    }
    assert_eq!(server.everything().await, before);
}

pub fn merged(one: &Value, other: &Value) -> Value {
    let mut both = one.as_object().unwrap().clone();
    both.extend(other.as_object().unwrap().clone());
    both.into()
}

pub fn failure() -> Value {
    json!({"kind": "service_fault", "code": "boom", "message": "boom"})
}

fn failed(field: &str, value: Value) -> Value {
    let mut failure = failure();
    failure[field] = value;
    json!({"outcome": "failed", "failure": failure})
}

#[tokio::test]
async fn what_an_attempt_cannot_say_is_refused_and_changes_nothing() {
    let server = start_still().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let before = server.everything().await;
    let attempt = json!({
        "worker_id": "w", "incarnation": worker.incarnation,
        "job": held.job, "attempt": held.attempt, "token": held.token,
    });
    let result = |result: Value| json!({"outcome": "completed", "result": result});
    let nested = (0..100).fold(json!(1), |within, _| json!([within]));
    let last = |field: &str, bytes: usize| json!({"outcome": "completed", "last_progress": {field: "p".repeat(bytes)}});
    let (long, wrong) = ("too_long", "wrong_type");
    for (route, said, code, pointer) in [
        ("finish", failed("message", json!("m".repeat(16_385))), long, "/failure/message"),
        ("finish", failed("code", json!("c".repeat(201))), long, "/failure/code"),
        ("finish", failed("node", json!("n".repeat(201))), long, "/failure/node"),
        ("finish", failed("node_type", json!("n".repeat(201))), long, "/failure/node_type"),
        ("finish", failed("workers", json!(["w"])), wrong, "/failure/workers"),
        ("finish", failed("kind", json!("lost")), wrong, "/failure/kind"),
        ("late", failed("kind", json!("cancelled")), wrong, "/failure/kind"),
        ("finish", last("message", 2_001), long, "/last_progress/message"),
        ("late", last("node", 201), long, "/last_progress/node"),
        (
            "late",
            json!({"outcome": "completed", "last_progress": {"percent": 101}}),
            "out_of_range",
            "/last_progress/percent",
        ),
        ("release", json!({"reason": "drained", "message": "m".repeat(2_001)}), long, "/message"),
        ("finish", result(json!({"r": "r".repeat(4_000_000)})), long, "/result"),
        ("late", result(json!({"nested": nested})), "too_deep", "/result"),
        ("finish", result(json!([1])), wrong, "/result"),
        ("late", result(json!("done")), wrong, "/result"),
    ] {
        let body = merged(&attempt, &said);
        let path = format!("/api/v1/worker/{route}");
        let answer = server.ask(server.post(&path, body.to_string())).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, code), "{route} {pointer}");
        assert_eq!(answer.json()["pointer"], pointer, "{route}");
    }
    assert_eq!(server.everything().await, before);
    let longest = op_of_failure("m".repeat(16_384));
    let results = worker.exchange(vec![op(held, longest)], 0, 0.0).await.ops;
    assert!(matches!(results[..], [pointsman_api::OpResult::Answer(_)]), "{results:?}");
}

/// However few bytes each of them has: a worker's own largest result, of lists of digits, is taken.
#[tokio::test]
async fn a_worker_says_as_many_values_as_its_own_results_have_and_no_more() {
    let server = start_still().await;
    server.submit().await;
    let worker = server.worker("w").await;
    let (held, _) = worker.take().await;
    let body = |entries: usize| {
        let digits = "0,".repeat(entries - 1);
        format!(
            r#"{{"worker_id":"w","incarnation":"{}","job":"{}","attempt":{},"token":"{}",
                "outcome":"completed","result":{{"a":[{digits}0]}}}}"#,
            worker.incarnation, held.job, held.attempt, held.token
        )
    };
    let finish = |entries| server.post("/api/v1/worker/finish", body(entries));
    let many = server.ask(finish(5_000_001)).await;
    assert_eq!((many.status, many.code().as_str()), (422, "too_long"));
    assert!(many.json()["detail"].as_str().unwrap().contains("5000000 is the most"), "{many:?}");
    assert_eq!(server.client.job(held.job).await.unwrap().status, JobStatus::InProgress);
    let most = server.ask(finish((MAX_RESULT - r#"{"a":[0]}"#.len()) / 2 + 1)).await;
    assert_eq!(most.status, 200, "{most:?}");
}

/// It is refused before anything is made of it, whichever of its lists they are in.
#[tokio::test]
async fn a_registration_has_no_more_values_than_a_worker_offers() {
    let server = start_still().await;
    let worker = server.worker("w").await;
    let before = server.everything().await;
    let body = format!(
        r#"{{"worker_id":"w","incarnation":"{}","machine_id":"box",
            "services":[],"capabilities":{{"labels":{{{}"l":1}}}}}}"#,
        worker.incarnation,
        r#""l":1,"#.repeat(500_000)
    );
    let answer = server.ask(server.post("/api/v1/worker/register", body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "too_long"));
    let json = answer.json();
    assert_eq!(json["pointer"], "");
    assert!(json["detail"].as_str().unwrap().contains("500000 is the most"), "{json}");
    assert_eq!(server.everything().await, before);
}

fn op_of_failure(message: String) -> Op {
    let failure = Failure::new(FailureKind::ServiceFault, "boom", message);
    Op::Finish(Finish { outcome: Outcome::Failed { failure }, last_progress: None })
}

#[tokio::test]
async fn bad_worker_requests_have_their_errors() {
    let server = start_still().await;
    let worker = server.worker("w").await;
    let incarnation = worker.incarnation;
    let before = server.everything().await;
    let base = json!({"worker_id": "w", "incarnation": incarnation});
    let with = |field: &str, value: Value| {
        let mut body = base.clone();
        body[field] = value;
        body
    };
    let register = |field: &str, value: Value| {
        let mut body = with("machine_id", json!("box"));
        body["services"] = json!([{"name": "simulation", "slots": 1}]);
        body["capabilities"] = json!({"services": {"simulation": {}}});
        body[field] = value;
        body
    };
    let tokens: Vec<Uuid> = (0..1025).map(|_| Uuid::new_v4()).collect();
    let service = |n: u32| json!({"name": format!("s{n}"), "slots": 1});
    let services: Vec<Value> = (0..101).map(service).collect();
    let labels: BTreeMap<String, bool> = (0..101).map(|n| (format!("l{n}"), true)).collect();
    let twice = vec![json!({"name": "simulation", "slots": 1}); 2];
    let attempt = json!({"job": Uuid::now_v7(), "attempt": 1, "token": Uuid::new_v4()});
    let start = merged(&attempt, &json!({"op": "start"}));
    let idle = json!({"service": "simulation", "status": "idle"});
    let says = json!({"job": Uuid::now_v7(), "attempt": 1, "n": 1});
    let remark = "r".repeat(2_001);
    let progress = |field: &str, value: Value| {
        let mut progress = json!({"job": Uuid::now_v7(), "attempt": 1, "n": 1});
        progress[field] = value;
        with("progress", json!([progress]))
    };
    let nameless = with("progress", json!([{"job": Uuid::now_v7(), "n": 1}]));
    for (route, body, code, pointer) in [
        ("claim", base.clone(), "missing_field", "/tokens"),
        ("claim", with("tokens", json!(["x"])), "invalid_id", "/tokens/0"),
        ("claim", with("tokens", json!(tokens)), "too_long", "/tokens"),
        ("exchange", with("wait_s", json!(31)), "out_of_range", "/wait_s"),
        ("exchange", with("wait_s", json!(-1)), "out_of_range", "/wait_s"),
        ("exchange", with("tokens", json!([])), "unknown_field", "/tokens"),
        ("register", register("services", json!([])), "missing_field", "/services"),
        (
            "register",
            register("services", json!([{"name": "a", "slots": 0}])),
            "out_of_range",
            "/services/0/slots",
        ),
        (
            "register",
            register("services", json!([{"name": "a", "slots": 1_025}])),
            "out_of_range",
            "/services/0/slots",
        ),
        ("register", register("services", json!(twice)), "wrong_type", "/services/1/name"),
        ("exchange", with("ops", json!(vec![start; 1_025])), "too_long", "/ops"),
        ("renew", with("held", json!(vec![attempt; 1_025])), "too_long", "/held"),
        ("renew", with("connectors", json!(vec![idle; 1_025])), "too_long", "/connectors"),
        ("renew", with("progress", json!(vec![says; 1_025])), "too_long", "/progress"),
        (
            "register",
            register("services", json!([{"name": "simulation", "slots": 1, "gpu": 0}])),
            "unknown_field",
            "/services/0/gpu",
        ),
        (
            "register",
            register("capabilities", json!({"hardware": {"gpus": [{"modell": "x"}]}})),
            "unknown_field",
            "/capabilities/hardware/gpus/0/modell",
        ),
        (
            "register",
            register("capabilities", json!({"services": {"simulation": {"modells": []}}})),
            "unknown_field",
            "/capabilities/services/simulation/modells",
        ),
        (
            "register",
            register("capabilities", json!({"labels": labels})),
            "too_long",
            "/capabilities/labels",
        ),
        (
            "exchange",
            with("claim", json!({"tokens": [], "services": vec!["x"; 101]})),
            "too_long",
            "/claim/services",
        ),
        (
            "exchange",
            with("claim", json!({"tokens": [], "service": "x"})),
            "unknown_field",
            "/claim/service",
        ),
        (
            "renew",
            with("connectors", json!([{"service": "simulation", "status": "idle", "massage": ""}])),
            "unknown_field",
            "/connectors/0/massage",
        ),
        ("register", register("machine_id", json!("A B")), "invalid_id", "/machine_id"),
        (
            "register",
            register("capabilities", json!({"hardware": {"ram_gb": -1}})),
            "out_of_range",
            "/capabilities/hardware/ram_gb",
        ),
        ("register", register("summary", json!("s".repeat(501))), "too_long", "/summary"),
        ("register", register("services", json!(services)), "too_long", "/services"),
        (
            "renew",
            with(
                "connectors",
                json!([{"service": "simulation", "status": "error", "error_message": remark}]),
            ),
            "too_long",
            "/connectors/0/error_message",
        ),
        ("renew", progress("message", json!(remark)), "too_long", "/progress/0/message"),
        ("renew", progress("percent", json!(101)), "out_of_range", "/progress/0/percent"),
        ("renew", progress("percent", json!("x")), "wrong_type", "/progress/0/percent"),
        ("renew", nameless, "missing_field", "/progress/0/attempt"),
    ] {
        let path = format!("/api/v1/worker/{route}");
        let answer = server.ask(server.post(&path, body.to_string())).await;
        assert_eq!(answer.code(), code, "{route} {answer:?}");
        assert_eq!(answer.json()["pointer"], pointer, "{route} {answer:?}");
    }
    let superseded = json!({"worker_id": "w", "incarnation": Uuid::new_v4()});
    let answer = server.ask(server.post("/api/v1/worker/exchange", superseded.to_string())).await;
    assert_eq!(answer.code(), "superseded");
    assert_eq!(server.everything().await, before);
}
