//! Connectors: what drives one service (ComfyUI, the built-in simulation, …) for a worker.
//!
//! A [`Connector`] runs one [`Task`] at a time per call of [`Connector::run`], reports through the
//! [`RunContext`] that it is given, and ends with a [`Completion`] or a [`RunEnd`] that says what
//! shall become of the job. It knows nothing of stores, leases or queues.
//!
//! Three rules hold for every connector:
//!
//! - **Completed means stored.** Every result file is handed to [`RunContext::put_artifact`]
//!   before the run is called completed.
//! - **Cancelled means gone.** A run that was told to stop ends as [`RunEnd::Cancelled`] only when
//!   the service is known to have dropped it; else it is [`RunEnd::Wedged`].
//! - **A failed read is no news.** It neither ends a run nor makes the service idle.

#![warn(clippy::missing_errors_doc)]

pub mod comfyui;
mod connector;
mod context;
mod end;
mod evidence;
mod payload;
mod pointer;
pub mod simulation;
mod source;
mod stop;
mod task;
#[cfg(test)]
mod testing;

pub use connector::{Connector, Health, NotClear, Unavailable};
pub use context::{HostError, NewArtifact, Preview, Report, RunContext, RunHost};
pub use end::{Completion, RunEnd};
pub use evidence::{EvidenceSource, NoCounters, Sample};
pub use payload::PayloadError;
pub use source::{ByteStream, Source, SourceError, one_chunk};
pub use stop::{StopReason, StopSignal};
pub use task::{Limits, Task};
