//! Payloads and results: what lies outside the hot records.

use std::sync::Arc;

use pointsman_core::{Token, decide::KeptResult};
use rusqlite::{Connection, OptionalExtension, params};

/// The payloads of these rows, in their order.
pub(crate) fn payloads(
    db: &mut Connection,
    rows: &[Option<i64>],
) -> rusqlite::Result<Vec<Option<Arc<[u8]>>>> {
    // One snapshot for all, and one lock.
    let db = db.transaction()?;
    let mut payload = db.prepare_cached("SELECT payload FROM payloads WHERE n = ?1")?;
    let found = rows.iter().map(|n| {
        let Some(n) = n else { return Ok(None) };
        payload.query_row([n], |row| Ok(Arc::from(row.get_ref(0)?.as_bytes()?))).optional()
    });
    found.collect()
}

/// Whether there are payloads of these rows.
pub(crate) fn have_payloads(
    db: &mut Connection,
    rows: &[Option<i64>],
) -> rusqlite::Result<Vec<bool>> {
    let db = db.transaction()?;
    let mut payload = db.prepare_cached("SELECT 1 FROM payloads WHERE n = ?1")?;
    rows.iter().map(|n| n.map_or(Ok(false), |n| payload.exists([n]))).collect()
}

/// The result that an attempt handed in, or the last one that any did.
pub(crate) fn result(
    db: &mut Connection,
    n: i64,
    token: Option<Token>,
) -> rusqlite::Result<Option<Arc<[u8]>>> {
    let result = "SELECT json FROM results WHERE n = ?1 AND (?2 IS NULL OR token = ?2)
                  ORDER BY no DESC LIMIT 1";
    let token = token.as_ref().map(|token| token.as_uuid().as_bytes());
    let mut result = db.prepare_cached(result)?;
    result.query_row(params![n, token], |row| Ok(Arc::from(row.get_ref(0)?.as_bytes()?))).optional()
}

/// All results of a row, in the order in which they came.
pub(crate) fn results(db: &mut Connection, n: i64) -> rusqlite::Result<Vec<KeptResult>> {
    let all = "SELECT attempt, token, late, json FROM results WHERE n = ?1 ORDER BY no";
    let mut all = db.prepare_cached(all)?;
    let all = all.query_map([n], |row| {
        Ok(KeptResult {
            attempt: row.get(0)?,
            token: Token::from_uuid(uuid::Uuid::from_bytes(row.get(1)?)),
            late: row.get(2)?,
            json: Arc::from(row.get_ref(3)?.as_bytes()?),
        })
    })?;
    all.collect()
}

/// Row numbers within these stretches under which there are payloads or results, and nothing that they
/// belong to: neither a job's row nor one that was set aside. The first of them.
pub(crate) fn stray(
    db: &Connection,
    stretches: &[(i64, i64)],
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    let within = |table| {
        format!(
            "SELECT n FROM {table} WHERE n BETWEEN ?1 AND ?2
                AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.n = {table}.n)
                AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.n = {table}.n)"
        )
    };
    let all = format!("{} UNION {} ORDER BY n", within("payloads"), within("results"));
    let mut all = db.prepare_cached(&all)?;
    let mut stray = Vec::new();
    for (from, to) in stretches {
        let found = all.query_map([from, to], |row| row.get(0))?.take(most - stray.len());
        stray.extend(found.collect::<rusqlite::Result<Vec<i64>>>()?);
    }
    Ok(stray)
}

/// Deletes what lies under these row numbers.
pub(crate) fn delete(db: &Connection, numbers: &[i64]) -> rusqlite::Result<()> {
    for table in ["payloads", "results"] {
        let mut delete = db.prepare_cached(&format!("DELETE FROM {table} WHERE n = ?1"))?;
        for n in numbers {
            delete.execute([n])?;
        }
    }
    Ok(())
}
