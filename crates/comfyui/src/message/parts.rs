use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// How far one node is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct NodeProgress {
    /// Steps done.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// Steps in all, at least 1 unless a node says otherwise.
    #[serde(deserialize_with = "number")]
    pub max: f64,
    /// What it does.
    pub state: NodeState,
    /// The node to show.
    #[serde(default)]
    pub display_node_id: Option<String>,
    /// The node it was expanded from.
    #[serde(default)]
    pub parent_node_id: Option<String>,
    /// The node of the submitted graph.
    #[serde(default)]
    pub real_node_id: Option<String>,
}

/// What a node does. ComfyUI knows `error` too, and never sets it (ComfyUI source).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It runs.
    Running,
    /// It is done.
    Finished,
    /// Any other word.
    #[serde(other)]
    Other,
}

/// An error that a node raised, as the message says it and as history keeps it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ExecutionError {
    /// Which prompt.
    pub prompt_id: String,
    /// The node that raised it.
    pub node_id: String,
    /// Its class.
    pub node_type: String,
    /// Python's message, often with a newline at its end.
    pub exception_message: String,
    /// Python's class, such as `RuntimeError` or `torch.OutOfMemoryError`.
    pub exception_type: String,
    /// Where it was raised, outermost first.
    pub traceback: Vec<String>,
    /// What it was given: input → list of values, texts as they are and the rest as Python shows it.
    pub current_inputs: Value,
    /// Nodes that were done by then.
    pub executed: Vec<String>,
    /// Service's clock, ms since the epoch; missing in `ExecutionBlocked`.
    pub timestamp: Option<i64>,
}

impl ExecutionError {
    /// Reads the data of an `execution_error`. Whatever is missing or odd becomes empty: an error must not be lost
    /// because its description is unusual.
    pub(crate) fn from_data(data: &Value) -> Self {
        Self::deserialize(data).unwrap_or_else(|_| Self {
            prompt_id: text(data, "prompt_id"),
            node_id: text(data, "node_id"),
            node_type: text(data, "node_type"),
            exception_message: text(data, "exception_message"),
            exception_type: text(data, "exception_type"),
            ..Self::default()
        })
    }

    /// Whether this is a node's way to say "no output here", after which the prompt goes on (ComfyUI source).
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.exception_type == "ExecutionBlocked"
    }
}

/// Where a prompt was stopped from outside.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Interruption {
    /// Which prompt.
    pub prompt_id: String,
    /// The node that ran.
    pub node_id: String,
    /// Its class.
    pub node_type: String,
    /// Nodes that were done by then.
    pub executed: Vec<String>,
    /// Service's clock, ms since the epoch.
    pub timestamp: Option<i64>,
}

impl Interruption {
    /// Reads the data of an `execution_interrupted`, leniently as [`ExecutionError::from_data`].
    pub(crate) fn from_data(data: &Value) -> Self {
        Self::deserialize(data).unwrap_or_else(|_| Self {
            prompt_id: text(data, "prompt_id"),
            node_id: text(data, "node_id"),
            node_type: text(data, "node_type"),
            ..Self::default()
        })
    }
}

fn text(data: &Value, field: &str) -> String {
    data.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A number, or 0 for what a node called one and is none (see [`crate::json`]).
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or_default())
}

/// A picture of work in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// How the picture is encoded.
    pub format: ImageFormat,
    /// The encoded picture.
    pub image: Bytes,
    /// Whose picture it is; only for a client that announced `supports_preview_metadata`.
    pub metadata: Option<PreviewMetadata>,
}

/// How a preview is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// `image/jpeg`.
    Jpeg,
    /// `image/png`.
    Png,
    /// Something else; look at the bytes.
    Other,
}

impl ImageFormat {
    /// The media type, `application/octet-stream` where it is not known.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Other => "application/octet-stream",
        }
    }
}

/// Whose picture a preview is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PreviewMetadata {
    /// Which prompt.
    pub prompt_id: Option<String>,
    /// The node that works.
    pub node_id: Option<String>,
    /// The node to show.
    pub display_node_id: Option<String>,
    /// The node of the submitted graph.
    pub real_node_id: Option<String>,
    /// Media type of the picture.
    pub image_type: Option<String>,
}
