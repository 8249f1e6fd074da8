//! What is read from the store.

use std::sync::Arc;

use pointsman_core::{
    JobId, LogGroup, Seq, Token,
    matching::{Capabilities, CapabilitiesDigest, Explanation},
    record::Job,
};
use pointsman_store::{EndedPage, JobFilter, JobsPage, LogPage, Position, StoreError, job};

use crate::{Broker, LogError};

impl Broker {
    /// A job's record; none when there is no such job.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job(&self, id: JobId) -> Result<Option<Arc<Job>>, StoreError> {
        job(&**self.store(), id).await
    }

    /// A page of jobs, newest first, before `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        self.store().jobs(filter, before, limit).await
    }

    /// A page of jobs that have ended, the last ended first, of endings before `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended_jobs(
        &self,
        filter: JobFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<EndedPage, StoreError> {
        self.store().ended_jobs(filter, before, limit).await
    }

    /// The job's payload; none when it is no longer kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn payload(&self, id: JobId) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.store().payloads(vec![id]).await?.pop().flatten())
    }

    /// The result JSON that an attempt handed in; without a token, the last one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn result(
        &self,
        id: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store().result(id, token).await
    }

    /// Why a job waits, and how many are ahead of it while it is in a queue.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn explain(
        &self,
        id: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        self.store().explain(id).await
    }

    /// What workers with this digest offer; none when it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        self.store().capabilities(digest).await
    }

    /// The raw log after a position, at most `limit` groups; empty at the end of the log.
    ///
    /// # Errors
    /// [`LogError`].
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
