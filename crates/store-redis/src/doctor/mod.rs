//! What is wrong with what is stored, and making it right. The log is the witness: a record's `rev`
//! names the entry of the log that holds it whole, so what somebody changed by hand is found and
//! put back. What records say of each other is examined as in every store, on a
//! [`State`](pointsman_store::State) made of them.

mod expected;
mod indexes;
mod mend;
mod records;
mod types;

use pointsman_core::{
    RecordKey,
    doctor::{Examination, Finding, FindingRule},
};
use pointsman_store::{Depth, State, StoreError};
use records::Look;
pub use records::Verified;

use crate::{
    link::{list, text},
    store::Inner,
};

impl Inner {
    pub async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        Ok(self.look_over(depth).await?.found)
    }

    async fn look_over(&self, depth: Depth) -> Result<Look, StoreError> {
        let mut look = Look::default();
        self.examine_types(&mut look).await?;
        if look.wrong.contains_key("meta") {
            // Nothing can be said without it.
            return Ok(look);
        }
        self.look_at_records(depth, &mut look).await?;
        let among_records = self.state_of(&look).await?.examine(depth);
        for finding in among_records.findings {
            look.found.add(finding);
        }
        if depth == Depth::Everything {
            self.examine_indexes(&mut look).await?;
        }
        self.examine_set_aside(&mut look.found).await?;
        Ok(look)
    }

    /// The records as the specification holds them, with what they are able to do.
    async fn state_of(&self, look: &Look) -> Result<State, StoreError> {
        let mut state = State::new(self.link.epoch(), self.link.now());
        for record in &look.records {
            if let pointsman_core::Record::Worker(worker) = record {
                let digest = worker.capabilities_digest;
                if let Some(profile) = self.definitions.profile(&self.link, digest).await? {
                    state.restore_capabilities(digest, &profile);
                }
            }
        }
        for record in &look.records {
            state.restore(record.clone());
        }
        let (seq, ended_no) = self.head().await?;
        state.restore_position(seq, ended_no);
        Ok(state)
    }

    /// What was set aside, while nothing stands in its place.
    async fn examine_set_aside(&self, found: &mut Examination) -> Result<(), StoreError> {
        for key in self.scan("quarantine:*").await? {
            let Some(name) = key.strip_prefix("quarantine:") else { continue };
            let exists = self.link.send(redis::cmd("EXISTS").arg(self.key(name))).await?;
            if text(&exists) == "0" {
                let problem = format!("{} is set aside as {}", self.key(name), self.key(&key));
                found.add(Finding::new(FindingRule::Quarantined, subject_of(name), problem));
            }
        }
        Ok(())
    }

    /// Keys under the fleet's prefix, without it.
    async fn scan(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let (prefix, mut keys) = (self.link.keys().prefix(), Vec::new());
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(self.key(pattern)).arg("COUNT").arg(1_000);
            let found = self.link.send(&scan).await?;
            let [next, some] = list(&found) else { break };
            let some = list(some).iter().map(text);
            keys.extend(some.filter_map(|key| key.strip_prefix(prefix).map(str::to_owned)));
            cursor = text(next);
            if cursor == "0" {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}

/// A key as findings name it.
fn subject_of(key: &str) -> String {
    match crate::plan::parse_key(key) {
        Some(record) => pointsman_core::doctor::subject(&record),
        None => format!("index/{key}"),
    }
}

/// Names records in an order that is always the same.
fn sorted(mut keys: Vec<RecordKey>) -> Vec<RecordKey> {
    keys.sort();
    keys.dedup();
    keys
}
