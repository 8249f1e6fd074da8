//! Reading a store into memory. What cannot be read is set aside and told, and prevents nothing; a
//! record that is whole in the log is read from there.

use std::{borrow::Cow, path::Path, sync::Arc, thread};

use pointsman_core::{
    CustomerId, JobId, Record, RecordKind, Seq, Timestamp,
    command::IdempotencyKey,
    decide::KeptIdempotency,
    hex,
    matching::{Capabilities, CapabilitiesDigest, digest},
    record::Job,
    to_json,
};
use pointsman_store::{Epoch, State};
use rusqlite::{Connection, Row, types::ValueRef};

use super::schema;
use crate::{
    OpenError,
    doctor::quarantine::{Place, Quarantined, Unreadable, set_aside},
    log,
    rows::Rows,
};

/// Threads that parse jobs at most.
const MAX_PARSERS: usize = 4;

/// What was read.
pub(crate) struct Loaded {
    pub state: State,
    pub log_bytes: u64,
    /// Of what was set aside, now and earlier.
    pub quarantined: Vec<Quarantined>,
}

/// Where the log ends, as stored.
struct Position {
    seq: Seq,
    last_ended_no: u64,
    at: Timestamp,
    log_bytes: u64,
}

fn position(db: &Connection, path: &Path) -> Result<Position, OpenError> {
    let row = "SELECT seq, last_ended_no, at_ms, log_bytes FROM position";
    let position = db.query_row(row, [], |row| {
        Ok(Position {
            seq: count(row, 0)?,
            last_ended_no: count(row, 1)?,
            at: Timestamp::from_millis(row.get(2)?),
            log_bytes: count(row, 3)?,
        })
    });
    let position = position.map_err(|source| match source.sqlite_error() {
        // The database works, and holds what it must not.
        None => OpenError::NoPosition { path: path.to_owned(), source },
        Some(_) => source.into(),
    })?;
    let last = "SELECT coalesce(max(last_seq), 0) FROM log";
    let last = db.query_row(last, [], |row| count(row, 0))?;
    match position.seq < last {
        // The next change would get a number that another one has.
        true => {
            Err(OpenError::WrongPosition { path: path.to_owned(), seq: position.seq, log: last })
        }
        false => Ok(position),
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, n))
}

/// The time of the last change; the store's clock does not start earlier.
pub(crate) fn newest_time(db: &Connection, path: &Path) -> Result<Timestamp, OpenError> {
    Ok(position(db, path)?.at)
}

pub(crate) fn load(
    db: &mut Connection,
    path: &Path,
    epoch: Epoch,
    now: Timestamp,
    rows: &Rows,
) -> Result<Loaded, OpenError> {
    let position = position(db, path)?;
    let mut state = State::new(epoch, now);
    let mut unreadable = Vec::new();
    // Workers hold on to their capabilities, so those come first.
    load_capabilities(db, &mut state, &mut unreadable)?;
    load_records(db, &mut state, &mut unreadable)?;
    load_jobs(path, &mut state, rows, &mut unreadable)?;
    load_idempotency(db, &mut state, &mut unreadable)?;
    read_from_log(db, &mut state, rows, &mut unreadable, position.seq)?;
    state.restore_position(position.seq, position.last_ended_no);
    state.restore_losses();
    reserve_numbers(db, rows)?;
    let quarantined = set_aside(db, &unreadable, now)?;
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
        let (digest, json) = (bytes(row, 0)?, bytes(row, 1)?);
        match read_capabilities(&digest, &json) {
            Ok((digest, found)) => state.keep_capabilities(digest, &Arc::new(found)),
            Err(reason) => unreadable.push(Unreadable {
                kind: "capabilities",
                id: hex::encode(&digest),
                place: Place::Capabilities { digest: digest.into() },
                reason,
                record: json.into(),
                own: None,
                told: None,
            }),
        }
    }
    Ok(())
}

pub(crate) fn read_capabilities(
    kept_under: &[u8],
    json: &[u8],
) -> Result<(CapabilitiesDigest, Capabilities), String> {
    let bytes = <[u8; 16]>::try_from(kept_under).map_err(|_| "its digest is not 16 bytes")?;
    let found = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match (CapabilitiesDigest::from_bytes(bytes), digest(&found)) {
        (kept, own) if kept == own => Ok((kept, found)),
        (_, own) => Err(format!("what it says has another digest, {own}")),
    }
}

/// What a column holds, of whatever type it is.
pub(crate) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Cow<'a, [u8]>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cow::Borrowed(bytes),
        ValueRef::Null => Cow::Borrowed(&[]),
        ValueRef::Integer(n) => Cow::Owned(n.to_string().into()),
        ValueRef::Real(n) => Cow::Owned(format!("{n:?}").into()),
    })
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
        let (kind, id, text) = (bytes(row, 0)?, bytes(row, 1)?, bytes(row, 2)?);
        let (kind, name) = (String::from_utf8_lossy(&kind), String::from_utf8_lossy(&id));
        let Some(known) = RecordKind::named(&kind) else {
            // A newer program's; it stays where it is.
            tracing::warn!(%kind, id = %name, "a record of a kind that this program does not know");
            continue;
        };
        match read_record(known, &name, &text) {
            Ok(record) => state.restore(record),
            Err(reason) => unreadable.push(Unreadable {
                kind: known.as_str(),
                id: name.into(),
                place: Place::Record { id: id.clone().into() },
                reason,
                record: text.into(),
                own: None,
                told: None,
            }),
        }
    }
    Ok(())
}

pub(crate) fn read_record(kind: RecordKind, id: &str, text: &[u8]) -> Result<Record, String> {
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
    job: Result<Arc<Job>, NoJob>,
}

/// Why a row is not the job that it should be.
struct NoJob {
    reason: String,
    record: Vec<u8>,
    own: Option<Arc<Job>>,
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
                let (reason, record) = ("another row has the same id".to_owned(), to_json(&*job));
                Err(NoJob { reason, record: record.into_bytes(), own: None })
            }
        });
        match kept {
            Ok(job) => state.restore(Record::Job(job)),
            Err(NoJob { reason, record, own }) => {
                rows.skip_to(row.n);
                let id = uuid_text(&row.id);
                let place = Place::Job { n: row.n };
                let told = None;
                unreadable.push(Unreadable { kind: "job", id, place, reason, record, own, told });
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
        let (id, text) = (bytes(row, 1)?, bytes(row, 2)?);
        let job = parse_job(&id, &text).map_err(|reason| {
            let own = serde_json::from_slice(&text).ok().map(Arc::new);
            NoJob { reason, record: text.into(), own }
        });
        found.push(JobRow { n: row.get(0)?, id: id.into(), job });
    }
    Ok(found)
}

pub(crate) fn parse_job(id: &[u8], text: &[u8]) -> Result<Arc<Job>, String> {
    let job: Job = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match job.id.as_uuid().as_bytes().as_slice() == id {
        true => Ok(Arc::new(job)),
        false => Err(format!("its row is {}, and it says {}", uuid_text(id), job.id)),
    }
}

pub(crate) fn uuid_text(id: &[u8]) -> String {
    match <[u8; 16]>::try_from(id) {
        Ok(bytes) => uuid::Uuid::from_bytes(bytes).hyphenated().to_string(),
        Err(_) => hex::encode(id),
    }
}

fn load_idempotency(
    db: &Connection,
    state: &mut State,
    unreadable: &mut Vec<Unreadable>,
) -> rusqlite::Result<()> {
    let mut all = db.prepare("SELECT customer, key, job, body, until_ms FROM idempotency")?;
    let mut all = all.query([])?;
    while let Some(row) = all.next()? {
        match read_idempotency(row) {
            Ok((key, kept)) => state.restore_idempotency(key, kept),
            Err(reason) => {
                let (customer, key) = (bytes(row, 0)?, bytes(row, 1)?);
                let id = [&*customer, &*key].map(String::from_utf8_lossy).join("/");
                unreadable.push(Unreadable {
                    kind: "idempotency",
                    id: id.trim_start_matches('/').to_owned(),
                    place: Place::Idempotency { customer: customer.into(), key: key.into() },
                    reason,
                    record: bytes(row, 2)?.into(),
                    own: None,
                    told: None,
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn read_idempotency(row: &Row<'_>) -> Result<(IdempotencyKey, KeptIdempotency), String> {
    let wrong = |column| move |error: rusqlite::Error| format!("{column}: {error}");
    let customer: String = row.get(0).map_err(wrong("customer"))?;
    let customer = match customer.is_empty() {
        true => None,
        false => Some(CustomerId::new(&customer).map_err(|error| error.to_string())?),
    };
    let key = IdempotencyKey { customer, key: row.get(1).map_err(wrong("key"))? };
    let job = JobId::from_uuid(uuid::Uuid::from_bytes(row.get(2).map_err(wrong("job"))?));
    let body = row.get(3).map_err(wrong("body"))?;
    let until = Timestamp::from_millis(row.get(4).map_err(wrong("until_ms"))?);
    Ok((key, KeptIdempotency { job, body, until }))
}

/// What cannot be read in its row may be whole in the log. What the log does not know by what names its
/// row, and no other row has, is what its record says.
fn read_from_log(
    db: &Connection,
    state: &mut State,
    rows: &Rows,
    unreadable: &mut [Unreadable],
    head: Seq,
) -> rusqlite::Result<()> {
    let keys = unreadable.iter().filter_map(Unreadable::key);
    let wanted = keys.filter(|key| state.record(key).is_none()).collect();
    let mut newest = log::newest(db, wanted, head)?;
    for row in unreadable {
        row.told = row.key().and_then(|key| newest.remove(&key));
        let own = row.own.take().filter(|own| row.told.is_none() && rows.of(&own.id).is_none());
        if let Some(own) = own {
            row.id = own.id.to_string();
            row.told = Some(Record::Job(own));
        }
        if let (Some(Record::Job(job)), Place::Job { n }) = (&row.told, &row.place) {
            rows.restore(job.id, *n);
        }
        row.told.iter().cloned().for_each(|record| state.restore(record));
    }
    Ok(())
}

/// Row numbers that jobs set aside had: what is kept under them never becomes another job's.
fn reserve_numbers(db: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    for table in ["payloads", "results", "quarantine"] {
        let last = format!("SELECT coalesce(max(n), 0) FROM {table}");
        rows.skip_to(db.query_row(&last, [], |row| row.get(0))?);
    }
    Ok(())
}
