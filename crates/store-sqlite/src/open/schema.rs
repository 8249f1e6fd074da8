//! The tables, how they came to be, and the settings of connections.
//!
//! Records, results and the log are JSON text. Jobs have a small row number beside their id: it
//! is the key of everything that belongs to a job, and rows of one time lie together.

use std::{fs::File, path::Path};

use pointsman_core::Timestamp;
use pointsman_store::{Epoch, Intake, RECORDS};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use crate::{OpenError, Opening, writer::janitor::KEPT_FILE};

/// Stands in the file's header, so that another program's database is not taken for a store.
const APPLICATION_ID: i32 = 0x504d_616e;

/// The version of what a store may hold: that of its records, as the tables have steps of their own.
/// A store names the oldest one that may write to it: that of the newest program that opened it.
pub(crate) const WRITER_VERSION: u32 = RECORDS;

/// Step `n` brings a store of version `n` to version `n + 1`. Steps that were released never
/// change; `tests/fixtures` has a store of each version.
const STEPS: &[&str] = &["
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('oldest_writer', '1');

    -- Where the log ends; the one row changes with every transaction.
    CREATE TABLE position (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        seq INTEGER NOT NULL, last_ended_no INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, log_bytes INTEGER NOT NULL
    );
    INSERT INTO position VALUES (1, 0, 0, 0, 0);

    CREATE TABLE jobs (n INTEGER PRIMARY KEY, id BLOB NOT NULL, record TEXT NOT NULL);
    CREATE TABLE payloads (n INTEGER PRIMARY KEY, payload BLOB NOT NULL);
    CREATE TABLE results (
        n INTEGER NOT NULL, no INTEGER NOT NULL, attempt INTEGER NOT NULL, token BLOB NOT NULL,
        late INTEGER NOT NULL, json BLOB NOT NULL, PRIMARY KEY (n, no)
    ) WITHOUT ROWID;

    -- Machines, workers, connectors and alerts.
    CREATE TABLE records (
        kind TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE TABLE capabilities (digest BLOB PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE idempotency (
        customer TEXT NOT NULL, key TEXT NOT NULL, job BLOB NOT NULL, body BLOB NOT NULL,
        until_ms INTEGER NOT NULL, PRIMARY KEY (customer, key)
    ) WITHOUT ROWID;

    -- One event a line; a row holds the groups first_seq to last_seq.
    CREATE TABLE log (
        last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        lines TEXT NOT NULL
    );

    -- What could not be read at opening, as it stood.
    CREATE TABLE quarantine (
        no INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, n INTEGER,
        reason TEXT NOT NULL, at_ms INTEGER NOT NULL, record BLOB NOT NULL
    );
"];

/// Opens the connection that writes, and brings the tables to this program's version.
pub(crate) fn open_writer(path: &Path, opening: Opening) -> Result<Connection, OpenError> {
    let mut db = Connection::open(path)?;
    if check_ours(&db, path)? == Found::Nothing {
        make_file(&db, path)?;
    }
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWal { mode });
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    // Checkpoints are the janitor's business; a commit never pays for one.
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", KEPT_FILE)?;
    db.pragma_update(None, "cache_size", -16_384)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    keep_plans(&db)?;
    migrate(&mut db, STEPS)?;
    check_writer(&db, path)?;
    if opening == Opening::Serve {
        shut_out_older(&db)?;
    }
    Ok(db)
}

/// Makes an empty database file; `migrate` makes it a store. Until then nothing in it is worth a
/// flush, so there is one at the end instead of one for each setting.
fn make_file(db: &Connection, path: &Path) -> Result<(), OpenError> {
    db.pragma_update(None, "synchronous", "OFF")?;
    db.query_row("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(|source| OpenError::Directory { dir: path.to_owned(), source })
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    keep_plans(&db)?;
    Ok(db)
}

/// Statements are prepared once; without this setting some would be again with each value.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(64);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn number(db: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, pragma, |row| row.get(0))
}

#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
}

fn check_ours(db: &Connection, path: &Path) -> Result<Found, OpenError> {
    let not_ours = |source| OpenError::NotAStore { path: path.to_owned(), source };
    let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    match tables {
        Ok(0_i64) => Ok(Found::Nothing),
        Ok(_) if number(db, "application_id")? == i64::from(APPLICATION_ID) => Ok(Found::Ours),
        Ok(_) => Err(not_ours(None)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(not_ours(Some(error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// All steps that are missing, in one transaction.
fn migrate(db: &mut Connection, steps: &[&str]) -> Result<(), OpenError> {
    let found = number(db, "user_version")?;
    let known = steps.len();
    let done = usize::try_from(found).ok().filter(|found| *found <= known);
    let Some(done) = done else {
        return Err(OpenError::NewerSchema { found, known });
    };
    if done == known {
        return Ok(());
    }
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for sql in &steps[done..] {
        step.execute_batch(sql)?;
    }
    if done == 0 {
        mint_epoch(&step)?;
        set(&step, "oldest_writer", &WRITER_VERSION.to_string())?;
    }
    step.pragma_update(None, "application_id", APPLICATION_ID)?;
    step.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
    step.commit()?;
    match done {
        0 => tracing::info!("a store was made"),
        from => tracing::info!(from, to = known, "the store's schema was migrated"),
    }
    Ok(())
}

/// The first epoch of the store's log.
fn mint_epoch(db: &Connection) -> rusqlite::Result<()> {
    let epoch = Epoch::mint().to_string();
    db.execute("INSERT INTO meta VALUES ('epoch', ?1)", [epoch]).map(drop)
}

/// A newer program's store is refused.
fn check_writer(db: &Connection, path: &Path) -> Result<(), OpenError> {
    match oldest_writer(db)? {
        Some(oldest) if oldest <= WRITER_VERSION => Ok(()),
        Some(oldest) => Err(OpenError::NewerWriter { oldest, ours: WRITER_VERSION }),
        None => Err(OpenError::NoWriter { path: path.to_owned(), ours: WRITER_VERSION }),
    }
}

/// Older programs would lose what this one may write from now on.
pub(crate) fn shut_out_older(db: &Connection) -> rusqlite::Result<()> {
    if let Some(from) = oldest_writer(db)?.filter(|oldest| *oldest < WRITER_VERSION) {
        set(db, "oldest_writer", &WRITER_VERSION.to_string())?;
        tracing::info!(from, to = WRITER_VERSION, "older programs do not open the store any more");
    }
    Ok(())
}

fn oldest_writer(db: &Connection) -> rusqlite::Result<Option<u32>> {
    Ok(meta(db, "oldest_writer")?.and_then(|oldest| oldest.parse().ok()))
}

/// What the store takes, as it was written last.
pub(crate) fn intake(db: &Connection) -> rusqlite::Result<Intake> {
    Ok(match meta(db, "intake")?.as_deref() {
        None => Intake::Open,
        Some("closed") => Intake::Closed,
        // Also what a newer program wrote: not to serve it is safe.
        Some(_) => Intake::Importing,
    })
}

pub(crate) fn write_intake(db: &Connection, intake: Intake) -> rusqlite::Result<()> {
    match intake {
        Intake::Open => db.execute("DELETE FROM meta WHERE key = 'intake'", []).map(drop),
        Intake::Closed => set(db, "intake", "closed"),
        Intake::Importing => set(db, "intake", "importing"),
    }
}

/// Notes how the directory's files are, and compares with what was noted of them. If they are others,
/// the store came back from before a while ago: its log gets another epoch, in which workers have
/// time to take back what they run. One of which nothing was noted, by an older program, is the same.
pub(crate) fn recognize(
    db: &mut Connection,
    found: &str,
    now: &str,
    is_restored: bool,
) -> rusqlite::Result<()> {
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let left = meta(&step, "identity")?;
    if is_restored || left.is_some_and(|left| left != found) {
        let epoch = Epoch::mint();
        tracing::warn!(%epoch, "the store was restored or copied: its log begins another epoch");
        set_epoch(&step, &epoch)?;
        set(&step, "calm", "due")?;
    }
    note_identity(&step, now)?;
    step.commit()
}

pub(crate) fn note_identity(db: &Connection, identity: &str) -> rusqlite::Result<()> {
    set(db, "identity", identity)
}

/// Whether workers have not yet had their time in the newest epoch.
pub(crate) fn calm_is_due(db: &Connection) -> rusqlite::Result<bool> {
    Ok(meta(db, "calm")?.is_some())
}

pub(crate) fn calm_is_over(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM meta WHERE key = 'calm'", []).map(drop)
}

fn set_epoch(db: &Connection, epoch: &Epoch) -> rusqlite::Result<()> {
    db.execute("UPDATE meta SET value = ?1 WHERE key = 'epoch'", [epoch.to_string()]).map(drop)
}

fn set(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value]).map(drop)
}

/// Another epoch for the store's log; no time before `not_before` is shown from the next opening.
pub(crate) fn begin_epoch(
    db: &Connection,
    epoch: &Epoch,
    not_before: Timestamp,
) -> rusqlite::Result<()> {
    set_epoch(db, epoch)?;
    let not_before = not_before.as_millis();
    db.execute("UPDATE position SET at_ms = max(at_ms, ?1)", [not_before]).map(drop)
}

pub(crate) fn meta(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    use rusqlite::OptionalExtension;
    db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = "CREATE TABLE meta (key, value); CREATE TABLE a (x)";

    fn empty() -> Connection {
        Connection::open_in_memory().unwrap()
    }

    #[test]
    fn each_missing_step_is_taken_once() {
        let mut db = empty();
        migrate(&mut db, &[META]).unwrap();
        let epoch = meta(&db, "epoch").unwrap();
        db.execute("INSERT INTO a VALUES (1)", []).unwrap();
        let steps = ["broken", "ALTER TABLE a ADD COLUMN y DEFAULT 7", "UPDATE a SET x = x + 1"];
        migrate(&mut db, &steps).unwrap();
        migrate(&mut db, &steps).unwrap();
        let row = db.query_row("SELECT x, y FROM a", [], |r| Ok((r.get(0)?, r.get(1)?)));
        assert_eq!(row.unwrap(), (2, 7));
        assert_eq!(number(&db, "user_version").unwrap(), 3);
        assert_eq!(meta(&db, "epoch").unwrap(), epoch);
    }

    #[test]
    fn a_step_that_fails_leaves_the_store_as_it_was() {
        let mut db = empty();
        migrate(&mut db, &[META]).unwrap();
        let steps = ["", "CREATE TABLE b (x)", "nonsense"];
        assert!(migrate(&mut db, &steps).is_err());
        assert_eq!(number(&db, "user_version").unwrap(), 1);
        assert!(db.execute_batch("SELECT * FROM b").is_err());
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let mut db = empty();
        db.pragma_update(None, "user_version", 2).unwrap();
        let refused = migrate(&mut db, &[META]);
        assert!(matches!(refused, Err(OpenError::NewerSchema { found: 2, known: 1 })));
    }
}
