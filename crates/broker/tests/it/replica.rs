//! A viewer as somebody would write it in any language: it reads the lines, and replaces or drops
//! the record of each event's kind and id. Nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use pointsman_broker::Frame;
use pointsman_core::{Record, RecordKey, Seq, View};
use pointsman_store::{Position, Seed};
use serde_json::Value;

/// Records by kind and id.
pub type Records = BTreeMap<(String, String), Value>;

#[derive(Debug, Default, Clone)]
pub struct Replica {
    pub records: Records,
    /// The last `id:` read.
    pub last_id: Option<Position>,
    /// Events of the last group.
    pub last_group: usize,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

impl Replica {
    /// Reads a frame; `true` when its end is the end of a group, where equality must hold.
    pub fn read(&mut self, frame: &Frame) -> bool {
        let lines = frame.lines();
        let (last, others) = lines.split_last().expect("a frame has a line");
        assert!(others.iter().all(|line| line.id.is_none()), "an id before the group's end");
        match frame {
            Frame::Snapshot(_) => {
                assert_eq!(last.event, "full_state_snapshot");
                self.start(&serde_json::from_str(&last.data).expect("JSON"));
            }
            Frame::Events(_) => {
                self.last_group = lines.len();
                let mut seq = 0;
                for line in &lines {
                    let event: Value = serde_json::from_str(&line.data).expect("JSON");
                    assert_eq!(event["event"], line.event);
                    let next = event["seq"].as_u64().expect("a seq");
                    assert!(next >= seq, "out of order");
                    seq = next;
                    self.change(&event);
                }
                let id = last.id.as_ref().expect("the last line has the id");
                assert_eq!(id.seq, seq, "the id is the last line's");
                let before = self.last_id.as_ref().expect("started from a snapshot");
                assert!(before.epoch == id.epoch && before.seq < id.seq, "went back");
            }
            _ => assert!(last.id.is_none(), "a lane has no id"),
        }
        let ends_a_group = last.id.is_some();
        if ends_a_group {
            self.last_id.clone_from(&last.id);
        }
        ends_a_group
    }

    fn start(&mut self, snapshot: &Value) {
        self.records.clear();
        for (list, kind) in [
            ("machines", "machine"),
            ("workers", "worker"),
            ("connectors", "connector"),
            ("alerts", "alert"),
            ("jobs", "job"),
        ] {
            for record in snapshot[list].as_array().expect("a list") {
                self.records.insert((kind.to_owned(), text(record, "id")), record.clone());
            }
        }
    }

    fn change(&mut self, event: &Value) {
        let key = (text(event, "kind"), text(event, "id"));
        match &event["record"] {
            Value::Null => drop(self.records.remove(&key)),
            record => drop(self.records.insert(key, record.clone())),
        }
    }

    /// The kinds and ids of a group's lines, to see that each stands there once.
    pub fn keys(frame: &Frame) -> (usize, BTreeSet<(String, String)>) {
        let lines = frame.lines();
        let keys = lines.iter().map(|line| {
            let event: Value = serde_json::from_str(&line.data).expect("JSON");
            (text(&event, "kind"), text(&event, "id"))
        });
        (lines.len(), keys.collect())
    }
}

/// What the store itself says that the view holds, at every seq asked for.
#[derive(Default)]
pub struct Truth {
    at: HashMap<Seq, Vec<Rc<Written>>>,
    /// Records as JSON, by their identity: unchanged ones are written once.
    written: HashMap<(RecordKey, Seq), Rc<Written>>,
}

struct Written {
    key: (String, String),
    record: Value,
}

impl Truth {
    pub fn note(&mut self, seed: Seed) {
        let seq = seed.position.seq;
        if self.at.contains_key(&seq) {
            return;
        }
        let view = View::restore(seq, seed.last_ended_no, seed.records);
        let records = view.records().map(|record| {
            let key = (record.key(), record.rev());
            self.written.entry(key).or_insert_with(|| Rc::new(write(&record))).clone()
        });
        self.at.insert(seq, records.collect());
    }

    /// Whether the store was asked at `seq`.
    pub fn knows(&self, seq: Seq) -> bool {
        self.at.contains_key(&seq)
    }

    /// Compares a replica with the store as it was at `seq`, record by record.
    pub fn check(&self, replica: &Replica, seq: Seq) {
        let truth = &self.at[&seq];
        for written in truth {
            assert_eq!(replica.records.get(&written.key), Some(&written.record), "at seq {seq}");
        }
        if replica.records.len() != truth.len() {
            let known: BTreeSet<_> = truth.iter().map(|written| &written.key).collect();
            let extra = replica.records.keys().find(|key| !known.contains(key));
            panic!("at seq {seq} the viewer holds {extra:?}, which the store does not show");
        }
    }
}

fn write(record: &Record) -> Written {
    let key = record.key();
    let kind = serde_json::to_value(key.kind()).expect("a kind");
    let kind = kind.as_str().expect("a text").to_owned();
    Written { key: (kind, key.id()), record: serde_json::to_value(record).expect("JSON") }
}
