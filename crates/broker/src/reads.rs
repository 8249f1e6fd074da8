//! What is read from the store.

use std::sync::Arc;

use pointsman_core::{JobId, LogGroup, Seq, record::Job};
use pointsman_store::{LogPage, Position, StoreError, job};

use crate::{Broker, LogError};

impl Broker {
    /// A job's record; none when there is no such job.
    pub async fn job(&self, id: JobId) -> Result<Option<Arc<Job>>, StoreError> {
        job(&**self.store(), id).await
    }

    /// The job's payload; none when it is no longer kept.
    pub async fn payload(&self, id: JobId) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.store().payloads(vec![id]).await?.pop().flatten())
    }

    /// The raw log after a position, at most `limit` groups; empty at the end of the log.
    pub async fn log(&self, after: Position, limit: usize) -> Result<Vec<Arc<LogGroup>>, LogError> {
        let current = self.store().epoch();
        if after.epoch != current {
            return Err(LogError::OtherEpoch { current });
        }
        if after.seq > self.hub().seq() && self.log_page(after.seq - 1, 1).await?.is_empty() {
            return Err(LogError::BeyondHead);
        }
        self.log_page(after.seq, limit).await
    }

    async fn log_page(&self, after: Seq, limit: usize) -> Result<Vec<Arc<LogGroup>>, LogError> {
        match self.store().log(after, limit).await? {
            LogPage::Groups(groups) => Ok(groups),
            LogPage::Cut { oldest } => Err(LogError::Cut { oldest }),
        }
    }
}
