//! Writes of records: the fields that changed, and the event that says so.

use pointsman_core::{
    Event, Record, RecordKey, Timestamp,
    record::{Connector, ConnectorStatus, Job},
    to_json,
};
use serde::Serialize;

use crate::encoding::{
    fields::Fields,
    keys::{self, Keys},
    pack::Pack,
};

/// What only the store knows of a job, and stamps: its place, the seq of its run, and which of the
/// transition's endings is its own (0 is none).
#[derive(Debug, Clone, Copy, Default)]
pub struct Stamps {
    pub place: bool,
    pub queued_seq: bool,
    pub ended: u32,
}

/// Some fields of one record's hash.
#[derive(Debug)]
pub struct Write {
    pub key: RecordKey,
    stamps: Stamps,
    pub set: Fields,
    del: Vec<String>,
}

impl Write {
    /// From the record before to the one after; the store stamps `rev`.
    pub fn of(key: RecordKey, before: &Fields, after: Fields, stamps: Stamps) -> Self {
        let is_stamped = |field: &str| match field {
            "rev" => true,
            "place" => stamps.place,
            "queued_seq" => stamps.queued_seq,
            "ended_no" => stamps.ended > 0,
            _ => false,
        };
        // Both are in the order of the record, so the next one is mostly where the last one was.
        let mut left: Vec<Option<(&str, &str)>> = before.iter().map(Some).collect();
        let mut next = 0;
        let mut known = |field: &str| {
            let is_it = |known: &Option<(&str, &str)>| known.is_some_and(|(name, _)| name == field);
            let at = left[next..].iter().position(is_it).map(|at| at + next);
            let at = at.or_else(|| left[..next].iter().position(is_it))?;
            next = at + 1;
            left[at].take().map(|(_, value)| value)
        };
        let mut set = after;
        set.retain(|field, value| {
            let known = known(field);
            !is_stamped(field) && known.is_none_or(|known| known != value)
        });
        let gone = left.into_iter().flatten().map(|(field, _)| field);
        let mut del: Vec<String> =
            gone.filter(|field| !is_stamped(field)).map(str::to_owned).collect();
        del.sort();
        Self { key, stamps, set, del }
    }

    /// See `write_at` in `lua/plan.lua`.
    pub fn pack(&self, pack: &mut Pack, names: &Keys) {
        let Self { key, stamps, set, del } = self;
        let ended = format!("@e{}", stamps.ended);
        let stamps: Vec<(&str, &str)> = [
            (stamps.place, "place", "@seq"),
            (stamps.queued_seq, "queued_seq", "@seq"),
            (stamps.ended > 0, "ended_no", &ended),
        ]
        .into_iter()
        .filter_map(|(is_stamped, field, mark)| is_stamped.then_some((field, mark)))
        .collect();
        pack.len(stamps.len()).len(3 + 2 * (stamps.len() + set.len()));
        pack.text(&names.full(&keys::record(key))).text("rev").text("");
        for (field, mark) in stamps {
            pack.text(field).text(mark);
        }
        for (field, value) in set.iter() {
            pack.text(field).text(value);
        }
        pack.len(del.len()).texts(del);
    }

    /// For a record of which a claim that finds a job writes something else.
    pub fn pack_apart(&self, pack: &mut Pack, names: &Keys) {
        let mut apart = Pack::default();
        self.pack(&mut apart, names);
        pack.int(-1).text(&names.full(&keys::record(&self.key))).bytes(&apart.done());
    }

    /// The write of who takes jobs: the field that names the jobs comes first, with a place for
    /// what stands there; then places for `more` fields.
    pub fn pack_taker(&self, pack: &mut Pack, names: &Keys, jobs: &str, more: &[&str]) {
        let set: Vec<_> = self.set.iter().filter(|(field, _)| *field != jobs).collect();
        pack.len(0).len(3 + 2 * (1 + more.len() + set.len()));
        pack.text(&names.full(&keys::record(&self.key))).text("rev").text("");
        for field in [&[jobs], more].concat() {
            pack.text(field).text("");
        }
        for (field, value) in set {
            pack.text(field).text(value);
        }
        pack.len(self.del.len()).texts(&self.del);
    }

    /// What is written to a field.
    pub fn value(&self, field: &str) -> &str {
        self.set.get(field).unwrap_or_default()
    }
}

/// A connector's part of the copy of statuses in its worker's hash.
pub fn status(connector: &Connector) -> String {
    #[derive(Serialize)]
    struct Brief<'a> {
        error_message: &'a Option<String>,
        status: ConnectorStatus,
        timestamp: Timestamp,
    }
    let Connector { service_type, error_message, status, timestamp, .. } = connector;
    let brief = Brief { error_message, status: *status, timestamp: *timestamp };
    format!("\"{service_type}\":{}", to_json(&brief))
}

/// The copy, of what each connector's part is.
pub fn statuses(each: &[String]) -> String {
    format!("{{{}}}", each.join(","))
}

/// How an entry of the log names an event: `EVENT KIND:ID`.
pub fn event_name(event: &Event) -> String {
    format!("{} {}", event.name.as_str(), keys::record(&event.key))
}

/// The record after the event as JSON, for an event in which jobs are put in place of another.
pub fn event_json(event: &Event) -> String {
    event.record.as_ref().map(to_json).unwrap_or_default()
}

/// A job of `before`, if that is one.
pub fn job(record: Option<&Record>) -> Option<&Job> {
    match record {
        Some(Record::Job(job)) => Some(job),
        _ => None,
    }
}

/// The record that a key of the log or of a set names.
pub fn parse_key(text: &str) -> Option<RecordKey> {
    let (kind, id) = text.split_once(':')?;
    let kind = serde_json::from_value(serde_json::Value::String(kind.into())).ok()?;
    RecordKey::parse(kind, id).ok()
}
