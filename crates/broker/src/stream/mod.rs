//! One job's stream: its record now, then its events, also while it is pending, and its progress.

mod watchers;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pointsman_core::{
    Event, JobId, LogGroup, Outage, Record, RecordKey, RecordKind, Seq, Timestamp,
    record::{Job, JobRecord},
    to_json,
};
use pointsman_store::{StoreError, job};
use serde::Serialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use utoipa::ToSchema;

use watchers::JobSignal;
pub(crate) use watchers::JobWatchers;

use crate::{
    frame::{AsOf, Line, ProgressLane},
    hub::{Hub, PROGRESS_EVERY},
};

/// After the store could not be read.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// One thing that a job's stream sends.
#[derive(Debug, Clone)]
pub enum JobFrame {
    /// The record as it is now: the first frame, and again when the stream lagged.
    Now(JobNow),
    Event {
        seq: Seq,
        at: Timestamp,
        event: Event,
    },
    Progress(ProgressLane),
}

/// The job's record now, shaped as an event.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct JobNow {
    /// Seq of the record's last change.
    pub seq: Seq,
    /// When it was read.
    pub at: Timestamp,
    /// Always `job`.
    pub kind: RecordKind,
    /// The job.
    pub id: JobId,
    /// Null when the job is no longer kept.
    #[schema(value_type = Option<JobRecord>)]
    pub record: Option<Arc<Job>>,
}

impl JobFrame {
    /// The frame as a server-sent event.
    pub fn line(&self) -> Line {
        let (event, data) = match self {
            Self::Now(now) => ("job_now", to_json(now)),
            Self::Event { seq, at, event } => (event.name.as_str(), event.to_json(*seq, *at)),
            Self::Progress(lane) => ("progress", to_json(lane)),
        };
        Line { id: None, event, data: data.into() }
    }

    /// Whether it is the stream's last frame: the job has ended, or is no longer kept.
    fn is_last(&self) -> bool {
        match self {
            Self::Now(now) => now.record.as_ref().is_none_or(|job| job.is_ended()),
            Self::Event { event, .. } => match &event.record {
                Some(Record::Job(job)) => job.is_ended(),
                _ => true,
            },
            Self::Progress(_) => false,
        }
    }
}

/// Follows one job to its end.
pub struct JobStream {
    hub: Arc<Hub>,
    job: JobId,
    /// `None` once the stream is over.
    signals: Option<broadcast::Receiver<JobSignal>>,
    /// Up to which change the stream has told: in the epoch that the record was last read in.
    told: Seq,
    waiting: VecDeque<JobFrame>,
    /// Something may have been missed: read the record.
    look: bool,
    /// It is tried in vain.
    outage: Outage,
    progress_told: (u32, u64),
    progress_pending: bool,
    progress_due: Instant,
}

impl JobStream {
    /// `None`: there is no such job.
    pub(crate) async fn open(hub: Arc<Hub>, id: JobId) -> Result<Option<Self>, StoreError> {
        let signals = Some(hub.watchers.join(id));
        let mut stream = Self {
            hub,
            job: id,
            signals,
            told: 0,
            waiting: VecDeque::new(),
            look: false,
            outage: Outage::default(),
            progress_told: (0, 0),
            progress_pending: true,
            progress_due: Instant::now(),
        };
        let Some(record) = job(&*stream.hub.store, id).await? else { return Ok(None) };
        stream.show(Some(record));
        Ok(Some(stream))
    }

    /// The next frame; `None` after the job's last one, or when the broker stops.
    pub async fn next(&mut self) -> Option<JobFrame> {
        let stop = self.hub.stop.clone();
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                if frame.is_last() {
                    self.close();
                }
                return Some(frame);
            }
            self.signals.as_ref()?;
            if let Some(frame) = self.progress() {
                return Some(frame);
            }
            stop.run_until_cancelled(self.wait()).await?;
        }
    }

    async fn wait(&mut self) {
        if self.look {
            return self.read().await;
        }
        let Some(signals) = &mut self.signals else { return };
        tokio::select! {
            signal = signals.recv() => match signal {
                Ok(JobSignal::Changed(group)) => self.take(&group),
                Ok(JobSignal::Progress) => self.progress_pending = true,
                Ok(JobSignal::Rebuilt) | Err(RecvError::Lagged(_)) => self.look = true,
                Err(RecvError::Closed) => self.close(),
            },
            () = sleep_until(self.progress_due), if self.progress_pending => {}
        }
    }

    async fn read(&mut self) {
        match job(&*self.hub.store, self.job).await {
            Ok(record) => {
                self.look = false;
                self.outage = Outage::default();
                self.show(record);
            }
            Err(error) => {
                if self.outage.failed(&error.to_string(), Instant::now().into_std()) {
                    tracing::warn!(%error, job = %self.job, "the record cannot be read yet");
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }

    /// The record begins the story anew: in another epoch both its rev and its attempt may be less
    /// than what was told before.
    fn show(&mut self, record: Option<Arc<Job>>) {
        self.told = record.as_ref().map_or(self.told, |job| job.rev);
        self.progress_told = (0, 0);
        self.progress_pending = true;
        let (seq, at) = (self.told, self.hub.store.now());
        let now = JobNow { seq, at, kind: RecordKind::Job, id: self.job, record };
        self.waiting.push_back(JobFrame::Now(now));
    }

    fn take(&mut self, group: &LogGroup) {
        if group.seq <= self.told {
            return;
        }
        self.told = group.seq;
        let mine = group.events.iter().filter(|event| event.key == RecordKey::Job(self.job));
        let (seq, at) = (group.seq, group.at);
        self.waiting.extend(mine.map(|event| JobFrame::Event { seq, at, event: event.clone() }));
    }

    fn progress(&mut self) -> Option<JobFrame> {
        let now = Instant::now();
        if !self.progress_pending || now < self.progress_due {
            return None;
        }
        self.progress_pending = false;
        let value = self.hub.lanes.progress.get(&self.job)?;
        let n = (value.progress.attempt, value.progress.n);
        if n <= self.progress_told {
            return None;
        }
        self.progress_told = n;
        self.progress_due = now + PROGRESS_EVERY;
        let as_of: AsOf = self.hub.as_of();
        Some(JobFrame::Progress(ProgressLane { as_of, values: vec![value] }))
    }

    fn close(&mut self) {
        self.signals = None;
        self.hub.watchers.leave(&self.job);
    }
}

impl Drop for JobStream {
    fn drop(&mut self) {
        self.close();
    }
}
