//! Moving house, and what of it survives a restart.

use std::{any::Any, path::Path, sync::Arc, time::Duration};

use pointsman_core::{Rejected, record::Job};
use pointsman_store::{
    Clock, Depth, Examination, Intake, ManualClock, MemStore, RECORDS, Store, Transfer,
    conformance::fleet::{Fleet, Hand, completed, late, spec},
    transfer::{ExportOptions, check, export, import},
};
use pointsman_store_sqlite::{OpenError, Opening, Options, SqliteStore};

use crate::support::{
    by_an_older_program, count, database, durable_picture, oldest_writer, options,
    submit_and_finish,
};

fn open(clock: ManualClock) -> (Arc<dyn Transfer>, Box<dyn Any>) {
    let dir = tempfile::tempdir().unwrap();
    let clock: Option<Arc<dyn Clock>> = Some(Arc::new(clock));
    let options = Options { clock, contact_gap: None, reserve_bytes: 0, ..Options::default() };
    (Arc::new(SqliteStore::open(dir.path(), options).unwrap()), Box::new(dir))
}

pointsman_store::transfer_tests!(open);

fn open_in(dir: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(dir, options(&ManualClock::default()))
}

fn open_for(dir: &Path, opening: Opening) -> SqliteStore {
    SqliteStore::open(dir, Options { opening, ..Options::default() }).unwrap()
}

/// A store in memory with an ended, a running and a waiting job, as a stream.
async fn stream() -> (Fleet, Hand, Arc<Job>, Vec<u8>) {
    let clock = ManualClock::default();
    let store = Arc::new(MemStore::new(Arc::new(clock.clone())));
    let fleet = Fleet::on(&store);
    let hand = fleet.worker("w", 2, &["x"]).await;
    submit_and_finish(&fleet, &hand).await;
    let held = fleet.running(&hand).await;
    fleet.submit(spec(50)).await;
    let running = fleet.job(held.job).await;
    clock.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: true };
    let mut stream = Vec::new();
    export(&*store, &options, &mut stream, &mut |_| ()).await.unwrap();
    (fleet, hand, running, stream)
}

#[tokio::test]
async fn an_imported_store_is_the_same_after_a_restart() {
    let (_, hand, running, stream) = stream().await;
    let dir = tempfile::tempdir().unwrap();
    let store = open_for(dir.path(), Opening::Import);
    let done = import(&store, &stream[..], &mut |_| ()).await.unwrap();
    let before = durable_picture(&store).await;
    store.close().await.unwrap();
    drop(store);

    let again = Arc::new(open_in(dir.path()).unwrap());
    assert_eq!(durable_picture(&*again).await, before);
    assert_eq!(again.epoch(), done.epoch);
    assert_eq!(again.examine(Depth::Everything).await, Ok(Examination::default()));
    drop(again);
    // Its records are a hundred years ahead of the wall clock.
    let again = Arc::new(SqliteStore::open(dir.path(), Options::default()).unwrap());
    assert!(again.now() >= done.header.at);

    // What is handed in from now on comes after what was imported.
    let fleet = Fleet::on(&again);
    let job = fleet.job(running.id).await;
    let past = job.past.last().unwrap();
    let held =
        pointsman_core::command::Held { job: job.id, attempt: past.attempt, token: past.token };
    fleet.act(&hand, held, late()).await.unwrap();
    assert_eq!(again.results(job.id).await.unwrap().len(), 1);
    assert!(fleet.act(&hand, held, completed()).await.is_err());
    assert_eq!(fleet.check().await, Ok(()));
}

#[tokio::test]
async fn a_closed_intake_stays_closed_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).unwrap();
    store.set_intake(false).await.unwrap();
    drop(store);
    assert_eq!(oldest_writer(dir.path()), RECORDS.to_string());
    let fleet = crate::support::fleet(dir.path());
    let submit = pointsman_core::Command::Submit(fleet.submission(spec(50)));
    assert_eq!(fleet.run(submit).await.err(), Some(Rejected::IntakeClosed));
    drop(fleet);
    let store = open_in(dir.path()).unwrap();
    store.set_intake(true).await.unwrap();
    drop(store);
    assert_eq!(oldest_writer(dir.path()), RECORDS.to_string());
    crate::support::fleet(dir.path()).submit(spec(50)).await;
}

/// An older program goes on with a store that was looked at, closed, exported and opened again.
#[tokio::test]
async fn an_export_takes_over_no_store() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::fleet(dir.path()).submit(spec(50)).await;
    by_an_older_program(dir.path());
    let store = open_for(dir.path(), Opening::Visit);
    store.set_intake(false).await.unwrap();
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: false };
    export(&store, &options, &mut Vec::new(), &mut |_| ()).await.unwrap();
    store.set_intake(true).await.unwrap();
    drop(store);
    assert_eq!(oldest_writer(dir.path()), "1");
}

/// An older program goes on with a store that is not empty, and so was not imported into.
#[tokio::test]
async fn a_refused_import_takes_over_no_store() {
    let (.., stream) = stream().await;
    let dir = tempfile::tempdir().unwrap();
    crate::support::fleet(dir.path()).submit(spec(50)).await;
    by_an_older_program(dir.path());
    let into = || open_for(dir.path(), Opening::Import);
    let refused = import(&into(), &stream[..], &mut |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("empty"), "{refused}");
    assert_eq!(oldest_writer(dir.path()), "1");
    // What it does import into is its own, from the first step on.
    let dir = tempfile::tempdir().unwrap();
    drop(open_in(dir.path()).unwrap());
    by_an_older_program(dir.path());
    let store = open_for(dir.path(), Opening::Import);
    let (header, _) = check(&stream[..]).await.unwrap();
    store.begin_import(&header).await.unwrap();
    assert_eq!(oldest_writer(dir.path()), RECORDS.to_string());
}

#[tokio::test]
async fn an_import_that_broke_off_is_told_and_begins_anew() {
    let (fleet, .., stream) = stream().await;
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).unwrap();
    let (header, _) = check(&stream[..]).await.unwrap();
    store.begin_import(&header).await.unwrap();
    let jobs = fleet.store.jobs(Default::default(), None, 10).await.unwrap().jobs;
    let items = jobs
        .into_iter()
        .map(|job| pointsman_store::transfer::Item::Record(pointsman_core::Record::Job(job)));
    store.import(items.collect()).await.unwrap();
    drop(store);
    assert_eq!(count(&database(dir.path()), "jobs"), 3);

    let refused = open_in(dir.path()).err().expect("a half import is not served");
    assert!(matches!(refused, OpenError::HalfImported { .. }), "{refused:?}");
    assert!(refused.to_string().contains("pointsman import"), "{refused}");
    assert_eq!(oldest_writer(dir.path()), RECORDS.to_string());
    let store = SqliteStore::open(
        dir.path(),
        Options { opening: Opening::Import, ..options(&ManualClock::default()) },
    )
    .unwrap();
    assert_eq!(count(&database(dir.path()), "jobs"), 0);
    assert_eq!(store.intake().await, Ok(Intake::Open));
    import(&store, &stream[..], &mut |_| ()).await.unwrap();
    drop(store);
    let again = open_in(dir.path()).unwrap();
    assert_eq!(again.jobs(Default::default(), None, 10).await.unwrap().jobs.len(), 3);
}
