//! The hub: the live view, and the ring from which viewers pull its changes.
//!
//! There is no queue per viewer. The hub tells all of them that there is something new, and each
//! reads the ring from where it stands, as fast as it can and as often as it wants.

mod follower;
mod liveness;
mod paced;
mod pull;
mod ring;
mod start;
mod tail;
mod values;
mod viewer;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::{Mutex, RwLock};
use pointsman_core::{JobId, LogGroup, Rejected, Seq, Timestamp, View};
use pointsman_store::{Epoch, Position, Seed, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use follower::{Follower, begin_with_tail};
pub use liveness::Liveness;
pub(crate) use liveness::{Contact, LIVE_FOR};
use pull::Next;
use ring::Ring;
pub use ring::{ViewEvent, ViewGroup};
use start::LastStart;
use tail::Tail;
pub(crate) use viewer::PROGRESS_EVERY;
pub use viewer::Viewer;

use crate::{
    BrokerConfig, FilesTrouble,
    frame::AsOf,
    lanes::LaneValues,
    snapshot::{Lanes, Snapshot},
    stream::JobWatchers,
    troubles::Troubles,
};

/// The view as it is now, and its newest changes.
struct Live {
    epoch: Epoch,
    view: View,
    ring: Ring,
    /// Where it began: what the ring has from before is whole only here, see [`tail`].
    began: Seq,
    /// How often the view was built anew.
    rebuilds: u64,
}

/// Is shown each group as it is folded in.
type Observer = Box<dyn Fn(&LogGroup) + Send + Sync>;

pub(crate) struct Hub {
    pub store: Arc<dyn Store>,
    pub config: Arc<BrokerConfig>,
    live: RwLock<Live>,
    /// Tells viewers to look: the value itself means nothing.
    news: watch::Sender<()>,
    pub contact: Contact,
    pub troubles: Troubles,
    /// A command met what is damaged in the store, and nobody has looked since what that is.
    pub damage_met: AtomicBool,
    pub lanes: LaneValues,
    /// What workers told of their jobs before may not be in the lanes.
    listens_since: Timestamp,
    pub watchers: JobWatchers,
    pub observer: OnceLock<Observer>,
    last_start: LastStart,
    /// Viewers that are reading now; the lanes are only worked out while there are any.
    viewers: watch::Sender<usize>,
    /// As the server last found its place for files.
    pub files: Mutex<Option<FilesTrouble>>,
    pub stop: CancellationToken,
    fleet: Arc<str>,
    resyncs: AtomicUsize,
}

impl Hub {
    pub fn new(
        store: Arc<dyn Store>,
        config: Arc<BrokerConfig>,
        seed: Seed,
        tail: Tail,
        stop: CancellationToken,
    ) -> Self {
        let (contact, listens_since) = (Contact::new(seed.now), seed.now);
        let fleet = config.fleet.as_str().into();
        let lanes = LaneValues::new(config.preview_bytes);
        let live = RwLock::new(Live::from_seed(seed, tail, &config, 0));
        let (news, _) = watch::channel(());
        let (viewers, _) = watch::channel(0);
        Self {
            store,
            config,
            live,
            news,
            contact,
            troubles: Troubles::default(),
            damage_met: AtomicBool::new(false),
            lanes,
            listens_since,
            watchers: JobWatchers::default(),
            observer: OnceLock::new(),
            last_start: LastStart::default(),
            viewers,
            files: Mutex::default(),
            stop,
            fleet,
            resyncs: AtomicUsize::new(0),
        }
    }

    /// Takes note of what was refused.
    pub fn refused(&self, why: &Rejected) {
        if matches!(why, Rejected::Damaged(_)) {
            self.damage_met.store(true, Ordering::Relaxed);
        }
    }

    pub fn position(&self) -> Position {
        let live = self.live.read();
        Position { epoch: live.epoch.clone(), seq: live.view.seq }
    }

    pub fn seq(&self) -> Seq {
        self.live.read().view.seq
    }

    /// What is folded in up to now, and the store's time.
    pub fn as_of(&self) -> AsOf {
        AsOf { seq: self.seq(), at: self.store.now() }
    }

    /// Viewers wait on this, and then look.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub fn liveness(&self) -> Liveness {
        self.contact.liveness(&*self.store)
    }

    /// Reads the view.
    pub fn with_view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.live.read().view)
    }

    /// Folds groups in, in their order; those that are in already are skipped. `false`: there is a
    /// hole before one of them, and nothing from it on was folded in.
    pub fn fold(&self, groups: &[Arc<LogGroup>]) -> bool {
        let mut whole = true;
        {
            let mut live = self.live.write();
            for group in groups {
                if group.seq <= live.view.seq {
                    continue;
                }
                if group.seq != live.view.seq + 1 {
                    whole = false;
                    break;
                }
                let events = live.view.fold(group);
                if !events.is_empty() {
                    live.ring.push(group.seq, group.at, events);
                }
                // Under the same lock: a lane value is taken in, or dropped, in step with the
                // records.
                self.drop_lanes(group);
                self.watchers.tell(group);
                if let Some(observe) = self.observer.get() {
                    observe(group);
                }
            }
        }
        self.news.send_replace(());
        whole
    }

    /// Starts anew from a seed: another epoch, or a hole that the log no longer fills.
    pub fn rebuild(&self, seed: Seed) {
        {
            let mut live = self.live.write();
            let rebuilds = live.rebuilds + 1;
            let tail = Tail::none(seed.position.seq);
            *live = Live::from_seed(seed, tail, &self.config, rebuilds);
            let running = |id: &JobId| {
                live.view.jobs.get(id).filter(|job| job.is_running()).map(|job| job.attempt)
            };
            self.lanes.retain(running);
            self.watchers.tell_rebuilt();
        }
        self.news.send_replace(());
    }

    pub fn rebuilds(&self) -> u64 {
        self.live.read().rebuilds
    }

    /// The view with its lanes, all of one moment; `pulse` and `queues` as given.
    pub fn snapshot(&self, mut lanes: Lanes) -> Snapshot {
        let at = self.store.now();
        let live = self.live.read();
        let view = &live.view;
        lanes.progress = self.lanes.progress.all(AsOf { seq: view.seq, at });
        Snapshot {
            epoch: live.epoch.clone(),
            seq: view.seq,
            fleet: self.fleet.clone(),
            machines: view.machines.values().cloned().collect(),
            workers: view.workers.values().cloned().collect(),
            connectors: view.connectors.values().cloned().collect(),
            alerts: view.alerts.values().cloned().collect(),
            jobs: view.jobs.values().cloned().collect(),
            lanes,
            at,
        }
    }

    pub fn ring_bytes(&self) -> usize {
        self.live.read().ring.bytes()
    }

    pub fn viewers(&self) -> &watch::Sender<usize> {
        &self.viewers
    }

    pub fn count_resync(&self) {
        self.resyncs.fetch_add(1, Ordering::Relaxed);
    }

    pub fn resyncs(&self) -> usize {
        self.resyncs.load(Ordering::Relaxed)
    }
}

impl Live {
    fn from_seed(seed: Seed, tail: Tail, config: &BrokerConfig, rebuilds: u64) -> Self {
        let Position { epoch, seq } = seed.position;
        let view = View::restore(seq, seed.last_ended_no, seed.records);
        let mut ring = Ring::new(tail.floor, config.ring_groups, config.ring_bytes);
        for (at_seq, at, events) in tail.groups.into_iter().filter(|(_, _, e)| !e.is_empty()) {
            ring.push(at_seq, at, events);
        }
        Self { epoch, view, ring, began: seq, rebuilds }
    }
}
