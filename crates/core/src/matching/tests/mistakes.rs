//! What the earlier system's matcher did wrong: one test a mistake.

use std::sync::Arc;

use super::*;
use crate::matching::{RequirementErrorCode, excludes};

#[test]
fn unreadable_requirements_match_nobody() {
    for unreadable in [
        json!("{not json"),
        json!(null),
        json!([]),
        json!({"quantum_bits": 8}),
        json!({"hardware": {"gpu_memory_gb": "24"}}),
        json!({"hardware": [24]}),
        json!({"labels": {"tier": {"regex": ".*"}}}),
        json!({"customer": {"isolation": "paranoid"}}),
    ] {
        assert!(Requirements::parse(&unreadable).is_err(), "{unreadable}");

        let stored: Requirements = serde_json::from_value(unreadable.clone()).unwrap();
        let class = Class { requirements: stored.into(), ..class(json!({})) };
        assert!(class.requirements.check().is_err(), "{unreadable}");
        assert!(!able(&class, &ordinary()), "{unreadable}");
        assert_eq!(
            serde_json::to_value(&class.requirements).unwrap(),
            unreadable,
            "written back as it was"
        );
    }
}

#[test]
fn only_negative_requirements_match_everybody_else() {
    let asked = class(json!({"must_not": {"models": ["b.safetensors"], "workers": ["w2"]}}));
    assert!(able(&asked, &ordinary()));
    assert!(!excludes(&asked, &worker("w1")));
    assert!(excludes(&asked, &worker("w2")));
}

#[test]
fn customer_lists_count_without_any_isolation_requirement() {
    let mut picky = ordinary();
    picky.customers.denied = ["mallory".parse().unwrap()].into();
    let of = |customer: Option<&str>| Class {
        customer: customer.map(|name| name.parse().unwrap()),
        ..class(json!({}))
    };
    assert!(!able(&of(Some("mallory")), &picky));
    assert!(able(&of(Some("alice")), &picky));
    assert!(able(&of(None), &picky));

    picky.customers.allowed = Some(["alice".parse().unwrap(), "mallory".parse().unwrap()].into());
    assert!(able(&of(Some("alice")), &picky));
    assert!(!able(&of(Some("bob")), &picky));
    assert!(!able(&of(Some("mallory")), &picky), "denied wins");
    assert!(!able(&of(None), &picky), "certain customers only");

    picky.customers.allowed = Some([].into());
    assert!(!able(&of(Some("alice")), &picky), "an empty list is nobody");
}

#[test]
fn strict_isolation_is_met_by_strict_alone_and_no_other_word_passes() {
    let strict = class(json!({"customer": {"isolation": "strict"}}));
    let loose = class(json!({"customer": {"isolation": "loose"}}));
    let mut worker = ordinary();
    assert!(!able(&strict, &worker), "unset is loose");
    assert!(able(&loose, &worker));
    worker.customers.isolation = Some(crate::matching::Isolation::Loose);
    assert!(!able(&strict, &worker));
    worker.customers.isolation = Some(crate::matching::Isolation::Strict);
    assert!(able(&strict, &worker));
    assert!(able(&loose, &worker));
    assert!(Requirements::parse(&json!({"customer": {"isolation": "sorta"}})).is_err());
}

#[test]
fn all_is_a_name_like_any_other() {
    let everything = capabilities(json!({
        "services": {"comfyui": {"models": ["all"], "node_classes": ["all"]}},
        "labels": {"site": "all"},
    }));
    assert!(!able(&class(json!({"models": ["a.safetensors"]})), &everything));
    assert!(!able(&class(json!({"node_classes": ["KSampler"]})), &everything));
    assert!(!able(&class(json!({"labels": {"site": {"eq": "eu"}}})), &everything));
    assert!(!able(&class(json!({"models": ["all"]})), &ordinary()));
    assert!(able(&class(json!({"models": ["all"]})), &everything));
    assert!(Requirements::parse(&json!({"hardware": {"gpu_memory_gb": "all"}})).is_err());
    assert!(Requirements::parse(&json!({"models": "all"})).is_err());
}

#[test]
fn no_requirement_is_quietly_ignored() {
    for (ignored, pointer) in [
        (json!({"hardware": {"gpu_vram": 24}}), "/hardware/gpu_vram"),
        (json!({"hardware": {"gpu_model": "H100"}}), "/hardware/gpu_model"),
        (json!({"component": "all"}), "/component"),
        (json!({"timeout_minutes": 30}), "/timeout_minutes"),
        (json!({"geographic_region": "eu"}), "/geographic_region"),
        (json!({"positive_requirements": {}}), "/positive_requirements"),
        (json!({"service_type": "comfyui"}), "/service_type"),
        (json!({"labels": {"tier": {}}}), "/labels/tier"),
        (json!({"labels": {"tier": {"in": [], "gt": 1}}}), "/labels/tier/in"),
    ] {
        let error = Requirements::parse(&ignored).unwrap_err();
        assert_eq!(error.code, RequirementErrorCode::Malformed, "{ignored}");
        assert_eq!(error.pointer, pointer, "{ignored}");
    }
}

#[test]
fn a_worker_without_the_service_is_never_able() {
    let mut other = ordinary();
    let comfyui = other.services.pop_first().unwrap().1;
    assert!(!able(&class(json!({})), &other), "no services");
    other.services.insert("a1111".parse().unwrap(), comfyui);
    assert!(!able(&class(json!({})), &other));
    let models = class(json!({"models": ["a.safetensors"]}));
    assert!(!able(&models, &other), "the models of another service do not count");
    assert!(!able(&class(json!({})), &Capabilities::default()));
}

#[test]
fn a_worker_that_failed_the_job_is_passed_over() {
    let mut asked = class(json!({}));
    asked.excluded.insert(worker("w1"));
    assert!(able(&asked, &ordinary()));
    assert!(excludes(&asked, &worker("w1")));
    assert!(!excludes(&asked, &worker("w2")));
    assert_eq!(mismatches(&asked, &worker("w1"), &ordinary()).len(), 1);
    assert_eq!(mismatches(&asked, &worker("w2"), &ordinary()).len(), 0);
}

#[test]
fn a_condition_that_says_nothing_clear_lets_nobody_through() {
    // Not to be had by parsing; a record could still hold it.
    use crate::matching::Condition;
    for vague in [Condition::default(), Condition { gt: Some(f64::NAN), ..Default::default() }] {
        let mut wanted = class(json!({}));
        Arc::make_mut(&mut wanted.requirements).labels.insert("tier".into(), vague.clone());
        assert!(!able(&wanted, &ordinary()));
        let mut unwanted = class(json!({}));
        Arc::make_mut(&mut unwanted.requirements).must_not.labels.insert("tier".into(), vague);
        assert!(!able(&unwanted, &ordinary()));
    }
}
