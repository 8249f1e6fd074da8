//! The store: the one place where state lives.
//!
//! [`Store`] is the trait; [`MemStore`] the specification, [`State`] behind a lock. Every other
//! store passes the same [`conformance`] suite.
//!
//! Architecture invariant: a state change and its events are one atomic step, and nothing
//! (answer, event, wake-up, claim) leaves a store before that step is as durable as the store is.

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod doctor;
mod mem;
pub mod state;
mod store;
pub mod transfer;

pub use clock::{Clock, ManualClock, MonotonicClock};
pub use doctor::{Depth, Treatment};
pub use mem::MemStore;
pub use pointsman_core::decide::Intake;
pub use pointsman_core::doctor::{Examination, Finding, FindingRule, Mend, MendOutcome, Mended};
pub use state::{
    Applied, CONTACT_GAP, ClassSummary, Confirmed, ConfirmedBy, Counts, Due, EndedPage, JobFilter,
    JobsPage, MAX_AHEAD, MAX_DUE, Pulse, PulseConnector, PulseEntry, Queues, Retention, State,
    Undo, WaitingJob, WorkHint, oldest_first,
};
pub use store::{
    Committed, Done, Epoch, Health, Loaded, LogPage, MAX_PREVIEW, Position, Preview,
    PreviewTooLarge, Risk, Seed, Setting, Store, StoreError, ToldProgress, job,
};
pub use transfer::{Transfer, TransferError};
