//! What a transition becomes on Redis: the checks, the writes of records, and those of every index
//! that follows from them. The function `commit` carries a plan out in one step; `lua/plan.lua`
//! names the parts in the order in which [`Plan::pack`] writes them.

mod before;
mod claim;
mod import;
mod index;
mod parts;
mod write;

use std::collections::{BTreeMap, HashMap};

pub use before::Before;
pub use claim::{ClaimPlan, Pick};
use index::Indexes;
use parts::Parts;
use pointsman_core::{
    Event, JobId, Record, RecordKey, Transition, WorkerId,
    command::IdempotencyKey,
    decide::{Guard, Intake, KeptIdempotency, Key, Side, Value, limits},
    hex,
    matching::{Capabilities, Class},
    record::Seq,
};
pub use write::{Stamps, Write, event_name, parse_key, status, statuses};

use crate::{
    encoding::{
        fields::{self, Fields},
        keys::{self, Keys},
        results,
    },
    log::KEPT_GROUPS,
};

/// A transition as the function `commit` takes it.
#[derive(Debug, Default)]
pub struct Plan {
    reads: Vec<(String, Option<Seq>)>,
    looked_up: Vec<(&'static str, String, Option<String>)>,
    guards: Vec<(&'static str, String, u64)>,
    writes: Vec<Write>,
    drops: Vec<String>,
    pub indexes: Indexes,
    events: Vec<(String, Vec<u8>)>,
    payloads: Vec<(String, Vec<u8>)>,
    endings: u32,
    /// It takes new work in, which a closed store does not.
    is_intake: bool,
    /// What it is to an import that fills the store: `moved`, `items`, or else refused.
    pub during_import: Option<&'static str>,
}

impl Plan {
    /// What a transition becomes, given the records that it was decided on.
    pub fn of(transition: &Transition, before: &Before) -> Self {
        let mut plan = Self::default();
        for (key, rev) in &transition.reads {
            plan.reads.push((keys::record(key), *rev));
        }
        // In one order, so that equal transitions are equal plans.
        plan.reads.sort();
        for (key, found) in &transition.looked_up {
            plan.looked_up.extend(looked_up(key, found.as_ref()));
        }
        plan.guards = transition.guards.iter().map(guard).collect();
        let mut stamps: HashMap<&RecordKey, Stamps> = HashMap::new();
        // The last of a record's events is what is written.
        let mut last: BTreeMap<&RecordKey, (&Event, Option<Fields>)> = BTreeMap::new();
        for event in &transition.changes {
            plan.stamp(event, &mut stamps);
            if let Some(Record::Job(job)) = &event.record {
                plan.indexes.note_health(event.name, job, before.get(&event.key));
            }
            let fields = event.record.as_ref().map(fields::of_record);
            let joined = fields.as_ref().map(fields::join).unwrap_or_default();
            plan.events.push((event_name(event), joined));
            last.insert(&event.key, (event, fields));
        }
        for (key, (event, fields)) in last {
            let stamps = stamps.get(key).copied().unwrap_or_default();
            match fields {
                Some(after) => {
                    let write = Write::of(key.clone(), before.fields(key), after, stamps);
                    plan.writes.push(write);
                }
                None => plan.drops.push(keys::record(key)),
            }
            plan.indexes.follow(key, before.get(key), event.record.as_ref(), stamps);
        }
        for side in &transition.sides {
            plan.side(side);
        }
        plan.is_intake = Intake::Closed.admits_changes(transition).is_err();
        plan
    }

    /// It was also decided on these.
    pub fn also_read(&mut self, reads: impl IntoIterator<Item = (RecordKey, Option<Seq>)>) {
        self.reads.extend(reads.into_iter().map(|(key, rev)| (keys::record(&key), rev)));
        self.reads.sort();
        self.reads.dedup();
    }

    /// The copy of its connectors' statuses that a worker's hash shows.
    pub fn copy_statuses(&mut self, worker: &WorkerId, statuses: &str) {
        let key = RecordKey::Worker(worker.clone());
        match self.writes.iter_mut().find(|write| write.key == key) {
            Some(write) => write.set.push("connector_statuses", statuses),
            None => self.indexes.set_field(
                keys::record(&key),
                "connector_statuses",
                statuses.as_bytes(),
            ),
        }
    }

    fn stamp<'a>(&mut self, event: &'a Event, stamps: &mut HashMap<&'a RecordKey, Stamps>) {
        let Some(Record::Job(job)) = &event.record else { return };
        let stamp = stamps.entry(&event.key).or_default();
        stamp.place |= job.place == 0;
        stamp.queued_seq |= job.queued_seq == 0;
        if job.ended().is_some_and(|ended| ended.ended_no == 0) {
            self.endings += 1;
            stamp.ended = self.endings;
        }
    }

    fn side(&mut self, side: &Side) {
        match side {
            Side::Idempotency { key, kept } => {
                self.keep_idempotency(key, kept, limits::IDEMPOTENCY.as_millis());
            }
            Side::Payload { job, payload } => {
                self.payloads.push((format!("payload:{job}"), payload.to_vec()));
            }
            Side::Result { job, result } => {
                self.indexes.append(results::key(*job), results::element(result));
            }
            Side::Capabilities { digest, capabilities } => {
                self.indexes.keep_capabilities(*digest, capabilities);
            }
        }
    }

    fn keep_idempotency(&mut self, key: &IdempotencyKey, kept: &KeptIdempotency, life: u128) {
        let until = kept.until.as_millis().to_string();
        let value = format!("{} {until}", idempotency_text(kept.job, &kept.body));
        self.indexes.set_for(keys::idempotency(key), value.as_bytes(), life);
        self.indexes.score("idempotency", &until, &keys::idempotency_member(key));
    }

    /// Whether it only sets scores: then the function `hear` does all of it.
    pub fn only_hears(&self) -> bool {
        let records = self.writes.is_empty() && self.drops.is_empty() && self.events.is_empty();
        let others =
            self.looked_up.is_empty() && self.guards.is_empty() && self.payloads.is_empty();
        records && others && self.during_import.is_none() && self.indexes.only_scores()
    }

    /// As the function takes it: the plan, and what is large behind it. With a claim whose jobs the
    /// function chooses.
    pub fn pack(self, claim: Option<&ClaimPlan>, names: &Keys) -> Vec<Vec<u8>> {
        let mut parts = Parts::default();
        let reads = parts.begin();
        for (key, rev) in &self.reads {
            reads.text(&names.full(key)).text_or_false(rev.map(|rev| rev.to_string()).as_deref());
        }
        let looked_up = parts.begin();
        for (kind, key, found) in &self.looked_up {
            looked_up.text(kind).text(&names.full(key)).text_or_false(found.as_deref());
        }
        let guards = parts.begin();
        for (kind, subject, millis) in &self.guards {
            guards.text(kind).text(subject).int(i64::try_from(*millis).unwrap_or(i64::MAX));
        }
        let writes = parts.begin();
        for write in &self.writes {
            match claim.is_some_and(|claim| claim.takers().any(|taker| *taker == write.key)) {
                true => write.pack_apart(writes, names),
                false => write.pack(writes, names),
            }
        }
        let drops = parts.begin();
        for key in &self.drops {
            drops.text(&names.full(key));
        }
        self.indexes.pack(&mut parts, names);
        let payloads = parts.begin();
        for (key, _) in &self.payloads {
            payloads.text(&names.full(key));
        }
        let for_claim = parts.begin();
        if let Some(claim) = claim {
            claim.pack(for_claim);
        }
        let log = parts.begin();
        log.text(&names.full("log")).text("MAXLEN").text("~").text(KEPT_GROUPS);
        // The seq, the time and the number of endings before are filled in.
        log.text("").text("at").text("").text("ended_no").text("");
        for (name, _) in &self.events {
            log.text(name).flag(false);
        }
        let plan = parts.done(self.endings, self.is_intake, self.during_import);
        let records = self.events.into_iter().map(|(_, record)| record);
        let payloads = self.payloads.into_iter().map(|(_, payload)| payload);
        let taking = claim.map(|claim| claim.taking(names));
        [plan].into_iter().chain(records).chain(payloads).chain(taking).collect()
    }
}

/// What is kept of an idempotency key, before its end: the job and the body's digest.
fn idempotency_text(job: JobId, body: &[u8; 32]) -> String {
    format!("{job} {}", hex::encode(body))
}

fn looked_up(key: &Key, found: Option<&Value>) -> Option<(&'static str, String, Option<String>)> {
    match (key, found) {
        (Key::Record(_), _) => None,
        // Compared without its last part, the end: what is over is not there.
        (Key::Idempotency(key), found) => {
            let text = match found {
                Some(Value::Idempotency { job, body }) => Some(idempotency_text(*job, body)),
                _ => None,
            };
            Some(("kept", keys::idempotency(key), text))
        }
        (Key::GroupPlace(group), found) => {
            let place = match found {
                Some(Value::GroupPlace(place)) => Some(place.to_string()),
                _ => None,
            };
            Some(("first", keys::group(group), place))
        }
        (Key::WorkersOf(machine), found) => {
            let mut workers: Vec<String> = match found {
                Some(Value::WorkersOf(workers)) => {
                    workers.iter().map(WorkerId::to_string).collect()
                }
                _ => Vec::new(),
            };
            workers.sort();
            Some(("members", keys::workers_of(machine), Some(workers.join(" "))))
        }
    }
}

fn guard(guard: &Guard) -> (&'static str, String, u64) {
    let millis = |after: &std::time::Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    match guard {
        Guard::LeaseOver { job, .. } => ("lease", job.to_string(), 0),
        Guard::WorkerSilent { worker, after, .. } => ("worker", worker.to_string(), millis(after)),
        Guard::MachineSilent { machine, after } => ("machine", machine.to_string(), millis(after)),
        Guard::MachineHeard { machine } => {
            ("heard", machine.to_string(), millis(&limits::SILENT_AFTER))
        }
        Guard::ConnectorUnconfirmed { connector, after } => {
            ("connector", connector.to_string(), millis(after))
        }
    }
}

/// The workers that may not run a class's jobs, as its hash names them: each between two blanks.
pub fn excluded_text(class: &Class) -> String {
    let excluded = class.excluded.union(&class.requirements.must_not.workers);
    excluded.map(|worker| format!(" {worker} ")).collect()
}

/// The services of a profile, as its hash names them.
pub fn services_text(capabilities: &Capabilities) -> String {
    let names: Vec<&str> = capabilities.services.keys().map(|name| name.as_str()).collect();
    names.join(" ")
}
