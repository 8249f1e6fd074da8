//! What workers tell other processes on the same store.

use std::sync::Arc;

use pointsman_store::{ToldProgress, job};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::hub::Hub;

/// Takes in the progress that others were told, until the hub stops.
pub(crate) async fn take_progress(hub: Arc<Hub>, mut told: Receiver<Arc<ToldProgress>>) {
    let take = async {
        loop {
            match told.recv().await {
                Ok(told) => take(&hub, &told).await,
                // What was missed is old news by now.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    hub.stop.run_until_cancelled(take).await;
}

async fn take(hub: &Hub, told: &ToldProgress) {
    let shown = hub.with_view(|view| view.jobs.get(&told.job).cloned());
    let job = match shown.filter(|job| job.attempt == told.progress.attempt) {
        Some(job) => Some(job),
        // It may be newer than the view.
        None => job(&*hub.store, told.job).await.unwrap_or_default(),
    };
    if let Some(job) = job
        && job.assignment().is_some_and(|assignment| assignment.worker_id == told.worker)
    {
        hub.take_progress(&job, told.progress.clone());
    }
}
