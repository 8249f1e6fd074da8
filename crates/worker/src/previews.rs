//! Sends previews beside the renewals, which must not wait for pictures.

use std::{sync::Arc, time::Duration};

use crate::{WorkerError, shared::Shared};

/// The newest preview of each attempt goes out this often at most.
const PERIOD: Duration = Duration::from_millis(250);

pub(crate) async fn run(shared: Arc<Shared>) -> Result<(), WorkerError> {
    loop {
        shared.previews.notified().await;
        for attempt in shared.ours.all_kept() {
            let Some((n, preview)) = attempt.new_preview() else { continue };
            let call = shared.broker.preview(attempt.held(), n, preview);
            if let Err(why) = shared.within(shared.call_limit(), call).await {
                // The next one is newer anyway.
                tracing::debug!(job = %attempt.held().job, %why, "preview not sent");
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
