//! What is removed: a wrong number in `meta` costs nobody a job.

use std::time::Duration;

use pointsman_core::{
    JobId, LossReason,
    command::{Op, Reconcile},
    doctor::MendOutcome,
};
use pointsman_store::{
    Depth, Due, Retention,
    conformance::fleet::{Fleet, completed, late_file},
};

use crate::support::{by_hand, fleet_on, prefix};

async fn removed(fleet: &Fleet, ended_bytes: u64) -> Vec<JobId> {
    let keep = Retention { ended_bytes, ..Retention::default() };
    let due = fleet.store.due(Due::Ended(keep)).await.expect("it is looked at");
    let jobs = due.iter().map(|due| match due {
        Reconcile::RemoveJob { job } => *job,
        other => panic!("{other:?}"),
    });
    jobs.collect()
}

#[tokio::test]
async fn bytes_are_counted_before_anything_is_removed_for_them() {
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        ended.push(fleet.completed(&hand).await);
    }
    let bytes = fleet.job(ended[0]).await.bytes();
    assert!(bytes > 0);
    let sum = 3 * bytes;
    assert_eq!(removed(&fleet, sum).await, []);
    for wrong in [sum + 1, 99_999_999_999_999] {
        by_hand(&prefix, &format!("HSET meta ended_bytes {wrong}"));
        assert_eq!(removed(&fleet, sum).await, [], "{wrong}");
        assert_eq!(removed(&fleet, sum - 1).await, [ended[0]], "{wrong}");
        assert_eq!(removed(&fleet, bytes).await, ended[..2], "{wrong}");
    }
    // What ends since then counts by what it adds.
    let held = fleet.running(&hand).await;
    fleet.act(&hand, held, completed()).await.expect("it ends");
    ended.push(held.job);
    assert_eq!(removed(&fleet, sum).await, [ended[0]]);
    assert_eq!(
        fleet.reconcile(Due::Ended(Retention { ended_bytes: sum, ..Retention::default() })).await,
        1
    );
    assert_eq!(removed(&fleet, sum).await, []);
    fleet.advance(Duration::from_secs(600));
    assert_eq!(removed(&fleet, sum).await, []);
}

/// As a version left it that did not count the files of late results.
#[tokio::test]
async fn a_repair_counts_the_late_files_from_before() {
    const FILE: u64 = 1_000;
    let (fleet, options) = fleet_on();
    let prefix = prefix(&options);
    let hand = fleet.worker("w", 1, &[]).await;
    let lost = fleet.running(&hand).await;
    let release = Op::Release { reason: LossReason::ServiceLost, message: String::new() };
    fleet.act(&hand, lost, release).await.expect("it is given back");
    let held = fleet.claim(&hand).await.expect("the job");
    fleet.act(&hand, held, completed()).await.expect("it ends");
    fleet.act(&hand, lost, late_file(FILE)).await.expect("it is kept");
    let bytes = fleet.job(lost.job).await.bytes();
    by_hand(&prefix, &format!("HINCRBY meta ended_bytes -{FILE}"));
    let found = fleet.store.examine(Depth::Everything).await.expect("it is examined").findings;
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.id, "wrong_count:index/bytes_of_ended_jobs");
    assert!(finding.problem.contains(&bytes.to_string()), "{finding:?}");
    assert!(finding.is_repaired_by_itself(), "{finding:?}");
    let mended = fleet.store.mend(None).await.expect("it is mended");
    assert!(mended.iter().all(|mended| mended.outcome == MendOutcome::Repaired), "{mended:?}");
    fleet.check().await.expect("nothing is wrong any more");
    assert_eq!(removed(&fleet, bytes).await, []);
    assert_eq!(removed(&fleet, bytes - 1).await, [lost.job]);
    // Unmended, it is below 0 once the job is gone.
    by_hand(&prefix, &format!("HINCRBY meta ended_bytes -{FILE}"));
    let none = Due::Ended(Retention { ended_bytes: 0, ..Retention::default() });
    assert_eq!(fleet.reconcile(none).await, 1);
    fleet.store.mend(None).await.expect("it is mended");
    fleet.check().await.expect("nothing is wrong any more");
}
