//! Opening a store.

mod identity;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod schema;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pointsman_core::Seq;
use pointsman_store::{Clock, Epoch, Intake, MonotonicClock};
use rusqlite::Connection;

use crate::{
    Opening, Options,
    rows::Rows,
    writer::{
        database::{clear, database_path, is_full},
        room,
    },
};
use load::Loaded;
use lock::DirLock;

/// Makes the row of the table `position` anew.
const MAKE_POSITION: &str = "INSERT OR REPLACE INTO position SELECT 1, coalesce(max(last_seq), 0), 0, coalesce(max(at_ms), 0), coalesce(sum(length(CAST(lines AS BLOB))), 0) FROM log";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} cannot be used", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("data directory {} is in use by {holder}: stop it, or use another directory", dir.display())]
    Locked { dir: PathBuf, holder: String },
    #[error("{} is not a store of this program", path.display())]
    NotAStore { path: PathBuf, source: Option<rusqlite::Error> },
    #[error(
        "the store has schema version {found}, and this program knows versions up to {known}: use a newer program"
    )]
    NewerSchema { found: i64, known: usize },
    #[error(
        "the store admits writers from version {oldest} on, and this program is version {ours}: use a newer program"
    )]
    NewerWriter { oldest: u32, ours: u32 },
    #[error(
        "the table `meta` of {file} does not say by a number which versions may write to the store: with the server stopped, run `sqlite3 {file} \"INSERT OR REPLACE INTO meta VALUES ('oldest_writer', '{ours}')\"`, unless a newer program wrote it",
        file = path.display()
    )]
    NoWriter { path: PathBuf, ours: u32 },
    #[error(
        "the database cannot keep a write-ahead log (its journal is {mode:?}): use a local file system"
    )]
    NoWal { mode: String },
    #[error(
        "an import into {} broke off, and what is there is not whole: run `pointsman import` into it again, which begins anew, or delete the directory",
        dir.display()
    )]
    HalfImported { dir: PathBuf },
    #[error(
        "the table `meta` of {file} names no epoch of its log, or none that can be read: with the server stopped, run `sqlite3 {file} \"INSERT OR REPLACE INTO meta VALUES ('epoch', lower(hex(randomblob(6))))\"`: monitors begin anew",
        file = path.display()
    )]
    NoEpoch { path: PathBuf },
    #[error(
        "the table `position` of {file} says that the log ends at seq {seq}, and the table `log` goes up to {log}: with the server stopped, run `sqlite3 {file} 'UPDATE position SET seq = {log}'`",
        file = path.display()
    )]
    WrongPosition { path: PathBuf, seq: Seq, log: Seq },
    #[error(
        "the table `position` of {file} does not say where the log ends: with the server stopped, run `sqlite3 {file} '{make}'`, and `pointsman doctor --repair` once it is started",
        file = path.display(),
        make = MAKE_POSITION
    )]
    NoPosition { path: PathBuf, source: rusqlite::Error },
    #[error("the disk of {} is full: free some space on it", dir.display())]
    Full { dir: PathBuf, source: rusqlite::Error },
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    #[error("no thread for the store")]
    Thread(#[source] io::Error),
}

/// An opened store, before its threads run.
pub(crate) struct Opened {
    pub lock: DirLock,
    pub path: PathBuf,
    pub connection: Connection,
    pub epoch: Epoch,
    pub clock: Arc<dyn Clock>,
    pub rows: Arc<Rows>,
    pub loaded: Loaded,
}

pub(crate) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    let lock = DirLock::take(dir)?;
    let path = database_path(dir);
    let mut connection = open_writer(dir, &path, &lock, options)?;
    let intake = match (schema::intake(&connection)?, options.opening) {
        (Intake::Importing, Opening::Serve | Opening::Visit) => {
            return Err(OpenError::HalfImported { dir: dir.to_owned() });
        }
        (Intake::Importing, Opening::Import) => {
            tracing::warn!("an import into this store broke off; it is cleared");
            clear(&mut connection)?;
            Intake::Open
        }
        (intake, _) => intake,
    };
    let epoch = epoch(&connection, &path)?;
    let newest = load::newest_time(&connection, &path)?;
    let clock = options.clock.clone();
    let clock = clock.unwrap_or_else(|| Arc::new(MonotonicClock::starting(newest)));
    let rows = Arc::new(Rows::default());
    let mut loaded = load::load(&mut connection, &path, epoch.clone(), clock.now(), &rows)?;
    loaded.state.set_contact_gap(options.contact_gap);
    loaded.state.restore_intake(intake);
    if schema::calm_is_due(&connection)? {
        loaded.state.begin_calm(clock.now());
    }
    if intake == Intake::Closed {
        tracing::warn!("the store was closed for its export: it takes no new work");
    }
    Ok(Opened { lock, path, connection, epoch, clock, rows, loaded })
}

/// On a disk that became full while no server ran, the reserve is what there is room from.
fn open_writer(
    dir: &Path,
    path: &Path,
    lock: &DirLock,
    options: &Options,
) -> Result<Connection, OpenError> {
    let open = || {
        let mut db = schema::open_writer(path, options.opening)?;
        let identities = lock.identity_found().and_then(|found| Ok((found, lock.identity()?)));
        let (found, now) =
            identities.map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
        schema::recognize(&mut db, &found, &now, options.restored)?;
        Ok(db)
    };
    let mut opened = open();
    if is_on_full_disk(&opened) && room::give_up_file(dir) {
        opened = open();
    }
    match opened {
        Err(OpenError::Database(source)) if is_full(&source) => {
            Err(OpenError::Full { dir: dir.to_owned(), source })
        }
        opened => opened,
    }
}

fn is_on_full_disk(opened: &Result<Connection, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Database(error)) if is_full(error))
}

fn epoch(db: &Connection, path: &Path) -> Result<Epoch, OpenError> {
    let epoch = schema::meta(db, "epoch")?.and_then(|text| text.parse().ok());
    epoch.ok_or_else(|| OpenError::NoEpoch { path: path.to_owned() })
}
