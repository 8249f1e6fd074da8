//! Why a job waits: rule by rule over all workers, and how many jobs are ahead of it.

use pointsman_core::{
    ConnectorId, JobId, Timestamp,
    decide::{self, Candidate, Intake},
    matching::{Crowd, Explanation, Throttle, excludes},
};

use super::{ClassIx, QueueKey, State, queue::ClassEntry};

/// Jobs ahead of one that are counted at most.
pub const MAX_AHEAD: usize = 10_000;

impl State {
    /// `None`: there is no such job.
    pub fn explain(&self, job: &JobId, now: Timestamp) -> Option<Explanation> {
        let record = &self.jobs.get(job)?.job;
        let candidates = self.workers.values().filter_map(|worker| {
            let connector = ConnectorId::new(worker.id.clone(), record.service().clone());
            Some(Candidate {
                worker,
                capabilities: self.queues.capabilities(&worker.capabilities_digest)?,
                connector: self.connectors.get(&connector).map(|connector| &**connector),
            })
        });
        let throttle = self.throttle(job, now);
        Some(decide::explain(record, throttle, &candidates.collect::<Vec<_>>(), now))
    }

    /// What holds the job back whoever is free.
    fn throttle(&self, job: &JobId, now: Timestamp) -> Throttle {
        let waiting = self.jobs.get(job).filter(|entry| entry.job.is_waiting());
        let class = waiting.and_then(|entry| entry.class);
        let poisonous = class.and_then(|class| self.queues.poisonous_class(class));
        let intake_closed = self.intake() != Intake::Open;
        Throttle { intake_closed, calm_until: self.calm_until(now), poisonous }
    }

    /// How many waiting jobs may be claimed before this one by a worker that is there and able to
    /// run it: those before it of its own class, and of classes that such a worker could run too.
    /// `None`: it does not wait, or [`MAX_AHEAD`] or more are ahead.
    pub fn ahead_of(&self, job: &JobId) -> Option<usize> {
        let waiting = self.jobs.get(job).filter(|entry| entry.job.is_waiting())?;
        let (key, own) = (QueueKey::of(&waiting.job), waiting.class?);
        let class = &self.queues.entry(own)?.class;
        let takers = self.workers.values().filter(|worker| {
            !worker.is_offline()
                && self.queues.serves(&worker.capabilities_digest, own)
                && !excludes(class, &worker.id)
        });
        let takers: Crowd =
            takers.map(|worker| (worker.capabilities_digest, worker.id.clone())).collect();
        let is_rival = |(ix, entry): &(ClassIx, &ClassEntry)| {
            *ix == own || takers.serves(&entry.class, |digest| self.queues.serves(digest, *ix))
        };
        let is_before = |(_, entry): &(ClassIx, &ClassEntry)| {
            entry.waiting.first_key_value().is_some_and(|(first, _)| *first < key)
        };
        let rivals = self.queues.entries().filter(is_before).filter(is_rival);
        let ahead = rivals.flat_map(|(_, entry)| entry.waiting.range(..key));
        let ahead = ahead.take(MAX_AHEAD).count();
        (ahead < MAX_AHEAD).then_some(ahead)
    }
}
