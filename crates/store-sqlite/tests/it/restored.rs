//! A store that came back from a backup is in another epoch: workers then take back what they run,
//! and monitors begin anew.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use pointsman_core::command::{Held, Op, OpAnswer};
use pointsman_store::{
    Epoch, ManualClock, Store as _,
    conformance::fleet::{Fleet, Hand, spec},
};
use pointsman_store_sqlite::SqliteStore;
use tempfile::TempDir;

use crate::support::{count, database, fleet, fleet_with, options, until};

/// Opens and closes it, as a start and an orderly stop of a server do.
async fn start(dir: &Path) -> Epoch {
    let store = SqliteStore::open(dir, options(&ManualClock::default())).unwrap();
    store.close().await.unwrap();
    store.epoch()
}

/// The directory's files, as a copy of them has them.
fn copied(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn put(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (file, bytes) in files {
        // In place: the file stays the same one.
        fs::write(dir.join(file.file_name().unwrap()), bytes).unwrap();
    }
}

/// A backup while the server runs, as `sqlite3 .backup` makes it.
fn live_backup(dir: &Path) -> (TempDir, PathBuf) {
    let beside = tempfile::tempdir().unwrap();
    let file = beside.path().join("backup.db");
    database(dir).execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
    (beside, file)
}

#[tokio::test]
async fn a_store_that_only_stopped_is_in_the_same_epoch() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, moved) = (parent.path().join("store"), parent.path().join("moved"));
    let epoch = start(&dir).await;
    let open = SqliteStore::open(&dir, options(&ManualClock::default())).unwrap();
    assert!(SqliteStore::open(&dir, options(&ManualClock::default())).is_err(), "in use");
    open.close().await.unwrap();
    assert_eq!(start(&dir).await, epoch);
    fs::rename(&dir, &moved).unwrap();
    assert_eq!(start(&moved).await, epoch, "the same files, in a directory of another name");
}

#[tokio::test]
async fn a_directory_that_is_copied_back_is_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = start(dir.path()).await;
    let backup = copied(dir.path());
    assert_eq!(start(dir.path()).await, epoch);
    put(dir.path(), &backup);
    let restored = start(dir.path()).await;
    assert_ne!(restored, epoch, "over what was there");
    assert_eq!(start(dir.path()).await, restored, "once");

    let elsewhere = tempfile::tempdir().unwrap();
    put(elsewhere.path(), &backup);
    assert_ne!(start(elsewhere.path()).await, epoch);
}

#[tokio::test]
async fn a_database_that_is_put_back_is_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pointsman.db");
    let epoch = start(dir.path()).await;
    let open = SqliteStore::open(dir.path(), options(&ManualClock::default())).unwrap();
    let (_beside, backup) = live_backup(dir.path());
    // The kernel's clock for files goes in steps of some milliseconds.
    tokio::time::sleep(Duration::from_millis(50)).await;
    open.close().await.unwrap();
    fs::write(&path, fs::read(&backup).unwrap()).unwrap();
    let restored = start(dir.path()).await;
    assert_ne!(restored, epoch, "written over in place, after an orderly stop");
    fs::copy(&backup, dir.path().join("new")).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    assert_ne!(start(dir.path()).await, restored, "another file in its place");
}

#[tokio::test]
async fn what_nobody_can_see_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = start(dir.path()).await;
    let restored = fleet_with(dir.path(), |options| options.restored = true);
    assert_ne!(restored.store.epoch(), epoch);
    restored.store.close().await.unwrap();
    assert_eq!(start(dir.path()).await, restored.store.epoch(), "once");
}

/// Of a store that an older program wrote nothing is known.
#[tokio::test]
async fn a_store_of_an_older_program_is_in_the_same_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = start(dir.path()).await;
    database(dir.path()).execute("DELETE FROM meta WHERE key = 'identity'", []).unwrap();
    assert_eq!(start(dir.path()).await, epoch);
}

/// A fleet draws the same ids again when it is opened again: so many are passed over.
fn draw(fleet: &Fleet, ids: u32) {
    for _ in 0..ids {
        fleet.token();
    }
}

/// A running job that was waiting when the backup was made; and the directory as it then was.
async fn lost_claim(dir: &Path) -> (Hand, Hand, Held, Vec<(PathBuf, Vec<u8>)>) {
    let before = fleet(dir);
    let (runs, idle) = (before.worker("runs", 1, &[]).await, before.worker("idle", 1, &[]).await);
    before.submit(spec(50)).await;
    before.store.close().await.unwrap();
    let backup = copied(dir);
    let before = fleet(dir);
    draw(&before, 10);
    let held = before.claim(&runs).await.unwrap();
    before.act(&runs, held, Op::Start).await.unwrap();
    before.store.close().await.unwrap();
    (runs, idle, held, backup)
}

/// An idle worker that is heard first would else get the very attempt that the other one runs.
#[tokio::test]
async fn what_runs_is_taken_back_before_anything_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, idle, held, backup) = lost_claim(dir.path()).await;
    put(dir.path(), &backup);
    // A command looks at the store before its server does.
    start(dir.path()).await;

    let after = fleet(dir.path());
    draw(&after, 20);
    assert_eq!(after.claim(&idle).await, None, "not yet");
    let reclaimed = after.act(&runs, held, Op::Reclaim { started: true }).await;
    assert_eq!(reclaimed, Ok(OpAnswer::Reclaimed));
    let next = after.submit(spec(50)).await;
    assert_eq!(after.claim(&idle).await, None);
    let calm = async || after.store.explain(next).await.unwrap().unwrap().0.calm_until;
    assert!(calm().await.is_some_and(|until| until > after.store.now()), "and why is said");
    after.advance(Duration::from_secs(5));
    assert_eq!(calm().await, None);
    assert_eq!(after.claim(&idle).await.map(|held| held.job), Some(next));
    assert_eq!(after.job(held.job).await.attempt, held.attempt);
    assert_eq!(after.check().await, Ok(()));

    // That time is over for good.
    let path = dir.path().to_owned();
    let calm = "SELECT * FROM meta WHERE key = 'calm'";
    until("it is noted", move || !database(&path).prepare(calm).unwrap().exists([]).unwrap()).await;
    let again = again(after, dir.path()).await;
    let last = again.submit(spec(50)).await;
    let free = again.worker("free", 1, &[]).await;
    assert_eq!(again.claim(&free).await.map(|held| held.job), Some(last));
    assert_eq!(count(&database(dir.path()), "jobs"), 3);
}

async fn again(before: Fleet, dir: &Path) -> Fleet {
    before.store.close().await.unwrap();
    let again = fleet(dir);
    draw(&again, 40);
    again
}
