//! The handle that servers and in-process workers hold, and the tasks behind it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pointsman_core::{
    JobId, LogGroup, Seq,
    record::{Job, Progress},
};
use pointsman_store::{Health, Position, Store, StoreError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BrokerConfig, BrokerTasks, FilesTrouble, JobStream, Liveness, Preview, PreviewError,
    ReconcilerStatus, Snapshot, Viewer,
    hub::{Follower, Hub, begin_with_tail},
    lanes::{Keeper, fresh_lanes},
    reconcilers::{self, Statuses, World},
    told,
};

/// A snapshot that is asked for by itself shows queues no older than this.
const SNAPSHOT_QUEUES: Duration = Duration::from_millis(50);

/// The broker: a service over a store. Cheap to clone; all clones are one broker.
#[derive(Clone)]
pub struct Broker {
    hub: Arc<Hub>,
    statuses: Arc<Statuses>,
}

/// Figures for the metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The last change in the view.
    pub seq: Seq,
    pub viewers: usize,
    /// Of the changes kept for viewers, roughly.
    pub ring_bytes: usize,
    /// Viewers that had to start again from a snapshot, so far.
    pub resyncs: usize,
}

impl Broker {
    /// Reads the view from the store and starts the tasks.
    pub async fn start(
        store: Arc<dyn Store>,
        config: BrokerConfig,
    ) -> Result<(Self, BrokerTasks), StoreError> {
        let stop = CancellationToken::new();
        let (feed, seed, tail) = begin_with_tail(&*store).await?;
        let hub = Arc::new(Hub::new(store, Arc::new(config), seed, tail, stop.clone()));
        let statuses = Arc::new(Statuses::default());
        let tracker = TaskTracker::new();
        tracker.spawn(Follower::new(hub.clone(), feed).run());
        if let Some(progress) = hub.store.told_progress() {
            tracker.spawn(told::take_progress(hub.clone(), progress));
        }
        tracker.spawn(Keeper(hub.clone()).keep_pulse());
        tracker.spawn(Keeper(hub.clone()).keep_queues());
        if hub.config.reconcile {
            reconcilers::spawn(&hub, &statuses, &tracker);
        }
        tracker.close();
        Ok((Self { hub, statuses }, BrokerTasks::new(stop, tracker)))
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// What reconcilers work on.
    pub(crate) fn world(&self) -> World {
        World::new(self.hub.clone(), self.statuses.clone())
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.hub.store
    }

    /// The view now, with the lanes.
    pub async fn snapshot(&self) -> Snapshot {
        let lanes = fresh_lanes(&self.hub, SNAPSHOT_QUEUES).await;
        self.hub.snapshot(lanes)
    }

    /// A viewer that goes on after a position, or begins with a snapshot. `conflate` zero gives
    /// every group by itself; else at most one group a window (5 s at most).
    pub fn viewer(&self, after: Option<Position>, conflate: Duration) -> Viewer {
        Viewer::new(self.hub.clone(), after, conflate)
    }

    /// Follows one job; none when it does not exist.
    pub async fn job_stream(&self, id: JobId) -> Result<Option<JobStream>, StoreError> {
        JobStream::open(self.hub.clone(), id).await
    }

    /// What the worker of a running job said of it last; none where this server has not heard of it.
    pub fn progress(&self, job: &Job) -> Option<Progress> {
        let said = self.hub.lanes.progress.get(&job.id)?.progress;
        (job.is_running() && said.attempt == job.attempt).then_some(said)
    }

    /// Whether this server would have heard what the worker of the job said of it: it may say that
    /// there is nothing.
    pub fn has_listened(&self, job: &Job) -> bool {
        self.hub.has_listened(job)
    }

    /// Keeps the newest picture of a running attempt.
    pub async fn set_preview(
        &self,
        job: JobId,
        attempt: u32,
        n: u32,
        bytes: Bytes,
        media_type: String,
    ) -> Result<(), PreviewError> {
        let preview = Preview { attempt, n, media_type, bytes };
        self.hub.take_preview(job, preview.clone())?;
        // A picture is worth no trouble: who does not get it shows the next.
        if let Err(error) = self.store().keep_preview(job, preview).await {
            tracing::debug!(%error, "a preview is shown here only");
        }
        Ok(())
    }

    /// The newest picture of a running job: what this server took in, or another one.
    ///
    /// # Errors
    /// [`StoreError`]. What this server took in is shown also while the store cannot be read.
    pub async fn preview(&self, job: JobId) -> Result<Option<Preview>, StoreError> {
        let own = self.hub.lanes.previews.get(&job);
        let kept = match (self.store().preview(job).await, &own) {
            (Err(error), Some(_)) => {
                tracing::debug!(%error, "only the previews of this server are shown");
                None
            }
            (kept, _) => kept?,
        };
        let newer = |kept: &Preview| own.as_ref().is_none_or(|own| kept.is_newer_than(own));
        let Some(kept) = kept.filter(newer) else { return Ok(own) };
        // The store may keep it for a while after its attempt.
        let running = self.job(job).await?.filter(|job| job.is_running());
        Ok(running.filter(|job| job.attempt == kept.attempt).map(|_| kept))
    }

    /// Shows each group of the log that comes in from now on to `observe`, once and in order; it is
    /// quick, as the view waits for it. What happened while a view was built anew is not shown. One
    /// observer: a second is not heard.
    pub fn observe(&self, observe: impl Fn(&LogGroup) + Send + Sync + 'static) {
        let _ = self.hub.observer.set(Box::new(observe));
    }

    /// Whether the view is known to be the store's.
    pub fn live(&self) -> Liveness {
        self.hub.liveness()
    }

    /// Whether the store takes new work.
    pub fn health(&self) -> Health {
        self.store().health()
    }

    /// What is wrong with the place where this server keeps files; an alert shows it.
    pub fn tell_files(&self, trouble: Option<FilesTrouble>) {
        *self.hub.files.lock() = trouble;
    }

    /// What each reconciler did last.
    pub fn reconcilers(&self) -> Vec<ReconcilerStatus> {
        self.statuses.all()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            seq: self.hub.seq(),
            viewers: *self.hub.viewers().borrow(),
            ring_bytes: self.hub.ring_bytes(),
            resyncs: self.hub.resyncs(),
        }
    }
}
