//! What changed while indexes were read: what is about that may be true, or not.

use std::{collections::BTreeSet, sync::Arc};

use pointsman_core::{
    LogGroup, Record, RecordKey, RecordKind, doctor::Finding, matching::ClassKey,
};

use super::{expected::Expected, indexes::Command, records::Look};

/// What happened from the moment of the records until all indexes were read.
#[derive(Debug, Default)]
pub struct Window {
    records: BTreeSet<RecordKey>,
    /// Of the jobs, before and after.
    classes: BTreeSet<ClassKey>,
    /// A class was made, for which one that rested may have gone.
    is_class_new: bool,
    is_worker_among: bool,
}

impl Window {
    pub fn of(groups: &[Arc<LogGroup>], look: &Look, expected: &Expected) -> Self {
        let events = groups.iter().flat_map(|group| &group.events);
        let mut window = Self::default();
        let classes_of = |record: &Record| match record {
            Record::Job(job) => Some(job.class().key()),
            _ => None,
        };
        for event in events {
            window.classes.extend(event.record.as_ref().and_then(classes_of));
            window.is_worker_among |= event.key.kind() == RecordKind::Worker;
            window.records.insert(event.key.clone());
        }
        let before = look.records.iter().filter(|record| window.records.contains(&record.key()));
        let before: Vec<ClassKey> = before.filter_map(classes_of).collect();
        window.classes.extend(before);
        window.is_class_new =
            window.classes.iter().any(|class| !expected.classes.contains_key(class));
        window
    }

    /// Whether what a finding is about changed, so that nothing can be said of it.
    pub fn touches(&self, finding: &Finding, commands: &[Command]) -> bool {
        if self.records.is_empty() {
            return false;
        }
        if let Some(key) = finding.record() {
            return self.records.contains(&key);
        }
        if let Some(class) = finding.subject.strip_prefix("class/") {
            return self.touches_class(class);
        }
        let command = commands.first().map(Vec::as_slice).unwrap_or_default();
        let [_, index, .., member] = command else { return true };
        let is_record =
            |kind| RecordKey::parse(kind, member).is_ok_and(|key| self.records.contains(&key));
        match index.split_once(':').map_or(index.as_str(), |(begin, _)| begin) {
            "workers" => is_record(RecordKind::Worker),
            "machines" => is_record(RecordKind::Machine),
            "connectors" => is_record(RecordKind::Connector),
            "alerts" => is_record(RecordKind::Alert),
            "machine" => is_record(RecordKind::Worker),
            "classes" | "resting" | "held" | "base" => self.touches_class(member),
            "heads" => self.touches_class(member.rsplit(':').next().unwrap_or_default()),
            "serves" => self.is_worker_among || self.touches_class(member),
            "profile" | "profiles" => self.is_worker_among || self.is_class_new,
            // What is kept was looked at after it.
            "idempotency" => false,
            _ => true,
        }
    }

    fn touches_class(&self, class: &str) -> bool {
        let is_touched = |class| self.classes.contains(&class);
        self.is_class_new || class.parse().map_or(true, is_touched)
    }
}
