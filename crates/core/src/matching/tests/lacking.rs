//! What is said of workers that are not able to run a job.

use super::*;
use crate::matching::{Availability, Throttle, explain};

/// What these workers lack, in the words for people; `not_ready` are those that are not.
fn lacking(asked: &Class, workers: &[(&str, Capabilities)], not_ready: &[&str]) -> String {
    let ids: Vec<WorkerId> = workers.iter().map(|(id, _)| worker(id)).collect();
    let state = |id: &str| match () {
        () if not_ready.contains(&id) => Availability::NotReady,
        () if id.starts_with("gone") => Availability::Offline,
        () => Availability::Free,
    };
    let offers = ids.iter().zip(workers).map(|(id, (name, has))| (id, has, state(name)));
    explain(asked, Throttle::default(), offers, |_| Some("suspect".into())).lacking()
}

fn with(models: &[&str], node_classes: &[&str]) -> Capabilities {
    let has = json!({"models": models, "node_classes": node_classes});
    capabilities(json!({"services": {"comfyui": has}}))
}

#[test]
fn what_is_missing_is_named_and_not_all_that_is_asked_for() {
    let asked = class(json!({"node_classes": ["A", "B", "KSampler", "Z"]}));
    let two = [("a", with(&[], &["A", "KSampler"])), ("b", with(&[], &["A", "B", "KSampler"]))];
    assert_eq!(lacking(&asked, &two, &[]), "2 of 2 workers lack the node class Z");
    let none = [("a", with(&[], &["KSampler"])), ("b", with(&[], &["Other"]))];
    assert_eq!(lacking(&asked, &none, &[]), "2 of 2 workers lack the node classes A, B, Z");
    let asked = class(json!({"models": ["a.safetensors", "b.safetensors"]}));
    assert_eq!(
        lacking(&asked, &[("a", ordinary())], &[]),
        "1 of 1 workers lack the model b.safetensors"
    );
}

/// Each has what another has not.
#[test]
fn where_nothing_is_missing_everywhere_all_that_is_missing_somewhere_is_named() {
    let asked = class(json!({"models": ["a", "b", "c"]}));
    let workers = [("a", with(&["a", "c"], &[])), ("b", with(&["b", "c"], &[]))];
    assert_eq!(lacking(&asked, &workers, &[]), "2 of 2 workers lack some of the models a, b");
}

#[test]
fn what_those_lack_that_are_gone_counts_where_nobody_is_there() {
    let asked = class(json!({"models": ["a", "b"]}));
    let gone = ("gone", with(&["b"], &[]));
    let both = [gone.clone(), ("there", with(&["a"], &[]))];
    assert_eq!(lacking(&asked, &both, &[]), "1 of 1 workers lack the model b");
    assert_eq!(lacking(&asked, &[gone], &[]), "1 of 1 workers lack the model a");
}

/// One that was reached lacks what it lacks, ready or not.
#[test]
fn only_who_was_never_reached_may_have_what_it_seems_to_lack() {
    let asked = class(json!({"models": ["a", "b"]}));
    let both = [("silent", with(&[], &[])), ("reached", with(&["a"], &[]))];
    assert_eq!(lacking(&asked, &both[1..], &["reached"]), "1 of 1 workers lack the model b");
    assert_eq!(
        lacking(&asked, &both, &["silent", "reached"]),
        "2 of 2 workers lack the model b (silent is not ready: suspect)"
    );
    assert_eq!(
        lacking(&asked, &both[..1], &["silent"]),
        "1 of 1 workers lack all of the models a, b (silent is not ready: suspect)"
    );
    let gone = ("gone", with(&["a"], &[]));
    assert_eq!(
        lacking(&asked, &[gone, both[0].clone()], &["silent"]),
        "1 of 1 workers lack all of the models a, b (silent is not ready: suspect)",
        "who is gone does not speak for those that are there"
    );
}
