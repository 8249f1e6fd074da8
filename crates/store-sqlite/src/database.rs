//! The writing connection: one transaction a batch.

use std::{path::Path, sync::Arc};

use pointsman_core::{
    CustomerId, JobId, RecordKey, Seq, Timestamp, matching::CapabilitiesDigest,
};
use pointsman_store::StoreError;
use rusqlite::{
    Connection, ErrorCode, ToSql, TransactionBehavior, params,
    types::{ToSqlOutput, ValueRef},
};

use crate::{
    LogRetention,
    log::LogEnd,
    rows::Rows,
    writes::{Writes, kind_name},
};

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
    error.sqlite_error().is_some_and(|cause| {
        cause.code == ErrorCode::DiskFull || cause.extended_code == SHM_SIZE
    })
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

/// Text that is known to be UTF-8.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

impl Database {
    pub fn new(connection: Connection, rows: Arc<Rows>, log_bytes: u64, keep: LogRetention) -> Self {
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
        write_payloads(&step, writes, &self.rows)?;
        write_jobs(&step, writes, jobs)?;
        write_records(&step, writes)?;
        write_results(&step, writes, &self.rows, &head)?;
        delete_jobs(&step, jobs)?;
        write_capabilities(&step, writes)?;
        write_idempotency(&step, writes)?;
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

    /// Deletes capabilities that no worker has.
    pub fn drop_capabilities(
        &self,
        in_use: impl Fn(&CapabilitiesDigest) -> bool,
    ) -> rusqlite::Result<()> {
        let mut stored = self.connection.prepare("SELECT digest FROM capabilities")?;
        let stored = stored.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
        let stored = stored.collect::<Result<Vec<_>, _>>()?;
        for digest in stored.into_iter().filter(|d| !in_use(&CapabilitiesDigest::from_bytes(*d))) {
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

/// The changed jobs with their row numbers, in the order of the rows.
struct NumberedJobs<'a>(Vec<NumberedJob<'a>>);

struct NumberedJob<'a> {
    n: i64,
    is_new: bool,
    id: &'a JobId,
    /// `None`: removed.
    record: Option<&'a [u8]>,
}

impl<'a> NumberedJobs<'a> {
    fn of(writes: &'a Writes, rows: &Rows) -> Self {
        let mut changed: Vec<_> = writes
            .records
            .iter()
            .filter_map(|(key, record)| match key {
                RecordKey::Job(id) => Some((id, record)),
                _ => None,
            })
            .collect();
        // New rows in the order in which their jobs came.
        changed.sort_by_key(|(_, record)| record.as_ref().map_or(0, |range| range.start));
        let numbers = rows.number(changed.iter().map(|(id, _)| *id));
        let jobs = changed.into_iter().zip(numbers);
        let mut jobs: Vec<_> = jobs
            .map(|((id, record), (n, is_new))| {
                let record = record.as_ref().map(|range| &writes.text[range.clone()]);
                NumberedJob { n, is_new, id, record }
            })
            .collect();
        jobs.sort_by_key(|job| job.n);
        Self(jobs)
    }

    fn added(&self) -> impl Iterator<Item = &JobId> {
        self.0.iter().filter(|job| job.is_new).map(|job| job.id)
    }

    fn removed(&self) -> impl Iterator<Item = &JobId> {
        self.0.iter().filter(|job| job.record.is_none()).map(|job| job.id)
    }
}

fn write_jobs(db: &Connection, writes: &Writes, jobs: &NumberedJobs<'_>) -> rusqlite::Result<()> {
    if writes.records.is_empty() {
        return Ok(());
    }
    let mut add = db.prepare_cached("INSERT INTO jobs (n, id, record) VALUES (?1, ?2, ?3)")?;
    let mut change = db.prepare_cached("UPDATE jobs SET record = ?2 WHERE n = ?1")?;
    for job in &jobs.0 {
        let Some(record) = job.record else { continue };
        match job.is_new {
            true => add.execute(params![job.n, job.id.as_uuid().as_bytes(), Text(record)])?,
            false => change.execute(params![job.n, Text(record)])?,
        };
    }
    Ok(())
}

/// Everything of a removed job.
fn delete_jobs(db: &Connection, jobs: &NumberedJobs<'_>) -> rusqlite::Result<()> {
    for job in jobs.0.iter().filter(|job| job.record.is_none()) {
        for table in ["jobs", "payloads", "results"] {
            let delete = format!("DELETE FROM {table} WHERE n = ?1");
            db.prepare_cached(&delete)?.execute([job.n])?;
        }
    }
    Ok(())
}

fn write_records(db: &Connection, writes: &Writes) -> rusqlite::Result<()> {
    let put = "INSERT INTO records (kind, id, record) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET record = excluded.record";
    for (key, record) in &writes.records {
        if matches!(key, RecordKey::Job(_)) {
            continue;
        }
        let (kind, id) = (kind_name(key.kind()), key.id());
        match record {
            Some(range) => {
                let text = Text(&writes.text[range.clone()]);
                db.prepare_cached(put)?.execute(params![kind, id, text])?
            }
            None => db
                .prepare_cached("DELETE FROM records WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind, id])?,
        };
    }
    Ok(())
}

fn write_payloads(db: &Connection, writes: &Writes, rows: &Rows) -> rusqlite::Result<()> {
    if writes.payloads.is_empty() {
        return Ok(());
    }
    let put = "INSERT OR REPLACE INTO payloads (n, payload) VALUES (?1, ?2)";
    let mut put = db.prepare_cached(put)?;
    for (job, payload) in &writes.payloads {
        if let Some(n) = rows.of(job) {
            put.execute(params![n, &payload[..]])?;
        }
    }
    Ok(())
}

/// Results are numbered by the log's end and their place in the batch: a later one has a higher
/// number.
fn write_results(
    db: &Connection,
    writes: &Writes,
    rows: &Rows,
    head: &Head,
) -> rusqlite::Result<()> {
    const MAX_A_BATCH: i64 = 1 << 24;
    let put = "INSERT INTO results (n, no, attempt, token, late, json)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let numbers = head.seq.cast_signed() * MAX_A_BATCH..;
    for (result, no) in writes.results.iter().zip(numbers) {
        if let Some(n) = rows.of(&result.job) {
            let token = result.token.as_uuid().as_bytes();
            let values = params![n, no, result.attempt, token, result.late, &result.json[..]];
            db.prepare_cached(put)?.execute(values)?;
        }
    }
    Ok(())
}

fn write_capabilities(db: &Connection, writes: &Writes) -> Result<(), WriteError> {
    let put = "INSERT OR IGNORE INTO capabilities (digest, json) VALUES (?1, ?2)";
    for (digest, capabilities) in &writes.capabilities {
        let json = serde_json::to_string(capabilities)?;
        db.prepare_cached(put)?.execute(params![digest.as_bytes(), json])?;
    }
    Ok(())
}

fn write_idempotency(db: &Connection, writes: &Writes) -> rusqlite::Result<()> {
    let drop = "DELETE FROM idempotency WHERE customer = ?1 AND key = ?2";
    for gone in &writes.expired {
        let customer = customer_name(gone.customer.as_ref());
        db.prepare_cached(drop)?.execute(params![customer, gone.key])?;
    }
    let put = "INSERT OR REPLACE INTO idempotency (customer, key, job, body, until_ms)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    for (key, kept) in &writes.idempotency {
        db.prepare_cached(put)?.execute(params![
            customer_name(key.customer.as_ref()),
            key.key,
            kept.job.as_uuid().as_bytes(),
            kept.body,
            kept.until.as_millis(),
        ])?;
    }
    Ok(())
}

/// A customer's name is never empty; empty means none.
fn customer_name(customer: Option<&CustomerId>) -> &str {
    customer.map_or("", CustomerId::as_str)
}

/// The bytes that the log grew by.
fn write_log(db: &Connection, writes: &Writes) -> rusqlite::Result<u64> {
    let put = "INSERT INTO log (last_seq, first_seq, at_ms, lines) VALUES (?1, ?2, ?3, ?4)";
    for row in &writes.log {
        let lines = Text(&writes.text[row.lines.clone()]);
        let (last, first) = (row.last.cast_signed(), row.first.cast_signed());
        db.prepare_cached(put)?.execute(params![last, first, row.at.as_millis(), lines])?;
    }
    Ok(writes.text.len() as u64)
}

/// The directory's database file.
pub(crate) fn database_path(dir: &Path) -> std::path::PathBuf {
    dir.join("pointsman.db")
}
