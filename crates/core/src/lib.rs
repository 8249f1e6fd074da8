//! The rules of Pointsman, without I/O, clock or randomness: records and identifiers, the state
//! machines of jobs, workers, machines and connectors, matching, events, the view and its fold.
//!
//! Architecture invariant: everything here is a function of its arguments. A store hands in the
//! records and the time, [`decide`](decide::decide) says what changes, and the store applies it
//! in one atomic step or not at all.

pub mod failure;
pub mod ids;
pub mod matching;
pub mod time;

pub use failure::{Failure, FailureKind, LossReason};
pub use ids::{
    ConnectorId, CustomerId, IdError, Incarnation, JobId, MachineId, ServiceName, Token,
    WorkerId, WorkflowId,
};
pub use time::Timestamp;
