//! What can be read: records, pages of jobs, the view's start, the queues, the pulse.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use pointsman_core::{
    JobId, MachineId, Record, RecordKey, Timestamp, WorkerId,
    matching::{CapabilitiesDigest, Class, ClassKey, able},
    record::{Job, JobState, Worker},
    view::ENDED_IN_VIEW,
};
use pointsman_store::{
    ClassSummary, Confirmed, ConfirmedBy, Counts, JobFilter, JobsPage, LogPage, Position, Pulse,
    PulseConnector, PulseEntry, QueuesLane, Seed, StoreError, WaitingJob,
};
use redis::Value;

use crate::{
    keys,
    link::{list, number, text},
    plan::class_of,
    sight::record,
    store::Inner,
};

/// Records read in one go.
const CHUNK: usize = 500;
/// Jobs looked at for one page at most.
const MAX_SCAN: usize = 20_000;

/// How many workers of each profile are there.
pub type Present = BTreeMap<CapabilitiesDigest, u64>;

impl Inner {
    pub fn key(&self, key: &str) -> String {
        self.link.keys().full(key)
    }

    /// The records of these keys, those that exist. One that cannot be read is an error.
    pub async fn records(&self, wanted: &[RecordKey]) -> Result<Vec<Record>, StoreError> {
        let mut found = Vec::with_capacity(wanted.len());
        for (_, record) in self.read_records(wanted).await? {
            found.extend(record.map_err(StoreError::Failed)?);
        }
        Ok(found)
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
            let answers = self.link.send_all(&pipeline).await?;
            for (key, answer) in chunk.iter().zip(answers) {
                found.push((key.clone(), record(key, &answer).map_err(|e| e.to_string())));
            }
        }
        Ok(found)
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
        let mut page = JobsPage::default();
        let mut from = before.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let mut looked_at = 0;
        loop {
            let some = self.jobs_before(&from, CHUNK.min(limit.saturating_add(1))).await?;
            let keys: Vec<RecordKey> = some.iter().map(|id| RecordKey::Job(*id)).collect();
            for job in self.records(&keys).await? {
                let Record::Job(job) = job else { continue };
                if page.jobs.len() == limit {
                    page.next = page.jobs.last().map(|job| job.id);
                    return Ok(page);
                }
                looked_at += 1;
                let id = job.id;
                if filter.admits(&job) {
                    page.jobs.push(job);
                }
                if looked_at >= MAX_SCAN {
                    page.next = Some(id);
                    return Ok(page);
                }
            }
            let Some(last) = some.last() else { return Ok(page) };
            from = format!("({last}");
        }
    }

    /// Job ids before one, newest first.
    async fn jobs_before(&self, from: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let from = if from.starts_with('(') { from.to_owned() } else { "+".to_owned() };
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.key("jobs")).arg(from).arg("-").arg("BYLEX").arg("REV");
        range.arg("LIMIT").arg(0).arg(limit.max(1));
        let found = self.link.send(&range).await?;
        Ok(list(&found).iter().filter_map(|id| text(id).parse().ok()).collect())
    }

    /// What a view starts from. The records are read one after the other; what the log tells
    /// meanwhile is folded in, unless a record is newer.
    pub async fn seed(&self) -> Result<Seed, StoreError> {
        for _ in 0..8 {
            let epoch = self.link.epoch();
            let (from, _) = self.head().await?;
            let mut records: HashMap<RecordKey, Record> = HashMap::new();
            for (key, record) in self.read_records(&self.view_keys().await?).await? {
                match record {
                    Ok(Some(record)) => drop(records.insert(key, record)),
                    Ok(None) => {}
                    Err(why) => {
                        tracing::error!(why, "a record cannot be read; see `pointsman doctor`");
                    }
                }
            }
            // A record in whose change two events tell of it must not hide the second behind the
            // first: what counts is what was read.
            let read: HashMap<RecordKey, u64> =
                records.iter().map(|(key, record)| (key.clone(), record.rev())).collect();
            let (seq, last_ended_no) = self.head().await?;
            let LogPage::Groups(groups) =
                crate::log::page(&self.link, from, usize::try_from(seq - from).unwrap_or(0))
                    .await?
            else {
                continue;
            };
            for event in
                groups.iter().flat_map(|group| group.events.iter().map(move |e| (group.seq, e)))
            {
                let (at, event) = event;
                if read.get(&event.key).is_some_and(|rev| *rev >= at) {
                    continue;
                }
                match &event.record {
                    Some(record) => drop(records.insert(event.key.clone(), record.clone())),
                    None => drop(records.remove(&event.key)),
                }
            }
            if epoch != self.link.epoch() {
                continue;
            }
            let mut records: Vec<Record> = records
                .into_values()
                .filter(|record| match record {
                    Record::Job(job) => {
                        let shown = |no: u64| no + ENDED_IN_VIEW >= last_ended_no;
                        job.is_running() || job.ended().is_some_and(|ended| shown(ended.ended_no))
                    }
                    _ => true,
                })
                .collect();
            records.sort_by_key(Record::key);
            let position = Position { epoch, seq };
            return Ok(Seed { position, last_ended_no, records, now: self.link.now() });
        }
        Err(StoreError::Failed("the log is cut faster than the records can be read".into()))
    }

    /// The last seq and the last ending.
    pub async fn head(&self) -> Result<(u64, u64), StoreError> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.link.keys().meta()).arg("seq").arg("ended_no");
        let found = self.link.send(&get).await?;
        let n = |at: usize| {
            let n = list(&found).get(at).and_then(number).and_then(|n| u64::try_from(n).ok());
            n.ok_or_else(|| StoreError::Failed("meta's seq or ended_no is no number".into()))
        };
        let head = (n(0)?, n(1)?);
        self.link.saw_seq(head.0);
        Ok(head)
    }

    async fn view_keys(&self) -> Result<Vec<RecordKey>, StoreError> {
        let mut ended = redis::cmd("ZREVRANGE");
        ended.arg(self.key("ended")).arg(0).arg(ENDED_IN_VIEW);
        let mut running = redis::cmd("ZRANGE");
        running.arg(self.key("leases")).arg(0).arg(-1);
        let mut keys = self.fleet_keys().await?;
        let mut seen: HashSet<JobId> = HashSet::new();
        for jobs in [self.link.send(&ended).await?, self.link.send(&running).await?] {
            let ids = list(&jobs).iter().filter_map(|id| text(id).parse().ok());
            keys.extend(ids.filter(|id| seen.insert(*id)).map(RecordKey::Job));
        }
        Ok(keys)
    }

    /// Every record that is no job.
    pub async fn fleet_keys(&self) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys: Vec<RecordKey> = Vec::new();
        keys.extend(self.members("machines").await?.into_iter().map(RecordKey::Machine));
        keys.extend(self.members("workers").await?.into_iter().map(RecordKey::Worker));
        keys.extend(self.members("connectors").await?.into_iter().map(RecordKey::Connector));
        keys.extend(self.members("alerts").await?.into_iter().map(RecordKey::Alert));
        Ok(keys)
    }

    /// At most `limit` pending jobs and `limit` classes.
    pub async fn queues(&self, limit: usize) -> Result<QueuesLane, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.link.keys().meta());
        pipeline.cmd("SCARD").arg(self.key("workers")).cmd("SCARD").arg(self.key("machines"));
        pipeline.cmd("ZCARD").arg(self.key("classes"));
        let found = self.link.send_all(&pipeline).await?;
        let counts = counts(&found);
        if limit == 0 {
            return Ok(QueuesLane { counts, ..QueuesLane::default() });
        }
        let present = self.present().await?;
        let mut classes = self.classes_by_age().await?;
        classes.truncate(limit);
        let classes = self.class_summaries(&classes, &present).await?;
        Ok(QueuesLane { pending: self.first_waiting(limit).await?, classes, counts })
    }

    /// Classes with pending jobs: those with the oldest heads first, those without one last.
    async fn classes_by_age(&self) -> Result<Vec<ClassKey>, StoreError> {
        let services: Vec<String> = self.members("services").await?;
        let mut pipeline = redis::pipe();
        for service in services {
            pipeline.cmd("ZRANGE").arg(self.key(&format!("heads:{service}"))).arg(0).arg(-1);
        }
        let heads = self.link.send_all(&pipeline).await?;
        let heads = heads.iter().flat_map(list).filter_map(|head| {
            let head = text(head);
            let (seq, class) = head.split_once(':')?;
            Some((u64::from_str_radix(seq, 16).ok()?, class.parse().ok()?))
        });
        let mut heads: Vec<(u64, ClassKey)> = heads.collect();
        heads.sort_unstable();
        let mut classes: Vec<ClassKey> = heads.into_iter().map(|(_, class)| class).collect();
        let seen: HashSet<ClassKey> = classes.iter().copied().collect();
        let held: Vec<ClassKey> = self.members("held").await?;
        classes.extend(held.into_iter().filter(|class| !seen.contains(class)));
        Ok(classes)
    }

    pub async fn first_waiting_ids(&self, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let services: Vec<String> = self.members("services").await?;
        let mut args = vec![limit.to_string()];
        args.extend(services);
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let found = self.link.call("first_waiting", &args).await?;
        Ok(list(&found).iter().filter_map(|id| text(id).parse().ok()).collect())
    }

    async fn first_waiting(&self, limit: usize) -> Result<Vec<WaitingJob>, StoreError> {
        let ids = self.first_waiting_ids(limit).await?;
        let keys: Vec<RecordKey> = ids.into_iter().map(RecordKey::Job).collect();
        let waiting = self.records(&keys).await?.into_iter().filter_map(|record| match record {
            Record::Job(job) => Some(waiting_job(&job)),
            _ => None,
        });
        Ok(waiting.collect())
    }

    pub async fn present(&self) -> Result<Present, StoreError> {
        let found = self.link.send(redis::cmd("HGETALL").arg(self.key("present"))).await?;
        let pairs = pairs(&found).into_iter().filter_map(|(digest, n)| {
            let n = u64::try_from(n.parse::<i64>().ok()?).ok().filter(|n| *n > 0)?;
            Some((digest.parse().ok()?, n))
        });
        Ok(pairs.collect())
    }

    /// Summaries of these classes, those that live, in their order.
    pub async fn class_summaries(
        &self,
        classes: &[ClassKey],
        present: &Present,
    ) -> Result<Vec<ClassSummary>, StoreError> {
        let definitions = self.definitions.classes(&self.link, classes).await?;
        let mut pipeline = redis::pipe();
        for key in classes {
            pipeline.cmd("HGET").arg(self.key(&format!("class:{key}"))).arg("held");
            pipeline.cmd("ZCARD").arg(self.key(&format!("queue:{key}")));
            pipeline.cmd("ZRANGE").arg(self.key(&format!("queue:{key}"))).arg(0).arg(0);
        }
        let found = self.link.send_all(&pipeline).await?;
        let heads = found.chunks_exact(3).map(|parts| {
            let member = list(&parts[2]).first().map(text);
            member.and_then(|member| member.split_once(':')?.1.parse::<JobId>().ok())
        });
        let heads: Vec<Option<JobId>> = heads.collect();
        let keys: Vec<RecordKey> = heads.iter().flatten().map(|id| RecordKey::Job(*id)).collect();
        let mut created: HashMap<JobId, Timestamp> = HashMap::new();
        for record in self.records(&keys).await? {
            if let Record::Job(job) = record {
                created.insert(job.id, job.spec.created_at);
            }
        }
        let mut summaries = Vec::with_capacity(classes.len());
        for ((key, parts), head) in classes.iter().zip(found.chunks_exact(3)).zip(heads) {
            let Some(class) = definitions.get(key) else { continue };
            let count = |value: &Value| number(value).and_then(|n| u64::try_from(n).ok());
            summaries.push(ClassSummary {
                class: *key,
                service: class.service.clone(),
                requirements: class.requirements.clone(),
                waiting: count(&parts[1]).unwrap_or(0),
                held: count(&parts[0]).unwrap_or(0),
                oldest_at: head.and_then(|id| created.get(&id).copied()),
                able_workers: self.able_workers(class, present).await?,
            });
        }
        Ok(summaries)
    }

    /// How many of those present are able to run a class; counted by profile.
    pub async fn able_workers(&self, class: &Class, present: &Present) -> Result<u64, StoreError> {
        let mut able_ones = 0;
        for (digest, workers) in present {
            if self.profile_serves(*digest, class).await? {
                able_ones += workers;
            }
        }
        let excluded = class.excluded.union(&class.requirements.must_not.workers);
        let excluded: Vec<RecordKey> = excluded.cloned().map(RecordKey::Worker).collect();
        for record in self.records(&excluded).await? {
            if let Record::Worker(worker) = record
                && !worker.is_offline()
                && self.profile_serves(worker.capabilities_digest, class).await?
            {
                able_ones = able_ones.saturating_sub(1);
            }
        }
        Ok(able_ones)
    }

    async fn profile_serves(
        &self,
        digest: CapabilitiesDigest,
        class: &Class,
    ) -> Result<bool, StoreError> {
        let profile = self.definitions.profile(&self.link, digest).await?;
        Ok(profile.is_some_and(|capabilities| able(class, &capabilities)))
    }

    /// Classes that wait although nobody there is able to run them.
    pub async fn unservable(&self) -> Result<Vec<ClassSummary>, StoreError> {
        let present = self.present().await?;
        let keys = self.classes_by_age().await?;
        let definitions = self.definitions.classes(&self.link, &keys).await?;
        let mut nobodys = Vec::new();
        for key in keys {
            let Some(class) = definitions.get(&key) else { continue };
            if self.able_workers(class, &present).await? == 0 {
                nobodys.push(key);
            }
        }
        self.class_summaries(&nobodys, &present).await
    }

    /// Classes that lose job after job.
    pub async fn poisonous(&self) -> Result<Vec<(ClassKey, u32)>, StoreError> {
        let found = self.link.send(redis::cmd("HGETALL").arg(self.key("losses"))).await?;
        let mut poisonous = Vec::new();
        for (base, losses) in pairs(&found) {
            let n = losses.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let Ok(key) = base.parse::<ClassKey>() else { continue };
            if n < pointsman_core::decide::limits::POISONOUS_AFTER {
                continue;
            }
            let mut live = redis::cmd("SCARD");
            live.arg(self.key(&format!("base:{base}")));
            if number(&self.link.send(&live).await?).is_some_and(|live| live > 0) {
                poisonous.push((key, n));
            }
        }
        poisonous.sort();
        Ok(poisonous)
    }

    /// When everybody was last heard.
    pub async fn pulse(&self) -> Result<Pulse, StoreError> {
        let keys = self.fleet_keys().await?;
        let heard = self.heard().await?;
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
                    let workers = self.workers_of(id).await?;
                    let of_workers = workers.iter().filter_map(|w| heard.get(&format!("w:{w}")));
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

    pub async fn workers_of(&self, machine: &MachineId) -> Result<Vec<WorkerId>, StoreError> {
        self.members(&format!("machine:{machine}:workers")).await
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
        let workers = self.records(&keys).await?.into_iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker),
            _ => None,
        });
        Ok(workers.collect())
    }
}

/// A score of `pulse`: milliseconds times four, and what told it.
pub fn confirmed(score: i64) -> Confirmed {
    let source = match score.rem_euclid(4) {
        0 => ConfirmedBy::Report,
        1 => ConfirmedBy::Job,
        _ => ConfirmedBy::Registration,
    };
    Confirmed { at: Timestamp::from_millis(score.div_euclid(4)), source }
}

/// Field and value, member and score.
pub fn pairs(found: &Value) -> Vec<(String, String)> {
    match found {
        Value::Map(pairs) => pairs.iter().map(|(k, v)| (text(k), text(v))).collect(),
        found => list(found).chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
    }
}

fn counts(found: &[Value]) -> Counts {
    let [by_status, workers, machines, classes] = found else { return Counts::default() };
    let by_status: HashMap<String, String> = pairs(by_status).into_iter().collect();
    let count = |status: &str| by_status.get(status).and_then(|n| n.parse().ok()).unwrap_or(0);
    let size = |value: &Value| number(value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Counts {
        pending: count("pending"),
        held: count("held"),
        assigned: count("assigned"),
        in_progress: count("in_progress"),
        completed: count("completed"),
        failed: count("failed"),
        cancelled: count("cancelled"),
        workers: size(workers),
        machines: size(machines),
        classes: size(classes),
    }
}

fn waiting_job(job: &Job) -> WaitingJob {
    let hold = match job.state {
        JobState::Pending { hold } => hold,
        _ => None,
    };
    WaitingJob {
        id: job.id,
        service: job.service().clone(),
        priority: job.spec.effective_priority(),
        customer_id: job.spec.customer_id.clone(),
        workflow_id: job.spec.workflow_id.clone(),
        created_at: job.spec.created_at,
        class: class_of(job).key(),
        attempt: job.attempt,
        hold,
    }
}
