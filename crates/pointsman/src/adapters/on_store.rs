//! What adapters that reach a store without HTTP have in common.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_broker::{BrokerError as StoreSide, odd_answer, running_jobs};
use pointsman_core::{Answer, command::Held};
use pointsman_store::{Store, StoreError};
use pointsman_worker::{Arrival, BrokerError, Claimed, Clock, Exchanged, InEpoch};

/// A store that is full, stopping or not reachable asks for patience; for one that a newer version took
/// over nobody need wait.
pub fn store_error(error: StoreError) -> BrokerError {
    match error {
        StoreError::Newer { .. } => BrokerError::Newer(error.to_string()),
        error => BrokerError::Unreachable(error.to_string()),
    }
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
    let running = running_jobs(store, &running, &|| arrival.moved()).await;
    let running = running.map_err(store_error)?.into_iter().filter_map(claimed).collect();
    Ok(in_epoch(store, running))
}

/// What an exchange brought, as workers take it.
pub fn exchanged(done: pointsman_broker::Exchanged) -> Exchanged {
    let claimed = done.claimed.into_iter().filter_map(claimed).collect();
    let unconfirmed = done.unconfirmed.map(|why| why.to_string());
    Exchanged { ops: done.ops, claimed, unconfirmed }
}

fn claimed(claimed: pointsman_broker::Claimed) -> Option<Claimed> {
    let job = claimed.job;
    let held = Held { job: job.id, attempt: job.attempt, token: job.token? };
    Some(Claimed { held, job, payload: Bytes::from_owner(claimed.payload) })
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
