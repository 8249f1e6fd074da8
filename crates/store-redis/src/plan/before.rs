//! The records that a transition was decided on.

use std::{collections::HashMap, sync::OnceLock};

use pointsman_core::{Record, RecordKey};

use crate::fields::{self, Fields};

/// The records before a transition, those that are known not to be there among them.
#[derive(Debug, Default)]
pub struct Before(HashMap<RecordKey, Seen>);

#[derive(Debug)]
struct Seen {
    record: Option<Record>,
    /// What it is as a hash, once somebody asked.
    fields: OnceLock<Fields>,
}

impl Before {
    pub fn get(&self, key: &RecordKey) -> Option<&Record> {
        self.0.get(key)?.record.as_ref()
    }

    /// The fields of its hash; none where it is not there.
    pub fn fields(&self, key: &RecordKey) -> &[fields::Field] {
        let Some(seen) = self.0.get(key) else { return &[] };
        let read = || seen.record.as_ref().map(fields::of_record).unwrap_or_default();
        seen.fields.get_or_init(read)
    }
}

impl FromIterator<(RecordKey, Option<Record>)> for Before {
    fn from_iter<I: IntoIterator<Item = (RecordKey, Option<Record>)>>(records: I) -> Self {
        let seen = |record| Seen { record, fields: OnceLock::new() };
        Self(records.into_iter().map(|(key, record)| (key, seen(record))).collect())
    }
}
