//! The claim of an exchange: its jobs are chosen inside Redis, what taking them changes is decided
//! here, by the same rules, on a stand-in for the job whose id the function replaces.

use std::sync::Arc;

use pointsman_core::{
    Answer, ConnectorId, Event, JobId, Record, RecordKey, ServiceName, Timestamp, Token,
    Transition,
    command::{Exchange, Held},
    decide::{self, Key, Source, Stop, Unread, Value, accepts, free_slots},
    record::{Connector, Job, JobSpec, Worker},
};
use uuid::Uuid;

use super::{
    Before,
    write::{Stamps, Write, event_json, event_name, status},
};
use crate::encoding::{
    fields::{self, Fields},
    keys::Keys,
    pack::Pack,
};

/// The id of the job that stands for the ones to be chosen.
const STAND_IN: JobId = JobId::from_uuid(Uuid::nil());

/// A job that the function chose.
#[derive(Debug)]
pub struct Pick {
    pub job: JobId,
    pub service: String,
    /// With the job's record as it was taken.
    pub event: Event,
    /// As they stand in its hash now.
    pub fields: Arc<Fields>,
    pub attempt: u32,
    pub payload: Option<Arc<[u8]>>,
}

impl Pick {
    pub fn held(&self, token: Token) -> Held {
        Held { job: self.job, attempt: self.attempt, token }
    }
}

/// What taking jobs of one service changes.
#[derive(Debug)]
struct ServicePlan {
    name: ServiceName,
    free: usize,
    write: Write,
    event: Event,
    connector: Connector,
    /// Where among the exchange's own events the connector's is; from 1, 0 is nowhere.
    at: usize,
}

/// A claim as `commit` takes it.
#[derive(Debug)]
pub struct ClaimPlan {
    worker: Worker,
    wanted: usize,
    /// Of the payloads of jobs that some of its tokens have already: they come with the answer, too.
    bytes: u64,
    pub tokens: Vec<Token>,
    services: Vec<ServicePlan>,
    /// Fields of a job that is taken, without attempt and token.
    job: Fields,
    write: Write,
    event: Event,
    worker_at: usize,
    /// The copy of its connectors' statuses: of each without a job of this claim, and with one.
    statuses: Vec<(ServiceName, String, String)>,
    /// Operations are signs of life; a bare claim is none.
    is_heard: bool,
}

/// The records that a decision sees, with a stand-in for the job that is taken.
struct WithStandIn<'a> {
    source: &'a dyn Source,
    job: Job,
}

impl Source for WithStandIn<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, Unread> {
        if *key == Key::Record(RecordKey::Job(STAND_IN)) {
            return Ok(Some(Value::Record(Record::Job(Arc::new(self.job.clone())))));
        }
        self.source.get(key)
    }
}

/// What the claim changes when it gets `service`'s job under its first token.
fn taken(
    source: &dyn Source,
    exchange: &Exchange,
    base: &Transition,
    service: &ServiceName,
    now: Timestamp,
) -> Result<Transition, Stop> {
    let spec = JobSpec::new(service.clone(), now);
    let source = WithStandIn { source, job: Job::new(STAND_IN, spec) };
    let mut given = false;
    decide::decide_claim(&source, exchange, base, now, &mut |_, open| {
        let give = !given && open.contains(service);
        given |= give;
        give.then_some(STAND_IN)
    })
}

impl ClaimPlan {
    /// What the exchange's claim may bring; `None` when it cannot bring anything. `base` is the
    /// exchange as it is without a job, `worker` as it then is.
    pub fn of(
        source: &dyn Source,
        exchange: &Exchange,
        base: &Transition,
        before: &Before,
        now: Timestamp,
    ) -> Result<Option<Self>, Stop> {
        let Some(open) = open(exchange, base, before, now) else { return Ok(None) };
        let position = |key: &RecordKey| {
            base.changes.iter().rposition(|event| event.key == *key).map_or(0, |at| at + 1)
        };
        let mut plan: Option<Self> = None;
        for (name, free) in open.services {
            let transition = taken(source, exchange, base, &name, now)?;
            let last = |key: &RecordKey| transition.changes.iter().rfind(|e| e.key == *key);
            let worker_key = RecordKey::Worker(exchange.worker.clone());
            let connector_key =
                RecordKey::Connector(ConnectorId::new(exchange.worker.clone(), name.clone()));
            let (Some(worker), Some(connector), Some(job)) =
                (last(&worker_key), last(&connector_key), last(&RecordKey::Job(STAND_IN)))
            else {
                continue;
            };
            let write = |event: &Event| {
                let after = fields::of_record(event.record.as_ref()?);
                let known = before.fields(&event.key);
                Some(Write::of(event.key.clone(), known, after, Stamps::default()))
            };
            let (Some(Record::Connector(record)), Some(connector_write)) =
                (&connector.record, write(connector))
            else {
                continue;
            };
            let service = ServicePlan {
                name,
                free,
                write: connector_write,
                event: connector.clone(),
                connector: (**record).clone(),
                at: position(&connector_key),
            };
            match &mut plan {
                Some(plan) => plan.services.push(service),
                None => {
                    let (Some(Record::Worker(record)), Some(write)) =
                        (&worker.record, write(worker))
                    else {
                        continue;
                    };
                    plan = Some(Self {
                        worker: (**record).clone(),
                        wanted: open.wanted,
                        bytes: open.bytes,
                        tokens: open.tokens.clone(),
                        services: vec![service],
                        job: job_fields(job, now),
                        write,
                        event: worker.clone(),
                        worker_at: position(&worker_key),
                        statuses: Vec::new(),
                        is_heard: !exchange.ops.is_empty(),
                    });
                }
            }
        }
        if let Some(plan) = &mut plan {
            plan.statuses = plan.copy_of_statuses(base, before);
        }
        Ok(plan)
    }

    fn copy_of_statuses(
        &self,
        base: &Transition,
        before: &Before,
    ) -> Vec<(ServiceName, String, String)> {
        let statuses = self.worker.services.iter().filter_map(|slots| {
            let id = ConnectorId::new(self.worker.id.clone(), slots.name.clone());
            let Some(Record::Connector(connector)) = before.latest(&RecordKey::Connector(id), base)
            else {
                return None;
            };
            let without = status(&connector);
            let taker = self.services.iter().find(|service| service.name == slots.name);
            let with = taker.map_or_else(|| without.clone(), |taker| status(&taker.connector));
            Some((slots.name.clone(), without, with))
        });
        statuses.collect()
    }

    pub fn digest(&self) -> pointsman_core::matching::CapabilitiesDigest {
        self.worker.capabilities_digest
    }

    /// Puts the events of what was taken among the exchange's own, as the function does in the log.
    pub fn merge(&self, events: &mut Vec<Event>, picks: &[Pick]) {
        let all: Vec<JobId> = picks.iter().map(|pick| pick.job).collect();
        let worker = self.worker_event(&all);
        let mut seen: Vec<&ServiceName> = Vec::new();
        if let Some(at) = self.worker_at.checked_sub(1) {
            events[at].record.clone_from(&worker.record);
        }
        for (n, pick) in picks.iter().enumerate() {
            events.push(pick.event.clone());
            if n == 0 && self.worker_at == 0 {
                events.push(worker.clone());
            }
            let service =
                self.services.iter().find(|service| service.name.as_str() == pick.service);
            let Some(service) = service.filter(|service| !seen.contains(&&service.name)) else {
                continue;
            };
            seen.push(&service.name);
            let of_it = picks.iter().filter(|other| other.service == pick.service);
            let event = service.event_of(&of_it.map(|other| other.job).collect::<Vec<_>>());
            match service.at.checked_sub(1) {
                Some(at) => events[at].record = event.record,
                None => events.push(event),
            }
        }
    }

    fn worker_event(&self, jobs: &[JobId]) -> Event {
        let mut worker = self.worker.clone();
        worker.current_job_ids.remove(&STAND_IN);
        worker.current_job_ids.extend(jobs);
        Event { record: Some(Record::Worker(worker.into())), ..self.event.clone() }
    }

    /// The records that a claim that finds a job writes, beside the job's. The plan for one that finds
    /// none may write them, too.
    pub fn takers(&self) -> impl Iterator<Item = &RecordKey> {
        [&self.write.key].into_iter().chain(self.services.iter().map(|service| &service.write.key))
    }

    pub fn pack(&self, pack: &mut Pack) {
        pack.text(self.worker.id.as_str()).text(&self.worker.capabilities_digest.to_string());
        pack.len(self.wanted).int(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        for service in &self.services {
            pack.text(service.name.as_str()).len(service.free);
        }
    }

    /// What taking jobs changes, as `lua/take.lua` reads it.
    pub fn taking(&self, names: &Keys) -> Vec<u8> {
        let mut pack = Pack::default();
        pack.len(self.tokens.len());
        for token in &self.tokens {
            pack.text(&token.to_string());
        }
        pack.len(self.job.len() * 2);
        for (field, value) in self.job.iter() {
            pack.text(field).text(value);
        }
        pack.len(self.statuses.len() * 3);
        for (service, without, with) in &self.statuses {
            pack.text(service.as_str());
            pack.text(without).text(with);
        }
        let taker = Taker { event: &self.event, at: self.worker_at, write: &self.write };
        taker.pack(&mut pack, names, "current_job_ids", &["connector_statuses"], false);
        for service in &self.services {
            let taker = Taker { event: &service.event, at: service.at, write: &service.write };
            // Its pulse is set with the operations where they change it.
            taker.pack(&mut pack, names, "job_ids", &[], self.is_heard && service.at == 0);
        }
        pack.done()
    }
}

/// A worker or a connector that takes jobs.
struct Taker<'a> {
    event: &'a Event,
    at: usize,
    write: &'a Write,
}

impl Taker<'_> {
    fn pack(&self, pack: &mut Pack, names: &Keys, jobs: &str, more: &[&str], hears: bool) {
        pack.len(self.at).text(&event_name(self.event));
        for text in [event_json(self.event).as_str(), self.write.value(jobs)] {
            let (before, after) = around_stand_in(text);
            pack.text(before).text(after);
        }
        pack.flag(hears);
        self.write.pack_taker(pack, names, jobs, more);
    }
}

/// What stands before and after the stand-in for the jobs; who takes a job always names it.
fn around_stand_in(json: &str) -> (&str, &str) {
    json.split_once("\"00000000-0000-0000-0000-000000000000\"").unwrap_or((json, ""))
}

impl ServicePlan {
    /// The connector's event with the jobs that were chosen.
    fn event_of(&self, jobs: &[JobId]) -> Event {
        let mut connector = self.connector.clone();
        connector.job_ids.remove(&STAND_IN);
        connector.job_ids.extend(jobs);
        Event { record: Some(Record::Connector(connector.into())), ..self.event.clone() }
    }
}

/// What a claim could take.
struct Open {
    wanted: usize,
    bytes: u64,
    tokens: Vec<Token>,
    services: Vec<(ServiceName, usize)>,
}

/// How many jobs the rules give this claim if there are enough, of each service and in all, and
/// the tokens that have none yet.
fn open(exchange: &Exchange, base: &Transition, before: &Before, now: Timestamp) -> Option<Open> {
    let claim = exchange.claim.as_ref()?;
    let Some(Record::Worker(worker)) =
        before.latest(&RecordKey::Worker(exchange.worker.clone()), base)
    else {
        return None;
    };
    let Answer::Exchanged { claimed, claim_refused: None, .. } = &base.answer else { return None };
    let mut tokens: Vec<Token> = Vec::new();
    for token in &claim.tokens {
        if !tokens.contains(token) && !claimed.iter().any(|held| held.token == *token) {
            tokens.push(*token);
        }
    }
    let bytes = claimed.iter().map(|held| match before.get(&RecordKey::Job(held.job)) {
        Some(Record::Job(job)) => job.spec.payload_bytes,
        _ => 0,
    });
    let bytes: u64 = bytes.sum();
    if tokens.is_empty() {
        return None;
    }
    // A worker that is to prove itself takes one and no second.
    let mut busy = (*worker).clone();
    busy.current_job_ids.insert(STAND_IN);
    let wanted = if accepts(&busy, now) { tokens.len() } else { 1 };
    let mut services = Vec::new();
    for slots in &worker.services {
        if !claim.services.is_empty() && !claim.services.contains(&slots.name) {
            continue;
        }
        let id = ConnectorId::new(worker.id.clone(), slots.name.clone());
        if let Some(Record::Connector(connector)) = before.latest(&RecordKey::Connector(id), base) {
            let free = free_slots(&worker, &slots.name, &connector) as usize;
            services.extend((free > 0).then(|| (slots.name.clone(), free)));
        }
    }
    (!services.is_empty()).then_some(Open { wanted, bytes, tokens, services })
}

/// The fields that taking a job changes: all but those that differ from job to job.
fn job_fields(taken: &Event, now: Timestamp) -> Fields {
    let service = match &taken.record {
        Some(Record::Job(job)) => job.spec.service.clone(),
        _ => return Fields::default(),
    };
    let waiting = Record::Job(Job::new(STAND_IN, JobSpec::new(service, now)).into());
    let Some(record) = &taken.record else { return Fields::default() };
    let (waiting, taken) = (fields::of_record(&waiting), fields::of_record(record));
    let mut fields = Write::of(record.key(), &waiting, taken, Stamps::default()).set;
    fields.retain(|field, _| field != "attempt" && field != "token");
    fields
}
