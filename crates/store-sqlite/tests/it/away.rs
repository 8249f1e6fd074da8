//! This process, or its host, was away, and nobody tells the store so.

use std::time::Duration;

use pointsman_core::decide::limits;
use pointsman_store::Due;

use crate::support::fleet_with;

#[tokio::test]
async fn a_pause_before_a_look_is_not_the_workers_silence() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_with(dir.path(), |o| o.contact_gap = Some(Duration::from_secs(3)));
    let hand = fleet.worker("w", 1, &[]).await;
    fleet.running(&hand).await;
    let seconds = |n: u64| Duration::from_secs(n);
    assert_eq!(fleet.reconcile(Due::Leases).await, 0);
    for hours in [1, 8] {
        fleet.advance(seconds(hours * 3600));
        for what in [Due::Leases, Due::Workers, Due::Machines, Due::Connectors] {
            assert_eq!(fleet.reconcile(what).await, 0, "{what:?}");
        }
    }
    let (mut lost, mut passed) = (0, seconds(0));
    while lost == 0 {
        fleet.advance(seconds(2));
        passed += seconds(2);
        lost = fleet.reconcile(Due::Leases).await;
    }
    assert_eq!(passed, limits::LEASE, "from then on the silence is the worker's own");
}
