use bytes::Bytes;
use pointsman_core::command::Held;

/// A message of the service about an attempt, as it came. For whoever listens; nobody has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// The attempt that it came for.
    pub held: Held,
    /// The message.
    pub frame: RawFrame,
}

/// One message in the service's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawFrame {
    /// A text, for ComfyUI JSON.
    Text(String),
    /// A binary frame.
    Binary(Bytes),
}
