//! The indexes as they should be, worked out of the records.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{
    Record, RecordKey,
    matching::{Class, ClassKey},
    record::{Job, JobState},
};

use crate::{
    keys,
    plan::{base_of, class_of},
};

/// Members with their scores; a score of none is whatever it is.
pub type Scores = BTreeMap<String, Option<u64>>;

#[derive(Debug, Default)]
pub struct Expected {
    pub scored: BTreeMap<String, Scores>,
    pub sets: BTreeMap<String, BTreeSet<String>>,
    /// Numbers in fields of hashes.
    pub counts: BTreeMap<String, BTreeMap<String, i64>>,
    pub classes: BTreeMap<ClassKey, Class>,
}

const STATUSES: [&str; 8] = [
    "pending",
    "held",
    "assigned",
    "in_progress",
    "completed",
    "failed",
    "cancelled",
    "ended_bytes",
];

impl Expected {
    pub fn of(records: &[Record]) -> Self {
        let mut expected = Self::default();
        for status in STATUSES {
            expected.count("meta", status, 0);
        }
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
                    expected.member(format!("machine:{}:workers", worker.machine_id), &worker.id);
                    if !worker.is_offline() {
                        expected.count("present", &worker.capabilities_digest.to_string(), 1);
                    }
                    expected.record(&record.key());
                }
                _ => expected.record(&record.key()),
            }
        }
        for class in expected.classes.keys().copied().collect::<Vec<_>>() {
            if expected.counts[&format!("class:{class}")]["held"] > 0 {
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
        self.count("meta", if held { "held" } else { job.status().as_str() }, 1);
        if let Some(ended) = job.ended() {
            self.score("ended", &id, Some(ended.ended_no));
            let bytes = i64::try_from(job.bytes()).unwrap_or(i64::MAX);
            return self.count("meta", "ended_bytes", bytes);
        }
        let class = class_of(job);
        let (key, service) = (class.key(), class.service.clone());
        let name = format!("class:{key}");
        for (field, by) in
            [("live", 1), ("held", i64::from(held)), ("running", i64::from(job.is_running()))]
        {
            self.count(&name, field, by);
        }
        self.score("classes", &key.to_string(), None);
        self.member(format!("base:{}", base_of(&class)), key);
        if job.is_running() {
            self.score("leases", &id, None);
        }
        if let JobState::Pending { hold: Some(hold) } = &job.state
            && let Some(until) = hold.until
        {
            self.score("holds", &id, u64::try_from(until.as_millis()).ok());
        }
        if job.is_pending()
            && let Some(until) = job.exclusions.iter().map(|exclusion| exclusion.until).min()
        {
            self.score("exclusions", &id, u64::try_from(until.as_millis()).ok());
        }
        if job.is_waiting() {
            let rank = u64::from(100 - job.spec.effective_priority().min(100));
            let score = (rank << 46) + job.place;
            let member = format!("{:012x}:{id}", job.queued_seq);
            self.score(&format!("queue:{key}"), &member, Some(score));
            self.head(service.as_str(), key, job.queued_seq, score);
        }
        self.classes.insert(key, class);
    }

    /// A class without a live job, which rests.
    pub fn rests(&mut self, class: ClassKey) {
        if self.classes.contains_key(&class) {
            return;
        }
        for index in ["classes", "resting"] {
            self.score(index, &class.to_string(), None);
        }
        for field in ["live", "held", "running"] {
            self.count(&format!("class:{class}"), field, 0);
        }
    }

    /// A class's best entry is its head.
    fn head(&mut self, service: &str, key: ClassKey, seq: u64, score: u64) {
        let heads = self.scored.entry(format!("heads:{service}")).or_default();
        let member = format!("{seq:012x}:{key}");
        let suffix = format!(":{key}");
        let known = heads.iter().find(|(member, _)| member.ends_with(&suffix));
        let known = known.map(|(member, score)| (*score, member.clone()));
        let best = (Some(score), member.clone());
        if let Some(other) = known {
            if other <= best {
                return;
            }
            heads.remove(&other.1);
        }
        heads.insert(member, Some(score));
    }
}
