//! What changes by itself and lies apart from the records: heartbeats, lease ends, and when each
//! connector status was last confirmed. None of it needs to survive a restart: after one, every
//! deadline starts anew.

use std::{collections::HashMap, time::Duration};

use pointsman_core::{
    Answer, Command, ConnectorId, JobId, MachineId, Timestamp, Token, WorkerId, command::Renew,
    decide::limits, record::Job,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Copy)]
struct Lease {
    token: Token,
    until: Timestamp,
}

/// When, and by what, a connector's status was last confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    pub at: Timestamp,
    pub source: ConfirmedBy,
}

/// What confirmed a connector's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// The worker's report.
    Report,
    /// A write about one of its jobs.
    Job,
    /// The worker's registration.
    Registration,
}

#[derive(Debug)]
pub struct Volatile {
    now: Timestamp,
    /// Since when the store is in unbroken contact with its workers: no deadline began earlier.
    contact_since: Timestamp,
    /// When somebody last looked for silence.
    looked_at: Timestamp,
    /// When nobody looked for so long, the store was away. `None`: it is told so.
    contact_gap: Option<Duration>,
    leases: HashMap<JobId, Lease>,
    heartbeats: HashMap<WorkerId, Timestamp>,
    machine_beats: HashMap<MachineId, Timestamp>,
    confirmed: HashMap<ConnectorId, Confirmed>,
}

impl Volatile {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            contact_since: now,
            looked_at: now,
            contact_gap: None,
            leases: HashMap::new(),
            heartbeats: HashMap::new(),
            machine_beats: HashMap::new(),
            confirmed: HashMap::new(),
        }
    }

    /// The store was away (stopped, frozen, cut off): its absence is not the workers' silence.
    pub(super) fn break_contact(&mut self, now: Timestamp) {
        self.contact_since = now;
        self.looked_at = now;
    }

    pub(super) fn set_contact_gap(&mut self, gap: Option<Duration>) {
        self.contact_gap = gap;
    }

    /// Somebody looks for silence. Nobody else can tell so well whether the store was away until then.
    pub(super) fn look_for_silence(&mut self, now: Timestamp) {
        if now < self.looked_at {
            self.clock_was_set_back(now);
        }
        let gap = now.since(self.looked_at);
        if self.contact_gap.is_some_and(|longest| gap > longest) {
            tracing::warn!(?gap, "nobody looked for so long: every deadline starts anew");
            self.break_contact(now);
        }
        self.looked_at = now;
    }

    /// Every deadline starts anew, and nothing is later than now. When those were heard that were
    /// heard later is not known: long enough ago that nobody comes back by it, and whoever is there
    /// has the whole of the time from here on.
    fn clock_was_set_back(&mut self, now: Timestamp) {
        self.break_contact(now);
        let heard = now - limits::SILENT_AFTER;
        let confirmed = self.confirmed.values_mut().map(|confirmed| &mut confirmed.at);
        let beats = self.heartbeats.values_mut().chain(self.machine_beats.values_mut());
        beats.chain(confirmed).filter(|at| **at > now).for_each(|at| *at = heard);
        for lease in self.leases.values_mut() {
            lease.until = lease.until.min(now + limits::LEASE);
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Who sends a command that is accepted is there. One that is refused comes from a superseded
    /// process, or is about what does not exist.
    pub(super) fn hear(&mut self, command: &Command, now: Timestamp) {
        match command {
            Command::RegisterMachine(register) => {
                self.machine_beats.insert(register.machine.clone(), now);
            }
            Command::SetMachine(set) => {
                self.machine_beats.insert(set.machine.clone(), now);
            }
            Command::Register(register) => {
                self.heartbeats.insert(register.worker.clone(), now);
                for slots in &register.services {
                    let id = ConnectorId::new(register.worker.clone(), slots.name.clone());
                    let source = ConfirmedBy::Registration;
                    self.confirmed.insert(id, Confirmed { at: now, source });
                }
            }
            _ => {}
        }
    }

    /// A renewal that was accepted: the heartbeat, and the leases that are still the worker's.
    pub(super) fn renewed(&mut self, renew: &Renew, answer: &Answer, now: Timestamp) {
        let Answer::Renewed(renewed) = answer else { return };
        self.heartbeats.insert(renew.worker.clone(), now);
        for held in renew.held.iter().filter(|held| !renewed.lost.contains(held)) {
            if let Some(lease) = self.leases.get_mut(&held.job).filter(|l| l.token == held.token) {
                lease.until = now + limits::LEASE;
            }
        }
    }

    pub(super) fn confirmed_by_report(&mut self, connector: ConnectorId, now: Timestamp) {
        self.confirmed.insert(connector, Confirmed { at: now, source: ConfirmedBy::Report });
    }

    pub(super) fn heard_worker(&mut self, worker: &WorkerId, now: Timestamp) {
        self.heartbeats.insert(worker.clone(), now);
    }

    /// A running job has a lease: a new one for a new attempt, else the one it has.
    pub(super) fn lease(&mut self, job: &Job) {
        let Some(token) = job.token else { return };
        let fresh = Lease { token, until: self.now + limits::LEASE };
        let lease = self.leases.entry(job.id).or_insert(fresh);
        if lease.token != token {
            *lease = fresh;
        }
    }

    pub(super) fn forget_job(&mut self, job: &JobId) {
        self.leases.remove(job);
    }

    pub(super) fn forget_worker(&mut self, worker: &WorkerId) {
        self.heartbeats.remove(worker);
    }

    pub(super) fn forget_machine(&mut self, machine: &MachineId) {
        self.machine_beats.remove(machine);
    }

    pub(super) fn forget_connector(&mut self, connector: &ConnectorId) {
        self.confirmed.remove(connector);
    }

    /// Over by the lease itself and by unbroken contact.
    pub(super) fn lease_is_over(&self, job: &JobId, token: &Token, now: Timestamp) -> bool {
        let lease = self.leases.get(job).filter(|lease| lease.token == *token);
        lease.is_some_and(|lease| lease.until.max(self.contact_since + limits::LEASE) <= now)
    }

    pub(super) fn leased_jobs(&self) -> impl ExactSizeIterator<Item = (&JobId, &Token)> {
        self.leases.iter().map(|(job, lease)| (job, &lease.token))
    }

    pub(super) fn has_lease(&self, job: &JobId) -> bool {
        self.leases.contains_key(job)
    }

    /// A write about one of its jobs went through this connector.
    pub(super) fn confirmed_by_job(&mut self, connector: &ConnectorId, now: Timestamp) {
        self.confirmed.insert(connector.clone(), Confirmed { at: now, source: ConfirmedBy::Job });
    }

    pub fn heartbeat(&self, worker: &WorkerId) -> Option<Timestamp> {
        self.heartbeats.get(worker).copied()
    }

    pub fn machine_beat(&self, machine: &MachineId) -> Option<Timestamp> {
        self.machine_beats.get(machine).copied()
    }

    pub fn confirmed(&self, connector: &ConnectorId) -> Option<Confirmed> {
        self.confirmed.get(connector).copied()
    }

    /// How long since something was heard, counted from the start of unbroken contact at most.
    pub(super) fn silent_for(&self, heard: Option<Timestamp>, now: Timestamp) -> Duration {
        now.since(heard.unwrap_or(self.contact_since).max(self.contact_since))
    }
}
