//! The records that a transition was decided on.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use pointsman_core::{Record, RecordKey, Transition};

use crate::{
    encoding::fields::{self, Fields},
    execute::sight::Known,
};

static NONE: Fields = Fields::NONE;

/// The records before a transition, those that are known not to be there among them.
#[derive(Debug, Default)]
pub struct Before(HashMap<RecordKey, Option<Seen>>);

#[derive(Debug)]
struct Seen {
    record: Record,
    /// What it is as a hash, once somebody asked.
    fields: OnceLock<Arc<Fields>>,
}

impl Before {
    pub fn put(&mut self, key: RecordKey, known: Option<Known>) {
        let seen = known.map(|Known { record, fields }| Seen {
            record,
            fields: fields.map(OnceLock::from).unwrap_or_default(),
        });
        self.0.insert(key, seen);
    }

    pub fn get(&self, key: &RecordKey) -> Option<&Record> {
        self.0.get(key)?.as_ref().map(|seen| &seen.record)
    }

    /// A record as a transition leaves it.
    pub fn latest(&self, key: &RecordKey, transition: &Transition) -> Option<Record> {
        match transition.changes.iter().rfind(|event| event.key == *key) {
            Some(event) => event.record.clone(),
            None => self.get(key).cloned(),
        }
    }

    /// The fields of its hash; none where it is not there.
    pub fn fields(&self, key: &RecordKey) -> &Fields {
        let Some(Some(Seen { record, fields })) = self.0.get(key) else { return &NONE };
        fields.get_or_init(|| Arc::new(fields::of_record(record)))
    }
}
