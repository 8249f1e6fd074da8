//! What adapters that reach a store without HTTP have in common.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_broker::{BrokerError as StoreSide, odd_answer};
use pointsman_core::{Answer, JobId, Record, RecordKey, command::Held};
use pointsman_store::{Store, StoreError};
use pointsman_worker::{Arrival, BrokerError, Claimed, Clock, Exchanged, InEpoch};

/// A store that is full, stopping or not reachable asks for patience.
pub fn store_error(error: StoreError) -> BrokerError {
    BrokerError::Unreachable(error.to_string())
}

pub fn broker_error(error: StoreSide) -> BrokerError {
    match error {
        StoreSide::Rejected(why) => BrokerError::Rejected(why),
        StoreSide::Store(error) => store_error(error),
    }
}

/// The store's time, for what a worker dates.
pub fn clock(store: Arc<dyn Store>) -> Clock {
    Arc::new(move || store.now())
}

/// What a registration brought: the jobs that the worker id was running before this process.
pub async fn registered(
    store: &dyn Store,
    answer: Answer,
    arrival: &Arrival,
) -> Result<InEpoch<Vec<Claimed>>, BrokerError> {
    let Answer::Registered { running } = answer else {
        return Err(store_error(odd_answer(&answer)));
    };
    let running = running_jobs(store, running, arrival).await?;
    Ok(in_epoch(store, running))
}

async fn running_jobs(
    store: &dyn Store,
    held: Vec<Held>,
    arrival: &Arrival,
) -> Result<Vec<Claimed>, BrokerError> {
    let ids: Vec<JobId> = held.iter().map(|held| held.job).collect();
    let keys = ids.iter().map(|id| RecordKey::Job(*id)).collect();
    let records = store.records(keys).await.map_err(store_error)?;
    let payloads = store.arriving_payloads(ids, &|| arrival.moved()).await;
    let payloads = payloads.map_err(store_error)?;
    let mut running = Vec::with_capacity(held.len());
    for (held, payload) in held.into_iter().zip(payloads) {
        let job = records.iter().find_map(|record| match record {
            Record::Job(job) if job.id == held.job => Some(job.clone()),
            _ => None,
        });
        if let (Some(job), Some(payload)) = (job, payload) {
            running.push(Claimed { held, job, payload: Bytes::from_owner(payload) });
        }
    }
    Ok(running)
}

/// What an exchange brought, as workers take it.
pub fn exchanged(done: pointsman_broker::Exchanged) -> Exchanged {
    let claimed = done.claimed.into_iter().filter_map(|claimed| {
        let job = claimed.job;
        let held = Held { job: job.id, attempt: job.attempt, token: job.token? };
        Some(Claimed { held, job, payload: Bytes::from_owner(claimed.payload) })
    });
    let unconfirmed = done.unconfirmed.map(|why| why.to_string());
    Exchanged { ops: done.ops, claimed: claimed.collect(), unconfirmed }
}

/// The epoch is read after the answer was given: so one that was given in a new epoch never
/// carries the old one.
pub fn in_epoch<T>(store: &dyn Store, answer: T) -> InEpoch<T> {
    InEpoch { epoch: store.epoch().to_string().into(), answer }
}

#[cfg(test)]
mod tests {
    use pointsman_store::{ManualClock, MemStore};

    use super::*;

    #[tokio::test]
    async fn an_answer_of_another_kind_does_not_say_that_nothing_runs() {
        let store = MemStore::new(Arc::new(ManualClock::default()));
        let odd = registered(&store, Answer::Done, &Arrival::default()).await;
        assert!(matches!(odd, Err(BrokerError::Unreachable(_))), "{odd:?}");
        let none =
            registered(&store, Answer::Registered { running: Vec::new() }, &Arrival::default())
                .await;
        assert_eq!(none.expect("an answer").answer.len(), 0);
    }
}
