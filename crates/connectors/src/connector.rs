use async_trait::async_trait;
use pointsman_core::{
    ServiceName, command::Held, matching::ServiceCapabilities, record::ConnectorStatus,
};

use crate::{Completion, RunContext, RunEnd, Task};

/// Drives one service. Shared by all of the worker's slots on it.
#[async_trait]
pub trait Connector: Send + Sync {
    /// The kind of service, as jobs name it.
    fn service(&self) -> &ServiceName;

    /// Looks how the service is. Called every few seconds, also while jobs run, and bounded in
    /// time by the connector itself. It says nothing about jobs: whether a connector is `active`
    /// follows from the jobs that the store knows.
    async fn probe(&self) -> Health;

    /// What the service has: asked after it came up or was away, and every few minutes.
    ///
    /// # Errors
    /// [`Unavailable`] when the service did not say; the caller asks again later.
    async fn capabilities(&self) -> Result<ServiceCapabilities, Unavailable>;

    /// Runs one attempt to its end, unless [`RunContext::stop`] says otherwise.
    ///
    /// It must call [`RunContext::tick`] at least every 2 s while it works or waits: an attempt
    /// that stops ticking loses its lease.
    ///
    /// # Errors
    /// [`RunEnd`] for every end but a completion.
    async fn run(&self, task: Task, context: RunContext) -> Result<Completion, RunEnd>;

    /// Clears the service of every run of this worker that is not among `ours`, and proves it.
    /// Answers which of `ours` the service still has, running or finished; those can be run with
    /// [`Task::adopted`]. Called before the first claim, and after any doubt.
    ///
    /// # Errors
    /// [`NotClear`] while something that should be gone may still run.
    async fn clear_ghosts(&self, ours: &[Held]) -> Result<Vec<Held>, NotClear>;

    /// Which of these the service still knows, though it was cleared of them: they may have run to
    /// their end before they could be stopped. Those can be run with [`Task::adopted`], to collect it.
    /// None, where a service keeps nothing of what it does not run any more.
    ///
    /// # Errors
    /// [`NotClear`] when the service does not say.
    async fn knows(&self, _cleared: &[Held]) -> Result<Vec<Held>, NotClear> {
        Ok(Vec::new())
    }
}

/// How a service is, as its connector sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `starting`, `connecting`, `idle`, `error` or `offline`.
    pub status: ConnectorStatus,
    /// What is wrong, or worth knowing; shown to operators.
    pub message: Option<String>,
}

impl Health {
    /// Ready to take jobs.
    #[must_use]
    pub const fn idle() -> Self {
        Self { status: ConnectorStatus::Idle, message: None }
    }

    /// A status with its reason.
    #[must_use]
    pub fn new(status: ConnectorStatus, message: impl Into<String>) -> Self {
        Self { status, message: Some(message.into()) }
    }

    /// Whether the service can take a job now.
    #[must_use]
    pub fn is_able(&self) -> bool {
        matches!(self.status, ConnectorStatus::Idle | ConnectorStatus::Active)
    }
}

/// The service did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Something of this worker may still run on the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotClear(pub String);
