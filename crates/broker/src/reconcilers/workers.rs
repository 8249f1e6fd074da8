//! Workers without a heartbeat: declared silent.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Workers;

#[async_trait]
impl Reconciler for Workers {
    fn name(&self) -> &'static str {
        "workers"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle_silence(Due::Workers).await
    }
}
