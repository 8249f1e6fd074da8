//! The clock of Redis' host is set back.

use std::time::Duration;

use pointsman_core::{
    decide::limits,
    record::{ConnectorStatus, MachineStatus},
};
use pointsman_store::{Clock as _, Due, conformance::fleet::spec};

use crate::support::{by_hand, call_by_hand, fleet_on, prefix};

const BACK: Duration = Duration::from_secs(2 * 3600);

/// After a fail-over nobody claims for a moment; that is no longer when the clock is set back in it, or
/// was after it.
#[tokio::test]
async fn a_calm_is_short() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let job = fleet.submit(spec(50)).await;
    by_hand(&prefix, "HSET meta replid another");
    let now = fleet.store.now().as_millis().to_string();
    let epoch = fleet.store.epoch().to_string();
    call_by_hand(&prefix, "open", &[&options.fleet, "failed-over", &epoch, &now, ""]);
    assert_eq!(fleet.claim(&hand).await, None, "workers first take back what they run");
    let calm = async || fleet.store.explain(job).await.unwrap().unwrap().0.calm_until;
    assert_eq!(calm().await, Some(fleet.store.now() + limits::CALM));
    fleet.clock.set_back(BACK);
    fleet.reconcile(Due::Leases).await;
    assert_eq!(fleet.claim(&hand).await, None, "they may still be about to");
    fleet.advance(Duration::from_secs(5));
    assert_eq!(calm().await, None);
    assert!(fleet.claim(&hand).await.is_some());
}

/// The clock of the one that takes over is behind: what was heard by the other one's is heard by
/// nobody now.
#[tokio::test]
async fn who_is_away_is_found_out_by_a_clock_that_is_behind() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let gone = fleet.worker("gone", 1, &[]).await;
    fleet.advance(limits::SILENT_AFTER);
    fleet.reconcile(Due::Workers).await;
    fleet.reconcile(Due::Machines).await;
    let dead = fleet.worker("dead", 1, &[]).await;
    let well = fleet.worker("well", 1, &[]).await;
    fleet.reconcile(Due::Machines).await;
    fleet.clock.set_back(BACK);
    by_hand(&prefix, "HSET meta replid another");
    let now = (fleet.clock.now()).as_millis().to_string();
    let epoch = fleet.store.epoch().to_string();
    call_by_hand(&prefix, "open", &[&options.fleet, "failed-over", &epoch, &now, ""]);
    let status = async |hand| fleet.machine_record(hand).await.status;
    for second in 1..=limits::SILENT_AFTER.as_secs() {
        fleet.reconcile(Due::Machines).await;
        assert_eq!(status(&gone).await, MachineStatus::Disconnected, "after {second} s");
        assert_eq!(status(&dead).await, MachineStatus::Ready, "after {second} s");
        fleet.advance(Duration::from_secs(1));
        fleet.report(&well, ConnectorStatus::Idle).await;
    }
    fleet.reconcile(Due::Workers).await;
    fleet.reconcile(Due::Machines).await;
    assert!(fleet.worker_record(&dead).await.is_offline());
    assert_eq!(status(&dead).await, MachineStatus::Disconnected);
    assert_eq!(status(&well).await, MachineStatus::Ready);
}
