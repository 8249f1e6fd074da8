//! Looks in passing: an idle worker looks by itself now and then, should a wake-up have been lost.
//! What somebody of this process has just seen spares the others their looks.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;
use pointsman_core::{ServiceName, WorkerId, record::Worker};

use crate::wake::Wakeable;

/// Workers of which it is remembered when they looked.
const WORKERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);
/// Services of which it is remembered that nothing waits.
const SERVICES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

/// A worker that waits, and looks now and then.
pub struct Looker {
    waits: Arc<Wakeable>,
    /// When it last did.
    looked: Option<Instant>,
}

/// Who looked when, and what was seen.
pub struct Looks {
    /// How long it counts that nothing was seen.
    hold: Duration,
    lookers: Mutex<LruCache<WorkerId, Looker>>,
    empty: Mutex<LruCache<ServiceName, Instant>>,
}

impl Looks {
    pub fn new(hold: Duration) -> Self {
        let (lookers, empty) = (LruCache::new(WORKERS), LruCache::new(SERVICES));
        Self { hold, lookers: Mutex::new(lookers), empty: Mutex::new(empty) }
    }

    /// The worker begins to wait.
    pub fn begin(&self, worker: WorkerId, waits: Arc<Wakeable>) {
        self.lookers.lock().put(worker, Looker { waits, looked: None });
    }

    /// Takes out what is known of a worker, if it still waits.
    pub fn take(&self, worker: &WorkerId) -> Option<Looker> {
        self.lookers.lock().pop(worker).filter(|looker| !looker.waits.is_gone())
    }

    /// It waits on.
    pub fn go_on(&self, worker: WorkerId, looker: Looker) {
        self.lookers.lock().put(worker, looker);
    }

    /// It has looked itself, and waits on.
    pub fn looked(&self, worker: WorkerId, looker: Looker) {
        self.go_on(worker, Looker { looked: Some(Instant::now()), ..looker });
    }

    /// Whether a look of this worker is spared, as after its own last one somebody else saw that
    /// there is nothing for it. One that begins to wait looks itself: what came before could not
    /// wake it.
    pub fn spare(&self, worker: &Worker, looker: &Looker) -> bool {
        let Some(looked) = looker.looked else { return false };
        let empty = self.empty.lock();
        let mut services = worker.services.iter().map(|slots| empty.peek(&slots.name));
        services.all(|at| at.is_some_and(|at| *at > looked && at.elapsed() < self.hold))
    }

    /// Whether something waits for the worker's services. One kind of it may not be for this worker.
    pub fn saw(&self, worker: &Worker, something: bool) {
        let mut empty = self.empty.lock();
        for slots in &worker.services {
            match something {
                true => drop(empty.pop(&slots.name)),
                false => drop(empty.put(slots.name.clone(), Instant::now())),
            }
        }
    }
}
