//! The clock of Redis' host is set back.

use std::time::Duration;

use pointsman_store::{Due, conformance::fleet::spec};

use crate::support::{by_hand, call_by_hand, fleet_on, prefix};

const BACK: Duration = Duration::from_secs(2 * 3600);

/// After a fail-over nobody claims for a moment; that is no longer when the clock is set back in it, or
/// was after it.
#[tokio::test]
async fn a_calm_is_short() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.submit(spec(50)).await;
    by_hand(&prefix, "HSET meta replid another");
    let now = fleet.store.now().as_millis().to_string();
    let epoch = fleet.store.epoch().to_string();
    call_by_hand(&prefix, "open", &[&options.fleet, "failed-over", &epoch, &now, ""]);
    assert_eq!(fleet.claim(&hand).await, None, "workers first take back what they run");
    fleet.clock.set_back(BACK);
    fleet.reconcile(Due::Leases).await;
    assert_eq!(fleet.claim(&hand).await, None, "they may still be about to");
    fleet.advance(Duration::from_secs(5));
    assert!(fleet.claim(&hand).await.is_some());
}
