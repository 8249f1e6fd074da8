//! Why a job waits, and whether records contradict each other: both look at many records.

use pointsman_core::{
    ConnectorId, JobId, Record, RecordKey,
    decide::{accepts, free_slots},
    matching::{self, Availability, Explanation},
    record::{Connector, Worker},
};
use pointsman_store::{Contradiction, State, StoreError};

use crate::{
    link::{list, text},
    plan::class_of,
    store::Inner,
};

/// How far down the queue a job is looked for.
const MAX_AHEAD: usize = 10_000;

impl Inner {
    pub async fn explain(
        &self,
        id: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        let Some(job) = self.job(id).await? else { return Ok(None) };
        let workers = self.workers().await?;
        let connectors = workers
            .iter()
            .map(|w| RecordKey::Connector(ConnectorId::new(w.id.clone(), job.service().clone())));
        let connectors = self.records(&connectors.collect::<Vec<_>>()).await?;
        let now = self.link.now();
        let mut rows = Vec::with_capacity(workers.len());
        for worker in &workers {
            let digest = worker.capabilities_digest;
            let Some(profile) = self.definitions.profile(&self.link, digest).await? else {
                continue;
            };
            let connector = connectors.iter().find_map(|record| match record {
                Record::Connector(c) if c.worker_id == worker.id => Some(&**c),
                _ => None,
            });
            rows.push((&worker.id, profile, availability(worker, connector, now)));
        }
        let rows = rows.iter().map(|(id, profile, availability)| (*id, &**profile, *availability));
        let explanation = matching::explain(&class_of(&job), rows);
        let ahead = match job.is_waiting() {
            true => {
                let first = self.first_waiting_ids(MAX_AHEAD).await?;
                first.iter().position(|other| *other == id)
            }
            false => None,
        };
        Ok(Some((explanation, ahead)))
    }

    /// Records that contradict each other, and what runs without a lease.
    pub async fn contradictions(&self) -> Result<Vec<Contradiction>, StoreError> {
        let (seq, ended_no) = self.head().await?;
        let mut state = State::new(self.link.epoch(), self.link.now());
        let mut leases = redis::cmd("ZRANGE");
        leases.arg(self.key("leases")).arg(0).arg(-1);
        let leased: Vec<JobId> = list(&self.link.send(&leases).await?)
            .iter()
            .filter_map(|id| text(id).parse().ok())
            .collect();
        let mut keys = self.fleet_keys().await?;
        let fleet = self.records(&keys).await?;
        keys.clear();
        let mut jobs: std::collections::BTreeSet<JobId> = leased.iter().copied().collect();
        for record in &fleet {
            match record {
                Record::Worker(worker) => {
                    jobs.extend(&worker.current_job_ids);
                    let digest = worker.capabilities_digest;
                    if let Some(profile) = self.definitions.profile(&self.link, digest).await? {
                        state.restore_capabilities(digest, &profile);
                    }
                }
                Record::Connector(connector) => jobs.extend(&connector.job_ids),
                _ => {}
            }
        }
        let jobs: Vec<RecordKey> = jobs.into_iter().map(RecordKey::Job).collect();
        let jobs = self.records(&jobs).await?;
        let mut found: Vec<Contradiction> = jobs
            .iter()
            .filter_map(|record| match record {
                Record::Job(job) if job.is_running() && !leased.contains(&job.id) => {
                    let about = RecordKey::Job(job.id);
                    Some(Contradiction { about, message: "runs without a lease".into() })
                }
                Record::Job(job) if !job.is_running() && leased.contains(&job.id) => {
                    let about = RecordKey::Job(job.id);
                    Some(Contradiction { about, message: "has a lease and does not run".into() })
                }
                _ => None,
            })
            .collect();
        for record in fleet.into_iter().chain(jobs) {
            state.restore(record);
        }
        state.restore_position(seq, ended_no);
        found.extend(state.contradictions());
        Ok(found)
    }
}

fn availability(
    worker: &Worker,
    connector: Option<&Connector>,
    now: pointsman_core::Timestamp,
) -> Availability {
    let free = connector
        .map(|connector| (free_slots(worker, &connector.service_type, connector), connector));
    match free {
        _ if worker.is_offline() => Availability::Offline,
        _ if worker.orders.drain => Availability::Draining,
        Some((free, _)) if free > 0 && accepts(worker, now) => Availability::Idle,
        Some((_, connector)) if !connector.job_ids.is_empty() => Availability::Busy,
        _ => Availability::NotReady,
    }
}
