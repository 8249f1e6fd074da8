//! Looks in passing: an idle worker looks by itself now and then, should a wake-up have been lost.
//! What somebody of this process has just seen spares the others their looks.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;
use pointsman_core::{ServiceName, WorkerId, record::Worker};

use super::Wakeable;

/// Workers that are remembered.
const WORKERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);
/// Services of which it is remembered whether something waits.
const SERVICES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// A claim of a worker that waits, and looks now and then.
struct Looker {
    services: Vec<ServiceName>,
    waits: Weak<Wakeable>,
    /// When it last looked.
    looked: Option<Instant>,
}

impl Looker {
    fn is_gone(&self) -> bool {
        self.waits.upgrade().is_none_or(|waits| waits.is_gone())
    }
}

/// What was seen of a service, and when that was asked.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    waits: bool,
}

/// Who looked when, and what was seen.
pub struct Looks {
    /// How long it counts that nothing was seen.
    hold: Duration,
    lookers: Mutex<LruCache<WorkerId, Vec<Looker>>>,
    seen: Mutex<LruCache<ServiceName, Seen>>,
}

impl Looks {
    pub fn new(hold: Duration) -> Self {
        let (lookers, seen) = (LruCache::new(WORKERS), LruCache::new(SERVICES));
        Self { hold, lookers: Mutex::new(lookers), seen: Mutex::new(seen) }
    }

    /// A claim begins to wait for these services.
    pub fn wait(&self, worker: &WorkerId, services: &[ServiceName], waits: &Arc<Wakeable>) {
        let mut lookers = self.lookers.lock();
        let of_worker = lookers.get_or_insert_mut(worker.clone(), Vec::new);
        of_worker.retain(|looker| !looker.is_gone() && looker.services != services);
        let (services, waits) = (services.to_vec(), Arc::downgrade(waits));
        of_worker.push(Looker { services, waits, looked: None });
    }

    /// Whether this look of a worker is spared, as after its own last one somebody else saw that
    /// there is nothing for it. One that begins to wait looks itself: what came before could not
    /// wake it; and so does one that does not wait.
    pub fn spare(&self, worker: &Worker, services: &[ServiceName]) -> bool {
        let lookers = self.lookers.lock();
        let looker = lookers
            .peek(&worker.id)
            .into_iter()
            .flatten()
            .find(|looker| looker.services == services && !looker.is_gone());
        let Some(looked) = looker.and_then(|looker| looker.looked) else { return false };
        let seen = self.seen.lock();
        let is_empty = |service: &ServiceName| {
            seen.peek(service).is_some_and(|seen| {
                !seen.waits && seen.at > looked && seen.at.elapsed() < self.hold
            })
        };
        match services.is_empty() {
            true => worker.services.iter().all(|slots| is_empty(&slots.name)),
            false => services.iter().all(is_empty),
        }
    }

    /// The worker's claim looked itself. In earnest it may have been anything but idle since: then
    /// what others saw does not count.
    pub fn looked(&self, worker: &WorkerId, services: &[ServiceName], in_passing: bool) {
        let mut lookers = self.lookers.lock();
        let of_worker = lookers.get_mut(worker).into_iter().flatten();
        for looker in of_worker.filter(|looker| looker.services == services) {
            looker.looked = in_passing.then(Instant::now);
        }
    }

    /// Whether something waits for the worker's services, as it was asked then. If so its claims are
    /// woken: they may not have been. One of them it may not be for.
    pub fn saw(&self, worker: &Worker, asked: Instant, waits: bool) {
        let mut seen = self.seen.lock();
        for slots in &worker.services {
            if seen.peek(&slots.name).is_none_or(|seen| seen.at < asked) {
                seen.put(slots.name.clone(), Seen { at: asked, waits });
            }
        }
        drop(seen);
        if waits {
            self.wake(&worker.id);
        }
    }

    /// Wakes all claims of a worker.
    pub fn wake(&self, worker: &WorkerId) {
        for looker in self.lookers.lock().pop(worker).into_iter().flatten() {
            if let Some(waits) = looker.waits.upgrade() {
                waits.wake();
            }
        }
    }
}
