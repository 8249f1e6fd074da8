//! A full disk: new work is refused, what runs can end, and the store mends itself.

use std::path::{Path, PathBuf};

use futures::future::join_all;
use pointsman_core::{
    Command, JobId,
    command::{Finish, Op, Outcome},
};
use pointsman_store::{
    Health, Intake, Store as _, StoreError,
    conformance::fleet::{Fleet, completed, spec},
    transfer::{ExportOptions, export},
};
use pointsman_store_sqlite::{Options, SqliteStore};
use rusqlite::Connection;

use crate::support::{database, durable_picture, fleet, fleet_with, remove, until};

const SLOTS: u32 = 40;

fn small(dir: &Path) -> Fleet {
    fleet_with(dir, |options| {
        options.max_bytes = Some(2 << 20);
        options.reserve_bytes = 1 << 20;
    })
}

async fn submit(fleet: &Fleet) -> Result<JobId, StoreError> {
    let mut submission = fleet.submission(spec(50));
    let id = submission.id;
    submission.payload = vec![b'x'; 16 << 10].into();
    let mut done = fleet.store.execute(vec![Command::Submit(submission)]).await?;
    done.pop().unwrap().expect("a valid submission");
    Ok(id)
}

async fn fill(fleet: &Fleet) -> Vec<JobId> {
    let mut jobs = Vec::new();
    loop {
        match submit(fleet).await {
            Ok(id) => jobs.push(id),
            Err(StoreError::Full(_)) => return jobs,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_full_database_refuses_new_work_and_lets_jobs_end() {
    let dir = tempfile::tempdir().unwrap();
    refuses_and_recovers(small(dir.path()), || ()).await;
}

/// By hand, with a small file system as the working directory:
/// `mount -t tmpfs -o size=24m tmpfs /mnt/small && cd /mnt/small && BINARY --ignored full_disk --test-threads=1`
/// (each fills the disk, so one at a time).
#[tokio::test]
#[ignore = "needs a small file system"]
async fn a_full_disk_refuses_new_work_and_lets_jobs_end() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let filler = dir.path().join("filler");
    std::fs::write(&filler, vec![1; 4 << 20]).unwrap();
    let fleet = fleet_with(dir.path(), |options| options.reserve_bytes = 4 << 20);
    refuses_and_recovers(fleet, || std::fs::remove_file(filler).unwrap()).await;
}

fn fill_disk(dir: &Path) -> PathBuf {
    let filler = dir.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 512]).is_ok() {}
    filler
}

/// By hand, as above.
#[tokio::test]
#[ignore = "needs a small file system"]
async fn on_a_full_disk_without_a_reserve_a_store_does_not_open_and_says_why() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let open = || SqliteStore::open(dir.path(), Options { reserve_bytes: 0, ..Options::default() });
    open().unwrap().close().await.unwrap();
    fill_disk(dir.path());
    let why = open().err().expect("not opened").to_string();
    assert!(why.contains("free some space"), "{why}");
}

/// By hand, as above.
#[tokio::test]
#[ignore = "needs a small file system"]
async fn a_store_opens_on_a_full_disk() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let open = || fleet_with(dir.path(), |options| options.reserve_bytes = 4 << 20);
    let before = open();
    let hand = before.worker("w", 1, &[]).await;
    let held = before.running(&hand).await;
    before.store.close().await.unwrap();
    let filler = fill_disk(dir.path());

    let after = open();
    // Opening took the reserve: there is none left for new work.
    assert_eq!(fill(&after).await, []);
    after.act(&hand, held, completed()).await.unwrap();
    assert!(after.job(held.job).await.is_ended());
    assert!(matches!(after.store.health(), Health::Full(_)));
    std::fs::remove_file(&filler).unwrap();
    let store = after.store.clone();
    until("room again", move || store.health() == Health::Ready).await;
}

async fn refuses_and_recovers(fleet: Fleet, free_some: impl FnOnce()) {
    let hand = fleet.worker("w", SLOTS, &[]).await;
    let jobs = fill(&fleet).await;
    assert!(jobs.len() > SLOTS as usize, "room for {} jobs", jobs.len());
    assert!(matches!(fleet.store.health(), Health::Full(_)));
    assert!(matches!(submit(&fleet).await, Err(StoreError::Full(_))));

    // Nothing of a refused submission is there, and everything of the others.
    let log = fleet.log().await;
    assert_eq!(log.last().unwrap().seq, fleet.seq().await);
    let payloads = fleet.store.payloads(jobs.clone()).await.unwrap();
    assert!(payloads.iter().all(Option::is_some));
    assert_eq!(fleet.check().await, Ok(()));

    // What waits is claimed, and what runs ends.
    let tokens = (0..SLOTS).map(|_| fleet.token()).collect();
    let held = fleet.claim_with(&hand, tokens).await;
    assert_eq!(held.len(), SLOTS as usize);
    for held in &held {
        fleet.act(&hand, *held, completed()).await.unwrap();
    }

    // Where jobs are removed there is room again, without a restart.
    for held in &held {
        remove(&fleet, held.job).await;
    }
    free_some();
    let store = fleet.store.clone();
    until("room again", move || store.health() == Health::Ready).await;
    let id = submit(&fleet).await.unwrap();
    assert!(fleet.job(id).await.is_pending());
    assert_eq!(fleet.check().await, Ok(()));
}

/// Callers whose requests shared a batch with the one that did not fit.
#[tokio::test]
async fn what_was_acknowledged_on_a_full_disk_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = small(dir.path());
    let mut acknowledged = join_all((0..32).map(|_| fill(&fleet))).await.concat();
    acknowledged.sort();
    let before = durable_picture(&*fleet.store).await;
    let log = fleet.log().await;
    assert_eq!(log.len(), acknowledged.len());
    fleet.store.close().await.unwrap();

    let again = self::fleet(dir.path());
    assert_eq!(durable_picture(&*again.store).await, before);
    let page = again.store.jobs(Default::default(), None, 1_000).await.unwrap();
    let mut found: Vec<_> = page.jobs.iter().map(|job| job.id).collect();
    found.sort();
    assert_eq!(found, acknowledged);
    assert_eq!(again.store.health(), Health::Ready);
}

/// One that does not fit takes none with it that do.
#[tokio::test]
async fn on_a_full_disk_jobs_end_beside_one_whose_result_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = small(dir.path());
    let hand = fleet.worker("w", SLOTS, &[]).await;
    for _ in 0..SLOTS {
        fleet.submit(spec(50)).await;
    }
    let tokens = (0..SLOTS).map(|_| fleet.token()).collect();
    let held = fleet.claim_with(&hand, tokens).await;
    let end = async |n: usize| {
        let result = if n == 1 { "x".repeat(3_900_000) } else { "done".to_owned() };
        let outcome =
            Outcome::Completed { artifacts: vec![], cached: false, result: Some(result.into()) };
        let end = Fleet::op(held[n], Op::Finish(Finish { outcome, last_progress: None }));
        let end = Command::Exchange(Fleet::exchange(&hand, vec![end], vec![]));
        fleet.store.execute(vec![end]).await
    };
    // While another writes, they gather.
    let other = database(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ends = join_all((0..held.len()).map(end));
    let begin = async { other.execute_batch("COMMIT").unwrap() };
    let (ends, ()) = tokio::join!(ends, begin);
    for (n, end) in ends.into_iter().enumerate() {
        let ended = fleet.job(held[n].job).await.is_ended();
        match end {
            Err(why) => {
                assert!(n == 1 && matches!(why, StoreError::Full(_)) && !ended, "{n}: {why}")
            }
            Ok(_) => assert!(n != 1 && ended, "{n}"),
        }
    }
    assert_eq!(fleet.check().await, Ok(()));
}

/// So much that not even a mark fits, until the reserve is given up.
fn stuff(db: &Connection) {
    db.execute("CREATE TABLE ballast AS SELECT zeroblob(2500000)", []).unwrap();
    db.execute_batch("PRAGMA incremental_vacuum; BEGIN").unwrap();
    let pages = || db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0)).unwrap();
    let full = pages();
    for n in 0.. {
        db.execute_batch("SAVEPOINT before").unwrap();
        db.execute("INSERT INTO meta VALUES (?1, '')", [format!("x{n}")]).unwrap();
        if pages() > full {
            return db.execute_batch("ROLLBACK TO before; COMMIT").unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_can_be_moved_off_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let before = small(dir.path());
    submit(&before).await.unwrap();
    before.store.close().await.unwrap();
    stuff(&database(dir.path()));

    let store = small(dir.path()).store;
    assert_eq!(store.health(), Health::Ready, "nobody wrote anything yet");
    let options = ExportOptions { made_by: "a test".to_owned(), with_running: false };
    let mut stream = Vec::new();
    let from = store.clone().transfer().unwrap();
    let (_, counts) = export(&*from, &options, &mut stream, &mut |_| ()).await.unwrap();
    assert_eq!((counts.jobs, counts.payloads), (1, 1));
    assert!(matches!(store.health(), Health::Full(_)), "the reserve is given up");
    assert_eq!(from.intake().await, Ok(Intake::Closed));
}

#[tokio::test]
async fn a_full_disk_without_a_reserve_says_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        fleet_with(dir.path(), |options| {
            options.max_bytes = Some(2 << 20);
            options.reserve_bytes = 0;
        })
    };
    open().store.close().await.unwrap();
    stuff(&database(dir.path()));
    let store = open().store.clone().transfer().unwrap();
    let why = store.set_intake(false).await.unwrap_err().to_string();
    assert!(why.contains("free some space"), "{why}");
    assert_eq!(store.intake().await, Ok(Intake::Open));
}
