//! What becomes due by itself: the store says what, and is asked to do it.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, Retention, StoreError};

use super::{Outcome, Reconciler, World};

/// One kind of what becomes due.
pub(super) struct WhenDue {
    name: &'static str,
    period: Duration,
    what: Due,
    /// Whether it follows from somebody's silence, which may be the broker's or the store's own.
    is_silence: bool,
}

impl WhenDue {
    fn in_time(name: &'static str, millis: u64, what: Due) -> Self {
        Self { name, period: Duration::from_millis(millis), what, is_silence: false }
    }

    fn after_silence(name: &'static str, millis: u64, what: Due) -> Self {
        Self { is_silence: true, ..Self::in_time(name, millis, what) }
    }
}

/// All kinds, each with its period in milliseconds.
pub(super) fn all(keep: Retention) -> [WhenDue; 7] {
    [
        // Leases that are over: their jobs are given back, as a loss.
        WhenDue::after_silence("leases", 500, Due::Leases),
        // Workers without a heartbeat: declared silent.
        WhenDue::after_silence("workers", 500, Due::Workers),
        // Connector statuses that nothing has confirmed for a minute: `unknown`. The next report
        // ends it.
        WhenDue::after_silence("connectors", 1_000, Due::Connectors),
        // Machines of which nothing is heard any more, and those heard again.
        WhenDue::after_silence("machines", 500, Due::Machines),
        // Pending jobs whose hold is over: into their queues. A retry is late by one period at most.
        WhenDue::in_time("holds", 50, Due::Holds),
        // Exclusions that lapse: with time, or because nobody else could run the job.
        WhenDue::in_time("exclusions", 1_000, Due::Exclusions),
        // What has ended or is gone and over what is kept: removed, by an event.
        WhenDue::in_time("retention", 5_000, Due::Retention(keep)),
    ]
}

#[async_trait]
impl Reconciler for WhenDue {
    fn name(&self) -> &'static str {
        self.name
    }

    fn period(&self) -> Duration {
        self.period
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        match self.is_silence {
            true => world.settle_silence(self.what).await,
            false => world.settle(self.what).await,
        }
    }
}
