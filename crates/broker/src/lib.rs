//! The broker: a service over any store. Everything that a server, or workers in the same
//! process, ask for goes through the cloneable [`Broker`].
//!
//! - [`exchange`](Broker::exchange) wakes waiting workers: a hint says "look now", and every waiter
//!   also looks by itself at a slow period.
//! - The hub follows the store's log, folds it into the view, and keeps the newest changes in a
//!   ring from which each [`Viewer`] pulls at its own pace.
//! - The lanes (progress, pulse, queues) travel beside the log and are never mixed into records.
//! - The reconcilers decide what nobody reports: silence, staleness, ended leases and holds.
//!
//! Architecture invariant: the view is a function of the log alone. A viewer that cannot go on
//! from where it stood is told so (`resync`) and starts from a snapshot; it never misses a change
//! in silence, and a slow one costs a resync, not memory.

mod broker;
mod commands;
mod config;
mod doctor;
mod error;
mod exchange;
mod files;
pub mod frame;
mod hub;
mod lanes;
mod reads;
mod reconcilers;
mod snapshot;
mod stream;
mod tasks;
mod told;
mod troubles;

pub use broker::{Broker, Stats};
pub use commands::{Submitted, execute, odd_answer};
pub use config::BrokerConfig;
pub use error::{BrokerError, LogError};
pub use exchange::{Claimed, Exchanged, Exchanges, running_jobs};
pub use files::FilesTrouble;
pub use frame::Frame;
pub use hub::{Liveness, ViewEvent, ViewGroup, Viewer};
pub use lanes::PreviewError;
pub use pointsman_store::{MAX_PREVIEW, Preview};
pub use reconcilers::ReconcilerStatus;
pub use snapshot::{Lanes, Snapshot};
pub use stream::{JobFrame, JobNow, JobStream};
pub use tasks::BrokerTasks;
