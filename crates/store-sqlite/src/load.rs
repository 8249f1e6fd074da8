//! Reading a store into memory. What cannot be read is put aside and told, and prevents nothing.

use std::{path::Path, sync::Arc, thread};

use pointsman_core::{
    CustomerId, JobId, Record, RecordKind, Seq, Timestamp,
    command::IdempotencyKey,
    matching::{Capabilities, CapabilitiesDigest},
    record::Job,
};
use pointsman_store::{Epoch, State, state::KeptIdempotency};
use rusqlite::Connection;

use crate::{
    OpenError,
    quarantine::{Quarantined, Unreadable, put_aside},
    rows::Rows,
    schema,
};

/// Threads that parse jobs at most.
const MAX_PARSERS: usize = 4;

/// What was read.
pub(crate) struct Loaded {
    pub state: State,
    pub log_bytes: u64,
    /// Of what was put aside, now and earlier.
    pub quarantined: Vec<Quarantined>,
}

/// Where the log ends, as stored.
struct Position {
    seq: Seq,
    last_ended_no: u64,
    at: Timestamp,
    log_bytes: u64,
}

fn position(db: &Connection) -> rusqlite::Result<Position> {
    let row = "SELECT seq, last_ended_no, at_ms, log_bytes FROM position";
    db.query_row(row, [], |row| {
        let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(Position {
            seq: count(0)?,
            last_ended_no: count(1)?,
            at: Timestamp::from_millis(row.get(2)?),
            log_bytes: count(3)?,
        })
    })
}

/// The time of the last change; the store's clock does not start earlier.
pub(crate) fn newest_time(db: &Connection) -> rusqlite::Result<Timestamp> {
    Ok(position(db)?.at)
}

pub(crate) fn load(
    db: &mut Connection,
    path: &Path,
    epoch: Epoch,
    now: Timestamp,
    rows: &Rows,
) -> Result<Loaded, OpenError> {
    let position = position(db)?;
    let mut state = State::new(epoch, now);
    let mut unreadable = Vec::new();
    // Workers hold on to their capabilities, so those come first.
    load_capabilities(db, &mut state, &mut unreadable)?;
    load_records(db, &mut state, &mut unreadable)?;
    load_jobs(path, &mut state, rows, &mut unreadable)?;
    load_idempotency(db, &mut state)?;
    state.restore_position(position.seq, position.last_ended_no);
    reserve_numbers(db, rows)?;
    let quarantined = put_aside(db, &unreadable, now)?;
    Ok(Loaded { state, log_bytes: position.log_bytes, quarantined })
}

fn load_capabilities(
    db: &Connection,
    state: &mut State,
    unreadable: &mut Vec<Unreadable>,
) -> rusqlite::Result<()> {
    let mut all = db.prepare("SELECT digest, json FROM capabilities")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        let (digest, json) = (row.get_ref(0)?.as_bytes()?, row.get_ref(1)?.as_bytes()?);
        let read = <[u8; 16]>::try_from(digest)
            .map_err(|_| "its digest is not 16 bytes".to_owned())
            .and_then(|digest| {
                let read = serde_json::from_slice::<Capabilities>(json);
                Ok((CapabilitiesDigest::from_bytes(digest), read.map_err(|e| e.to_string())?))
            });
        match read {
            Ok((digest, found)) => state.restore_capabilities(digest, &Arc::new(found)),
            Err(reason) => unreadable.push(Unreadable {
                kind: "capabilities",
                id: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
                n: None,
                reason,
                record: json.to_vec(),
            }),
        }
    }
    Ok(())
}

fn load_records(
    db: &Connection,
    state: &mut State,
    unreadable: &mut Vec<Unreadable>,
) -> rusqlite::Result<()> {
    // Workers after machines, connectors after workers: the order in which they came to be.
    let mut all = db.prepare("SELECT kind, id, record FROM records ORDER BY kind DESC, id")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
        let text = row.get_ref(2)?.as_bytes()?;
        let Some(known) = RecordKind::named(&kind) else {
            // A newer program's; it stays where it is.
            tracing::warn!(kind, id, "a record of a kind that this program does not know");
            continue;
        };
        match read_record(known, &id, text) {
            Ok(record) => state.restore(record),
            Err(reason) => unreadable.push(Unreadable {
                kind: known.as_str(),
                id,
                n: None,
                reason,
                record: text.to_vec(),
            }),
        }
    }
    Ok(())
}

fn read_record(kind: RecordKind, id: &str, text: &[u8]) -> Result<Record, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let record = Record::from_json(kind, text).map_err(|error| error.to_string())?;
    match record.key().id() {
        own if own == id => Ok(record),
        own => Err(format!("its row is {id}, and it says {own}")),
    }
}

/// A parsed row of the table of jobs.
struct JobRow {
    n: i64,
    id: Vec<u8>,
    job: Result<Arc<Job>, (String, Vec<u8>)>,
}

/// Jobs are many: several threads parse a stretch of the table each.
fn load_jobs(
    path: &Path,
    state: &mut State,
    rows: &Rows,
    unreadable: &mut Vec<Unreadable>,
) -> Result<(), OpenError> {
    let stretches = stretches(&schema::open_reader(path)?)?;
    let parsed = thread::scope(|scope| {
        let parsing: Vec<_> = stretches
            .into_iter()
            .map(|(from, to)| scope.spawn(move || parse_jobs(path, from, to)))
            .collect();
        let joined = parsing.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| {
                Err(OpenError::Thread(std::io::Error::other("a thread that reads jobs broke")))
            })
        });
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    for row in parsed.into_iter().flatten() {
        let kept = row.job.and_then(|job| match rows.restore(job.id, row.n) {
            true => Ok(job),
            false => {
                let text = serde_json::to_vec(&*job).unwrap_or_default();
                Err(("another row has the same id".to_owned(), text))
            }
        });
        match kept {
            Ok(job) => state.restore(Record::Job(job)),
            Err((reason, record)) => {
                rows.skip_to(row.n);
                let id = uuid_text(&row.id);
                unreadable.push(Unreadable { kind: "job", id, n: Some(row.n), reason, record });
            }
        }
    }
    Ok(())
}

/// The table's row numbers, cut into one stretch a thread.
fn stretches(db: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
    let ends = "SELECT coalesce(min(n), 0), coalesce(max(n), -1) FROM jobs";
    let (first, last): (i64, i64) = db.query_row(ends, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let parsers = thread::available_parallelism().map_or(1, usize::from).min(MAX_PARSERS);
    let size = (last - first) / i64::try_from(parsers).unwrap_or(1) + 1;
    let starts = (0..).map(|part| first + part * size).take_while(|start| *start <= last);
    Ok(starts.map(|start| (start, (start + size - 1).min(last))).collect())
}

fn parse_jobs(path: &Path, from: i64, to: i64) -> Result<Vec<JobRow>, OpenError> {
    let db = schema::open_reader(path)?;
    let mut found = Vec::new();
    let rows = "SELECT n, id, record FROM jobs WHERE n BETWEEN ?1 AND ?2 ORDER BY n";
    let mut rows = db.prepare(rows)?;
    let mut rows = rows.query([from, to])?;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?;
        let text = row.get_ref(2)?.as_bytes().map_err(rusqlite::Error::from)?;
        let job = parse_job(id, text).map_err(|reason| (reason, text.to_vec()));
        found.push(JobRow { n: row.get(0)?, id: id.to_vec(), job });
    }
    Ok(found)
}

fn parse_job(id: &[u8], text: &[u8]) -> Result<Arc<Job>, String> {
    let job: Job = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match job.id.as_uuid().as_bytes().as_slice() == id {
        true => Ok(Arc::new(job)),
        false => Err(format!("its row is {}, and it says {}", uuid_text(id), job.id)),
    }
}

fn uuid_text(id: &[u8]) -> String {
    match <[u8; 16]>::try_from(id) {
        Ok(bytes) => uuid::Uuid::from_bytes(bytes).hyphenated().to_string(),
        Err(_) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn load_idempotency(db: &Connection, state: &mut State) -> rusqlite::Result<()> {
    let mut all = db.prepare("SELECT customer, key, job, body, until_ms FROM idempotency")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        let customer: String = row.get(0)?;
        let customer = match customer.is_empty() {
            true => None,
            false => CustomerId::new(&customer).ok(),
        };
        let job = JobId::from_uuid(uuid::Uuid::from_bytes(row.get(2)?));
        let until = Timestamp::from_millis(row.get(4)?);
        let kept = KeptIdempotency { job, body: row.get(3)?, until };
        state.restore_idempotency(IdempotencyKey { customer, key: row.get(1)? }, kept);
    }
    Ok(())
}

/// Row numbers that jobs put aside had: what is kept under them never becomes another job's.
fn reserve_numbers(db: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    for table in ["payloads", "results", "quarantine"] {
        let last = format!("SELECT coalesce(max(n), 0) FROM {table}");
        rows.skip_to(db.query_row(&last, [], |row| row.get(0))?);
    }
    Ok(())
}
