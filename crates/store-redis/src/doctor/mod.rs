//! What is wrong with what is stored, and making it right. The log is the witness: a record's `rev`
//! names the entry of the log that holds it whole, so what somebody changed by hand is found and
//! put back. What records say of each other is examined as in every store, on a
//! [`State`](pointsman_store::State) made of them.

mod classes;
mod expected;
mod idempotency;
mod indexes;
mod mend;
mod meta;
mod payloads;
mod profiles;
mod records;
mod types;
mod window;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use pointsman_core::{
    Record, RecordKey,
    doctor::{Examination, Finding, FindingRule},
};
use pointsman_store::{Depth, State, StoreError};
use records::Look;
use witness::NoLook;
pub use witness::{Searched, Verified};

use crate::{link::number, reads::pairs, store::Inner};

/// Looks at most, while something changes with each.
const LOOKS: usize = 3;

impl Inner {
    pub async fn examine(&self, depth: Depth) -> Result<Examination, StoreError> {
        Ok(self.look_over(depth).await?.found)
    }

    /// Looks again where something changed while it was looked at: what is then still in doubt is
    /// told as that.
    async fn look_over(&self, depth: Depth) -> Result<Look, StoreError> {
        let mut doubted: Option<BTreeSet<String>> = None;
        for _ in 1..LOOKS {
            let look = self.look_once(depth).await?;
            if look.undecided.is_empty() {
                return Ok(look);
            }
            doubted = Some(match doubted {
                Some(before) => &before & &look.undecided,
                None => look.undecided,
            });
        }
        let mut look = self.look_once(depth).await?;
        if let Some(before) = doubted {
            look.undecided.retain(|id| before.contains(id));
        }
        let found = &mut look.found;
        let undecided = look.undecided.iter().filter(|id| !found.has(id));
        let undecided: Vec<String> = undecided.take(Examination::MAX).cloned().collect();
        found.undecided = undecided;
        Ok(look)
    }

    /// # Errors
    ///
    /// What [`StoreError`] tells, and that what happened meanwhile cannot be told, several times.
    async fn look_once(&self, depth: Depth) -> Result<Look, StoreError> {
        let mut looked = self.look_at_all(depth).await;
        for _ in 1..LOOKS {
            if !matches!(looked, Err(NoLook::NoMoment)) {
                break;
            }
            looked = self.look_at_all(depth).await;
        }
        match looked {
            // Without `meta` no connection is made any more: that is a finding, and no failure to look.
            Err(NoLook::Store(_)) if self.link.lacks_meta().await => Ok(self.without_meta()),
            looked => Ok(looked?),
        }
    }

    async fn look_at_all(&self, depth: Depth) -> Result<Look, NoLook> {
        let mut look = Look::default();
        self.examine_types(depth, &mut look).await?;
        if !self.can_be_examined(&mut look).await? {
            look.is_cut_short = true;
            return Ok(look);
        }
        self.look_at_records(depth, &mut look).await?;
        let among_records = self.state_of(&look).await?.examine(depth);
        for finding in among_records.findings {
            let finding = self.mendable_capabilities(finding, &look).await;
            look.found.add(finding);
        }
        self.tell_payloads(&mut look);
        if depth == Depth::Everything {
            self.tell_lost_payloads(&mut look).await?;
            self.examine_indexes(&mut look).await?;
        }
        self.examine_set_aside(depth, &mut look).await?;
        Ok(look)
    }

    /// The records as the specification holds them, with what they are able to do.
    async fn state_of(&self, look: &Look) -> Result<State, StoreError> {
        let mut state = State::new(self.link.epoch(), self.link.now());
        let digests = look.records.iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker.capabilities_digest),
            _ => None,
        });
        for (digest, capabilities) in self.kept_profiles(digests.collect()).await? {
            state.restore_capabilities(digest, &capabilities);
        }
        for record in &look.records {
            state.restore(record.clone());
        }
        let (seq, ended_no) = self.head().await?;
        state.restore_position(seq, ended_no);
        Ok(state)
    }

    /// What was set aside, while nothing stands in its place.
    async fn examine_set_aside(&self, depth: Depth, look: &mut Look) -> Result<(), StoreError> {
        if look.wrong.contains_key("quarantined") {
            return Ok(());
        }
        let known = self.link.send(redis::cmd("HGETALL").arg(self.key("quarantined"))).await?;
        let mut aside: BTreeMap<String, String> = pairs(&known).into_iter().collect();
        if depth == Depth::Everything {
            // What a version set aside that did not note it.
            let found = look.keys_of(&["quarantine:"]);
            for name in found.filter_map(|key| key.strip_prefix("quarantine:")) {
                aside.entry(name.to_owned()).or_insert_with(|| name.to_owned());
            }
        }
        let mut exist = redis::pipe();
        for (aside, name) in &aside {
            exist.cmd("EXISTS").arg(self.key(&format!("quarantine:{aside}")));
            exist.cmd("EXISTS").arg(self.key(name));
        }
        let exist = self.link.send_all(&exist).await?;
        for ((aside, name), exist) in aside.iter().zip(exist.chunks(2)) {
            if exist.iter().map(number).eq([Some(1), Some(0)]) {
                look.found.add(self.set_aside(aside, name));
            }
        }
        Ok(())
    }

    fn set_aside(&self, aside: &str, name: &str) -> Finding {
        let key = self.key(&format!("quarantine:{aside}"));
        let problem = format!("{} is set aside as {key}", self.key(name));
        let finding = Finding::new(FindingRule::Quarantined, subject_of(aside), problem);
        let delete = format!("`DEL {key}`");
        match finding.record() {
            Some(_) => Finding { cure: format!("{} ({delete})", finding.cure), ..finding },
            None => Finding {
                consequence: "nothing waits for it; it takes up memory".to_owned(),
                cure: format!("look at {key}, and delete it: {delete}"),
                ..finding
            },
        }
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
