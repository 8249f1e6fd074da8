//! Applying a transition, and undoing it.

use std::sync::Arc;

use pointsman_core::{
    Answer, Event, EventName, LogGroup, Record, RecordKey, Rejected, Seq, Timestamp,
    command::IdempotencyKey,
    decide::{ClassHealth, Guard, KeptIdempotency, Side, Transition, class_health},
    matching::{Capabilities, CapabilitiesDigest, ClassKey},
    record::Job,
};

use super::{State, queue::Losses};
use crate::transfer::Item;

/// A transition that was applied.
#[derive(Debug)]
pub struct Applied {
    pub answer: Answer,
    /// What it changed; none when it changed nothing.
    pub group: Option<Arc<LogGroup>>,
    /// What is written beside the records: payloads and results.
    pub sides: Vec<Side>,
    /// Takes it back.
    pub undo: Undo,
}

/// What was there before a transition.
#[derive(Debug, Default)]
pub struct Undo {
    before: Vec<(RecordKey, Option<Record>)>,
    idempotency: Vec<(IdempotencyKey, Option<KeptIdempotency>)>,
    /// Of the workers that were changed: the last one to go takes its capabilities with it.
    capabilities: Vec<(CapabilitiesDigest, Arc<Capabilities>)>,
    /// Losses in a row, by the class they count for.
    losses: Vec<(ClassKey, Losses)>,
    seq: Seq,
    last_ended_no: u64,
}

impl State {
    /// Guards on what lies apart from the records; in the same step that applies.
    pub(super) fn check_guards(
        &self,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<(), Rejected> {
        let hold = transition.guards.iter().all(|guard| self.guard_holds(guard, now));
        if hold { Ok(()) } else { Err(Rejected::NotDue) }
    }

    fn guard_holds(&self, guard: &Guard, now: Timestamp) -> bool {
        let volatile = &self.volatile;
        match guard {
            Guard::LeaseOver { job, token } => volatile.lease_is_over(job, token, now),
            Guard::WorkerSilent { worker, incarnation, after } => {
                let same = self.workers.get(worker).is_some_and(|w| w.incarnation == *incarnation);
                same && volatile.silent_for(volatile.heartbeat(worker), now) >= *after
            }
            Guard::MachineSilent { machine, after } => {
                volatile.silent_for(self.machine_heard(machine), now) >= *after
            }
            Guard::MachineHeard { machine } => {
                let heard = self.machine_heard(machine);
                heard.is_some_and(|at| now.since(at) < pointsman_core::decide::limits::SILENT_AFTER)
            }
            Guard::ConnectorUnconfirmed { connector, after } => {
                let confirmed = volatile.confirmed(connector).map(|confirmed| confirmed.at);
                volatile.silent_for(confirmed, now) >= *after
            }
        }
    }

    pub(super) fn apply(&mut self, transition: Transition, now: Timestamp) -> Applied {
        let Transition { changes, sides, answer, .. } = transition;
        let mut undo = Undo { seq: self.seq, last_ended_no: self.last_ended_no, ..Undo::default() };
        for side in &sides {
            self.apply_side(side, &mut undo);
        }
        if changes.is_empty() {
            return Applied { answer, group: None, sides, undo };
        }
        self.seq += 1;
        let seq = self.seq;
        let mut events = Vec::with_capacity(changes.len());
        for change in changes {
            events.push(self.apply_change(change, seq, &mut undo));
        }
        let group = Some(Arc::new(LogGroup { seq, at: now, events }));
        Applied { answer, group, sides, undo }
    }

    fn apply_change(&mut self, change: Event, seq: Seq, undo: &mut Undo) -> Event {
        let Event { name, key, mut record } = change;
        if let Some(record) = &mut record {
            if let Record::Job(job) = record {
                self.share_requirements(job);
            }
            record.stamp(seq, &mut self.last_ended_no);
        }
        if let Some(Record::Job(job)) = &record {
            self.note_class_health(name, job, undo);
        }
        if let RecordKey::Worker(id) = &key
            && let Some(digest) = self.workers.get(id).map(|w| w.capabilities_digest)
            && let Some(capabilities) = self.capabilities(&digest)
        {
            undo.capabilities.push((digest, capabilities));
        }
        let before = match &record {
            Some(record) => self.set(record.clone()),
            None => self.unset(&key),
        };
        undo.before.push((key.clone(), before));
        Event { name, key, record }
    }

    fn apply_side(&mut self, side: &Side, undo: &mut Undo) {
        match side {
            Side::Idempotency { key, kept } => {
                let before = self.keep_idempotency(key.clone(), kept.clone());
                undo.idempotency.push((key.clone(), before));
            }
            Side::Capabilities { digest, capabilities } => {
                self.keep_capabilities(*digest, capabilities);
            }
            Side::Payload { .. } | Side::Result { .. } => {}
        }
    }

    fn note_class_health(&mut self, name: EventName, job: &Job, undo: &mut Undo) {
        let Some(ix) = self.jobs.get(&job.id).and_then(|entry| entry.class) else { return };
        let Some(health) = class_health(name, job) else { return };
        undo.losses.extend(self.queues.losses(ix));
        match health {
            ClassHealth::Proven => self.queues.note_completion(ix),
            ClassHealth::Lost { claimed, lost } => self.queues.note_loss(ix, claimed, lost),
        }
    }

    /// Takes an applied transition back. Only the last one not undone may be.
    pub fn undo(&mut self, undo: Undo) {
        // First, so that the workers find their profiles.
        for (digest, capabilities) in &undo.capabilities {
            self.keep_capabilities(*digest, capabilities);
        }
        for (key, before) in undo.before.into_iter().rev() {
            match before {
                Some(record) => drop(self.set(record)),
                None => drop(self.unset(&key)),
            }
        }
        for (key, before) in undo.idempotency.into_iter().rev() {
            match before {
                Some(kept) => drop(self.keep_idempotency(key, kept)),
                None => drop(self.drop_idempotency(&key)),
            }
        }
        for (class, losses) in undo.losses.into_iter().rev() {
            self.queues.set_losses(&class, losses);
        }
        self.drop_unused_profiles();
        self.seq = undo.seq;
        self.last_ended_no = undo.last_ended_no;
        self.new_work.clear();
    }

    /// Keeps a key; returns what was kept under it before.
    fn keep_idempotency(
        &mut self,
        key: IdempotencyKey,
        kept: KeptIdempotency,
    ) -> Option<KeptIdempotency> {
        let before = self.drop_idempotency(&key);
        self.idempotency_ends.insert((kept.until, key.clone()));
        self.idempotency.insert(key, kept);
        before
    }

    fn drop_idempotency(&mut self, key: &IdempotencyKey) -> Option<KeptIdempotency> {
        let kept = self.idempotency.remove(key)?;
        self.idempotency_ends.remove(&(kept.until, key.clone()));
        Some(kept)
    }

    /// Forgets keys whose time is over, at most `limit`; a durable store deletes them too.
    pub fn forget_idempotency(&mut self, now: Timestamp, limit: usize) -> Vec<IdempotencyKey> {
        let over = self.idempotency_ends.iter().take_while(|(until, _)| *until <= now);
        let over: Vec<_> = over.take(limit).map(|(_, key)| key.clone()).collect();
        for key in &over {
            self.drop_idempotency(key);
        }
        over
    }

    /// Puts a stored record back at opening. Afterwards `seq` and `ended_no` are set once.
    pub fn restore(&mut self, mut record: Record) {
        if let Record::Job(job) = &mut record {
            self.share_requirements(job);
        }
        self.set(record);
        self.new_work.clear();
    }

    pub fn restore_idempotency(&mut self, key: IdempotencyKey, kept: KeptIdempotency) {
        self.keep_idempotency(key, kept);
    }

    /// Puts an imported item in; payloads and results lie apart.
    pub fn import(&mut self, item: Item) {
        match item {
            Item::Record(record) => self.restore(record),
            Item::Side(side) => self.apply_side(&side, &mut Undo::default()),
        }
    }

    /// The last thing to be put back. Capabilities that no worker has were left over.
    pub fn restore_position(&mut self, seq: Seq, last_ended_no: u64) {
        self.drop_unused_profiles();
        self.seq = seq;
        self.last_ended_no = last_ended_no;
    }
}
