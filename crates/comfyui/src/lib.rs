//! ComfyUI's protocol: wire types, an HTTP client and a websocket client.
//!
//! Two layers. The pure one turns bytes into types and types into answers, without I/O: [`Message`], [`QueueState`],
//! [`HistoryEntry`], [`verdict()`], [`classify`], [`graph`], [`ObjectInfo`]. The other one moves the bytes:
//! [`ComfyClient`] for HTTP, [`Events`] for one websocket.
//!
//! The protocol has no acknowledgements and no replay, so three rules run through the whole crate:
//!
//! - **Events are hints, `/queue` and `/history` are the truth.** [`ComfyClient::truth`] reads both, in that order.
//! - **A failed read is an error**, never "idle" and never "done" ([`RequestError`]).
//! - **An unread answer is not a refusal.** [`SubmitError::Unknown`] is told apart from all others.
//!
//! Facts about ComfyUI are cited where they are relied on: "ComfyUI docs/source", or a recording of a real server in
//! `tests/wire/` (versions 0.3.64 and 0.27.0), such as "recording normal.json".

pub mod classify;
mod client;
mod error;
mod events;
mod files;
pub mod graph;
mod history;
mod json;
mod logs;
mod mailbox;
mod message;
mod object_info;
mod outputs;
mod queue;
mod stats;
mod submit;
mod verdict;

pub use classify::{Classified, FailureKind};
pub use client::{Cancelled, ComfyClient, Timeouts, Truth};
pub use error::{InvalidUrl, RequestError};
pub use events::{ConnectError, Disconnected, Events, MAX_FRAME_BYTES};
pub use files::{Folder, ParseFolderError, UploadReply, ViewStream};
pub use history::{HistoryEntry, HistoryStatus};
pub use logs::{LogEntry, RawLogs};
pub use mailbox::{MAX_CONTROL_MESSAGES, MAX_NOISE_MESSAGES, MAX_WAITING_BYTES};
pub use message::{
    ExecutionError, FrameError, ImageFormat, Interruption, Message, NodeProgress, NodeState,
    Preview, PreviewMetadata,
};
pub use object_info::{ModelInput, ObjectInfo};
pub use outputs::{OutputFile, output_files};
pub use queue::{QueueEntry, QueueState};
pub use stats::{Device, SystemInfo, SystemStats};
pub use submit::{
    NodeError, NodeErrors, Rejection, Submission, SubmitError, SubmitReply, ValidationError,
};
pub use verdict::{Verdict, verdict};
