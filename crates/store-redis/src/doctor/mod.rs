//! What is wrong with what is stored, and making it right. The log is the witness: a record's `rev`
//! names the entry of the log that holds it whole, so what somebody changed by hand is found and
//! put back. What records say of each other is examined as in every store, on a
//! [`State`](pointsman_store::State) made of them.

mod aside;
mod classes;
mod contents;
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

pub use aside::Aside;
use pointsman_core::{
    Record, RecordKey, RecordKind,
    doctor::{Examination, Finding, FindingRule},
};
use pointsman_store::{Depth, State, StoreError};
use records::Look;
use witness::NoLook;
pub use witness::{Searched, Verified};

use crate::store::Inner;

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
        // A profile goes with its last worker, and they were read after the records.
        let lack = |finding: &Finding| finding.rule == FindingRule::UnknownCapabilities;
        let moved_on = match among_records.findings.iter().any(lack) {
            true => self.moved_on(&look).await?,
            false => BTreeSet::new(),
        };
        for finding in among_records.findings {
            if lack(&finding) && finding.record().is_some_and(|worker| moved_on.contains(&worker)) {
                look.undecided.insert(finding.id);
                continue;
            }
            let finding = self.mendable_capabilities(finding, &look).await;
            look.found.add(finding);
        }
        self.tell_payloads(&mut look);
        if depth == Depth::Everything {
            self.tell_lost_payloads(&mut look).await?;
            self.tell_stray_payloads(&mut look).await?;
            self.examine_indexes(&mut look).await?;
        }
        self.examine_set_aside(depth, &mut look).await?;
        Ok(look)
    }

    /// Workers that since the moment of the records have gone, or were able to do something else.
    async fn moved_on(&self, look: &Look) -> Result<BTreeSet<RecordKey>, NoLook> {
        let (till, _) = self.head().await?;
        let groups = self.meanwhile(look.seq, till, look).await?;
        let digest_of = |record: &Record| match record {
            Record::Worker(worker) => Some(worker.capabilities_digest),
            _ => None,
        };
        let looked_at = look.records.iter().filter(|record| matches!(record, Record::Worker(_)));
        let before: BTreeMap<RecordKey, _> =
            looked_at.map(|worker| (worker.key(), digest_of(worker))).collect();
        let events = groups.iter().flat_map(|group| &group.events);
        let workers = events.filter(|event| event.key.kind() == RecordKind::Worker);
        let moved_on = workers.filter(|event| {
            before.get(&event.key).copied().flatten() != event.record.as_ref().and_then(digest_of)
        });
        Ok(moved_on.map(|event| event.key.clone()).collect())
    }

    /// The records as the specification holds them, with what they are able to do.
    async fn state_of(&self, look: &Look) -> Result<State, StoreError> {
        let mut state = State::new(self.link.epoch(), self.link.now());
        let digests = look.records.iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker.capabilities_digest),
            _ => None,
        });
        for (digest, capabilities) in self.kept_profiles(digests.collect()).await? {
            state.keep_capabilities(digest, &capabilities);
        }
        for record in &look.records {
            state.restore(record.clone());
        }
        let (seq, ended_no) = self.head().await?;
        state.restore_position(seq, ended_no);
        Ok(state)
    }
}

/// Names records in an order that is always the same.
fn sorted(mut keys: Vec<RecordKey>) -> Vec<RecordKey> {
    keys.sort();
    keys.dedup();
    keys
}
