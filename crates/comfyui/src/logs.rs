use serde::Deserialize;

/// What `GET /internal/logs/raw` said: the newest writes to the console of the service, tqdm bars included.
///
/// The route is marked as internal, so it may vanish; its newest time is a sign of life, nothing more.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct RawLogs {
    /// Oldest first, at most 300 (ComfyUI source).
    pub entries: Vec<LogEntry>,
}

/// One write to the console; not always a whole line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LogEntry {
    /// Local time of the service as ISO 8601, without zone.
    #[serde(rename = "t")]
    pub at: String,
    /// The text.
    #[serde(rename = "m")]
    pub text: String,
}
