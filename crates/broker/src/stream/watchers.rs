//! Who follows which job.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use pointsman_core::{JobId, LogGroup, RecordKey};
use tokio::sync::broadcast;

/// Signals kept for a stream that reads slowly; one that lags more reads the record anew.
const SIGNALS: usize = 32;

/// What a stream is told.
#[derive(Debug, Clone)]
pub(super) enum JobSignal {
    Changed(Arc<LogGroup>),
    Progress,
    /// Something may have been missed.
    Rebuilt,
}

/// The streams, by the job they follow.
#[derive(Default)]
pub(crate) struct JobWatchers {
    by_job: Mutex<HashMap<JobId, broadcast::Sender<JobSignal>>>,
    count: AtomicUsize,
}

impl JobWatchers {
    pub(super) fn join(&self, job: JobId) -> broadcast::Receiver<JobSignal> {
        let mut by_job = self.by_job.lock();
        let receiver =
            by_job.entry(job).or_insert_with(|| broadcast::Sender::new(SIGNALS)).subscribe();
        self.count.store(by_job.len(), Ordering::Release);
        receiver
    }

    /// Called after the stream has let go of its receiver.
    pub(super) fn leave(&self, job: &JobId) {
        let mut by_job = self.by_job.lock();
        if by_job.get(job).is_some_and(|signals| signals.receiver_count() == 0) {
            by_job.remove(job);
        }
        self.count.store(by_job.len(), Ordering::Release);
    }

    pub fn tell(&self, group: &Arc<LogGroup>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let by_job = self.by_job.lock();
        let mut told = None;
        for event in &group.events {
            let RecordKey::Job(id) = event.key else { continue };
            if told.replace(id) == Some(id) {
                continue;
            }
            if let Some(signals) = by_job.get(&id) {
                // Nobody listening any more is no error.
                let _ = signals.send(JobSignal::Changed(group.clone()));
            }
        }
    }

    pub fn tell_progress(&self, job: &JobId) {
        if let Some(signals) = self.by_job.lock().get(job) {
            let _ = signals.send(JobSignal::Progress);
        }
    }

    pub fn tell_rebuilt(&self) {
        for signals in self.by_job.lock().values() {
            let _ = signals.send(JobSignal::Rebuilt);
        }
    }
}
