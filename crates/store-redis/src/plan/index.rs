//! The indexes that follow from the records: what a change of a record writes to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pointsman_core::{
    EventName, Record, RecordKey,
    decide::GroupKey,
    failure::FailureKind,
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey},
    record::{Job, JobState, PastOutcome, Worker},
};

use super::{
    waits,
    write::{Stamps, job},
};
use crate::{keys, pack::Pack};

/// A value of an operation: a key, a member, a score or a mark that the store fills in.
type Arg = Vec<u8>;

/// A class of which jobs come or go.
#[derive(Debug, Default)]
struct ClassChange {
    live: i64,
    held: i64,
    service: String,
    base: String,
    excluded: String,
    definition: String,
    /// A submission or retry needs it: it must not be one too many.
    is_asked_for: bool,
}

#[derive(Debug)]
struct QueueChange {
    push: bool,
    class: ClassKey,
    /// 100 minus the priority.
    rank: u8,
    place: u64,
    queued_seq: u64,
    service: String,
    job: String,
}

/// Everything that is written beside the records.
#[derive(Debug, Default)]
pub struct Indexes {
    ops: Vec<Vec<Arg>>,
    counts: BTreeMap<(&'static str, String), i64>,
    queue: Vec<QueueChange>,
    classes: BTreeMap<ClassKey, ClassChange>,
    losses: Vec<(ClassKey, Option<(i64, i64)>)>,
    profiles: BTreeMap<CapabilitiesDigest, (i64, Option<Arc<Capabilities>>)>,
}

/// The class that a job waits in, and the one that its losses count for.
pub fn class_of(job: &Job) -> Class {
    Class {
        service: job.spec.service.clone(),
        requirements: job.spec.requirements.clone(),
        customer: job.spec.customer_id.clone(),
        excluded: job.exclusions.iter().map(|exclusion| exclusion.worker_id.clone()).collect(),
    }
}

pub fn base_of(class: &Class) -> ClassKey {
    Class { excluded: BTreeSet::new(), ..class.clone() }.key()
}

impl Indexes {
    pub fn op(&mut self, args: &[&str]) {
        self.ops.push(args.iter().map(|arg| arg.as_bytes().to_vec()).collect());
    }

    pub fn op_bytes(&mut self, command: &str, key: &str, field: Option<&str>, value: &[u8]) {
        let mut op = vec![command.as_bytes().to_vec(), key.as_bytes().to_vec()];
        op.extend(field.map(|field| field.as_bytes().to_vec()));
        op.push(value.to_vec());
        self.ops.push(op);
    }

    fn count(&mut self, hash: &'static str, field: impl Into<String>, by: i64) {
        *self.counts.entry((hash, field.into())).or_default() += by;
    }

    pub fn keep_capabilities(
        &mut self,
        digest: CapabilitiesDigest,
        capabilities: &Arc<Capabilities>,
    ) {
        self.profiles.entry(digest).or_default().1 = Some(capabilities.clone());
    }

    /// What a record's change means for the indexes.
    pub fn follow(
        &mut self,
        key: &RecordKey,
        before: Option<&Record>,
        after: Option<&Record>,
        stamps: Stamps,
    ) {
        let (id, index) = (key.id(), keys::index(key));
        if let RecordKey::Job(_) = key {
            match (before, after) {
                (None, Some(_)) => self.op(&["ZADD", index, "0", &id]),
                (_, None) => self.op(&["ZREM", index, &id]),
                _ => {}
            }
            return self.follow_job(&id, job(before), job(after), stamps);
        }
        match (before, after) {
            (None, Some(_)) => self.op(&["SADD", index, &id]),
            (_, None) => self.op(&["SREM", index, &id]),
            _ => {}
        }
        match (key, before, after) {
            (RecordKey::Worker(_), before, after) => {
                let worker = |record| match record {
                    Some(Record::Worker(worker)) => Some(worker),
                    _ => None,
                };
                self.follow_worker(
                    &id,
                    worker(before.cloned()).as_deref(),
                    worker(after.cloned()).as_deref(),
                );
            }
            (RecordKey::Connector(_), _, None) => {
                self.op(&["ZREM", "confirmed", &id]);
                self.op(&["HDEL", "confirmed_by", &id]);
            }
            (RecordKey::Machine(_), _, None) => {
                self.op(&["ZREM", "machine_beats", &id]);
                self.op(&["DEL", &format!("machine:{id}:workers")]);
            }
            _ => {}
        }
    }

    fn follow_worker(&mut self, id: &str, before: Option<&Worker>, after: Option<&Worker>) {
        let digest = |worker: Option<&Worker>| worker.map(|w| w.capabilities_digest);
        if digest(before) != digest(after) {
            for (digest, by) in [(digest(before), -1), (digest(after), 1)] {
                if let Some(digest) = digest {
                    self.profiles.entry(digest).or_default().0 += by;
                }
            }
        }
        let machine = |worker: Option<&Worker>| worker.map(|w| w.machine_id.to_string());
        if machine(before) != machine(after) {
            if let Some(machine) = machine(before) {
                self.op(&["SREM", &format!("machine:{machine}:workers"), id]);
            }
            if let Some(machine) = machine(after) {
                self.op(&["SADD", &format!("machine:{machine}:workers"), id]);
            }
        }
        let present = |worker: Option<&Worker>| {
            worker.filter(|w| !w.is_offline()).map(|w| w.capabilities_digest.to_string())
        };
        if present(before) != present(after) {
            for (digest, by) in [(present(before), -1), (present(after), 1)] {
                if let Some(digest) = digest {
                    self.count("present", digest, by);
                }
            }
        }
        if after.is_none() {
            self.op(&["ZREM", "heartbeats", id]);
        }
    }

    fn follow_job(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>, stamps: Stamps) {
        self.count_statuses(before, after);
        self.follow_lease(id, before, after);
        self.follow_group(id, before, after);
        self.follow_times(id, before, after);
        self.follow_queue(id, before, after);
        let ended = |job: Option<&Job>| job.and_then(|job| job.ended().map(|e| e.ended_no));
        if ended(before).is_some() && ended(before) != ended(after) {
            self.op(&["ZREM", "ended", id]);
        }
        match ended(after) {
            Some(0) => self.op(&["ZADD", "ended", &format!("@e{}", stamps.ended), id]),
            Some(no) if ended(before) != Some(no) => {
                self.op(&["ZADD", "ended", &no.to_string(), id]);
            }
            _ => {}
        }
        if after.is_none() {
            self.op(&["DEL", &format!("payload:{id}")]);
            self.op(&["DEL", &format!("results:{id}")]);
            self.op(&["DEL", &format!("preview:{id}")]);
        }
    }

    fn count_statuses(&mut self, before: Option<&Job>, after: Option<&Job>) {
        for (job, by) in [(before, -1), (after, 1)] {
            let Some(job) = job else { continue };
            let held = job.is_pending() && !job.is_waiting();
            let status = if held { "held" } else { job.status().as_str() };
            self.count("counts", status, by);
            if job.is_ended() {
                let bytes = i64::try_from(job.bytes()).unwrap_or(i64::MAX);
                self.count("counts", "ended_bytes", by * bytes);
            }
            if job.is_running() {
                self.count("running", base_of(&class_of(job)).to_string(), by);
            }
        }
    }

    /// A running job has a lease: a new one for a new attempt, else the one it has.
    fn follow_lease(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let token = |job: Option<&Job>| job.filter(|job| job.is_running()).map(|job| job.token);
        match (token(before), token(after)) {
            (before, Some(token)) if before != Some(token) => {
                self.op(&["ZADD", "leases", "@lease", id]);
            }
            (Some(_), None) => self.op(&["ZREM", "leases", id]),
            _ => {}
        }
    }

    fn follow_group(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let place = |job: Option<&Job>| {
            let job = job.filter(|job| !job.is_ended())?;
            Some((GroupKey::of(&job.spec)?, job.place))
        };
        let (before, after) = (place(before), place(after));
        if before == after {
            return;
        }
        match (before, after) {
            (_, Some((group, 0))) => self.op(&["ZADD", &keys::group(&group), "@seq", id]),
            (_, Some((group, place))) => {
                self.op(&["ZADD", &keys::group(&group), &place.to_string(), id]);
            }
            (Some((group, _)), None) => self.op(&["ZREM", &keys::group(&group), id]),
            (None, None) => {}
        }
    }

    /// Holds, and the first exclusion of a pending job, by when they end.
    fn follow_times(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let hold = |job: Option<&Job>| match job.map(|job| &job.state) {
            Some(JobState::Pending { hold: Some(hold) }) => hold.until,
            _ => None,
        };
        let exclusion = |job: Option<&Job>| {
            let job = job.filter(|job| job.is_pending())?;
            job.exclusions.iter().map(|exclusion| exclusion.until).min()
        };
        let times = [
            ("holds", hold(before), hold(after)),
            ("exclusions", exclusion(before), exclusion(after)),
        ];
        for (index, before, after) in times {
            match after {
                _ if before == after => {}
                Some(until) => self.op(&["ZADD", index, &until.as_millis().to_string(), id]),
                None => self.op(&["ZREM", index, id]),
            }
        }
    }

    fn follow_queue(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let live = |job: Option<&Job>| -> Option<Class> {
            job.filter(|job| !job.is_ended()).map(class_of)
        };
        let (old, new) = (live(before), live(after));
        let is_new_run = before.is_none_or(Job::is_ended) && new.is_some();
        if old.as_ref().map(Class::key) != new.as_ref().map(Class::key) {
            for (class, by) in [(&old, -1), (&new, 1)] {
                let Some(class) = class else { continue };
                let change = self.class(class);
                change.live += by;
                change.is_asked_for |= by > 0 && is_new_run;
            }
        }
        for (job, class, by) in [(before, &old, -1), (after, &new, 1)] {
            if let (Some(job), Some(class)) = (job, class)
                && job.is_pending()
                && !job.is_waiting()
            {
                self.class(class).held += by;
            }
        }
        let entry = |job: Option<&Job>, class: &Option<Class>| {
            let job = job.filter(|job| waits(&job.state))?;
            let class = class.as_ref()?;
            Some((class.key(), job.spec.effective_priority(), job.place, job.queued_seq))
        };
        let (old_entry, new_entry) = (entry(before, &old), entry(after, &new));
        if old_entry == new_entry {
            return;
        }
        for (push, entry, class) in [(false, old_entry, &old), (true, new_entry, &new)] {
            if let (Some((class_key, priority, place, queued_seq)), Some(class)) = (entry, class) {
                self.queue.push(QueueChange {
                    push,
                    class: class_key,
                    rank: 100 - priority.min(100),
                    place,
                    queued_seq,
                    service: class.service.to_string(),
                    job: id.to_owned(),
                });
                self.class(class);
            }
        }
    }

    fn class(&mut self, class: &Class) -> &mut ClassChange {
        self.classes.entry(class.key()).or_insert_with(|| {
            let excluded = class.excluded.union(&class.requirements.must_not.workers);
            let excluded: String = excluded.map(|worker| format!(" {worker} ")).collect();
            ClassChange {
                service: class.service.to_string(),
                base: base_of(class).to_string(),
                excluded,
                definition: serde_json::to_string(class).unwrap_or_default(),
                ..ClassChange::default()
            }
        })
    }

    /// Losses in a row speak against a class; a completion speaks for it.
    pub fn note_health(&mut self, name: EventName, job: &Job, before: Option<&Record>) {
        let Some(known) = super::write::job(before).filter(|job| !job.is_ended()) else { return };
        let base = base_of(&class_of(known));
        let lost = match (name, &job.state) {
            (EventName::JobCompleted, _) => return self.losses.push((base, None)),
            (EventName::JobReturned, _) => true,
            (_, JobState::Failed(_, failure)) => failure.kind == FailureKind::Lost,
            _ => false,
        };
        if let Some(past) = job.past.last().filter(|_| lost)
            && matches!(past.outcome, PastOutcome::Returned { reason, .. } if reason.is_suspicious())
        {
            let times = (past.assigned_at.as_millis(), past.ended_at.as_millis());
            self.losses.push((base, Some(times)));
        }
    }

    pub fn pack(&self, pack: &mut Pack) {
        let counts = self.counts.iter().filter(|(_, by)| **by != 0);
        let counts: Vec<_> = counts.collect();
        pack.list(self.ops.len() + counts.len());
        for op in &self.ops {
            pack.list(op.len());
            for arg in op {
                pack.bytes(arg);
            }
        }
        for ((hash, field), by) in counts {
            pack.list(4).text("HINCRBY").text(hash).text(field).int(*by);
        }
        pack.list(self.queue.len());
        for change in &self.queue {
            let sign = if change.push { "+" } else { "-" };
            pack.list(7).text(sign).text(&change.class.to_string()).int(i64::from(change.rank));
            pack.int(change.place.cast_signed()).int(change.queued_seq.cast_signed());
            pack.text(&change.service).text(&change.job);
        }
        pack.list(self.classes.len());
        for (key, class) in &self.classes {
            pack.list(8).text(&key.to_string()).int(class.live).int(class.held);
            pack.text(&class.service).text(&class.base).text(&class.excluded);
            pack.text(&class.definition).flag(class.is_asked_for);
        }
        pack.list(self.losses.len());
        for (base, times) in &self.losses {
            match times {
                Some((from, till)) => {
                    pack.list(4).text("loss").text(&base.to_string()).int(*from).int(*till)
                }
                None => pack.list(2).text("proof").text(&base.to_string()),
            };
        }
        let profiles = self.profiles.iter().filter(|(_, (by, known))| *by != 0 || known.is_some());
        let profiles: Vec<_> = profiles.collect();
        pack.list(profiles.len());
        for (digest, (by, capabilities)) in profiles {
            pack.list(4).text(&digest.to_string()).int(*by);
            let services = capabilities.as_ref().map(|capabilities| {
                let names: Vec<&str> = capabilities.services.keys().map(|s| s.as_str()).collect();
                names.join(" ")
            });
            let json = capabilities.as_ref().and_then(|c| serde_json::to_string(c).ok());
            pack.text_or_false(json.as_deref()).text_or_false(services.as_deref());
        }
    }
}
