//! What the parts of one worker share, and how they wake each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use pointsman_connectors::StopReason;
use pointsman_core::{
    Incarnation, LossReason,
    bounds::{Bounded as _, json_len},
    command::{AttemptOp, Exchange, Held, Op, Outcome, Register},
    decide::limits::{self, MAX_OPS},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    attempt::Attempt,
    broker::Broker,
    broker::Claimed,
    config::WorkerConfig,
    draw,
    kept::{Kept, MOST, MOST_BYTES},
    ours::Ours,
    service::Service,
};

/// Bytes of the operations in one exchange at most, about; one alone may have more.
const MAX_BYTES: usize = 4 << 20;
/// What an operation takes beside a result's JSON and artifacts, and each artifact, about.
const OVERHEAD: usize = 512;

/// What the parts of one worker share.
pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) incarnation: Incarnation,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) ours: Ours<Arc<Attempt>>,
    /// What is registered; held while registering, so that registrations do not cross.
    pub(crate) registration: tokio::sync::Mutex<Register>,
    /// Held while the keeper calls.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    /// A renewal is due at once.
    pub(crate) urgent: Notify,
    /// Some attempt has new progress.
    pub(crate) progress: Notify,
    /// Something runs again.
    pub(crate) busy: Notify,
    /// Some attempt has a new preview.
    pub(crate) previews: Notify,
    began: Instant,
    /// When this process registered last.
    pub(crate) registered_at: Mutex<Option<Instant>>,
    /// Results that the store took lately.
    pub(crate) kept: Mutex<Kept>,
    /// An end was handed in that replicas have not confirmed.
    pub(crate) unconfirmed: Notify,
    epoch: Mutex<Option<Arc<str>>>,
    /// The store is in another epoch than before, and nothing was taken back yet.
    reclaim_due: AtomicBool,
    contact: Mutex<Contact>,
    /// Who waits for an answer is told when contact is lost.
    pub(crate) contact_lost: Notify,
    ordered_to_drain: AtomicBool,
    stopping: AtomicBool,
}

/// Whether the store hears this worker.
#[derive(Clone, Copy, Default)]
struct Contact {
    /// When the last renewal that was answered was sent.
    last: Option<Instant>,
    /// A call failed since.
    is_lost: bool,
}

impl Shared {
    pub(crate) fn new(config: WorkerConfig, broker: Arc<dyn Broker>) -> Arc<Self> {
        let incarnation = draw::incarnation();
        let services = config.services.iter().map(Service::new).map(Arc::new);
        Arc::new(Self {
            services: services.collect(),
            registration: tokio::sync::Mutex::new(config.registration(incarnation)),
            config,
            broker,
            incarnation,
            renewing: tokio::sync::Mutex::default(),
            urgent: Notify::new(),
            progress: Notify::new(),
            busy: Notify::new(),
            previews: Notify::new(),
            began: Instant::now(),
            registered_at: Mutex::default(),
            kept: Mutex::default(),
            unconfirmed: Notify::new(),
            ours: Ours::new(),
            epoch: Mutex::default(),
            reclaim_due: AtomicBool::new(false),
            contact: Mutex::default(),
            contact_lost: Notify::new(),
            ordered_to_drain: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// Milliseconds since this worker began, for what is kept in an atomic.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the worker as a whole may take another job.
    pub(crate) fn takes_jobs(&self) -> bool {
        self.is_in_contact() && !self.refuses_jobs()
    }

    /// It was told to take no more.
    pub(crate) fn refuses_jobs(&self) -> bool {
        self.ordered_to_drain.load(Ordering::SeqCst) || self.is_stopping()
    }

    /// Whether a job that is claimed now is sure to be renewed in time: the last renewal leaves
    /// one more within a lease.
    fn is_in_contact(&self) -> bool {
        let within = limits::LEASE.saturating_sub(self.config.timings.renew);
        let Contact { last, is_lost } = *self.contact.lock();
        !is_lost && last.is_some_and(|at| at.elapsed() < within)
    }

    /// When the store was last sure to be as it is known here. What it may have lost since is
    /// younger than a time counted back from then: its own absence makes nothing older.
    pub(crate) fn last_contact(&self) -> Option<Instant> {
        self.contact.lock().last
    }

    /// A renewal, or the registration, that was sent then was answered.
    pub(crate) fn renewed(&self, sent: Instant) {
        let was_in_contact = self.is_in_contact();
        *self.contact.lock() = Contact { last: Some(sent), is_lost: false };
        if !was_in_contact {
            self.wake_lanes();
        }
    }

    /// Whether a call failed, or the epoch changed, since a renewal was last answered.
    pub(crate) fn is_contact_lost(&self) -> bool {
        self.contact.lock().is_lost
    }

    pub(crate) fn lose_contact(&self) {
        self.contact.lock().is_lost = true;
        self.contact_lost.notify_waiters();
    }

    /// An answer came in this epoch.
    pub(crate) fn see_epoch(&self, epoch: Arc<str>) {
        let before = self.epoch.lock().replace(epoch.clone());
        if before.is_some_and(|before| before != epoch) {
            self.set_reclaim_due(true);
            self.urgent.notify_one();
        }
    }

    pub(crate) fn is_reclaim_due(&self) -> bool {
        self.reclaim_due.load(Ordering::SeqCst)
    }

    pub(crate) fn set_reclaim_due(&self, due: bool) {
        self.reclaim_due.store(due, Ordering::SeqCst);
    }

    pub(crate) fn set_orders(&self, drain: bool) {
        if self.ordered_to_drain.swap(drain, Ordering::SeqCst) != drain {
            tracing::info!(worker = %self.config.worker, drain, "new orders");
            self.wake_lanes();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// From now on, which is told at once.
    pub(crate) fn stop_taking_jobs(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.urgent.notify_one();
        self.wake_lanes();
    }

    fn wake_lanes(&self) {
        for service in &self.services {
            service.lane.notify_one();
        }
    }

    pub(crate) fn keep(&self, attempt: &Arc<Attempt>) {
        if self.ours.keep(attempt.held().token, attempt.clone()) {
            self.busy.notify_one();
        }
    }

    /// The store has taken an end: it is kept, should the store come back from before that.
    pub(crate) fn keep_end(&self, end: AttemptOp, is_sure: bool) {
        if self.kept.lock().keep(end, is_sure) {
            tracing::warn!(
                worker = %self.config.worker, most = MOST, most_bytes = MOST_BYTES,
                "more results wait to be confirmed than are kept: the oldest are not handed in \
                 again, and a fail-over may lose them",
            );
        }
        if !is_sure {
            self.unconfirmed.notify_one();
        }
    }

    pub(crate) fn stop(&self, held: Held, reason: StopReason) {
        let Some(attempt) = self.ours.kept(held.token) else { return };
        if attempt.signal().reason() < Some(reason) {
            tracing::info!(job = %held.job, attempt = held.attempt, ?reason, "told to stop");
        }
        attempt.signal().raise(reason);
    }

    /// The attempt is not this worker's any more.
    pub(crate) fn lost(&self, held: Held) {
        self.stop(held, StopReason::Lost);
        self.ours.lose(held.token);
    }

    /// What the store says is running here: what is from before a restart waits for its service.
    pub(crate) fn sort_running(&self, running: Vec<Claimed>) {
        for claimed in running {
            match self.services.iter().any(|s| s.name == *claimed.job.service()) {
                true => self.ours.put_in_limbo(claimed),
                false => self.give_back(claimed.held, LossReason::NotAdopted, "service is gone"),
            }
        }
    }

    /// Ends the limbo of a service: what was found is adopted, the rest given back.
    pub(crate) fn end_limbo(&self, service: &Service, found: &[Held], message: &str) {
        if self.ours.end_limbo(&service.name, found, message) {
            self.urgent.notify_one();
        }
    }

    /// Gives back an attempt that is not this worker's. The keeper sees to it.
    pub(crate) fn give_back(&self, held: Held, reason: LossReason, message: &str) {
        if self.ours.give_back(held, reason, message) {
            self.urgent.notify_one();
        }
    }

    pub(crate) fn exchange_of(&self, ops: Vec<AttemptOp>) -> Exchange {
        Exchange {
            worker: self.config.worker.clone(),
            incarnation: self.incarnation,
            ops,
            claim: None,
        }
    }

    pub(crate) fn call_limit(&self) -> Duration {
        self.config.timings.call
    }
}

/// What a service said may be longer than what can be handed in.
pub(crate) fn op_of(held: Held, mut op: Op) -> AttemptOp {
    op.shorten();
    op.omit_unfit_result();
    AttemptOp { job: held.job, attempt: held.attempt, token: held.token, op }
}

/// What an operation takes, about.
pub(crate) fn bytes_of(op: &Op) -> usize {
    let (Op::Finish(finish) | Op::Late(finish)) = op else { return OVERHEAD };
    let Outcome::Completed { artifacts, result, .. } = &finish.outcome else { return OVERHEAD };
    OVERHEAD * (1 + artifacts.len()) + result.as_ref().map_or(0, json_len)
}

/// How many of these operations go into one exchange; one at least, if there is one.
pub(crate) fn fitting<'a>(ops: impl Iterator<Item = &'a Op>) -> usize {
    let mut bytes = 0;
    let fits = |(n, op): &(usize, &Op)| {
        bytes += bytes_of(op);
        *n == 0 || bytes <= MAX_BYTES
    };
    ops.take(MAX_OPS).enumerate().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use pointsman_core::command::Finish;

    use super::*;

    #[test]
    fn what_goes_into_one_exchange_is_bounded() {
        let finish = |bytes: usize| {
            let result = Some("x".repeat(bytes).into());
            let outcome = Outcome::Completed { artifacts: Vec::new(), cached: false, result };
            Op::Finish(Finish { outcome, last_progress: None })
        };
        let (small, large) = (vec![finish(1); MAX_OPS + 1], vec![finish(MAX_BYTES / 3); 3]);
        assert_eq!(fitting(small.iter()), MAX_OPS);
        assert_eq!(fitting(large.iter()), 2);
        assert_eq!(fitting([finish(MAX_BYTES)].iter()), 1);
        assert_eq!(fitting([].iter()), 0);
    }
}
