//! Reading the log back, and how much of it is kept.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use pointsman_core::{Event, EventName, LogGroup, Record, RecordKey, RecordKind, Seq, Timestamp};
use pointsman_store::LogPage;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::LogRetention;

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Id(#[from] pointsman_core::IdError),
}

#[derive(Deserialize)]
struct Line<'a> {
    seq: Seq,
    at: Timestamp,
    event: EventName,
    kind: RecordKind,
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

/// Groups after `after`, at most `limit`. One that is missing, or cannot be read, ends the page; who
/// wants to go on behind it begins anew from a seed.
pub(crate) fn page(db: &mut Connection, after: Seq, limit: usize) -> rusqlite::Result<LogPage> {
    // One snapshot for both looks: the oldest row may go in between.
    let db = db.transaction()?;
    let oldest = "SELECT first_seq FROM log ORDER BY last_seq LIMIT 1";
    let oldest = db.prepare_cached(oldest)?.query_row([], seq_at(0)).optional()?;
    let oldest = match oldest {
        Some(oldest) => oldest,
        None => 1 + db.query_row("SELECT seq FROM position", [], seq_at(0))?,
    };
    if after.saturating_add(1) < oldest {
        return Ok(LogPage::Cut { oldest });
    }
    let mut groups = Vec::new();
    let rows = "SELECT last_seq, lines FROM log WHERE last_seq > ?1 ORDER BY last_seq";
    let mut rows = db.prepare_cached(rows)?;
    // No seq is larger.
    let mut rows = rows.query([i64::try_from(after).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let last = seq_at(0)(row)?;
        if let Some(oldest) = add_row(row, last, after, limit, &mut groups)? {
            if groups.is_empty() {
                return Ok(LogPage::Cut { oldest });
            }
            break;
        }
        if groups.len() >= limit {
            break;
        }
    }
    Ok(LogPage::Groups(groups.into_iter().map(Arc::new).collect()))
}

/// Adds what is in a row, as far as it follows on what is there. Where it does not: the seq behind what
/// is missing or cannot be read.
fn add_row(
    row: &rusqlite::Row<'_>,
    last: Seq,
    after: Seq,
    limit: usize,
    groups: &mut Vec<LogGroup>,
) -> rusqlite::Result<Option<Seq>> {
    let from = groups.len();
    let read = match row.get_ref(1)?.as_str() {
        Ok(lines) => read_row(lines, after, limit, groups).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let follows = |(n, group): &(usize, &LogGroup)| group.seq == after + 1 + *n as u64;
    let stray = groups.iter().enumerate().skip(from).find(|one| !follows(one));
    if let Some((n, seq)) = stray.map(|(n, group)| (n, group.seq)) {
        groups.truncate(n);
        return Ok(Some(seq));
    }
    let Err(why) = read else { return Ok(None) };
    tracing::error!(row = last, why, "a line of the log cannot be read");
    if groups.len() > from {
        // It may lack the line that cannot be read.
        groups.pop();
    }
    Ok(Some(last + 1))
}

fn seq_at(column: usize) -> impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Seq> {
    move |row| Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn read_row(
    lines: &str,
    after: Seq,
    limit: usize,
    groups: &mut Vec<LogGroup>,
) -> Result<(), LineError> {
    for text in lines.lines().filter(|text| !is_before(text, after)) {
        let line: Line<'_> = serde_json::from_str(text)?;
        if groups.last().is_none_or(|group| group.seq != line.seq) {
            if groups.len() == limit {
                return Ok(());
            }
            groups.push(LogGroup { seq: line.seq, at: line.at, events: Vec::new() });
        }
        let key = RecordKey::parse(line.kind, &line.id)?;
        let read = |raw: &RawValue| Record::from_json(line.kind, raw.get());
        let record = line.record.map(read).transpose()?;
        let event = Event { name: line.event, key, record };
        if let Some(group) = groups.last_mut() {
            group.events.push(event);
        }
    }
    Ok(())
}

/// The last that the log says of these records; without those that it removed or says nothing of.
/// `head` is the newest seq. It goes back from there, and no further than it can read: what lies
/// before a gap may be old.
pub(crate) fn newest(
    db: &Connection,
    mut wanted: BTreeSet<RecordKey>,
    head: Seq,
) -> rusqlite::Result<BTreeMap<RecordKey, Record>> {
    let mut newest = BTreeMap::new();
    let mut before = head + 1;
    let mut rows =
        db.prepare("SELECT first_seq, last_seq, lines FROM log ORDER BY last_seq DESC")?;
    let mut rows = rows.query([])?;
    while let (false, Some(row)) = (wanted.is_empty(), rows.next()?) {
        let (first, last) = (seq_at(0)(row)?, seq_at(1)(row)?);
        let mut groups = Vec::new();
        let lines = row.get_ref(2)?.as_str().unwrap_or_default();
        let is_read = read_row(lines, 0, usize::MAX, &mut groups).is_ok();
        let seqs = groups.iter().map(|group| group.seq);
        if !is_read || last + 1 != before || !seqs.eq(first..=last) {
            tracing::warn!(seq = before - 1, "the log cannot be read back from here");
            break;
        }
        for event in groups.into_iter().rev().flat_map(|group| group.events.into_iter().rev()) {
            if wanted.remove(&event.key) {
                newest.extend(event.record.map(|record| (event.key, record)));
            }
        }
        before = first;
    }
    Ok(newest)
}

/// A line begins with its seq, so those before a page are passed over unread.
fn is_before(line: &str, after: Seq) -> bool {
    let number = line.strip_prefix(r#"{"seq":"#).and_then(|rest| rest.split_once(','));
    number.and_then(|(seq, _)| seq.parse::<Seq>().ok()).is_some_and(|seq| seq <= after)
}

/// Rows looked up at once when the oldest are to go.
const LOOK_AHEAD: i64 = 128;
/// Rows that one transaction deletes at most, so that none is slow.
const MAX_DELETED: usize = 64;

#[derive(Debug, Clone, Copy)]
struct OldRow {
    first: Seq,
    last: Seq,
    at: Timestamp,
    bytes: u64,
}

/// The oldest end of the log, and how long the log is.
#[derive(Debug, Default)]
pub(crate) struct LogEnd {
    pub bytes: u64,
    oldest: VecDeque<OldRow>,
}

impl LogEnd {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, oldest: VecDeque::new() }
    }

    /// Forgets what is only remembered; what was deleted may have been rolled back.
    pub fn rolled_back(&mut self, bytes: u64) {
        *self = Self::new(bytes);
    }

    fn front(&mut self, db: &Connection) -> rusqlite::Result<Option<OldRow>> {
        if self.oldest.is_empty() {
            let oldest = "SELECT first_seq, last_seq, at_ms, octet_length(lines)
                          FROM log ORDER BY last_seq LIMIT ?1";
            let mut oldest = db.prepare_cached(oldest)?;
            let rows = oldest.query_map([LOOK_AHEAD], |row| {
                Ok(OldRow {
                    first: seq_at(0)(row)?,
                    last: seq_at(1)(row)?,
                    at: Timestamp::from_millis(row.get(2)?),
                    bytes: row.get::<_, i64>(3)?.cast_unsigned(),
                })
            })?;
            self.oldest = rows.collect::<Result<_, _>>()?;
        }
        Ok(self.oldest.front().copied())
    }

    /// Whether anything is to go; `head` is the newest seq.
    pub fn is_over(
        &mut self,
        db: &Connection,
        keep: &LogRetention,
        head: Seq,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let bytes = self.bytes;
        let Some(row) = self.front(db)? else { return Ok(false) };
        let too_many = head.saturating_sub(row.last) >= keep.groups;
        Ok(too_many || bytes > keep.bytes || now.since(row.at) > keep.age)
    }

    /// Deletes the oldest rows over the limits, some at a time.
    pub fn trim(
        &mut self,
        db: &Connection,
        keep: &LogRetention,
        head: Seq,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        for _ in 0..MAX_DELETED {
            if !self.is_over(db, keep, head, now)? {
                return Ok(());
            }
            let Some(row) = self.oldest.pop_front() else { return Ok(()) };
            db.prepare_cached("DELETE FROM log WHERE last_seq = ?1")?
                .execute([row.last.cast_signed()])?;
            self.bytes = self.bytes.saturating_sub(row.bytes);
            tracing::trace!(first = row.first, last = row.last, "cut from the log");
        }
        Ok(())
    }
}
