//! What can be read: records, pages of jobs, the view's start, the pulse.

mod explain;
pub mod lists;
mod payloads;
mod queues;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pointsman_core::{
    JobId, Record, RecordKey, RecordKind, Seq, Timestamp, WorkerId,
    record::{Job, Worker},
};
use pointsman_store::{
    Confirmed, ConfirmedBy, EndedPage, JobFilter, JobsPage, LogPage, Position, Pulse,
    PulseConnector, PulseEntry, Seed, StoreError,
};
use redis::Value;

use crate::{
    doctor::Aside,
    encoding::keys::{self, TOLD_BY},
    execute::sight::record,
    link::{count, list, text},
    store::Inner,
};
use lists::is_in_view;

/// Records read in one go.
const CHUNK: usize = 500;
/// Jobs looked at for one page at most.
const MAX_SCAN: usize = 20_000;

/// What orders a list of jobs, backwards, and before what it begins.
#[derive(Debug, Clone, Copy)]
enum Before {
    Id(Option<JobId>),
    /// The number of an ending: only jobs that have ended are listed.
    End(Option<u64>),
}

/// Where a job stands in a list.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    id: JobId,
    /// The number of its ending; 0 where the list is by id.
    no: u64,
}

/// Of records that cannot be read: up to which seq the log was looked through for each, and what it
/// tells of it.
type LastTold = BTreeMap<RecordKey, (Seq, Option<Record>)>;

impl Inner {
    pub fn key(&self, key: &str) -> String {
        self.link.keys().full(key)
    }

    /// The records of these keys, those that exist. One that cannot be read is an error.
    pub async fn records(&self, wanted: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::with_capacity(wanted.len());
        for (_, record) in self.read_records(wanted).await? {
            found.extend(record.map_err(StoreError::Damaged)?);
        }
        Ok(found)
    }

    /// Those of these records that can be read: one that somebody broke does not keep anybody from
    /// the others. The doctor tells of it.
    pub async fn readable(&self, wanted: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        let mut readable = Vec::with_capacity(wanted.len());
        for (_, record) in self.read_records(wanted).await? {
            match record {
                Ok(record) => readable.extend(record),
                Err(why) => tracing::debug!(why, "left out, as it cannot be read"),
            }
        }
        Ok(readable)
    }

    /// Each of these records, or why it is none.
    pub async fn read_records(
        &self,
        wanted: &[RecordKey],
    ) -> Result<Vec<(RecordKey, Result<Option<Record>, String>)>, StoreError> {
        let mut found = Vec::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for key in chunk {
                pipeline.cmd("HGETALL").arg(self.key(&keys::record(key)));
            }
            for (key, answer) in chunk.iter().zip(self.link.send_typed(&pipeline).await?) {
                let read = match answer {
                    Some(answer) => record(key, &answer).map_err(|error| error.to_string()),
                    None => Err(format!("{} is no hash", self.key(&keys::record(key)))),
                };
                found.push((key.clone(), read));
            }
        }
        Ok(found)
    }

    /// Those of these jobs that no key names: neither a record, nor an index, nor what was set aside and
    /// still lies there.
    pub async fn gone_for_good(&self, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        // What is of a wrong type may have named any of them.
        let Some(noted) = self.noted_asides().await? else { return Ok(Vec::new()) };
        let mut asides: HashMap<String, Vec<String>> = HashMap::new();
        for Aside { aside, name, .. } in noted {
            asides.entry(name).or_default().push(aside);
        }
        let mut gone = Vec::new();
        for chunk in jobs.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for id in chunk {
                let job = keys::record(&RecordKey::Job(*id));
                let of_it = asides.get(&job).into_iter().flatten().chain([&job]);
                let of_it: Vec<_> = of_it.map(|aside| self.key(&keys::aside(aside))).collect();
                pipeline.cmd("EXISTS").arg(self.key(&job)).arg(of_it);
                pipeline.cmd("ZSCORE").arg(self.key("jobs")).arg(id.to_string());
                pipeline.cmd("ZSCORE").arg(self.key("ended")).arg(id.to_string());
            }
            let found = self.link.send_typed(&pipeline).await?;
            let is_nowhere = |found: &[Option<Value>]| {
                matches!(found, [Some(Value::Int(0)), Some(Value::Nil), Some(Value::Nil)])
            };
            let each = chunk.iter().zip(found.chunks_exact(3));
            gone.extend(each.filter(|(_, found)| is_nowhere(found)).map(|(id, _)| *id));
        }
        Ok(gone)
    }

    pub async fn job(&self, id: JobId) -> Result<Option<Arc<Job>>, StoreError> {
        Ok(match self.records(&[RecordKey::Job(id)]).await?.pop() {
            Some(Record::Job(job)) => Some(job),
            _ => None,
        })
    }

    /// The members of a set that are ids.
    pub async fn members<T: std::str::FromStr + Ord>(
        &self,
        key: &str,
    ) -> Result<Vec<T>, StoreError> {
        let found = self.link.send(redis::cmd("SMEMBERS").arg(self.key(key))).await?;
        let mut ids: Vec<T> = list(&found).iter().filter_map(|id| text(id).parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    pub async fn jobs_page(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        let (jobs, next) = self.page(filter, Before::Id(before), limit).await?;
        Ok(JobsPage { jobs, next: next.map(|place| place.id) })
    }

    pub async fn ended_page(
        &self,
        filter: &JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        let (jobs, next) = self.page(filter, Before::End(before), limit).await?;
        Ok(EndedPage { jobs, next: next.map(|place| place.no) })
    }

    /// A page of jobs, and the place after which the next begins.
    async fn page(
        &self,
        filter: &JobFilter,
        mut before: Before,
        limit: usize,
    ) -> Result<(Vec<Arc<Job>>, Option<Place>), StoreError> {
        let (mut page, mut last) = (Vec::new(), None);
        let (mut looked_at, mut chunk) = (0, CHUNK.min(limit.saturating_add(1)));
        loop {
            let some = self.jobs_before(before, chunk).await?;
            // Of those a filter admits it may let none through.
            chunk = CHUNK.min(chunk * 2);
            let ids: Vec<JobId> = some.iter().map(|place| place.id).collect();
            for job in self.readable(&self.perhaps_admitted(filter, &ids).await?).await? {
                let Record::Job(job) = job else { continue };
                let no = match before {
                    Before::Id(_) => 0,
                    Before::End(_) => job.ended().map_or(0, |ended| ended.ended_no),
                };
                let place = Place { id: job.id, no };
                // It may have been retried since it was listed.
                if matches!(before, Before::End(_)) && !some.contains(&place) {
                    continue;
                }
                if page.len() == limit {
                    return Ok((page, last));
                }
                if filter.admits(&job) {
                    page.push(job);
                    last = Some(place);
                }
            }
            looked_at += some.len();
            let Some(place) = some.last().copied() else { return Ok((page, None)) };
            if looked_at >= MAX_SCAN {
                return Ok((page, Some(place)));
            }
            before = match before {
                Before::Id(_) => Before::Id(Some(place.id)),
                Before::End(_) => Before::End(Some(place.no)),
            };
        }
    }

    /// Those of these jobs that a filter may admit, as far as single fields tell: a whole record is
    /// many times as much to read.
    async fn perhaps_admitted(
        &self,
        filter: &JobFilter,
        jobs: &[JobId],
    ) -> Result<Vec<RecordKey>, StoreError> {
        let status = filter.status.map(|status| status.as_str().to_owned());
        let service = filter.service.as_ref().map(ToString::to_string);
        let customer = filter.customer.as_ref().map(ToString::to_string);
        let wanted = [("status", status), ("service", service), ("customer_id", customer)];
        let (fields, wanted): (Vec<_>, Vec<_>) =
            wanted.into_iter().filter_map(|(field, value)| Some((field, value?))).unzip();
        let keys = jobs.iter().map(|id| RecordKey::Job(*id));
        if fields.is_empty() {
            return Ok(keys.collect());
        }
        let mut pipeline = redis::pipe();
        for key in keys.clone() {
            pipeline.cmd("HMGET").arg(self.key(&keys::record(&key))).arg(&fields);
        }
        let found = self.link.send_passing(&pipeline).await?;
        let may_be = |found: &Value| list(found).iter().map(text).eq(wanted.iter().cloned());
        Ok(keys.zip(&found).filter(|(_, found)| may_be(found)).map(|(key, _)| key).collect())
    }

    /// The next jobs of a list.
    async fn jobs_before(&self, before: Before, limit: usize) -> Result<Vec<Place>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        match before {
            Before::Id(before) => {
                let from = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
                range.arg(self.key("jobs")).arg(from).arg("-").arg("BYLEX").arg("REV");
                range.arg("LIMIT").arg(0).arg(limit.max(1));
                let found = self.link.send(&range).await?;
                let ids = list(&found).iter().filter_map(|id| text(id).parse().ok());
                Ok(ids.map(|id| Place { id, no: 0 }).collect())
            }
            Before::End(before) => {
                let from = before.map_or_else(|| "+inf".to_owned(), |no| format!("({no}"));
                range.arg(self.key("ended")).arg(from).arg("-inf").arg("BYSCORE").arg("REV");
                range.arg("LIMIT").arg(0).arg(limit.max(1)).arg("WITHSCORES");
                let found = self.link.send(&range).await?;
                let places = list(&found).chunks_exact(2).filter_map(|pair| {
                    Some(Place { id: text(&pair[0]).parse().ok()?, no: count(&pair[1])? })
                });
                Ok(places.collect())
            }
        }
    }

    /// What a view starts from. The records are read one after the other; what the log tells
    /// meanwhile is folded in.
    ///
    /// # Errors
    ///
    /// That the log lacks an entry of what happened meanwhile, each time anew, besides what
    /// [`StoreError`] tells.
    pub async fn seed(&self) -> Result<Seed, StoreError> {
        let mut lacking = None;
        let mut last_told = (self.link.epoch(), LastTold::new());
        for _ in 0..8 {
            let epoch = self.link.epoch();
            if last_told.0 != epoch {
                last_told = (epoch.clone(), LastTold::new());
            }
            let (from, ended_no) = self.head().await?;
            let mut records: HashMap<RecordKey, Record> = HashMap::new();
            let mut broken = Vec::new();
            for (key, record) in self.read_records(&self.view_keys(ended_no).await?).await? {
                match record {
                    Ok(Some(record)) => drop(records.insert(key, record)),
                    Ok(None) => {}
                    Err(why) => {
                        tracing::error!(why, "a record cannot be read; see `pointsman doctor`");
                        broken.push(key);
                    }
                }
            }
            records.extend(self.last_told(broken, from, &mut last_told.1).await?);
            let (seq, last_ended_no) = self.head().await?;
            // Fewer than before where a fail-over came in between.
            let meanwhile = usize::try_from(seq.saturating_sub(from)).unwrap_or(0);
            // A page ends where the log has no entry that can be read: what follows it is not known.
            let groups = match crate::log::page(&self.link, from, meanwhile).await? {
                LogPage::Groups(groups) if groups.len() == meanwhile => groups,
                LogPage::Groups(groups) => {
                    lacking = Some(from + groups.len() as u64 + 1);
                    continue;
                }
                LogPage::Cut { .. } => {
                    lacking = Some(from + 1);
                    continue;
                }
            };
            // All of it: each event is what was read, or what came after.
            for event in groups.iter().flat_map(|group| &group.events) {
                match &event.record {
                    Some(record) => drop(records.insert(event.key.clone(), record.clone())),
                    None => drop(records.remove(&event.key)),
                }
            }
            if epoch != self.link.epoch() {
                continue;
            }
            let mut records: Vec<Record> =
                records.into_values().filter(|record| is_in_view(record, last_ended_no)).collect();
            records.sort_by_key(Record::key);
            let position = Position { epoch, seq };
            return Ok(Seed { position, last_ended_no, records, now: self.link.now() });
        }
        Err(StoreError::Failed(match lacking {
            Some(seq) => format!(
                "entry {seq}-0 of the log ({}), written while the records were read, is missing or \
                 cannot be read, and so it was each time before: the log is cut faster than the \
                 records can be read, or another program changes it; find out which, and stop it",
                self.key("log")
            ),
            None => "the store's epoch changes again and again".to_owned(),
        }))
    }

    /// What the log last tells of records that cannot be read, as servers show it that saw it happen.
    /// Of what it does not reach back to nothing is known. It goes back through all of the log for one
    /// that it does not tell, once: `told` is what was looked for before, and up to where.
    async fn last_told(
        &self,
        broken: Vec<RecordKey>,
        till: Seq,
        told: &mut LastTold,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        if broken.is_empty() {
            return Ok(Vec::new());
        }
        let down_to = |key| told.get(key).map_or(0, |(seq, _)| *seq);
        let wanted = broken.iter().map(|key| (key.clone(), down_to(key))).collect();
        let mut found = crate::log::newest_of(&self.link, wanted).await?;
        let mut records = Vec::new();
        for key in broken {
            let before = told.remove(&key).and_then(|(_, record)| record);
            let record = found.remove(&key).map_or(before, |(_, record)| record);
            records.extend(record.clone().map(|record| (key.clone(), record)));
            told.insert(key, (till, record));
        }
        Ok(records)
    }

    /// The last seq and the last ending.
    pub async fn head(&self) -> Result<(u64, u64), StoreError> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.link.keys().meta()).arg("seq").arg("ended_no");
        let found = self.link.send(&get).await?;
        let n = |at: usize| {
            let n = list(&found).get(at).and_then(count);
            n.ok_or_else(|| StoreError::Failed("meta's seq or ended_no is no number".into()))
        };
        let head = (n(0)?, n(1)?);
        self.link.saw_seq(head.0);
        Ok(head)
    }

    /// When everybody was last heard.
    pub async fn pulse(&self) -> Result<Pulse, StoreError> {
        let mut keys = Vec::new();
        for kind in [RecordKind::Machine, RecordKind::Worker, RecordKind::Connector] {
            // Of those whose list is of a wrong type it is not told.
            keys.extend(self.listed(kind).await?.unwrap_or_default());
        }
        let heard = self.heard().await?;
        let machines = keys.iter().filter_map(|key| match key {
            RecordKey::Machine(id) => Some(id),
            _ => None,
        });
        let workers_of = self.workers_of(machines.collect()).await?;
        let mut pulse = Pulse::default();
        for key in &keys {
            match key {
                RecordKey::Worker(id) => pulse.workers.push(PulseEntry {
                    id: id.to_string(),
                    heartbeat_at: heard.get(&format!("w:{id}")).map(|confirmed| confirmed.at),
                }),
                RecordKey::Connector(id) => {
                    let confirmed = heard.get(&format!("c:{id}"));
                    pulse.connectors.push(PulseConnector {
                        id: id.clone(),
                        confirmed_at: confirmed.map(|confirmed| confirmed.at),
                        source: confirmed.map(|confirmed| confirmed.source),
                    });
                }
                RecordKey::Machine(id) => {
                    let workers = workers_of.get(id).into_iter().flatten();
                    let of_workers = workers.filter_map(|w| heard.get(&format!("w:{w}")));
                    let all = of_workers.chain(heard.get(&format!("m:{id}")));
                    pulse.machines.push(PulseEntry {
                        id: id.to_string(),
                        heartbeat_at: all.map(|confirmed| confirmed.at).max(),
                    });
                }
                _ => {}
            }
        }
        Ok(pulse)
    }

    /// When, and by what, everybody was last heard: `w:WORKER`, `m:MACHINE`, `c:CONNECTOR`.
    pub async fn heard(&self) -> Result<HashMap<String, Confirmed>, StoreError> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key("pulse")).arg(0).arg(-1).arg("WITHSCORES");
        let found = self.link.send(&range).await?;
        let heard = pairs(&found)
            .into_iter()
            .filter_map(|(member, score)| Some((member, confirmed(score.parse().ok()?))));
        Ok(heard.collect())
    }

    pub async fn workers(&self) -> Result<Vec<Arc<Worker>>, StoreError> {
        let ids: Vec<WorkerId> = self.members("workers").await?;
        let keys: Vec<RecordKey> = ids.into_iter().map(RecordKey::Worker).collect();
        let workers = self.readable(&keys).await?.into_iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker),
            _ => None,
        });
        Ok(workers.collect())
    }
}

/// What a score of `pulse` says.
pub fn confirmed(score: i64) -> Confirmed {
    let source = match score.rem_euclid(TOLD_BY) {
        0 => ConfirmedBy::Report,
        1 => ConfirmedBy::Job,
        _ => ConfirmedBy::Registration,
    };
    Confirmed { at: Timestamp::from_millis(score.div_euclid(TOLD_BY)), source }
}

/// Field and value, member and score.
pub fn pairs(found: &Value) -> Vec<(String, String)> {
    match found {
        Value::Map(pairs) => pairs.iter().map(|(k, v)| (text(k), text(v))).collect(),
        found => list(found).chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}
