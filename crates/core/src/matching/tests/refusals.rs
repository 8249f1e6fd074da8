//! What is refused at submission and registration, where it points, and in which words.

use super::*;
use crate::matching::{
    RequirementErrorCode::{self, *},
    complete_from_graph, validate,
};

fn refusal(value: &Value) -> (String, RequirementErrorCode, String) {
    match Requirements::parse(value) {
        Ok(_) => panic!("not refused: {value}"),
        Err(error) => (error.pointer, error.code, error.message),
    }
}

#[test]
fn every_refusal_points_at_the_wrong_field() {
    let names = |n: usize| (0..n).map(|i| format!("n{i}")).collect::<Vec<_>>();
    let long = "x".repeat(201);
    for (value, pointer, code) in [
        (json!(5), "", Malformed),
        (json!({"hardware": 5}), "/hardware", Malformed),
        (json!({"hardware": {"gpu_memory_gb": -1}}), "/hardware/gpu_memory_gb", OutOfRange),
        (json!({"hardware": {"gpu_memory_gb": 10_001}}), "/hardware/gpu_memory_gb", OutOfRange),
        (json!({"hardware": {"gpu_count": -1}}), "/hardware/gpu_count", OutOfRange),
        (json!({"hardware": {"gpu_count": 1e12 as u64}}), "/hardware/gpu_count", OutOfRange),
        (json!({"hardware": {"gpu_count": 1_001}}), "/hardware/gpu_count", OutOfRange),
        (json!({"hardware": {"gpu_count": 1.5}}), "/hardware/gpu_count", Malformed),
        (json!({"hardware": {"cpu_cores": 100_001}}), "/hardware/cpu_cores", OutOfRange),
        (json!({"hardware": {"ram_gb": 1e9}}), "/hardware/ram_gb", OutOfRange),
        (json!({"models": ["a", 5]}), "/models/1", Malformed),
        (json!({"models": [""]}), "/models", Malformed),
        (json!({"models": [long]}), "/models", TooLarge),
        (json!({"models": names(201)}), "/models", TooLarge),
        (json!({"node_classes": names(2_001)}), "/node_classes", TooLarge),
        (json!({"prefer": {"models": names(201)}}), "/prefer/models", TooLarge),
        (json!({"must_not": {"workers": names(101)}}), "/must_not/workers", TooLarge),
        (json!({"must_not": {"workers": ["a b"]}}), "/must_not/workers/0", Malformed),
        (json!({"must_not": {"labels": {"a": {}}}}), "/must_not/labels/a", Malformed),
        (json!({"labels": {"a": 5}}), "/labels/a", Malformed),
        (json!({"labels": {"a": [5]}}), "/labels/a", Malformed),
        (json!({"labels": {"a/b~c": {}}}), "/labels/a~1b~0c", Malformed),
        (json!({"labels": {"": {"eq": 1}}}), "/labels/", Malformed),
        (json!({"labels": {"a": {"eq": {}}}}), "/labels/a/eq", Malformed),
        (json!({"labels": {"a": {"near": 1}}}), "/labels/a/near", Malformed),
        (json!({"labels": {"a": {"gt": "1"}}}), "/labels/a/gt", Malformed),
        (json!({"labels": {"a": {"in": ["x", null]}}}), "/labels/a/in/1", Malformed),
        (json!({"labels": {"a": {"in": ["x", ""]}}}), "/labels/a/in/1", Malformed),
        (json!({"labels": {"a": {"in": names(101)}}}), "/labels/a/in", TooLarge),
        (json!({"labels": {"a": {"all": []}}}), "/labels/a/all", Malformed),
        (json!({"labels": {"a": {"all": [1]}}}), "/labels/a/all/0", Malformed),
        (json!({"labels": {"a": {"eq": 9_007_199_254_740_993_u64}}}), "/labels/a/eq", OutOfRange),
        (json!({"customer": {"isolation": "x"}}), "/customer/isolation", Malformed),
    ] {
        let (found_pointer, found_code, message) = refusal(&value);
        assert_eq!((found_pointer.as_str(), found_code), (pointer, code), "{value}: {message}");
        assert!(value.pointer(&found_pointer).is_some(), "{value}: {found_pointer}");
    }
}

#[test]
fn labels_are_counted() {
    let labels: serde_json::Map<_, _> =
        (0..101).map(|i| (format!("l{i}"), json!({"eq": 1}))).collect();
    assert_eq!(refusal(&json!({"labels": labels})).1, TooLarge);
}

/// Each list is within its limits; together they would be 200 MB in every copy of the record.
#[test]
fn requirements_have_a_limit_as_a_whole() {
    let lists: Vec<_> = (0..100).map(|i| [format!("{i}{}", "x".repeat(150))]).collect();
    let labels = |n| (0..n).map(|i| (format!("l{i}"), json!({"in": lists}))).collect();
    let with = |n| json!({"must_not": {"labels": Value::Object(labels(n))}});
    requirements(with(4));
    let (pointer, code, message) = refusal(&with(5));
    assert_eq!((pointer.as_str(), code), ("", TooLarge));
    assert!(message.contains("bytes") && message.contains("65536"), "{message}");
    // What a workflow adds is not held against what was written.
    let mut completed = requirements(with(4));
    let classes = |n: usize| (0..n).map(|i| format!("{i:0>50}")).collect();
    complete_from_graph(&mut completed, classes(1_000), Default::default(), &Default::default());
    completed.check().unwrap();
    complete_from_graph(&mut completed, classes(1_500), Default::default(), &Default::default());
    let refused = completed.check().unwrap_err();
    assert_eq!((refused.pointer.as_str(), refused.code), ("", TooLarge));
    assert!(refused.message.contains("131072"), "{refused}");
}

#[test]
fn what_no_worker_could_meet_is_refused() {
    for (value, pointer) in [
        (json!({"models": ["a", "b"], "must_not": {"models": ["b"]}}), "/models"),
        (json!({"labels": {"a": {"gt": 5, "lt": 4}}}), "/labels/a"),
        (json!({"labels": {"a": {"gte": 5, "lte": 4.9}}}), "/labels/a"),
        (json!({"labels": {"a": {"gt": 5, "lte": 5}}}), "/labels/a"),
        (json!({"labels": {"a": {"eq": "x", "in": ["y"]}}}), "/labels/a"),
        (json!({"labels": {"a": {"eq": 3, "gt": 3}}}), "/labels/a"),
        (json!({"labels": {"a": {"eq": "x", "gt": 3}}}), "/labels/a"),
        (json!({"labels": {"a": {"in": [1, 2, "x"], "gt": 2}}}), "/labels/a"),
        (json!({"labels": {"a": {"all": ["x"], "gt": 2}}}), "/labels/a"),
        (json!({"labels": {"a": {"all": ["x"], "eq": ["y"]}}}), "/labels/a"),
        (json!({"must_not": {"labels": {"a": {"gt": 5, "lt": 4}}}}), "/must_not/labels/a"),
    ] {
        let (found, code, message) = refusal(&value);
        assert_eq!((found.as_str(), code), (pointer, Contradictory), "{value}: {message}");
    }
    for (wanted, unwanted) in [
        (json!({"eq": 1}), json!({"eq": 1.0})),
        (json!({"in": ["x", "y"]}), json!({"in": ["y", "x", "z"]})),
        (json!({"in": [1, 5], "gt": 3}), json!({"gte": 5})),
        (json!({"gte": 5}), json!({"gte": 3})),
        (json!({"gt": 5, "lt": 6}), json!({"gte": 5})),
        (json!({"all": ["x", "y"]}), json!({"all": ["x"]})),
    ] {
        let value = json!({"labels": {"a": wanted}, "must_not": {"labels": {"a": unwanted}}});
        assert_eq!(refusal(&value).1, Contradictory, "{value}");
    }
}

#[test]
fn what_some_worker_could_meet_is_not_refused() {
    for (wanted, unwanted) in [
        (json!({"gte": 5, "lte": 5}), json!({"eq": 4})),
        (json!({"gte": 5}), json!({"gt": 5})),
        (json!({"gte": 5}), json!({"eq": 5})),
        (json!({"all": ["x"]}), json!({"all": ["x", "y"]})),
        (json!({"in": ["x", "y"]}), json!({"in": ["x"]})),
        (json!({"in": [1, "x"], "gt": 0}), json!({"eq": "x"})),
    ] {
        requirements(json!({"labels": {"a": wanted}, "must_not": {"labels": {"a": unwanted}}}));
    }
    requirements(json!({"labels": {"a": {"eq": 1}}, "must_not": {"labels": {"b": {"eq": 1}}}}));
}

#[test]
fn the_words_say_what_would_be_right() {
    let words = |value: Value| refusal(&value).2;
    assert_eq!(
        words(json!({"hardware": {"gpu_memory_gb": -1}})),
        "-1 is out of range: use a number from 0 to 10000"
    );
    assert_eq!(
        words(json!({"hardware": {"gpu_count": -1}})),
        "-1 is out of range: use a number from 0 to 1000"
    );
    assert_eq!(
        words(json!({"hardware": {"gpu_count": 1.5}})),
        "invalid type: floating point `1.5`, expected a whole number"
    );
    assert_eq!(
        words(json!({"labels": {"tier": {"gt": 3, "eq": 2}}})),
        "no label can be = 2 and > 3"
    );
    assert_eq!(
        words(json!({"labels": {"tier": {"eq": {}}}})),
        "expected a text, a number, true or false, or a list of texts, found {}"
    );
    assert_eq!(
        words(json!({"labels": {"tier": 2}})),
        "invalid type: integer `2`, expected an object with at least one of the operators eq, \
         gt, gte, lt, lte, in and all, such as {\"gte\": 2}"
    );
    let unknown = words(json!({"hardware": {"vram": 2}}));
    assert!(unknown.starts_with("unknown field `vram`, expected one of `gpu_memory_gb`"));
}

#[test]
fn capabilities_are_bounded() {
    let refused = |change: fn(&mut Capabilities)| {
        let mut changed = ordinary();
        change(&mut changed);
        let error = changed.check().unwrap_err();
        (error.pointer, error.code)
    };
    let at = |pointer: &str, code| (pointer.to_string(), code);
    assert_eq!(
        refused(|worker| worker.hardware.ram_gb = f64::NAN),
        at("/hardware/ram_gb", OutOfRange)
    );
    assert_eq!(
        refused(|worker| worker.hardware.gpus[0].memory_gb = f64::INFINITY),
        at("/hardware/gpus/0/memory_gb", OutOfRange)
    );
    assert_eq!(
        refused(|worker| {
            let comfyui = worker.services.values_mut().next().unwrap();
            comfyui.models = (0..=validate::MAX_OFFERED).map(|i| format!("m{i}")).collect();
        }),
        at("/services/comfyui/models", TooLarge)
    );
    assert_eq!(
        refused(|worker| {
            worker.labels = (0..101)
                .map(|i| (format!("l{i}"), crate::matching::LabelValue::Flag(true)))
                .collect();
        }),
        at("/labels", TooLarge)
    );
}
