//! Tests of the rules as a whole: by hand, against a second implementation, and against the
//! mistakes that an earlier system made.

mod arbitrary;
mod explaining;
mod keys;
mod lacking;
mod mistakes;
mod properties;
mod reference;
mod refusals;

use serde_json::{Value, json};

use super::{Capabilities, Class, Requirements, Rule, able, ask::Offer};
use crate::ids::WorkerId;

fn requirements(value: Value) -> Requirements {
    Requirements::parse(&value).unwrap()
}

/// One rule that a worker fails, in the words of `explain`.
#[derive(Debug)]
struct Mismatch {
    rule: Rule,
    wanted: String,
    found: String,
}

fn mismatches(class: &Class, worker: &WorkerId, capabilities: &Capabilities) -> Vec<Mismatch> {
    let offer = Offer::new(class, Some(worker), capabilities);
    let unmet = class.asks().filter(|ask| !ask.is_met(&offer));
    unmet
        .map(|ask| Mismatch { rule: ask.rule(), wanted: ask.wanted(), found: ask.found(&offer) })
        .collect()
}

/// A class of ComfyUI jobs without a customer.
fn class(requirements_: Value) -> Class {
    Class {
        service: "comfyui".parse().unwrap(),
        requirements: requirements(requirements_).into(),
        customer: None,
        excluded: Default::default(),
    }
}

fn capabilities(value: Value) -> Capabilities {
    let capabilities: Capabilities = serde_json::from_value(value).unwrap();
    capabilities.check().unwrap();
    capabilities
}

/// A worker with ComfyUI, one 24 GiB GPU, one model, one node class and a few labels.
fn ordinary() -> Capabilities {
    capabilities(json!({
        "services": {"comfyui": {"models": ["a.safetensors"], "node_classes": ["KSampler"]}},
        "hardware": {
            "gpus": [{"name": "RTX 4090", "memory_gb": 24}], "cpu_cores": 8, "ram_gb": 32
        },
        "labels": {"tier": 2, "zone": "a", "spot": false, "features": ["x", "y"]},
    }))
}

fn worker(id: &str) -> WorkerId {
    id.parse().unwrap()
}

#[test]
fn numbers_are_at_least_and_sets_are_all_of_them() {
    for (asked, expected) in [
        (json!({}), true),
        (json!({"hardware": {"gpu_memory_gb": 24}}), true),
        (json!({"hardware": {"gpu_memory_gb": 24.5}}), false),
        (json!({"hardware": {"gpu_count": 1, "cpu_cores": 8, "ram_gb": 32}}), true),
        (json!({"hardware": {"gpu_count": 2}}), false),
        (json!({"hardware": {"cpu_cores": 9}}), false),
        (json!({"hardware": {"ram_gb": 32.1}}), false),
        (json!({"models": ["a.safetensors"]}), true),
        (json!({"models": ["a.safetensors", "b.safetensors"]}), false),
        (json!({"node_classes": ["KSampler"]}), true),
        (json!({"node_classes": ["KSampler", "Other"]}), false),
        (json!({"must_not": {"models": ["b.safetensors"]}}), true),
        (json!({"must_not": {"models": ["a.safetensors", "b.safetensors"]}}), false),
        (json!({"prefer": {"models": ["b.safetensors"]}}), true),
    ] {
        assert_eq!(able(&class(asked.clone()), &ordinary()), expected, "{asked}");
    }
}

#[test]
fn a_condition_holds_for_values_of_its_type_only() {
    for (condition, expected) in [
        (json!({"tier": {"eq": 2}}), true),
        (json!({"tier": {"eq": 2.0}}), true),
        (json!({"tier": {"eq": "2"}}), false),
        (json!({"tier": {"gte": 2, "lt": 3}}), true),
        (json!({"tier": {"gt": 2}}), false),
        (json!({"tier": {"lte": 1.9}}), false),
        (json!({"tier": {"in": [1, 2]}}), true),
        (json!({"zone": {"in": ["a", "b"]}}), true),
        (json!({"zone": {"in": ["b"]}}), false),
        (json!({"zone": {"gte": 0}}), false),
        (json!({"zone": {"all": ["a"]}}), false),
        (json!({"spot": {"eq": false}}), true),
        (json!({"spot": {"eq": 0}}), false),
        (json!({"features": {"all": ["x"]}}), true),
        (json!({"features": {"all": ["x", "z"]}}), false),
        (json!({"features": {"eq": ["y", "x"]}}), true),
        (json!({"features": {"eq": "x"}}), false),
        (json!({"missing": {"eq": 1}}), false),
        (json!({"missing": {"lt": 1}}), false),
    ] {
        let asked = class(json!({"labels": condition}));
        assert_eq!(able(&asked, &ordinary()), expected, "{condition}");
    }
}

#[test]
fn any_must_not_condition_rules_out_and_a_missing_label_does_not() {
    for (conditions, expected) in [
        (json!({"tier": {"gte": 2}}), false),
        (json!({"tier": {"gte": 3}}), true),
        (json!({"tier": {"gte": 3}, "zone": {"eq": "a"}}), false),
        (json!({"missing": {"eq": 1}}), true),
    ] {
        let asked = class(json!({"must_not": {"labels": conditions}}));
        assert_eq!(able(&asked, &ordinary()), expected, "{conditions}");
    }
}

#[test]
fn what_the_graph_needs_is_added_but_not_the_files_that_the_job_brings() {
    let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let mut asked = requirements(json!({"models": ["asked.safetensors"]}));
    super::complete_from_graph(
        &mut asked,
        set(&["KSampler"]),
        set(&["needed.ckpt", "brought.safetensors"]),
        &set(&["brought.safetensors", "cat.png"]),
    );
    let completed = json!({
        "models": ["asked.safetensors", "needed.ckpt"], "node_classes": ["KSampler"]
    });
    assert_eq!(asked, requirements(completed));
}
