use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

mod binary;
mod parts;
mod text;

pub use parts::{
    ExecutionError, ImageFormat, Interruption, NodeProgress, NodeState, Preview, PreviewMetadata,
};

use crate::LogEntry;

/// One message of the websocket.
///
/// Which of them a client gets depends on the prompt's client_id: with one, everything but `Status` goes to that client
/// alone; without one, progress, previews and interruptions go to everybody and the rest to nobody (ComfyUI source).
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The length of the queue changed, or the socket was just opened.
    Status {
        /// Prompts that run or wait.
        queue_remaining: u64,
        /// The name the service gave this socket; only in the first message.
        sid: Option<String>,
    },
    /// What the service can do; the answer to the client's first message.
    FeatureFlags(Map<String, Value>),
    /// A prompt was picked up.
    ExecutionStart {
        /// Which prompt.
        prompt_id: String,
        /// Service's clock, ms since the epoch.
        timestamp: Option<i64>,
    },
    /// Which nodes will not run, because their results are known. Always sent, also with an empty list.
    ExecutionCached {
        /// Which prompt.
        prompt_id: String,
        /// Ids of the nodes.
        nodes: Vec<String>,
        /// Service's clock, ms since the epoch.
        timestamp: Option<i64>,
    },
    /// The state of all nodes **seen so far**: skipped cached nodes never appear (ComfyUI source).
    ProgressState {
        /// Which prompt.
        prompt_id: String,
        /// Node id → its progress.
        nodes: BTreeMap<String, NodeProgress>,
    },
    /// A node starts; with `node: None` it is the last message of a prompt, after its history was written.
    Executing {
        /// The node; None at the end.
        node: Option<String>,
        /// The node to show, which differs inside expanded subgraphs.
        display_node: Option<String>,
        /// Which prompt. Missing in the one that greets a reconnected client (recording socket_reconnects.json).
        prompt_id: Option<String>,
    },
    /// A node's progress bar moved.
    Progress {
        /// Steps done; any unit that the node chose, not always whole.
        value: f64,
        /// Steps in all.
        max: f64,
        /// Which prompt.
        prompt_id: Option<String>,
        /// Which node.
        node: Option<String>,
    },
    /// A node with `ui` output is done; also sent for cached ones.
    Executed {
        /// The node.
        node: String,
        /// The node to show.
        display_node: Option<String>,
        /// What it put into `ui`; null when it is cached and left nothing.
        output: Value,
        /// Which prompt.
        prompt_id: String,
    },
    /// The graph is done, but **history is not written yet**.
    ExecutionSuccess {
        /// Which prompt.
        prompt_id: String,
        /// Service's clock, ms since the epoch.
        timestamp: Option<i64>,
    },
    /// A node raised an error; after `ExecutionBlocked` the prompt goes on.
    ExecutionError(ExecutionError),
    /// The prompt was stopped from outside.
    ExecutionInterrupted(Interruption),
    /// Console output, for a client that subscribed to it.
    Logs(Vec<LogEntry>),
    /// A picture of work in progress; some custom nodes send finished pictures this way too.
    Preview(Preview),
    /// A text that a node shows while it works.
    Text {
        /// The node.
        node: String,
        /// The text.
        text: String,
    },
    /// Anything else: messages of custom nodes, or of a version not known here.
    Unknown {
        /// Its `type`, or a name for a frame that could not be read.
        kind: String,
        /// The prompt, if it names one.
        prompt_id: Option<String>,
    },
}

/// A frame that is not a message of ComfyUI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A text frame that is not `{"type": …, "data": …}`, or whose data lacks what its type needs.
    #[error("{kind} message cannot be read: {reason}")]
    Text {
        /// The type, as far as it was found.
        kind: String,
        /// Where and why reading failed.
        reason: String,
    },
    /// A binary frame that is too short or of an unknown type.
    #[error("binary frame of {length} bytes cannot be read: {reason}")]
    Binary {
        /// Bytes in the frame.
        length: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Message {
    /// Reads a text frame. An unknown type is no error: it becomes [`Message::Unknown`].
    ///
    /// # Errors
    /// [`FrameError::Text`] when it is not a message, or a known type lacks what it needs.
    pub fn from_text(frame: &str) -> Result<Self, FrameError> {
        text::parse(frame)
    }

    /// Reads a binary frame without copying the picture in it.
    ///
    /// # Errors
    /// [`FrameError::Binary`] when it is none of ComfyUI's frames.
    pub fn from_binary(frame: &Bytes) -> Result<Self, FrameError> {
        binary::parse(frame)
    }

    /// The prompt that the message names. Status, previews without metadata and some others name none.
    #[must_use]
    pub fn prompt_id(&self) -> Option<&str> {
        match self {
            Self::ExecutionStart { prompt_id, .. }
            | Self::ExecutionCached { prompt_id, .. }
            | Self::ProgressState { prompt_id, .. }
            | Self::Executed { prompt_id, .. }
            | Self::ExecutionSuccess { prompt_id, .. } => Some(prompt_id),
            Self::Executing { prompt_id, .. }
            | Self::Progress { prompt_id, .. }
            | Self::Unknown { prompt_id, .. } => prompt_id.as_deref(),
            Self::ExecutionError(error) => Some(&error.prompt_id),
            Self::ExecutionInterrupted(interruption) => Some(&interruption.prompt_id),
            Self::Preview(preview) => preview.metadata.as_ref()?.prompt_id.as_deref(),
            Self::Status { .. } | Self::FeatureFlags(_) | Self::Logs(_) | Self::Text { .. } => None,
        }
    }

    /// Whether the message names this prompt.
    #[must_use]
    pub fn is_about(&self, prompt_id: &str) -> bool {
        self.prompt_id() == Some(prompt_id)
    }

    /// Whether the message names another prompt. Messages that name none are not foreign.
    #[must_use]
    pub fn is_foreign_to(&self, prompt_id: &str) -> bool {
        self.prompt_id().is_some_and(|named| named != prompt_id)
    }

    /// Whether the message says that the prompt it names will get no further messages about its nodes. It is a hint to
    /// read the truth, not the truth.
    #[must_use]
    pub fn ends_prompt(&self) -> bool {
        match self {
            Self::ExecutionSuccess { .. } | Self::ExecutionInterrupted(_) => true,
            Self::ExecutionError(error) => !error.is_blocked(),
            Self::Executing { node, .. } => node.is_none(),
            _ => false,
        }
    }
}

/// `{"t", "m"}` lists arrive inside `data.entries`.
#[derive(Deserialize)]
struct LogsData {
    entries: Vec<LogEntry>,
}

#[cfg(test)]
mod tests;
