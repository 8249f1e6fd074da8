//! Rows against what is in memory. Rows are read at a start alone, so memory is the truth: a row
//! that says something else was changed by somebody's hand, or by the disk.

use std::collections::BTreeSet;

use pointsman_core::{
    Record,
    decide::Side,
    doctor::{Finding, FindingRule, Mend, subject},
    to_json,
};
use pointsman_store::{State, transfer::Item};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::{
    open::load::{bytes, parse_job, read_capabilities, read_idempotency, read_record},
    rows::Rows,
    writer::{Writer, database::WriteError, tables::customer_name, writes::Writes},
};

/// Differences named in one finding.
const NAMED: usize = 3;

/// An item whose row is not what it should be.
#[derive(Debug, Clone)]
pub(crate) struct Damaged {
    pub item: Item,
    pub finding: Finding,
}

/// What is in memory that is neither a job nor an idempotency key.
pub(crate) fn fleet_items(state: &State) -> Vec<Item> {
    let digests: BTreeSet<_> = state.workers().map(|worker| worker.capabilities_digest).collect();
    let capabilities = digests.into_iter().filter_map(|digest| {
        Some(Item::Side(Side::Capabilities { digest, capabilities: state.capabilities(&digest)? }))
    });
    state.fleet_records().map(Item::Record).chain(capabilities).collect()
}

/// Which of these items have a row that says something else, or none.
pub(crate) fn suspects(
    db: &mut Connection,
    rows: &Rows,
    items: Vec<Item>,
) -> rusqlite::Result<Vec<Item>> {
    let db = db.transaction()?;
    let mut suspects = Vec::new();
    for item in items {
        if problem(&db, rows, &item)?.is_some() {
            suspects.push(item);
        }
    }
    Ok(suspects)
}

impl Writer {
    /// Of these items, those whose row is not what is in memory. Between two batches both are of one
    /// moment.
    pub(crate) fn damaged(&self, rows: &Rows, items: &[Item]) -> rusqlite::Result<Vec<Damaged>> {
        let mut damaged = Vec::new();
        for item in items.iter().filter_map(|item| in_memory(&self.state, item)) {
            if let Some(problem) = problem(&self.database.connection, rows, &item)? {
                damaged.push(Damaged { finding: problem.finding(&item), item });
            }
        }
        Ok(damaged)
    }

    /// Writes the rows of these items anew, as they are in memory now.
    pub(crate) fn rewrite(&mut self, items: &[Item]) -> Result<(), WriteError> {
        let mut writes = Writes::default();
        for item in items.iter().filter_map(|item| in_memory(&self.state, item)) {
            writes.item(&item)?;
        }
        self.database.write(&writes, self.head(self.clock.now()))?;
        tracing::warn!(rows = items.len(), "rows of the database are written anew");
        Ok(())
    }
}

fn in_memory(state: &State, item: &Item) -> Option<Item> {
    match item {
        Item::Record(record) => state.record(&record.key()).map(Item::Record),
        Item::Side(Side::Capabilities { digest, .. }) => {
            let digest = *digest;
            Some(Item::Side(Side::Capabilities {
                digest,
                capabilities: state.capabilities(&digest)?,
            }))
        }
        Item::Side(Side::Idempotency { key, .. }) => {
            let kept = state.idempotency(key)?.clone();
            Some(Item::Side(Side::Idempotency { key: key.clone(), kept }))
        }
        // They lie in the database alone.
        Item::Side(Side::Payload { .. } | Side::Result { .. }) => None,
    }
}

/// What is wrong with a row.
enum Problem {
    Gone,
    Unreadable(String),
    Other(String),
}

fn problem(db: &Connection, rows: &Rows, item: &Item) -> rusqlite::Result<Option<Problem>> {
    Ok(match read_row(db, rows, item)? {
        None => Some(Problem::Gone),
        Some(Err(why)) => Some(Problem::Unreadable(why)),
        Some(Ok(row)) if row == *item => None,
        Some(Ok(row)) => Some(Problem::Other(differences(&row, item))),
    })
}

/// What a row says. One that is written as it would be says what is in memory; of others, which an
/// older program may have written, it counts what is read from them.
fn read_row(
    db: &Connection,
    rows: &Rows,
    item: &Item,
) -> rusqlite::Result<Option<Result<Item, String>>> {
    match item {
        Item::Record(Record::Job(job)) => {
            let Some(n) = rows.of(&job.id) else { return Ok(None) };
            let row = "SELECT id, record FROM jobs WHERE n = ?1";
            let read = db.prepare_cached(row)?.query_row([n], |row| {
                let (id, text) = (bytes(row, 0)?, bytes(row, 1)?);
                let is_its_own = *id == *job.id.as_uuid().as_bytes();
                Ok(match is_its_own && *text == *to_json(&**job).as_bytes() {
                    true => Ok(item.clone()),
                    false => parse_job(&id, &text).map(|job| Item::Record(Record::Job(job))),
                })
            });
            read.optional()
        }
        Item::Record(record) => {
            let key = record.key();
            let (kind, id) = (key.kind(), key.id());
            let row = "SELECT record FROM records WHERE kind = ?1 AND id = ?2";
            let read = db.prepare_cached(row)?.query_row(params![kind.as_str(), id], |row| {
                let text = bytes(row, 0)?;
                Ok(match *text == *to_json(record).as_bytes() {
                    true => Ok(item.clone()),
                    false => read_record(kind, &id, &text).map(Item::Record),
                })
            });
            read.optional()
        }
        Item::Side(Side::Capabilities { digest, .. }) => {
            let row = "SELECT digest, json FROM capabilities WHERE digest = ?1";
            let read = db.prepare_cached(row)?.query_row([digest.as_bytes()], |row| {
                let read = read_capabilities(&bytes(row, 0)?, &bytes(row, 1)?);
                Ok(read.map(|(digest, found)| {
                    Item::Side(Side::Capabilities { digest, capabilities: found.into() })
                }))
            });
            read.optional()
        }
        Item::Side(Side::Idempotency { key, .. }) => {
            let row = "SELECT customer, key, job, body, until_ms FROM idempotency
                       WHERE customer = ?1 AND key = ?2";
            let names = [customer_name(key.customer.as_ref()), key.key.as_str()];
            let read = db.prepare_cached(row)?.query_row(names, |row| {
                Ok(read_idempotency(row)
                    .map(|(key, kept)| Item::Side(Side::Idempotency { key, kept })))
            });
            read.optional()
        }
        // Memory has nothing of them that could differ.
        Item::Side(Side::Payload { .. } | Side::Result { .. }) => Ok(Some(Ok(item.clone()))),
    }
}

/// In what a row is not what is in memory.
fn differences(row: &Item, memory: &Item) -> String {
    let (Item::Record(row), Item::Record(memory)) = (row, memory) else {
        return "its row in the database says something else than the server holds".to_owned();
    };
    let [row, memory] = [row, memory].map(|record| serde_json::from_str(&to_json(record)));
    let (row, memory): (Value, Value) = (row.unwrap_or_default(), memory.unwrap_or_default());
    let fields =
        [&row, &memory].into_iter().filter_map(Value::as_object).flat_map(|all| all.keys());
    let fields: BTreeSet<&String> = fields.filter(|field| row[*field] != memory[*field]).collect();
    let said = |value: &Value| value.to_string().chars().take(60).collect::<String>();
    let named = fields.iter().take(NAMED).map(|field| {
        let (row, memory) = (said(&row[*field]), said(&memory[*field]));
        format!("{field} is {row} in the database, and the server holds {memory}")
    });
    let named = named.collect::<Vec<_>>().join("; ");
    match fields.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; {more} more fields differ"),
    }
}

impl Problem {
    fn finding(self, item: &Item) -> Finding {
        let (rule, problem, then) = match self {
            Self::Gone => (
                FindingRule::LostRecord,
                "its row in the database is gone".to_owned(),
                "it is lost when the server starts anew",
            ),
            Self::Unreadable(why) => (
                FindingRule::UnreadableField,
                format!("its row in the database cannot be read: {why}"),
                "it is set aside when the server starts anew",
            ),
            Self::Other(what) => (
                FindingRule::Contradiction,
                what,
                "it is what the database says when the server starts anew",
            ),
        };
        Finding {
            consequence: format!("no effect as long as the server runs, but {then}"),
            cure:
                "repair it: the row is written anew as the server holds it; find out who changed \
                   the database"
                    .to_owned(),
            mend: Mend::Repair,
            ..Finding::new(rule, subject_of(item), problem)
        }
    }
}

fn subject_of(item: &Item) -> String {
    match item {
        Item::Record(record) => subject(&record.key()),
        Item::Side(Side::Capabilities { digest, .. }) => format!("capabilities/{digest}"),
        Item::Side(Side::Idempotency { key, .. }) => match &key.customer {
            Some(customer) => format!("idempotency/{customer}/{}", key.key),
            None => format!("idempotency/{}", key.key),
        },
        Item::Side(Side::Payload { job, .. } | Side::Result { job, .. }) => format!("job/{job}"),
    }
}
