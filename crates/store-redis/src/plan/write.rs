//! Writes of records: the fields that changed, and the event that says so.

use std::{borrow::Cow, collections::HashMap};

use pointsman_core::{Record, RecordKey, record::Job};

use crate::{
    fields::{self, Fields},
    keys::{self, Keys},
    pack::{Pack, pack_fields},
};
use pointsman_core::Event;

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
    del: Vec<Cow<'static, str>>,
}

impl Write {
    /// From the record before to the one after; the store stamps `rev`.
    pub fn of(before: Option<&Record>, after: &Record, stamps: Stamps) -> Self {
        let mut set = fields::of_record(after);
        let mut del = Vec::new();
        let old = before.map(fields::of_record).unwrap_or_default();
        let mut old: HashMap<Cow<'static, str>, String> = old.into_iter().collect();
        set.retain(|(field, value)| {
            old.remove(field).as_ref() != Some(value)
                && field != "rev"
                && !(stamps.place && field == "place")
                && !(stamps.queued_seq && field == "queued_seq")
                && !(stamps.ended > 0 && field == "ended_no")
        });
        let stamped = [
            (stamps.place, "place"),
            (stamps.queued_seq, "queued_seq"),
            (stamps.ended > 0, "ended_no"),
        ];
        del.extend(old.into_keys().filter(|field| {
            field != "rev" && !stamped.iter().any(|(yes, name)| *yes && field == name)
        }));
        del.sort();
        Self { key: after.key(), stamps, set, del }
    }

    pub fn pack(&self, pack: &mut Pack, names: &Keys) {
        let Self { key, stamps, set, del } = self;
        pack.list(6).text(&names.full(&keys::record(key)));
        pack.flag(stamps.place).flag(stamps.queued_seq).int(i64::from(stamps.ended));
        pack.list(set.len() * 2);
        for (field, value) in set {
            pack.text(field).text(value);
        }
        pack.texts(del);
    }
}

/// A connector's part of the copy in its worker's hash.
pub fn brief(connector: &pointsman_core::record::Connector) -> String {
    serde_json::json!({
        "status": connector.status,
        "timestamp": connector.timestamp,
        "error_message": connector.error_message,
    })
    .to_string()
}

/// How an entry of the log names an event: `EVENT KIND:ID`.
pub fn event_name(event: &Event) -> String {
    format!("{} {}", event.name.as_str(), keys::record(&event.key))
}

/// The record after the event, before the store's stamps, packed; empty when it was removed.
pub fn event_value(event: &Event) -> Vec<u8> {
    let packed = |record| pack_fields(&fields::of_record(record));
    event.record.as_ref().map(packed).unwrap_or_default()
}

/// The same as JSON, for an event in which jobs are put in place of another.
pub fn event_json(event: &Event) -> String {
    let json = |record| serde_json::to_string(record).unwrap_or_default();
    event.record.as_ref().map(json).unwrap_or_default()
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
