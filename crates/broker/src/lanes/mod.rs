//! The lanes: newest values that travel beside the log and are in no record.

mod changes;
mod keeper;
mod preview;
mod progress;

use pointsman_core::JobId;

use changes::PulseChanges;
pub(crate) use keeper::{Keeper, Lane, QUEUES_EVERY, fresh_lanes};
pub use preview::PreviewError;
use preview::Previews;
pub(crate) use progress::ProgressValues;

use crate::frame::{PulseLane, QueuesLane};

/// The newest value of every lane.
pub(crate) struct LaneValues {
    pub progress: ProgressValues,
    pub previews: Previews,
    pub pulse: Lane<PulseLane>,
    pub pulse_changes: PulseChanges,
    pub queues: Lane<QueuesLane>,
}

impl LaneValues {
    pub fn new(preview_bytes: usize) -> Self {
        Self {
            progress: ProgressValues::default(),
            previews: Previews::new(preview_bytes),
            pulse: Lane::default(),
            pulse_changes: PulseChanges::default(),
            queues: Lane::default(),
        }
    }

    /// Whether nothing is kept for any job.
    pub fn is_idle(&self) -> bool {
        self.progress.is_empty() && self.previews.is_empty()
    }

    /// The attempts before this one are over; what they said is dropped. What a later one says may come
    /// before the record that shows it.
    pub fn keep_from(&self, job: &JobId, attempt: u32) {
        self.progress.keep_from(job, attempt);
        self.previews.keep_from(job, attempt);
    }

    pub fn forget(&self, job: &JobId) {
        self.progress.forget(job);
        self.previews.forget(job);
    }

    /// Keeps the values of running attempts only: `running` gives a running job's attempt.
    pub fn retain(&self, running: impl Fn(&JobId) -> Option<u32>) {
        self.progress.retain(&running);
        self.previews.retain(&running);
    }
}
