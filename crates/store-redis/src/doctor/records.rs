//! Records as they stand, beside what the log says of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Bound,
};

use pointsman_core::{
    Record, RecordKey, RecordKind, Seq,
    doctor::{Examination, Finding, FindingRule, Mend},
};
use pointsman_store::{Depth, StoreError};
use redis::Value;

use super::sorted;
use crate::{
    fields::{self, APART},
    keys,
    link::{bytes, list, text},
    log,
    store::Inner,
};

const CHUNK: usize = 250;
/// Differences named in one finding.
const NAMED: usize = 3;

/// What a record's hash should be.
#[derive(Debug)]
pub struct Sound {
    pub key: String,
    pub rev: Seq,
    pub set: Vec<(String, String)>,
    pub del: Vec<String>,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    pub found: Examination,
    /// What makes a finding's record right, by the finding's id.
    pub sound: BTreeMap<String, Sound>,
    /// Names of keys, without the prefix: of those that are looked up by their names.
    pub keys: BTreeSet<String>,
    /// Keys of a wrong type, and the type: nothing is read from them.
    pub wrong: BTreeMap<String, String>,
    /// Nothing else could be looked at, nor can anything be mended.
    pub is_cut_short: bool,
    /// The records as they should be.
    pub records: Vec<Record>,
    /// Where the log was when the records were read; none if it moved.
    pub seq: Option<Seq>,
}

impl Look {
    /// Keys that begin with one of these.
    pub fn keys_of<'a>(&'a self, begins: &[&'a str]) -> impl Iterator<Item = &'a str> {
        begins.iter().copied().flat_map(|begin| {
            let from = self.keys.range::<str, _>((Bound::Included(begin), Bound::Unbounded));
            from.map(String::as_str).take_while(move |key| key.starts_with(begin))
        })
    }
}

type Raw = BTreeMap<String, String>;

impl Inner {
    /// Reads the fleet's records, and all jobs or those that run, each beside the log.
    pub async fn look_at_records(&self, depth: Depth, look: &mut Look) -> Result<(), StoreError> {
        let (from, _) = self.head().await?;
        let mut wanted = self.listed_in_sets(look).await?;
        let mut jobs: BTreeSet<RecordKey> = BTreeSet::new();
        let mut indexes = vec!["leases"];
        if depth == Depth::Everything {
            indexes.push("jobs");
            let begins = ["job:", "worker:", "machine:", "connector:", "alert:"];
            wanted.extend(look.keys_of(&begins).filter_map(crate::plan::parse_key));
        }
        for index in indexes.into_iter().filter(|index| !look.wrong.contains_key(*index)) {
            let mut range = redis::cmd("ZRANGE");
            let ids = self.link.send(range.arg(self.key(index)).arg(0).arg(-1)).await?;
            let ids = list(&ids).iter().filter_map(|id| text(id).parse().ok());
            jobs.extend(ids.map(RecordKey::Job));
        }
        wanted.extend(jobs);
        for chunk in sorted(wanted).chunks(CHUNK) {
            self.look_at_chunk(chunk, look).await?;
        }
        let listed: Vec<RecordKey> = look.records.iter().flat_map(listed_jobs).collect();
        let known: BTreeSet<RecordKey> = look.records.iter().map(Record::key).collect();
        let unseen: Vec<RecordKey> =
            sorted(listed).into_iter().filter(|key| !known.contains(key)).collect();
        for chunk in unseen.chunks(CHUNK) {
            self.look_at_chunk(chunk, look).await?;
        }
        let (till, _) = self.head().await?;
        look.seq = (from == till).then_some(till);
        Ok(())
    }

    /// The records that are no jobs, by the sets that name them.
    async fn listed_in_sets(&self, look: &Look) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = Vec::new();
        for kind in
            [RecordKind::Machine, RecordKind::Worker, RecordKind::Connector, RecordKind::Alert]
        {
            let set = keys::index_of(kind);
            if look.wrong.contains_key(set) {
                continue;
            }
            let ids: Vec<String> = self.members(set).await?;
            keys.extend(ids.iter().filter_map(|id| RecordKey::parse(kind, id).ok()));
        }
        Ok(keys)
    }

    async fn look_at_chunk(&self, keys: &[RecordKey], look: &mut Look) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("HGETALL").arg(self.key(&keys::record(key)));
        }
        let mut unverified = Vec::new();
        for (key, found) in keys.iter().zip(self.link.send_each(&pipeline).await?) {
            match found {
                Ok(found) => {
                    let raw = raw(&found);
                    if raw.is_empty() {
                        continue;
                    }
                    unverified.push((key.clone(), raw));
                }
                Err(why) => {
                    let problem = format!("{}: {why}", self.key(&keys::record(key)));
                    look.found.add(Finding::about(FindingRule::WrongType, key, problem));
                }
            }
        }
        let told = self.told_by_log(&unverified, look).await?;
        for ((key, raw), told) in unverified.into_iter().zip(told) {
            self.compare(&key, &raw, told, look);
        }
        Ok(())
    }

    /// The record of each as the log entry of its `rev` holds it; none where that is not kept, or
    /// where the hash was compared before and is the same.
    async fn told_by_log(
        &self,
        records: &[(RecordKey, Raw)],
        look: &Look,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        if look.wrong.contains_key("log") {
            return Ok(vec![None; records.len()]);
        }
        let mut revs: BTreeMap<Seq, Option<std::sync::Arc<pointsman_core::LogGroup>>> =
            BTreeMap::new();
        let mut asked = Vec::with_capacity(records.len());
        for (key, raw) in records {
            let rev = raw.get("rev").and_then(|rev| rev.parse::<Seq>().ok());
            let known = self.verified.lock().get(key).copied() == Some(digest(raw));
            let rev = rev.filter(|rev| *rev > 0 && !known);
            asked.push(rev);
            if let Some(rev) = rev {
                revs.insert(rev, None);
            }
        }
        let wanted: Vec<Seq> = revs.keys().copied().collect();
        for chunk in wanted.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for rev in chunk {
                let id = format!("{rev}-0");
                pipeline.cmd("XRANGE").arg(self.key("log")).arg(&id).arg(&id);
            }
            for (rev, found) in chunk.iter().zip(self.link.send_all(&pipeline).await?) {
                // An entry that cannot be read tells nothing.
                revs.insert(*rev, log::groups(&found).ok().and_then(|mut groups| groups.pop()));
            }
        }
        let told = records
            .iter()
            .zip(asked)
            .map(|((key, _), rev)| revs.get(&rev?)?.as_ref()?.latest(key).cloned());
        Ok(told.collect())
    }

    fn compare(&self, key: &RecordKey, raw: &Raw, told: Option<Record>, look: &mut Look) {
        let pairs: Vec<(&str, &str)> =
            raw.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect();
        let read = fields::to_record(key.kind(), &keys::record(key), &pairs);
        let Some(told) = told else {
            match read {
                Ok(record) => {
                    self.verified.lock().put(key.clone(), digest(raw));
                    look.records.extend(record);
                }
                Err(error) => {
                    let problem = error.to_string();
                    look.found.add(Finding::about(FindingRule::UnreadableField, key, problem));
                }
            }
            return;
        };
        let right = texts(&told);
        // As it would be written: the order of a list's entries, say, means nothing.
        let written: Raw = match &read {
            Ok(Some(record)) => texts(record),
            _ => raw.clone(),
        };
        let differences = differences(&written, &right);
        if differences.is_empty() {
            self.verified.lock().put(key.clone(), digest(raw));
        } else {
            let finding = finding(key, raw, &right, &differences, read.is_err());
            let set = differences
                .iter()
                .filter_map(|field| Some(((*field).to_owned(), right.get(*field)?.clone())));
            let del = differences.iter().filter(|field| !right.contains_key(**field));
            let sound = Sound {
                key: keys::record(key),
                rev: told.rev(),
                set: set.collect(),
                del: del.map(|field| (*field).to_owned()).collect(),
            };
            look.sound.insert(finding.id.clone(), sound);
            look.found.add(finding);
        }
        look.records.push(told);
    }
}

fn finding(
    key: &RecordKey,
    raw: &Raw,
    right: &Raw,
    differences: &[&str],
    is_unreadable: bool,
) -> Finding {
    let said = |side: &Raw, field: &str| match side.get(field) {
        Some(value) => format!("{:?}", value.chars().take(60).collect::<String>()),
        None => "missing".to_owned(),
    };
    let named = differences.iter().take(NAMED).map(|field| {
        format!("{field} is {}, and the log says {}", said(raw, field), said(right, field))
    });
    let named: Vec<String> = named.collect();
    let more = differences.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; {more} more fields differ") } else { String::new() };
    let rule = match differences {
        _ if is_unreadable => FindingRule::UnreadableField,
        ["machine_id"] => FindingRule::UnknownMachine,
        fields if fields.iter().all(|field| !right.contains_key(*field)) => {
            FindingRule::ForeignField
        }
        _ => FindingRule::Contradiction,
    };
    let finding = Finding::about(rule, key, named.join("; ") + &more);
    let cure = "repair it: its fields become again what the log says".to_owned();
    Finding { mend: Mend::Repair, cure, ..finding }
}

/// Fields that are not what they should be. Copies are no part of a record.
fn differences<'a>(raw: &'a Raw, right: &'a Raw) -> Vec<&'a str> {
    let names: BTreeSet<&str> = raw.keys().chain(right.keys()).map(String::as_str).collect();
    let differs = |field: &&str| !APART.contains(field) && raw.get(*field) != right.get(*field);
    names.into_iter().filter(differs).collect()
}

fn raw(found: &Value) -> Raw {
    let parts = list(found).chunks_exact(2);
    let lossy = |value: &Value| {
        bytes(value).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
    };
    parts.map(|pair| (lossy(&pair[0]), lossy(&pair[1]))).collect()
}

fn texts(record: &Record) -> Raw {
    let fields = fields::of_record(record);
    fields.iter().map(|(field, value)| (field.to_owned(), value.to_owned())).collect()
}

fn digest(raw: &Raw) -> u64 {
    let mut hasher = DefaultHasher::new();
    raw.hash(&mut hasher);
    hasher.finish()
}

fn listed_jobs(record: &Record) -> Vec<RecordKey> {
    match record {
        Record::Worker(worker) => {
            worker.current_job_ids.iter().copied().map(RecordKey::Job).collect()
        }
        Record::Connector(connector) => {
            connector.job_ids.iter().copied().map(RecordKey::Job).collect()
        }
        _ => Vec::new(),
    }
}

/// What was compared already, and is as it should be.
pub type Verified = lru::LruCache<RecordKey, u64>;
