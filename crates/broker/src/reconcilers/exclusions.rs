//! Exclusions that lapse: with time, or because nobody else could run the job.

use std::time::Duration;

use async_trait::async_trait;
use pointsman_store::{Due, StoreError};

use super::{Outcome, Reconciler, World};

pub(super) struct Exclusions;

#[async_trait]
impl Reconciler for Exclusions {
    fn name(&self) -> &'static str {
        "exclusions"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn reconcile(&self, world: &World) -> Result<Outcome, StoreError> {
        world.settle(Due::Exclusions).await
    }
}
