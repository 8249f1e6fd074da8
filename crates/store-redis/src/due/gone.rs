//! Who is gone: remembered, so that nobody pays for it at every look for silence.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use pointsman_core::{Record, RecordKey, RecordKind, Timestamp, WorkerId};
use pointsman_store::StoreError;

use crate::store::Inner;

/// What is remembered is looked up again after this: a repair changes a record, and nobody is heard.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// Who was not heard for long, each with its score in `pulse` if that names it.
pub type Silent = BTreeMap<RecordKey, Option<i64>>;

/// Workers that are gone and have no jobs, and connectors of which nothing is known, as long as they
/// are silent: no more than there are. Whoever comes back is heard, and has another score then.
#[derive(Default)]
pub struct Gone(Mutex<HashMap<RecordKey, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    score: Option<i64>,
    at: Timestamp,
    /// When its status changed last.
    since: Timestamp,
}

impl Gone {
    pub fn clear(&self) {
        self.0.lock().clear();
    }

    /// The workers among them, and since when each is gone.
    pub fn workers(&self) -> Vec<(Timestamp, WorkerId)> {
        let gone = self.0.lock();
        let workers = gone.iter().filter_map(|(key, seen)| match key {
            RecordKey::Worker(id) => Some((seen.since, id.clone())),
            _ => None,
        });
        workers.collect()
    }

    /// Those of a kind that are not known to be gone. Whoever is not silent any more is forgotten.
    fn unknown(&self, kind: RecordKind, silent: &Silent, now: Timestamp) -> Vec<RecordKey> {
        let mut gone = self.0.lock();
        let is_so = |key: &RecordKey, seen: &Seen| {
            silent.get(key) == Some(&seen.score) && now.since(seen.at) < REMEMBERED_FOR
        };
        gone.retain(|key, seen| key.kind() != kind || is_so(key, seen));
        silent.keys().filter(|key| !gone.contains_key(*key)).cloned().collect()
    }
}

impl Inner {
    /// The records of those of a kind that are silent and not gone.
    pub async fn not_gone(
        &self,
        kind: RecordKind,
        silent: &Silent,
    ) -> Result<Vec<Record>, StoreError> {
        let now = self.link.now();
        let unknown = self.gone.unknown(kind, silent, now);
        let mut records = self.readable(&unknown).await?;
        let mut gone = self.gone.0.lock();
        records.retain(|record| match gone_since(record) {
            Some(Ok(since)) => {
                let score = silent.get(&record.key()).copied().flatten();
                gone.insert(record.key(), Seen { score, at: now, since });
                false
            }
            Some(Err(HasJobs)) => false,
            None => true,
        });
        Ok(records)
    }
}

/// It is gone, and its jobs are still to be given back.
struct HasJobs;

/// Since when it is gone, if it is.
fn gone_since(record: &Record) -> Option<Result<Timestamp, HasJobs>> {
    match record {
        Record::Worker(w) if w.is_offline() => Some(match w.current_job_ids.is_empty() {
            true => Ok(w.last_status_change),
            false => Err(HasJobs),
        }),
        Record::Connector(c) => (!c.is_known()).then_some(Ok(c.timestamp)),
        _ => None,
    }
}
