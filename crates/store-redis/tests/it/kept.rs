//! What is kept of idempotency keys, as the doctor sees it: Redis removes it by itself, and not at the
//! moment when the index forgets it.

use std::time::Duration;

use pointsman_core::{
    Command,
    command::{Idempotency, Submit},
    decide::limits,
};
use pointsman_store::conformance::fleet::{Fleet, spec};
use redis::Value;

use crate::{
    keyspace::dump,
    support::{by_hand, fleet_on, prefix},
};

/// A fleet that keeps one key, and where.
async fn scene() -> (Fleet, String, String) {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let idempotency = Some(Idempotency { key: "k".into(), body: [7; 32] });
    let submit = Submit { idempotency, ..fleet.submission(spec(50)) };
    fleet.run(Command::Submit(submit)).await.expect("accepted");
    let all = dump(&prefix);
    let mut keys = all.keys().filter_map(|key| key.strip_prefix(&prefix));
    let kept = keys.find(|key| key.starts_with("idempotency:")).expect("it is kept").to_owned();
    (fleet, prefix, kept)
}

#[tokio::test]
async fn what_is_over_may_be_there_or_not() {
    let (fleet, prefix, kept) = scene().await;
    fleet.advance(limits::IDEMPOTENCY);
    fleet.check().await.expect("it is in both");
    by_hand(&prefix, &format!("RENAME {kept} {prefix}elsewhere"));
    fleet.check().await.expect("Redis was faster");
    by_hand(&prefix, &format!("RENAME elsewhere {prefix}{kept}"));
    by_hand(&prefix, "DEL idempotency");
    fleet.check().await.expect("the index was faster");
}

#[tokio::test]
async fn what_is_of_a_wrong_type_is_told_once() {
    let (fleet, prefix, kept) = scene().await;
    by_hand(&prefix, &format!("DEL {kept}"));
    by_hand(&prefix, &format!("RPUSH {kept} x"));
    assert_eq!(fleet.findings().await, [format!("wrong_type:index/{kept}")]);
}

/// Redis removes it by itself, and not before its time.
#[tokio::test]
async fn what_is_kept_of_an_idempotency_key_lives_as_long_as_it_counts() {
    let (_fleet, prefix, kept) = scene().await;
    let Value::Int(left) = by_hand(&prefix, &format!("PTTL {kept}")) else { panic!("no time") };
    let left = Duration::from_millis(u64::try_from(left).expect("a time"));
    let most = limits::IDEMPOTENCY;
    assert!((most - Duration::from_secs(60)..=most).contains(&left), "{left:?}");
}
