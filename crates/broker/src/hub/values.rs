//! Lane values of jobs, in step with the records: taken in only for the attempt that runs, and
//! dropped with it.

use std::time::Duration;

use pointsman_core::{
    JobId, LogGroup, Record, RecordKey,
    record::{Job, Progress},
};

use super::Hub;
use pointsman_store::Preview;

use crate::lanes::PreviewError;

/// Workers tell the last progress of each job again every 15 s: a server that has listened for so long
/// has heard it.
const TOLD_AGAIN: Duration = Duration::from_secs(20);

impl Hub {
    /// Progress and previews belong to one running attempt.
    pub(super) fn drop_lanes(&self, group: &LogGroup) {
        if self.lanes.is_idle() {
            return;
        }
        for event in &group.events {
            let RecordKey::Job(id) = &event.key else { continue };
            match &event.record {
                Some(Record::Job(job)) => {
                    self.lanes.keep_from(id, job.attempt + u32::from(!job.is_running()));
                }
                _ => self.lanes.forget(id),
            }
        }
    }

    /// Takes in progress of an attempt that `job`, just read from the store, shows as running. News
    /// whose worker does not say when it heard of its service is of now.
    pub fn take_progress(&self, job: &Job, mut progress: Progress) {
        progress.last_event_at.get_or_insert_with(|| self.store.now());
        let progress = progress.of_run_since(job.started_at());
        let taken = {
            let live = self.live.read();
            let shown = live.view.jobs.get(&job.id).filter(|shown| shown.is_running());
            let current = shown.is_some_and(|shown| shown.attempt == job.attempt);
            // A record beyond the view is not folded in yet; else the view knows better.
            let running = current || job.rev > live.view.seq;
            running && progress.attempt == job.attempt && self.lanes.progress.take(job.id, progress)
        };
        if taken {
            self.watchers.tell_progress(&job.id);
        }
    }

    /// Whether what the worker of the job has said would be here: it does not run, it began to while
    /// this server listened, or all that was said before has been said again since.
    pub fn has_listened(&self, job: &Job) -> bool {
        let began = self.listens_since;
        let all_along = job.started_at().is_some_and(|started_at| started_at >= began);
        !job.is_running() || all_along || self.store.now().since(began) >= TOLD_AGAIN
    }

    pub fn take_preview(&self, job: JobId, preview: Preview) -> Result<(), PreviewError> {
        let live = self.live.read();
        let shown = live.view.jobs.get(&job).filter(|shown| shown.is_running());
        if shown.is_none_or(|shown| shown.attempt != preview.attempt) {
            return Err(PreviewError::NotRunning);
        }
        self.lanes.previews.take(job, preview)
    }
}
