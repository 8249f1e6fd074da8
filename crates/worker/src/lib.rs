//! The worker: claims jobs for its free slots, runs each through a connector, keeps the leases,
//! reports, and hands in the results.
//!
//! It reaches the store through [`Broker`] and nothing else. Its parts:
//!
//! - one **lane** a service: its slots, the attempts in them, and the exchanges in which finished
//!   work goes out and the next jobs come in;
//! - the **keeper**: one renewal for all attempts, with connector statuses and progress, and what
//!   the answer orders;
//! - one **health** task a service: probes it, learns what it has, clears it of ghosts before it
//!   gets jobs, and reports its status.
//!
//! When the store is in another epoch (it came back from before a while ago), the keeper takes back
//! what is running, and hands in again the results that the store took lately.
//!
//! Architecture invariant: every write about an attempt carries both halves of its fence, and every
//! exchange can be repeated exactly. So a lost answer costs a repeat and never a job.

#![warn(clippy::missing_errors_doc)]

mod attempt;
mod backoff;
mod broker;
mod calls;
mod config;
mod confirm;
mod draw;
mod error;
mod health;
mod keeper;
mod kept;
mod lane;
mod ours;
mod previews;
mod put_off;
mod reclaim;
mod service;
mod settle;
mod shared;
mod uploads;
mod worker;

pub use broker::{Arrival, Broker, BrokerError, Claimed, Exchanged, InEpoch, StoredFile};
pub use calls::JUST_REGISTERED;
pub use config::{Clock, ServiceConfig, Timings, WorkerConfig};
pub use error::{ConfigError, WorkerError};
pub use worker::{Shutdown, Worker};
