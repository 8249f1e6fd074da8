//! Bad input: each gets its error with code, pointer and cure, and the store is unchanged.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::start;

fn with(field: &str, value: Value) -> String {
    let mut body = json!({"service": "simulation", "payload": {}});
    body[field] = value;
    body.to_string()
}

fn comfyui(payload: Value) -> String {
    json!({"service": "comfyui", "payload": payload}).to_string()
}

fn graph() -> Value {
    json!({"3": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}})
}

/// A workflow that asks for more node classes than can be kept with a job.
fn many_classes() -> Value {
    let node =
        |i: usize| (i.to_string(), json!({"class_type": format!("{i:0>100}"), "inputs": {}}));
    Value::Object((0..1_500).map(node).collect())
}

/// A workflow of more nodes than any has.
fn many_nodes() -> Value {
    let node = |i: usize| (i.to_string(), json!({"class_type": "C", "inputs": {}}));
    Value::Object((0..10_001).map(node).collect())
}

/// Inputs each of which is within its limits.
fn long_inputs() -> Value {
    let input = |i: usize| json!({"node": "3", "field": format!("{i:0>190}"), "name": "x.png", "from": "data:;base64,aGk="});
    (0..200).map(input).collect()
}

fn with_input(name: &str, from: &str) -> String {
    let inputs = json!([{"node": "3", "field": "image", "name": name, "from": from}]);
    json!({"service": "comfyui", "payload": {"workflow": graph()}, "inputs": inputs}).to_string()
}

/// Each list is within its limits, and all of them are not.
fn labels() -> Value {
    let lists: Vec<_> = (0..100).map(|i| [format!("{i}{}", "x".repeat(150))]).collect();
    Value::Object((0..100).map(|i| (format!("l{i}"), json!({"in": lists}))).collect())
}

fn submissions() -> Vec<(String, u16, &'static str, &'static str)> {
    let ui_format = json!({"nodes": [], "links": [], "version": 0.4});
    let unknown_job = format!("artifact:{}/a.png", Uuid::now_v7());
    vec![
        (String::new(), 400, "invalid_json", ""),
        ("{".into(), 400, "invalid_json", ""),
        ("service=comfyui".into(), 400, "invalid_json", ""),
        ("[]".into(), 422, "wrong_type", ""),
        ("null".into(), 422, "wrong_type", ""),
        (json!({"payload": {}}).to_string(), 422, "missing_field", "/service"),
        (
            r#"{"service":"comfyui","payload":{"workflow":{"3":{"class_type":"A","inputs":{"x":1e400}}}}}"#
                .into(),
            422,
            "out_of_range",
            "/payload/workflow/3/inputs/x",
        ),
        (
            r#"{"service":"simulation","payload":{},"metadata":{"a":[-1e400]}}"#.into(),
            422,
            "out_of_range",
            "/metadata/a/0",
        ),
        (
            r#"{"service":"simulation","payload":{"fail":{"n":[1,1e400]}}}"#.into(),
            422,
            "out_of_range",
            "/payload/fail/n/1",
        ),
        (with("payload", json!([1])), 422, "wrong_type", "/payload"),
        (with("priorty", json!(5)), 422, "unknown_field", "/priorty"),
        (with("priority", json!(101)), 422, "out_of_range", "/priority"),
        (with("priority", json!("9")), 422, "wrong_type", "/priority"),
        (with("max_failures", json!(0)), 422, "out_of_range", "/max_failures"),
        (with("timeouts", json!({"total_s": 0})), 422, "out_of_range", "/timeouts/total_s"),
        (with("service", json!("comfy")), 422, "unknown_service", "/service"),
        (with("service", json!("../x")), 422, "invalid_id", "/service"),
        (
            with("requirements", json!({"gpus": 2})),
            422,
            "invalid_requirements",
            "/requirements/gpus",
        ),
        (
            with("requirements", json!({"labels": {"tier": {"gte": 5, "lt": 2}}})),
            422,
            "contradictory_requirements",
            "/requirements/labels/tier",
        ),
        (
            with("requirements", json!({"models": ["m"], "must_not": {"models": ["m"]}})),
            422,
            "contradictory_requirements",
            "/requirements/models",
        ),
        (comfyui(json!({})), 422, "missing_field", "/payload/workflow"),
        (comfyui(graph()), 422, "missing_field", "/payload/workflow"),
        (comfyui(ui_format.clone()), 422, "ui_format_workflow", "/payload"),
        (comfyui(json!({"workflow": ui_format})), 422, "ui_format_workflow", "/payload/workflow"),
        (comfyui(json!({"workflow": {}})), 422, "invalid_workflow", "/payload/workflow"),
        (comfyui(json!({"workflow": many_classes()})), 422, "too_long", "/payload/workflow"),
        (comfyui(json!({"workflow": many_nodes()})), 422, "too_long", "/payload/workflow"),
        (with("payload", json!({"x": vec![0; 1_000_000]})), 422, "too_long", ""),
        (with("metadata", json!({"x": vec![0; 1_000_000]})), 422, "too_long", ""),
        (with("inputs", long_inputs()), 422, "too_long", "/inputs"),
        (
            with("requirements", json!({"must_not": {"labels": labels()}})),
            422,
            "too_long",
            "/requirements",
        ),
        (comfyui(json!({"workflow": graph(), "a/b": 1})), 422, "unknown_field", "/payload/a~1b"),
        (
            comfyui(json!({"workflow": graph(), "allow_partial": 1})),
            422,
            "wrong_type",
            "/payload/allow_partial",
        ),
        (
            comfyui(json!({"workflow": {"3": {"inputs": {}}}})),
            422,
            "invalid_workflow",
            "/payload/workflow/3/class_type",
        ),
        (
            comfyui(json!({"workflow": {"3": {"class_type": "X", "inputs": {"a": ["9", 0]}}}})),
            422,
            "invalid_workflow",
            "/payload/workflow/3/inputs/a",
        ),
        (with_input("../../x.png", "data:;base64,aGk="), 422, "invalid_name", "/inputs/0/name"),
        (with_input("/etc/passwd", "data:;base64,aGk="), 422, "invalid_name", "/inputs/0/name"),
        (with_input("a\\b.png", "data:;base64,aGk="), 422, "invalid_name", "/inputs/0/name"),
        (with_input("x.png", "sha256:../../tokens.json"), 422, "invalid_input", "/inputs/0/from"),
        (with_input("x.png", "file:///etc/passwd"), 422, "invalid_input", "/inputs/0/from"),
        (with_input("x.png", &unknown_job), 422, "input_not_found", "/inputs/0/from"),
        (
            with_input("x.png", &format!("sha256:{}", "0".repeat(64))),
            422,
            "input_not_found",
            "/inputs/0/from",
        ),
    ]
}

#[tokio::test]
async fn every_bad_submission_has_its_error_and_changes_nothing() {
    let server = start().await;
    server.submit().await;
    let before = server.everything().await;
    for (body, status, code, pointer) in submissions() {
        let answer = server.ask(server.post("/api/v1/jobs", body.clone())).await;
        assert_eq!(answer.code(), code, "{body}: {answer:?}");
        assert_eq!(
            (answer.status, answer.json()["pointer"].as_str()),
            (status, Some(pointer)),
            "{body}"
        );
    }
    assert_eq!(server.everything().await, before);
}

#[tokio::test]
async fn the_cures_say_what_to_do() {
    let server = start().await;
    let cure = async |body: String| {
        let problem = server.ask(server.post("/api/v1/jobs", body)).await.json();
        problem["cure"].as_str().unwrap().to_owned()
    };
    let ui_format = comfyui(json!({"workflow": {"nodes": [], "links": []}}));
    assert!(cure(ui_format).await.contains("Export (API)"));
    assert!(cure(comfyui(graph())).await.contains("one level deeper"));
    assert!(cure(with("service", json!("comfy"))).await.contains("comfyui, simulation"));
}

#[tokio::test]
async fn a_wrong_parameter_is_answered_with_what_was_given_and_what_may_be() {
    let server = start().await;
    for (path, detail) in [
        ("/api/v1/jobs?limit=abc", "limit=abc is not valid: use a whole number from 1 to 1000"),
        ("/api/v1/jobs?limit=", "limit= is not valid: use a whole number from 1 to 1000"),
        ("/api/v1/jobs?limit=-1", "limit=-1 is not valid: use a whole number from 1 to 1000"),
        ("/api/v1/jobs?limit=+5", "limit=\" 5\" is not valid: use a whole number from 1 to 1000"),
        ("/api/v1/jobs?limit=0", "limit=0 is not valid: use a whole number from 1 to 1000"),
        (
            "/api/v1/jobs?limit=99999999999",
            "limit=99999999999 is not valid: use a whole number from 1 to 1000",
        ),
        ("/api/v1/log?limit=10001", "limit=10001 is not valid: use a whole number from 1 to 10000"),
        (
            "/api/v1/events?conflate=1%205",
            "conflate=1 5 is not valid: use a whole number from 0 to 5000",
        ),
        ("/api/v1/events?pulse=some", "pulse=some is not valid: use `whole` or `changes`"),
        ("/api/v1/jobs?order=age", "order=age is not valid: use `submitted` or `ended`"),
        ("/api/v1/jobs?limit=1&limit=2", "limit is given more than once"),
        ("/api/v1/log?page=2", "there is no parameter page: this route takes `after` or `limit`"),
    ] {
        let problem = server.ask(server.get(path)).await.json();
        assert_eq!(problem["detail"], detail, "{path}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused_and_changes_nothing() {
    let server = start().await;
    let before = server.everything().await;
    let body = format!(
        "{{\"service\":\"simulation\",\"payload\":{{\"x\":\"{}\"}}}}",
        "y".repeat(64_000_001)
    );
    let answer = server.ask(server.post("/api/v1/jobs", body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    assert!(answer.json()["cure"].as_str().unwrap().contains("/api/v1/inputs"));
    assert_eq!(server.everything().await, before);
}

#[tokio::test]
async fn a_key_with_another_body_is_a_conflict() {
    let server = start().await;
    let body = |n: u32| {
        json!({"service": "simulation", "payload": {"steps": n}, "idempotency_key": "k"})
            .to_string()
    };
    let first = server.ask(server.post("/api/v1/jobs", body(1))).await;
    let again = server.ask(server.post("/api/v1/jobs", body(1))).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json(), again.json());
    let before = server.everything().await;
    let other = server.ask(server.post("/api/v1/jobs", body(2))).await;
    assert_eq!((other.status, other.code().as_str()), (409, "idempotency_conflict"));
    assert_eq!(other.json()["job"], first.json()["id"]);
    assert_eq!(server.everything().await, before);
}

#[tokio::test]
async fn in_a_batch_each_stands_for_itself() {
    let server = start().await;
    let good = json!({"service": "simulation", "payload": {}});
    let bad = json!({"service": "simulation", "payload": {}, "priority": 1000});
    let body = json!({"jobs": [good, bad, good]}).to_string();
    let answer = server.ask(server.post("/api/v1/jobs/batch", body)).await.json();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[1]["problem"]["pointer"], "/jobs/1/priority");
    assert_eq!(
        (&results[0]["existed"], &results[2]["job"]["status"]),
        (&json!(false), &json!("pending"))
    );
    assert_eq!(server.client.jobs(&Default::default()).await.unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn wrong_addresses_and_parameters_are_named() {
    let server = start().await;
    let job = server.submit().await.id;
    let before = server.everything().await;
    for (path, status, code, pointer) in [
        ("/api/v1/jobs/7".into(), 422, "invalid_id", None),
        (format!("/api/v1/jobs/{}", Uuid::now_v7()), 404, "job_not_found", None),
        ("/api/v1/jobs?cursor=../x".into(), 400, "bad_cursor", Some("?cursor")),
        ("/api/v1/jobs?cursor=7".into(), 400, "bad_cursor", Some("?cursor")),
        ("/api/v1/jobs?order=age".into(), 400, "invalid_query", Some("?order")),
        ("/api/v1/jobs?order=ended&status=pending".into(), 400, "invalid_query", Some("?status")),
        ("/api/v1/jobs?status=done".into(), 400, "invalid_query", Some("?status")),
        ("/api/v1/jobs?limit=0".into(), 400, "invalid_query", Some("?limit")),
        ("/api/v1/jobs?limit=x".into(), 400, "invalid_query", Some("?limit")),
        ("/api/v1/jobs?customer=%ff".into(), 400, "invalid_query", Some("?customer")),
        ("/api/v1/jobs?status=pending&%ff=x".into(), 400, "invalid_query", Some("?%ff")),
        ("/api/v1/jobs?page=2".into(), 400, "invalid_query", Some("?page")),
        ("/api/v1/workers?limit=1".into(), 400, "invalid_query", Some("?limit")),
        (format!("/api/v1/jobs/{job}?x"), 400, "invalid_query", Some("?x")),
        ("/api/v1/events?after=7".into(), 400, "bad_position", Some("?after")),
        ("/api/v1/events?conflate=9999999".into(), 400, "invalid_query", Some("?conflate")),
        ("/api/v1/events?pulse=some".into(), 400, "invalid_query", Some("?pulse")),
        ("/api/v1/log?after=abc.99999".into(), 410, "log_cut", Some("?after")),
        (format!("/api/v1/jobs/{job}/artifacts/..%2f..%2ftokens.json"), 422, "invalid_name", None),
        (format!("/api/v1/jobs/{job}/artifacts/a.png"), 404, "artifact_not_found", None),
        (format!("/api/v1/jobs/{job}/result"), 404, "result_not_found", None),
        (format!("/api/v1/jobs/{job}/preview"), 404, "preview_not_found", None),
        ("/api/v1/inputs/..%2ftokens.json".into(), 422, "invalid_input", None),
        ("/api/v1/inputs/%ff".into(), 422, "invalid_id", None),
        ("/api/v1/capabilities/xyz".into(), 422, "invalid_id", None),
        ("/api/v1/capabilities/%ff".into(), 422, "invalid_id", None),
        ("/assets/%ff".into(), 422, "invalid_id", None),
        ("/api/v1/jobs/%ff".into(), 422, "invalid_id", None),
        (format!("/api/v1/jobs/{job}/artifacts/%ff"), 422, "invalid_id", None),
        ("/api/v1/workers/nobody".into(), 404, "worker_not_found", None),
        ("/api/v1/machines/nothing".into(), 404, "machine_not_found", None),
        ("/api/v1/nothing".into(), 404, "route_not_found", None),
        ("/assets/nothing.js".into(), 404, "route_not_found", None),
        ("/api/v1/jobs/batch".into(), 405, "method_not_allowed", None),
        ("/api/v1/worker/claim".into(), 405, "method_not_allowed", None),
    ] {
        let answer = server.ask(server.get(&path)).await;
        assert_eq!((answer.code().as_str(), answer.status), (code, status), "{path}: {answer:?}");
        if let Some(pointer) = pointer {
            assert_eq!(answer.json()["pointer"], pointer, "{path}");
        }
    }
    assert_eq!(server.everything().await, before);
}
