//! One batch's changes, table by table.

use pointsman_core::{CustomerId, JobId, RecordKey};
use rusqlite::{
    Connection, ToSql, params,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    database::{Head, WriteError},
    writes::Writes,
};
use crate::rows::Rows;

/// Text that is known to be UTF-8.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Writes all of a batch but the log, which [`write_log`] does.
pub(crate) fn write_tables(
    db: &Connection,
    writes: &Writes,
    jobs: &NumberedJobs<'_>,
    rows: &Rows,
    head: &Head,
) -> Result<(), WriteError> {
    write_payloads(db, writes, rows)?;
    write_jobs(db, jobs)?;
    write_records(db, writes)?;
    write_results(db, writes, rows, head)?;
    delete_jobs(db, jobs)?;
    write_capabilities(db, writes)?;
    write_idempotency(db, writes)?;
    Ok(())
}

/// The changed jobs with their row numbers, in the order of the rows.
pub(crate) struct NumberedJobs<'a>(Vec<NumberedJob<'a>>);

struct NumberedJob<'a> {
    n: i64,
    is_new: bool,
    id: &'a JobId,
    /// `None`: removed.
    record: Option<&'a [u8]>,
}

impl<'a> NumberedJobs<'a> {
    pub fn of(writes: &'a Writes, rows: &Rows) -> Self {
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

    pub fn added(&self) -> impl Iterator<Item = &JobId> {
        self.0.iter().filter(|job| job.is_new).map(|job| job.id)
    }

    pub fn removed(&self) -> impl Iterator<Item = &JobId> {
        self.0.iter().filter(|job| job.record.is_none()).map(|job| job.id)
    }
}

fn write_jobs(db: &Connection, jobs: &NumberedJobs<'_>) -> rusqlite::Result<()> {
    if jobs.0.is_empty() {
        return Ok(());
    }
    let mut add = db.prepare_cached("INSERT INTO jobs (n, id, record) VALUES (?1, ?2, ?3)")?;
    // Whole, so that a row that somebody took away or broke is there again.
    let change = "INSERT OR REPLACE INTO jobs (n, id, record) VALUES (?1, ?2, ?3)";
    let mut change = db.prepare_cached(change)?;
    for job in &jobs.0 {
        let Some(record) = job.record else { continue };
        let put = if job.is_new { &mut add } else { &mut change };
        put.execute(params![job.n, job.id.as_uuid().as_bytes(), Text(record)])?;
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
        let (kind, id) = (key.kind().as_str(), key.id());
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
/// number. Imported ones were there before all others.
fn write_results(
    db: &Connection,
    writes: &Writes,
    rows: &Rows,
    head: &Head,
) -> rusqlite::Result<()> {
    const MAX_A_BATCH: i64 = 1 << 24;
    let put = "INSERT INTO results (n, no, attempt, token, late, json)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let numbers = writes.first_result.unwrap_or(head.seq.cast_signed() * MAX_A_BATCH)..;
    for ((job, result), no) in writes.results.iter().zip(numbers) {
        if let Some(n) = rows.of(job) {
            let token = result.token.as_uuid().as_bytes();
            let values = params![n, no, result.attempt, token, result.late, &result.json[..]];
            db.prepare_cached(put)?.execute(values)?;
        }
    }
    Ok(())
}

fn write_capabilities(db: &Connection, writes: &Writes) -> Result<(), WriteError> {
    let put = "INSERT OR REPLACE INTO capabilities (digest, json) VALUES (?1, ?2)";
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
pub(crate) fn customer_name(customer: Option<&CustomerId>) -> &str {
    customer.map_or("", CustomerId::as_str)
}

/// The bytes that the log grew by.
pub(crate) fn write_log(db: &Connection, writes: &Writes) -> rusqlite::Result<u64> {
    let put = "INSERT INTO log (last_seq, first_seq, at_ms, lines) VALUES (?1, ?2, ?3, ?4)";
    for row in &writes.log {
        let lines = Text(&writes.text[row.lines.clone()]);
        let (last, first) = (row.last.cast_signed(), row.first.cast_signed());
        db.prepare_cached(put)?.execute(params![last, first, row.at.as_millis(), lines])?;
    }
    Ok(writes.log.iter().map(|row| row.lines.len() as u64).sum())
}
