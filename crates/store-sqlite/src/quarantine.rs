//! Stored records that cannot be read: put aside as they stand, for somebody to look at, and told
//! until somebody has taken them away.

use pointsman_core::{RecordKey, Timestamp};
use pointsman_store::Contradiction;
use rusqlite::{Connection, params};

use crate::writes::kind_of;

/// A row that cannot be read.
pub(crate) struct Unreadable {
    pub kind: &'static str,
    pub id: String,
    pub n: Option<i64>,
    pub reason: String,
    pub record: Vec<u8>,
}

/// Moves what cannot be read out of the way, as it stands, for somebody to look at. Where that
/// fails (a full disk, say) it stays where it is, and the store is opened without it all the same.
pub(crate) fn put_aside(db: &mut Connection, unreadable: &[Unreadable], now: Timestamp) {
    for Unreadable { kind, id, reason, .. } in unreadable {
        tracing::error!(kind, id, reason, "a stored record cannot be read; it is put aside");
    }
    if let Err(error) = move_rows(db, unreadable, now) {
        tracing::error!(%error, "records that cannot be read stay where they are");
    }
}

fn move_rows(db: &mut Connection, rows: &[Unreadable], now: Timestamp) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let step = db.transaction()?;
    for row in rows {
        let Unreadable { kind, id, n, reason, record } = row;
        step.execute(
            "INSERT INTO quarantine (kind, id, n, reason, at_ms, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![kind, id, n, reason, now.as_millis(), record],
        )?;
        match (*kind, n) {
            (_, Some(n)) => step.execute("DELETE FROM jobs WHERE n = ?1", [n])?,
            ("capabilities", None) => {
                step.execute("DELETE FROM capabilities WHERE lower(hex(digest)) = ?1", [id])?
            }
            (kind, None) => {
                step.execute("DELETE FROM records WHERE kind = ?1 AND id = ?2", [kind, id])?
            }
        };
    }
    step.commit()
}

impl Unreadable {
    pub fn told(&self) -> Option<Contradiction> {
        told(self.kind, &self.id, &self.reason)
    }
}

/// As the consistency check tells it.
fn told(kind: &str, id: &str, reason: &str) -> Option<Contradiction> {
    let about = RecordKey::parse(kind_of(kind)?, id).ok()?;
    let message = format!("its stored record could not be read and was put aside: {reason}");
    Some(Contradiction { about, message })
}

/// What has been put aside and nobody has taken away yet.
pub(crate) fn quarantined(db: &Connection) -> rusqlite::Result<Vec<Contradiction>> {
    let mut all = db.prepare("SELECT kind, id, reason FROM quarantine ORDER BY no")?;
    let rows = all.query_map([], |row| {
        let (kind, id, reason): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(told(&kind, &id, &reason))
    })?;
    rows.filter_map(Result::transpose).collect()
}
