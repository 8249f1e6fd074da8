//! What `explain` tells a person.

use super::*;
use crate::matching::{AbleWorkers, Availability, Explanation, LabelValue, Throttle, explain};

#[test]
fn a_mismatch_says_what_was_wanted_and_what_was_found() {
    let mut asked = class(json!({
        "hardware": {"gpu_memory_gb": 48, "gpu_count": 2},
        "models": ["a.safetensors", "b.safetensors"],
        "labels": {"tier": {"gt": 2, "lt": 9}, "site.region": {"in": ["eu", "us"]}},
        "must_not": {"labels": {"features": {"all": ["x"]}}, "workers": ["w1"]},
        "customer": {"isolation": "strict"},
    }));
    asked.excluded.insert(worker("w1"));
    let said: Vec<String> = mismatches(&asked, &worker("w1"), &ordinary())
        .into_iter()
        .map(|mismatch| format!("{} | {} | {}", mismatch.rule, mismatch.wanted, mismatch.found))
        .collect();
    assert_eq!(
        said,
        [
            "hardware.gpu_memory_gb | a GPU with at least 48 GiB | the largest has 24 GiB",
            "hardware.gpu_count | at least 2 GPUs | 1 GPUs",
            "customer.isolation | strict isolation | loose isolation (not set)",
            "labels.site.region | site.region one of \"eu\", \"us\" | no label site.region",
            "labels.tier | tier > 2 and < 9 | tier is 2",
            "must_not.labels.features | not features holds all of \"x\" | \
             features is [\"x\", \"y\"]",
            "models | all of the models a.safetensors, b.safetensors | lacks b.safetensors",
            "must_not.workers | none of the workers w1 | it is one of them",
            "excluded | none of the workers excluded for this job: w1 | \
             it failed this job, and is left out for a while",
        ]
    );
}

#[test]
fn other_customers_are_never_named() {
    let mut picky = ordinary();
    picky.customers.allowed = Some(["secret-client".parse().unwrap()].into());
    picky.customers.denied = ["another-client".parse().unwrap()].into();
    for customer in [None, Some("me"), Some("another-client")] {
        let asked = Class { customer: customer.map(|id| id.parse().unwrap()), ..class(json!({})) };
        let [mismatch] = &mismatches(&asked, &worker("w1"), &picky)[..] else { panic!() };
        assert_eq!(mismatch.rule, Rule::Customer);
        assert!(!mismatch.found.contains("client"), "{mismatch:?}");
    }
}

#[test]
fn a_service_that_never_answered_lacks_nothing_yet() {
    let mut silent = ordinary();
    silent.services.values_mut().for_each(|service| *service = Default::default());
    let asked = class(json!({"models": ["a.safetensors"], "node_classes": ["KSampler"]}));
    let found = mismatches(&asked, &worker("w1"), &silent);
    assert_eq!(found.len(), 2);
    for mismatch in found {
        assert_eq!(mismatch.found, "not known yet: its service has not answered");
    }
}

#[test]
fn long_lists_are_cut() {
    let models: Vec<String> = (0..30).map(|i| format!("m{i:02}")).collect();
    let asked = class(json!({"models": models}));
    let [mismatch] = &mismatches(&asked, &worker("w1"), &ordinary())[..] else { panic!() };
    assert!(mismatch.found.ends_with("m09 and 20 more"), "{mismatch:?}");
}

/// 25 small workers, of which one is in the wrong zone too, and 3 able ones.
fn explained() -> Explanation {
    let asked = class(json!({
        "hardware": {"gpu_memory_gb": 48}, "labels": {"zone": {"eq": "a"}}
    }));
    let small = ordinary();
    let mut misplaced = ordinary();
    misplaced.labels.remove("zone");
    let mut large = ordinary();
    large.hardware.gpus[0].memory_gb = 80.0;

    let ids: Vec<WorkerId> = (0..28).map(|i| worker(&format!("w{i:02}"))).collect();
    let workers = ids.iter().enumerate().map(|(i, id)| match i {
        0 => (id, &misplaced, Availability::Free),
        25 => (id, &large, Availability::Full),
        26 => (id, &large, Availability::Draining),
        27 => (id, &large, Availability::NotReady),
        1 => (id, &small, Availability::NotReady),
        2 => (id, &small, Availability::Offline),
        _ => (id, &small, Availability::Free),
    });
    explain(&asked, Throttle::default(), workers, |id| Some(format!("{id} is broken")))
}

#[test]
fn each_rule_says_how_many_pass_and_which_fail() {
    let explained = explained();
    assert_eq!(explained.workers, 28);
    assert_eq!(
        explained.able,
        AbleWorkers { total: 3, full: 1, draining: 1, not_ready: 1, ..AbleWorkers::default() }
    );
    let [broken] = &explained.not_ready[..] else { panic!("{explained:?}") };
    assert_eq!((broken.worker.as_str(), &*broken.why), ("w27", "w27 is broken"));
    let counts: Vec<_> = explained
        .rules
        .iter()
        .map(|rule| (rule.rule.to_string(), rule.pass, rule.fail, rule.fail_only_this))
        .collect();
    assert_eq!(
        counts,
        [
            ("service".into(), 28, 0, 0),
            ("hardware.gpu_memory_gb".into(), 3, 25, 24),
            ("customer".into(), 28, 0, 0),
            ("labels.zone".into(), 27, 1, 0),
        ]
    );
    let memory = &explained.rules[1];
    assert_eq!((explained.offline, memory.fail_there, memory.fail_only_this_there), (1, 24, 23));
    assert_eq!(memory.failing.len(), 20);
    assert_eq!(memory.failing[0].worker, Some(worker("w01")), "the nearest misses first");
    assert_eq!(memory.failing[0].found, "the largest has 24 GiB");
    assert!(memory.failing.iter().all(|worker| !worker.offline), "those that are there first");
    let mut told = explained.clone();
    told.forget_workers();
    assert_eq!(told.rules[1].fail, 25);
    assert!(told.rules.iter().all(|rule| rule.failing.is_empty()));
}

#[test]
fn who_is_offline_is_named_behind_those_that_are_there_and_as_such() {
    let asked = class(json!({"models": ["c.safetensors"], "labels": {"zone": {"eq": "b"}}}));
    let ids = [worker("gone"), worker("there")];
    let mut near = ordinary();
    near.labels.insert("zone".into(), LabelValue::Text("b".into()));
    let offers = [near, ordinary()];
    let states = [Availability::Offline, Availability::Free];
    let workers = ids.iter().zip(&offers).zip(states).map(|((id, has), state)| (id, has, state));
    let explained = explain(&asked, Throttle::default(), workers, |_| None);
    let models = explained.rules.iter().find(|outcome| outcome.rule == Rule::Models).unwrap();
    let named: Vec<_> = models.failing.iter().map(|f| (f.worker.clone(), f.offline)).collect();
    assert_eq!(named, [(Some(worker("there")), false), (Some(worker("gone")), true)]);
}

#[test]
fn why_a_worker_is_not_ready_is_said_where_its_service_may_have_what_it_seems_to_lack() {
    let asked = class(json!({"labels": {"zone": {"eq": "b"}}, "models": ["c.safetensors"]}));
    let ids = [worker("broken"), worker("well")];
    let states = [Availability::NotReady, Availability::Free];
    let offers = ordinary();
    let workers = ids.iter().zip(states).map(|(id, state)| (id, &offers, state));
    let mut explained =
        explain(&asked, Throttle::default(), workers, |id| Some(format!("{id} is broken")));
    let said = |explained: &Explanation, rule: Rule| -> Vec<Option<String>> {
        let outcome = explained.rules.iter().find(|outcome| outcome.rule == rule).unwrap();
        assert_eq!(outcome.fail, 2);
        outcome.failing.iter().map(|failing| failing.not_ready.clone()).collect()
    };
    let because = Some("broken is broken".to_owned());
    assert_eq!(said(&explained, Rule::Models), [because, None]);
    assert_eq!(said(&explained, Rule::Label("zone".into())), [None, None]);
    explained.forget_workers();
    assert!(said(&explained, Rule::Models).is_empty());
}

#[test]
fn an_explanation_survives_json() {
    let explained = explained();
    let text = serde_json::to_string(&explained).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), explained);
}

#[test]
fn every_rule_is_read_back_from_its_name() {
    let rules = [
        Rule::Service,
        Rule::Unknown,
        Rule::GpuMemory,
        Rule::GpuCount,
        Rule::CpuCores,
        Rule::Ram,
        Rule::Customer,
        Rule::Isolation,
        Rule::Label("must_not.labels.x".into()),
        Rule::MustNotLabel("a b.c".into()),
        Rule::Models,
        Rule::NodeClasses,
        Rule::MustNotModels,
        Rule::MustNotWorkers,
        Rule::Excluded,
    ];
    for rule in rules {
        assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
    }
    assert!("gpu".parse::<Rule>().is_err());
}

#[test]
fn a_class_says_in_a_few_words_what_it_asks() {
    assert_eq!(class(json!({})).wants(), None);
    let asked = class(json!({"hardware": {"gpu_memory_gb": 48}, "models": ["a.safetensors"]}));
    let wants = "a GPU with at least 48 GiB; all of the models a.safetensors";
    assert_eq!(asked.wants().unwrap(), wants);
    let labels: serde_json::Map<_, _> = (0..30)
        .map(|i| (format!("{i:02}-{}", "x".repeat(50)), json!({"eq": "y".repeat(90)})))
        .collect();
    let wants = class(json!({"labels": labels})).wants().unwrap();
    assert!(wants.ends_with("; and 26 more"), "{wants}");
    assert!(wants.len() < 1_000, "{wants}");
}
