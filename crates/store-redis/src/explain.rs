//! Why a job waits: rule by rule over all workers.

use pointsman_core::{
    ConnectorId, JobId, Record, RecordKey,
    decide::{accepts, free_slots},
    matching::{self, Availability, Explanation},
    record::{Connector, Worker},
};
use pointsman_store::StoreError;

use crate::{plan::class_of, store::Inner};

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
