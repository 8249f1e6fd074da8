//! Most renewals change no record: what only sets scores is checked like everything else.

use pointsman_core::{Rejected, record::ConnectorStatus};
use redis::Value;

use crate::support::{by_hand, call_by_hand, fleet_on, prefix};

/// `meta` may become another's between what a renewal reads and what it writes.
#[tokio::test]
async fn another_history_or_a_newer_version_is_told() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let epoch = fleet.store.epoch().to_string();
    let told = |epoch: &str| call_by_hand(&prefix, "hear", &["", epoch, ""]);
    let is = |kind: &str, found: &str| {
        Value::Array([kind, found].map(|part| Value::BulkString(part.into())).into())
    };
    assert_eq!(told("another"), is("epoch", &epoch));
    by_hand(&prefix, "HSET meta format 99");
    assert_eq!(told(&epoch), is("newer", "99"));
    by_hand(&prefix, "HSET meta format 4");
    fleet.report(&hand, ConnectorStatus::Idle).await;
}

#[tokio::test]
async fn nobody_is_heard_while_an_import_fills_the_store() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    by_hand(&prefix, "HSET meta importing 1");
    let refused = fleet.renew(&hand, Vec::new(), ConnectorStatus::Idle).await;
    assert_eq!(refused, Err(Rejected::Importing));
    by_hand(&prefix, "HDEL meta importing");
    fleet.report(&hand, ConnectorStatus::Idle).await;
}
