//! One viewer: pulls from the ring at its own pace, with the lanes beside it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use pointsman_core::JobId;
use pointsman_store::Position;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Hub, LIVE_FOR, Liveness, Next, paced::Paced, start::Start};
use crate::{
    frame::{
        Bookmark, Frame, ProgressLane, ProgressValue, PulseLane, QueuesLane, Resync, ResyncReason,
        Shared,
    },
    lanes::{QUEUES_EVERY, fresh_lanes},
};

/// A longer window than this is cut to it.
const MAX_CONFLATE: Duration = Duration::from_secs(5);
/// A viewer that comes from another server may know more of the log than this one has read: for so
/// long it is waited for.
const CATCH_UP: Duration = Duration::from_secs(2);
/// A viewer gets progress at most this often: so at most 4 values a second of one job.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Values in one progress frame: 1,000 a second.
const PROGRESS_VALUES: usize = 250;

type Newest<T> = watch::Receiver<Option<Arc<Shared<T>>>>;

/// Receives the view: a snapshot where it is needed, then groups of events and the lanes. Dropping
/// it ends it; nothing is kept for it between two calls of [`next`](Self::next).
pub struct Viewer {
    hub: Arc<Hub>,
    conflate: Duration,
    /// Up to where it has been served; `None`: a snapshot comes next.
    position: Option<Position>,
    /// It came with a position and has not been served yet.
    joining: bool,
    rebuilds: u64,
    /// Lane values for a viewer that goes on without a snapshot.
    first: VecDeque<Frame>,
    news: watch::Receiver<()>,
    /// There is something to pull once the window is over.
    ahead: bool,
    window_end: Instant,
    progress: Paced<u64>,
    progress_seen: u64,
    /// Jobs of whose progress it has the newest only once their records were served.
    unserved: BTreeSet<JobId>,
    queues: Paced<Option<Arc<Shared<QueuesLane>>>>,
    queues_sent: Option<Arc<Shared<QueuesLane>>>,
    pulse: Newest<PulseLane>,
    pulse_sent: Option<Arc<Shared<PulseLane>>>,
    /// It asked for what has changed since the pulse that it has: the base.
    pulse_changes: bool,
    pulse_base: Option<Arc<Shared<PulseLane>>>,
    tick_at: Instant,
    served_at: Instant,
    _counted: Counted,
}

/// Counts a viewer while it lives.
struct Counted(Arc<Hub>);

impl Counted {
    fn new(hub: &Arc<Hub>) -> Self {
        hub.viewers().send_modify(|viewers| *viewers += 1);
        Self(hub.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.viewers().send_modify(|viewers| *viewers -= 1);
        if *self.0.viewers().borrow() == 0 {
            self.0.forget_start();
        }
    }
}

impl Viewer {
    pub(crate) fn new(hub: Arc<Hub>, after: Option<Position>, conflate: Duration) -> Self {
        let now = Instant::now();
        Self {
            conflate: conflate.min(MAX_CONFLATE),
            joining: after.is_some(),
            position: after,
            rebuilds: hub.rebuilds(),
            first: VecDeque::new(),
            news: hub.news(),
            ahead: false,
            window_end: now,
            progress: Paced::new(hub.lanes.progress.version(), now),
            progress_seen: 0,
            unserved: BTreeSet::new(),
            queues: Paced::new(hub.lanes.queues.newest(), now),
            queues_sent: None,
            pulse: hub.lanes.pulse.newest(),
            pulse_sent: None,
            pulse_changes: false,
            pulse_base: None,
            tick_at: now + LIVE_FOR,
            served_at: now,
            _counted: Counted::new(&hub),
            hub,
        }
    }

    /// After a first pulse it is told only what has changed, where the whole is large.
    #[must_use]
    pub fn with_pulse_changes(self) -> Self {
        Self { pulse_changes: true, ..self }
    }

    /// Up to where the viewer has been served.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The next frame; `None` once the broker stops. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Frame> {
        let stop = self.hub.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                frame = self.ready() => if let Some(frame) = frame { return Some(frame) },
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = self.wait() => {}
            }
        }
    }

    /// What can be sent now. The lanes come first: they are limited in number, the events are not.
    async fn ready(&mut self) -> Option<Frame> {
        if self.joining {
            self.catch_up().await;
            if let Some(reason) = self.must_resync() {
                return Some(self.resync(reason));
            }
            self.go_on().await;
        }
        if self.position.is_none() {
            return Some(self.start().await);
        }
        let now = Instant::now();
        let lane = self.tick(now).or_else(|| self.first.pop_front()).or_else(|| self.pulse());
        let lane = lane.or_else(|| self.queues(now)).or_else(|| self.progress(now));
        lane.or_else(|| self.events(now))
    }

    /// Ends when something may be ready.
    async fn wait(&mut self) {
        let Self { news, ahead, window_end, progress, queues, pulse, tick_at, .. } = self;
        tokio::select! {
            _ = news.changed(), if !*ahead => {}
            () = sleep_until(*window_end), if *ahead => {}
            () = sleep_until(*tick_at) => {}
            _ = pulse.changed() => {}
            () = queues.wait() => {}
            () = progress.wait() => {}
        }
    }

    async fn start(&mut self) -> Frame {
        let Start { snapshot, rebuilds, progress_seen, .. } = self.hub.start().await;
        let now = Instant::now();
        self.rebuilds = rebuilds;
        self.progress_seen = progress_seen;
        // Some may have come since the snapshot was made.
        self.progress.pending = true;
        self.progress.due = now + PROGRESS_EVERY;
        self.queues.due = now + QUEUES_EVERY;
        self.queues_sent.clone_from(&snapshot.lanes.queues);
        self.pulse_sent.clone_from(&snapshot.lanes.pulse);
        self.pulse_base.clone_from(&snapshot.lanes.pulse);
        self.served_at = now;
        // Right after it is said whether it is true now.
        self.tick_at = now;
        self.position = Some(snapshot.position());
        let values = snapshot.lanes.progress.values.iter();
        let unserved = values.filter(|value| !self.is_served(value)).map(|value| value.job);
        self.unserved = unserved.collect();
        Frame::Snapshot(snapshot)
    }

    /// A viewer that goes on where it stood has no snapshot to learn the lanes from.
    async fn go_on(&mut self) {
        let lanes = fresh_lanes(&self.hub, QUEUES_EVERY).await;
        let live = self.hub.liveness() == Liveness::Live;
        let now = Instant::now();
        self.joining = false;
        self.tick_at = now;
        self.progress.pending = true;
        self.queues.due = now + QUEUES_EVERY;
        self.queues_sent.clone_from(&lanes.queues);
        self.pulse_sent.clone_from(&lanes.pulse);
        self.pulse_base = lanes.pulse.filter(|_| live);
        self.first.extend(self.pulse_base.clone().map(Frame::Pulse));
        self.first.extend(lanes.queues.map(Frame::Queues));
    }

    /// Ends when what the viewer has seen elsewhere is read here, too, or does not come.
    async fn catch_up(&mut self) {
        let deadline = self.served_at + CATCH_UP;
        while self.must_resync() == Some(ResyncReason::BeyondHead) {
            tokio::select! {
                _ = self.news.changed() => {}
                () = sleep_until(deadline) => return,
            }
        }
    }

    fn must_resync(&self) -> Option<ResyncReason> {
        match self.hub.next(self.position.as_ref()?, self.joining, self.rebuilds) {
            Next::Resync(reason) => Some(reason),
            Next::Nothing | Next::Ahead => None,
        }
    }

    fn resync(&mut self, reason: ResyncReason) -> Frame {
        self.position = None;
        self.joining = false;
        self.hub.count_resync();
        Frame::Resync(Resync { reason })
    }

    fn events(&mut self, now: Instant) -> Option<Frame> {
        loop {
            // Looked at before the ring is: what comes after this wakes the viewer again.
            self.news.mark_unchanged();
            let position = self.position.as_mut()?;
            match self.hub.next(position, self.joining, self.rebuilds) {
                Next::Resync(reason) => return Some(self.resync(reason)),
                Next::Nothing => {
                    self.ahead = false;
                    return None;
                }
                Next::Ahead if now < self.window_end => {
                    self.ahead = true;
                    return None;
                }
                Next::Ahead => {
                    if let Some(frame) = self.hub.pull(position, !self.conflate.is_zero()) {
                        self.ahead = false;
                        self.window_end = now + self.conflate;
                        self.served_at = now;
                        self.progress.pending |= !self.unserved.is_empty();
                        return Some(Frame::Events(frame));
                    }
                }
            }
        }
    }

    /// Every 5 s a sign of life: where the viewer stands, or that nobody knows what is true now.
    fn tick(&mut self, now: Instant) -> Option<Frame> {
        if now < self.tick_at {
            return None;
        }
        self.tick_at = now + LIVE_FOR;
        match self.hub.liveness() {
            Liveness::NotLive(why) => Some(Frame::NotLive(why)),
            Liveness::Live if now < self.served_at + LIVE_FOR => {
                self.tick_at = self.served_at + LIVE_FOR;
                None
            }
            Liveness::Live => {
                let Position { epoch, seq } = self.position.clone()?;
                Some(Frame::Bookmark(Bookmark { epoch, seq, at: self.hub.store.now() }))
            }
        }
    }

    fn pulse(&mut self) -> Option<Frame> {
        let newest = self.pulse.borrow_and_update().clone()?;
        if same(&self.pulse_sent, &newest) || self.hub.liveness() != Liveness::Live {
            return None;
        }
        self.pulse_sent = Some(newest.clone());
        let before = self.pulse_base.replace(newest.clone()).filter(|_| self.pulse_changes);
        let Some(before) = before else { return Some(Frame::Pulse(newest)) };
        Some(Frame::Pulse(self.hub.lanes.pulse_changes.between(&before, &newest)))
    }

    fn queues(&mut self, now: Instant) -> Option<Frame> {
        if !self.queues.is_due(now) {
            return None;
        }
        self.queues.pending = false;
        let newest = self.queues.changes.borrow().clone()?;
        if same(&self.queues_sent, &newest) {
            return None;
        }
        self.queues.due = now + QUEUES_EVERY;
        self.queues_sent = Some(newest.clone());
        Some(Frame::Queues(newest))
    }

    fn progress(&mut self, now: Instant) -> Option<Frame> {
        if !self.progress.is_due(now) {
            return None;
        }
        let as_of = self.hub.as_of();
        let mut served = Vec::new();
        for job in std::mem::take(&mut self.unserved) {
            let Some(value) = self.hub.lanes.progress.get(&job) else { continue };
            self.sort(value, &mut served);
        }
        let earlier: BTreeSet<JobId> = served.iter().map(|value| value.job).collect();
        let room = PROGRESS_VALUES.saturating_sub(served.len());
        let (seen, values) = self.hub.lanes.progress.newer(self.progress_seen, room);
        self.progress_seen = seen;
        // A full frame may have left some behind.
        self.progress.pending = values.len() == room;
        for value in values {
            // It may have gone on since it was looked at above.
            if earlier.contains(&value.job) {
                served.retain(|old| old.job != value.job);
            }
            self.sort(value, &mut served);
        }
        if served.is_empty() {
            return None;
        }
        self.progress.due = now + PROGRESS_EVERY;
        Some(Frame::Progress(ProgressLane { as_of, values: served }))
    }

    /// A viewer drops the progress of an attempt that its records do not show.
    fn sort(&mut self, value: ProgressValue, served: &mut Vec<ProgressValue>) {
        if served.len() < PROGRESS_VALUES && self.is_served(&value) {
            served.push(value);
        } else {
            self.unserved.insert(value.job);
        }
    }

    /// Whether the viewer has the record that shows this attempt, as it is now.
    fn is_served(&self, value: &ProgressValue) -> bool {
        let Some(position) = &self.position else { return false };
        self.hub.with_view(|view| {
            let job = view.jobs.get(&value.job);
            job.is_some_and(|job| job.attempt == value.progress.attempt && job.rev <= position.seq)
        })
    }
}

fn same<T>(sent: &Option<Arc<T>>, newest: &Arc<T>) -> bool {
    sent.as_ref().is_some_and(|sent| Arc::ptr_eq(sent, newest))
}
