//! The broker's tasks, as those who start it hold them.

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// The broker's tasks. Dropping this stops them, and with them every viewer and waiting claim.
#[must_use = "the broker stops when its tasks are dropped"]
pub struct BrokerTasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    _stop_on_drop: DropGuard,
}

impl BrokerTasks {
    /// `tracker` has all tasks; each ends when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken, tracker: TaskTracker) -> Self {
        Self { _stop_on_drop: stop.clone().drop_guard(), stop, tracker }
    }

    /// Stops the tasks and waits until they have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.wait().await;
    }
}
