//! The handle that servers and in-process workers hold, and the tasks behind it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use pointsman_core::{
    Answer, Command, JobId, LogGroup, RecordKey, Rejected, Seq, Token,
    command::{Renew, Renewed, Submit},
    event::Record,
    matching::{Capabilities, CapabilitiesDigest, Explanation},
    record::{Job, Progress},
};
use pointsman_store::{
    Done, Health, JobFilter, JobsPage, LogPage, Position, Store, StoreError, job,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    BrokerConfig, BrokerError, JobStream, Liveness, LogError, Preview, PreviewError,
    ReconcilerStatus, Snapshot, Viewer,
    exchange::odd_answer,
    hub::{Follower, Hub},
    lanes::{Keeper, fresh_lanes},
    reconcilers::{self, Statuses},
};

/// A snapshot that is asked for by itself shows queues no older than this.
const SNAPSHOT_QUEUES: Duration = Duration::from_millis(50);

/// The broker: a service over a store. Cheap to clone; all clones are one broker.
#[derive(Clone)]
pub struct Broker {
    hub: Arc<Hub>,
    statuses: Arc<Statuses>,
}

/// The broker's tasks. Dropping this stops them, and with them every viewer and waiting claim.
#[must_use = "the broker stops when its tasks are dropped"]
pub struct BrokerTasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    _stop_on_drop: DropGuard,
}

impl BrokerTasks {
    /// Cancel it to stop the broker.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops the tasks and waits until they have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.wait().await;
    }

    /// Runs until `token` is cancelled; then stops the tasks and waits until they have ended.
    pub async fn run(self, token: CancellationToken) {
        tokio::select! {
            () = token.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
        self.stop().await;
    }
}

/// A submission that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    pub job: Arc<Job>,
    /// The same submission was here before; this is its job.
    pub existed: bool,
}

/// Figures for the metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// The last change in the view.
    pub seq: Seq,
    pub viewers: usize,
    pub ring_groups: usize,
    /// Roughly.
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
        // Subscribed before the seed is read: what happens in between is in one or the other.
        let feed = store.subscribe();
        let seed = store.seed().await?;
        let hub = Arc::new(Hub::new(store, Arc::new(config), seed, stop.clone()));
        let statuses = Arc::new(Statuses::default());
        let tracker = TaskTracker::new();
        tracker.spawn(Follower::new(hub.clone(), feed).run());
        tracker.spawn(Keeper(hub.clone()).keep_pulse());
        tracker.spawn(Keeper(hub.clone()).keep_queues());
        if hub.config.reconcile {
            reconcilers::spawn(&hub, &statuses, &tracker);
        }
        tracker.close();
        let tasks =
            BrokerTasks { _stop_on_drop: stop.clone().drop_guard(), stop, tracker };
        Ok((Self { hub, statuses }, tasks))
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.hub.store
    }

    pub fn config(&self) -> &BrokerConfig {
        &self.hub.config
    }

    /// Ends when the broker stops.
    pub async fn stopping(&self) {
        self.hub.stop.cancelled().await;
    }

    /// Submits jobs, each accepted or refused by itself; an error says that none was taken.
    pub async fn submit(
        &self,
        submits: Vec<Submit>,
    ) -> Result<Vec<Result<Submitted, Rejected>>, StoreError> {
        let commands = submits.into_iter().map(Command::Submit).collect();
        let done = self.store().execute(commands).await?;
        let each = done.into_iter().map(|done| match done {
            Ok(done) => submitted(done).map(Ok),
            Err(why) => Ok(Err(why)),
        });
        each.collect()
    }

    /// Carries out one command.
    pub async fn execute(&self, command: Command) -> Result<Done, BrokerError> {
        let mut done = self.store().execute(vec![command]).await?;
        let done = done.pop().ok_or_else(|| StoreError::Failed("no answer".into()))?;
        Ok(done?)
    }

    /// A worker's sign of life; with it may come progress of the attempts it runs. Progress is
    /// taken only for the attempt that the record shows, of this worker, and with a higher `n`.
    pub async fn renew(
        &self,
        renew: Renew,
        progress: Vec<(JobId, Progress)>,
    ) -> Result<Renewed, BrokerError> {
        let by = (renew.worker.clone(), renew.incarnation);
        let done = self.execute(Command::Renew(renew)).await?;
        let Answer::Renewed(renewed) = done.answer else { return Err(odd_answer(&done.answer)) };
        if progress.is_empty() {
            return Ok(renewed);
        }
        let keys = progress.iter().map(|(job, _)| RecordKey::Job(*job)).collect();
        let records = self.store().records(keys).await?;
        let mut progress: std::collections::HashMap<_, _> = progress.into_iter().collect();
        for record in records {
            let Record::Job(job) = record else { continue };
            let its = job.assignment().is_some_and(|a| (&a.worker_id, a.incarnation) == (&by.0, by.1));
            if let Some(progress) = progress.remove(&job.id).filter(|_| its) {
                self.hub.take_progress(&job, progress);
            }
        }
        Ok(renewed)
    }

    pub async fn job(&self, id: JobId) -> Result<Option<Arc<Job>>, StoreError> {
        job(&**self.store(), id).await
    }

    /// A page of jobs, newest first, before `before`.
    pub async fn jobs(
        &self,
        filter: JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        self.store().jobs(filter, before, limit).await
    }

    /// The job's payload; none when it is no longer kept.
    pub async fn payload(&self, id: JobId) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.store().payloads(vec![id]).await?.pop().flatten())
    }

    /// The result JSON that an attempt handed in; without a token, the last one.
    pub async fn result(
        &self,
        id: JobId,
        token: Option<Token>,
    ) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store().result(id, token).await
    }

    /// Why a job waits, and how many are ahead of it while it is in a queue.
    pub async fn explain(
        &self,
        id: JobId,
    ) -> Result<Option<(Explanation, Option<usize>)>, StoreError> {
        self.store().explain(id).await
    }

    pub async fn capabilities(
        &self,
        digest: CapabilitiesDigest,
    ) -> Result<Option<Arc<Capabilities>>, StoreError> {
        self.store().capabilities(digest).await
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

    /// The raw log after a position, at most `limit` groups; empty at the end of the log.
    pub async fn log(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Arc<LogGroup>>, LogError> {
        let current = self.store().epoch();
        if after.epoch != current {
            return Err(LogError::OtherEpoch { current });
        }
        if after.seq > self.hub.seq() && self.log_page(after.seq - 1, 1).await?.is_empty() {
            return Err(LogError::BeyondHead);
        }
        self.log_page(after.seq, limit).await
    }

    async fn log_page(&self, after: Seq, limit: usize) -> Result<Vec<Arc<LogGroup>>, LogError> {
        match self.store().log(after, limit).await? {
            LogPage::Groups(groups) => Ok(groups),
            LogPage::Cut { oldest } => Err(LogError::Cut { oldest }),
        }
    }

    /// Ends when the log may have grown beyond what it was when this was called.
    pub async fn log_grows(&self) {
        // An error means that the hub is gone, and it is not: we hold it.
        let _ = self.hub.news().changed().await;
    }

    /// Follows one job; none when it does not exist.
    pub async fn job_stream(&self, id: JobId) -> Result<Option<JobStream>, StoreError> {
        JobStream::open(self.hub.clone(), id).await
    }

    /// Keeps the newest picture of a running attempt.
    pub fn set_preview(
        &self,
        job: JobId,
        attempt: u32,
        n: u32,
        bytes: Bytes,
        media_type: String,
    ) -> Result<(), PreviewError> {
        self.hub.take_preview(job, Preview { attempt, n, media_type, bytes })
    }

    /// The newest picture of a running job.
    pub fn preview(&self, job: JobId) -> Option<Preview> {
        self.hub.lanes.previews.get(&job)
    }

    /// Whether the view is known to be the store's.
    pub fn live(&self) -> Liveness {
        self.hub.liveness()
    }

    /// Whether the store takes new work.
    pub fn health(&self) -> Health {
        self.store().health()
    }

    /// What each reconciler did last.
    pub fn reconcilers(&self) -> Vec<ReconcilerStatus> {
        self.statuses.all()
    }

    pub fn stats(&self) -> Stats {
        let (ring_groups, ring_bytes) = self.hub.ring_size();
        let (seq, resyncs) = (self.hub.seq(), self.hub.resyncs());
        Stats { seq, viewers: *self.hub.viewers().borrow(), ring_groups, ring_bytes, resyncs }
    }
}

fn submitted(done: Done) -> Result<Submitted, StoreError> {
    let Answer::Submitted { id, existing } = &done.answer else {
        return Err(StoreError::Failed(format!("an odd answer: {:?}", done.answer)));
    };
    if let Some(job) = existing {
        return Ok(Submitted { job: job.clone(), existed: true });
    }
    let job = done.group.as_ref().and_then(|group| group.job(id)).cloned();
    let job = job.ok_or_else(|| StoreError::Failed(format!("job {id} was not written")))?;
    Ok(Submitted { job, existed: false })
}
