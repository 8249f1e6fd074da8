//! What has ended or is gone and over what is kept: removed, by an event.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Retention(pub pointsman_store::Retention);

#[async_trait]
impl Reconciler for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle(Due::Retention(self.0)).await
    }
}
