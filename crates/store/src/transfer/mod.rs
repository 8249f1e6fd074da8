//! Moving house: everything of one store as a stream, and that stream into another, empty store.
//!
//! An export is of one seq, or it is refused. It closes the store's intake first, and nothing may
//! change from its first line to its last: it looks for a change after each page and at the end.
//! What still could change something is a running job's ending; so an export is refused while
//! jobs run, unless it is told to take them along. Taken along, a job is given back by the import
//! without a loss, and probably runs twice: what its worker hands in to the old store from then on
//! is not in the export. So it is for the operator to choose between waiting and that.
//!
//! An import goes into a store that never had a record. It marks the store first, durably, so that
//! one that breaks off leaves a store that says so and serves nobody.

mod export;
mod import;
mod lines;
mod read;

use std::io;

use async_trait::async_trait;
use pointsman_core::{
    JobId, Record, Rejected, Seq, Timestamp,
    command::IdempotencyKey,
    decide::{KeptIdempotency, KeptResult, Side},
};
use serde::{Deserialize, Serialize};

pub use export::{ExportOptions, export};
pub use import::{Imported, import, import_stream};
pub use read::{Stream, check};

use crate::{Epoch, Intake, RECORDS, Store, StoreError};

/// The version of the stream that this program writes, and the newest that it reads; it reads all
/// before it, too. It follows what records may hold; the first was written of their versions 1 to 3.
pub const FORMAT: u32 = RECORDS - 1;

/// The first line: what the stream is, and where the log of its store ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    /// The version of the program that wrote it.
    pub made_by: String,
    pub epoch: Epoch,
    pub seq: Seq,
    pub last_ended_no: u64,
    /// By the clock of the store it came from.
    pub at: Timestamp,
}

/// One line between header and footer. Capabilities come before the workers that have them; a
/// job's payload and results follow the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Record(Record),
    Side(Side),
}

impl Item {
    /// About how many bytes it takes in a store.
    pub fn weight(&self) -> usize {
        const RECORD: usize = 1_024;
        match self {
            Self::Side(Side::Payload { payload, .. }) => payload.len(),
            Self::Side(Side::Result { result, .. }) => result.json.len(),
            _ => RECORD,
        }
    }
}

/// What a stream holds, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub machines: u64,
    pub workers: u64,
    pub connectors: u64,
    pub alerts: u64,
    pub jobs: u64,
    pub payloads: u64,
    pub results: u64,
    pub capabilities: u64,
    pub idempotency_keys: u64,
}

impl Counts {
    fn add(&mut self, item: &Item) {
        *match item {
            Item::Record(Record::Machine(_)) => &mut self.machines,
            Item::Record(Record::Worker(_)) => &mut self.workers,
            Item::Record(Record::Connector(_)) => &mut self.connectors,
            Item::Record(Record::Alert(_)) => &mut self.alerts,
            Item::Record(Record::Job(_)) => &mut self.jobs,
            Item::Side(Side::Payload { .. }) => &mut self.payloads,
            Item::Side(Side::Result { .. }) => &mut self.results,
            Item::Side(Side::Capabilities { .. }) => &mut self.capabilities,
            Item::Side(Side::Idempotency { .. }) => &mut self.idempotency_keys,
        } += 1;
    }
}

/// The last line. Without it the stream was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footer {
    pub counts: Counts,
    /// Of all lines before this one, lowercase hex.
    pub sha256: String,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{0} jobs are running: start the server on this store until they have ended (it takes no new work), or take them along with --with-running: they begin anew in the new store"
    )]
    Running(usize),
    #[error(
        "the store changed during the export (seq {from} to {to}): stop what writes to it, and export again"
    )]
    Changed { from: Seq, to: Seq },
    #[error(
        "{count} things are wrong with what is stored, and would not be moved as they should be ({first}): start the server on this store, `pointsman doctor --repair`, and export again"
    )]
    Unsound { count: usize, first: String },
    #[error(
        "the store is not empty: its log is at seq {0}; import into one that never had a record (an alert is one: let the server wait until the import is done), say under another fleet's name or in another directory"
    )]
    NotEmpty(Seq),
    #[error("an import fills this store, or broke off: import into it anew")]
    Importing,
    #[error(
        "all of it is there and the store is open, but not confirmed: {0}; do not import again"
    )]
    Unconfirmed(String),
    #[error("nothing is being imported into this store")]
    NotImporting,
    #[error("this is no export of Pointsman: it does not begin with a header")]
    NotAnExport,
    #[error(
        "the export is of format {0}, and this program knows formats up to {FORMAT}: use a newer program"
    )]
    NewerFormat(u32),
    #[error("the export ends after line {0} without its footer: it was cut off; export again")]
    Cut(u64),
    #[error("line {line} of the export: {why}")]
    Line { line: u64, why: String },
    #[error("the export is not as it was written: {0}; export again")]
    Altered(&'static str),
    #[error("a record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("a moved record could not be settled: {0}")]
    Unsettled(Rejected),
    #[error("the export could not be read or written")]
    Io(#[from] io::Error),
}

/// A store that can be moved: what [`export`] and [`import`] need beside [`Store`].
#[async_trait]
pub trait Transfer: Store {
    async fn intake(&self) -> Result<Intake, StoreError>;

    /// Opens the intake, or closes it for an export; durable when it returns.
    ///
    /// # Errors
    /// When an import fills the store: that ends by [`finish_import`](Self::finish_import) or
    /// [`clear_import`](Self::clear_import) alone.
    async fn set_intake(&self, open: bool) -> Result<(), TransferError>;

    /// All results of a job, in the order in which they came.
    async fn results(&self, job: JobId) -> Result<Vec<KeptResult>, StoreError>;

    /// Idempotency keys that are kept, in a fixed order; those after `after`, at most `limit`.
    async fn idempotency(
        &self,
        after: Option<(IdempotencyKey, KeptIdempotency)>,
        limit: usize,
    ) -> Result<Vec<(IdempotencyKey, KeptIdempotency)>, StoreError>;

    /// Marks an empty store as being imported into, durably, and sets where its log begins.
    /// Afterwards every command but [`Moved`](pointsman_core::command::Reconcile::Moved) is
    /// refused, and the store does not open for service.
    ///
    /// # Errors
    /// [`NotEmpty`](TransferError::NotEmpty) when the store ever had a record; nothing is changed.
    async fn begin_import(&self, header: &Header) -> Result<(), TransferError>;

    /// Puts items in as they are, without events.
    async fn import(&self, items: Vec<Item>) -> Result<(), TransferError>;

    /// Gives the log a new epoch, which it answers, and opens the store. Its clock shows no time
    /// before the header's from the next opening on.
    async fn finish_import(&self, header: &Header) -> Result<Epoch, TransferError>;

    /// Takes back what an import put in: the store is empty again, and open.
    async fn clear_import(&self) -> Result<(), TransferError>;
}
