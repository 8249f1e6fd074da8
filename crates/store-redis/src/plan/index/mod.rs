//! The indexes that follow from the records: what a change of a record writes to them.

mod pack;

use std::{collections::BTreeMap, sync::Arc};

use pointsman_core::{
    EventName, Record, RecordKey,
    decide::{ClassHealth, GroupKey, class_health},
    matching::{Capabilities, CapabilitiesDigest, Class, ClassKey},
    record::{Job, JobState, Worker},
    to_json,
};

use super::{
    excluded_text,
    write::{Stamps, job},
};
use crate::encoding::{fields::Fields, keys};

/// What is done with members of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RemoveScored,
    Add,
    Remove,
}

impl Kind {
    fn command(self) -> (&'static str, &'static str) {
        match self {
            Self::RemoveScored => ("zset", "ZREM"),
            Self::Add => ("set", "SADD"),
            Self::Remove => ("set", "SREM"),
        }
    }
}

/// A class of which jobs come or go.
#[derive(Debug, Default)]
struct ClassChange {
    live: i64,
    held: i64,
    running: i64,
    service: String,
    base: String,
    excluded: String,
    definition: String,
    /// A submission or retry needs it: it must not be one too many.
    is_asked_for: bool,
}

/// A profile of which workers come or go.
#[derive(Debug, Default)]
struct ProfileChange {
    users: i64,
    /// Of those, the ones that are there.
    present: i64,
    capabilities: Option<Arc<Capabilities>>,
}

/// A class with its key, and the key of the one that its losses count for.
#[derive(Debug, Clone)]
struct Live {
    class: Class,
    key: ClassKey,
    base: ClassKey,
}

#[derive(Debug)]
struct QueueChange {
    push: bool,
    class: ClassKey,
    /// 100 minus the priority.
    rank: u8,
    place: u64,
    queued_seq: u64,
    job: String,
}

/// Everything that is written beside the records.
#[derive(Debug, Default)]
pub struct Indexes {
    /// Members with their scores, by key; with a flag of `ZADD`.
    scores: BTreeMap<(String, &'static str), Vec<(String, String)>>,
    /// Members that come or go, by key.
    members: BTreeMap<(Kind, String), Vec<String>>,
    /// Everything else, each by itself: type, command, key, values.
    ops: Vec<(&'static str, &'static str, String, Vec<Vec<u8>>)>,
    counts: BTreeMap<&'static str, i64>,
    queue: Vec<QueueChange>,
    classes: BTreeMap<ClassKey, ClassChange>,
    /// The class that was named last: its key is a digest, and the jobs of a plan are mostly alike.
    named: Option<Live>,
    losses: Vec<(ClassKey, Option<(i64, i64)>)>,
    profiles: BTreeMap<CapabilitiesDigest, ProfileChange>,
}

impl Indexes {
    /// Sets a member's score: a number, or a mark that the store fills in.
    pub fn score(&mut self, key: &str, score: &str, member: &str) {
        self.score_if("", key, score, member);
    }

    /// The same, on a condition of `ZADD`.
    pub fn score_if(&mut self, flag: &'static str, key: &str, score: &str, member: &str) {
        let entry = self.scores.entry((key.to_owned(), flag)).or_default();
        entry.push((score.to_owned(), member.to_owned()));
    }

    pub fn only_scores(&self) -> bool {
        let Self { scores: _, members, ops, counts, queue, classes, named: _, losses, profiles } =
            self;
        let records = members.is_empty() && ops.is_empty() && counts.is_empty();
        let jobs = queue.is_empty() && classes.is_empty() && losses.is_empty();
        records && jobs && profiles.is_empty()
    }

    fn change(&mut self, kind: Kind, key: &str, member: &str) {
        self.members.entry((kind, key.to_owned())).or_default().push(member.to_owned());
    }

    fn unscore(&mut self, key: &str, member: &str) {
        self.change(Kind::RemoveScored, key, member);
    }

    pub fn delete(&mut self, key: String) {
        self.ops.push(("", "DEL", key, Vec::new()));
    }

    pub fn set_for(&mut self, key: String, value: &[u8], millis: u128) {
        let life = millis.to_string().into_bytes();
        self.ops.push(("", "SET", key, vec![value.to_vec(), b"PX".to_vec(), life]));
    }

    pub fn set_field(&mut self, key: String, field: &str, value: &[u8]) {
        self.ops.push(("hash", "HSET", key, vec![field.as_bytes().to_vec(), value.to_vec()]));
    }

    pub fn set_fields(&mut self, key: String, fields: &Fields) {
        let parts = fields.iter().flat_map(|(field, value)| [field.as_bytes(), value.as_bytes()]);
        self.ops.push(("hash", "HSET", key, parts.map(<[u8]>::to_vec).collect()));
    }

    pub fn append(&mut self, key: String, element: Vec<u8>) {
        self.ops.push(("list", "RPUSH", key, vec![element]));
    }

    fn count(&mut self, status: &'static str, by: i64) {
        *self.counts.entry(status).or_default() += by;
    }

    pub fn keep_capabilities(
        &mut self,
        digest: CapabilitiesDigest,
        capabilities: &Arc<Capabilities>,
    ) {
        self.profiles.entry(digest).or_default().capabilities = Some(capabilities.clone());
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
                (None, Some(_)) => self.score(index, "0", &id),
                (_, None) => self.unscore(index, &id),
                _ => {}
            }
            return self.follow_job(&id, job(before), job(after), stamps);
        }
        match (before, after) {
            (None, Some(_)) => self.change(Kind::Add, index, &id),
            (_, None) => self.change(Kind::Remove, index, &id),
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
            (RecordKey::Connector(_), _, None) => self.unscore("pulse", &format!("c:{id}")),
            (RecordKey::Machine(_), _, None) => self.unscore("pulse", &format!("m:{id}")),
            _ => {}
        }
    }

    fn follow_worker(&mut self, id: &str, before: Option<&Worker>, after: Option<&Worker>) {
        let digest = |worker: Option<&Worker>| worker.map(|w| w.capabilities_digest);
        if digest(before) != digest(after) {
            for (digest, by) in [(digest(before), -1), (digest(after), 1)] {
                if let Some(digest) = digest {
                    self.profiles.entry(digest).or_default().users += by;
                }
            }
        }
        let machine = |worker: Option<&Worker>| worker.map(|w| keys::workers_of(&w.machine_id));
        if machine(before) != machine(after) {
            if let Some(workers) = machine(before) {
                self.change(Kind::Remove, &workers, id);
            }
            if let Some(workers) = machine(after) {
                self.change(Kind::Add, &workers, id);
            }
        }
        let present = |worker: Option<&Worker>| {
            worker.filter(|w| !w.is_offline()).map(|w| w.capabilities_digest)
        };
        if present(before) != present(after) {
            for (digest, by) in [(present(before), -1), (present(after), 1)] {
                if let Some(digest) = digest {
                    self.profiles.entry(digest).or_default().present += by;
                }
            }
        }
        if after.is_none() {
            self.unscore("pulse", &format!("w:{id}"));
        }
    }

    fn follow_job(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>, stamps: Stamps) {
        self.count_statuses(before, after);
        self.follow_lease(id, before, after);
        self.follow_group(id, before, after);
        self.follow_times(id, before, after);
        self.follow_queue(id, before, after);
        let ended = |job: Option<&Job>| job.and_then(|job| job.ended().map(|e| e.ended_no));
        // A new number replaces the old one by itself.
        if ended(before).is_some() && ended(after).is_none() {
            self.unscore("ended", id);
        }
        match ended(after) {
            Some(0) => self.score("ended", &format!("@e{}", stamps.ended), id),
            Some(no) if ended(before) != Some(no) => {
                self.score("ended", &no.to_string(), id);
            }
            _ => {}
        }
        if after.is_none() {
            for kind in ["payload", "results", "preview"] {
                self.delete(format!("{kind}:{id}"));
            }
        }
    }

    fn count_statuses(&mut self, before: Option<&Job>, after: Option<&Job>) {
        for (job, by) in [(before, -1), (after, 1)] {
            let Some(job) = job else { continue };
            let held = job.is_pending() && !job.is_waiting();
            let status = if held { "held" } else { job.status().as_str() };
            self.count(status, by);
            if job.is_ended() {
                let bytes = i64::try_from(job.bytes()).unwrap_or(i64::MAX);
                self.count("ended_bytes", by * bytes);
            }
        }
    }

    /// A running job has a lease: a new one for a new attempt, else the one it has. With that goes the
    /// attempt's picture.
    fn follow_lease(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let token = |job: Option<&Job>| job.filter(|job| job.is_running()).map(|job| job.token);
        match (token(before), token(after)) {
            (before, Some(token)) if before != Some(token) => {
                self.score("leases", "@lease", id);
            }
            (Some(_), None) => {
                self.unscore("leases", id);
                self.delete(format!("preview:{id}"));
            }
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
            (_, Some((group, 0))) => self.score(&keys::group(&group), "@seq", id),
            (_, Some((group, place))) => {
                self.score(&keys::group(&group), &place.to_string(), id);
            }
            (Some((group, _)), None) => self.unscore(&keys::group(&group), id),
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
                Some(until) => self.score(index, &until.as_millis().to_string(), id),
                None => self.unscore(index, id),
            }
        }
    }

    fn follow_queue(&mut self, id: &str, before: Option<&Job>, after: Option<&Job>) {
        let mut live =
            |job: Option<&Job>| job.filter(|job| !job.is_ended()).map(|job| self.live(job));
        let (old, new) = (live(before), live(after));
        let is_new_run = before.is_none_or(Job::is_ended) && new.is_some();
        if old.as_ref().map(|live| live.key) != new.as_ref().map(|live| live.key) {
            for (class, by) in [(&old, -1), (&new, 1)] {
                let Some(class) = class else { continue };
                let change = self.class(class);
                change.live += by;
                change.is_asked_for |= is_new_run;
            }
        }
        for (job, class, by) in [(before, &old, -1), (after, &new, 1)] {
            let (Some(job), Some(class)) = (job, class) else { continue };
            if job.is_running() {
                self.class(class).running += by;
            } else if !job.is_waiting() {
                self.class(class).held += by;
            }
        }
        let entry = |job: Option<&Job>, class: &Option<Live>| {
            let job = job.filter(|job| job.is_waiting())?;
            let class = class.as_ref()?;
            Some((class.key, job.spec.effective_priority(), job.place, job.queued_seq))
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
                    job: id.to_owned(),
                });
                self.class(class);
            }
        }
    }

    fn live(&mut self, job: &Job) -> Live {
        let class = job.class();
        let named = self.named.take().filter(|named| named.class == class);
        let live = named.unwrap_or_else(|| {
            let key = class.key();
            let base = if class.excluded.is_empty() { key } else { class.base() };
            Live { class, key, base }
        });
        self.named = Some(live.clone());
        live
    }

    fn class(&mut self, live: &Live) -> &mut ClassChange {
        self.classes.entry(live.key).or_insert_with(|| {
            let class = &live.class;
            ClassChange {
                service: class.service.to_string(),
                base: live.base.to_string(),
                excluded: excluded_text(class),
                definition: to_json(class),
                ..ClassChange::default()
            }
        })
    }

    pub fn note_health(&mut self, name: EventName, job: &Job, before: Option<&Record>) {
        let Some(known) = super::write::job(before).filter(|job| !job.is_ended()) else { return };
        let Some(health) = class_health(name, job) else { return };
        let times = match health {
            ClassHealth::Proven => None,
            ClassHealth::Lost { claimed, lost } => Some((claimed.as_millis(), lost.as_millis())),
        };
        let base = self.live(known).base;
        self.losses.push((base, times));
    }
}
