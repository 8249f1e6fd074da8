//! Damage to `meta`, which has the numbers that everything else goes by.

use std::time::Duration;

use pointsman_core::doctor::{Mend, MendOutcome};
use pointsman_store_redis::OpenError;

use super::Scene;
use crate::support::{by_hand, try_open};

#[tokio::test]
async fn fields_of_meta_are_made_right() {
    let scene = Scene::new().await;
    let epoch = format!("HSET meta epoch {}", "x".repeat(100));
    for damage in [
        epoch.as_str(),
        "HDEL meta contact_since",
        "HSET meta contact_since 01",
        "HSET meta calm_until garbage",
        "HSET meta calm_until +1",
    ] {
        by_hand(&scene.prefix, damage);
        let found = scene.examine().await;
        assert!(found.has("unreadable_field:index/meta"), "{damage}: {found:?}");
        let mended = scene.fleet.store.mend(None).await.expect("it is mended");
        assert_eq!(mended[0].outcome, MendOutcome::Repaired, "{damage}");
        scene.works().await;
    }
    for damage in ["HSET meta losses garbage", "HSET meta losses 00", "HSET meta pending 02"] {
        scene.is_mended(damage, "wrong_count:index/meta").await;
    }
    scene.works().await;
}

/// What nobody can work out by itself is told with what to do by hand, and that works.
#[tokio::test]
async fn the_last_numbers_of_meta_are_told() {
    let scene = Scene::new().await;
    let behind = "HSET meta seq 1";
    for damage in [
        "HSET meta seq garbage",
        "HSET meta seq 0100",
        "HSET meta seq +100",
        "HDEL meta ended_no",
        "HSET meta ended_no 07",
        "HSET meta seq x ended_no y",
        behind,
    ] {
        scene.works().await;
        let whole = by_hand(&scene.prefix, "HMGET meta seq ended_no");
        by_hand(&scene.prefix, damage);
        let found = scene.examine().await;
        let [finding] = &found.findings[..] else { panic!("{damage}: {found:?}") };
        assert_eq!(finding.id, "unreadable_field:index/meta");
        let mended = scene.fleet.store.mend(None).await.expect("it is no failure");
        assert!(matches!(mended[0].outcome, MendOutcome::Left { .. }), "{mended:?}");
        if damage.contains(" seq ") && damage != behind {
            let refused = try_open(scene.options.clone()).map(drop);
            let why = refused.expect_err("it does not open").to_string();
            let said = ["meta seq is", "XREVRANGE", "HSET"];
            assert!(said.iter().all(|said| why.contains(said)), "{why}");
        }
        let told = finding.cure.split('`').nth(1).expect("a command");
        by_hand(&scene.prefix, &told.replace(&scene.prefix, ""));
        assert_eq!(by_hand(&scene.prefix, "HMGET meta seq ended_no"), whole, "{told}");
    }
    scene.works().await;
}

#[tokio::test]
async fn of_many_entries_behind_the_log_some_are_named_until_none_is_left() {
    let scene = Scene::new().await;
    for n in 0..12 {
        by_hand(&scene.prefix, &format!("XADD log 9999-{n} a b"));
    }
    for (more, then) in [(" and at least 2 more", "then look again"), ("", "everything goes on")] {
        let found = scene.examine().await;
        let [finding] = &found.findings[..] else { panic!("{found:?}") };
        let (_, named) = finding.problem.split_once("behind it: ").expect("they are named");
        let told = finding.cure.split('`').nth(1).expect("a command");
        let ids = told.split_once("log ").expect("the log's entries").1;
        assert_eq!(named, format!("{ids}{more}"));
        assert!(finding.cure.contains(&format!("`: {then}")), "{finding:?}");
        by_hand(&scene.prefix, &told.replace(&scene.prefix, ""));
    }
    scene.works().await;
}

/// A lost `meta` is a finding, too, with and without a connection; made anew as it is said in
/// docs/operating.md, it does.
#[tokio::test]
async fn a_lost_meta_is_told_and_can_be_made_anew() {
    let scene = Scene::new().await;
    let number = |command: &str| match by_hand(&scene.prefix, command) {
        redis::Value::BulkString(text) => String::from_utf8(text).expect("a number"),
        other => panic!("{command}: {other:?}"),
    };
    let [seq, ended_no, rev] =
        ["seq", "ended_no", "classes_rev"].map(|field| number(&format!("HGET meta {field}")));
    by_hand(&scene.prefix, "DEL meta");
    let is_told = async || {
        let found = scene.examine().await;
        let [finding] = &found.findings[..] else { panic!("{found:?}") };
        assert_eq!(
            (finding.id.as_str(), finding.mend),
            ("unreadable_field:index/meta", Mend::None)
        );
        assert!(finding.problem.contains("meta is gone"), "{finding:?}");
        assert!(finding.cure.contains("docs/operating.md"), "{finding:?}");
    };
    is_told().await;
    scene.fleet.store.break_contact().await.expect_err("nothing works");
    is_told().await;
    let refused = try_open(scene.options.clone()).map(drop);
    assert!(matches!(refused, Err(OpenError::Lost { .. })), "{refused:?}");
    by_hand(&scene.prefix, "HSET meta acks_at 1");
    is_told().await;
    let documented = include_str!("../../../../../docs/operating.md").lines();
    let documented = documented.filter_map(|line| line.strip_prefix("HSET {pointsman:FLEET}:"));
    let documented: Vec<&str> = documented.collect();
    let [documented] = documented[..] else { panic!("one such command: {documented:?}") };
    let command = documented
        .replace("CLASSES_REV", &rev)
        .replace("ENDED_NO", &ended_no)
        .replace("SEQ", &seq)
        .replace("FLEET", &scene.options.fleet);
    by_hand(&scene.prefix, &format!("HSET {command}"));
    scene.fleet.store.mend(None).await.expect("it is mended");
    assert!(scene.examine().await.is_sound());
    // Workers first take back what they run.
    scene.fleet.advance(Duration::from_secs(6));
    scene.works().await;
}
