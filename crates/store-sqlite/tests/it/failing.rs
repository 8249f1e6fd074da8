//! A write that fails: its caller is told, nothing of it is there, and its neighbours go on.

use std::sync::Arc;

use futures::future::join_all;
use pointsman_core::Command;
use pointsman_store::{
    Health, StoreError,
    conformance::fleet::{Fleet, spec},
};

use crate::support::{database, durable_picture, fleet};

/// The database refuses payloads that say so.
const TRIGGER: &str = "CREATE TRIGGER refuse BEFORE INSERT ON payloads
    WHEN CAST(NEW.payload AS TEXT) = 'poison'
    BEGIN SELECT RAISE(ABORT, 'a test refuses this'); END";

async fn submit(fleet: &Fleet, payload: &str) -> Result<(), StoreError> {
    let mut submission = fleet.submission(spec(50));
    submission.payload = Arc::from(payload.as_bytes());
    fleet.store.execute(vec![Command::Submit(submission)]).await.map(drop)
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    fleet(dir.path()).store.close().await.unwrap();
    database(dir.path()).execute_batch(TRIGGER).unwrap();
    let fleet = fleet(dir.path());
    submit(&fleet, "fine").await.unwrap();
    let before = durable_picture(&*fleet.store).await;

    let failed = submit(&fleet, "poison").await;
    assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
    assert!(matches!(fleet.store.health(), Health::Failed(_)));
    assert_eq!(durable_picture(&*fleet.store).await, before);
    assert_eq!(fleet.log().await.len(), 1);

    let many =
        join_all((0..60).map(|n| submit(&fleet, if n % 20 == 7 { "poison" } else { "fine" })));
    let failed = many.await.iter().filter(|done| done.is_err()).count();
    assert_eq!(failed, 3);
    assert_eq!(fleet.store.health(), Health::Ready);
    assert_eq!(fleet.log().await.len(), 58);
    assert_eq!(fleet.check().await, Ok(()));
    let before = durable_picture(&*fleet.store).await;
    fleet.store.close().await.unwrap();
    let again = crate::support::fleet(dir.path());
    assert_eq!(durable_picture(&*again.store).await, before);
}
