//! Pending jobs whose hold is over: into their queues.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Holds;

#[async_trait]
impl Reconciler for Holds {
    fn name(&self) -> &'static str {
        "holds"
    }

    fn period(&self) -> Duration {
        // A retry is late by one period at most.
        Duration::from_millis(50)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle(Due::Holds).await
    }
}
