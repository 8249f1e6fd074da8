//! What a worker knows of one attempt: its connector writes it, lane and keeper read it.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use parking_lot::Mutex;
use pointsman_connectors::{
    ByteStream, Completion, HostError, NewArtifact, Preview, Report, RunContext, RunEnd, RunHost,
    Source, StopReason, StopSignal, Task,
};
use pointsman_core::{
    Failure, FailureKind, Outage, Timestamp,
    bounds::Bounded as _,
    command::{Held, Op},
    record::{Artifact, Progress},
};
use tokio::{sync::Notify, time::Instant};

use crate::{broker::Claimed, service::Service, settle::Standing, shared::Shared, uploads};

/// One attempt that this worker has, from its claim until the store has taken its end.
pub(crate) struct Attempt {
    this: Weak<Attempt>,
    pub(crate) service: Arc<Service>,
    shared: Arc<Shared>,
    claimed: Claimed,
    adopted: bool,
    stop: StopSignal,
    started_at: OnceLock<Instant>,
    on_start: Notify,
    ticked_ms: AtomicU64,
    phase: Mutex<Phase>,
    shown: Mutex<Shown>,
    /// Its files cannot be transferred.
    outage: Mutex<Outage>,
}

/// How far its life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its executor runs.
    Running,
    /// The service could not be made to stop it.
    Stuck,
    /// It was stuck, and the service was proven clear of it since.
    Gone,
    /// The same, and the service still knows what became of it.
    Known,
    /// It is over; the store has not taken its end yet.
    Over,
}

/// What those who watch may see of it.
#[derive(Default)]
struct Shown {
    progress: Progress,
    /// Since it was last sent.
    is_new: bool,
    preview: Option<Preview>,
    above: Above,
}

/// The numbers of what is shown are higher than these.
#[derive(Default)]
struct Above {
    n: u64,
    preview_n: u32,
}

impl Above {
    /// All numbers that the attempt may have used before this process adopted it. They go up by less
    /// than one a millisecond, those of pictures by less than one in ten.
    fn all_before(claimed: &Claimed, now: Timestamp) -> Self {
        let age = now.since(claimed.job.spec.created_at).as_millis() / 10;
        Self {
            n: u64::try_from(now.as_millis()).unwrap_or(0),
            // A job that is older than 248 days has room left to count on.
            preview_n: u32::try_from(age).unwrap_or(u32::MAX).min(u32::MAX / 2),
        }
    }
}

impl Attempt {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        service: &Arc<Service>,
        claimed: Claimed,
        adopted: bool,
    ) -> Arc<Self> {
        let now = (shared.config.clock)();
        let above = match adopted {
            true => Above::all_before(&claimed, now),
            false => Above::default(),
        };
        // Its silence is counted from here, and again from its start: a report without a time would
        // be taken for a word of the service.
        let (attempt, last_event_at) = (claimed.held.attempt, Some(now));
        let progress = Progress { attempt, last_event_at, ..Progress::default() };
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            service: service.clone(),
            shared: shared.clone(),
            claimed,
            adopted,
            stop: StopSignal::default(),
            started_at: OnceLock::new(),
            on_start: Notify::new(),
            ticked_ms: AtomicU64::new(shared.now_ms()),
            phase: Mutex::new(Phase::Running),
            shown: Mutex::new(Shown { progress, above, ..Shown::default() }),
            outage: Mutex::default(),
        })
    }

    pub(crate) fn held(&self) -> Held {
        self.claimed.held
    }

    pub(crate) fn signal(&self) -> &StopSignal {
        &self.stop
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started_at.get().is_some()
    }

    pub(crate) fn standing(&self) -> Standing {
        let shown = self.shown.lock();
        Standing {
            stop: self.stop.reason(),
            started: self.has_started(),
            progress: (shown.progress.n > 0).then(|| shown.progress.clone()),
        }
    }

    /// A file could not be transferred yet: whether that is to be told. It is once of each reason.
    pub(crate) fn waits_for(&self, why: &str) -> bool {
        self.outage.lock().failed(why, Instant::now().into_std())
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    /// Whether its lease is to be renewed: it is still this worker's, and its executor lives, if
    /// it needs one.
    pub(crate) fn is_alive(&self) -> bool {
        let ticked = self.ticked_ms.load(Ordering::SeqCst);
        let idle = self.shared.now_ms().saturating_sub(ticked);
        let within = self.shared.config.timings.tick_within;
        let ticks = u128::from(idle) <= within.as_millis() || self.phase() != Phase::Running;
        ticks && self.stop.reason() != Some(StopReason::Lost)
    }

    /// The progress that was not sent yet; with `again`, what was sent before, too.
    pub(crate) fn progress_to_send(&self, again: bool) -> Option<Progress> {
        let mut shown = self.shown.lock();
        let is_new = std::mem::take(&mut shown.is_new);
        (is_new || again && shown.progress.n > 0).then(|| shown.progress.clone())
    }

    /// The preview that was not sent yet, with its number.
    pub(crate) fn new_preview(&self) -> Option<(u32, Preview)> {
        let mut shown = self.shown.lock();
        let preview = shown.preview.take()?;
        Some((shown.progress.preview_n, preview))
    }

    /// Runs it to its end; where it was `adopted`, from where the service has it.
    pub(crate) async fn execute(
        self: Arc<Self>,
        adopted: bool,
    ) -> (Arc<Self>, Result<Completion, RunEnd>) {
        self.tick();
        self.set_phase(Phase::Running);
        let limits = self.shared.config.limits;
        let task = Task {
            job: self.claimed.job.clone(),
            held: self.claimed.held,
            payload: self.claimed.payload.clone(),
            limits: limits.for_job(&self.claimed.job.spec.timeouts),
            adopted,
        };
        let total = task.limits.total.map(|total| total.saturating_sub(self.ran_before()));
        let connector = self.service.connector.clone();
        let run = connector.run(task, RunContext::new(self.clone()));
        let mut run = pin!(AssertUnwindSafe(run).catch_unwind());
        let end = match total {
            None => run.await,
            Some(total) => tokio::select! {
                biased;
                end = &mut run => end,
                () = self.time_out(total) => run.await,
            },
        };
        (self, end.unwrap_or_else(|_| Err(panicked())))
    }

    /// For how long it ran already: before this process adopted it, or until it had to be let be.
    fn ran_before(&self) -> Duration {
        let adopted = self.claimed.job.started_at().filter(|_| self.adopted);
        match (adopted, self.started_at.get()) {
            (Some(started_at), _) => (self.shared.config.clock)().since(started_at),
            (None, Some(started_at)) => started_at.elapsed(),
            (None, None) => Duration::ZERO,
        }
    }

    /// Stops it when its time, counted from its start, is over.
    async fn time_out(&self, total: Duration) {
        loop {
            let started = self.on_start.notified();
            if self.has_started() {
                break;
            }
            started.await;
        }
        tokio::time::sleep(total).await;
        self.stop.raise(StopReason::Timeout);
    }

    /// A remark of the worker's own beside the progress that its executor told.
    pub(crate) fn remark(&self) -> Remark<'_> {
        Remark { attempt: self, said: None, before: None }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        let mut shown = self.shown.lock();
        change(&mut shown);
        shown.progress.n = shown.progress.n.max(shown.above.n) + 1;
        shown.is_new = true;
        drop(shown);
        self.shared.progress.notify_one();
    }
}

/// Stands in the progress in place of the executor's message.
pub(crate) struct Remark<'a> {
    attempt: &'a Attempt,
    said: Option<String>,
    /// The executor's message.
    before: Option<String>,
}

impl Remark<'_> {
    /// Said again, it is no news.
    pub(crate) fn say(&mut self, text: String) {
        if self.said.as_ref() == Some(&text) {
            return;
        }
        let before = self.put(Some(text.clone()));
        if self.said.replace(text).is_none() {
            self.before = before;
        }
    }

    pub(crate) fn take_back(self) {
        if self.said.is_some() {
            self.put(self.before.clone());
        }
    }

    /// Answers what was there.
    fn put(&self, message: Option<String>) -> Option<String> {
        let mut before = None;
        self.attempt.show(|shown| {
            before = std::mem::replace(&mut shown.progress.message, message);
            shown.progress.shorten();
        });
        before
    }
}

/// A connector that panics has lost sight of its run: that is a fault of the service's side, and
/// no reason to take the other slots down.
fn panicked() -> RunEnd {
    let message = "the connector panicked; its log says where";
    Failure::new(FailureKind::ServiceFault, "connector_panicked", message).into()
}

#[async_trait]
impl RunHost for Attempt {
    fn started(&self) {
        if self.started_at.set(Instant::now()).is_err() {
            return;
        }
        let at = (self.shared.config.clock)();
        let was_shown = {
            let mut shown = self.shown.lock();
            shown.progress.last_event_at = Some(at);
            shown.progress.n > 0
        };
        if was_shown {
            self.show(|_| ());
        }
        self.on_start.notify_waiters();
        if let Some(this) = self.this.upgrade() {
            self.service.post(this, Op::Start);
        }
    }

    fn progress(&self, report: Report) {
        let Report { percent, node, step, steps, message } = report;
        self.show(|shown| {
            let progress = &mut shown.progress;
            progress.percent = percent;
            progress.node = node;
            progress.step = step;
            progress.steps = steps;
            progress.message = message;
            progress.shorten();
        });
    }

    fn preview(&self, preview: Preview) {
        self.show(|shown| {
            let before = shown.progress.preview_n.max(shown.above.preview_n);
            shown.progress.preview_n = before.saturating_add(1);
            shown.preview = Some(preview);
        });
        self.shared.previews.notify_one();
    }

    fn event(&self) {
        self.tick();
        let at = (self.shared.config.clock)();
        self.show(|shown| shown.progress.last_event_at = Some(at));
    }

    fn tick(&self) {
        self.ticked_ms.store(self.shared.now_ms(), Ordering::SeqCst);
    }

    fn stop(&self) -> &StopSignal {
        &self.stop
    }

    async fn put_artifact(
        &self,
        artifact: NewArtifact,
        source: &dyn Source,
    ) -> Result<Artifact, HostError> {
        uploads::put_artifact(&self.shared, self, artifact, source).await
    }

    async fn open_input(&self, from: &str) -> Result<ByteStream, HostError> {
        uploads::open_input(&self.shared, self, from).await
    }
}
