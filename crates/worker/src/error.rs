//! Why a worker does not start, or stops.

use pointsman_core::{Incarnation, Rejected, ServiceName, matching::RequirementError};

/// A configuration that no worker can run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A worker needs something to drive.
    #[error("a worker needs at least one service")]
    NoServices,
    /// Two connectors for one kind of service.
    #[error("service {0} is configured twice")]
    TwiceTheService(ServiceName),
    /// Slots out of range.
    #[error("service {service} has {slots} slots: use 1 to 1,024")]
    Slots {
        /// Which service.
        service: ServiceName,
        /// What was configured.
        slots: u32,
    },
    /// Hardware, labels or customers that no store takes.
    #[error("capabilities{}: {}", .0.pointer, .0.message)]
    Capabilities(RequirementError),
}

/// Why a worker stopped other than by being asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// A newer process registered under the same worker id. This one must not come back.
    #[error("superseded: a newer process runs under this worker id (this one was {0})")]
    Superseded(Incarnation),
    /// The broker does not admit this worker.
    #[error("the broker does not admit this worker: {0}")]
    Refused(String),
    /// The broker refuses what this worker says, and repeating it will not help.
    #[error("the broker rejects this worker's call: {0}")]
    Rejected(Rejected),
    /// A newer version has taken the store over, and what this one runs is lost.
    #[error("{0}")]
    Newer(String),
    /// The broker's answer breaks its contract.
    #[error("the broker's answer makes no sense: {0}")]
    Protocol(&'static str),
    /// A part of the worker died.
    #[error("a part of the worker died: {0}")]
    Died(String),
}
