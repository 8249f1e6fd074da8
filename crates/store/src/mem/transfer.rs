//! Moving the store in memory; tests move to and from it.

use async_trait::async_trait;
use pointsman_core::{
    JobId,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult},
};

use super::{Inner, MemStore};
use crate::{
    Epoch, Intake, Store, StoreError,
    transfer::{Header, Item, Transfer, TransferError},
};

#[async_trait]
impl Transfer for MemStore {
    async fn intake(&self) -> Result<Intake, StoreError> {
        Ok(self.inner.lock().state.intake())
    }

    async fn set_intake(&self, open: bool) -> Result<(), TransferError> {
        self.inner.lock().state.set_intake(open)
    }

    async fn results(&self, job: JobId) -> Result<Vec<KeptResult>, StoreError> {
        Ok(self.inner.lock().results.get(&job).cloned().unwrap_or_default())
    }

    async fn idempotency(
        &self,
        after: Option<(IdempotencyKey, KeptIdempotency)>,
        limit: usize,
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError> {
        Ok(self.inner.lock().state.idempotency_page(after.as_ref(), limit))
    }

    async fn begin_import(&self, header: &Header) -> Result<(), TransferError> {
        let mut inner = self.inner.lock();
        inner.state.check_empty()?;
        inner.state.begin_import(header.seq, header.last_ended_no);
        Ok(())
    }

    async fn import(&self, items: Vec<Item>) -> Result<(), TransferError> {
        let mut inner = self.inner.lock();
        inner.state.check_importing()?;
        for item in items {
            if let Item::Side(side) = &item {
                inner.keep(side.clone());
            }
            inner.state.import(item);
        }
        Ok(())
    }

    async fn finish_import(&self, _: &Header) -> Result<Epoch, TransferError> {
        let mut inner = self.inner.lock();
        inner.state.check_importing()?;
        let epoch = Epoch::mint();
        inner.state.finish_import(epoch.clone());
        Ok(epoch)
    }

    async fn clear_import(&self) -> Result<(), TransferError> {
        let mut inner = self.inner.lock();
        inner.state.check_importing()?;
        *inner = Inner::new(self.now());
        Ok(())
    }
}
