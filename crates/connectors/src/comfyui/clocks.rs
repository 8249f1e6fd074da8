//! How long a prompt has been silent, and what follows from it. Pure.
//!
//! Silence is a question, not a verdict: ComfyUI says nothing for minutes while it loads a model or
//! decodes a video, and answers every question while the thread that runs prompts is dead. So three
//! clocks are kept, and only the absence of every sign of work for a long time is a stall.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Limits, Sample};

/// When something was last heard of a prompt.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    /// An event about it.
    event: Instant,
    /// A sign of work: an event, a line in the log, counters that moved.
    work: Instant,
    /// A reading that found it in the queue.
    queued: Instant,
    sample: Option<Sample>,
    log: Option<String>,
    /// The most bytes of its history that a reading brought.
    history: usize,
}

/// Bytes of the history of a prompt that has not ended: `{}`.
const NO_HISTORY: usize = 2;

/// What the clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Heard lately.
    None,
    /// Nothing heard for this long; there is work, or there may be.
    For(Duration),
    /// No sign of work for this long.
    Stalled(Duration),
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self { event: now, work: now, queued: now, sample: None, log: None, history: NO_HISTORY }
    }

    pub(super) fn event(&mut self, now: Instant) {
        self.event = now;
        self.work = now;
    }

    pub(super) fn in_queue(&mut self, now: Instant) {
        self.queued = now;
    }

    /// A reading found it waiting for its turn: nothing is due of it yet. All that is said of it while
    /// it waits is where it stands, and its clocks begin with its run.
    pub(super) fn waits(&mut self, now: Instant) {
        (self.event, self.work, self.queued) = (now, now, now);
    }

    /// Counters were read; none where they cannot be.
    pub(super) fn counters(&mut self, now: Instant, sample: Option<Sample>) {
        if self.sample.is_some() && sample.is_some() && self.sample != sample {
            self.work = now;
        }
        self.sample = sample;
    }

    /// The newest entry of the log.
    pub(super) fn log(&mut self, now: Instant, newest: Option<String>) {
        if self.log.is_some() && newest.is_some() && self.log != newest {
            self.work = now;
        }
        if newest.is_some() {
            self.log = newest;
        }
    }

    /// So many bytes of its history are here: it has ended, and what is said of it may be long in coming.
    /// More than ever, or a reading that breaks off each time would be a sign of work for ever.
    pub(super) fn history(&mut self, now: Instant, bytes: usize) {
        if bytes > self.history {
            (self.history, self.work) = (bytes, now);
        }
    }

    pub(super) fn judge(&self, now: Instant, limits: &Limits) -> Silence {
        let silent = now.saturating_duration_since(self.event);
        if silent < limits.silence_after {
            return Silence::None;
        }
        let idle = now.saturating_duration_since(self.work);
        // Where no counters can be read, being in the queue has to do for a long while; but then it
        // must really have been seen there.
        let unseen = now.saturating_duration_since(self.queued).min(idle);
        let blind = self.sample.is_none();
        let stalled = match blind {
            true => idle >= limits.blind_stall_after || unseen >= limits.stall_after,
            false => idle >= limits.stall_after,
        };
        match stalled {
            true => Silence::Stalled(idle),
            false => Silence::For(silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn judge(clocks: &Clocks, at: Instant) -> Silence {
        clocks.judge(at, &Limits::default())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_begins_after_30_s_and_ends_with_an_event() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        assert_eq!(judge(&clocks, after(start, 29)), Silence::None);
        assert_eq!(judge(&clocks, after(start, 42)), Silence::For(Duration::from_secs(42)));
        clocks.event(after(start, 43));
        assert_eq!(judge(&clocks, after(start, 72)), Silence::None);
    }

    #[tokio::test(start_paused = true)]
    async fn counters_that_move_keep_it_alive_and_counters_that_rest_stall_it() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        for second in (0..4000).step_by(10) {
            clocks.counters(after(start, second), Some(Sample(second)));
            clocks.in_queue(after(start, second));
            assert!(!matches!(judge(&clocks, after(start, second)), Silence::Stalled(_)));
        }
        let rests = after(start, 3990);
        clocks.counters(after(start, 4100), Some(Sample(3990)));
        clocks.in_queue(after(start, 4289));
        assert!(matches!(judge(&clocks, rests + Duration::from_secs(299)), Silence::For(_)));
        assert!(matches!(judge(&clocks, rests + Duration::from_secs(300)), Silence::Stalled(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_being_read_is_no_stall_as_long_as_more_of_it_comes() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        for second in (0..=4000).step_by(10) {
            clocks.history(after(start, second), 2);
        }
        assert!(matches!(judge(&clocks, after(start, 300)), Silence::Stalled(_)), "it has none");
        for second in (0..=4000).step_by(10) {
            clocks.history(after(start, second), 100 * second as usize);
        }
        assert!(matches!(judge(&clocks, after(start, 4299)), Silence::For(_)));
        clocks.history(after(start, 4299), 400_000);
        assert!(matches!(judge(&clocks, after(start, 4300)), Silence::Stalled(_)), "no more of it");
    }

    #[tokio::test(start_paused = true)]
    async fn without_counters_the_queue_counts_for_half_an_hour() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        clocks.in_queue(after(start, 1799));
        assert!(matches!(judge(&clocks, after(start, 1799)), Silence::For(_)));
        clocks.in_queue(after(start, 1800));
        assert!(matches!(judge(&clocks, after(start, 1800)), Silence::Stalled(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_stalled_only_where_it_is_not_seen_waiting_any_more() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        for second in (0..=7200).step_by(10) {
            clocks.waits(after(start, second));
            assert_eq!(judge(&clocks, after(start, second + 9)), Silence::None);
        }
        assert!(matches!(judge(&clocks, after(start, 7499)), Silence::For(_)));
        assert!(matches!(judge(&clocks, after(start, 7500)), Silence::Stalled(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_counters_and_without_answers_it_stalls_as_usual() {
        let start = Instant::now();
        let clocks = Clocks::new(start);
        assert!(matches!(judge(&clocks, after(start, 299)), Silence::For(_)));
        assert!(matches!(judge(&clocks, after(start, 300)), Silence::Stalled(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_line_in_the_log_is_work() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        clocks.log(after(start, 0), Some("18:00".into()));
        clocks.log(after(start, 200), Some("18:03".into()));
        assert!(matches!(judge(&clocks, after(start, 499)), Silence::For(_)));
        clocks.log(after(start, 490), Some("18:03".into()));
        assert!(matches!(judge(&clocks, after(start, 501)), Silence::Stalled(_)));
    }
}
