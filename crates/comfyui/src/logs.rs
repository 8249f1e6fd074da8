use serde::Deserialize;

use crate::ExecutionError;

/// What `GET /internal/logs/raw` said: the newest writes to the console of the service, tqdm bars included.
///
/// The route is marked as internal, so it may vanish; its newest time is a sign of life, nothing more.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct RawLogs {
    /// Oldest first, at most 300 (ComfyUI source).
    pub entries: Vec<LogEntry>,
}

impl RawLogs {
    /// What the last request raised that failed in the service, which answers no more than 500: the last line of the
    /// newest traceback that aiohttp wrote.
    #[must_use]
    pub fn request_error(&self) -> Option<ExecutionError> {
        let failed = |entry: &&LogEntry| entry.text.starts_with("Error handling request");
        let raised = self.entries.iter().rev().find(failed)?.text.trim_end().lines().last()?;
        let (class, message) = raised.split_once(": ").unwrap_or((raised, ""));
        Some(ExecutionError {
            exception_type: class.to_owned(),
            exception_message: message.to_owned(),
            ..ExecutionError::default()
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As ComfyUI 0.3.64 wrote them.
    #[test]
    fn why_the_last_request_failed_is_the_last_line_of_its_traceback() {
        let entry = |text: &str| LogEntry { at: String::new(), text: text.to_owned() };
        let failed = |why: &str| {
            entry(&format!(
                "Error handling request from 127.0.0.1\nTraceback (most recent call last):\n  File \
                 \"/c/server.py\", line 358, in image_upload\n    f.write(image.file.read())\n{why}\n"
            ))
        };
        let mut logs = RawLogs { entries: vec![entry("got prompt\n"), failed("KeyError: 'a'")] };
        logs.entries.push(failed("OSError: [Errno 28] No space left on device"));
        logs.entries.push(entry("Prompt executed in 0.01 seconds\n"));
        let why = logs.request_error().unwrap();
        assert_eq!(why.exception_type, "OSError");
        assert_eq!(why.exception_message, "[Errno 28] No space left on device");
        assert_eq!(crate::classify::execution_error(&why).code, crate::classify::DISK_FULL);
        assert_eq!(RawLogs { entries: vec![entry("got prompt\n")] }.request_error(), None);
    }
}
