//! The rules of Pointsman, without I/O, clock or randomness: records and identifiers, the state
//! machines of jobs, workers, machines and connectors, matching, events, the view and its fold.
//!
//! Architecture invariant: everything here is a function of its arguments. A store hands in the
//! records and the time, [`decide`](decide::decide) says what changes, and the store applies it
//! in one atomic step or not at all.

pub mod address;
pub mod bounds;
pub mod command;
pub mod decide;
pub mod doctor;
mod event;
mod failure;
pub mod hex;
mod ids;
mod json;
pub mod matching;
mod names;
mod outage;
pub mod record;
mod time;
pub mod view;

pub use command::{Answer, Command};
pub use decide::{Rejected, Transition};
pub use event::{Event, EventName, LogGroup, Record, RecordKey, RecordKind};
pub use failure::{Failure, FailureKind, LossReason};
pub use ids::{
    ConnectorId, CustomerId, IdError, Incarnation, JobId, MachineId, ServiceName, Token, WorkerId,
    WorkflowId,
};
pub use json::{pointer_token, to_json};
pub use outage::Outage;
pub use record::Seq;
pub use time::Timestamp;
pub use view::View;
