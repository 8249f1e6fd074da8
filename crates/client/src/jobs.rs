//! Jobs: submit, look, cancel, retry.

use bytes::Bytes;
use pointsman_api::{
    Attempts, BatchResult, CurrentProgress, Explained, JobsPage, JobsQuery, RetryRequest,
    Submission,
};
use pointsman_core::{JobId, record::JobRecord};
use reqwest::{Method, StatusCode};
use serde::Serialize;

use crate::{
    Client, ClientError,
    connection::{CALL, read, written},
};

/// A submission that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub job: JobRecord,
    /// The same submission was here before.
    pub existed: bool,
}

#[derive(Serialize)]
struct BatchBody<'a> {
    jobs: &'a [Submission],
}

impl Client {
    /// # Errors
    /// [`ClientError`]. After [`ClientError::Unreachable`] only an idempotency key tells whether
    /// it was taken.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, ClientError> {
        self.submit_json(written(submission)?.into()).await
    }

    /// Submits a body as it is, and leaves it to the server to judge it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub async fn submit_json(&self, body: Bytes) -> Result<Submitted, ClientError> {
        let request = self.api(Method::POST, &["jobs"]);
        let request = request.header("content-type", "application/json").body(body).timeout(CALL);
        let response = self.send(request).await?;
        let existed = response.status() == StatusCode::OK;
        let job = read(&response.bytes().await?)?;
        Ok(Submitted { job, existed })
    }

    /// Submits up to 1,000 jobs, each taken or refused by itself.
    ///
    /// # Errors
    /// [`ClientError`] about the batch as a whole.
    pub async fn submit_batch(&self, jobs: &[Submission]) -> Result<BatchResult, ClientError> {
        self.post(&["jobs", "batch"], &BatchBody { jobs }).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self, query: &JobsQuery) -> Result<JobsPage, ClientError> {
        let request = self.api(Method::GET, &["jobs"]);
        self.answer(request.query(query).timeout(CALL)).await
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, id: JobId) -> Result<JobRecord, ClientError> {
        self.get(&["jobs", &id.to_string()]).await
    }

    /// The payload as it was submitted, JSON text.
    pub async fn payload(&self, id: JobId) -> Result<Bytes, ClientError> {
        self.part(id, "payload").await
    }

    /// The service's own outputs, JSON text.
    pub async fn result(&self, id: JobId) -> Result<Bytes, ClientError> {
        self.part(id, "result").await
    }

    async fn part(&self, id: JobId, part: &str) -> Result<Bytes, ClientError> {
        let request = self.api(Method::GET, &["jobs", &id.to_string(), part]);
        Ok(self.send(request.timeout(CALL)).await?.bytes().await?)
    }

    /// # Errors
    /// [`ClientError`].
    pub async fn attempts(&self, id: JobId) -> Result<Attempts, ClientError> {
        self.get(&["jobs", &id.to_string(), "attempts"]).await
    }

    /// How far a job is.
    pub async fn progress(&self, id: JobId) -> Result<CurrentProgress, ClientError> {
        self.get(&["jobs", &id.to_string(), "progress"]).await
    }

    /// Why a job waits.
    pub async fn explain(&self, id: JobId) -> Result<Explained, ClientError> {
        self.get(&["jobs", &id.to_string(), "explain"]).await
    }

    /// Ends a pending job, and asks a running one to stop: it then shows `cancel_requested_at`.
    pub async fn cancel(&self, id: JobId) -> Result<JobRecord, ClientError> {
        self.post(&["jobs", &id.to_string(), "cancel"], &()).await
    }

    /// A new run of an ended job: this one, so that the call may be repeated, or the next.
    pub async fn retry(&self, id: JobId, run: Option<u32>) -> Result<JobRecord, ClientError> {
        let request = RetryRequest { run };
        self.post(&["jobs", &id.to_string(), "retry"], &request).await
    }
}
