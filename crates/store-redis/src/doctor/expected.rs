//! The indexes as they should be, worked out of the records.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{
    Record, RecordKey, WorkerId,
    decide::GroupKey,
    matching::{CapabilitiesDigest, Class, ClassKey},
    record::{Job, JobState, JobStatus},
};

use crate::encoding::keys;

/// Members with their scores; a score of none is whatever it is.
pub type Scores = BTreeMap<String, Option<u64>>;

/// In `meta` pending jobs that are held are counted apart.
const HELD: &str = "held";

#[derive(Debug, Default)]
pub struct Expected {
    pub scored: BTreeMap<String, Scores>,
    pub sets: BTreeMap<String, BTreeSet<String>>,
    /// Numbers in fields of hashes.
    pub counts: BTreeMap<String, BTreeMap<String, i64>>,
    /// Classes of jobs that live.
    pub classes: BTreeMap<ClassKey, Class>,
    /// Score and member of each class's best entry.
    pub heads: BTreeMap<ClassKey, (u64, String)>,
    /// Classes without a live job, which rest.
    pub resting: BTreeMap<ClassKey, Class>,
    /// Workers of each profile.
    pub users: BTreeMap<CapabilitiesDigest, Vec<WorkerId>>,
    /// What ended jobs take.
    pub ended_bytes: i64,
}

impl Expected {
    pub fn of(records: &[Record]) -> Self {
        let mut expected = Self::default();
        for status in JobStatus::ALL.map(JobStatus::as_str).into_iter().chain([HELD]) {
            expected.count("meta", status, 0);
        }
        expected.counts.entry("present".to_owned()).or_default();
        for set in ["workers", "machines", "connectors", "alerts", "held"] {
            expected.sets.entry(set.to_owned()).or_default();
        }
        for index in ["jobs", "leases", "ended", "holds", "exclusions", "classes", "resting"] {
            expected.scored.entry(index.to_owned()).or_default();
        }
        for record in records {
            match record {
                Record::Job(job) => expected.job(job),
                Record::Worker(worker) => {
                    expected.member(keys::workers_of(&worker.machine_id), &worker.id);
                    if !worker.is_offline() {
                        expected.count("present", &worker.capabilities_digest.to_string(), 1);
                    }
                    let users = expected.users.entry(worker.capabilities_digest).or_default();
                    users.push(worker.id.clone());
                    expected.record(&record.key());
                }
                _ => expected.record(&record.key()),
            }
        }
        for (key, (score, member)) in std::mem::take(&mut expected.heads) {
            let heads = keys::heads(&expected.classes[&key].service);
            expected.score(&heads, &member, Some(score));
            expected.heads.insert(key, (score, member));
        }
        for class in expected.classes.keys().copied().collect::<Vec<_>>() {
            if expected.counts[&keys::class(class)]["held"] > 0 {
                expected.member("held".to_owned(), class);
            }
        }
        expected
    }

    fn record(&mut self, key: &RecordKey) {
        self.member(keys::index(key).to_owned(), key.id());
    }

    fn member(&mut self, set: String, member: impl ToString) {
        self.sets.entry(set).or_default().insert(member.to_string());
    }

    fn score(&mut self, index: &str, member: &str, score: Option<u64>) {
        self.scored.entry(index.to_owned()).or_default().insert(member.to_owned(), score);
    }

    fn count(&mut self, hash: &str, field: &str, by: i64) {
        let fields = self.counts.entry(hash.to_owned()).or_default();
        *fields.entry(field.to_owned()).or_default() += by;
    }

    fn job(&mut self, job: &Job) {
        let id = job.id.to_string();
        self.score("jobs", &id, Some(0));
        let held = job.is_pending() && !job.is_waiting();
        self.count("meta", if held { HELD } else { job.status().as_str() }, 1);
        if let Some(ended) = job.ended() {
            self.score("ended", &id, Some(ended.ended_no));
            self.ended_bytes += i64::try_from(job.bytes()).unwrap_or(i64::MAX);
            return;
        }
        if let Some(group) = GroupKey::of(&job.spec) {
            self.score(&keys::group(&group), &id, Some(job.place));
        }
        let class = job.class();
        let key = class.key();
        let name = keys::class(key);
        for (field, by) in
            [("live", 1), ("held", i64::from(held)), ("running", i64::from(job.is_running()))]
        {
            self.count(&name, field, by);
        }
        self.score("classes", &key.to_string(), None);
        self.member(keys::base(&class.base()), key);
        if job.is_running() {
            self.score("leases", &id, None);
        }
        if let JobState::Pending { hold: Some(hold) } = &job.state
            && let Some(until) = hold.until
        {
            self.score("holds", &id, u64::try_from(until.as_millis()).ok());
        }
        if let Some(until) = job.first_exclusion() {
            self.score("exclusions", &id, u64::try_from(until.as_millis()).ok());
        }
        if job.is_waiting() {
            let (score, member) = keys::queued(job);
            self.score(&keys::queue(&key), &member, Some(score));
            self.head(key, job.queued_seq, score);
        }
        self.classes.insert(key, class);
    }

    /// A class without a live job, which rests.
    pub fn rests(&mut self, key: ClassKey, class: Class) {
        if self.classes.contains_key(&key) {
            return;
        }
        for index in ["classes", "resting"] {
            self.score(index, &key.to_string(), None);
        }
        for field in ["live", "held", "running"] {
            self.count(&keys::class(key), field, 0);
        }
        self.resting.insert(key, class);
    }

    /// All classes, those that rest, too.
    pub fn all_classes(&self) -> impl Iterator<Item = (&ClassKey, &Class)> {
        self.classes.iter().chain(&self.resting)
    }

    /// A class's best entry is its head.
    fn head(&mut self, key: ClassKey, seq: u64, score: u64) {
        let head = (score, format!("{seq:012x}:{key}"));
        let best = self.heads.entry(key).or_insert_with(|| head.clone());
        if head < *best {
            *best = head;
        }
    }
}
