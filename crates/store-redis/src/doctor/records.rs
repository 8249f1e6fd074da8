//! Records as they stand, beside what the log says of them, and all at one moment: what is written
//! while they are read is in the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    sync::Arc,
};

use pointsman_core::{
    JobId, LogGroup, Record, RecordKey, Seq,
    doctor::{Examination, Finding, FindingRule, Mend},
};
use pointsman_store::{Depth, StoreError};
use redis::Value;

use super::{
    sorted,
    witness::{AtRev, NoLook},
};
use crate::{
    encoding::{
        fields::{self, APART},
        keys,
    },
    link::{bytes, list, text},
    reads::lists::FLEET,
    store::Inner,
};

const CHUNK: usize = 250;
/// Differences named in one finding.
const NAMED: usize = 3;

/// What a record's hash should be.
#[derive(Debug)]
pub struct Sound {
    /// The `rev` that stands there; empty where there is none.
    pub found: String,
    /// The type of what stands there, where that is no hash; else empty.
    pub wrong: String,
    pub set: Vec<(String, String)>,
    pub del: Vec<String>,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Look {
    pub found: Examination,
    /// What makes a finding's record right, by the finding's id.
    pub sound: BTreeMap<String, Sound>,
    /// The `rev` that stands in a record that cannot be read, by the finding's id.
    pub unreadable: BTreeMap<String, String>,
    /// Names of keys, without the prefix: of those that are looked up by their names.
    pub keys: BTreeSet<String>,
    /// Names of the keys that keep what was submitted with an idempotency key.
    pub kept: Vec<String>,
    /// Whose payloads are there, of whatever type.
    pub payloads: HashSet<JobId>,
    /// Whose results are there.
    pub results: HashSet<JobId>,
    /// Jobs that are nowhere, and something is kept beside them, by the finding's id.
    pub stray: BTreeMap<String, JobId>,
    /// Keys of a wrong type, and the type: nothing is read from them.
    pub wrong: BTreeMap<String, String>,
    /// What follows `quarantine:` in the names of what is set aside, by the finding's id.
    pub asides: BTreeMap<String, Vec<String>>,
    /// What `quarantined` names and somebody deleted.
    pub taken_away: Vec<String>,
    /// Nothing else could be looked at, nor can anything be mended.
    pub is_cut_short: bool,
    /// The records as they should be at `seq`.
    pub records: Vec<Record>,
    /// The moment of the records.
    pub seq: Seq,
    /// Ids of findings about what changed while it was looked at.
    pub undecided: BTreeSet<String>,
    /// Where the log begins.
    pub oldest: Option<Seq>,
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

pub type Raw = BTreeMap<String, String>;

/// Hashes that are gone, unreadable, or not what the log says; without a field where a key of
/// another type stands in their place.
type Suspects = BTreeMap<RecordKey, Raw>;

impl Inner {
    /// Reads the fleet's records, and all jobs or those that run, each beside the log.
    pub async fn look_at_records(&self, depth: Depth, look: &mut Look) -> Result<(), NoLook> {
        let (from, _) = self.head().await?;
        look.oldest = self.oldest(look).await?;
        let mut wanted = self.listed_in_sets(look).await?;
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
            wanted.extend(ids.map(RecordKey::Job));
        }
        if depth == Depth::Everything {
            self.verified.lock().begin();
        }
        let mut suspects = Suspects::new();
        let wanted = sorted(wanted);
        for chunk in wanted.chunks(CHUNK) {
            self.look_at_chunk(chunk, look, &mut suspects).await?;
        }
        let listed = look.records.iter().flat_map(listed_jobs).collect();
        let unseen: Vec<RecordKey> =
            sorted(listed).into_iter().filter(|key| wanted.binary_search(key).is_err()).collect();
        for chunk in unseen.chunks(CHUNK) {
            self.look_at_chunk(chunk, look, &mut suspects).await?;
        }
        if depth == Depth::Everything {
            self.verified.lock().end();
        }
        self.settle(suspects, from, look).await?;
        let (till, _) = self.head().await?;
        self.roll_on(from, till, look).await
    }

    /// The records that are no jobs, by the sets that name them.
    async fn listed_in_sets(&self, look: &Look) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = Vec::new();
        for kind in FLEET {
            let ids = self.set_of(keys::index_of(kind), look).await?;
            keys.extend(ids.iter().filter_map(|id| RecordKey::parse(kind, id).ok()));
        }
        Ok(keys)
    }

    async fn look_at_chunk(
        &self,
        keys: &[RecordKey],
        look: &mut Look,
        suspects: &mut Suspects,
    ) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("HGETALL").arg(self.key(&keys::record(key)));
        }
        let (mut hashes, mut wrong) = (Vec::new(), Vec::new());
        for (key, found) in keys.iter().zip(self.link.send_typed(&pipeline).await?) {
            match found.as_ref().map(raw) {
                Some(raw) if raw.is_empty() => drop(suspects.insert(key.clone(), raw)),
                Some(raw) => hashes.push((key.clone(), raw)),
                None => {
                    wrong.push((keys::record(key), "hash"));
                    suspects.insert(key.clone(), Raw::new());
                }
            }
        }
        self.compare_types(&wrong, look).await?;
        let told = self.at_their_revs(&hashes, look.oldest).await?;
        for ((key, raw), told) in hashes.into_iter().zip(told) {
            let read = record_of(&key, &raw);
            let is_right = match (&told, &read) {
                (AtRev::Verified | AtRev::Unkept, Ok(_)) => true,
                (AtRev::Told(told), Ok(Some(record))) => {
                    differences(&texts(record), &texts(told)).is_empty()
                }
                _ => false,
            };
            match read {
                Ok(record) if is_right => {
                    self.verified.lock().add(&key, &raw);
                    look.records.extend(record);
                }
                _ => drop(suspects.insert(key, raw)),
            }
        }
        Ok(())
    }

    /// Says of each suspect what is wrong with it: the newest that the log holds of it is the truth.
    async fn settle(
        &self,
        suspects: Suspects,
        from: Seq,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let newest = self.newest(&suspects.keys().cloned().collect(), look).await?;
        for (key, raw) in suspects {
            let told = newest.get(&key);
            if let Some(is) = look.wrong.get(&keys::record(&key)).cloned() {
                let told = told.and_then(|(_, told)| told.as_ref());
                judge_type(&key, &is, told, &self.key(""), look);
                continue;
            }
            match told {
                // It was written meanwhile.
                Some((seq, _)) if *seq > from => {}
                Some((_, Some(told))) => judge(&key, &raw, told, look),
                Some((_, None)) if raw.is_empty() => {}
                // The log is whole and knows nothing of it: there never was such a record.
                None if raw.is_empty() && look.oldest == Some(1) => {}
                None if raw.is_empty() => look.found.add(lost(&key, &self.key(""))),
                _ => match record_of(&key, &raw) {
                    Ok(record) => look.records.extend(record),
                    Err(error) => {
                        let rule = FindingRule::UnreadableField;
                        let finding = Finding::about(rule, &key, error.to_string());
                        let rev = raw.get("rev").cloned().unwrap_or_default();
                        look.unreadable.insert(finding.id.clone(), rev);
                        look.found.add(finding);
                    }
                },
            }
        }
        Ok(())
    }

    /// Brings the records from one moment to another.
    pub async fn roll_on(&self, from: Seq, till: Seq, look: &mut Look) -> Result<(), NoLook> {
        let groups = self.meanwhile(from, till, look).await?;
        look.seq = till;
        if !groups.is_empty() {
            look.records = rolled(std::mem::take(&mut look.records), &groups);
        }
        Ok(())
    }
}

/// The records after these groups.
fn rolled(records: Vec<Record>, groups: &[Arc<LogGroup>]) -> Vec<Record> {
    let mut after: BTreeMap<RecordKey, Record> =
        records.into_iter().map(|record| (record.key(), record)).collect();
    for event in groups.iter().flat_map(|group| &group.events) {
        match &event.record {
            Some(record) => drop(after.insert(event.key.clone(), record.clone())),
            None => drop(after.remove(&event.key)),
        }
    }
    after.into_values().collect()
}

fn record_of(key: &RecordKey, raw: &Raw) -> Result<Option<Record>, fields::FieldsError> {
    let pairs: Vec<(&str, &str)> =
        raw.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect();
    fields::to_record(key.kind(), &keys::record(key), &pairs)
}

/// Compares a hash with what it should be.
fn judge(key: &RecordKey, raw: &Raw, told: &Record, look: &mut Look) {
    let right = texts(told);
    let read = record_of(key, raw);
    // As it would be written: the order of a list's entries, say, means nothing.
    let written: Raw = match &read {
        Ok(Some(record)) => texts(record),
        _ => raw.clone(),
    };
    let differences = differences(&written, &right);
    look.records.push(told.clone());
    if differences.is_empty() {
        return;
    }
    let finding = finding(key, &written, &right, &differences, read.is_err());
    let set = differences
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), right.get(*field)?.clone())));
    let del = differences.iter().filter(|field| !right.contains_key(**field));
    let sound = Sound {
        found: raw.get("rev").cloned().unwrap_or_default(),
        wrong: String::new(),
        set: set.collect(),
        del: del.map(|field| (*field).to_owned()).collect(),
    };
    look.sound.insert(finding.id.clone(), sound);
    look.found.add(finding);
}

/// Tells of a record in whose place a key of another type stands: it is set aside, and the record
/// written anew where the log has it.
fn judge_type(key: &RecordKey, is: &str, told: Option<&Record>, prefix: &str, look: &mut Look) {
    let name = keys::record(key);
    let problem = format!("{prefix}{name} is a {is}, not a hash");
    let mut finding = Finding::about(FindingRule::WrongType, key, problem);
    if let Some(told) = told {
        look.records.push(told.clone());
        finding.mend = Mend::Repair;
        "repair it: the key is set aside, and the record is written anew as the log has it; find \
         out who wrote it"
            .clone_into(&mut finding.cure);
        let (found, wrong) = (String::new(), is.to_owned());
        let set = texts(told).into_iter().collect();
        let sound = Sound { found, wrong, set, del: Vec::new() };
        look.sound.insert(finding.id.clone(), sound);
    }
    look.found.add(finding);
}

/// A record that something names, and that neither a hash nor the log holds.
fn lost(key: &RecordKey, prefix: &str) -> Finding {
    let problem = "its record is gone, and the log does not hold it any more";
    let finding = Finding::about(FindingRule::LostRecord, key, problem);
    let cure = match key {
        RecordKey::Job(id) => format!(
            "submit it again (what was submitted may still be in {prefix}payload:{id}), and repair \
             it: nothing names it any more"
        ),
        _ => "repair it: nothing names it any more; whom it belongs to registers anew".to_owned(),
    };
    Finding { cure, ..finding }
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
        _ if raw.is_empty() => {
            let problem = "its record is gone, and the log has it";
            return Finding::about(FindingRule::LostRecord, key, problem);
        }
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
