//! Stored records that cannot be read: set aside as they stand, for somebody to look at, and told
//! until somebody has taken them away, or until there is a sound record in their place.

use std::sync::Arc;

use pointsman_core::{
    JobId, Record, RecordKey, RecordKind, Timestamp,
    doctor::{Finding, FindingRule, Mend},
    record::Job,
    to_json,
};
use pointsman_store::State;
use rusqlite::{Connection, params};

/// A row that cannot be read.
pub(crate) struct Unreadable {
    pub kind: &'static str,
    pub id: String,
    pub place: Place,
    pub reason: String,
    pub record: Vec<u8>,
    /// Whose row it is by what stands in it, where what names the row says otherwise.
    pub own: Option<Arc<Job>>,
    /// The same record as the log has it: it takes the row's place.
    pub told: Option<Record>,
}

impl Unreadable {
    /// Which record it was.
    pub fn key(&self) -> Option<RecordKey> {
        RecordKey::parse(RecordKind::named(self.kind)?, &self.id).ok()
    }
}

/// Which row it is; what names it may be of any type.
pub(crate) enum Place {
    Job { n: i64 },
    Record { id: Vec<u8> },
    Capabilities { digest: Vec<u8> },
    Idempotency { customer: Vec<u8>, key: Vec<u8> },
}

/// What is told of a row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quarantined {
    kind: String,
    id: String,
    reason: String,
    /// Its number in the table; none when it could not be moved there.
    no: Option<i64>,
}

/// Moves what cannot be read out of the way, as it stands, for somebody to look at. Where that
/// fails (a full disk, say) it stays where it is, and the store is opened without it all the same.
/// Returns what has been set aside, now and earlier, and nobody has taken away yet.
pub(crate) fn set_aside(
    db: &mut Connection,
    unreadable: &[Unreadable],
    now: Timestamp,
) -> rusqlite::Result<Vec<Quarantined>> {
    for Unreadable { kind, id, reason, told, .. } in unreadable {
        let is_in_log = told.is_some();
        tracing::error!(kind, id, reason, is_in_log, "a stored record cannot be read; set aside");
    }
    let moved = move_rows(db, unreadable, now);
    let mut all = quarantined(db)?;
    if let Err(error) = moved {
        tracing::error!(%error, "records that cannot be read stay where they are");
        all.extend(unreadable.iter().map(|row| Quarantined {
            kind: row.kind.to_owned(),
            id: row.id.clone(),
            reason: row.reason.clone(),
            no: None,
        }));
    }
    Ok(all)
}

fn move_rows(db: &mut Connection, rows: &[Unreadable], now: Timestamp) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let step = db.transaction()?;
    for row in rows {
        let Unreadable { kind, id, place, reason, record, told, own: _ } = row;
        let n = match place {
            Place::Job { n } => Some(n),
            _ => None,
        };
        step.execute(
            "INSERT INTO quarantine (kind, id, n, reason, at_ms, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![kind, id, n, reason, now.as_millis(), record],
        )?;
        match place {
            Place::Job { n } => step.execute("DELETE FROM jobs WHERE n = ?1", [n])?,
            Place::Record { id } => step.execute(
                "DELETE FROM records WHERE kind = ?1 AND CAST(id AS BLOB) = ?2",
                params![kind, id],
            )?,
            Place::Capabilities { digest } => {
                step.execute("DELETE FROM capabilities WHERE CAST(digest AS BLOB) = ?1", [digest])?
            }
            Place::Idempotency { customer, key } => step.execute(
                "DELETE FROM idempotency
                 WHERE CAST(customer AS BLOB) = ?1 AND CAST(key AS BLOB) = ?2",
                [customer, key],
            )?,
        };
        match (told, place) {
            (Some(Record::Job(job)), Place::Job { n }) => step.execute(
                "INSERT INTO jobs (n, id, record) VALUES (?1, ?2, ?3)",
                params![n, job.id.as_uuid().as_bytes(), to_json(&**job)],
            )?,
            (Some(told), _) => step.execute(
                "INSERT INTO records (kind, id, record) VALUES (?1, ?2, ?3)",
                params![kind, id, to_json(told)],
            )?,
            (None, _) => 0,
        };
    }
    step.commit()
}

fn quarantined(db: &Connection) -> rusqlite::Result<Vec<Quarantined>> {
    let mut all = db.prepare("SELECT kind, id, reason, no FROM quarantine ORDER BY no")?;
    let rows = all.query_map([], |row| {
        Ok(Quarantined {
            kind: row.get(0)?,
            id: row.get(1)?,
            reason: row.get(2)?,
            no: Some(row.get(3)?),
        })
    })?;
    rows.collect()
}

/// Takes away rows that were set aside.
pub(crate) fn take_away(db: &Connection, numbers: &[i64]) -> rusqlite::Result<()> {
    for no in numbers {
        db.execute("DELETE FROM quarantine WHERE no = ?1", [no])?;
    }
    Ok(())
}

impl Quarantined {
    /// Which job it was.
    pub fn job(&self) -> Option<JobId> {
        if self.kind == RecordKind::Job.as_str() { self.id.parse().ok() } else { None }
    }

    /// As an examination tells it. Where a sound record has taken its place, or it is of no use
    /// to anybody, a repair takes it away.
    pub fn finding(&self, state: &State) -> Finding {
        let Self { kind, id, reason, .. } = self;
        let problem = format!("its stored record could not be read and was set aside: {reason}");
        let rule = FindingRule::Quarantined;
        let finding = Finding::new(rule, format!("{kind}/{id}"), problem);
        let lies = "it lies in the table `quarantine` of the store's database; delete it there while \
                    the server is stopped, which reads that table at its start alone";
        let taken_away = "repair it: what was set aside is taken away".to_owned();
        let (consequence, cure, mend) = match &**kind {
            _ if self.is_replaced(state) => {
                ("none any more: a sound record has taken its place", taken_away, Mend::Repair)
            }
            "idempotency" => (
                "a submission that is repeated with this key makes a second job",
                taken_away,
                Mend::Repair,
            ),
            "capabilities" => (
                "jobs are not matched to the workers that have these capabilities",
                format!(
                    "restart those workers: they register with their capabilities, and a repair \
                     takes away what was set aside; if no worker has them any more: {lies}"
                ),
                Mend::None,
            ),
            _ => (&*finding.consequence, format!("{}; {lies}", finding.cure), Mend::None),
        };
        Finding { consequence: consequence.to_owned(), cure, mend, ..finding }
    }

    fn is_replaced(&self, state: &State) -> bool {
        match RecordKind::named(&self.kind) {
            Some(kind) => {
                let key = RecordKey::parse(kind, &self.id);
                key.is_ok_and(|key| state.record(&key).is_some())
            }
            None => self.id.parse().is_ok_and(|digest| state.capabilities(&digest).is_some()),
        }
    }

    /// Its row, if a repair of these findings takes it away.
    pub fn row_to_take_away<'a>(
        &self,
        mut mending: impl Iterator<Item = &'a Finding>,
        state: &State,
    ) -> Option<i64> {
        let own = self.finding(state);
        let mends = mending.any(|finding| *finding == own) && own.mend == Mend::Repair;
        self.no.filter(|_| mends)
    }

    pub fn is_row(&self, numbers: &[i64]) -> bool {
        self.no.is_some_and(|no| numbers.contains(&no))
    }
}
