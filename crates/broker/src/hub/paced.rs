//! A value that a viewer is sent at most so often.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A value that is sent at most so often.
pub(super) struct Paced<T> {
    pub changes: watch::Receiver<T>,
    /// There is something that has not been sent.
    pub pending: bool,
    /// When it may be sent.
    pub due: Instant,
}

impl<T> Paced<T> {
    pub fn new(changes: watch::Receiver<T>, now: Instant) -> Self {
        Self { changes, pending: false, due: now }
    }

    /// Notes whether there is something new, and whether it may be sent now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.pending = true;
        }
        self.pending && now >= self.due
    }

    /// Ends when [`is_due`](Self::is_due) may say something else.
    pub async fn wait(&mut self) {
        if self.pending {
            sleep_until(self.due).await;
        } else if self.changes.changed().await.is_ok() {
            self.pending = true;
        } else {
            std::future::pending().await
        }
    }
}
