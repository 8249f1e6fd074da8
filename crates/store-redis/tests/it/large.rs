//! More in one step than Lua takes in one call.

use pointsman_core::{Command, record::ConnectorStatus};
use pointsman_store::{Due, conformance::fleet::spec};

use crate::support::fleet_on;

const JOBS: usize = 4_096;
/// Tokens in one claim at most.
const CLAIM: usize = 1_024;

#[tokio::test]
async fn a_worker_with_thousands_of_jobs_renews_and_leaves_in_one_step() {
    let (fleet, _) = fleet_on();
    let worker = u32::try_from(JOBS).expect("a small number");
    let hand = fleet.worker("w", worker, &[]).await;
    for _ in 0..JOBS / CLAIM {
        let submits = (0..CLAIM).map(|_| Command::Submit(fleet.submission(spec(50))));
        fleet.store.execute(submits.collect()).await.expect("the store works");
    }
    let mut held = Vec::new();
    for _ in 0..JOBS / CLAIM {
        let tokens = (0..CLAIM).map(|_| fleet.token()).collect();
        held.extend(fleet.claim_with(&hand, tokens).await);
    }
    assert_eq!(held.len(), JOBS);
    fleet.advance(std::time::Duration::from_secs(5));
    let renewed = fleet.renew(&hand, held.clone(), ConnectorStatus::Active).await;
    assert!(renewed.expect("a valid renewal").lost.is_empty());
    fleet.advance(std::time::Duration::from_secs(6));
    assert_eq!(fleet.reconcile(Due::Leases).await, 0, "every lease was renewed");
    let leave = Command::Leave { worker: hand.worker.clone(), incarnation: hand.incarnation };
    fleet.run(leave).await.expect("it leaves");
    for held in held.iter().step_by(CLAIM) {
        assert!(fleet.job(held.job).await.is_waiting());
    }
    fleet.check().await.expect("the log tells what is there");
}
