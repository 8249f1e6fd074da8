//! The writing connection: one transaction a batch.

use std::{path::Path, sync::Arc};

use pointsman_core::{Seq, Timestamp, matching::CapabilitiesDigest};
use pointsman_store::{Intake, StoreError};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use super::{
    tables::{NumberedJobs, write_log, write_tables},
    writes::Writes,
};
use crate::{LogRetention, log::LogEnd, open::schema::write_intake, rows::Rows};

/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the write-ahead log.
const SHM_SIZE: i32 = 4_874;

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// No room. Nothing was written.
    #[error("{0}")]
    Full(rusqlite::Error),
    /// Nothing was written.
    #[error("{0}")]
    Failed(rusqlite::Error),
    /// It may have been written: the flush itself failed.
    #[error("{0}")]
    Unknown(rusqlite::Error),
    #[error("a record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) { Self::Full(error) } else { Self::Failed(error) }
    }
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Full(error) => Self::Full(error.to_string()),
            WriteError::Unknown(error) => Self::Unknown(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|cause| cause.code == ErrorCode::DiskFull || cause.extended_code == SHM_SIZE)
}

/// Where the log ends after a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub seq: Seq,
    pub last_ended_no: u64,
    pub now: Timestamp,
}

pub(crate) struct Database {
    pub connection: Connection,
    rows: Arc<Rows>,
    log: LogEnd,
    keep: LogRetention,
}

impl Database {
    pub fn new(
        connection: Connection,
        rows: Arc<Rows>,
        log_bytes: u64,
        keep: LogRetention,
    ) -> Self {
        Self { connection, rows, log: LogEnd::new(log_bytes), keep }
    }

    /// Whether the log is over its limits although nothing is written.
    pub fn log_is_over(&mut self, head: &Head) -> rusqlite::Result<bool> {
        self.log.is_over(&self.connection, &self.keep, head.seq, head.now)
    }

    /// Writes a batch and waits until it is durable. On an error nothing is changed, here or in
    /// the database.
    pub fn write(&mut self, writes: &Writes, head: Head) -> Result<(), WriteError> {
        let log_bytes = self.log.bytes;
        let jobs = NumberedJobs::of(writes, &self.rows);
        let written = self.try_write(writes, &jobs, head);
        match &written {
            Ok(()) => self.rows.forget(jobs.removed()),
            Err(_) => {
                self.rows.forget(jobs.added());
                self.log.rolled_back(log_bytes);
            }
        }
        written
    }

    fn try_write(
        &mut self,
        writes: &Writes,
        jobs: &NumberedJobs<'_>,
        head: Head,
    ) -> Result<(), WriteError> {
        // An error drops the transaction, which rolls it back.
        let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_tables(&step, writes, jobs, &self.rows, &head)?;
        self.log.bytes += write_log(&step, writes)?;
        self.log.trim(&step, &self.keep, head.seq, head.now)?;
        step.prepare_cached(
            "UPDATE position SET seq = ?1, last_ended_no = ?2, at_ms = ?3, log_bytes = ?4",
        )?
        .execute(params![
            head.seq.cast_signed(),
            head.last_ended_no.cast_signed(),
            head.now.as_millis(),
            self.log.bytes.cast_signed(),
        ])?;
        step.commit().map_err(|error| match is_full(&error) {
            true => WriteError::Full(error),
            false => WriteError::Unknown(error),
        })
    }

    /// Deletes everything that an import put in, and lets the store be opened for service.
    pub fn clear(&mut self) -> rusqlite::Result<()> {
        clear(&mut self.connection)?;
        self.rows.clear();
        self.log.rolled_back(0);
        Ok(())
    }

    /// Deletes capabilities that no worker has. A row that is none is set aside at the next opening.
    pub fn drop_capabilities(
        &self,
        in_use: impl Fn(&CapabilitiesDigest) -> bool,
    ) -> rusqlite::Result<()> {
        let mut stored = self.connection.prepare("SELECT digest FROM capabilities")?;
        let digest = |row: &rusqlite::Row<'_>| Ok(row.get::<_, [u8; 16]>(0).ok());
        let stored = stored.query_map([], digest)?.collect::<Result<Vec<_>, _>>()?;
        for digest in
            stored.into_iter().flatten().filter(|d| !in_use(&CapabilitiesDigest::from_bytes(*d)))
        {
            let drop = "DELETE FROM capabilities WHERE digest = ?1";
            self.connection.prepare_cached(drop)?.execute([digest])?;
        }
        Ok(())
    }

    pub fn free_pages(&self) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0))
    }

    /// Gives free pages back to the file system, at most so many.
    pub fn vacuum(&self, pages: u32) -> rusqlite::Result<()> {
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
        Ok(())
    }

    /// Copies from the write-ahead log into the database what no reader needs any more.
    pub fn checkpoint(&self, mode: &str) -> rusqlite::Result<Checkpointed> {
        checkpoint(&self.connection, mode)
    }
}

/// See [`Database::clear`].
pub(crate) fn clear(db: &mut Connection) -> rusqlite::Result<()> {
    let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    step.execute_batch(
        "DELETE FROM jobs; DELETE FROM payloads; DELETE FROM results; DELETE FROM records;
         DELETE FROM capabilities; DELETE FROM idempotency; DELETE FROM log;
         DELETE FROM quarantine;
         UPDATE position SET seq = 0, last_ended_no = 0, at_ms = 0, log_bytes = 0;",
    )?;
    write_intake(&step, Intake::Open)?;
    step.commit()
}

/// What a checkpoint did, in pages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpointed {
    pub logged: i64,
    pub copied: i64,
}

pub(crate) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<Checkpointed> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok(Checkpointed { logged: row.get(1)?, copied: row.get(2)? })
    })
}

/// The directory's database file.
pub(crate) fn database_path(dir: &Path) -> std::path::PathBuf {
    dir.join("pointsman.db")
}
