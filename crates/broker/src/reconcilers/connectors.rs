//! Connector statuses that nothing has confirmed for a minute: `unknown`. The next report ends it.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Connectors;

#[async_trait]
impl Reconciler for Connectors {
    fn name(&self) -> &'static str {
        "connectors"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle_silence(Due::Connectors).await
    }
}
