//! Ends that the store has written and replicas have not confirmed (`--acks`): the worker goes on, and
//! hands them in again until they are. Exact repeats change nothing.

use std::{sync::Arc, time::Duration};

use pointsman_core::command::AttemptOp;

use crate::{
    WorkerError,
    calls::Fault,
    shared::{Shared, fitting},
};

/// Each time asks the replicas, which may take a second.
const PERIOD: Duration = Duration::from_secs(5);

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), WorkerError> {
    loop {
        shared.unconfirmed.notified().await;
        while is_any_left(&shared).await {}
        let dropped = shared.kept.lock().take_dropped();
        if dropped > 0 {
            let worker = &shared.config.worker;
            tracing::warn!(
                %worker, dropped, "no result waits to be confirmed any more; so many never were"
            );
        }
    }
}

async fn is_any_left(shared: &Shared) -> bool {
    tokio::time::sleep(PERIOD).await;
    let mut unsure: Vec<AttemptOp> = shared.kept.lock().unsure();
    if unsure.is_empty() {
        return false;
    }
    // In a new epoch they are taken back first, with all that is kept.
    if !shared.is_reclaim_due() {
        unsure.truncate(fitting(unsure.iter().map(|end| &end.op)));
        let exchange = shared.exchange_of(unsure.clone());
        match shared.send(exchange).await {
            // Also those that were refused: their jobs went on since, or, in a new epoch, all that is
            // kept is handed in once more.
            Ok(answer) if answer.unconfirmed.is_none() => shared.kept.lock().confirm(&unsure),
            Err(Fault::Again(why)) => {
                tracing::debug!(worker = %shared.config.worker, why, "not confirmed yet");
            }
            // What is wrong with this worker is for others to find.
            Ok(_) | Err(Fault::Unregistered | Fault::Fatal(_)) => {}
        }
    }
    true
}
