//! What a running attempt has told of itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The newest that is known of a running attempt; a lane value while it runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Progress {
    /// The attempt that it is of.
    #[schema(required = true)]
    pub attempt: u32,
    /// Goes up with each report of the attempt, below 2^53; a lower one is old news.
    #[schema(required = true)]
    pub n: u64,
    /// 0 to 100.
    pub percent: Option<f32>,
    /// The node of the graph that runs; at most 200 bytes.
    pub node: Option<String>,
    /// Step of the node, from 0.
    pub step: Option<u32>,
    /// Steps of the node in all.
    pub steps: Option<u32>,
    /// One line for people: what it does now; at most 2,000 bytes, of which 500 are shown.
    pub message: Option<String>,
    /// When its service was last heard of; before its first word, when it took the job. A worker that
    /// leaves it out gets the time at which a report with a higher `n` came.
    pub last_event_at: Option<Timestamp>,
    /// Goes up with each preview picture; 0 is none yet.
    pub preview_n: u32,
}

const SILENT: &str = "silent for";

impl Progress {
    /// What a worker says while its service says nothing.
    pub fn silence(span: Duration) -> String {
        format!("{SILENT} {} s", span.as_secs())
    }

    /// What its worker says, for whoever counts silences by `last_event_at`: the worker's own count of
    /// one is left out, which is older.
    pub fn message_beside_silence(&self) -> Option<&str> {
        self.message.as_deref().filter(|message| !message.starts_with(SILENT))
    }

    /// The same, of a run that began then: a worker tells of a start a little after it was, and nothing
    /// is shown as heard before it.
    #[must_use]
    pub fn of_run_since(mut self, started_at: Option<Timestamp>) -> Self {
        self.last_event_at =
            self.last_event_at.map(|at| started_at.map_or(at, |start| at.max(start)));
        self
    }
}
