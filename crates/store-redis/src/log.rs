//! The log: a stream with one entry a group, `{seq}-0`; and following it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman_core::{Event, EventName, LogGroup, Outage, Record, RecordKey, Seq, Timestamp};
use pointsman_store::{Epoch, LogPage, StoreError};
use redis::Value;
use tokio::sync::broadcast;

use crate::{
    encoding::{
        fields,
        pack::{unpack_fields, unpack_texts},
    },
    link::{Link, answered, bytes, count, list, number, text},
    plan::parse_key,
};

/// Groups kept in the log.
pub const KEPT_GROUPS: &str = "200000";
/// The field in which events stand that were too many for fields of their own.
const FOLDED: &str = "events";
/// Groups read at once where nobody said how many.
const PAGE: usize = 1_000;
/// A follower's call waits so long for something new.
const BLOCK: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Stamps what only the store knows, as its function does it.
pub fn stamp(mut events: Vec<Event>, seq: Seq, at: Timestamp, endings_before: u64) -> LogGroup {
    let mut ended_no = endings_before;
    for record in events.iter_mut().filter_map(|event| event.record.as_mut()) {
        record.stamp(seq, &mut ended_no);
    }
    LogGroup { seq, at, events }
}

/// Reads an event's name and value; a value is the record's JSON, its hash, or empty.
pub fn event(name: &str, value: &[u8]) -> Result<Event, String> {
    let wrong = |why: &str| format!("event {name:?}: {why}");
    let (event_name, key) = name.split_once(' ').ok_or_else(|| wrong("no key"))?;
    let key = parse_key(key).ok_or_else(|| wrong("its key is no record's"))?;
    let event_name = EventName::named(event_name).ok_or_else(|| wrong("its name is not known"))?;
    let record = match value.first() {
        None => None,
        Some(b'{') => {
            let json = std::str::from_utf8(value).map_err(|_| wrong("not UTF-8"))?;
            let record = Record::from_json(key.kind(), json);
            Some(record.map_err(|error| wrong(&error.to_string()))?)
        }
        Some(_) => record_of(&key, value).map_err(|why| wrong(&why))?,
    };
    Ok(Event { name: event_name, key, record })
}

/// Events that were too many for fields of their own, names and values in turn.
fn unfold(packed: &[u8]) -> Result<Vec<Event>, String> {
    let texts = unpack_texts(packed).ok_or("its events are not packed right")?;
    let name = |name| std::str::from_utf8(name).map_err(|_| "an event's name is not UTF-8");
    texts.chunks(2).map(|pair| event(name(pair[0])?, pair.get(1).unwrap_or(&&[][..]))).collect()
}

/// A record as its hash: joined, or packed as formats 1 and 2 have it.
fn record_of(key: &RecordKey, value: &[u8]) -> Result<Option<Record>, String> {
    let (found, how) = match value.first() {
        Some(&fields::BETWEEN) => (fields::split(value), "joined"),
        _ => (unpack_fields(value), "packed"),
    };
    let found = found.ok_or_else(|| format!("its record is not {how} right"))?;
    fields::to_record(key.kind(), &key.id(), &found).map_err(|error| error.to_string())
}

fn group(entry: &Value) -> Result<LogGroup, String> {
    let [id, fields] = list(entry) else { return Err("an entry is no entry".into()) };
    let id = text(id);
    let seq = id.strip_suffix("-0").and_then(|seq| seq.parse().ok());
    let seq: Seq = seq.ok_or_else(|| format!("{id}: not the id of an entry of ours"))?;
    let (mut at, mut endings, mut events) = (None, None, Vec::new());
    for pair in list(fields).chunks_exact(2) {
        let [name, value] = pair else { continue };
        match text(name).as_str() {
            "at" => at = number(value),
            "ended_no" => endings = count(value),
            name => {
                let value = bytes(value).unwrap_or_default();
                let some = if name == FOLDED {
                    unfold(value)
                } else {
                    event(name, value).map(|e| vec![e])
                };
                events.extend(some.map_err(|why| format!("{id}: {why}"))?);
            }
        }
    }
    let (Some(at), Some(endings)) = (at, endings) else {
        return Err(format!("{id}: when it was, or the number of its first ending, is no number"));
    };
    Ok(stamp(events, seq, Timestamp::from_millis(at), endings))
}

/// The ids of entries behind this one that are none of ours; those of a page.
pub async fn strays(link: &Link, seq: Seq) -> Result<Vec<String>, StoreError> {
    let mut range = redis::cmd("XRANGE");
    range.arg(link.keys().full("log")).arg(format!("{}-0", seq + 1)).arg("+");
    let found = link.send(range.arg("COUNT").arg(PAGE)).await?;
    let strays = list(&found).iter().filter(|entry| group(entry).is_err());
    let ids = strays.filter_map(|entry| list(entry).first().map(text));
    Ok(ids.collect())
}

/// The seq of an entry of ours, whatever is in it.
fn seq_of(entry: &Value) -> Option<Seq> {
    list(entry).first().map(text)?.strip_suffix("-0")?.parse().ok()
}

pub fn groups(entries: &Value) -> Result<Vec<Arc<LogGroup>>, StoreError> {
    let groups = list(entries).iter().map(|entry| group(entry).map(Arc::new));
    let groups: Result<_, String> = groups.collect();
    groups.map_err(|why| StoreError::Failed(format!("the log cannot be read: {why}")))
}

/// Groups after `after`, at most `limit`. An entry that is missing, or cannot be read, ends the page;
/// who wants to go on behind it begins anew from a seed.
pub async fn page(link: &Link, after: Seq, limit: usize) -> Result<LogPage, StoreError> {
    let mut found = Vec::new();
    while found.len() < limit {
        let count = PAGE.min(limit - found.len());
        let from = after + found.len() as u64;
        let mut range = redis::cmd("XRANGE");
        range.arg(link.keys().full("log")).arg(format!("({from}-0")).arg("+");
        range.arg("COUNT").arg(count);
        let answer = link.send(&range).await?;
        let entries = list(&answer);
        for entry in entries {
            let next = after + found.len() as u64 + 1;
            // What others put between ours is none of it.
            let Some(seq) = seq_of(entry) else { continue };
            let oldest = match group(entry) {
                Ok(group) if seq == next => {
                    found.push(Arc::new(group));
                    continue;
                }
                Err(why) if seq == next => {
                    tracing::error!(why, "an entry of the log cannot be read");
                    seq + 1
                }
                _ => seq,
            };
            return Ok(match found.is_empty() {
                true => LogPage::Cut { oldest },
                false => LogPage::Groups(found),
            });
        }
        if entries.len() < count {
            break;
        }
    }
    if found.is_empty() {
        let mut seq = redis::cmd("HGET");
        seq.arg(link.keys().meta()).arg("seq");
        let head = count(&link.send(&seq).await?);
        let head = head.ok_or_else(|| StoreError::Failed("meta has no seq".into()))?;
        link.saw_seq(head);
        if head > after {
            // Written between the two looks, or cut away.
            let mut first = redis::cmd("XRANGE");
            first.arg(link.keys().full("log")).arg("-").arg("+").arg("COUNT").arg(1);
            let answer = link.send(&first).await?;
            let oldest = list(&answer).first().and_then(seq_of).unwrap_or(head + 1);
            if oldest > after + 1 {
                return Ok(LogPage::Cut { oldest });
            }
        }
    }
    Ok(LogPage::Groups(found))
}

/// The newest event about a record: its seq, and the record after it.
pub type Newest = (Seq, Option<Record>);

/// The keys that a group's events are about, as the log names them; `None` where they cannot be read.
fn named(entry: &Value) -> Option<Vec<String>> {
    let key = |name: &str| name.split_once(' ').map(|(_, key)| key.to_owned());
    let mut names = Vec::new();
    for pair in list(list(entry).get(1)?).chunks_exact(2) {
        let [name, value] = pair else { return None };
        let name = text(name);
        if name != FOLDED {
            names.extend(key(&name));
            continue;
        }
        for pair in unpack_texts(bytes(value)?)?.chunks(2) {
            names.extend(key(std::str::from_utf8(pair[0]).ok()?));
        }
    }
    Some(names)
}

/// Goes back through the log to the newest event about each of the records, of each down to a seq at
/// which it was looked for before. Of what may stand in an entry that cannot be read nothing is said,
/// nor where the log is none.
pub async fn newest_of(
    link: &Link,
    mut wanted: BTreeMap<RecordKey, Seq>,
) -> Result<BTreeMap<RecordKey, Newest>, StoreError> {
    let mut found = BTreeMap::new();
    let mut till = "+".to_owned();
    loop {
        let mut range = redis::pipe();
        let range = range.cmd("XREVRANGE").arg(link.keys().full("log")).arg(&till).arg("-");
        let answer = link.send_passing(range.arg("COUNT").arg(PAGE)).await?;
        let entries = answer.first().map(list).unwrap_or_default();
        for entry in entries {
            let id = list(entry).first().map(text).unwrap_or_default();
            let Some(seq) = id.split_once('-').and_then(|(seq, _)| seq.parse::<Seq>().ok()) else {
                continue;
            };
            till = format!("({id}");
            wanted.retain(|_, down_to| seq > *down_to);
            if wanted.is_empty() {
                return Ok(found);
            }
            let Some(names) = named(entry) else { return Ok(found) };
            let about: Vec<RecordKey> = names
                .iter()
                .filter_map(|name| parse_key(name))
                .filter(|key| wanted.contains_key(key))
                .collect();
            if about.is_empty() {
                continue;
            }
            let Ok(group) = group(entry) else {
                wanted.retain(|key, _| !about.contains(key));
                continue;
            };
            for event in group.events.into_iter().rev().filter(|event| about.contains(&event.key)) {
                if wanted.remove(&event.key).is_some() {
                    found.insert(event.key, (seq, event.record));
                }
            }
        }
        if entries.len() < PAGE {
            return Ok(found);
        }
    }
}

/// Follows the log from what is known now, and sends every group on. Somebody who lags, or a feed
/// that was broken or passed something over, reads the log instead. What is sent is of the epoch that
/// the link is in: who subscribes in an epoch gets nothing of the one before.
pub async fn follow(link: Link, events: broadcast::Sender<Arc<LogGroup>>) {
    let mut epoch = link.epoch();
    let mut last = format!("{}-0", link.seq());
    let mut outage = Outage::default();
    while !link.is_closed() {
        if let Err(why) = feed(&link, &events, &mut last, &mut epoch, &mut outage).await {
            if link.is_news(&mut outage, &why) {
                tracing::warn!(why, "the log cannot be followed; it is looked at once a second");
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

async fn feed(
    link: &Link,
    events: &broadcast::Sender<Arc<LogGroup>>,
    last: &mut String,
    epoch: &mut Epoch,
    outage: &mut Outage,
) -> Result<(), String> {
    let mut generations = link.generations();
    let mut connection = link.another().await.map_err(|error| error.to_string())?;
    if link.epoch() != *epoch {
        *epoch = link.epoch();
        // From what comes next on: another log may be shorter than what is known.
        "$".clone_into(last);
    }
    while !link.is_closed() && link.epoch() == *epoch {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(256).arg("BLOCK").arg(BLOCK.as_millis().to_string());
        read.arg("STREAMS").arg(link.keys().full("log")).arg(&*last);
        // Redis answers within the time it was given; one that was cut off does not.
        let answer = tokio::time::timeout(BLOCK * 2, connection.send_packed_command(&read));
        let answer = tokio::select! {
            answer = answer => answer,
            // A primary that froze says nothing, and once it thaws tells of a history that is over.
            _ = generations.changed() => return Ok(()),
        };
        let answer = answered(answer.map_err(|_| "no answer".to_owned())?);
        let answer = answer.map_err(|error| error.to_string())?;
        if let Some(away) = outage.works(Instant::now()) {
            tracing::info!(?away, "the log is followed again");
        }
        let Some(entries) = list(&answer).first().and_then(|stream| list(stream).get(1)) else {
            continue;
        };
        for entry in list(entries) {
            *last = list(entry).first().map(text).ok_or("an entry without an id")?;
            // One that cannot be read is found missing by whoever gets the next.
            let Ok(group) = group(entry) else { continue };
            let send = || {
                link.saw_seq(group.seq);
                // Nobody listening is no error.
                let _ = events.send(Arc::new(group));
            };
            if !link.while_in(epoch, send) {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{fields::Fields, pack::Pack};

    const NAME: &str = "alert_raised alert:inconsistent:s";
    const ALERT: [(&str, &str); 8] = [
        ("id", "inconsistent:s"),
        ("rev", "7"),
        ("rule", "inconsistent"),
        ("severity", "warning"),
        ("subject", "s"),
        ("message", "m"),
        ("action", "x"),
        ("raised_at", "2026-01-01T00:00:00.000Z"),
    ];

    fn joined(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut list = Fields::default();
        for (field, value) in fields {
            list.push(field, value);
        }
        fields::join(&list)
    }

    #[test]
    fn records_of_older_formats_are_read() {
        let mut packed = Pack::default();
        packed.list(ALERT.len() * 2);
        for (field, value) in ALERT {
            packed.text(field).text(value);
        }
        let told = event(NAME, &joined(&ALERT)).expect("it reads");
        assert_eq!(told.record.as_ref().map(Record::rev), Some(7));
        assert_eq!(event(NAME, &packed.done()), Ok(told));
    }

    #[test]
    fn texts_that_hold_what_stands_between_texts_are_no_record() {
        let mut odd = joined(&ALERT);
        let at = odd.iter().position(|byte| *byte == b'm').expect("it is there");
        odd.splice(at..at, [fields::BETWEEN, b'x', fields::BETWEEN]);
        assert_eq!(
            event(NAME, &odd).expect_err("it is refused").split(": ").last(),
            Some("its record is not joined right")
        );
    }
}
