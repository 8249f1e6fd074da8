//! Leases that are over: their jobs are given back, as a loss.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Leases;

#[async_trait]
impl Reconciler for Leases {
    fn name(&self) -> &'static str {
        "leases"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle_silence(Due::Leases).await
    }
}
