//! Waiting workers, and waking one that is able for each new job.
//!
//! A wake-up is a hint: it only says "look now". Whoever waits subscribes before it looks, and
//! looks again by itself at a slow period; so a lost hint costs time, never a job.

use std::collections::{BTreeMap, HashMap};

use pointsman_core::{
    ConnectorId, ServiceName, WorkerId,
    decide::{accepts, free_slots},
    matching::{CapabilitiesDigest, excludes},
};
use tokio::sync::oneshot;

use super::{ClassIx, State};

struct Waiter {
    worker: WorkerId,
    services: Vec<ServiceName>,
    wake: oneshot::Sender<()>,
}

/// Waiting workers by profile, oldest first.
#[derive(Default)]
pub(super) struct Waiters {
    next: u64,
    by_profile: HashMap<CapabilitiesDigest, Waiting>,
}

/// The waiting workers of one profile, oldest first; some may have stopped waiting.
#[derive(Default)]
struct Waiting {
    all: BTreeMap<u64, Waiter>,
    /// Those that stopped waiting are dropped when there are so many: once for many calls.
    tidy_at: usize,
}

impl Waiting {
    const TIDY_AT: usize = 16;

    fn add(&mut self, n: u64, waiter: Waiter) {
        if self.all.len() >= self.tidy_at.max(Self::TIDY_AT) {
            self.all.retain(|_, waiter| !waiter.wake.is_closed());
            self.tidy_at = self.all.len() * 2;
        }
        self.all.insert(n, waiter);
    }
}

/// Ends when there may be work for the worker that asked.
#[derive(Debug)]
pub struct WorkHint(oneshot::Receiver<()>);

impl WorkHint {
    pub fn new() -> (oneshot::Sender<()>, Self) {
        let (wake, hint) = oneshot::channel();
        (wake, Self(hint))
    }

    /// Whether no hint has come yet.
    pub fn is_waiting(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits for the hint; also ends when the store closes.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone: look, and find out why.
        let _ = (&mut self.0).await;
    }
}

impl State {
    /// Notes a waiting worker; a worker that the store does not know is woken at once.
    pub fn wait_for_work(
        &mut self,
        worker: WorkerId,
        services: Vec<ServiceName>,
        wake: oneshot::Sender<()>,
    ) {
        let Some(digest) = self.workers.get(&worker).map(|w| w.capabilities_digest) else {
            return drop(wake);
        };
        let waiting = self.waiters.by_profile.entry(digest).or_default();
        self.waiters.next += 1;
        waiting.add(self.waiters.next, Waiter { worker, services, wake });
    }

    /// Wakes one able waiting worker for each job that came into the queues since the last call.
    /// Called once what was applied may be seen.
    pub fn wake(&mut self) {
        if self.new_work.is_empty() {
            return;
        }
        for ix in std::mem::take(&mut self.new_work) {
            self.wake_one(ix);
        }
        self.waiters.by_profile.retain(|_, waiting| !waiting.all.is_empty());
    }

    fn wake_one(&mut self, ix: ClassIx) {
        let Some(entry) = self.queues.entry(ix) else { return };
        let class = entry.class.clone();
        let now = self.volatile.now();
        for (digest, waiting) in &mut self.waiters.by_profile {
            if waiting.all.is_empty() || !self.queues.serves(digest, ix) {
                continue;
            }
            // A worker that would look in vain leaves the hint to another.
            let takes_it = |waiter: &Waiter| {
                let connector = ConnectorId::new(waiter.worker.clone(), class.service.clone());
                let worker = self.workers.get(&waiter.worker).filter(|w| accepts(w, now));
                let connector = self.connectors.get(&connector);
                worker.zip(connector).is_some_and(|(w, c)| free_slots(w, &class.service, c) > 0)
            };
            let able = |waiter: &Waiter| {
                !waiter.wake.is_closed()
                    && (waiter.services.is_empty() || waiter.services.contains(&class.service))
                    && !excludes(&class, &waiter.worker)
                    && takes_it(waiter)
            };
            let found = waiting.all.iter().find(|(_, waiter)| able(waiter)).map(|(n, _)| *n);
            // One that stopped waiting this moment is no waiter: the next one is asked.
            if found.and_then(|n| waiting.all.remove(&n)).is_some_and(|w| w.wake.send(()).is_ok()) {
                return;
            }
        }
    }
}
