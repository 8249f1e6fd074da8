//! The newest changes of the view, kept for viewers to pull from. Bounded by count and bytes; what
//! falls off costs a slow viewer a resync, not the server memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use pointsman_core::{Event, Record, Seq, Timestamp, record::Job};

/// What one change of the log changed in the view.
#[derive(Debug)]
pub struct ViewGroup {
    pub seq: Seq,
    pub at: Timestamp,
    pub events: Vec<ViewEvent>,
    /// Bytes of the lines written so far; the ring counts them as its own.
    written: Arc<AtomicUsize>,
    own_written: AtomicUsize,
    weight: usize,
}

/// An event of the view, with its line of JSON once somebody has asked for it.
#[derive(Debug)]
pub struct ViewEvent {
    pub event: Event,
    line: OnceLock<Arc<str>>,
}

impl ViewGroup {
    /// The event's line of JSON, written once for all viewers.
    pub fn line(&self, index: usize) -> Arc<str> {
        let event = &self.events[index];
        let write = || {
            let line: Arc<str> = event.event.to_json(self.seq, self.at).into();
            self.own_written.fetch_add(line.len(), Ordering::Relaxed);
            self.written.fetch_add(line.len(), Ordering::Relaxed);
            line
        };
        event.line.get_or_init(write).clone()
    }
}

impl Drop for ViewGroup {
    fn drop(&mut self) {
        self.written.fetch_sub(*self.own_written.get_mut(), Ordering::Relaxed);
    }
}

/// The ring. Covers every change after `floor`, up to the head that the hub knows.
#[derive(Debug)]
pub struct Ring {
    groups: VecDeque<Arc<ViewGroup>>,
    floor: Seq,
    weight: usize,
    written: Arc<AtomicUsize>,
    max_groups: usize,
    max_bytes: usize,
}

impl Ring {
    /// An empty ring that covers everything after `floor`.
    pub fn new(floor: Seq, max_groups: usize, max_bytes: usize) -> Self {
        Self {
            groups: VecDeque::new(),
            floor,
            weight: 0,
            written: Arc::default(),
            max_groups,
            max_bytes,
        }
    }

    /// Everything after this seq is here.
    pub fn floor(&self) -> Seq {
        self.floor
    }

    /// Roughly what the ring holds, bytes.
    pub fn bytes(&self) -> usize {
        self.weight + self.written.load(Ordering::Relaxed)
    }

    /// Adds the next group. Groups come in the order of their seq.
    pub fn push(&mut self, seq: Seq, at: Timestamp, events: Vec<Event>) {
        let weight = events.iter().map(weight).sum();
        let events = events.into_iter().map(|event| ViewEvent { event, line: OnceLock::new() });
        let group = ViewGroup {
            seq,
            at,
            events: events.collect(),
            written: self.written.clone(),
            own_written: AtomicUsize::new(0),
            weight,
        };
        self.weight += weight;
        self.groups.push_back(Arc::new(group));
        while self.groups.len() > self.max_groups || self.bytes() > self.max_bytes {
            let Some(oldest) = self.groups.pop_front() else { break };
            self.weight -= oldest.weight;
            self.floor = oldest.seq;
        }
    }

    /// The groups after `seq`, oldest first.
    pub fn after(&self, seq: Seq) -> impl DoubleEndedIterator<Item = &Arc<ViewGroup>> {
        let first = self.groups.partition_point(|group| group.seq <= seq);
        self.groups.range(first..)
    }
}

/// Roughly what an event keeps in memory, bytes. What the log keeps too is counted all the same.
fn weight(event: &Event) -> usize {
    const EVENT: usize = 128;
    EVENT
        + match &event.record {
            Some(Record::Job(job)) => job_weight(job),
            Some(Record::Worker(worker)) => 512 + 48 * worker.current_job_ids.len(),
            Some(Record::Machine(machine)) => 512 + 64 * machine.gpus.len(),
            Some(Record::Connector(_) | Record::Alert(_)) => 512,
            None => 0,
        }
}

fn job_weight(job: &Job) -> usize {
    let artifacts = job.ended().map_or(0, |ended| ended.artifacts.len());
    let metadata = job.spec.metadata.as_ref().map_or(0, json_weight);
    1_024 + 256 * (artifacts + job.past.len()) + metadata
}

fn json_weight(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    const NODE: usize = 32;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_weight).sum(),
        Value::Object(fields) => fields.iter().map(|(k, v)| k.len() + json_weight(v)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::{EventName, JobId, RecordKey};

    use super::*;

    fn events() -> Vec<Event> {
        let key = RecordKey::Job(JobId::from_uuid(uuid::Uuid::from_u128(1)));
        vec![Event::removed(EventName::JobRemoved, key)]
    }

    #[test]
    fn bounded_by_count_and_the_floor_says_what_fell_off() {
        let mut ring = Ring::new(10, 2, 1 << 20);
        for seq in [11, 13, 15] {
            ring.push(seq, Timestamp::default(), events());
        }
        assert_eq!((ring.groups.len(), ring.floor()), (2, 11));
        let seqs = |after| ring.after(after).map(|g| g.seq).collect::<Vec<_>>();
        assert_eq!(seqs(11), [13, 15]);
        assert_eq!(seqs(12), [13, 15]);
        assert_eq!(seqs(13), [15]);
        assert_eq!(seqs(15), [0; 0]);
    }

    #[test]
    fn bounded_by_bytes_with_the_lines_written() {
        let mut ring = Ring::new(0, 1_000, 1_000);
        for seq in 1..=4 {
            ring.push(seq, Timestamp::default(), events());
        }
        assert_eq!(ring.groups.len(), 4);
        let before = ring.bytes();
        let group = ring.after(0).next().unwrap().clone();
        let line = group.line(0);
        assert_eq!(ring.bytes(), before + line.len());
        assert!(Arc::ptr_eq(&line, &group.line(0)), "written once");
        drop(group);
        for seq in 5..=20 {
            ring.push(seq, Timestamp::default(), events());
        }
        assert!(ring.bytes() <= 1_000);
        assert_eq!(ring.bytes(), ring.groups.len() * 128, "the line left with its group");
    }
}
