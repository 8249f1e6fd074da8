use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use pointsman_comfyui::{
    ComfyClient, HistoryEntry, Message, OutputFile, QueueState, RequestError, Truth, Verdict,
    classify, verdict,
};
use pointsman_core::{Failure, FailureKind, LossReason, record::Progress};
use tokio::time::Instant;

use super::{
    cancel::{ended_by_itself, is_cut_off, says_nothing},
    clocks::{Clocks, Silence},
    ears::{Ears, Heard, settled},
    run::Run,
    submit::Submitted,
    tracker::Tracker,
};
use crate::{Preview, RunEnd, StopReason};

/// How often a run that hears nothing looks at its clocks, and ticks.
const TICK: Duration = Duration::from_secs(1);

/// A prompt that ran to its end.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) entry: HistoryEntry,
    pub(super) files: Vec<OutputFile>,
}

/// What is known while it runs.
struct Watch {
    tracker: Tracker,
    clocks: Clocks,
    /// The reading of the truth that is out.
    reading: Option<BoxFuture<'static, Reading>>,
    /// The most bytes of its history that one brought so far.
    history: Arc<AtomicUsize>,
    read_at: Instant,
    pause: Duration,
    log_at: Instant,
    /// It has not begun, because something else is before it.
    waits: bool,
    /// Whether it runs: as its messages say, and before they say anything, as a reading does, which may be
    /// from before its end. What names no prompt may be another's unless it runs: from a prompt without a
    /// client everybody gets the previews and the texts.
    runs: Option<bool>,
    /// Whether all of it runs is not known yet: nobody read the answer to its submission, or a part is
    /// enough.
    may_be_partial: bool,
    refused_since: Option<Instant>,
    unreadable_since: Option<Instant>,
}

/// What was read.
struct Reading {
    truth: Result<Truth, RequestError>,
    /// The time of the newest line in the log, if that was read too.
    log: Option<String>,
}

impl Run<'_> {
    /// Follows the prompt until the truth says that it ran to its end.
    pub(super) async fn watch(
        &self,
        ears: &mut Ears,
        submitted: Submitted,
    ) -> Result<Done, RunEnd> {
        let mut watch = self.begin_watch(submitted);
        loop {
            self.context.tick();
            watch.begin_reading(self, Instant::now());
            let look_at = watch.next_look();
            tokio::select! {
                biased;
                reason = self.context.stop().raised() => return self.stop(reason).await,
                heard = ears.next() => self.hear(&mut watch, heard),
                reading = settled(&mut watch.reading) => {
                    if let Some(done) = self.weigh(&mut watch, reading, ears.are_open()).await? {
                        return Ok(done);
                    }
                }
                () = tokio::time::sleep_until(look_at) => self.ask(&mut watch).await?,
            }
        }
    }

    fn begin_watch(&self, submitted: Submitted) -> Watch {
        let now = Instant::now();
        let submits = submitted != Submitted::Before;
        let pause = self.connector.settings.pace.truth_first;
        Watch {
            tracker: {
                let outputs = &self.connector.condition.lock().output_classes;
                Tracker::new(&self.graph, outputs, !submits)
            },
            clocks: Clocks::new(now),
            reading: None,
            history: Arc::default(),
            read_at: now + pause,
            pause,
            log_at: now,
            waits: false,
            runs: None,
            may_be_partial: submitted != Submitted::Answered || self.allow_partial,
            refused_since: None,
            unreadable_since: None,
        }
    }

    /// Takes in what was heard. It decides nothing, but it says when to read the truth.
    fn hear(&self, watch: &mut Watch, heard: Heard) {
        let now = Instant::now();
        let message = match heard {
            Heard::Message(message) => {
                watch.refused_since = None;
                message
            }
            Heard::Open => return watch.read_by(now, self.connector.settings.pace.truth_first),
            Heard::Gone(why) => {
                tracing::debug!(prompt = self.prompt_id, %why, "websocket gone");
                return watch.read_by(now, self.connector.settings.pace.truth_first);
            }
        };
        if let Message::Executing { node: Some(_), prompt_id: None, .. } = &message {
            // With this a client that comes back is greeted: its only prompt is at that node, which is
            // no sign of work.
            watch.runs = Some(true);
            if watch.tracker.hear(&message) {
                self.context.progress(watch.tracker.report());
            }
            return;
        }
        if message.is_about(&self.prompt_id) {
            watch.runs = Some(!message.ends_prompt());
        } else if !watch.is_running()
            || !matches!(message, Message::Preview(_) | Message::Text { .. })
        {
            return;
        }
        if let Message::Preview(preview) = &message {
            self.context.preview(Preview {
                media_type: preview.format.media_type().to_owned(),
                bytes: preview.image.clone(),
            });
        }
        watch.clocks.event(now);
        self.context.event();
        let silence_ends = watch.tracker.note(None);
        if watch.tracker.hear(&message) || silence_ends {
            self.context.progress(watch.tracker.report());
        }
        let pace = &self.connector.settings.pace;
        match message {
            // History follows in a moment, and a message after it.
            Message::ExecutionSuccess { .. } => {
                watch.read_by(now + pace.history_follows, pace.truth_first);
            }
            message if message.ends_prompt() => watch.read_by(now, pace.truth_first),
            _ => {}
        }
    }

    /// Weighs what was read.
    async fn weigh(
        &self,
        watch: &mut Watch,
        reading: Reading,
        hears: bool,
    ) -> Result<Option<Done>, RunEnd> {
        let now = Instant::now();
        watch.clocks.log(now, reading.log);
        let truth = match reading.truth {
            Ok(truth) => truth,
            Err(error)
                if says_nothing(&error)
                    && (!is_cut_off(&error) || (hears && self.is_there().await)) =>
            {
                // A proxy's, before a ComfyUI that is there: what runs is not stopped for it, and what has
                // ended is waited for.
                if error.is_proxys() && watch.is_running() && !self.has_left_the_queue().await {
                    watch.refused_since = None;
                    self.is_readable(watch);
                    return Ok(None);
                }
                return self.weigh_unreadable(watch, &error).await.map(|()| None);
            }
            Err(error) => return self.weigh_failed_read(watch, &error, hears).map(|()| None),
        };
        watch.refused_since = None;
        self.is_readable(watch);
        if std::mem::take(&mut watch.may_be_partial) {
            self.check_whole(&truth).await?;
            if let Some(outputs) = truth.outputs_to_execute(&self.prompt_id) {
                watch.tracker.only(&self.graph, outputs);
            }
        }
        match truth.verdict {
            // Next in line while nothing runs, it is due, and what should take it may be dead.
            Verdict::Running | Verdict::Pending { position: 0, .. } => {
                watch.clocks.in_queue(now);
                if truth.verdict == Verdict::Running {
                    watch.runs.get_or_insert(true);
                }
                if std::mem::take(&mut watch.waits) {
                    self.note(watch, None);
                }
            }
            Verdict::Pending { position, .. } => {
                if let Some(stuck) = self.stuck_in(&truth.queue) {
                    let message = format!("it waited behind prompt {stuck}, which does not stop");
                    self.give_back(watch, LossReason::ServiceLost, message).await?;
                    return Ok(None);
                }
                watch.clocks.waits(now);
                // Nor does it count as silent for those who watch.
                self.context.event();
                watch.waits = true;
                self.note(watch, Some(format!("waits behind {position} in ComfyUI's queue")));
            }
            _ => return self.conclude(truth).map(Some),
        }
        Ok(None)
    }

    /// Whether it answers the cheapest question: then a page is not all that comes.
    pub(super) async fn is_there(&self) -> bool {
        let remaining = self.connector.client.queue_remaining();
        self.context.ticking(remaining).await.is_ok()
    }

    /// A failed read is no news, unless nothing listens there any more, or nothing behind what does, or
    /// the host is gone, which the kernel finds out by the websocket.
    fn weigh_failed_read(
        &self,
        watch: &mut Watch,
        error: &RequestError,
        hears: bool,
    ) -> Result<(), RunEnd> {
        self.is_readable(watch);
        let pace = &self.connector.settings.pace;
        let dead_after = match error {
            // An open socket speaks against it only as long as something is heard there.
            RequestError::Unreachable { refused: true, .. } if hears => Some(pace.mute_after),
            // A page in the place of an answer. One that says that nothing answers may be shown while
            // a node holds up the process.
            error if hears && error.is_unreadable() => Some(pace.mute_after),
            RequestError::Unreachable { .. } if !hears => Some(pace.dead_after),
            error => self.dead_after(error).filter(|_| !hears),
        };
        let Some(dead_after) = dead_after else {
            watch.refused_since = None;
            return Ok(());
        };
        let since = *watch.refused_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= dead_after {
            let message = format!("the service is gone: {error}");
            return Err(RunEnd::gave_back(LossReason::ServiceLost, message));
        }
        watch.read_by(Instant::now() + pace.dead_after, watch.pause);
        Ok(())
    }

    /// Nothing that makes no sense is waited out any more.
    fn is_readable(&self, watch: &mut Watch) {
        if watch.unreadable_since.take().is_some() {
            self.note(watch, None);
        }
    }

    /// An answer that makes no sense may pass. One that does not would be no news for ever: the
    /// attempt fails, once the prompt is sure to be gone.
    async fn weigh_unreadable(
        &self,
        watch: &mut Watch,
        error: &RequestError,
    ) -> Result<(), RunEnd> {
        watch.refused_since = None;
        let since = *watch.unreadable_since.get_or_insert_with(Instant::now);
        let pace = &self.connector.settings.pace;
        // A proxy's passes sooner than a job is done again: it gets as long as where nothing else comes.
        let patience = if error.is_proxys() { pace.mute_after } else { pace.unreadable_after };
        if since.elapsed() < patience {
            self.note(watch, Some(format!("waits for what ComfyUI says of it: {error}")));
            return Ok(());
        }
        if self.make_it_stop(LossReason::ServiceLost).await?.is_some() {
            watch.read_by(Instant::now(), watch.pause);
            return Ok(());
        }
        let message = format!("what ComfyUI says of prompt {}: {error}", self.prompt_id);
        let failure = match error {
            // What the nodes of the workflow show of themselves, on any worker.
            RequestError::TooLarge { .. } => {
                let message = format!("{message}; make its nodes put less into their `ui` output");
                Failure::new(FailureKind::BadJob, "outputs_too_large", message)
            }
            _ => Failure::new(FailureKind::ServiceFault, "answer_unreadable", message),
        };
        Err(failure.into())
    }

    /// What a final truth means for the attempt.
    fn conclude(&self, truth: Truth) -> Result<Done, RunEnd> {
        let lost = |message: &str| Err(RunEnd::gave_back(LossReason::ServiceLost, message));
        match (truth.verdict, truth.history) {
            (Verdict::Succeeded(files), Some(entry)) => Ok(Done { entry, files }),
            (Verdict::Failed(error), _) => {
                let classified = classify::execution_error(&error);
                Err(self.connector.failure(&self.prompt_id, classified).into())
            }
            (Verdict::Interrupted(_), _) => lost("interrupted by somebody else at the service"),
            (Verdict::FailedInternal { status }, _) => {
                let message = format!("ComfyUI ended it without a reason (status {status:?})");
                Err(Failure::new(FailureKind::ServiceFault, "ended_without_reason", message).into())
            }
            _ => lost("the service restarted, or somebody deleted the prompt"),
        }
    }

    /// Looks at the clocks, and asks further where nothing was heard for long.
    async fn ask(&self, watch: &mut Watch) -> Result<(), RunEnd> {
        let now = Instant::now();
        watch.clocks.history(now, watch.history.load(Ordering::Relaxed));
        watch.clocks.counters(now, self.connector.settings.evidence.sample());
        match watch.clocks.judge(now, &self.task.limits) {
            Silence::None => Ok(()),
            Silence::For(_) if watch.waits => Ok(()),
            Silence::For(silent) => {
                self.note(watch, Some(Progress::silence(silent)));
                Ok(())
            }
            Silence::Stalled(idle) => {
                let message = format!("no sign of work for {} s", idle.as_secs());
                tracing::warn!(prompt = self.prompt_id, message, "stalled");
                self.give_back(watch, LossReason::Stalled, message).await
            }
        }
    }

    /// Stops the prompt, and gives the job back, unless it had ended before.
    async fn give_back(
        &self,
        watch: &mut Watch,
        reason: LossReason,
        message: String,
    ) -> Result<(), RunEnd> {
        match self.make_it_stop(reason).await? {
            Some(truth) if ended_by_itself(&truth) => {
                watch.read_by(Instant::now(), watch.pause);
                Ok(())
            }
            _ => Err(RunEnd::gave_back(reason, message)),
        }
    }

    /// The prompt that runs and could not be stopped.
    fn stuck_in(&self, queue: &QueueState) -> Option<String> {
        let condition = self.connector.condition.lock();
        let mut running = queue.running.iter().map(|entry| &entry.prompt_id);
        running.find(|prompt_id| condition.stuck.contains(*prompt_id)).cloned()
    }

    fn note(&self, watch: &mut Watch, note: Option<String>) {
        if watch.tracker.note(note) {
            self.context.progress(watch.tracker.report());
        }
    }

    /// Told to stop: the prompt is cancelled and gone, or had ended before.
    async fn stop(&self, reason: StopReason) -> Result<Done, RunEnd> {
        let if_stuck = match reason {
            StopReason::Drain => LossReason::Drained,
            _ => LossReason::ServiceLost,
        };
        match self.make_it_stop(if_stuck).await? {
            Some(truth) if ended_by_itself(&truth) && reason != StopReason::Cancel => {
                self.conclude(truth)
            }
            _ => Err(RunEnd::Cancelled),
        }
    }
}

impl Watch {
    fn is_running(&self) -> bool {
        self.runs == Some(true)
    }

    /// The next reading shall be by then, and the ones after it soon again.
    fn read_by(&mut self, at: Instant, pause: Duration) {
        self.read_at = self.read_at.min(at);
        self.pause = self.pause.min(pause);
    }

    /// When there is something to do without anything being heard.
    fn next_look(&self) -> Instant {
        let tick = Instant::now() + TICK;
        match self.reading {
            Some(_) => tick,
            None => tick.min(self.read_at),
        }
    }

    fn begin_reading(&mut self, run: &Run<'_>, now: Instant) {
        if self.reading.is_some() || now < self.read_at {
            return;
        }
        // What is heard while this one is out may ask for the next one sooner.
        self.read_at = now + self.pause;
        self.pause = (self.pause * 2).min(run.connector.settings.pace.truth_most);
        let silent = self.clocks.judge(now, &run.task.limits) != Silence::None;
        let with_log = silent && now >= self.log_at;
        if with_log {
            self.log_at = now + run.connector.settings.pace.log;
        }
        let client = run.connector.client.clone();
        let history = self.history.clone();
        self.reading = Some(read(client, run.prompt_id.clone(), with_log, history).boxed());
    }
}

/// Reads the truth: history first, which alone says how a prompt ended; the queue is needed only
/// when it has not, and then it must be read before another look into history.
async fn read(
    client: ComfyClient,
    prompt_id: String,
    with_log: bool,
    most: Arc<AtomicUsize>,
) -> Reading {
    let seen = |bytes| {
        most.fetch_max(bytes, Ordering::Relaxed);
    };
    let truth = async {
        match client.history_seen(&prompt_id, seen).await {
            Ok(history @ Some(_)) => {
                let queue = QueueState::default();
                Ok(Truth { verdict: verdict(&prompt_id, &queue, history.as_ref()), queue, history })
            }
            Err(error) if !error.is_proxys() => Err(error),
            // The queue tells also where a proxy answered whether it has ended.
            _ => client.truth_seen(&prompt_id, seen).await,
        }
    };
    let truth = truth.await;
    let log = match with_log {
        true => {
            client.logs_raw().await.ok().and_then(|logs| logs.entries.last().map(|e| e.at.clone()))
        }
        false => None,
    };
    Reading { truth, log }
}
