//! The embedded, durable store: one SQLite file in a data directory.
//!
//! The hot records live in memory in [`State`](pointsman_store::State), which decides and applies.
//! One writer thread owns it together with the one writing connection. It takes whatever requests
//! have queued up, applies them, writes what they changed in one transaction, waits until that is
//! on the disk, and only then answers, publishes and wakes. What queues up meanwhile is the next
//! batch, so the price of one flush is shared by all who wait for it.
//!
//! Architecture invariant: nothing leaves this store before it is durable. When a transaction
//! fails, every transition of its batch is undone and every caller of the batch is told.
//!
//! | file | what it is |
//! | --- | --- |
//! | `lock` | held by the process that uses the directory; names it; by it a restored store is recognized |
//! | `pointsman.db`, `-wal`, `-shm` | the database |
//! | `reserve` | room that is given up when the disk is full, so that running jobs can end |

mod blobs;
mod doctor;
mod log;
mod open;
mod options;
mod readers;
mod rows;
mod store;
mod transfer;
mod writer;

pub use open::OpenError;
pub use options::{LogRetention, Opening, Options};
pub use store::SqliteStore;
