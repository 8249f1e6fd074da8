//! Machines of which nothing is heard any more, and those heard again.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Machines;

#[async_trait]
impl Reconciler for Machines {
    fn name(&self) -> &'static str {
        "machines"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle_silence(Due::Machines).await
    }
}
