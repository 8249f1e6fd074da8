//! A write that fails: its caller is told, nothing of it is there, and its neighbours go on.

use std::{path::Path, sync::Arc, time::Duration};

use futures::future::join_all;
use pointsman_core::{Command, command::Idempotency, decide::limits};
use pointsman_store::{
    Health, StoreError,
    conformance::fleet::{Fleet, spec},
};

use rusqlite::Connection;

use crate::support::{count, database, durable_picture, fleet, fleet_with, until};

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

/// The database refuses every write, until it is mended.
const BROKEN: &str = "CREATE TRIGGER broken BEFORE UPDATE ON position
    BEGIN SELECT RAISE(ABORT, 'a test refuses everything'); END";
const MENDED: &str = "DROP TRIGGER broken";

fn patient(dir: &Path) -> Connection {
    let disk = database(dir);
    disk.busy_timeout(Duration::from_secs(60)).unwrap();
    disk
}

#[tokio::test]
async fn a_store_that_cannot_write_works_again_once_it_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path());
    let hand = fleet.worker("w", 1, &[]).await;
    let disk = patient(dir.path());
    disk.execute_batch(BROKEN).unwrap();
    assert!(matches!(submit(&fleet, "fine").await, Err(StoreError::Failed(_))));
    assert_eq!(fleet.claim(&hand).await, None);
    let health = fleet.store.health();
    assert!(matches!(health, Health::Failed(_)), "a claim of nothing writes nothing: {health:?}");

    // Nobody asks it for anything: it looks by itself.
    disk.execute_batch(MENDED).unwrap();
    let store = fleet.store.clone();
    until("it works again", move || store.health() == Health::Ready).await;
    submit(&fleet, "fine").await.unwrap();
    assert_eq!(fleet.check().await, Ok(()));
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_deleted_also_where_that_failed_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path());
    let mut submission = fleet.submission(spec(50));
    submission.idempotency = Some(Idempotency { key: "order-7".into(), body: [0; 32] });
    fleet.run(Command::Submit(submission)).await.unwrap();
    let disk = patient(dir.path());
    disk.execute_batch(BROKEN).unwrap();
    fleet.advance(limits::IDEMPOTENCY + Duration::from_secs(1));
    submit(&fleet, "fine").await.unwrap_err();
    assert_eq!(count(&disk, "idempotency"), 1);
    disk.execute_batch(MENDED).unwrap();
    submit(&fleet, "fine").await.unwrap();
    assert_eq!(count(&disk, "idempotency"), 0);
}

#[tokio::test]
async fn what_was_not_written_cuts_nothing_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet_with(dir.path(), |options| options.log.bytes = 30_000);
    for _ in 0..10 {
        fleet.submit(spec(50)).await;
    }
    let disk = patient(dir.path());
    disk.execute_batch(BROKEN).unwrap();
    for _ in 0..100 {
        submit(&fleet, "fine").await.unwrap_err();
    }
    disk.execute_batch(MENDED).unwrap();
    submit(&fleet, "fine").await.unwrap();
    assert_eq!(fleet.log().await.len(), 11);
}
