//! What becomes due by itself: the store says what, and is asked to do it.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, Retention, StoreError};

use super::{Reconciler, World};

/// One kind of what becomes due.
pub(super) struct WhenDue {
    name: &'static str,
    period: Duration,
    what: Due,
}

impl WhenDue {
    fn new(name: &'static str, millis: u64, what: Due) -> Self {
        Self { name, period: Duration::from_millis(millis), what }
    }
}

/// All kinds, each with its period in milliseconds.
pub(super) fn all(keep: Retention) -> [WhenDue; 9] {
    [
        // Leases that are over: their jobs are given back, as a loss.
        WhenDue::new("leases", 500, Due::Leases),
        // Workers without a heartbeat: declared silent.
        WhenDue::new("workers", 500, Due::Workers),
        // Connector statuses that nothing has confirmed for a minute: `unknown`. The next report
        // ends it.
        WhenDue::new("connectors", 1_000, Due::Connectors),
        // Machines of which nothing is heard any more, and those heard again.
        WhenDue::new("machines", 500, Due::Machines),
        // Pending jobs whose hold is over: into their queues. A retry is late by one period at most.
        WhenDue::new("holds", 50, Due::Holds),
        // Exclusions that lapse: with time, or because nobody else could run the job. A retry of a
        // worker that is alone is not late for that: its backoff is as long as this.
        WhenDue::new("exclusions", 1_000, Due::Exclusions),
        // What is gone or has ended and over what is kept: removed, by an event. Each of them by
        // itself: what keeps one from being removed keeps no other.
        WhenDue::new("gone", 5_000, Due::Gone(keep)),
        WhenDue::new("ended", 5_000, Due::Ended(keep)),
        WhenDue::new("leftovers", 5_000, Due::Leftovers),
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

    async fn reconcile(&self, world: &World) -> Result<u64, StoreError> {
        world.settle(self.what).await
    }
}
