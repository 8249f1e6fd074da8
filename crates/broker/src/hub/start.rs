//! What viewers begin with: a snapshot that is shared by all who begin within a moment, so that its
//! text is written once, and is there once however slowly they read it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Hub, Next};
use crate::{
    frame::Shared,
    lanes::{QUEUES_EVERY, fresh_lanes},
    snapshot::Snapshot,
};

/// A snapshot is given out for so long. What came since follows it as events.
const GIVEN_FOR: Duration = QUEUES_EVERY;

/// Where a viewer begins.
#[derive(Clone)]
pub(crate) struct Start {
    pub snapshot: Arc<Shared<Snapshot>>,
    pub rebuilds: u64,
    /// Progress after this is not in the snapshot.
    pub progress_seen: u64,
    made_at: Instant,
}

/// The newest one, kept until the last viewer has gone; held while it is made.
pub(crate) type LastStart = tokio::sync::Mutex<Option<Start>>;

impl Hub {
    pub async fn start(&self) -> Start {
        let mut last = self.last_start.lock().await;
        if let Some(start) = last.as_ref().filter(|start| self.is_fresh(start)) {
            return start.clone();
        }
        // Noted before the snapshot is taken: what comes meanwhile is sent twice, never not at all.
        let rebuilds = self.rebuilds();
        let progress_seen = self.lanes.progress.last_version();
        let lanes = fresh_lanes(self, QUEUES_EVERY).await;
        let snapshot = Shared::new(self.snapshot(lanes));
        let start = Start { snapshot, rebuilds, progress_seen, made_at: Instant::now() };
        *last = Some(start.clone());
        start
    }

    /// Nobody watches any more.
    pub fn forget_start(&self) {
        // Whoever holds it is a viewer that begins.
        if let Ok(mut last) = self.last_start.try_lock() {
            *last = None;
        }
    }

    /// Whether what follows the snapshot is still there.
    fn is_fresh(&self, start: &Start) -> bool {
        let goes_on = match self.next(&start.snapshot.position(), false, start.rebuilds) {
            Next::Resync(_) => false,
            Next::Nothing | Next::Ahead => start.rebuilds == self.rebuilds(),
        };
        goes_on && start.made_at.elapsed() < GIVEN_FOR
    }
}
