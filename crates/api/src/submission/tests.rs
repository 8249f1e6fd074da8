use serde_json::json;

use super::*;

fn refused(body: Value) -> (String, String, Problem) {
    let problem = Submission::read(body.to_string().as_bytes())
        .and_then(Submission::validate)
        .expect_err(&body.to_string());
    (problem.code.to_string(), problem.pointer.clone().unwrap_or("none".into()), problem)
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"service": "simulation", "payload": {}});
    body[field] = value;
    body
}

#[test]
fn every_wrong_field_has_code_and_pointer() {
    const EMPTY: &str = "data:image/png;base64,";
    let input = |name: &str, from: &str| json!([{"node": "1", "field": "image", "name": name, "from": from}]);
    let target = |node: &str, field: &str| json!([{"node": node, "field": field, "name": "x.png", "from": "data:;base64,aGk="}]);
    for (body, code, pointer) in [
        (json!({"payload": {}}), "missing_field", "/service"),
        (json!({"service": "simulation"}), "missing_field", "/payload"),
        (with("service", json!(7)), "wrong_type", "/service"),
        (with("service", json!("Comfy UI")), "invalid_id", "/service"),
        (with("payload", json!("x")), "wrong_type", "/payload"),
        (with("priorty", json!(1)), "unknown_field", "/priorty"),
        (with("priority", json!(101)), "out_of_range", "/priority"),
        (with("priority", json!(-1)), "out_of_range", "/priority"),
        (with("priority", json!("high")), "wrong_type", "/priority"),
        (with("priority", json!(1.5)), "wrong_type", "/priority"),
        (with("workflow_priority", json!(900)), "out_of_range", "/workflow_priority"),
        (with("max_failures", json!(0)), "out_of_range", "/max_failures"),
        (with("max_losses", json!(101)), "out_of_range", "/max_losses"),
        (with("timeouts", json!({"total_s": 0})), "out_of_range", "/timeouts/total_s"),
        (with("timeouts", json!({"total_s": -1})), "out_of_range", "/timeouts/total_s"),
        (with("timeouts", json!({"totals": 1})), "unknown_field", "/timeouts/totals"),
        (with("customer_id", json!("")), "invalid_id", "/customer_id"),
        (with("idempotency_key", json!("")), "invalid_id", "/idempotency_key"),
        (with("idempotency_key", json!("a\u{7}")), "invalid_id", "/idempotency_key"),
        (with("idempotency_key", json!("k".repeat(201))), "too_long", "/idempotency_key"),
        (with("metadata", json!([1])), "wrong_type", "/metadata"),
        (with("metadata", json!({"x": "y".repeat(20_000)})), "too_long", "/metadata"),
        (with("requirements", json!({"gpu": 1})), "invalid_requirements", "/requirements/gpu"),
        (
            with("requirements", json!({"hardware": {"gpu_memory_gb": -2}})),
            "out_of_range",
            "/requirements/hardware/gpu_memory_gb",
        ),
        (
            with("requirements", json!({"models": ["a"], "must_not": {"models": ["a"]}})),
            "contradictory_requirements",
            "/requirements/models",
        ),
        (with("inputs", input("../x.png", "data:;base64,")), "invalid_name", "/inputs/0/name"),
        (with("inputs", input("x.png", "/etc/passwd")), "invalid_input", "/inputs/0/from"),
        (with("inputs", input("x.png", "sha256:../x")), "invalid_input", "/inputs/0/from"),
        (with("inputs", json!([{"node": "1"}])), "missing_field", "/inputs/0/field"),
        (with("inputs", target("", "image")), "invalid_input", "/inputs/0/node"),
        (with("inputs", target("1", "a\nb")), "invalid_input", "/inputs/0/field"),
        (with("inputs", target("1", &"f".repeat(201))), "too_long", "/inputs/0/field"),
        (with("inputs", input("x.png", EMPTY)), "invalid_input", "/inputs/0/from"),
    ] {
        let (found_code, found_pointer, problem) = refused(body.clone());
        assert_eq!(
            (found_code.as_str(), found_pointer.as_str()),
            (code, pointer),
            "{body}: {problem}"
        );
        assert!(!problem.cure.is_empty());
    }
}

/// An object in which so many stand within each other.
fn nested(levels: usize) -> Box<RawValue> {
    let json = r#"{"a":"#.repeat(levels) + "1" + &"}".repeat(levels);
    RawValue::from_string(json).unwrap()
}

#[test]
fn what_is_nested_too_deeply_is_refused_with_a_key_and_without() {
    for key in ["", r#","idempotency_key":"k""#] {
        // Metadata of more levels than that are too long already.
        for (field, most, far) in [("metadata", 32, 10_000), ("payload", 100, 100_000)] {
            let read = |levels: usize| {
                let (deep, other) = (
                    nested(levels),
                    match field {
                        "payload" => "metadata",
                        _ => "payload",
                    },
                );
                let body =
                    format!(r#"{{"service":"simulation","{field}":{deep},"{other}":{{}}{key}}}"#);
                Submission::read(body.as_bytes()).and_then(Submission::validate)
            };
            read(most).unwrap();
            for levels in [most + 1, 124, 200, far] {
                let problem = read(levels).unwrap_err();
                let place = format!("/{field}");
                assert!(problem.is(Code::TooDeep), "{field} {levels} {key}: {problem}");
                assert_eq!(problem.pointer.as_deref(), Some(&*place), "{levels} {key}");
            }
        }
    }
}

#[test]
fn what_is_left_out_is_as_documented() {
    let body = br#"{"service":"comfyui","payload":{"workflow":{}}}"#;
    let valid = Submission::read(body).unwrap().validate().unwrap();
    assert_eq!(valid.spec.priority, 50);
    assert_eq!((valid.spec.max_failures, valid.spec.max_losses), (3, 3));
    assert_eq!(&*valid.payload, br#"{"workflow":{}}"#);
    assert!(valid.idempotency.is_none());
}

#[test]
fn the_same_key_stands_for_the_same_values() {
    let body = |text: &str| {
        let text = format!("{{\"idempotency_key\":\"k\",{text}}}");
        Submission::read(text.as_bytes()).unwrap().validate().unwrap().idempotency.unwrap().body
    };
    let first = body(r#""service":"simulation","payload":{"a":1,"b":2}"#);
    assert_eq!(first, body(r#""payload": {"b":2, "a":1}, "service":"simulation""#));
    assert_ne!(first, body(r#""service":"simulation","payload":{"a":1,"b":3}"#));
    assert_ne!(first, body(r#""service":"simulation","payload":{"a":1,"b":2},"priority":9"#));
}

#[test]
fn a_batch_has_one_to_a_thousand_jobs() {
    assert_eq!(Batch::read(br#"{"jobs":[{},{}]}"#).unwrap().jobs.len(), 2);
    let none = Batch::read(br#"{"jobs":[]}"#).unwrap_err();
    assert!(none.is(Code::MissingField) && none.pointer.as_deref() == Some("/jobs"));
    let many = format!("{{\"jobs\":[{}{{}}]}}", "{},".repeat(1_000));
    assert!(Batch::read(many.as_bytes()).unwrap_err().is(Code::TooLong));
}

#[test]
fn what_is_far_too_large_is_refused_before_it_is_read() {
    let text = |field: &str, value: &str| {
        format!(r#"{{"service":"simulation","payload":{{}},"{field}":{value}}}"#)
    };
    for (field, most) in [("requirements", MAX_REQUIREMENTS), ("metadata", MAX_METADATA)] {
        // Were it read, its fields, or what it is, would be wrong first.
        let long = format!("[{}1]", "1,".repeat(ESCAPED * most / 2));
        let problem = Submission::read(text(field, &long).as_bytes()).unwrap_err();
        assert!(problem.is(Code::TooLong), "{problem:?}");
        assert_eq!(problem.pointer.as_deref(), Some(&*format!("/{field}")));
        let blanks = format!("{{{}}}", " ".repeat(20 * most));
        let read = Submission::read(text(field, &blanks).as_bytes()).and_then(Submission::validate);
        assert!(read.is_ok(), "blanks are none of its bytes: {read:?}");
    }
}
