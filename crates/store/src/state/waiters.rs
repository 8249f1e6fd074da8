//! Waiting workers, and waking one that is able for each new job.
//!
//! A wake-up is a hint: it only says "look now". Whoever waits subscribes before it looks, and
//! looks again by itself at a slow period; so a lost hint costs time, never a job.

use std::collections::{BTreeMap, HashMap};

use pointsman_core::{ServiceName, WorkerId, matching::CapabilitiesDigest};
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
    by_profile: HashMap<CapabilitiesDigest, BTreeMap<u64, Waiter>>,
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
        waiting.retain(|_, waiter| !waiter.wake.is_closed());
        self.waiters.next += 1;
        waiting.insert(self.waiters.next, Waiter { worker, services, wake });
    }

    /// Wakes one able waiting worker for each job that came into the queues since the last call.
    /// Called once what was applied may be seen.
    pub fn wake(&mut self) {
        for ix in std::mem::take(&mut self.new_work) {
            self.wake_one(ix);
        }
    }

    fn wake_one(&mut self, ix: ClassIx) {
        let Some(entry) = self.queues.entry(ix) else { return };
        let class = entry.class.clone();
        for (digest, waiting) in &mut self.waiters.by_profile {
            if waiting.is_empty() || !self.queues.serves(digest, ix) {
                continue;
            }
            let able = |waiter: &Waiter| {
                !waiter.wake.is_closed()
                    && (waiter.services.is_empty() || waiter.services.contains(&class.service))
                    && !pointsman_core::matching::excludes(&class, &waiter.worker)
            };
            let found = waiting.iter().find(|(_, waiter)| able(waiter)).map(|(n, _)| *n);
            // One that stopped waiting this moment is no waiter: the next one is asked.
            if found.and_then(|n| waiting.remove(&n)).is_some_and(|w| w.wake.send(()).is_ok()) {
                return;
            }
        }
    }
}
