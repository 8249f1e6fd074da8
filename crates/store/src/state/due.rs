//! What reconcilers should look at. Each answer is only a suggestion: the command it names looks
//! again, and its guard is checked in the step that applies.

use std::{collections::HashMap, time::Duration};

use pointsman_core::{
    MachineId, Timestamp, WorkerId,
    command::Reconcile,
    decide::{
        due::{self, connector_unconfirmed, leases_over, worker_silent},
        limits,
    },
    record::Job,
    view::ENDED_IN_VIEW,
};

use super::{ClassIx, State};

/// Which reconciler asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Due {
    Leases,
    Workers,
    Connectors,
    Machines,
    Holds,
    Exclusions,
    /// Workers and machines that are gone, over what is kept.
    Gone(Retention),
    /// Ended jobs over what is kept.
    Ended(Retention),
    /// What no command removes: a store that does so only when it is asked removes it now, and
    /// answers an empty list.
    Leftovers,
}

impl Due {
    /// Whether it follows from somebody's silence, which may be the asker's or the store's own.
    pub fn is_silence(self) -> bool {
        matches!(self, Self::Leases | Self::Workers | Self::Connectors | Self::Machines)
    }
}

/// What is kept of what has ended or gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// Ended jobs; at least as many as the view shows, [`ENDED_IN_VIEW`].
    pub ended_jobs: u64,
    pub ended_for: Duration,
    /// Payloads, results and files of ended jobs, together.
    pub ended_bytes: u64,
    /// Workers and machines that are gone, each.
    pub gone: usize,
    pub gone_for: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self::USUAL
    }
}

impl Retention {
    pub const DAY_S: u64 = 24 * 3600;

    /// What is kept unless something else is asked for.
    pub const USUAL: Self = Self {
        ended_jobs: 50_000,
        ended_for: Duration::from_secs(30 * Self::DAY_S),
        ended_bytes: 50 << 30,
        gone: 1_000,
        gone_for: Duration::from_secs(Self::DAY_S),
    };

    /// How many of so many ended jobs are over the limit.
    pub fn too_many(&self, ended: u64) -> u64 {
        ended.saturating_sub(self.ended_jobs.max(ENDED_IN_VIEW))
    }

    pub fn is_too_old(&self, job: &Job, now: Timestamp) -> bool {
        job.ended().is_some_and(|ended| now.since(ended.at) > self.ended_for)
    }

    /// Those gone for too long, and the longest gone of those that are too many.
    pub fn over_limit<Id: Ord>(&self, mut gone: Vec<(Timestamp, Id)>, now: Timestamp) -> Vec<Id> {
        gone.sort();
        let surplus = gone.len().saturating_sub(self.gone);
        let over = |n: usize, since: Timestamp| n < surplus || now.since(since) > self.gone_for;
        let due = gone.into_iter().enumerate().filter(|(n, (since, _))| over(*n, *since));
        due.map(|(_, (_, id))| id).collect()
    }
}

/// When nobody looked for silence for so long, the store or all who look were away. Reconcilers look
/// every half a second.
pub const CONTACT_GAP: Duration = Duration::from_secs(3);

/// Records that one call looks at, at most; a reconciler that gets so many commands asks again at once.
pub const MAX_DUE: usize = 1_000;

impl State {
    pub fn due(&mut self, what: Due, now: Timestamp) -> Vec<Reconcile> {
        if what.is_silence() {
            self.volatile.look_for_silence(now);
        }
        match what {
            Due::Leases => self.due_leases(now),
            Due::Workers => self.silent_workers(now),
            Due::Connectors => self.stale_connectors(now),
            Due::Machines => self.changed_machines(now),
            Due::Holds => {
                let due = self.holds.iter().take_while(|(until, _)| *until <= now);
                let far = self.holds.iter().rev().take_while(|(until, _)| {
                    *until > now && until.is_over(now, limits::BACKOFF_MAX)
                });
                due.chain(far)
                    .take(MAX_DUE)
                    .map(|&(_, job)| Reconcile::ReleaseHold { job })
                    .collect()
            }
            Due::Exclusions => self.lapsing_exclusions(now),
            Due::Gone(keep) => self.surplus_gone(keep, now),
            Due::Ended(keep) => self.surplus_jobs(keep, now),
            Due::Leftovers => Vec::new(),
        }
    }

    /// The store was away; every deadline starts anew.
    pub fn break_contact(&mut self, now: Timestamp) {
        self.volatile.break_contact(now);
    }

    /// When nobody looked for silence for so long, the store was away, too. `None`: it is told so.
    pub fn set_contact_gap(&mut self, gap: Option<Duration>) {
        self.volatile.set_contact_gap(gap);
    }

    pub(super) fn machine_heard(&self, machine: &MachineId) -> Option<Timestamp> {
        let workers = self.workers_of.get(machine).into_iter().flatten();
        let beats = workers.filter_map(|worker| self.volatile.heartbeat(worker));
        beats.chain(self.volatile.machine_beat(machine)).max()
    }

    fn due_leases(&self, now: Timestamp) -> Vec<Reconcile> {
        let over = self
            .volatile
            .leased_jobs()
            .filter(|(job, token)| self.volatile.lease_is_over(job, token, now));
        // In one order, so that equal states give equal answers.
        let mut over: Vec<_> = over.collect();
        over.sort_unstable();
        over.truncate(MAX_DUE);
        leases_over(over.into_iter().filter_map(|(id, _)| Some(&*self.jobs.get(id)?.job)))
    }

    fn silent_workers(&self, now: Timestamp) -> Vec<Reconcile> {
        let silent = self.workers.values().filter(|worker| {
            let heard = self.volatile.heartbeat(&worker.id);
            self.volatile.silent_for(heard, now) >= limits::SILENT_AFTER
        });
        silent.filter_map(|worker| worker_silent(worker)).take(MAX_DUE).collect()
    }

    fn stale_connectors(&self, now: Timestamp) -> Vec<Reconcile> {
        let stale = self.connectors.values().filter(|connector| {
            let confirmed = self.volatile.confirmed(&connector.id).map(|c| c.at);
            self.volatile.silent_for(confirmed, now) >= limits::STALE_AFTER
        });
        stale.filter_map(|connector| connector_unconfirmed(connector)).take(MAX_DUE).collect()
    }

    fn changed_machines(&self, now: Timestamp) -> Vec<Reconcile> {
        let due = self.machines.values().filter_map(|machine| {
            let heard = self.machine_heard(&machine.id);
            let is_silent = self.volatile.silent_for(heard, now) >= limits::SILENT_AFTER;
            due::machine(&machine.id, machine.status, heard.is_some(), is_silent)
        });
        due.take(MAX_DUE).collect()
    }

    /// Exclusions lapse with time, or when nobody else could run the job and seems about to.
    fn lapsing_exclusions(&self, now: Timestamp) -> Vec<Reconcile> {
        let present = self.present();
        // Jobs with the same exclusions are of one class: it is asked once a class.
        let mut able: HashMap<ClassIx, bool> = HashMap::new();
        let due = self.exclusions.iter().filter_map(|&(until, job)| {
            let entry = self.jobs.get(&job)?;
            let ix = entry.class?;
            let nobody_else = entry.job.has_waited_for_others(now)
                && !*able.entry(ix).or_insert_with(|| self.anybody_able(ix, &present));
            (nobody_else || until.is_over(now, limits::EXCLUSION))
                .then_some(Reconcile::LapseExclusions { job, nobody_else })
        });
        due.take(MAX_DUE).collect()
    }

    fn surplus_gone(&self, keep: Retention, now: Timestamp) -> Vec<Reconcile> {
        let workers = self.gone_workers(keep, now).into_iter();
        let workers = workers.map(|worker| Reconcile::RemoveWorker { worker });
        let machines = self.gone_machines(keep, now).into_iter();
        let machines = machines.map(|machine| Reconcile::RemoveMachine { machine });
        workers.chain(machines).take(MAX_DUE).collect()
    }

    fn surplus_jobs(&self, keep: Retention, now: Timestamp) -> Vec<Reconcile> {
        let too_many = keep.too_many(self.ended.len() as u64);
        let mut too_large = self.ended_bytes.saturating_sub(keep.ended_bytes);
        let jobs = self.ended.values().filter_map(|id| self.jobs.get(id));
        let ended = jobs.enumerate().take_while(|(n, entry)| {
            let too_old = keep.is_too_old(&entry.job, now);
            let over = (*n as u64) < too_many || too_large > 0 || too_old;
            too_large = too_large.saturating_sub(entry.job.bytes());
            over
        });
        ended.map(|(_, entry)| Reconcile::RemoveJob { job: entry.job.id }).take(MAX_DUE).collect()
    }

    fn gone_workers(&self, keep: Retention, now: Timestamp) -> Vec<WorkerId> {
        let gone = self.workers.values().filter(|w| w.is_offline() && w.current_job_ids.is_empty());
        let gone = gone.map(|worker| (worker.last_status_change, worker.id.clone()));
        keep.over_limit(gone.collect(), now)
    }

    fn gone_machines(&self, keep: Retention, now: Timestamp) -> Vec<MachineId> {
        let empty = self.machines.values().filter(|m| !self.workers_of.contains_key(&m.id));
        let gone = empty.filter_map(|machine| Some((machine.gone_since()?, machine.id.clone())));
        keep.over_limit(gone.collect(), now)
    }
}
