//! Which directories are opened, and which refused.

use std::{sync::Arc, time::Duration};

use pointsman_store::{
    ManualClock, RECORDS, Store, StoreError,
    conformance::{fleet::spec, logged::Log},
};
use pointsman_store_sqlite::{OpenError, Options, SqliteStore};

use crate::support::{database, fleet, oldest_writer, options, submit_and_finish};

fn open(dir: &std::path::Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(dir, options(&ManualClock::default()))
}

fn refused(dir: &std::path::Path) -> OpenError {
    open(dir).err().expect("not opened")
}

#[test]
fn a_directory_in_use_is_refused_and_its_user_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(first);
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_closed_store_frees_its_directory_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let mut hint = first.wait_for_work(pointsman_core::WorkerId::new("w").unwrap(), Vec::new());
    first.close().await.unwrap();
    first.close().await.unwrap();
    hint.wait().await;
    let second = open(dir.path()).unwrap();
    assert_eq!(first.execute(Vec::new()).await.err(), Some(StoreError::Closed));
    assert_eq!(first.pulse().await.err(), Some(StoreError::Closed));
    assert_eq!(first.log(0, 1).await.err(), Some(StoreError::Closed));
    assert!(second.log(0, 1).await.is_ok());
    // No write-ahead log is left behind: a copy of the one file is a copy of the store.
    second.close().await.unwrap();
    assert!(!dir.path().join("pointsman.db-wal").exists());
}

#[test]
fn a_store_that_is_made_is_not_told_as_migrated() {
    let (log, _logging) = Log::listen();
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    drop(open(dir.path()).unwrap());
    let lines = log.0.lock().clone();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("store")).collect();
    let [made] = &told[..] else { panic!("{told:?}") };
    assert!(made.starts_with("INFO") && made.contains("was made"), "{made}");
}

#[test]
fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    database(dir.path()).pragma_update(None, "user_version", 999).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::NewerSchema { found: 999, .. }), "{error:?}");
}

/// Each refusal has the command for what it met.
#[test]
fn a_store_whose_meta_was_emptied_says_what_makes_it_right() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    database(dir.path()).execute("DELETE FROM meta", []).unwrap();
    for missing in ["oldest_writer", "epoch"] {
        let said = refused(dir.path()).to_string();
        assert!(!said.contains("use a newer program"), "{said}");
        let cure = said.split('"').nth(1).unwrap_or_else(|| panic!("no command in {said}"));
        assert!(cure.contains(&format!("VALUES ('{missing}'")), "{said}");
        database(dir.path()).execute(cure, []).unwrap();
    }
    open(dir.path()).unwrap();
}

#[test]
fn a_store_that_admits_only_newer_writers_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let raise = "UPDATE meta SET value = '999' WHERE key = 'oldest_writer'";
    database(dir.path()).execute(raise, []).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::NewerWriter { .. }), "{error:?}");
}

/// Its tables are the same, and it would lose what it does not know of the records.
#[test]
fn once_this_version_opened_a_store_older_ones_are_shut_out() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(oldest_writer(dir.path()), RECORDS.to_string());
    for older in 1..RECORDS {
        let lower = format!("UPDATE meta SET value = '{older}' WHERE key = 'oldest_writer'");
        database(dir.path()).execute(&lower, []).unwrap();
        drop(open(dir.path()).unwrap());
        assert_eq!(oldest_writer(dir.path()), RECORDS.to_string(), "from {older}");
    }
}

#[test]
fn other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    database(dir.path()).execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(refused(dir.path()), OpenError::NotAStore { .. }));
    let text = dir.path().join("pointsman.db");
    let not_a_database = "this is no database, although it is long enough to be one".repeat(20);
    std::fs::write(&text, &not_a_database).unwrap();
    assert!(matches!(refused(dir.path()), OpenError::NotAStore { .. }));
    assert_eq!(std::fs::read_to_string(&text).unwrap(), not_a_database);
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(refused(&file), OpenError::Directory { .. }));
}

/// Does what an error says: what stands between `sqlite3 FILE` and the next backtick.
fn cure(dir: &std::path::Path, error: &OpenError) {
    let (text, file) = (error.to_string(), dir.join("pointsman.db").display().to_string());
    let (_, command) = text.split_once(&format!("`sqlite3 {file} ")).expect("a cure");
    let (command, _) = command.split_once('`').expect("an end");
    let quote = &command[..1];
    let sql = command.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    database(dir).execute_batch(sql.expect("in quotes")).expect(command);
}

/// Somebody's hand, or a disk; with the table that the error is to name.
const NO_LOG_END: [(&str, &str); 5] = [
    ("UPDATE position SET seq = 1", "`position`"),
    ("UPDATE position SET seq = 'many'", "`position`"),
    ("UPDATE position SET last_ended_no = -1", "`position`"),
    ("DELETE FROM position", "`position`"),
    ("UPDATE meta SET value = '' WHERE key = 'epoch'", "`meta`"),
];

#[tokio::test]
async fn where_the_log_ends_is_wrong_and_the_error_says_what_makes_it_right() {
    for (wound, table) in NO_LOG_END {
        let dir = tempfile::tempdir().unwrap();
        let before = fleet(dir.path());
        let hand = before.worker("w", 1, &[]).await;
        submit_and_finish(&before, &hand).await;
        let seq = before.seq().await;
        before.store.close().await.unwrap();
        assert_eq!(database(dir.path()).execute(wound, []).unwrap(), 1, "{wound}");
        let error = refused(dir.path());
        assert!(error.to_string().contains(table), "{wound}: {error}");
        cure(dir.path(), &error);

        let after = fleet(dir.path());
        assert_eq!(after.seq().await, seq, "{wound}");
        after.store.mend(None).await.unwrap();
        submit_and_finish(&after, &hand).await;
        after.check().await.unwrap();
    }
}

/// The wall clock may have been set back; the store's time is not.
#[tokio::test]
async fn the_clock_starts_no_earlier_than_the_newest_time() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    before.advance(Duration::from_secs(100 * 365 * 24 * 3600));
    before.submit(spec(50)).await;
    let newest = before.store.now();
    before.store.close().await.unwrap();
    let again = SqliteStore::open(dir.path(), Options { reserve_bytes: 0, ..Options::default() });
    assert!(again.unwrap().now() >= newest);
}

/// Reads and writes after the last handle but the caller's own is gone still work, and dropping
/// the last one finishes what was asked.
#[tokio::test]
async fn dropping_the_store_keeps_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let before = fleet(dir.path());
    let id = before.submit(spec(50)).await;
    let store: Arc<dyn Store> = before.store.clone();
    drop(before);
    drop(store);
    let again = fleet(dir.path());
    assert!(again.job(id).await.is_pending());
}
