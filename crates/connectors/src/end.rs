use pointsman_core::{Failure, LossReason, record::Artifact};

/// A run that did what was asked. All its files are stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// The stored result files.
    pub artifacts: Vec<Artifact>,
    /// The service answered from its cache.
    pub cached: bool,
    /// The service's own outputs, as JSON.
    pub result: Option<serde_json::Value>,
}

/// Every other way in which a run ends.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// The attempt failed; the kind says what happens to the job.
    Failed(Box<Failure>),
    /// It was told to stop, and the service has provably dropped it.
    Cancelled,
    /// Interrupted, not failed: the service lost it, or stalled and was stopped.
    GaveBack {
        /// Why.
        reason: LossReason,
        /// For people.
        message: String,
    },
    /// The service cannot be made to stop. The attempt is kept, and its slot with it, until
    /// [`Connector::clear_ghosts`](crate::Connector::clear_ghosts) proves that it is gone; then
    /// what it ran to its end all the same is collected, if
    /// [`Connector::knows`](crate::Connector::knows) it, else it is given back, or was cancelled if
    /// that was asked for. Where that takes long, it is given back before, and what is collected is
    /// late; the slot is kept.
    Wedged {
        /// Why it is given back then.
        reason: LossReason,
        /// What to do, for people.
        message: String,
        /// What the job fails of then, where that is known already: whatever the service made of it is
        /// not wanted.
        failure: Option<Box<Failure>>,
    },
}

impl RunEnd {
    /// Gives the job back.
    #[must_use]
    pub fn gave_back(reason: LossReason, message: impl Into<String>) -> Self {
        Self::GaveBack { reason, message: message.into() }
    }
}

impl From<Failure> for RunEnd {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}
