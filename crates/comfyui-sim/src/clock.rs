//! The only place that reads the wall clock: ComfyUI stamps messages and log lines with it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "a simulated service has a clock of its own, as a real one has"
)]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time as ComfyUI's logs write it: ISO 8601 without zone (recording of `/internal/logs/raw`).
pub(crate) fn log_time() -> String {
    let time = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
    time.to_string().trim_end_matches('Z').to_owned()
}
