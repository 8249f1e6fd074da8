use std::{fmt, sync::Arc, time::Duration};

use pointsman_comfyui::Timeouts;
use pointsman_core::{ServiceName, address::without_password};

use crate::EvidenceSource;

/// Whose a prompt is that is submitted now. The same after a restart, and unlike that of anybody else
/// who uses the server, or they cancel each other's prompts: the worker's id is not enough, as only
/// one store's workers differ in it, and which store it is a worker may hear only when it registers.
pub type Owner = Arc<dyn Fn() -> String + Send + Sync>;

/// Which ComfyUI server, and how to treat it.
#[derive(Clone)]
pub struct ComfyUiSettings {
    /// The kind of service, as jobs name it: usually `comfyui`.
    pub service: ServiceName,
    /// Such as `http://127.0.0.1:8188`.
    pub url: String,
    /// Whose prompts are this connector's.
    pub owner: Owner,
    /// Where work shows when ComfyUI says nothing.
    pub evidence: Arc<dyn EvidenceSource>,
    /// How long to wait for an answer.
    pub timeouts: Timeouts,
    /// How often to look.
    pub pace: Pace,
}

impl ComfyUiSettings {
    /// The usual settings for the server at `url`.
    #[must_use]
    pub fn new(service: ServiceName, url: impl Into<String>, owner: Owner) -> Self {
        Self {
            service,
            url: url.into(),
            owner,
            evidence: Arc::new(crate::NoCounters),
            timeouts: Timeouts { submit: Duration::from_secs(30), ..Timeouts::default() },
            pace: Pace::default(),
        }
    }
}

impl fmt::Debug for ComfyUiSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComfyUiSettings")
            .field("service", &self.service)
            .field("url", &without_password(&self.url))
            .field("owner", &(self.owner)())
            .finish_non_exhaustive()
    }
}

/// How often to look, and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A submission waits this long for its websocket, which should hear it all, and no longer.
    pub socket_first: Duration,
    /// From the submission to the first reading of the truth; doubles from there.
    pub truth_first: Duration,
    /// The longest time between two readings.
    pub truth_most: Duration,
    /// After the message that a prompt is done, its history takes this long.
    pub history_follows: Duration,
    /// Between the first two tries to open a websocket; doubles from there.
    pub reconnect: Duration,
    /// While nothing is heard, the log is read this often.
    pub log: Duration,
    /// A server where nothing listens for this long is dead.
    pub dead_after: Duration,
    /// The same while its websocket is open and says nothing: half open, as one to a host that is gone.
    pub mute_after: Duration,
    /// A server that closes every connection without an answer for this long, as what stands before
    /// a dead one does, is dead too. Shorter than `cancel`.
    pub cut_off_after: Duration,
    /// A server whose disk was full gets no job for this long.
    pub full_for: Duration,
    /// A server whose answers about a prompt make no sense for this long has failed it.
    pub unreadable_after: Duration,
    /// How long a prompt may take to be gone once it is cancelled.
    pub cancel: Duration,
    /// How long a probe waits.
    pub probe: Duration,
    /// A server that takes nothing more of an upload for this long is looked at, and so often again.
    pub upload_quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            socket_first: Duration::from_millis(250),
            truth_first: Duration::from_millis(25),
            truth_most: Duration::from_secs(2),
            history_follows: Duration::from_millis(2),
            reconnect: Duration::from_millis(250),
            log: Duration::from_secs(5),
            dead_after: Duration::from_millis(500),
            mute_after: Duration::from_secs(10),
            cut_off_after: Duration::from_secs(8),
            full_for: Duration::from_secs(60),
            unreadable_after: Duration::from_secs(5),
            cancel: Duration::from_secs(10),
            probe: Duration::from_secs(4),
            upload_quiet: Duration::from_secs(10),
        }
    }
}
