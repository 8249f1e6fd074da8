//! Committing what was decided: the calls of the functions, and what follows from their verdicts.

pub mod verdict;

use std::{sync::Arc, time::Instant};

use pointsman_core::{
    Answer, Record, RecordKey, Transition, WorkerId, decide::Key, record::Worker,
};
use pointsman_store::{Committed, Done, Epoch, StoreError};

use crate::{
    commit::verdict::{Stamped, Verdict, half_way, verdict},
    execute::{
        around::{copy_statuses, look_at_statuses, shown_with},
        sight::Sight,
    },
    link::{list, number, odd, text},
    log,
    plan::{Before, ClaimPlan, Pick, Plan},
    store::Inner,
};

/// Payloads of claims that are remembered until they are asked for: not the large ones.
pub const REMEMBERED_PAYLOAD: usize = 64 << 10;

impl Inner {
    /// Applies a transition that was decided elsewhere.
    pub async fn commit(&self, transition: Transition) -> Result<Committed, StoreError> {
        let epoch = self.link.epoch();
        let mut sight = Sight::new(&self.link, &self.memory, &epoch, true);
        let changed = transition.changes.iter().map(|event| event.key.clone());
        let read = transition.reads.iter().map(|(key, _)| key.clone());
        sight.look_at(changed.chain(read).map(Key::Record)).await?;
        let workers = shown_with(&transition, None);
        look_at_statuses(&workers, &transition, &mut sight).await?;
        let before: Before = sight.before();
        let mut plan = Plan::of(&transition, &before);
        copy_statuses(&workers, &transition, &before, &mut plan);
        let packed = plan.pack(None, self.link.keys());
        let verdict = self.commit_all(&epoch, &[&packed], false).await?.pop();
        Ok(match verdict {
            Some(Verdict::Applied { stamped, picks }) => {
                Committed::Applied(self.done(transition, None, &epoch, stamped, picks))
            }
            Some(Verdict::Rejected(why)) => Committed::Rejected(why),
            Some(Verdict::Corrupt(why)) => return Err(StoreError::Damaged(why)),
            Some(Verdict::Conflict | Verdict::ClassesChanged) | None => Committed::Conflict,
        })
    }

    /// Calls the function with plans that were decided in this epoch; one verdict each. In order,
    /// all behind a conflict meet one.
    pub async fn commit_all(
        &self,
        epoch: &Epoch,
        plans: &[&Vec<Vec<u8>>],
        in_order: bool,
    ) -> Result<Vec<Verdict>, StoreError> {
        if plans.is_empty() {
            return Ok(Vec::new());
        }
        let (time, epoch) = (self.link.given_time(), epoch.to_string());
        let mut args: Vec<&[u8]> = vec![time.as_bytes(), epoch.as_bytes()];
        args.extend(in_order.then_some(&b"in order"[..]));
        args.extend(plans.iter().flat_map(|plan| plan.iter().map(Vec::as_slice)));
        let answer = self.link.call("commit", &args).await.map_err(half_way)?;
        self.verdicts(&answer, plans.len())
    }

    /// Calls the function for a worker's renewal of which nothing but scores is left. Of a worker
    /// that waits it asks by the way whether anything does.
    pub async fn hear(
        &self,
        worker: &WorkerId,
        epoch: &Epoch,
        plan: &[Vec<u8>],
    ) -> Result<Option<Verdict>, StoreError> {
        let idle = match self.memory.get(epoch, &RecordKey::Worker(worker.clone())) {
            Some(Record::Worker(worker)) if worker.current_job_ids.is_empty() => Some(worker),
            _ => None,
        };
        let heads = idle.as_ref().map(|worker| self.heads(worker)).unwrap_or_default();
        let (time, epoch) = (self.link.given_time(), epoch.to_string());
        let mut args: Vec<&[u8]> = vec![time.as_bytes(), epoch.as_bytes()];
        args.extend(plan.iter().map(Vec::as_slice));
        args.extend(heads.iter().map(String::as_bytes));
        let asked = Instant::now();
        let answer = self.link.call("hear", &args).await.map_err(half_way)?;
        if let (Some(idle), Some(heads)) = (idle, list(&answer).get(3).and_then(number)) {
            self.looks.saw(&idle, asked, heads > 0);
        }
        Ok(self.verdicts(&answer, 1)?.pop())
    }

    /// The heads of what a worker's services wait for.
    pub fn heads(&self, worker: &Worker) -> Vec<String> {
        let heads = worker.services.iter().map(|slots| self.key(&format!("heads:{}", slots.name)));
        heads.collect()
    }

    fn verdicts(&self, answer: &redis::Value, plans: usize) -> Result<Vec<Verdict>, StoreError> {
        if self.link.is_of_another_epoch(answer) {
            return Ok((0..plans).map(|_| Verdict::Conflict).collect());
        }
        let not_ours = || StoreError::Unknown(odd(answer));
        match list(answer) {
            [state, now, replies, ..] if text(state) == "ok" => {
                let now: i64 = text(now).parse().map_err(|_| not_ours())?;
                self.link.saw_time(now);
                let replies = list(replies).iter().map(|reply| verdict(reply, now));
                let verdicts: Result<Vec<_>, String> = replies.collect();
                let verdicts = verdicts.map_err(StoreError::Unknown)?;
                if verdicts.len() == plans { Ok(verdicts) } else { Err(not_ours()) }
            }
            _ => Err(not_ours()),
        }
    }

    /// Forgets what a conflict was about.
    pub fn forget(&self, transition: &Transition) {
        for (key, _) in &transition.reads {
            self.memory.forget(key);
        }
    }

    /// The answer to a transition that was applied, with the jobs that its claim got.
    pub fn done(
        &self,
        transition: Transition,
        claim: Option<&ClaimPlan>,
        epoch: &Epoch,
        stamped: Option<Stamped>,
        picks: Vec<Option<Pick>>,
    ) -> Done {
        let Transition { changes: mut events, mut answer, .. } = transition;
        let Some(Stamped { seq, at, endings_before }) = stamped else {
            return Done::new(answer, None);
        };
        let tokens = claim.map(|claim| &claim.tokens[..]).unwrap_or_default();
        let held = picks.iter().zip(tokens).filter_map(|(pick, t)| Some(pick.as_ref()?.held(*t)));
        if let Answer::Exchanged { claimed, .. } = &mut answer {
            claimed.extend(held);
        }
        let unread = picks.iter().filter(|pick| pick.is_none()).count();
        let picks: Vec<Pick> = picks.into_iter().flatten().collect();
        if let (Some(claim), false) = (claim, picks.is_empty()) {
            claim.merge(&mut events, &picks);
        }
        let mut taken = Vec::with_capacity(picks.len());
        for pick in picks {
            if let Some(payload) = pick.payload {
                self.claimed_payloads.lock().put(pick.job, payload);
            }
            taken.push((pick.event.key, pick.fields));
        }
        let group = log::stamp(events, seq, at, endings_before);
        for event in group.events.iter().filter(|event| event.record.is_none()) {
            if let RecordKey::Job(id) = &event.key {
                self.claimed_payloads.lock().pop(id);
            }
        }
        self.memory.follow(epoch, &group.events);
        if let (Some(claim), 1..) = (claim, unread) {
            // They stand with those who took them.
            claim.takers().for_each(|taker| self.memory.forget(taker));
        }
        for (job, fields) in taken {
            self.memory.keep_fields(epoch, &job, fields);
        }
        self.link.saw_seq(seq);
        Done::new(answer, Some(Arc::new(group)))
    }
}
