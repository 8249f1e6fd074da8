//! The store: the one place where state lives.
//!
//! [`Store`] is the trait; [`MemStore`] the specification, [`State`] behind a lock. Every other
//! store passes the same [`conformance`] suite.
//!
//! Architecture invariant: a state change and its events are one atomic step, and nothing
//! (answer, event, wake-up, claim) leaves a store before that step is as durable as the store is.

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod doctor;
mod mem;
mod setting;
mod state;
mod store;
pub mod transfer;

/// The version of what records may hold, in whichever store and in exports. It is raised by whoever
/// lets them hold what an older version would lose or could not read: a field, or a new value of one.
/// The formats of SQLite stores, of exports and of Redis follow it, so that an older version refuses
/// what it would damage; each adds what changed in itself alone. 2: an intake that is closed. 3: earlier
/// attempts list the files of late results (`late_artifacts`), and alerts tell of broken services.
pub const RECORDS: u32 = 3;

pub use clock::{Clock, ManualClock, MonotonicClock};
pub use doctor::{Depth, Treatment};
pub use mem::MemStore;
pub use pointsman_core::decide::Intake;
pub use pointsman_core::doctor::{Examination, Finding, FindingRule, Mend, MendOutcome, Mended};
pub use setting::{Judgement, Risk, Setting};
pub use state::{
    Applied, CONTACT_GAP, ClassSummary, Confirmed, ConfirmedBy, Counts, Due, EndedPage, JobFilter,
    JobsPage, MAX_AHEAD, MAX_DUE, Pulse, PulseConnector, PulseEntry, Queues, Retention, State,
    Undo, WaitingJob, WorkHint, held_listed, oldest_first,
};
pub use store::{
    Committed, Done, Epoch, Health, Loaded, LogPage, MAX_PREVIEW, Position, Preview,
    PreviewTooLarge, Seed, Store, StoreError, ToldProgress, job,
};
pub use transfer::{Transfer, TransferError};
